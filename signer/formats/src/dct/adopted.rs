//! Whether a file that a log takes over from the one that it continues is what its leaf says. Daemon and auditors ask the same.

use super::{
    certificate::{self, CertificateError},
    file::{FileError, SignedFile},
    root::RootView,
};
use record::{Adopted, FileRef, Purpose};

/// Why a leaf does not take over a file.
#[derive(Debug, thiserror::Error)]
pub enum AdoptedError {
    /// Other bytes.
    #[error("a file that is not the one that its entry names")]
    Bytes,
    /// No file of a collection, or without a good signature.
    #[error("a file of a former log that cannot be used: {0}")]
    File(#[from] FileError),
    /// The file says otherwise than the leaf.
    #[error("a file whose role, version or payload is not what its entry says")]
    Named,
    /// No keys to verify it with.
    #[error("a file of a former log, and not behind the root of its collection")]
    NoRoot,
    /// The root is not the collection's own.
    #[error("a root whose certificate does not do: {0}")]
    Certificate(#[from] CertificateError),
    /// Signed by another key than the leaf says.
    #[error("a file whose key is not the one that its entry names")]
    Key,
}

/// Reads the file that `adopted` takes over, out of `bytes`. It is signed by the key that its collection's `root` names for its
/// role: the one that was taken over before it, `None` while there is none. A root is signed by the key of its own certificate.
pub fn read_adopted(
    adopted: &Adopted,
    bytes: &[u8],
    root: Option<&RootView>,
) -> Result<SignedFile, AdoptedError> {
    if FileRef::of(bytes) != adopted.file {
        return Err(AdoptedError::Bytes);
    }
    let file = SignedFile::parse(bytes)?;
    let named = (file.role() == adopted.role.into(), file.version(), file.payload_hash());
    if named != (true, adopted.version, adopted.payload) {
        return Err(AdoptedError::Named);
    }
    let own;
    let root = if adopted.role == Purpose::Root {
        own = file.root()?;
        certificate::check(&own.certificate, &adopted.repository, &own.root.spki)?;
        &own
    } else {
        root.ok_or(AdoptedError::NoRoot)?
    };
    let key = root.of(adopted.role.into());
    file.verify(&key.spki, &key.keyid)?;
    if key.spki.id() == adopted.key { Ok(file) } else { Err(AdoptedError::Key) }
}
