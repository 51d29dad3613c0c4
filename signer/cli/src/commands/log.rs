//! `chancery log`: verify and follow the log, and what all its commands share. The others stand in files of their own.

use super::{
    daemon, log_export, log_fetch, log_prove, log_search, log_show, log_sigstore, log_watch, log_witness,
};
use crate::{
    args::{LogCommand, LogKey, LogVerifyArgs},
    audit::{
        Advanced, LogSource, Memory, Report, SeenNotes, Trust, Witness, opened_checkpoint, state_dir, verify,
    },
    connect::Connection,
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use serde::Serialize;
use std::{fs, io::Read, path::Path};
use tlog::{Checkpoint, MAX_POLICY_LEN, VerifierKey, WitnessPolicy};
use tokio::runtime::Handle;

#[cfg(test)]
mod tests;

impl Answer for Report {
    const SCHEMA: &'static str = "chancery.log-verification/v1";
}

impl Answer for CheckpointResult {
    const SCHEMA: &'static str = "chancery.log-checkpoint/v1";
}

pub(super) async fn run(
    command: LogCommand,
    connection: &Connection,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match command {
        LogCommand::Show(args) => log_show::run(args, connection, output).await,
        LogCommand::Fetch(args) => log_fetch::run(args, connection, output).await,
        LogCommand::Verify(args) => verify_all(args, connection, output).await,
        LogCommand::Checkpoint(key) => checkpoint(&key, connection, output).await,
        LogCommand::Search(args) => log_search::run(args, connection, output).await,
        LogCommand::Prove(args) => log_prove::run(args, connection, output).await,
        LogCommand::TrustedRoot(args) => log_sigstore::trusted_root(&args, output),
        LogCommand::VerifyBundle(args) => log_prove::verify_bundle(args, output).await,
        LogCommand::Export(args) => log_export::run(args, connection, output).await,
        LogCommand::VerifyExport(args) => log_export::verify_export(args, output).await,
        LogCommand::Rebuild(forward) => Err(daemon::exec(&["rebuild"], &forward)),
        LogCommand::Watch(args) => log_watch::run(args, connection, output).await,
        LogCommand::Witness(command) => log_witness::run(command, output).await,
    }
}

/// A folder or a server: whatever the command line names, or the server of `--url`.
pub(super) fn source(named: Option<&str>, connection: &Connection) -> Result<LogSource, Failure> {
    match named {
        Some(url) if url.contains("://") => {
            Ok(LogSource::Remote(connection.client_for(url)?, Handle::current()))
        }
        Some(dir) => Ok(LogSource::Dir(dir.into())),
        None => Ok(LogSource::Remote(connection.client()?, Handle::current())),
    }
}

/// The key and the policy that the command line or the environment names.
pub(super) fn trust(args: &LogKey) -> Result<Trust, Failure> {
    optional_trust(args)?.ok_or_else(|| {
        Failure::new(Exit::Usage, "the log's verifier key is not given")
            .why("without it nobody can tell this log from another one")
            .next("give --vkey, --vkey-file or CHANCERY_LOG_VKEY, and get the key by another way than this server")
    })
}

pub(super) fn optional_trust(args: &LogKey) -> Result<Option<Trust>, Failure> {
    let policy = args.policy.as_deref().map(read_policy).transpose()?;
    let key = match (optional_key(args)?, policy.as_ref().map(WitnessPolicy::logs)) {
        (None, Some([only])) => Some(only.key.clone()),
        (Some(key), Some(logs)) if !logs.is_empty() && !logs.iter().any(|log| log.key == key) => {
            return Err(Failure::new(Exit::Usage, "the policy is for other logs than this key's").next(
                "give the policy of this log, or leave --vkey, --vkey-file and CHANCERY_LOG_VKEY away",
            ));
        }
        (key, _) => key,
    };
    match key {
        Some(key) => Ok(Some(Trust { key, policy })),
        None if policy.is_some() => {
            Err(Failure::new(Exit::Usage, "the policy does not name exactly one log")
                .next("say which log with --vkey, --vkey-file or CHANCERY_LOG_VKEY"))
        }
        None => Ok(None),
    }
}

pub(super) fn read_policy(path: &Path) -> Result<WitnessPolicy, Failure> {
    let bad = |why: String| {
        Failure::new(Exit::Usage, format!("{} is no policy of witnesses", path.display()))
            .why(why)
            .next("see docs/how-to/audit.md and docs/how-to/witnesses.md for one")
    };
    let mut text = String::new();
    let read = fs::File::open(path)
        .and_then(|file| file.take(MAX_POLICY_LEN as u64 + 1).read_to_string(&mut text))
        .map_err(|e| bad(e.to_string()));
    read.and_then(|_| WitnessPolicy::parse(&text).map_err(|e| bad(api::chain_text(&e))))
}

fn optional_key(args: &LogKey) -> Result<Option<VerifierKey>, Failure> {
    let bad = |why: String| {
        Failure::new(Exit::Usage, "this is no verifier key of a log")
            .why(why)
            .next("one looks like name+1a2b3c4d+AQ...")
    };
    let text = match (&args.vkey, &args.vkey_file) {
        (Some(text), _) => Some(text.clone()),
        (None, Some(path)) => {
            Some(fs::read_to_string(path).map_err(|e| bad(format!("{}: {e}", path.display())))?)
        }
        (None, None) => std::env::var("CHANCERY_LOG_VKEY").ok().filter(|t| !t.trim().is_empty()),
    };
    text.map(|t| t.trim().parse().map_err(|e: tlog::VerifierKeyError| bad(api::chain_text(&e)))).transpose()
}

/// The memory of notes on this machine.
pub(super) fn seen_notes() -> Result<SeenNotes, Failure> {
    state_dir().map(|dir| SeenNotes::under(&dir)).ok_or_else(|| {
        Failure::new(Exit::State, "there is no folder to remember the log's last note in")
            .why("neither XDG_STATE_HOME nor HOME is an absolute path")
            .next("set one of them")
    })
}

/// Runs work that reads files or blocks on a server, away from the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(end) => end,
        Err(error) => Err(Failure::new(Exit::Internal, "the work ended early").why(error)),
    }
}

