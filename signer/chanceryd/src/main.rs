//! `chanceryd`: `init` makes a log, `serve` runs the daemon, `rebuild` refills a lost database, `unseal` checks everything
//! after a seal, `backup` makes backups and restores them, `admin-token` lets an operator in again when every
//! administrator's token has ended, `keeper-retire` closes what a lost signing keeper has left open.

use chanceryd::{Config, Fatal, Former, Witnesses};
use clap::{Parser, Subcommand};
use record::KeeperName;
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// How long threads may take that still wait for a disk when everything else has ended.
const STOP: Duration = Duration::from_secs(2);

/// The Chancery daemon: network, policy, log sequencing, publication. It holds no key, no PIN and no device.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a new log: an empty database, the genesis entry and the first administrator's token.
    Init {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
        /// Where the administrator's token is written; the file must not exist.
        #[arg(long)]
        admin_token_file: PathBuf,
        /// Where `trusted_root.json` is written, by which cosign believes this log; the file must not exist [default: standard
        /// output].
        #[arg(long)]
        trusted_root: Option<PathBuf>,
        /// No public witness shall ever cosign this log: its key may be on P-256, which they do not take.
        #[arg(long)]
        no_public_witnesses: bool,
        #[command(flatten)]
        former: Option<FormerArgs>,
    },
    /// Serve until SIGTERM or SIGINT.
    Serve {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// Refill a lost or older database from the log keeper's spool.
    Rebuild {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// Check everything from the disk after a seal, with the daemon stopped and the log keeper running, and lift the seal when
    /// all is whole.
    Unseal {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// Make a backup, or make the database anew from one.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Make an administrator's token, with the daemon stopped and the log keeper running: for when none is left.
    AdminToken {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
        /// Where the token is written; the file must not exist.
        #[arg(long)]
        out: PathBuf,
    },
    /// Close what a lost signing keeper has left open as unknown, with the daemon stopped, the log keeper running, and the
    /// keeper no more in the configuration.
    KeeperRetire {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
        /// The keeper's name.
        #[arg(value_parser = KeeperName::parse)]
        keeper: KeeperName,
    },
}

/// The log that the new one continues: its collections go on with their keys and versions.
#[derive(clap::Args)]
#[group(multiple = true)]
struct FormerArgs {
    /// The last note of a log that has ended, in a file: the new log continues it.
    #[arg(long, value_name = "NOTE", required = false, requires_all = ["former_vkey", "former", "reason"])]
    continues: PathBuf,
    /// The verifier key of that log.
    #[arg(long, value_name = "VKEY", required = false, requires = "continues")]
    former_vkey: String,
    /// The data folder of its daemon, which does not run. It is only read.
    #[arg(long, value_name = "FOLDER", required = false, requires = "continues")]
    former: PathBuf,
    /// Why it ended, in one sentence: it stands in the new log's first entry for ever.
    #[arg(long, value_name = "TEXT", required = false, requires = "continues")]
    reason: String,
    /// A collection of that log that is not taken over: its files are damaged. It begins anew under another name. May be given
    /// several times.
    #[arg(long, value_name = "REPOSITORY", requires = "continues")]
    without: Vec<record::Repository>,
}

#[derive(Subcommand)]
enum BackupCommand {
    /// Write a backup, also while the daemon serves; into a folder that has one it adds what is new.
    Create {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
        /// The folder: a new one, or one that holds a backup of this log.
        #[arg(long)]
        out: PathBuf,
    },
    /// Verify a backup and make the database from it, in a data folder that is empty or absent.
    Restore {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
        /// The backup's folder.
        #[arg(long)]
        from: PathBuf,
    },
}

fn main() -> ExitCode {
    chanceryd::start_logging();
    let args = Args::parse();
    match chanceryd::harden().and_then(|()| run(args.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            tracing::error!(code = fatal.exit_code(), "{fatal}");
            ExitCode::from(fatal.exit_code())
        }
    }
}

fn run(command: Command) -> Result<(), Fatal> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Fatal::Unavailable { what: "threads".into(), why: e.to_string() })?;
    let ended = runtime.block_on(async {
        match command {
            Command::Init { config, admin_token_file, trusted_root, no_public_witnesses, former } => {
                let witnesses = if no_public_witnesses { Witnesses::OwnOnly } else { Witnesses::Public };
                let former = former.map(|f| Former {
                    note: f.continues,
                    vkey: f.former_vkey,
                    data: f.former,
                    reason: f.reason,
                    without: f.without,
                });
                let config = Config::read(&config)?;
                let made = chanceryd::init(&config, &admin_token_file, witnesses, former.as_ref()).await?;
                chanceryd::write_trusted_root(&made, trusted_root.as_deref())
            }
            Command::Serve { config } => {
                let (config, digest) = Config::read_with_digest(&config)?;
                chanceryd::serve(&config, digest).await
            }
            Command::Rebuild { config } => chanceryd::rebuild(&Config::read(&config)?).await,
            Command::Unseal { config } => chanceryd::unseal(&Config::read(&config)?).await,
            Command::Backup(BackupCommand::Create { config, out }) => {
                chanceryd::create_backup(&Config::read(&config)?, &out).await
            }
            Command::Backup(BackupCommand::Restore { config, from }) => {
                chanceryd::restore_backup(&Config::read(&config)?, &from).await
            }
            Command::KeeperRetire { config, keeper } => {
                chanceryd::retire_keeper(&Config::read(&config)?, &keeper).await
            }
            Command::AdminToken { config, out } => {
                chanceryd::admin_token_for_operator(&Config::read(&config)?, &out).await
            }
        }
    });
    // A thread that hangs in the dead network file system of a mirror must not keep the process.
    runtime.shutdown_timeout(STOP);
    ended
}
