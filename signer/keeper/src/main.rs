//! `chancery-keeper`: holds keys in hardware; one process a token.

use clap::{Args, Parser, Subcommand};
use keeper::admin::enrol;
use keeper::admin::key::{self, Algorithm, NewKey};
use keeper::admin::piv::{self, Device, DeviceArgs, Key, Keys, PlaceArgs, SetupArgs};
use keeper::admin::{Format, Grant, LoginArgs, PinArgs, token};
use keeper::config::{Config, SignConfig};
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
    /// Tokens of a PKCS#11 module, and YubiKeys.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Keys of a token, and their entries in a charter.
    #[command(subcommand)]
    Key(KeyCommand),
    /// A YubiKey's PIV application.
    #[command(subcommand)]
    Piv(PivCommand),
    /// Have a stopped signing keeper take signed rosters, in the order of their versions, and show the one in force. A running
    /// one takes them from its daemon.
    Roster {
        #[command(flatten)]
        config: ConfigArgs,
        /// Signed rosters; none to look only.
        #[arg(value_name = "FILE")]
        rosters: Vec<PathBuf>,
    },
    /// Let a stopped signing keeper work again that was shown a fork of its log.
    ClearFork(ConfigArgs),
    /// Have a stopped signing keeper follow another log, after the end of the one that it followed. Its charter already names
    /// the new log. What it has signed stays in its memory: no version falls.
    FollowLog {
        #[command(flatten)]
        config: ConfigArgs,
        /// The name of the log that it has followed.
        #[arg(long, value_name = "NAME")]
        former_origin: Origin,
        /// Give up what the former log has not closed: signatures of it may exist, and are named.
        #[arg(long)]
        abandon_open: bool,
    },
}

#[derive(Subcommand)]
enum TokenCommand {
    /// List every slot of a module, with the token in it, or every YubiKey in a reader. No PIN is tried.
    List {
        /// The PKCS#11 library.
        #[arg(long, value_name = "FILE", required_unless_present = "piv")]
        module: Option<PathBuf>,
        /// Instead of a library's tokens: the YubiKeys that PC/SC has.
        #[arg(long, conflicts_with = "module")]
        piv: bool,
    },
    /// Show a token: how it is and what it can do; with its PIN also its keys, which a YubiKey shows without.
    Show {
        #[command(flatten)]
        device: DeviceArgs,
        /// File with the user's PIN (mode 0600).
        #[arg(long, value_name = "FILE", requires = "module")]
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
    /// Pin a token by its serial number: print a configuration's [token] table, or write it. No PIN is tried.
    Enrol {
        #[command(flatten)]
        device: DeviceArgs,
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
    /// Generate a key that cannot leave its token, and add it to a charter if one is given. For YubiKeys: piv setup.
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
        device: DeviceArgs,
        #[command(flatten)]
        place: PlaceArgs,
        /// File with the user's PIN (mode 0600).
        #[arg(long, value_name = "FILE")]
        pin_file: PathBuf,
        #[command(flatten)]
        grant: Grant,
    },
    /// List the keys of a token, with their attributes as read back, or their attestation.
    List {
        #[command(flatten)]
        device: DeviceArgs,
        /// File with the user's PIN (mode 0600); a YubiKey shows its keys without.
        #[arg(
            long,
            value_name = "FILE",
            required_unless_present = "piv_serial",
            conflicts_with = "piv_serial"
        )]
        pin_file: Option<PathBuf>,
        /// Also tell what this charter says of each.
        #[arg(long, value_name = "FILE")]
        charter: Option<PathBuf>,
    },
    /// Show one key of a token.
    Show {
        #[command(flatten)]
        device: DeviceArgs,
        #[command(flatten)]
        place: PlaceArgs,
        /// File with the user's PIN (mode 0600); a YubiKey shows its keys without.
        #[arg(
            long,
            value_name = "FILE",
            required_unless_present = "piv_serial",
            conflicts_with = "piv_serial"
        )]
        pin_file: Option<PathBuf>,
        /// Also tell what this charter says of it.
        #[arg(long, value_name = "FILE")]
        charter: Option<PathBuf>,
    },
    /// Print the evidence for a key, and what it does not prove.
    Attest {
        #[command(flatten)]
        device: DeviceArgs,
        #[command(flatten)]
        place: PlaceArgs,
        /// File with the user's PIN (mode 0600); a YubiKey proves its keys without.
        #[arg(
            long,
            value_name = "FILE",
            required_unless_present = "piv_serial",
            conflicts_with = "piv_serial"
        )]
        pin_file: Option<PathBuf>,
        /// On a YubiKey: a new folder for the certificates and a statement, for auditors.
        #[arg(long, value_name = "FOLDER", requires = "piv_serial")]
        out: Option<PathBuf>,
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

