//! The grammar of the command line.
//!
//! No argument carries a secret: every user of a machine can read the arguments of its processes.

use crate::{
    audit::{Decision, End, evidence::Wanted},
    exit,
};
use api::{IdempotencyKey, Scope};
use clap::{Args, Parser, Subcommand, ValueEnum};
use record::{Digest, ImageRef, KeyId, Origin, Principal, Repository, RequestId, Tag, Time, TokenId};
use std::{ffi::OsString, path::PathBuf, str::FromStr, time::Duration};

/// Signs container images with keys in hardware, and shows what was signed and why.
#[derive(Debug, Parser)]
#[command(name = "chancery", version, after_help = exit::table(), disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Globals {
    /// The server, such as <https://chancery.example.com>
    #[arg(long, global = true, env = "CHANCERY_URL", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// PEM file of the only CA to trust for the server's certificate; without it the system's roots
    #[arg(long, global = true, env = "CHANCERY_CACERT", value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// File with the API token; without it the environment variable CHANCERY_TOKEN
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// How results are written to standard output
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON document a line, with a `schema` member; only members are ever added
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole instance in the foreground on this machine, on two SoftHSM tokens, to try things out
    Dev(DevArgs),
    /// Make the state of a new instance (runs chanceryd init)
    Init(Forward),
    /// Run the daemon (runs chanceryd serve)
    Serve(Forward),
    /// Sign an image under a tag
    Sign(SignArgs),
    /// Look at signing requests
    #[command(subcommand)]
    Request(RequestCommand),
    /// Make and look at repositories' trust collections
    #[command(subcommand)]
    Repo(RepoCommand),
    /// Read and verify the log
    #[command(subcommand)]
    Log(LogCommand),
    /// Make, list and revoke API tokens (scope admin); health of the hardware tokens (scope audit or admin)
    #[command(subcommand)]
    Token(TokenCommand),
    /// Look at the signing keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Check the connection, the server and the token, with a remedy for what is wrong
    Doctor,
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Forward {
    /// Arguments for chanceryd, such as --config FILE
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub(crate) args: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// The image by digest: host/repository@sha256:...
    pub(crate) image: ImageRef,
    /// The tag that shall name it
    #[arg(long)]
    pub(crate) tag: Tag,
    /// Wait until clients see the signature, at most this long; this is the default, with 10m
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "10m")]
    pub(crate) wait: Option<Span>,
    /// Ask and return at once; ends with 0 when the request was accepted, signed or not
    #[arg(long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,
    /// Asking again with the same key gives the same request; random if not given
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<IdempotencyKey>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RequestCommand {
    /// Show where a request stands
    Show {
        /// The request's id
        id: RequestId,
    },
    /// Wait for a request's end
    Wait {
        /// The request's id
        id: RequestId,
        /// How long
        #[arg(long, value_name = "TIME", default_value = "10m")]
        timeout: Span,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// Make a repository's trust collection: its root key certificate and first root
    Create {
        /// The repository with its host, which is the collection's GUN
        repository: Repository,
    },
    /// Show a repository's trust collection and what clients pin
    Show {
        /// The repository with its host
        repository: Repository,
    },
}

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
    /// verified first.
    Prove(LogProveArgs),
    /// Verify a file that log prove has written; nothing else is read
    VerifyBundle(LogVerifyBundleArgs),
    /// Write a stretch of the log as JSON lines and as a table, bound to a checkpoint; the log is verified first
    Export(LogExportArgs),
    /// Verify a folder that log export has written; nothing else is read
    VerifyExport(LogVerifyExportArgs),
    /// Watch a log: one line for each alarm, which are forks, files that do not verify, signatures without an intent, unknown
    /// outcomes, intents that stay open, and silence
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
    #[arg(long, value_name = "FILE", required_unless_present = "tlog_proof", conflicts_with = "tlog_proof")]
    pub(crate) out: Option<PathBuf>,
    /// Instead of evidence, print a C2SP tlog-proof of the one entry; the rest of the log is not read
    #[arg(long)]
    pub(crate) tlog_proof: bool,
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
    /// End before the first entry of this time or later
    #[arg(long, value_name = "TIME")]
    pub(crate) before: Option<Moment>,
    #[command(flatten)]
    pub(crate) key: LogKey,
}

