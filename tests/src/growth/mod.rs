//! A log of any size, made as the service makes one: leaves whose signatures are the token's, appended through the log
//! keeper's socket, and a database that `chanceryd rebuild` refills from its spool.
//!
//! Promises: after [`grow`], a stopped `chancery dev` folder holds a log that every verifier accepts, and that a start goes
//! on with. It knows what passes between daemon and log keeper, and no file of either.

mod author;
mod keys;
mod lease;

use crate::Started;
use anyhow::{Context, Result, ensure};
use author::Author;
use keys::ImageKeys;
use lease::Lease;
use record::{Genesis, KeeperName, KeeperRecord, wire::MAX_ITEMS};
use std::{
    fmt,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{Duration, Instant},
};

/// Repositories that a log of any size is spread over: what an organisation has, and few enough for each to have a
/// history.
const REPOSITORIES: usize = 1000;
/// Entries that are made ahead of the log keeper, by each author.
const AHEAD: usize = 4096;

/// How long it took.
#[derive(Debug, Clone, Copy)]
pub struct Grown {
    /// Entries that were made, signed and appended to the spool.
    pub appended: u64,
    /// For how long.
    pub appending: Duration,
    /// How long `chanceryd rebuild` took to put them into the database.
    pub rebuilding: Duration,
}

impl fmt::Display for Grown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |time: Duration| self.appended as f64 / time.as_secs_f64();
        write!(
            f,
            "{} entries: signed and appended in {:.1} s, {:.0}/s; chanceryd rebuild {:.1} s, {:.0}/s",
            self.appended,
            self.appending.as_secs_f64(),
            rate(self.appending),
            self.rebuilding.as_secs_f64(),
            rate(self.rebuilding)
        )
    }
}

/// `grow DIR SIZE` as a command: SoftHSM reads its configuration from the environment of its process.
pub fn grow_command(dir: &Path, size: u64) -> Command {
    let mut command = Command::new(crate::binary("grow"));
    command.arg(dir).arg(size.to_string()).env("SOFTHSM2_CONF", dir.join("signing/softhsm2.conf"));
    command
}

/// Makes the log of the stopped `chancery dev` in `dir` grow to `size` entries. One that has as many is left as it is.
pub fn grow(dir: &Path, size: u64) -> Result<Grown> {
    let _keeper = Started::log_keeper(dir)?;
    let start = Instant::now();
    let appended = append(dir, size)?;
    let appending = start.elapsed();
    let start = Instant::now();
    let mut rebuild = Command::new(crate::binary("chanceryd"));
    let rebuilt = rebuild.args(["rebuild", "--config"]).arg(dir.join("chanceryd.toml"));
    let rebuilt = rebuilt.stdin(Stdio::null()).output()?;
    ensure!(rebuilt.status.success(), "chanceryd rebuild: {}", String::from_utf8_lossy(&rebuilt.stderr));
    Ok(Grown { appended, appending, rebuilding: start.elapsed() })
}

/// Appends entries until the spool has `size`; how many it took.
fn append(dir: &Path, size: u64) -> Result<u64> {
    let mut lease = Lease::take(&dir.join("log/keeper.sock"))?;
    let begin = lease.size();
    if begin >= size {
        return Ok(0);
    }
    let former = former_keeper(lease.genesis()?)?;
    let keys = ImageKeys::open(dir, &lease.origin(), &former)?;
    lease.append(vec![author::presented(former)?])?;
    let authors = thread::available_parallelism()?.get();
    let leaves: Vec<_> = (0..authors)
        .map(|number| {
            let share = (number..REPOSITORIES).step_by(authors);
            let author = Author::new(keys.session()?, share.map(|n| format!("grown/{begin}-{n}")))?;
            Ok(spawn(author))
        })
        .collect::<Result<_>>()?;
    fill(&mut lease, &leaves, size)?;
    Ok(size - begin)
}

/// The keeper in whose name everything is written: it had the keys of the instance's own before that one, whose journal has
/// seen nothing of this and would have to.
fn former_keeper(genesis: Genesis) -> Result<KeeperRecord> {
    let keeper = genesis.keepers.into_iter().next().context("the log began without a keeper")?;
    Ok(KeeperRecord { name: KeeperName::parse("former")?, ..keeper })
}

/// Has an author write on a thread of its own, until nobody reads any more.
fn spawn(mut author: Author) -> Receiver<Result<Vec<Vec<u8>>>> {
    let (sender, receiver) = sync_channel(AHEAD / author::LONGEST);
    thread::spawn(move || {
        loop {
            let written = author.publish();
            let failed = written.is_err();
            if sender.send(written).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Appends what the authors write, in the batches of a busy daemon; the last few entries are events, to the exact size.
fn fill(lease: &mut Lease, authors: &[Receiver<Result<Vec<Vec<u8>>>>], size: u64) -> Result<()> {
    let mut batch: Vec<Vec<u8>> = Vec::with_capacity(MAX_ITEMS);
    let mut turn = authors.iter().cycle();
    loop {
        let missing = (size - lease.size()) as usize - batch.len();
        let more = match missing {
            0 => break,
            1..author::LONGEST => vec![author::event()?],
            _ => turn.next().context("there is an author")?.recv().context("an author has gone")??,
        };
        if batch.len() + more.len() > MAX_ITEMS {
            lease.append(std::mem::take(&mut batch))?;
        }
        batch.extend(more);
    }
    lease.append(batch)?;
    lease.settle()
}
