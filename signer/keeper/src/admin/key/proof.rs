//! That a key signs, and that its public half is its own: shown by one signature of a text that means nothing.
//!
//! The text is no metadata, no certificate and no note, and is different every time. The key stands in no charter yet,
//! so this signature is outside the log: it is the only one that is.

use crate::token::{Found, PublicKey, pss_sha256};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::session::Session;
use record::{Nonce, Sha256, Signature};

/// What goes before the nonce. JSON, DER and notes begin otherwise.
const TEXT: &str = "chancery-keeper admin: a test of this key, and nothing else\n";

/// Has the key sign a test text, and verifies that with its public half; else why not.
pub(super) fn signs(session: &Session, found: &Found) -> Result<(), String> {
    let nonce = Nonce::random().map_err(|e| e.to_string())?;
    let text = format!("{TEXT}{nonce}\n");
    let sign = |mechanism: Mechanism<'_>, data: &[u8]| {
        session.sign(&mechanism, found.handle, data).map_err(|e| format!("it makes no test signature: {e}"))
    };
    let right = match &found.public {
        PublicKey::P256(spki) => {
            let digest = Sha256::of(text.as_bytes());
            let made = sign(Mechanism::Ecdsa, digest.as_bytes())?;
            Signature::from_raw(&made).is_ok_and(|signature| spki.verifies(&digest, &signature))
        }
        PublicKey::P384(key) => {
            // 48 bytes of hashes stand for a digest: ECDSA signs what it is given.
            let (one, two) = (Sha256::of(text.as_bytes()), Sha256::of(TEXT.as_bytes()));
            let mut digest = [0; 48];
            one.as_bytes().iter().chain(two.as_bytes()).zip(&mut digest).for_each(|(from, to)| *to = *from);
            key.verifies(&digest, &sign(Mechanism::Ecdsa, &digest)?)
        }
        PublicKey::Rsa(key) => {
            let digest = Sha256::of(text.as_bytes());
            key.verifies(&digest, &sign(Mechanism::RsaPkcsPss(pss_sha256()), digest.as_bytes())?)
        }
        PublicKey::Ed25519(key) => {
            let made = sign(Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)), text.as_bytes())?;
            let signature = ed25519_dalek::Signature::from_slice(&made);
            let key = ed25519_dalek::VerifyingKey::from_bytes(key);
            matches!((key, signature), (Ok(key), Ok(signature)) if key.verify_strict(text.as_bytes(), &signature).is_ok())
        }
    };
    if right {
        Ok(())
    } else {
        Err("its test signature does not verify with its public half: look at the token before anything uses it".into())
    }
}
