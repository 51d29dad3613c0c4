//! The tokens' journal, read for what image keys signed: the log's token, which shares the journal, is told apart.
//!
//! It promises: a signature that is neither a log key's nor one of the charter's keys', or of a form that is not known here,
//! is an error, never left out. It does not know whether signatures are right: the verifiers say that.

use hsm_sim::{Entry, Journal};
use record::{Algorithm, KeyId, Message, PayloadDigest, Sha256, Sha384, Signature, SignedData, Spki};
use serde::Deserialize;
use std::{fmt, fs, path::Path};
use tlog::VerifierKey;

/// `CKM_RSA_PKCS_PSS`, `CKM_ECDSA` and `CKM_EDDSA` (PKCS#11 3.1).
const CKM_RSA_PKCS_PSS: u64 = 0x000d;
const CKM_ECDSA: u64 = 0x1041;
const CKM_EDDSA: u64 = 0x1057;

/// An image key signed this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageSignature {
    /// The key that the charter names by the `CKA_ID` in the journal.
    pub key: KeyId,
    /// The payload, as an intent and its completion are matched.
    pub digest: PayloadDigest,
}

/// The keys whose signatures a journal may hold.
#[derive(Debug)]
pub(crate) struct TokenKeys {
    log: Vec<TokenKey>,
    image: Vec<TokenKey>,
}

#[derive(Debug)]
struct TokenKey {
    cka_id: Vec<u8>,
    spki: Spki,
}

/// What is read of a log keeper's configuration.
#[derive(Deserialize)]
struct LogKeeper {
    key: LogKey,
    set_key: Option<CharterKey>,
}

#[derive(Deserialize)]
struct LogKey {
    cka_id: String,
    vkey: String,
}

/// What is read of a charter.
#[derive(Deserialize)]
struct Charter {
    key: Vec<CharterKey>,
}

#[derive(Deserialize)]
struct CharterKey {
    cka_id: String,
    spki: Spki,
}

impl TokenKeys {
    /// Those of the two keepers of `chancery dev` in `dir`.
    pub(crate) fn of_dev(dir: &Path) -> Self {
        let text = fs::read_to_string(dir.join("log/keeper.toml")).unwrap();
        let LogKeeper { key, set_key } = toml::from_str(&text).unwrap();
        let spki = Spki::from_der(&VerifierKey::parse(&key.vkey).unwrap().spki_der()).unwrap();
        let mut log = vec![TokenKey { cka_id: bytes(&key.cka_id), spki }];
        log.extend(set_key.map(TokenKey::from));
        Self { log, ..Self::of_charter(&dir.join("signing/charter.toml")) }
    }

    /// Those of a signing keeper whose token has a journal of its own.
    pub(crate) fn of_charter(path: &Path) -> Self {
        let charter: Charter = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        Self { log: Vec::new(), image: charter.key.into_iter().map(TokenKey::from).collect() }
    }

    /// What each line of the journal says that an image key signed.
    pub(crate) fn read(&self, journal: &Path) -> Result<Vec<Option<ImageSignature>>, String> {
        let entries = Journal::read(journal).map_err(|e| e.to_string())?;
        let of_line = |(line, entry)| self.signed(entry).map_err(|e| format!("journal line {line}: {e}"));
        entries.iter().enumerate().map(of_line).collect()
    }

    /// What an image key signed, if that is what the entry says.
    fn signed(&self, entry: &Entry) -> Result<Option<ImageSignature>, String> {
        let Entry::Signature { key_id, mechanism, .. } = entry else { return Ok(None) };
        let fits = |key: &&TokenKey| key.cka_id == *key_id && mechanism_of(&key.spki) == *mechanism;
        // Two tokens may each have a key of that id and type: then its signature tells whose it is.
        let log: Vec<_> = self.log.iter().filter(fits).collect();
        let image: Vec<_> = self.image.iter().filter(fits).collect();
        let is_images = |key: &&&TokenKey| log.is_empty() || key.made(entry);
        if let Some(key) = image.iter().find(is_images) {
            return Ok(Some(ImageSignature { key: key.spki.id(), digest: digest(entry)? }));
        }
        match log.iter().any(|key| image.is_empty() || key.made(entry)) {
            true => Ok(None),
            false => Err(format!(
                "mechanism {mechanism:#x} by the key with CKA_ID {key_id:02x?}: no key of the log or the charter signs so"
            )),
        }
    }
}

impl TokenKey {
    /// Whether the signature is this key's.
    fn made(&self, entry: &Entry) -> bool {
        let Entry::Signature { input, signature, .. } = entry else { return false };
        let Ok(signature) = Signature::from_token(self.spki.algorithm(), signature) else { return false };
        let data = match digest(entry) {
            _ if self.spki.algorithm() == Algorithm::Ed25519 => {
                input.as_ref().and_then(|input| Message::new(input).ok()).map(SignedData::Message)
            }
            Ok(PayloadDigest::Sha256(digest)) => Some(SignedData::Sha256(digest)),
            Ok(PayloadDigest::Sha384(digest)) => Some(SignedData::Sha384(digest)),
            Err(_) => None,
        };
        data.is_some_and(|data| self.spki.covers(&data, &signature))
    }
}

