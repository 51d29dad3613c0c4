//! `chancery-keeper`: holds keys in hardware; one process a token.

use clap::{Args, Parser, Subcommand};
use keeper::admin::enrol::{self, PinArgs};
use keeper::admin::key::{self, Algorithm, NewKey};
use keeper::admin::{Format, Grant, LoginArgs, TokenArgs, token};
use keeper::config::Config;
use keeper::exit::Fatal;
use keeper::token::CkaId;
use keeper::{doctor, log, process, sign};
use record::{KeyId, Origin};
use std::path::PathBuf;
use std::process::ExitCode;

/// Holds keys in hardware, one process a token: the log's key and second copy, or signing keys.
#[derive(Parser)]
#[command(name = "chancery-keeper", version)]
struct Cli {
    /// How an operator's command writes its result [default: text at a terminal, else json].
    #[arg(short, long, global = true, value_enum)]
    output: Option<Format>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one exists in a process; boxing would only add noise")]
enum Command {
    /// Create the keeper's state. Refuses when there is any.
    Init(ConfigArgs),
    /// Serve until SIGTERM.
    Serve(ConfigArgs),
    /// Check what the keeper needs on this host, with a remedy for what is wrong; the exit code is the worst one's.
    Doctor {
        #[command(flatten)]
        config: ConfigArgs,
        /// Try the PIN, once, to read the keys' attributes. Without it no PIN is tried.
        #[arg(long)]
        login: bool,
    },
    /// Work on a token, a charter or a keeper's state, by its operator, on its host.
    #[command(subcommand)]
    Admin(Admin),
}

#[derive(Args)]
struct ConfigArgs {
    /// The keeper's configuration.
    #[arg(long)]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Admin {
    /// Tokens of a PKCS#11 module.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Keys of a token, and their entries in a charter.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Let a stopped signing keeper work again that was shown a fork of its log.
    ClearFork(ConfigArgs),
}

#[derive(Subcommand)]
enum TokenCommand {
    /// List every slot of a module, with the token in it. No PIN is tried.
    List {
        /// The PKCS#11 library.
        #[arg(long, value_name = "FILE")]
        module: PathBuf,
    },
    /// Show a token: how it is and what it can do; with its PIN also its keys.
    Show {
        #[command(flatten)]
        token: TokenArgs,
        /// File with the user's PIN (mode 0600).
        #[arg(long, value_name = "FILE")]
        pin_file: Option<PathBuf>,
    },
    /// Initialise the first empty token of a module, and set its PIN.
    Init {
        /// The PKCS#11 library.
        #[arg(long, value_name = "FILE")]
        module: PathBuf,
        /// The label that the token gets.
        #[arg(long)]
        label: String,
        /// File with the security officer's PIN (mode 0600).
        #[arg(long, value_name = "FILE")]
        so_pin_file: PathBuf,
        /// File with the user's PIN (mode 0600).
        #[arg(long, value_name = "FILE")]
        pin_file: PathBuf,
    },
    /// Pin a token by label and serial number: print a configuration's [token] table, or write it. No PIN is tried.
    Enrol {
        #[command(flatten)]
        token: TokenArgs,
        #[command(flatten)]
        pin: PinArgs,
        /// The keeper's configuration.
        #[arg(long, value_name = "FILE", requires = "write")]
        config: Option<PathBuf>,
        /// Write the table into the configuration.
        #[arg(long, requires = "config")]
        write: bool,
    },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Generate a key that cannot leave its token, and add it to a charter if one is given.
    Generate {
        #[command(flatten)]
        login: LoginArgs,
        /// The key's CKA_ID in hex, such as 02.
        #[arg(long)]
        id: CkaId,
        /// The key's label.
        #[arg(long)]
        label: String,
        /// The kind of key.
        #[arg(long = "type", value_enum, default_value_t = Algorithm::P256)]
        algorithm: Algorithm,
        /// For a log key: the log's name, to print its verifier key.
        #[arg(long)]
        origin: Option<Origin>,
        #[command(flatten)]
        grant: Option<Grant>,
    },
    /// Add a key to a charter that is in the token already, made by other tools.
    ImportPublic {
        #[command(flatten)]
        login: LoginArgs,
        /// The key's CKA_ID in hex, such as 02.
        #[arg(long)]
        id: CkaId,
        #[command(flatten)]
        grant: Grant,
    },
    /// List the keys of a token, with their attributes as read back.
    List {
        #[command(flatten)]
        login: LoginArgs,
        /// Also tell what this charter says of each.
        #[arg(long, value_name = "FILE")]
        charter: Option<PathBuf>,
    },
    /// Show one key of a token.
    Show {
        #[command(flatten)]
        login: LoginArgs,
        /// The key's CKA_ID in hex, such as 02.
        #[arg(long)]
        id: CkaId,
        /// Also tell what this charter says of it.
        #[arg(long, value_name = "FILE")]
        charter: Option<PathBuf>,
    },
    /// Print the evidence for a key, and what it does not prove.
    Attest {
        #[command(flatten)]
        login: LoginArgs,
        /// The key's CKA_ID in hex, such as 02.
        #[arg(long)]
        id: CkaId,
    },
    /// Mark a key as retired in its charter: it never signs again. The token keeps the key.
    Retire {
        /// The key: SHA-256 of its SubjectPublicKeyInfo.
        key: KeyId,
        /// The charter.
        #[arg(long, value_name = "FILE")]
        charter: PathBuf,
    },
}

fn main() -> ExitCode {
    process::end_on_panic();
    process::log_to_stderr();
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(fatal) => fatal.end(),
    }
}

