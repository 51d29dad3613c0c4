//! Rust's sigstore-verify, which shares no code with cosign, on the same bundle. It reads the copy of the entry that
//! cosign makes anew.

use crate::{
    case::{Case, text},
    own_log::{ENTRY, OwnLog},
    rows::{Rows, Verdict},
    tamper::{edit, edit_text, flip, other_line, other_signature, with},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use std::{cell::Cell, path::Path, process::Command};
use tests::{Output, have};
use tlog::{Checkpoint, Hash, VerifierKey, leaf_hash, verify_inclusion};

#[test]
#[ignore = "make interop-log builds its judge, from 86 crates that nothing else needs"]
fn sigstore_verify_takes_what_the_log_has_and_nothing_else() {
    if !have("docker-registry") {
        return;
    }
    let Some((mut rows, bin)) = Rows::of("sigstore-verify") else { return };
    let case = Case::make();
    let at = |member: &str| format!("{ENTRY}{member}");
    let envelope = at("/inclusionProof/checkpoint/envelope");
    let verify =
        |bundle: &Value, root: &Value, key: &str, blob: &str| verify(&bin, &case, bundle, root, key, blob);
    let (good, root, other_root) = (&case.bundle, &case.trusted_root, case.read("other.trusted_root.json"));
    let mut row =
        |what: &str, verdict: Verdict, said: Output| rows.add(&format!("bundle: {what}"), verdict, &said);
    let of = |bundle: &Value| verify(bundle, root, "targets.pub.pem", "blob");
    row("as it is", Verdict::Accepts, of(good));
    let other_root_hash = Verdict::Refuses(&["root hash mismatch"]);
    row("proof: a hash altered", other_root_hash, of(&with(good, &at("/inclusionProof/hashes/0"), flip)));
    let no_hash = with(good, &at("/inclusionProof/hashes"), |h| *h = json!([]));
    row("proof: no hash", Verdict::Refuses(&["proof hashes, got 0"]), of(&no_hash));
    let unsigned = with(good, &envelope, |e| edit_text(e, other_signature));
    let no_signature = Verdict::Refuses(&["No valid Rekor signature found on checkpoint"]);
    row("checkpoint: signature altered", no_signature, of(&unsigned));
    let larger = with(good, &envelope, |e| edit_text(e, |n| other_line(n, 1, "99")));
    row("checkpoint: size altered", Verdict::Refuses(&["inclusion proof verification failed"]), of(&larger));
    let other_entry = with(good, &at("/canonicalizedBody"), |b| edit(b, |bytes| bytes.push(b' ')));
    row("canonicalizedBody altered", other_root_hash, of(&other_entry));
    let no_entry = with(good, "/verificationMaterial/tlogEntries", |e| *e = json!([]));
    row("no entry of the log", Verdict::Refuses(&["must have an inclusion proof"]), of(&no_entry));
    row(
        "trusted root of another log of the same name",
        Verdict::Refuses(&["No matching Rekor key found for checkpoint signature"]),
        verify(good, &other_root, "targets.pub.pem", "blob"),
    );
    let other_blob = verify(good, root, "targets.pub.pem", "other.blob");
    row("another blob", Verdict::Refuses(&["does not match artifact hash"]), other_blob);
    let invalid = Verdict::Refuses(&["ECDSA_P256_SHA256 signature invalid"]);
    row("another key", invalid, verify(good, root, "snapshot.pub.pem", "blob"));
    row("signature altered", invalid, of(&with(good, "/messageSignature/signature", flip)));
    let other_hash = with(good, &at("/inclusionProof/rootHash"), flip);
    row("rootHash altered", Verdict::DoesNotRead, of(&other_hash));
    let other_size = with(good, &at("/inclusionProof/treeSize"), |s| *s = json!("99"));
    row("treeSize altered", Verdict::DoesNotRead, of(&other_size));
    let other_name =
        with(good, &envelope, |e| edit_text(e, |n| n.replace("\n\n\u{2014} ", "\n\n\u{2014} x")));
    row("checkpoint: name of the signer altered", Verdict::DoesNotRead, of(&other_name));
    generated_bundles(&mut rows, &bin, &case);
    rows.keep("6-sigstore-verify");
}

/// What it says of these files.
fn verify(bin: &Path, case: &Case, bundle: &Value, root: &Value, key: &str, blob: &str) -> Output {
    let (bundle, root) = (case.write("shown.json", bundle), case.write("root.json", root));
    let mut judge = Command::new(bin.join("judge-sigstore"));
    judge.args([text(&case.path(key)), text(&bundle), text(&root), text(&case.path(blob))]);
    Output::of(&mut judge)
}

/// Logs of up to so many entries: more than two full tiles.
const MAX_ENTRIES: u64 = 600;
/// 7 ms each.
const GENERATED: u32 = 1000;

/// What of the log's word has one bit flipped.
#[derive(Debug, Clone, Copy)]
enum Altered {
    Nothing,
    Index,
    Hash,
    /// The text.
    Checkpoint,
    /// The checkpoint's, and the key's id in front of it. Of the rest of the line sigstore-verify does not read the name.
    Signature,
    Entry,
}

/// It says the same as `tlog` of an entry anywhere in a log of any size, as it is and with one bit flipped anywhere.
fn generated_bundles(rows: &mut Rows, bin: &Path, case: &Case) {
    let log = OwnLog::of(case);
    let (counted, entry) = (Cell::new((0, 0)), log.entry());
    let place = (1..=MAX_ENTRIES).prop_flat_map(|size| (0..size, Just(size)));
    let alter = prop_oneof![
        Just(Altered::Nothing),
        Just(Altered::Index),
        Just(Altered::Hash),
        Just(Altered::Checkpoint),
        Just(Altered::Signature),
        Just(Altered::Entry)
    ];
    let config = Config { cases: GENERATED, failure_persistence: None, ..Config::default() };
    let agreed = TestRunner::new(config).run(
        &(place, alter, any::<Index>(), 0..8u8),
        |((index, size), alter, at, bit)| {
            let bundle = altered(log.bundle(&entry, index, size), alter, at, bit);
            let said = verify(bin, case, &bundle, &log.trusted_root, "targets.pub.pem", "blob");
            let ours = proves(&bundle, &log.vkey);
            prop_assert_eq!(said.code == 0, ours, "{:?}: {}", said, bundle.pointer(ENTRY).unwrap());
            let (taken, refused) = counted.get();
            counted.set(if ours { (taken + 1, refused) } else { (taken, refused + 1) });
            Ok(())
        },
    );
    let (taken, refused) = counted.get();
    let good = agreed.is_ok() && taken > 0 && refused > 0;
    let stdout = format!("{taken} taken, {refused} refused: {agreed:?}");
    let said = Output { code: i32::from(!good), stdout, stderr: String::new() };
    let what = format!("{GENERATED} generated bundles, of which `tlog` takes {taken}");
    rows.add(&what, Verdict::Agrees, &said);
}

/// A bundle with one bit flipped, where it has anything of this kind.
fn altered(mut bundle: Value, alter: Altered, at: Index, bit: u8) -> Value {
    let entry = bundle.pointer_mut(ENTRY).unwrap();
    let flip = |bytes: &mut Vec<u8>| {
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
    };
    match alter {
        Altered::Nothing => {}
        Altered::Index => {
            let index: u64 = entry["logIndex"].as_str().unwrap().parse().unwrap();
            entry["logIndex"] = json!((index ^ 1 << bit).to_string());
            entry["inclusionProof"]["logIndex"] = entry["logIndex"].clone();
        }
        Altered::Hash => {
            let hashes = entry["inclusionProof"]["hashes"].as_array_mut().unwrap();
            if !hashes.is_empty() {
                let which = at.index(hashes.len());
                edit(&mut hashes[which], flip);
            }
        }
        Altered::Checkpoint => edit_text(&mut entry["inclusionProof"]["checkpoint"]["envelope"], |note| {
            let (text, signed) = note.split_once("\n\n").unwrap();
            let mut bytes = text.as_bytes().to_vec();
            flip(&mut bytes);
            format!("{}\n\n{signed}", String::from_utf8_lossy(&bytes))
        }),
        Altered::Signature => edit_text(&mut entry["inclusionProof"]["checkpoint"]["envelope"], |note| {
            let (before, signature) = note.trim_end().rsplit_once(' ').unwrap();
            let mut signature = Value::from(signature);
            edit(&mut signature, flip);
            format!("{before} {}\n", signature.as_str().unwrap())
        }),
        Altered::Entry => edit(&mut entry["canonicalizedBody"], flip),
    }
    bundle
}

/// Whether the log's word in a bundle proves its entry, by `tlog` alone.
fn proves(bundle: &Value, log: &VerifierKey) -> bool {
    let entry = bundle.pointer(ENTRY).unwrap();
    let proof = &entry["inclusionProof"];
    let hash = |text: &Value| Hash::from_base64(text.as_str().unwrap()).unwrap();
    let hashes: Vec<Hash> = proof["hashes"].as_array().unwrap().iter().map(hash).collect();
    let leaf = leaf_hash(&STANDARD.decode(entry["canonicalizedBody"].as_str().unwrap()).unwrap());
    let index = proof["logIndex"].as_str().unwrap().parse().unwrap();
    Checkpoint::open(proof["checkpoint"]["envelope"].as_str().unwrap(), log)
        .is_ok_and(|head| verify_inclusion(&leaf, index, head.size, &hashes, &head.root).is_ok())
}
