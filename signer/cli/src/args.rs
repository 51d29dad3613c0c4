//! The grammar of the command line.
//!
//! No argument carries a secret: every user of a machine can read the arguments of its processes.

use crate::exit;
use api::{IdempotencyKey, Scope};
use clap::{Args, Parser, Subcommand, ValueEnum};
use record::{ImageRef, KeyId, Origin, Repository, RequestId, Tag, TokenId};
use std::{ffi::OsString, path::PathBuf, str::FromStr, time::Duration};

mod backup;
mod log;
mod policy;
mod witness;

pub(crate) use backup::*;
pub(crate) use log::*;
pub(crate) use policy::*;
pub(crate) use witness::*;

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
    /// Check everything from the disk after a seal, and lift it when all is whole (runs chanceryd unseal)
    Unseal(Forward),
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
    /// Make, verify and restore backups
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Make, list and revoke API tokens (scope admin); health of the hardware tokens (scope audit or admin)
    #[command(subcommand)]
    Token(TokenCommand),
    /// Check, test and explain a policy folder, offline
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Look at the signing keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Retire a signing keeper that is lost
    #[command(subcommand)]
    Keeper(KeeperCommand),
    /// Check the connection, the server, the token and the keepers, with a remedy for what is wrong
    Doctor {
        /// A keeper's configuration on this host: also check its module or pcscd, its token, the PIN's tries and its keys
        #[arg(long = "keeper", value_name = "FILE")]
        keepers: Vec<PathBuf>,
    },
    /// Print the version
    Version,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeeperCommand {
    /// Close what a lost keeper has left open as unknown, with the daemon stopped (runs chanceryd keeper-retire)
    Retire(Forward),
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
    /// File with the OIDC token of this CI job; without it the environment variable CHANCERY_OIDC_TOKEN, and without any
    /// token the runner of GitHub Actions is asked for one
    #[arg(long, value_name = "FILE")]
    pub(crate) oidc_token_file: Option<PathBuf>,
    /// The audience that GitHub's runner is asked for; without it the server's URL
    #[arg(long, env = "CHANCERY_OIDC_AUDIENCE", value_name = "TEXT")]
    pub(crate) oidc_audience: Option<String>,
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
    /// The kind of the log's key; public witnesses take only ed25519 [first start: ed25519]
    #[arg(long, value_enum)]
    pub(crate) log_key: Option<LogKeyType>,
}

/// The kinds of key that a log can have.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogKeyType {
    #[default]
    Ed25519,
    P256,
}

impl LogKeyType {
    /// The word for `chancery-keeper admin key generate --type`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::P256 => "p256",
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

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
        // What is handed on to the daemon is in its grammar, not in this one.
        if command.get_positionals().any(|argument| argument.is_trailing_var_arg_set()) {
            return Ok(());
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
        for place in [
            "src",
            "../chanceryd/src",
            "../../policy/src/cedar",
            "../../policy/src/data",
            "../../policy/src/decide.rs",
        ] {
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