#[derive(Debug, Args)]
pub(crate) struct LogVerifyExportArgs {
    /// The folder
    pub(crate) dir: PathBuf,
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
    #[command(flatten)]
    pub(crate) key: LogKey,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it: the only time that it can be seen
    Create(TokenCreateArgs),
    /// List all tokens, without their secrets
    List,
    /// Show how the keepers and their hardware tokens are (scope audit or admin)
    ///
    /// Each keeper holds one token, with an HSM or a YubiKey behind it. Ends with 9 if one cannot be reached, with 78 if one
    /// needs its operator, and with 10 if one has seen another log.
    Health,
    /// Revoke a token
    Revoke {
        /// The token's public id
        id: TokenId,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreateArgs {
    /// What it may do; may be given more than once
    #[arg(long = "scope", required = true, value_name = "sign|audit|admin")]
    pub(crate) scopes: Vec<Scope>,
    /// A repository it may ask for, or a prefix that ends in '/'; may be given more than once
    #[arg(long = "repository", value_name = "NAME")]
    pub(crate) repositories: Vec<String>,
    /// How long it is valid; at most 90d
    #[arg(long, value_name = "TIME", default_value = "30d")]
    pub(crate) expires: Span,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: String,
    /// Write the token to this new file, readable by you only, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List the signing keys
    List,
    /// Show one key, its evidence, and its public key as PEM
    Show {
        /// SHA-256 of its SubjectPublicKeyInfo
        id: KeyId,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DevArgs {
    /// Folder that holds the whole instance; the first start makes it, later starts go on with it
    #[arg(long, value_name = "DIR", default_value = ".chancery-dev")]
    pub(crate) dir: PathBuf,
    /// Address to listen on; port 0 takes a free one at the first start [first start: 127.0.0.1:4443]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// A registry to look digests up in; may be given more than once [first start: localhost:5000=http]
    #[arg(long = "registry", value_name = "HOST[=http|https]")]
    pub(crate) registries: Vec<RegistryArg>,
    /// A repository that may be signed, or a prefix that ends in '/'; may be given more than once
    /// [first start: everything in the registries]
    #[arg(long = "repository", value_name = "NAME")]
    pub(crate) repositories: Vec<String>,
    /// The SoftHSM module [first start: where the distribution puts it]
    #[arg(long, value_name = "FILE", env = "SOFTHSM2_MODULE")]
    pub(crate) pkcs11_module: Option<PathBuf>,
    /// Name of an environment variable that the keepers shall get too; may be given more than once
    #[arg(long = "keeper-env", value_name = "NAME")]
    pub(crate) keeper_env: Vec<String>,
    /// The log's name [first start: log.chancery.test]
    #[arg(long, value_name = "HOSTNAME")]
    pub(crate) origin: Option<Origin>,
}

/// A registry by its host, and how to speak to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegistryArg {
    pub(crate) host: String,
    pub(crate) scheme: String,
}

impl std::fmt::Display for RegistryArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.host, self.scheme)
    }
}

impl FromStr for RegistryArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, scheme) = text.split_once('=').unwrap_or((text, "https"));
        if scheme != "http" && scheme != "https" {
            return Err(format!("{scheme:?} is no scheme: write {host}=http or {host}=https"));
        }
        // A registry's host is whatever may stand before a repository's path.
        Repository::parse(&format!("{host}/x")).map_err(|e| e.to_string())?;
        Ok(Self { host: host.to_owned(), scheme: scheme.to_owned() })
    }
}

