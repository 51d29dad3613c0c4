//! The grammar of `chancery log`.

use super::{Forward, Span, WitnessCommand};
use crate::audit::{Decision, End, evidence::Wanted};
use clap::{Args, Subcommand};
use record::{Digest, KeyId, Principal, RequestId, Tag, Time};
use std::{path::PathBuf, str::FromStr};
use tlog::CosignerKey;

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Show entries, newest last
    Show(LogShowArgs),
    /// Download everything the log publishes at its newest checkpoint (scope audit)
    Fetch(LogFetchArgs),
    /// Verify a whole log, and list the intents that have no end in it
    ///
    /// Checked are: the checkpoint's signature, and the quorum of its witnesses with --policy; the hash of every entry, every
    /// tile and the root; the signature in every completion; that every intent is for a key that its keeper had presented;
    /// that every completion and every outcome ends one intent that was open, and an outcome is its keeper's; and that the
    /// log extends what was seen of it on this machine, and every --checkpoint. An intent without an end is at work, or its
    /// keeper is away: it is listed, and is a fault only with --no-open.
    Verify(LogVerifyArgs),
    /// Fetch the newest checkpoint, verify it, and that it extends the last one seen
    Checkpoint(LogKey),
    /// Search the whole log, which is verified on the way: nothing that fits is left out
    Search(LogSearchArgs),
    /// Write the evidence for one signature, or any entry, into one file that verifies without the log
    ///
    /// The file has the intent with who asked and which rules allowed it, its end, the entry in which the keeper presented
    /// its key with the token's attestation, a proof for each, and the checkpoint with all its signatures. The whole log is
    /// verified first. For cosign and its relatives the signature's own files are written: its bundle, and the signed bytes.
    Prove(LogProveArgs),
    /// Print the trusted_root.json by which cosign and its relatives believe this log; no server is asked
    TrustedRoot(LogTrustedRootArgs),
    /// Verify a file that log prove has written; nothing else is read
    VerifyBundle(LogVerifyBundleArgs),
    /// Write a stretch of the log as JSON lines and as a table, bound to a checkpoint; the log is verified first
    Export(LogExportArgs),
    /// Verify a folder that log export has written; nothing else is read
    VerifyExport(LogVerifyExportArgs),
    /// Be a witness of logs: cosign their checkpoints on another machine
    #[command(subcommand)]
    Witness(WitnessCommand),
    /// Refill a lost or older database from the log keeper's spool (runs chanceryd rebuild)
    Rebuild(Forward),
    /// Watch a log: one line for each alarm, which are forks, files that do not verify, signatures without an intent, unknown
    /// outcomes, intents that stay open, silence, and with --runs signatures that no CI run asked for
    ///
    /// Ends with 10 at a fork, and with --once at any alarm. A server's checkpoint must extend the last one seen on this
    /// machine, and is remembered.
    Watch(LogWatchArgs),
}

/// Whose signature a checkpoint must carry.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogKey {
    /// The log's verifier key, name+hash+key; without it the environment variable CHANCERY_LOG_VKEY
    #[arg(long, value_name = "VKEY", conflicts_with = "vkey_file")]
    pub(crate) vkey: Option<String>,
    /// File with the log's verifier key
    #[arg(long, value_name = "FILE")]
    pub(crate) vkey_file: Option<PathBuf>,
    /// File with a C2SP tlog-policy: checkpoints must have its quorum of cosignatures. If it names one log and no key is
    /// given otherwise, that log's key is taken
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LogShowArgs {
    /// A folder made by log fetch, or a server's URL; without it the server of --url
    pub(crate) source: Option<String>,
    /// First entry; without it the last --limit entries
    #[arg(long, value_name = "INDEX")]
    pub(crate) from: Option<u64>,
    /// Most entries to show
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub(crate) limit: u64,
    #[command(flatten)]
    pub(crate) key: LogKey,
}

#[derive(Debug, Args)]
pub(crate) struct LogFetchArgs {
    /// Folder to write to; made if it does not exist, completed if it does
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) key: LogKey,
}

