//! Tokens, also those that should not be.

use crate::SigningKey;
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// How a token is signed.
#[derive(Debug, Clone, Copy)]
pub enum Signer<'a> {
    /// As it should be.
    Key(&'a SigningKey),
    /// HMAC-SHA-256 with what is public as the secret.
    HmacOfPublic(&'a SigningKey),
    /// Not at all: the third part is empty.
    Nobody,
}

/// A token in its compact form, of texts that need not be JSON.
pub fn compact(header: &str, claims: &str, signer: Signer<'_>) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = match signer {
        Signer::Key(key) => key.sign(message.as_bytes()),
        Signer::HmacOfPublic(key) => {
            let secret = hmac::Key::new(hmac::HMAC_SHA256, &key.public_bytes());
            hmac::sign(&secret, message.as_bytes()).as_ref().to_vec()
        }
        Signer::Nobody => Vec::new(),
    };
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}