/// Holds a checkpoint of `source` against the note that this machine remembers. A server is followed; a folder, which needs
/// no network and may be anybody's copy, is only compared.
pub(super) fn follow(source: &LogSource, trust: &Trust, note: &str) -> Result<Memory, Failure> {
    if source.is_remote() {
        return Ok(seen_notes()?.advance(note, trust, source)?.memory);
    }
    let checkpoint = trust.accept(note)?.checkpoint;
    match state_dir() {
        Some(dir) => Ok(SeenNotes::under(&dir).compare(&checkpoint, &trust.key, source)?),
        None => Ok(Memory::default()),
    }
}

/// Holds a checkpoint that came without its log against the note that this machine remembers.
pub(super) fn compare_alone(checkpoint: &Checkpoint, trust: &Trust) -> Result<Memory, Failure> {
    match state_dir() {
        Some(dir) => Ok(SeenNotes::under(&dir).compare_alone(checkpoint, &trust.key)?),
        None => Ok(Memory::default()),
    }
}

/// What a reader of a checkpoint that came without its log must know of the memory, if anything.
pub(super) fn alone_note(memory: Memory, size: u64) -> Option<String> {
    let seen = memory.seen_before.filter(|seen| *seen != size)?;
    Some(format!(
        "the checkpoint has {size} entries, and {seen} were seen on this machine; whether one extends the other cannot be \
         told without the log"
    ))
}

/// How a command ends that has answered out of a whole log in which this many entries are wrong.
pub(super) fn answered(findings: u64) -> Result<Exit, Failure> {
    if findings == 0 {
        return Ok(Exit::Ok);
    }
    Err(Failure::new(Exit::Verification, format!("{findings} things are wrong with the entries of this log"))
        .why("the answer is complete and every hash is right, but the log does not keep its own rules")
        .next("see what they are with chancery log verify before you rely on the answer"))
}

/// What a reader of the result must know of the memory, if anything.
pub(super) fn memory_note(memory: Memory, size: u64) -> Option<String> {
    let seen = memory.seen_before.filter(|_| memory.older)?;
    Some(format!(
        "older: this folder has {size} entries, and {seen} were seen on this machine; whether the {seen} extend these \
         {size} cannot be told without the newer files"
    ))
}

async fn verify_all(
    args: LogVerifyArgs,
    connection: &Connection,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let trust = trust(&args.key)?;
    let source = source(args.source.as_deref(), connection)?;
    let others: Vec<String> =
        args.checkpoints.iter().map(|path| read_note(path)).collect::<Result<_, _>>()?;
    output.progress("reading and hashing the whole log");
    let report = blocking(move || {
        let mut report = verify(&source, &trust, args.index, &others)?;
        report.memory = follow(&source, &trust, &report.note)?;
        Ok(report)
    })
    .await?;
    output.result(&report, &report_text(&report))?;
    if let Some(note) = memory_note(report.memory, report.size) {
        output.note(&note);
    }
    judged(&report, args.no_open)
}

/// A checkpoint that somebody has kept.
fn read_note(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = fs::File::open(path)
        .and_then(|file| file.take(tlog::MAX_NOTE_LEN as u64 + 1).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(e) => {
            Err(Failure::new(Exit::Usage, format!("cannot read the checkpoint {}", path.display())).why(e))
        }
    }
}

