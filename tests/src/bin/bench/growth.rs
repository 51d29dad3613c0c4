//! What a large log costs: the same figures of a log of ten thousand entries and of a large one.
//!
//! The large log takes long to make. It is kept, by default below `target/growth`, and taken up again by the next run.
//! `GROWTH` sets the number of its entries, `GROWTH_DIR` where it is kept.

use crate::{
    load::{load, log_size, prepare},
    process::{memory_mib, run_measured},
};
use anyhow::{Context, Result, ensure};
use record::Digest;
use std::{
    env,
    path::{Path, PathBuf},
};
use tests::{Instance, Settings, Started, binary, grow_command};

/// Entries of the log that everything is compared with.
const SMALL: u64 = 10_000;
/// Entries of the large log, unless `GROWTH` says otherwise.
const LARGE: u64 = 100_000;
/// Clients, and how many requests they make together.
const LEVELS: [(usize, usize); 2] = [(1, 60), (16, 480)];
/// Proofs of which the median is told.
const PROOFS: u64 = 9;

/// One log's figures, each with its name and unit.
type Column = Vec<(&'static str, f64)>;

/// Makes both logs, or takes up what is there, and prints their figures side by side.
pub(crate) fn growth() -> Result<()> {
    let large = env::var("GROWTH").map_or(Ok(LARGE), |text| text.parse()).context("GROWTH is a number")?;
    let (small, large) = (column(SMALL)?, column(large)?);
    println!("{:<44} {:>12} {:>12}", "growth", format!("{:.0}", small[0].1), format!("{:.0}", large[0].1));
    for ((name, small), (_, large)) in small.iter().zip(&large).skip(1) {
        println!("{name:<44} {small:>12.1} {large:>12.1}");
    }
    Ok(())
}

fn column(size: u64) -> Result<Column> {
    let mut service = grown(size)?;
    let dir = service.dir();
    let mut column = vec![("entries", size as f64)];
    column.extend(disk(&dir)?);
    column.extend(starts(&service)?);
    service.resume(&plain());
    let digest = prepare(&service)?;
    column.extend(appends(&service, &digest)?);
    column.extend(proofs(&service, &digest)?);
    column.extend(readers(&service)?);
    service.stop();
    Ok(column)
}

fn plain() -> Settings {
    Settings { plain_token: true, ..Settings::default() }
}

/// A stopped instance whose log has at least `size` entries.
fn grown(size: u64) -> Result<Instance> {
    let folder = env::var_os("GROWTH_DIR").map_or_else(default_folder, PathBuf::from).join(size.to_string());
    let mut service = Instance::kept_in(&folder, &plain());
    service.stop();
    eprintln!("growth: a log of {size} entries in {}", folder.display());
    let status = grow_command(&service.dir(), size).status()?;
    ensure!(status.success(), "the log was not made: remove {} and try again", folder.display());
    Ok(service)
}

fn default_folder() -> PathBuf {
    binary("bench").ancestors().nth(2).unwrap_or(Path::new("target")).join("growth")
}

/// What the two copies of the log take on the disk.
fn disk(dir: &Path) -> Result<Column> {
    let database = ["chancery.db", "chancery.db-wal"].map(|name| dir.join("data").join(name));
    let database: u64 = database.iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum();
    let spool = dir.join("log/state/spool").read_dir()?;
    let spool: u64 = spool.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Ok(vec![("database, MiB", mib(database)), ("spool, MiB", mib(spool))])
}

/// Each process from its exec until it serves, and its memory then.
fn starts(service: &Instance) -> Result<Column> {
    let dir = service.dir();
    let log = Started::log_keeper(&dir)?;
    let signing = Started::signing_keeper(&dir)?;
    let daemon = Started::daemon(&dir, || service.ready())?;
    let ms = |process: &Started| process.took.as_secs_f64() * 1000.0;
    let column = vec![
        ("start of the log keeper, ms", ms(&log)),
        ("start of the signing keeper, ms", ms(&signing)),
        ("start of the daemon until ready, ms", ms(&daemon)),
        ("memory of the log keeper, started, MiB", memory_mib(log.pid(), "VmRSS")),
        ("memory of the daemon, started, MiB", memory_mib(daemon.pid(), "VmRSS")),
    ];
    drop(daemon);
    Ok(column)
}

/// What requests cost in this log.
fn appends(service: &Instance, digest: &Digest) -> Result<Column> {
    let mut column = Column::new();
    for ((clients, total), [rate, wait]) in LEVELS.into_iter().zip([
        ["requests/s, 1 client", "p50 of a request, 1 client, ms"],
        ["requests/s, 16 clients", "p50 of a request, 16 clients, ms"],
    ]) {
        let made = load(service, digest, clients, total)?;
        column.extend([(rate, made.rate), (wait, made.wait_ms(0.5))]);
    }
    let memory = |words| memory_mib(service.pid(words), "VmRSS");
    column.push(("memory of the log keeper, after load, MiB", memory(tests::LOG_KEEPER)));
    column.push(("memory of the daemon, after load, MiB", memory(tests::DAEMON)));
    Ok(column)
}

/// What auditors do, with the command line that they have.
fn readers(service: &Instance) -> Result<Column> {
    let published = service.dir().with_file_name("published");
    let folder = published.to_str().context("the folder's name is text")?;
    let entries = log_size(service)? as f64;
    let mut column = Column::new();
    let mut whole = |[rate, memory]: [&'static str; 2], args: &[&str]| -> Result<()> {
        let run = run_measured(&mut service.auditor(args))?;
        column.extend([(rate, entries / run.seconds), (memory, run.peak_mib)]);
        Ok(())
    };
    whole(["log fetch, entries/s", "log fetch, peak memory, MiB"], &["log", "fetch", "--out", folder])?;
    whole(
        ["log verify, a folder, entries/s", "log verify, a folder, peak memory, MiB"],
        &["log", "verify", folder],
    )?;
    std::fs::remove_dir_all(&published)?;
    Ok(column)
}

/// The median times of both kinds of proof, each fetched from the server, verified, and by a process of its own: that an
/// entry is in the log, for entries spread over it; and that the log as it has grown meanwhile extends the one last seen.
fn proofs(service: &Instance, digest: &Digest) -> Result<Column> {
    let entries = log_size(service)?;
    let inclusion = median((0..PROOFS).map(|n| {
        let index = (entries / PROOFS * n).to_string();
        Ok(run_measured(&mut service.auditor(&["log", "prove", &index, "--tlog-proof"]))?.seconds)
    }))?;
    run_measured(&mut service.auditor(&["log", "checkpoint"]))?;
    let consistency = median((0..PROOFS).map(|_| {
        load(service, digest, 1, 1)?;
        // A checkpoint is published at most once a second: the wait for it is no part of the proof.
        let (status, said) = service.http("", "/v1/log/checkpoint", &[]);
        ensure!(status == 200, "no checkpoint: {said}");
        Ok(run_measured(&mut service.auditor(&["log", "checkpoint"]))?.seconds)
    }))?;
    Ok(vec![
        ("inclusion: log prove --tlog-proof, p50, ms", inclusion * 1000.0),
        ("consistency: log checkpoint, p50, ms", consistency * 1000.0),
    ])
}

fn median(times: impl Iterator<Item = Result<f64>>) -> Result<f64> {
    let mut times = times.collect::<Result<Vec<_>>>()?;
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().context("nothing was timed")
}
