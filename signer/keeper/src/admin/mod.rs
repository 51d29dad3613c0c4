//! What an operator does to a token and a charter, on the keeper's host and under its uid. Nothing of this can be asked
//! for over a socket.
//!
//! It promises: one document on standard output; a PIN is tried at most once, never when a wrong one could lock it, and
//! not at all where a command does not need it; a key is announced only after its attributes were read back, and its
//! charter entry written only after a test signature of it was verified. It does not know: logs, journals, the daemon.
//!
//! One file a noun: [`token`] looks at tokens and initialises them, [`enrol`] pins one in a configuration, [`key`] makes
//! keys usable, `charter` writes what a keeper is allowed. [`piv`] has the same for YubiKeys, and sets them up.

mod charter;
mod edit;
pub mod enrol;
pub mod key;
pub mod piv;
pub(crate) mod report;
pub mod token;

pub use charter::Grant;
pub use enrol::PinArgs;
pub use report::Format;

use crate::exit::Fatal;
use crate::token::{Login, Pin, initialize, load, unusable};
use cryptoki::context::Pkcs11;
use cryptoki::session::Session;
use cryptoki::slot::{Slot, TokenInfo};
use std::path::{Path, PathBuf};

/// One token of a module.
#[derive(Debug, Clone, clap::Args)]
pub struct TokenArgs {
    /// The PKCS#11 library.
    #[arg(long, value_name = "FILE")]
    pub module: PathBuf,
    /// The token's label.
    #[arg(long, value_name = "LABEL")]
    pub token_label: String,
    /// The token's serial number, where several have the label.
    #[arg(long, value_name = "SERIAL")]
    pub serial: Option<String>,
}

/// One token, and its PIN.
#[derive(Debug, Clone, clap::Args)]
pub struct LoginArgs {
    #[command(flatten)]
    /// The token.
    pub token: TokenArgs,
    /// File with the user's PIN (mode 0600).
    #[arg(long, value_name = "FILE")]
    pub pin_file: PathBuf,
}

/// A token that was found.
pub(crate) struct Present {
    pub(crate) context: Pkcs11,
    pub(crate) slot: Slot,
    pub(crate) info: TokenInfo,
}

/// A session of a token that is logged in.
struct Open {
    present: Present,
    session: Session,
    /// For keys that want the PIN at each use.
    login: Login,
}

impl TokenArgs {
    /// Finds the token, without a login.
    pub(crate) fn find(&self) -> Result<Present, Fatal> {
        let context = load(&self.module, &self.token_label)?;
        initialize(&context, &self.token_label)?;
        let (slot, info) = find(&context, &self.token_label, self.serial.as_deref())?;
        Ok(Present { context, slot, info })
    }

    fn broken(&self, error: &cryptoki::error::Error) -> Fatal {
        unusable(&self.token_label, error)
    }
}

/// The one token with this label, and with this serial number if it is given. Of several none is taken.
pub(crate) fn find(context: &Pkcs11, label: &str, serial: Option<&str>) -> Result<(Slot, TokenInfo), Fatal> {
    let fault = |why: String| Fatal::Token { token: label.to_owned(), why };
    let slots = context.get_slots_with_initialized_token().map_err(|e| unusable(label, &e))?;
    let named = slots.into_iter().filter_map(|slot| Some((slot, context.get_token_info(slot).ok()?)));
    let mut named: Vec<_> = named.filter(|(_, info)| info.label() == label).collect();
    let serials: Vec<String> = named.iter().map(|(_, info)| info.serial_number().to_owned()).collect();
    named.retain(|(_, info)| serial.is_none_or(|serial| serial == info.serial_number()));
    match (named.len(), serials.as_slice()) {
        (1, _) => named.pop().ok_or_else(|| fault("it went away".into())),
        (0, []) => Err(fault(
            "no such token is present: connect it, or take a label that `chancery-keeper admin token list` shows"
                .into(),
        )),
        (0, _) => Err(fault(format!(
            "the token with this label has the serial number {}, not {}: connect the right one, or correct the serial",
            serials.join(" or "),
            serial.unwrap_or_default()
        ))),
        (many, _) => Err(fault(format!(
            "{many} tokens have this label: say which by its serial number, {}",
            serials.join(" or ")
        ))),
    }
}

impl LoginArgs {
    /// A session that may write, logged in with one try of the PIN.
    fn open(&self) -> Result<Open, Fatal> {
        let pin = Pin::from_file(&self.pin_file)?;
        let present = self.token.find()?;
        let session = present.context.open_rw_session(present.slot).map_err(|e| self.token.broken(&e))?;
        let login = Login::new(self.label(), pin);
        login.user(&present.context, present.slot, &session)?;
        Ok(Open { present, session, login })
    }

    fn label(&self) -> &str {
        &self.token.token_label
    }
}

/// A file's name for texts.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The name of a file until it becomes `path`: beside it, and no other file's.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".unfinished-{}", std::process::id()));
    name.into()
}
