//! Assertions of WebAuthn (W3C Level 3, section 7.2) about a statement, verified offline.
//!
//! The challenge is a hash of the statement, so an assertion is evidence about it for ever, without the server that asked.
//! A page can show another change than the one that its challenge names: what this proves is a touch by a verified user
//! of that key, and no more. No CBOR is read: the key stands in the roster, and an assertion with extensions is refused.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use record::wire::Blob;
use record::{Algorithm, Sha256, Signature, Spki};
use serde::{Deserialize, Serialize};

/// Most bytes of `clientDataJSON`: browsers write about 200.
pub const MAX_CLIENT_DATA: usize = 4096;
/// What stands before the statement in the hash that is the challenge.
const DOMAIN: &[u8] = b"chancery approval by webauthn v1\n";
/// rpIdHash, flags and counter (6.1); more would be attested data or extensions.
const AUTHENTICATOR_DATA: usize = 37;
const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
/// The credential may leave its device. Evidence of a touch of one device is what an approval is.
const BACKUP_ELIGIBLE: u8 = 0x08;
const BACKED_UP: u8 = 0x10;

/// What an authenticator and its browser give beside the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// The authenticator's data, 37 bytes.
    #[serde(rename = "authenticatorData")]
    pub authenticator_data: Blob,
    /// The browser's words, at most [`MAX_CLIENT_DATA`] bytes, as they were signed.
    #[serde(rename = "clientDataJSON")]
    pub client_data: Blob,
}

/// Why an assertion is no evidence about a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// Not the browser's JSON, or too long.
    #[error("clientDataJSON is not that of an assertion")]
    ClientData,
    /// Made for another purpose, such as a registration.
    #[error("clientDataJSON is not of type webauthn.get")]
    Type,
    /// About something else.
    #[error("the challenge is not this statement's")]
    Challenge,
    /// From another site than the roster names.
    #[error("it was made on another site than the roster names")]
    Origin,
    /// From inside another site's page.
    #[error("it was made inside a page of another site")]
    CrossOrigin,
    /// Of another length, or with flags of data that is not allowed here.
    #[error("authenticatorData is not 37 bytes without extensions")]
    AuthenticatorData,
    /// For another relying party.
    #[error("it was made for another relying party than the roster names")]
    RelyingParty,
    /// Nobody touched the authenticator.
    #[error("nobody touched the authenticator")]
    NotPresent,
    /// It did not ask who touched it.
    #[error("the authenticator did not verify its user")]
    NotVerified,
    /// A credential that can be copied to other devices.
    #[error("the credential can leave its device")]
    Copied,
    /// Not signed by the key.
    #[error("the signature does not verify")]
    Signature,
}

/// The 32 bytes that a browser is asked to have signed for a statement.
pub fn challenge(statement: &[u8]) -> Sha256 {
    Sha256::of(&[DOMAIN, statement].concat())
}

/// The relying party and the key of one credential, as a roster has them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Credential<'a> {
    /// The key: P-256, which signs ES256.
    pub(crate) spki: &'a Spki,
    /// The relying party's id: a host name.
    pub(crate) rp_id: &'a str,
    /// The page's origin, such as `https://approve.example.com`.
    pub(crate) origin: &'a str,
}

impl Assertion {
    /// Whether `signature` (DER) over this is the credential's for `statement`.
    pub(crate) fn verify(
        &self,
        signature: &[u8],
        statement: &[u8],
        credential: Credential<'_>,
    ) -> Result<(), AssertionError> {
        self.check_client(statement, credential.origin)?;
        self.check_authenticator(credential.rp_id)?;
        let client_hash = Sha256::of(&self.client_data.0);
        let signed = Sha256::of(&[self.authenticator_data.0.as_slice(), client_hash.as_bytes()].concat());
        let signature = Signature::from_client(Algorithm::EcdsaP256, signature);
        match signature {
            Ok(signature) if credential.spki.verifies(&signed, &signature) => Ok(()),
            _ => Err(AssertionError::Signature),
        }
    }

    fn check_client(&self, statement: &[u8], origin: &str) -> Result<(), AssertionError> {
        if self.client_data.0.len() > MAX_CLIENT_DATA {
            return Err(AssertionError::ClientData);
        }
        let client: ClientData =
            serde_json::from_slice(&self.client_data.0).map_err(|_| AssertionError::ClientData)?;
        if client.kind != "webauthn.get" {
            return Err(AssertionError::Type);
        }
        if client.challenge != URL_SAFE_NO_PAD.encode(challenge(statement).as_bytes()) {
            return Err(AssertionError::Challenge);
        }
        if client.origin != origin {
            return Err(AssertionError::Origin);
        }
        if client.cross_origin || client.top_origin.is_some() {
            return Err(AssertionError::CrossOrigin);
        }
        Ok(())
    }

    fn check_authenticator(&self, rp_id: &str) -> Result<(), AssertionError> {
        let data = &self.authenticator_data.0;
        let (rp_id_hash, flags) = match (data.len(), data.get(..32), data.get(32)) {
            (AUTHENTICATOR_DATA, Some(hash), Some(flags)) => (hash, *flags),
            _ => return Err(AssertionError::AuthenticatorData),
        };
        if rp_id_hash != Sha256::of(rp_id.as_bytes()).as_bytes() {
            return Err(AssertionError::RelyingParty);
        }
        if flags & USER_PRESENT == 0 {
            return Err(AssertionError::NotPresent);
        }
        if flags & USER_VERIFIED == 0 {
            return Err(AssertionError::NotVerified);
        }
        if flags & (BACKUP_ELIGIBLE | BACKED_UP) != 0 {
            return Err(AssertionError::Copied);
        }
        if flags == USER_PRESENT | USER_VERIFIED { Ok(()) } else { Err(AssertionError::AuthenticatorData) }
    }
}

/// The members of `CollectedClientData` (5.8.1) that say something here. Browsers add others, some at random, so that
/// nobody compares the text; a member of these twice is refused by serde.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
    #[serde(default)]
    top_origin: Option<serde_json::Value>,
}