#[derive(Subcommand)]
enum PivCommand {
    /// Set a YubiKey up: change its PIN, PUK and management key, make a key on it, and have that proven by attestation; with
    /// --charter the key is tested and added to a charter. After an interruption the same command goes on. A slot that has
    /// a key, and f9, are never touched; on a card that is set up, another slot gets another key.
    Setup(SetupArgs),
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
        Admin::Piv(PivCommand::Setup(args)) => piv::setup(&args, output),
        Admin::Roster { config, rosters } => {
            let why = "role: only a signing keeper counts approvals; a log keeper has no roster";
            sign::roster(&signing(&config, why)?, &rosters, output)
        }
        Admin::ClearFork(args) => {
            let why = "role: only a signing keeper notes a fork; a log keeper has nothing to clear";
            sign::clear_fork(&signing(&args, why)?)
        }
        Admin::FollowLog { config, former_origin, abandon_open } => {
            let why = "role: only a signing keeper follows a log; another log needs a log keeper with a state of its own";
            sign::follow_log(&signing(&config, why)?, &former_origin, abandon_open, output)
        }
    }
}

/// The configuration of a signing keeper; for a log keeper's, why that cannot be meant.
fn signing(args: &ConfigArgs, otherwise: &str) -> Result<SignConfig, Fatal> {
    match Config::read(&args.config)? {
        Config::Sign(config) => Ok(config),
        Config::Log(config) => Err(Fatal::Config { file: config.file, why: otherwise.into() }),
    }
}

fn administer_token(command: TokenCommand, output: Option<Format>) -> Result<(), Fatal> {
    match command {
        TokenCommand::List { module: Some(module), .. } => token::list(&module, output),
        TokenCommand::List { module: None, .. } => piv::list(output),
        TokenCommand::Show { device, pin_file } => match device.device() {
            Device::Token(token) => token::show(&token, pin_file.as_deref(), output),
            Device::YubiKey(card) => piv::show(&card, output),
        },
        TokenCommand::Init { module, label, so_pin_file, pin_file } => {
            token::init(&module, &label, &so_pin_file, &pin_file, output)
        }
        TokenCommand::Enrol { device, pin, config, write: _ } => match device.device() {
            Device::Token(token) => enrol::run(&token, &pin, config.as_deref(), output),
            Device::YubiKey(card) => piv::enrol(&card, &pin, config.as_deref(), output),
        },
    }
}

fn administer_key(command: KeyCommand, output: Option<Format>) -> Result<(), Fatal> {
    match command {
        KeyCommand::Generate { login, id, label, algorithm, origin, grant } => {
            key::generate(&login, &NewKey { id, label, algorithm, origin }, grant.as_ref(), output)
        }
        KeyCommand::ImportPublic { device, place, pin_file, grant } => {
            match device.key(place, Some(pin_file.clone()))? {
                Key::InToken(login, id) => key::import_public(&login, &id, &grant, output),
                Key::OnCard(card, slot) => piv::import_public(&card, slot, &pin_file, &grant, output),
            }
        }
        KeyCommand::List { device, pin_file, charter } => match device.keys(pin_file) {
            Keys::InToken(login) => key::list(&login, charter.as_deref(), output),
            Keys::OnCard(card) => piv::keys(&card, charter.as_deref(), output),
        },
        KeyCommand::Show { device, place, pin_file, charter } => match device.key(place, pin_file)? {
            Key::InToken(login, id) => key::show(&login, &id, charter.as_deref(), output),
            Key::OnCard(card, slot) => piv::key(&card, slot, charter.as_deref(), output),
        },
        KeyCommand::Attest { device, place, pin_file, out } => match device.key(place, pin_file)? {
            Key::InToken(login, id) => key::attest(&login, &id, output),
            Key::OnCard(card, slot) => piv::attest(&card, slot, out.as_deref(), output),
        },
        KeyCommand::Retire { key, charter } => key::retire(&charter, &key, output),
    }
}