/// How the command ends on a log whose hashes, root and note are right.
pub(super) fn judged(report: &Report, no_open: bool) -> Result<Exit, Failure> {
    if report.findings_total == 0 && no_open && report.open_total > 0 {
        return Err(Failure::new(Exit::Verification, format!("{} intents have no end", report.open_total))
            .why("--no-open was given; an intent is open while it is at work, or its keeper is away")
            .next("if the log is at work, fetch it again later; if not, ask the people who run it about these intents"));
    }
    if report.findings_total == 0 {
        return Ok(Exit::Ok);
    }
    Err(Failure::new(
        Exit::Verification,
        format!("{} entries are not what they should be", report.findings_total),
    )
    .why("every hash and the checkpoint are right: the log itself says so")
    .next("look at the entries with chancery log show --from INDEX and ask the people who run the log"))
}

pub(super) fn report_text(report: &Report) -> String {
    let counts = &report.counts;
    let kinds: Vec<_> = counts.kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    let mut lines = vec![
        format!("log         {}", report.origin),
        format!("checkpoint  {} entries, root {}: signed by the log's key", report.size, report.root),
        format!("witnesses   {}", witnesses_text(report.witnesses.as_deref())),
        "hashes      every entry, every tile and the root are right".to_owned(),
        format!("memory      {}", memory_text(report.memory, report.size)),
        format!("entries     {}", kinds.join(", ")),
        format!(
            "intents     {} signed, {} failed, {} unknown, {} void, {} open",
            counts.signed, counts.failed, counts.unknown, counts.void, report.open_total
        ),
    ];
    lines.extend(report.continues.as_ref().map(|c| {
        format!("continues   the log {} from its {} entries, root {}: {}", c.log, c.size, c.root, c.reason)
    }));
    lines.extend(report.open.iter().map(|o| {
        format!(
            "open        entry {}: {} of {} by keeper {}, {}",
            o.index, o.purpose, o.repository, o.keeper, o.time
        )
    }));
    if report.extends > 0 {
        lines.push(format!("extends     every checkpoint that was given: {}", report.extends));
    }
    lines.extend(report.unknown_outcomes.iter().map(|u| {
        format!(
            "unknown     entry {}: whether intent {} was signed, {} of {} by keeper {}",
            u.index, u.intent, u.purpose, u.repository, u.keeper
        )
    }));
    lines.extend(report.findings.iter().map(|f| format!("WRONG       entry {}: {}", f.index, f.what)));
    if let Some(proof) = &report.proof {
        lines.push(format!(
            "proof       entry {} is under this root; leaf hash {}",
            proof.index, proof.leaf_hash
        ));
        lines.extend(proof.hashes.iter().map(|h| format!("            {h}")));
    }
    lines.join("\n")
}

/// Who cosigned a checkpoint, for people.
pub(super) fn witnesses_text(witnesses: Option<&[Witness]>) -> String {
    match witnesses {
        None => "not checked: no policy was given".to_owned(),
        Some([]) => "the policy demands none, and none of its witnesses has cosigned".to_owned(),
        Some(some) => some.iter().map(|w| format!("{} at {}", w.name, w.time)).collect::<Vec<_>>().join(", "),
    }
}

fn memory_text(memory: Memory, size: u64) -> String {
    match memory {
        Memory { seen_before: None, .. } => "no note of this log was seen on this machine before".to_owned(),
        // Another command has seen more of it while this one was reading.
        Memory { seen_before: Some(seen), older: false } if seen > size => {
            format!("the {seen} entries seen before extend it")
        }
        Memory { seen_before: Some(seen), older: false } => format!("extends the {seen} entries seen before"),
        Memory { seen_before: Some(seen), older: true } => {
            format!("older than the {seen} entries seen before: not compared")
        }
    }
}

#[derive(Serialize)]
pub(super) struct CheckpointResult {
    pub(super) origin: String,
    pub(super) size: u64,
    pub(super) root: String,
    pub(super) seen_before: Option<u64>,
    pub(super) note: String,
}

async fn checkpoint(args: &LogKey, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
    let trust = trust(args)?;
    let seen = seen_notes()?;
    let source = source(None, connection)?;
    let result = blocking(move || {
        let note = opened_checkpoint(&source, &trust)?.note;
        let Advanced { memory, note, checkpoint } = seen.advance(&note, &trust, &source)?;
        let (root, seen_before) = (checkpoint.root.to_base64(), memory.seen_before);
        Ok(CheckpointResult { origin: checkpoint.origin, size: checkpoint.size, root, seen_before, note })
    })
    .await?;
    match result.seen_before {
        Some(before) => {
            output.note(&format!("signed by the log's key, and extends the {before} entries seen before"))
        }
        None => output.note("signed by the log's key; this is the first note seen of it on this machine"),
    }
    output.result(&result, &result.note)?;
    Ok(Exit::Ok)
}
