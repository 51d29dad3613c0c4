//! The witness's key in its file: one line, `PRIVATE+KEY+<name>+<key id>+<base64 of type and seed>`, the form in which
//! Go's `golang.org/x/mod/sumdb/note` keeps such keys. Never shown. Whoever signs exports has a key of this form too.

use super::{WitnessFault, io, state};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer, SigningKey};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};
use tlog::{CosignerKey, NoteError, NoteSignature, cosignature_line, cosigned_message};
use zeroize::Zeroizing;

const PREFIX: &str = "PRIVATE+KEY+";
/// C2SP tlog-cosignature: timestamped Ed25519.
const COSIGNATURE: u8 = 0x04;
/// The longest name, the numbers, and the seed are far below.
const MAX_LEN: u64 = 1024;

/// A key that cosigns.
pub(crate) struct WitnessKey {
    signing: SigningKey,
    public: CosignerKey,
}

impl WitnessKey {
    /// A new key of this name.
    pub(crate) fn generate(name: &str) -> Result<Self, String> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(|e| format!("no random bytes for a key: {e}"))?;
        Self::of(name, &seed)
    }

    /// Writes it to a file that does not exist.
    pub(super) fn write(&self, path: &Path) -> Result<(), WitnessFault> {
        let seed = Zeroizing::new(self.signing.to_bytes());
        let typed = Zeroizing::new([&[COSIGNATURE], seed.as_slice()].concat());
        let encoded = Zeroizing::new(STANDARD.encode(typed.as_slice()));
        let (name, id) = (self.public.name(), self.public.key_id());
        let line = Zeroizing::new(format!("{PREFIX}{name}+{id:08x}+{}\n", encoded.as_str()));
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        made.and_then(|mut file| file.write_all(line.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(io(path))
    }

    /// The key in a file that only its owner can read.
    pub(crate) fn open(path: &Path) -> Result<Self, WitnessFault> {
        let about = fs::metadata(path).map_err(io(path))?;
        if about.permissions().mode() & 0o077 != 0 {
            return Err(state(
                path,
                "others than its owner can read this key: chmod 600, and think of who has",
            ));
        }
        if about.len() > MAX_LEN {
            return Err(state(path, "too long for a key"));
        }
        let line = Zeroizing::new(fs::read_to_string(path).map_err(io(path))?);
        Self::parse(&line).ok_or_else(|| {
            state(path, "this is no key as chancery log witness init makes them, or not whole")
        })
    }

    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.strip_suffix('\n')?.strip_prefix(PREFIX)?.splitn(3, '+');
        let (name, id, typed) = (parts.next()?, parts.next()?, parts.next()?);
        let typed = Zeroizing::new(STANDARD.decode(typed).ok()?);
        let (&kind, seed) = typed.split_first()?;
        let seed = Zeroizing::new(<[u8; 32]>::try_from(seed).ok()?);
        let key = Self::of(name, &seed).ok()?;
        (kind == COSIGNATURE && format!("{:08x}", key.public.key_id()) == id).then_some(key)
    }

    fn of(name: &str, seed: &[u8; 32]) -> Result<Self, String> {
        let signing = SigningKey::from_bytes(seed);
        let public = CosignerKey::new_ed25519(name, signing.verifying_key().to_bytes());
        Ok(Self { signing, public: public.map_err(|e| e.to_string())? })
    }

    /// The public key.
    pub(crate) fn public(&self) -> &CosignerKey {
        &self.public
    }

    /// Its signature over a note's text at this time, in seconds since 1970. Over a checkpoint it is the word of a witness.
    pub(crate) fn cosign(&self, text: &str, time_s: u64) -> Result<NoteSignature, NoteError> {
        let signature = self.signing.sign(cosigned_message(time_s, text).as_bytes()).to_bytes();
        cosignature_line(text, &self.public, time_s, &signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_one_that_others_can_read_or_that_was_altered_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let made = WitnessKey::generate("w.example").unwrap();
        assert!(WitnessKey::generate("w example").is_err());
        made.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(WitnessKey::open(&path).unwrap().public(), made.public());
        assert!(made.write(&path).is_err(), "never over another");
        let line = fs::read_to_string(&path).unwrap();
        for bad in [
            line.trim_end().to_owned(),
            line.replace("w.example", "v.example"),
            line.replace("PRIVATE", "PUBLIC"),
            line[..line.len() - 5].to_owned() + "\n",
            String::new(),
        ] {
            fs::write(&path, bad).unwrap();
            assert!(WitnessKey::open(&path).is_err());
        }
        fs::write(&path, line).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(WitnessKey::open(&path).is_err());
    }
}
