//! The Merkle log: hashing (RFC 6962), tiles and entry bundles (C2SP tlog-tiles), proofs, signed notes (C2SP signed-note),
//! checkpoints (C2SP tlog-checkpoint), cosignatures, witness policies and requests (C2SP tlog-cosignature, tlog-policy,
//! tlog-witness), offline proofs (C2SP tlog-proof), and the verification of a whole published log.
//!
//! Promises: every function is pure; nothing here panics on foreign bytes; every parser accepts one spelling only; a
//! proof, note or checkpoint that is not exactly right is an error. What is read from foreign hands has a named limit.
//!
//! Does not know: what an entry means, files, databases, clocks, private keys, or any other crate of the service, so that
//! an auditor can build and read it alone.

mod bundle;
mod checkpoint;
mod cosignature;
mod cosigner_key;
mod frontier;
mod hash;
mod node;
mod note;
mod path;
mod policy;
mod proof;
mod proof_file;
mod tile;
mod verifier_key;
mod verify;
mod witness;
mod witness_rule;

pub use bundle::{BundleError, MAX_ENTRY_LEN, decode_bundle, encode_bundle};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use cosignature::{cosignature_line, cosigned_message};
pub use cosigner_key::CosignerKey;
pub use frontier::{Frontier, FrontierError, frontier_from_tiles, tiles_for_frontier};
pub use hash::{Hash, HashError, empty_root, leaf_hash, node_hash};
pub use note::{MAX_NOTE_LEN, MAX_SIGNATURES, Note, NoteError, NoteSignature, signed_note};
pub use path::{PathError, TileKind, TilePath, tile_paths, tile_paths_since};
pub use policy::{
    MAX_POLICY_ITEMS, MAX_POLICY_LEN, PolicyError, PolicyLog, PolicyWitness, WitnessPolicy, Witnessed,
};
pub use proof::{
    ProofError, consistency_proof, inclusion_proof, tiles_for_consistency, tiles_for_inclusion,
    verify_consistency, verify_inclusion,
};
pub use proof_file::{LogProof, LogProofError, MAX_LOG_PROOF_LEN};
pub use tile::{TILE_WIDTH, TileError, TileId, Tiles, decode_tile, encode_tile, tile_width};
pub use verifier_key::{LogKey, VerifierKey, VerifierKeyError};
pub use verify::{LogReport, VerifyError, verify_log};
pub use witness::{
    AddCheckpoint, MAX_REQUEST_LEN, WitnessError, decode_cosignatures, decode_size, encode_cosignatures,
    encode_size,
};
pub use witness_rule::{WitnessRefusal, accepted_cosignatures};

/// The largest size of a log: far beyond what appending can reach, small enough for a signed 64-bit column of a
/// database, and one bit below where arithmetic on sizes could overflow.
pub const MAX_SIZE: u64 = i64::MAX as u64;
