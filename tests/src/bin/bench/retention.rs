//! What a request adds to every file that is kept: the figures of docs/how-to/retention.md.

use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tests::{Instance, Settings};

/// Times that it is measured: what each tag of the repository adds shows between them.
const ROUNDS: u64 = 3;
/// Requests in each.
const REQUESTS: u64 = 100;

/// Signs tags of one repository, one at a time, and prints after each round how large everything is and by how much a
/// request made it grow.
pub(crate) fn retention() -> Result<()> {
    let mut service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "x");
    let sign = |service: &Instance, tag: &str| {
        let signed = service.sign("demo/app", &digest, tag);
        ensure!(signed.code == 0, "{signed:?}");
        Ok(())
    };
    sign(&service, "v1")?;
    let mut before: Option<Vec<(&str, u64)>> = None;
    for round in 0..ROUNDS {
        (0..REQUESTS).try_for_each(|n| sign(&service, &format!("r{round}-{n}")))?;
        ensure!(service.stop() == 0, "chancery dev ends well");
        let now = sizes(&service)?;
        for (at, (name, size)) in now.iter().enumerate() {
            let grown = before.as_ref().map_or(0, |before| size.saturating_sub(before[at].1));
            let (tags, each) = ((round + 1) * REQUESTS + 1, grown / REQUESTS);
            println!("{tags:>4} tags  {name:20} {size:>9} bytes, {each:>7} a request");
        }
        before = Some(now);
        service.resume(&Settings::default());
    }
    Ok(())
}

/// Bytes of everything that the stopped service keeps, and of its backup, which grows with it.
fn sizes(service: &Instance) -> Result<Vec<(&'static str, u64)>> {
    let dir = service.dir();
    let backup = dir.with_file_name("backup");
    let (config, to) = (dir.join("chanceryd.toml"), backup.to_str().context("the folder's name is text")?);
    let config = config.to_str().context("the file's name is text")?;
    let made = service.chancery(&["backup", "create", "--config", config, "--out", to]);
    ensure!(made.code == 0, "{made:?}");
    let bytes =
        |folder: PathBuf| Ok::<_, std::io::Error>(files(&folder)?.iter().map(|(_, size)| size).sum::<u64>());
    let requests =
        files(&backup)?.into_iter().filter(|(path, _)| path.to_string_lossy().contains("/requests-"));
    let entries = bytes(backup.join("tile/entries"))?;
    Ok(vec![
        ("spool", bytes(dir.join("log/state"))?),
        ("journal", bytes(dir.join("signing/state"))?),
        ("database", bytes(dir.join("data"))?),
        ("backup: entries", entries),
        ("backup: hash tiles", bytes(backup.join("tile"))? - entries),
        ("backup: payloads", bytes(backup.join("payload"))?),
        ("backup: requests", requests.map(|(_, size)| size).sum()),
    ])
}

/// Every file below a folder with its bytes; none if it is not there.
fn files(folder: &Path) -> std::io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.metadata()? {
                about if about.is_dir() => found.extend(files(&entry.path())?),
                about => found.push((entry.path(), about.len())),
            }
        }
    }
    Ok(found)
}
