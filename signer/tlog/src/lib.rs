//! The Merkle log: hashing, tiles, checkpoints, notes, proofs, verification. Pure
