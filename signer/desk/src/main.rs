//! `chancery-desk`: what people do with their own YubiKeys at their own desks. They see what they sign, from the bytes
//! that they sign, and sign it with a touch.
//!
//! It promises: nothing is signed that was not shown before; what is shown was parsed from exactly the bytes that are signed;
//! the PIN is tried once; no file is overwritten. It does not know the service: documents come and go as files.

mod card;
mod files;
mod roster;
mod show;
mod statement;

use card::CardArgs;
use clap::{Parser, Subcommand};
use keeper::exit::Fatal;
use keeper::process;
use record::Sha256;
use std::path::PathBuf;
use std::process::ExitCode;

/// What people do with their own YubiKeys: see and sign approvals and rosters.
#[derive(Parser)]
#[command(name = "chancery-desk", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what a statement, an approval or a roster says. Nothing is verified.
    Show {
        /// The document.
        file: PathBuf,
        /// A roster to compare with: only what differs is shown.
        #[arg(long, value_name = "ROSTER")]
        before: Option<PathBuf>,
    },
    /// Print a key of a card as rosters have it, if the card proves that it was made there and wants touches. No PIN is tried.
    Key {
        #[command(flatten)]
        card: CardArgs,
    },
    /// Show a statement and sign it: an approval of the change, or a rejection.
    Approve {
        /// The statement.
        statement: PathBuf,
        /// Reject the change instead.
        #[arg(long)]
        reject: bool,
        /// The six digits that another screen shows for the change; others than this statement's refuse it.
        #[arg(long, value_name = "DIGITS")]
        code: Option<String>,
        /// A new file for what was signed.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        card: CardArgs,
        #[command(flatten)]
        pin: card::PinArgs,
    },
    /// Rosters: who the people are.
    #[command(subcommand)]
    Roster(RosterCommand),
}

#[derive(Subcommand)]
enum RosterCommand {
    /// Make a roster, without signatures, of a JSON file in any spelling; print its SHA-256, which pins version 1 in charters.
    Draft {
        /// What the roster says.
        content: PathBuf,
        /// A new file for the roster.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Show what a roster changes, and add a signature to it.
    Sign {
        /// The roster, with the signatures that it has.
        roster: PathBuf,
        /// The roster in force, whose people sign.
        #[arg(long, value_name = "ROSTER")]
        before: PathBuf,
        /// A new file for the roster with one signature more.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        card: CardArgs,
        #[command(flatten)]
        pin: card::PinArgs,
    },
    /// Verify that rosters follow each other from the pinned one on; ends with 10 where they do not.
    Verify {
        /// SHA-256 of version 1.
        pin: Sha256,
        /// Signed rosters, in the order of their versions.
        #[arg(required = true)]
        rosters: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    process::log_to_stderr();
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(fatal) => fatal.end(),
    }
}

fn run() -> Result<u8, Fatal> {
    process::harden()?;
    match Cli::parse().command {
        Command::Show { file, before } => show::run(&file, before.as_deref())?,
        Command::Key { card } => roster::key(&card.key()?)?,
        Command::Approve { statement, reject, code, out, card, pin } => {
            statement::approve(&statement, reject, code.as_deref(), &out, &card, pin)?;
        }
        Command::Roster(RosterCommand::Draft { content, out }) => roster::draft(&content, &out)?,
        Command::Roster(RosterCommand::Sign { roster, before, out, card, pin }) => {
            roster::sign(&roster, &before, &out, &card, pin)?;
        }
        Command::Roster(RosterCommand::Verify { pin, rosters }) => return roster::verify(pin, &rosters),
    }
    Ok(0)
}
