//! The PIN: read once from where the configuration says, wiped when dropped, never printed.

use crate::config::{PinSource, Secrecy, read_trusted};
use crate::exit::Fatal;
use cryptoki::types::AuthPin;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use secrecy::ExposeSecret;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest PIN: PKCS#11 tokens report at most 255.
const MAX_PIN: usize = 255;

/// A PIN in memory that is wiped when dropped.
pub struct Pin(AuthPin);

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pin(..)")
    }
}

impl Pin {
    /// Reads the PIN; one line end behind it is not part of it.
    pub fn read(source: &PinSource) -> Result<Self, Fatal> {
        match source {
            PinSource::File(path) => Self::parse(path, &read_trusted(path, Secrecy::Secret)?),
            PinSource::Credential(name) => Self::from_credential(name),
            PinSource::Fd(fd) => {
                let path = PathBuf::from(format!("/proc/self/fd/{fd}"));
                Self::parse(&path, &read_short(&path, inherited(*fd, &path))?)
            }
        }
    }

    /// Reads the PIN from a file that nobody but its owner can read.
    pub fn from_file(path: &Path) -> Result<Self, Fatal> {
        Self::read(&PinSource::File(path.to_owned()))
    }

    /// What the PKCS#11 library takes.
    pub(crate) fn auth(&self) -> &AuthPin {
        &self.0
    }

    /// What a PIV card takes: 6 to 8 bytes (SP 800-73-4, part 2, 2.4.3; the card pads them).
    pub(crate) fn piv(&self) -> Option<&[u8]> {
        let bytes = self.0.expose_secret().as_bytes();
        (6..=8).contains(&bytes.len()).then_some(bytes)
    }

    // The service manager guards that folder by its own means: with access lists the files' mode bits tell nothing.
    fn from_credential(name: &str) -> Result<Self, Fatal> {
        let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
            let why = "the configuration asks for a credential, but CREDENTIALS_DIRECTORY is not set: \
                       add LoadCredential= to the service's unit";
            return Err(Fatal::Config { file: name.into(), why: why.into() });
        };
        let path = Path::new(&folder).join(name);
        Self::parse(&path, &read_short(&path, File::open(&path))?)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Fatal> {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match std::str::from_utf8(line) {
            Ok(pin) if (1..=MAX_PIN).contains(&pin.len()) && !pin.contains(['\n', '\0']) => {
                Ok(Self(AuthPin::from(pin)))
            }
            _ => Err(Fatal::Config {
                file: path.to_owned(),
                why: "must hold the PIN in one line of 1 to 255 bytes of UTF-8".into(),
            }),
        }
    }
}

/// The open file of descriptor `fd` that this process was started with. Not opened anew by its name where that can be
/// avoided: that would check permissions once more, which this user may not have, and sockets have no name to open.
/// What is read is drained; the descriptor itself stays open.
fn inherited(fd: u32, path: &Path) -> io::Result<File> {
    let absent = || io::Error::other("no such descriptor was handed over to this process");
    let number = i32::try_from(fd).map_err(|_| absent())?;
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).map_err(|_| absent())?;
    let flags =
        about.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    // All that this process opens itself is closed at exec; what came through exec is not.
    if flags.is_none_or(|flags| flags & rustix::fs::OFlags::CLOEXEC.bits() != 0) {
        return Err(absent());
    }
    let own = pidfd_open(getpid(), PidfdFlags::empty());
    match own.and_then(|own| pidfd_getfd(own, number, PidfdGetfdFlags::empty())) {
        Ok(same) => Ok(File::from(same)),
        // An old kernel, or a sandbox without this call.
        Err(_) => File::open(path),
    }
}

fn read_short(path: &Path, file: io::Result<File>) -> Result<Zeroizing<Vec<u8>>, Fatal> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PIN + 3));
    file.and_then(|f| f.take(MAX_PIN as u64 + 3).read_to_end(&mut bytes))
        .map_err(|e| Fatal::Config { file: path.to_owned(), why: format!("the PIN cannot be read: {e}") })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_pin_is_one_line_of_a_closed_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        for (content, good) in [
            ("123456", true),
            ("123456\n", true),
            ("12 34\r\n", true),
            ("", false),
            ("\n", false),
            ("1\n2\n", false),
        ] {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(Pin::from_file(&path).is_ok(), good, "{content:?}");
        }
        std::fs::write(&path, "123456").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Pin::from_file(&path).unwrap_err();
        assert_eq!(error.code(), 78);
        assert!(!error.to_string().contains("123456") && error.to_string().contains("0640"), "{error}");
    }
}
