//! Signed entry timestamps (SETs), for clients from before Rekor v2.
//!
//! They promise that this log has an entry. The caller names an index and nothing else: entry, time and key are the keeper's
//! own, so whoever asks can have nothing signed that is not in the spool.

use super::refused;
use crate::config::{LogConfig, SetKey};
use crate::exit::Fatal;
use crate::token::{Key, PublicKey, Token, TokenError, TouchPolicy};
use formats::sigstore::EntryTimestamp;
use record::wire::{Blob, FromLog};
use record::{Algorithm, Completion, Leaf, Sha256, SignedData, Spki, Time};

/// The key of the log's SETs.
#[derive(Debug)]
pub(super) struct SetSigner {
    key: Key,
    spki: Spki,
    /// The log's own key, which signs notes alone.
    log_key: PublicKey,
}

impl SetSigner {
    /// Finds the configured key in the token.
    pub(super) fn open(token: &dyn Token, config: &LogConfig, set_key: &SetKey) -> Result<Self, Fatal> {
        let key = token.key(&set_key.id, &set_key.public)?;
        if key.touch() != TouchPolicy::Never {
            let why = "set_key: it wants a touch for each signature, and nobody is asked for one here: make one that does not";
            return Err(Fatal::Config { file: config.file.clone(), why: why.into() });
        }
        Ok(Self { key, spki: set_key.spki.clone(), log_key: config.key.public.clone() })
    }

    /// The public half.
    pub(super) fn spki(&self) -> &Spki {
        &self.spki
    }

    /// The SET of the leaf that the spool has at `index`, or why there is none.
    pub(super) fn sign(
        &self,
        token: &dyn Token,
        index: u64,
        leaf: &[u8],
        now: Time,
    ) -> Result<FromLog, TokenError> {
        let completion = match self.completion(index, leaf) {
            Ok(completion) => completion,
            Err((word, why)) => return Ok(refused(word, why)),
        };
        let unencodable =
            |e: record::canonical::CanonicalError| Ok(refused("leaf", format!("entry {index}: {e}")));
        let integrated_time = now.unix_s();
        let timestamp = match EntryTimestamp::of(&completion, index, integrated_time, &self.spki) {
            Ok(timestamp) => timestamp,
            Err(e) => return unencodable(e),
        };
        let digest = match timestamp.signed_bytes() {
            Ok(bytes) => SignedData::Sha256(Sha256::of(&bytes)),
            Err(e) => return unencodable(e),
        };
        let signature = token.sign(&self.key, &digest, &|_| ())?;
        Ok(FromLog::SetSigned { body: Blob(timestamp.body().to_vec()), integrated_time, signature })
    }

    /// The completion that a leaf is, if a timestamp of it can mean what clients take it for; else the code of what is wrong, and
    /// a sentence.
    fn completion(&self, index: u64, leaf: &[u8]) -> Result<Completion, (&'static str, String)> {
        let completion = match Leaf::decode(leaf) {
            Ok(Leaf::Completion(completion)) => completion,
            Ok(other) => {
                let kind = other.kind();
                return Err((
                    "kind",
                    format!("entry {index} is {kind}: only a signature's entry gets a timestamp"),
                ));
            }
            Err(e) => return Err(("leaf", format!("entry {index}: {e}"))),
        };
        let (key, algorithm) = (completion.spki(), completion.spki().algorithm());
        if algorithm != Algorithm::EcdsaP256 {
            return Err((
                "algorithm",
                format!("entry {index} is by a {algorithm} key: older clients take P-256 only"),
            ));
        }
        if *key == self.spki {
            return Err(("key", format!("entry {index} is by the key of the timestamps itself")));
        }
        if self.log_key == PublicKey::P256(key.clone()) {
            return Err(("key", format!("entry {index} is by the log's key, which signs notes alone")));
        }
        if !completion.verifies() {
            return Err(("signature", format!("the signature in entry {index} is not its key's")));
        }
        Ok(completion)
    }
}
