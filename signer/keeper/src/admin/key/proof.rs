//! That a key signs, and that its public half is its own: shown by one signature of a text that means nothing.
//!
//! The text is no metadata, no certificate and no note, and is different every time. The key stands in no charter yet,
//! so this signature is outside the log: it is the only one that is.

use crate::token::Found;
use cryptoki::mechanism::Mechanism;
use cryptoki::session::Session;
use record::{Nonce, Sha256, Signature, Spki};

/// What goes before the nonce. JSON, DER and notes begin otherwise.
const TEXT: &str = "chancery-keeper admin: a test of this key, and nothing else\n";

/// Has the key sign a test text, and verifies that with its public half; else why not.
pub(super) fn signs(session: &Session, found: &Found, spki: &Spki) -> Result<(), String> {
    let nonce = Nonce::random().map_err(|e| e.to_string())?;
    let digest = Sha256::of(format!("{TEXT}{nonce}\n").as_bytes());
    let made = session
        .sign(&Mechanism::Ecdsa, found.handle, digest.as_bytes())
        .map_err(|e| format!("it makes no test signature: {e}"))?;
    if Signature::from_raw(&made).is_ok_and(|signature| spki.verifies(&digest, &signature)) {
        return Ok(());
    }
    Err("its test signature does not verify with its public half: look at the token before anything uses it"
        .into())
}
