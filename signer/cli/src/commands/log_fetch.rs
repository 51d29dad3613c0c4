//! `chancery log fetch`: everything a log publishes, into a folder that `log verify` reads without a network.

use super::log::{blocking, seen_notes, trust};
use crate::{
    args::LogFetchArgs,
    audit::{Advanced, LogSource, Prover, Trust, opened_checkpoint, replace},
    connect::Connection,
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use api::Client;
use serde::Serialize;
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tlog::{Checkpoint, TilePath, tile_paths};
use tokio::{runtime::Handle, task::JoinSet};

/// Downloads at once: hides the latency of a distant server without crowding it.
const AT_ONCE: usize = 8;

#[derive(Serialize)]
pub(super) struct Fetched {
    pub(super) dir: PathBuf,
    pub(super) origin: String,
    pub(super) size: u64,
    pub(super) files: u64,
    pub(super) downloaded: u64,
}

impl Answer for Fetched {
    const SCHEMA: &'static str = "chancery.log-fetch/v1";
}

pub(super) async fn run(
    args: LogFetchArgs,
    connection: &Connection,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let trust = trust(&args.key)?;
    let client = connection.client()?;
    let _lock = lock(&args.out).await?;
    let (note, checkpoint) = newest(&client, &trust, &args.out).await?;
    let (files, downloaded) = download(&client, &args.out, checkpoint.size, output).await?;
    // Last: a folder with a checkpoint has every file under it.
    store(&args.out.join("checkpoint"), note.as_bytes())?;
    let fetched =
        Fetched { dir: args.out, origin: checkpoint.origin, size: checkpoint.size, files, downloaded };
    let text = format!(
        "{}: {} entries of {} in {} files, {} of them new",
        fetched.dir.display(),
        fetched.size,
        fetched.origin,
        fetched.files,
        fetched.downloaded
    );
    output.result(&fetched, &text)?;
    Ok(Exit::Ok)
}

/// Makes the folder and holds it, so that the checkpoint in it only grows: another fetch into it waits for this one.
async fn lock(out: &Path) -> Result<fs::File, Failure> {
    let out = out.to_owned();
    blocking(move || {
        let held = fs::create_dir_all(&out).and_then(|()| {
            let folder = fs::File::open(&out)?;
            rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)?;
            Ok(folder)
        });
        held.map_err(|e| Failure::new(Exit::State, format!("cannot use the folder {}", out.display())).why(e))
    })
    .await
}

/// The server's checkpoint: signed, extending the last note seen on this machine and the one in the folder.
async fn newest(client: &Client, trust: &Trust, out: &Path) -> Result<(String, Checkpoint), Failure> {
    let source = LogSource::Remote(client.clone(), Handle::current());
    let local = LogSource::Dir(out.to_owned());
    let (seen, trust) = (seen_notes()?, trust.clone());
    blocking(move || {
        let note = opened_checkpoint(&source, &trust)?.note;
        let Advanced { note, checkpoint, .. } = seen.advance(&note, &trust, &source)?;
        if local.read("checkpoint").is_ok_and(|found| found.is_some()) {
            // A folder may have been begun before there were witnesses.
            let before = opened_checkpoint(&local, &Trust { policy: None, ..trust })?.checkpoint;
            Prover::new(&source, &checkpoint).extends(&before)?;
        }
        Ok((note, checkpoint))
    })
    .await
}

/// Downloads what the folder lacks; gives the number of files, and how many were new.
async fn download(
    client: &Client,
    out: &Path,
    size: u64,
    output: &mut Output,
) -> Result<(u64, u64), Failure> {
    let (mut files, mut downloaded) = (0, 0);
    let mut running: JoinSet<Result<(), Failure>> = JoinSet::new();
    for path in tile_paths(size) {
        files += 1;
        // A published file never changes: its path says how much of the log it holds.
        if out.join(path.to_string()).is_file() || out.join(path.full().to_string()).is_file() {
            continue;
        }
        downloaded += 1;
        output.progress(&format!("{path}"));
        if running.len() >= AT_ONCE {
            finished(running.join_next().await)?;
        }
        running.spawn(fetch(client.clone(), out.to_owned(), path));
    }
    while let Some(end) = running.join_next().await {
        finished(Some(end))?;
    }
    Ok((files, downloaded))
}

fn finished(end: Option<Result<Result<(), Failure>, tokio::task::JoinError>>) -> Result<(), Failure> {
    match end {
        Some(Ok(end)) => end,
        Some(Err(error)) => Err(Failure::new(Exit::Internal, "a download ended early").why(error)),
        None => Ok(()),
    }
}

/// Fetches one file, or the full one that has taken its place since.
async fn fetch(client: Client, out: PathBuf, path: TilePath) -> Result<(), Failure> {
    for candidate in [path, path.full()] {
        if let Some(bytes) = client.log_file(&candidate.to_string()).await? {
            return store(&out.join(candidate.to_string()), &bytes);
        }
    }
    Err(Failure::new(Exit::Verification, format!("the server does not have {path}"))
        .why("a log publishes every file under its checkpoint for ever")
        .next("try again; if it stays away, tell the people who run the log"))
}

fn store(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        replace(path, bytes)
    };
    write().map_err(|e| Failure::new(Exit::State, format!("cannot write {}", path.display())).why(e))
}