impl From<CharterKey> for TokenKey {
    fn from(key: CharterKey) -> Self {
        Self { cka_id: bytes(&key.cka_id), spki: key.spki }
    }
}

impl ImageSignature {
    /// The payload's SHA-256; panics for a P-384 key's, of which a journal has the SHA-384 alone.
    pub(crate) fn sha256(self) -> Sha256 {
        match self.digest {
            PayloadDigest::Sha256(digest) => digest,
            PayloadDigest::Sha384(digest) => panic!("{digest} is a SHA-384: compare with `Intent::digest`"),
        }
    }
}

impl fmt::Display for ImageSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by the key {}", self.digest, self.key)
    }
}

/// What was handed to the token, as the digest of the payload.
fn digest(entry: &Entry) -> Result<PayloadDigest, String> {
    let Entry::Signature { mechanism, input, input_sha256, .. } = entry else {
        return Err("a login signs nothing".to_owned());
    };
    let sha256 = |bytes: &[u8]| Some(PayloadDigest::Sha256(Sha256::from_bytes(bytes.try_into().ok()?)));
    let sha384 = |bytes: &[u8]| Some(PayloadDigest::Sha384(Sha384::from_bytes(bytes.try_into().ok()?)));
    let read = match (*mechanism, input.as_deref()) {
        (CKM_ECDSA, Some(input)) => sha256(input).or_else(|| sha384(input)),
        (CKM_RSA_PKCS_PSS, Some(input)) => sha256(input),
        (CKM_EDDSA, _) => sha256(input_sha256),
        _ => None,
    };
    let length = input.as_ref().map_or("more than 64".to_owned(), |input| input.len().to_string());
    read.ok_or_else(|| format!("mechanism {mechanism:#x} over {length} bytes, which no key here signs so"))
}

/// The mechanism that keepers use for a key of this kind.
fn mechanism_of(spki: &Spki) -> u64 {
    match spki.algorithm() {
        Algorithm::EcdsaP256 | Algorithm::EcdsaP384 => CKM_ECDSA,
        Algorithm::RsaPss2048 | Algorithm::RsaPss3072 | Algorithm::RsaPss4096 => CKM_RSA_PKCS_PSS,
        Algorithm::Ed25519 => CKM_EDDSA,
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hsm_sim::SignFunction;
    use p256::ecdsa::{SigningKey, signature::hazmat::PrehashSigner};

    fn key(seed: u8) -> (SigningKey, Spki) {
        let key = SigningKey::from_slice(&[seed; 32]).unwrap();
        let spki = Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap();
        (key, spki)
    }

    fn entry(cka_id: u8, mechanism: u64, input: Vec<u8>, signature: Vec<u8>) -> Entry {
        let (function, input_sha256) = (SignFunction::Sign, *Sha256::of(&input).as_bytes());
        let (key_id, input) = (vec![cka_id], Some(input));
        Entry::Signature { pid: 1, n: 1, function, key_id, mechanism, input_sha256, input, signature }
    }

    fn by(key: &SigningKey, cka_id: u8) -> Entry {
        let made: p256::ecdsa::Signature = key.sign_prehash(&[7; 32]).unwrap();
        entry(cka_id, CKM_ECDSA, vec![7; 32], made.to_bytes().to_vec())
    }

    fn keys(log: &[(u8, &Spki)], image: &[(u8, &Spki)]) -> TokenKeys {
        let own = |of: &[(u8, &Spki)]| {
            of.iter().map(|(id, spki)| TokenKey { cka_id: vec![*id], spki: (*spki).clone() }).collect()
        };
        TokenKeys { log: own(log), image: own(image) }
    }

    #[test]
    fn a_p256_log_key_with_the_id_of_an_image_key_is_told_apart_by_its_signature() {
        let ((log, log_spki), (root, root_spki), (other, _)) = (key(1), key(2), key(3));
        let keys = keys(&[(1, &log_spki)], &[(1, &root_spki)]);
        let digest = PayloadDigest::Sha256(Sha256::from_bytes([7; 32]));
        assert_eq!(keys.signed(&by(&log, 1)), Ok(None));
        assert_eq!(keys.signed(&by(&root, 1)), Ok(Some(ImageSignature { key: root_spki.id(), digest })));
        assert!(keys.signed(&by(&other, 1)).is_err());
        assert!(keys.signed(&by(&root, 2)).is_err(), "no key has this id");
    }

    #[test]
    fn a_form_that_no_key_here_signs_is_an_error() {
        let (_, spki) = key(1);
        let keys = keys(&[], &[(1, &spki)]);
        for (mechanism, bytes) in [(CKM_EDDSA, 32), (CKM_RSA_PKCS_PSS, 32), (0x1044, 32), (CKM_ECDSA, 20)] {
            let signed = keys.signed(&entry(1, mechanism, vec![0; bytes], vec![0; 64]));
            assert!(signed.as_ref().is_err_and(|e| e.contains("mechanism")), "{signed:?}");
        }
    }
}
