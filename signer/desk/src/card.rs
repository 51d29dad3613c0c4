//! The person's card.

use clap::Args;
use keeper::admin::piv::{DemandArgs, PersonalKey, PivArgs};
use keeper::config::PinSource;
use keeper::exit::Fatal;
use keeper::token::TouchWait;
use record::PivSlot;
use std::io::Write;
use std::path::PathBuf;

/// A key on a YubiKey.
#[derive(Debug, Args)]
pub(crate) struct CardArgs {
    /// The YubiKey's serial number.
    #[arg(long, value_name = "SERIAL")]
    piv_serial: u32,
    /// The key's slot.
    #[arg(long, default_value = "9c")]
    slot: PivSlot,
    #[command(flatten)]
    demands: DemandArgs,
}

/// Where the PIN comes from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PinArgs {
    /// File with the PIN (mode 0600).
    #[arg(long, value_name = "FILE")]
    pin_file: Option<PathBuf>,
    /// A descriptor that this program is started with, and that gives the PIN: a pipe of a password manager.
    #[arg(long, value_name = "NUMBER")]
    pin_fd: Option<u32>,
}

impl CardArgs {
    /// The key, proven.
    pub(crate) fn key(&self) -> Result<PersonalKey, Fatal> {
        PersonalKey::on(&PivArgs::proving(self.piv_serial, &self.demands), self.slot)
    }
}

impl PinArgs {
    /// The source; the command line has exactly one.
    pub(crate) fn source(self) -> PinSource {
        match self.pin_fd {
            Some(fd) => PinSource::Fd(fd),
            None => PinSource::File(self.pin_file.unwrap_or_default()),
        }
    }
}

/// A signature (DER) of what was shown, with the person's touch.
pub(crate) fn sign(key: &PersonalKey, pin: PinArgs, message: &[u8], what: &str) -> Result<Vec<u8>, Fatal> {
    let waits = |TouchWait { serial, slot, within }: TouchWait| {
        // If nobody can read it, the card still blinks.
        let _unread = writeln!(
            std::io::stderr(),
            "Touch YubiKey {serial} (slot {slot}) within {} s to {what}",
            within.as_secs()
        );
    };
    Ok(key.sign(message, pin.source(), &waits)?.to_der())
}