fn run() -> Result<u8, Fatal> {
    process::harden()?;
    process::follow_parent()?;
    let Cli { command, output } = Cli::parse();
    match command {
        Command::Init(args) => match Config::read(&args.config)? {
            Config::Log(config) => log::init(&config)?,
            Config::Sign(config) => sign::init(&config)?,
        },
        Command::Serve(args) => match Config::read(&args.config)? {
            Config::Log(config) => log::serve(config)?,
            Config::Sign(config) => sign::serve(config)?,
        },
        Command::Doctor { config, login } => return doctor::run(&config.config, login, output),
        Command::Admin(command) => administer(command, output)?,
    }
    Ok(0)
}

fn administer(command: Admin, output: Option<Format>) -> Result<(), Fatal> {
    match command {
        Admin::Token(command) => administer_token(command, output),
        Admin::Key(command) => administer_key(command, output),
        Admin::ClearFork(args) => match Config::read(&args.config)? {
            Config::Sign(config) => sign::clear_fork(&config),
            Config::Log(config) => {
                let why = "role: only a signing keeper notes a fork; a log keeper has nothing to clear";
                Err(Fatal::Config { file: config.file, why: why.into() })
            }
        },
    }
}

fn administer_token(command: TokenCommand, output: Option<Format>) -> Result<(), Fatal> {
    match command {
        TokenCommand::List { module } => token::list(&module, output),
        TokenCommand::Show { token, pin_file } => token::show(&token, pin_file.as_deref(), output),
        TokenCommand::Init { module, label, so_pin_file, pin_file } => {
            token::init(&module, &label, &so_pin_file, &pin_file, output)
        }
        TokenCommand::Enrol { token, pin, config, write: _ } => {
            enrol::run(&token, &pin, config.as_deref(), output)
        }
    }
}

fn administer_key(command: KeyCommand, output: Option<Format>) -> Result<(), Fatal> {
    match command {
        KeyCommand::Generate { login, id, label, algorithm, origin, grant } => {
            key::generate(&login, &NewKey { id, label, algorithm, origin }, grant.as_ref(), output)
        }
        KeyCommand::ImportPublic { login, id, grant } => key::import_public(&login, &id, &grant, output),
        KeyCommand::List { login, charter } => key::list(&login, charter.as_deref(), output),
        KeyCommand::Show { login, id, charter } => key::show(&login, &id, charter.as_deref(), output),
        KeyCommand::Attest { login, id } => key::attest(&login, &id, output),
        KeyCommand::Retire { key, charter } => key::retire(&charter, &key, output),
    }
}