#[derive(Debug, Args)]
pub(crate) struct LogVerifyArgs {
    /// A folder made by log fetch (no network is used), or a server's URL; without it the server of --url
    pub(crate) source: Option<String>,
    /// Also prove this entry; without it the last intent
    #[arg(long, value_name = "INDEX")]
    pub(crate) index: Option<u64>,
    /// File with another checkpoint of the log, from whatever hand: the log must extend it; may be given more than once
    #[arg(long = "checkpoint", value_name = "FILE")]
    pub(crate) checkpoints: Vec<PathBuf>,
    /// Fail (10) if any intent has no end, as for a log that is at rest
    #[arg(long)]
    pub(crate) no_open: bool,
    #[command(flatten)]
    pub(crate) key: LogKey,
}

#[derive(Debug, Args)]
pub(crate) struct LogSearchArgs {
    /// A folder made by log fetch, or a server's URL; without it the server of --url
    pub(crate) source: Option<String>,
    /// A repository with its host, or a prefix that ends in '/'
    #[arg(long, value_name = "NAME")]
    pub(crate) repository: Option<String>,
    /// A tag
    #[arg(long)]
    pub(crate) tag: Option<Tag>,
    /// An image's digest, sha256:...
    #[arg(long)]
    pub(crate) digest: Option<Digest>,
    /// Who asked, such as token:abc
    #[arg(long, value_name = "IDENTITY")]
    pub(crate) by: Option<Principal>,
    /// A request's id
    #[arg(long, value_name = "ID")]
    pub(crate) request: Option<RequestId>,
    /// A key's id
    #[arg(long, value_name = "ID")]
    pub(crate) key: Option<KeyId>,
    /// Entries of this time or later: 2026-11-23 or 2026-11-23T10:20:30Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// Entries before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) before: Option<Moment>,
    /// What the policy said
    #[arg(long, value_enum)]
    pub(crate) decision: Option<Decision>,
    /// How an intent ended
    #[arg(long, value_enum)]
    pub(crate) end: Option<End>,
    /// First entry to look at
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    pub(crate) from: u64,
    /// Most entries to show
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) log_key: LogKey,
}

#[derive(Debug, Args)]
pub(crate) struct LogProveArgs {
    /// An entry's index, or a request's id
    pub(crate) what: Wanted,
    /// A folder made by log fetch, or a server's URL; without it the server of --url
    pub(crate) source: Option<String>,
    /// The evidence file to write
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present_any = ["tlog_proof", "sigstore_bundle", "legacy_bundle", "payload"]
    )]
    pub(crate) out: Option<PathBuf>,
    /// Instead of evidence, print a C2SP tlog-proof of the one entry; the rest of the log is not read
    #[arg(long, conflicts_with_all = ["out", "sigstore_bundle", "legacy_bundle", "payload"])]
    pub(crate) tlog_proof: bool,
    #[command(flatten)]
    pub(crate) client_files: ClientFileArgs,
    #[command(flatten)]
    pub(crate) key: LogKey,
}

/// What stock clients need of a signature.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientFileArgs {
    /// File for the signature's Sigstore bundle (v0.3) with the log's proof: cosign 3 verifies it with --trusted-root
    #[arg(long, value_name = "FILE")]
    pub(crate) sigstore_bundle: Option<PathBuf>,
    /// File for the bundle of older cosigns, with an entry timestamp (SET) that the log's server is asked for
    #[arg(long, value_name = "FILE", requires = "set_key")]
    pub(crate) legacy_bundle: Option<PathBuf>,
    /// PEM file with the key of the log's entry timestamps, which came by another way than from the server
    #[arg(long, value_name = "FILE", requires = "legacy_bundle")]
    pub(crate) set_key: Option<PathBuf>,
    /// File for the bytes that were signed, which the log's server is asked for
    #[arg(long, value_name = "FILE")]
    pub(crate) payload: Option<PathBuf>,
}

impl ClientFileArgs {
    /// The files to write.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.sigstore_bundle, &self.legacy_bundle, &self.payload].into_iter().flatten()
    }

    /// Whether none is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.files().next().is_none()
    }
}

#[derive(Debug, Args)]
pub(crate) struct LogTrustedRootArgs {
    /// PEM file with the key of the log's entry timestamps (SETs), if older clients shall believe those
    #[arg(long, value_name = "FILE")]
    pub(crate) set_key: Option<PathBuf>,
    /// File to write; without it standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) key: LogKey,
}

