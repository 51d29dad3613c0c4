//! The credentials of a bucket, from a file that only the daemon's user can read.
//!
//! Promises: no value of it is in an error, a log line or any text that was passed through [`Credentials::redact`].

use serde::Deserialize;
use std::{
    fmt,
    fs::File,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Session tokens have about a kilobyte.
const MAX_BYTES: u64 = 16 * 1024;
/// What stands in place of a secret.
const REDACTED: &str = "[redacted]";

/// Static credentials, long-lived or temporary.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: Option<String>,
}

/// Why a file of credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    /// It cannot be read.
    #[error("credentials_file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("credentials_file {}: mode {mode:04o} lets others read it; chmod 0600", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What is in it is not repeated: it may be a secret.
    #[error(
        "credentials_file {}: it is TOML of at most {MAX_BYTES} bytes with access_key_id, secret_access_key and perhaps \
         session_token, each a text that is not empty, and nothing else", path.display()
    )]
    Form {
        /// The file.
        path: PathBuf,
    },
}

impl Credentials {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<Self, CredentialsError> {
        let failed = |source| CredentialsError::Read { path: path.to_owned(), source };
        let form = || CredentialsError::Form { path: path.to_owned() };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(CredentialsError::Mode { path: path.to_owned(), mode });
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(form());
        }
        let read: Self = toml::from_slice(&bytes).map_err(|_| form())?;
        let texts = [Some(&read.access_key_id), Some(&read.secret_access_key), read.session_token.as_ref()];
        // They go into HTTP headers.
        let plain = |text: &String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if texts.into_iter().flatten().all(plain) { Ok(read) } else { Err(form()) }
    }

    /// The text without any secret that it repeats.
    pub(super) fn redact(&self, text: &str) -> String {
        let secrets = [Some(&self.secret_access_key), self.session_token.as_ref()];
        secrets.into_iter().flatten().fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions, write};

    fn read(text: &str, mode: u32) -> Result<Credentials, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.path(), text).unwrap();
        set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
        Credentials::read(file.path()).map_err(|e| e.to_string())
    }

    #[test]
    fn credentials_that_others_can_read_or_that_are_none_are_refused_without_a_word_of_them() {
        let good = "access_key_id = \"AK\"\nsecret_access_key = \"s3cret\"\n";
        assert_eq!(read(good, 0o600).unwrap().secret_access_key, "s3cret");
        assert!(read(good, 0o400).is_ok());
        for (text, mode) in [
            (good.to_owned(), 0o640),
            (good.to_owned(), 0o604),
            (good.replace('"', ""), 0o600),
            (good.replace("AK", ""), 0o600),
            (good.replace("s3cret", "s3cret\\n"), 0o600),
            (format!("{good}more = \"s3cret\""), 0o600),
            ("s3cret".to_owned(), 0o600),
        ] {
            let said = read(&text, mode).unwrap_err();
            assert!(said.contains("credentials_file /") && !said.contains("s3cret"), "{said}");
        }
        let both = read(&format!("{good}session_token = \"t0ken\""), 0o600).unwrap();
        assert_eq!(both.redact("a s3cret and a t0ken"), "a [redacted] and a [redacted]");
        assert!(!format!("{both:?}").contains("s3cret"));
    }
}
