//! A log with a key of the test's own, of any size: what only a log could alter can be altered here.

use crate::{
    case::{Case, text},
    tamper::with,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use std::{collections::BTreeMap, process::Command};
use tests::{Output, binary};
use tlog::{Checkpoint, Frontier, Hash, TileId, Tiles, VerifierKey, inclusion_proof, leaf_hash, signed_note};

/// Where a bundle has the log's word.
pub(crate) const ENTRY: &str = "/verificationMaterial/tlogEntries/0";

/// The log's key, and the trusted root that names it alone.
pub(crate) struct OwnLog<'a> {
    case: &'a Case,
    key: SigningKey,
    pub(crate) vkey: VerifierKey,
    pub(crate) trusted_root: Value,
}

impl<'a> OwnLog<'a> {
    pub(crate) fn of(case: &'a Case) -> Self {
        let key = SigningKey::from_bytes(&[5; 32]);
        let vkey = VerifierKey::new_ed25519("log.chancery.test", key.verifying_key().to_bytes()).unwrap();
        let out = case.path("own.trusted_root.json");
        let mut command = Command::new(binary("chancery"));
        command.args(["log", "trusted-root", "--vkey", &vkey.to_string(), "--out", text(&out)]);
        let made = Output::of(&mut command);
        assert_eq!(made.code, 0, "{made:?}");
        Self { case, key, vkey, trusted_root: case.read("own.trusted_root.json") }
    }

    /// The entry of the case's signature.
    pub(crate) fn entry(&self) -> Vec<u8> {
        let body = self.case.bundle.pointer(&format!("{ENTRY}/canonicalizedBody")).unwrap();
        STANDARD.decode(body.as_str().unwrap()).unwrap()
    }

    /// The case's bundle for a log of `size` entries, of which the one at `index` is `entry` and the others are nothing
    /// that a client knows.
    pub(crate) fn bundle(&self, entry: &[u8], index: u64, size: u64) -> Value {
        let (mut frontier, mut hashes) = (Frontier::default(), BTreeMap::<TileId, Vec<Hash>>::new());
        for at in 0..size {
            let leaf = leaf_hash(if at == index { entry } else { b"another" });
            frontier.append_with(leaf, |tile, _, hash| hashes.entry(tile).or_default().push(hash));
        }
        let mut tiles = Tiles::new();
        hashes.into_iter().for_each(|(id, hashes)| tiles.insert(id, hashes));
        let proof = inclusion_proof(index, size, &tiles).unwrap();
        let root = frontier.root();
        let text = Checkpoint { origin: self.vkey.name().into(), size, root }.text();
        let note = signed_note(&text, &self.vkey, &self.key.sign(text.as_bytes()).to_bytes()).unwrap();
        with(&self.case.bundle, ENTRY, |e| {
            e["logIndex"] = json!(index.to_string());
            e["logId"] = self.trusted_root["tlogs"][0]["logId"].clone();
            e["canonicalizedBody"] = STANDARD.encode(entry).into();
            e["inclusionProof"] = json!({
                "logIndex": index.to_string(), "rootHash": STANDARD.encode(root.0), "treeSize": size.to_string(),
                "hashes": proof.iter().map(|hash| STANDARD.encode(hash.0)).collect::<Vec<_>>(),
                "checkpoint": { "envelope": note },
            });
        })
    }
}