#[derive(Debug, Args)]
pub(crate) struct LogVerifyBundleArgs {
    /// The evidence file
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) key: LogKey,
}

#[derive(Debug, Args)]
pub(crate) struct LogExportArgs {
    /// A folder made by log fetch, or a server's URL; without it the server of --url
    pub(crate) source: Option<String>,
    /// Folder to write to, which is empty or does not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// First entry
    #[arg(long, value_name = "INDEX")]
    pub(crate) from: Option<u64>,
    /// The entry behind the last one
    #[arg(long, value_name = "INDEX")]
    pub(crate) until: Option<u64>,
    /// Begin with the first entry of this time or later: 2026-11-23 or 2026-11-23T10:20:30Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// End before the first entry of this time or later that no earlier one follows
    #[arg(long, value_name = "TIME")]
    pub(crate) before: Option<Moment>,
    /// Sign the manifest with your own key, as `log witness init` makes one: DIR/key. Use it for nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) key: LogKey,
}

#[derive(Debug, Args)]
pub(crate) struct LogVerifyExportArgs {
    /// The folder
    pub(crate) dir: PathBuf,
    /// Demand that the manifest is signed by this key (name+hash+key), which you have from whoever made the export
    #[arg(long, value_name = "VKEY")]
    pub(crate) signer: Option<CosignerKey>,
    #[command(flatten)]
    pub(crate) key: LogKey,
}

#[derive(Debug, Args)]
pub(crate) struct LogWatchArgs {
    /// A folder made by log fetch, or a server's URL; without it the server of --url
    pub(crate) source: Option<String>,
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "1m")]
    pub(crate) interval: Span,
    /// Look once and end: with 0 if there is no alarm, with 10 if there is one
    #[arg(long, conflicts_with = "interval")]
    pub(crate) once: bool,
    /// Longest time without a new entry
    #[arg(long, value_name = "TIME", default_value = "1d")]
    pub(crate) stall: Span,
    /// Longest time that an intent may be open
    #[arg(long, value_name = "TIME", default_value = "15m")]
    pub(crate) open: Span,
    /// File with the runs of a CI system, one JSON object a line: a signature that none of them asked for is an alarm; may be
    /// given more than once
    #[arg(long, value_name = "FILE")]
    pub(crate) runs: Vec<PathBuf>,
    /// Longest time until a run is in its file
    #[arg(long, value_name = "TIME", default_value = "10m", requires = "runs")]
    pub(crate) runs_within: Span,
    /// Longest time after its `at` that a run explains a signature
    #[arg(long, value_name = "TIME", default_value = "1d", requires = "runs")]
    pub(crate) runs_for: Span,
    /// Begin to compare with the first intent of this time or later: 2026-11-23 or 2026-11-23T10:20:30Z
    #[arg(long, value_name = "TIME", requires = "runs")]
    pub(crate) runs_since: Option<Moment>,
    #[command(flatten)]
    pub(crate) key: LogKey,
}

/// A point in time as people write it, UTC: a date, or a date and a time with or without milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) Time);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let whole = match text.strip_suffix('Z') {
            Some(seconds) if !seconds.contains('.') => format!("{seconds}.000Z"),
            Some(_) => text.to_owned(),
            None => format!("{text}T00:00:00.000Z"),
        };
        whole
            .parse()
            .map(Self)
            .map_err(|_| "a time is a date such as 2026-11-23, or 2026-11-23T10:20:30Z, UTC".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_date_or_a_time_in_utc() {
        let moment = |text: &str| text.parse::<Moment>().map(|m| m.0.to_string());
        assert_eq!(moment("2026-11-23").unwrap(), "2026-11-23T00:00:00.000Z");
        assert_eq!(moment("2026-11-23T10:20:30Z").unwrap(), "2026-11-23T10:20:30.000Z");
        assert_eq!(moment("2026-11-23T10:20:30.123Z").unwrap(), "2026-11-23T10:20:30.123Z");
        for bad in ["", "Z", "yesterday", "2026-13-01", "2026-11-23T10:20:30", "2026-11-23T10:20:30+01:00"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
