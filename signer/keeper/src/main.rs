//! `chancery-keeper`: holds keys in hardware; one process a token.

use clap::{Args, Parser, Subcommand};
use keeper::admin::{self, Algorithm};
use keeper::config::Config;
use keeper::exit::Fatal;
use keeper::token::CkaId;
use keeper::{log, process, sign};
use record::Origin;
use std::path::PathBuf;
use std::process::ExitCode;

/// Holds keys in hardware, one process a token: the log's key and second copy, or signing keys.
#[derive(Parser)]
#[command(name = "chancery-keeper", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create the keeper's state. Refuses when there is any.
    Init(ConfigArgs),
    /// Serve until SIGTERM.
    Serve(ConfigArgs),
    /// Work on a token or a keeper's state, by its operator, on its host.
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
    /// Initialise the first empty token of a module, and set its PIN.
    TokenInit(TokenInitArgs),
    /// Generate a key that cannot leave its token.
    KeyGenerate(KeyGenerateArgs),
    /// List the keys of a token, with their attributes as read back.
    KeyList(TokenArgs),
    /// Let a stopped signing keeper work again that was shown a fork of its log.
    ClearFork(ConfigArgs),
}

#[derive(Args)]
struct TokenInitArgs {
    /// The PKCS#11 library.
    #[arg(long)]
    module: PathBuf,
    /// The label that the token gets.
    #[arg(long)]
    label: String,
    /// File with the security officer's PIN (mode 0600).
    #[arg(long)]
    so_pin_file: PathBuf,
    /// File with the user's PIN (mode 0600).
    #[arg(long)]
    pin_file: PathBuf,
}

#[derive(Args)]
struct TokenArgs {
    /// The PKCS#11 library.
    #[arg(long)]
    module: PathBuf,
    /// The token's label.
    #[arg(long)]
    token_label: String,
    /// File with the user's PIN (mode 0600).
    #[arg(long)]
    pin_file: PathBuf,
}

#[derive(Args)]
struct KeyGenerateArgs {
    #[command(flatten)]
    token: TokenArgs,
    /// The key's CKA_ID in hex, such as 02.
    #[arg(long)]
    id: CkaId,
    /// The key's label.
    #[arg(long)]
    label: String,
    /// The kind of key.
    #[arg(long = "type", value_enum)]
    algorithm: Algorithm,
    /// For a log key: the log's name, to print its verifier key.
    #[arg(long)]
    origin: Option<Origin>,
}

fn main() -> ExitCode {
    process::end_on_panic();
    process::log_to_stderr();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => fatal.end(),
    }
}

fn run() -> Result<(), Fatal> {
    process::harden()?;
    process::follow_parent()?;
    match Cli::parse().command {
        Command::Init(args) => match Config::read(&args.config)? {
            Config::Log(config) => log::init(&config),
            Config::Sign(config) => sign::init(&config),
        },
        Command::Serve(args) => match Config::read(&args.config)? {
            Config::Log(config) => log::serve(config),
            Config::Sign(config) => sign::serve(config),
        },
        Command::Admin(command) => administer(command),
    }
}

fn administer(command: Admin) -> Result<(), Fatal> {
    match command {
        Admin::TokenInit(args) => {
            admin::token_init(&args.module, &args.label, &args.so_pin_file, &args.pin_file)
        }
        Admin::KeyGenerate(args) => admin::key_generate(
            &args.token.login(),
            &admin::NewKey { id: args.id, label: args.label, algorithm: args.algorithm, origin: args.origin },
        ),
        Admin::KeyList(args) => admin::key_list(&args.login()),
        Admin::ClearFork(args) => match Config::read(&args.config)? {
            Config::Sign(config) => sign::clear_fork(&config),
            Config::Log(config) => {
                let why = "role: only a signing keeper notes a fork; a log keeper has nothing to clear";
                Err(Fatal::Config { file: config.file, why: why.into() })
            }
        },
    }
}

impl TokenArgs {
    fn login(&self) -> admin::Login<'_> {
        admin::Login { module: &self.module, label: &self.token_label, pin_file: &self.pin_file }
    }
}