/// A length of time as people write it: a whole number and `s`, `m`, `h` or `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || "a time is a whole number and s, m, h or d, such as 30s, 10m or 2h".to_owned();
        let unit = text.chars().last().ok_or_else(bad)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(bad()),
        };
        let number = text.strip_suffix(unit).unwrap_or_default();
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let number: u32 = number.parse().map_err(|_| bad())?;
        Ok(Self(Duration::from_secs(u64::from(number) * seconds)))
    }
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
    use clap::CommandFactory;

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

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    fn sign(rest: &str) -> Result<SignArgs, clap::Error> {
        let image = format!("r.example/a@sha256:{}", "ab".repeat(32));
        match parse(&format!("chancery sign {image} --tag v1 {rest}"))?.command {
            Command::Sign(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    /// The texts that users get to see: the code before its tests, without its comments.
    fn messages(path: &std::path::Path, into: &mut Vec<String>) {
        if path.is_dir() {
            std::fs::read_dir(path).unwrap().for_each(|entry| messages(&entry.unwrap().path(), into));
            return;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        into.extend(code.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned));
    }

    /// Whether the grammar has the subcommands and options that these words begin with. Prose may follow.
    fn is_command(words: &[&str]) -> Result<(), String> {
        let mut command = Cli::command();
        command.build();
        let mut rest = words.iter();
        while command.has_subcommands() {
            let word = *rest.next().ok_or("it ends before its subcommand")?;
            command = command.find_subcommand(word).ok_or(format!("there is no {word:?}"))?.clone();
        }
        for option in rest.filter_map(|word| word.strip_prefix("--")) {
            let name = option.trim_end_matches([',', '.', ';', ':', ')']);
            command.get_opts().find(|o| o.get_long() == Some(name)).ok_or(format!("there is no --{name}"))?;
        }
        Ok(())
    }

    #[test]
    fn every_command_that_a_message_names_exists() {
        let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut lines = Vec::new();
        for place in ["src", "../chanceryd/src", "../../policy/src/cedar", "../../policy/src/decide.rs"] {
            messages(&own.join(place), &mut lines);
        }
        let mut named = 0;
        for line in lines {
            for (at, name) in line.match_indices("chancery ") {
                let behind = line.get(at + name.len()..).unwrap_or_default();
                let text = behind.split(['`', '"']).next().unwrap_or_default();
                let words: Vec<&str> =
                    text.split_whitespace().map(|w| w.trim_end_matches([',', ';'])).collect();
                if words.first().is_some_and(|word| word.bytes().all(|b| b.is_ascii_lowercase())) {
                    named += 1;
                    is_command(&words).unwrap_or_else(|why| panic!("{why} in: {line}"));
                }
            }
        }
        assert!(named > 15, "only {named} commands were found: is this still how messages name them?");
        assert!(is_command(&["token", "touch"]).is_err() && is_command(&["log", "show", "--nope"]).is_err());
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn waiting_takes_ten_minutes_a_given_time_or_none() {
        assert_eq!(sign("").unwrap().wait, None);
        assert_eq!(sign("--wait").unwrap().wait, Some(Span(Duration::from_secs(600))));
        assert_eq!(sign("--wait=30s").unwrap().wait, Some(Span(Duration::from_secs(30))));
        assert!(sign("--no-wait").unwrap().no_wait);
        assert!(sign("--wait=1h --no-wait").is_err());
        assert!(sign("--wait=soon").is_err());
    }

    #[test]
    fn an_idempotency_key_is_parsed_before_anything_is_sent() {
        assert_eq!(sign("--idempotency-key ci-17").unwrap().idempotency_key.unwrap().as_str(), "ci-17");
        assert!(sign("--idempotency-key ci/17").is_err());
        assert!(sign("--idempotency-key=").is_err());
    }

    #[test]
    fn an_image_is_named_by_digest_only() {
        assert!(parse("chancery sign r.example/a:v1 --tag v1").is_err());
    }

    #[test]
    fn no_argument_takes_a_token() {
        assert!(parse("chancery --token chy_a_b version").is_err());
        let help = Cli::command().render_long_help().to_string();
        assert!(!help.contains("--token "), "{help}");
    }

    #[test]
    fn everything_after_serve_belongs_to_the_daemon() {
        let Command::Serve(forward) = parse("chancery serve --config F --help -o x").unwrap().command else {
            panic!("not serve")
        };
        assert_eq!(forward.args, ["--config", "F", "--help", "-o", "x"]);
    }

    #[test]
    fn times_are_whole_numbers_with_a_unit() {
        for (text, seconds) in [("30s", 30), ("10m", 600), ("2h", 7200), ("90d", 7_776_000)] {
            assert_eq!(text.parse::<Span>().unwrap().0.as_secs(), seconds);
        }
        for bad in ["", "s", "10", "-1s", "1.5h", "1 h", "99999999999d", "5ä"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_registry_is_spoken_to_over_https_unless_told_otherwise() {
        let registry = |t: &str| t.parse::<RegistryArg>().map(|r| (r.host, r.scheme));
        assert_eq!(registry("localhost:5000=http").unwrap(), ("localhost:5000".into(), "http".into()));
        assert_eq!(registry("r.example").unwrap().1, "https");
        assert!(registry("r.example=ftp").is_err() && registry("R.example").is_err());
    }
}
