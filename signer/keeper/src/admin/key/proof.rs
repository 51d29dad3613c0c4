//! That a key signs, and that its public half is its own: shown by one signature of a text that means nothing.
//!
//! The text is no metadata, no certificate and no note, and is different every time. The key stands in no charter yet,
//! so this signature is outside the log: it is the only one that is.

use super::super::Open;
use crate::exit::Fatal;
use crate::token::{Found, RawSign};
use cryptoki::mechanism::Mechanism;
use record::{Nonce, Sha256, Signature, Spki};
use std::path::Path;

/// What goes before the nonce. JSON, DER and notes begin otherwise.
const TEXT: &str = "chancery-keeper admin: a test of this key, and nothing else\n";

/// The digest of a test text.
pub(crate) fn digest() -> Result<Sha256, String> {
    let nonce = Nonce::random().map_err(|e| e.to_string())?;
    Ok(Sha256::of(format!("{TEXT}{nonce}\n").as_bytes()))
}

/// Has the key sign a test text, and verifies that with its public half; `fault` names the key in an error. The same way
/// as a keeper signs, so that a key which wants the PIN at each use can show itself too.
pub(super) fn signs(
    open: &Open,
    module: &Path,
    found: &Found,
    spki: &Spki,
    fault: impl Fn(String) -> Fatal,
) -> Result<(), Fatal> {
    let (digest, raw) = (digest().map_err(&fault)?, RawSign::load(module).map_err(&fault)?);
    let unmade = |why: String| fault(format!("it makes no test signature: {why}"));
    let begun = open.session.sign_init(&Mechanism::Ecdsa, found.handle);
    begun.map_err(|e| unmade(e.to_string()))?;
    if found.always_authenticate {
        let given = open.login.context_specific(&open.present.context, open.present.slot, &open.session);
        given.map_err(|e| open.login.refused().unwrap_or_else(|| unmade(e.detail)))?;
    }
    let made = raw.sign(&open.session, digest.as_bytes()).map_err(|e| unmade(e.to_string()))?;
    if Signature::from_raw(&made).is_ok_and(|signature| spki.verifies(&digest, &signature)) {
        return Ok(());
    }
    Err(fault(
        "its test signature does not verify with its public half: look at the token before anything uses it"
            .into(),
    ))
}
