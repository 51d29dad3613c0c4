//! What Sigstore's clients (cosign and its relatives) read, so that they enforce the log: a Sigstore bundle v0.3 with the
//! proof of one entry, `trusted_root.json` with the keys to believe, and, for clients from before Rekor v2, a signed entry
//! timestamp (SET) with the bundle that carries it.
//!
//! A Chancery log is a Rekor v2 log to them: its completions are `hashedrekord` 0.0.2 to the byte, and its origin is a bare host
//! name, since they expect the host name of `baseUrl` in the checkpoint.
//!
//! Promises: [`Bundle::of_blob`] gives a bundle only for an entry whose proof, checkpoint and signature verify.
//! It does not know: where entries and keys come from, and whether a client should believe them.
//!
//! Sources: sigstore protobuf-specs (`sigstore_bundle`, `sigstore_rekor`, `sigstore_trustroot`) in their protobuf JSON: bytes are
//! base64, 64-bit integers strings; Rekor v1 `hashedrekord_v0_0_1_schema.json`; cosign `LocalSignedPayload`.

mod bundle;
mod log_key;
mod set;
mod trusted_root;

pub use bundle::{Bundle, BundleError, Included};
pub use set::{EntryTimestamp, LegacyBundle, SignedEntryTimestamp};
pub use trusted_root::TrustedRoot;

/// An integer of 64 bits as protobuf JSON writes it.
fn int64<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}
