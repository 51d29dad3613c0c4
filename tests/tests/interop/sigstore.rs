//! Rust's sigstore-verify, which shares no code with cosign, on the same bundle. It reads the copy of the entry that
//! cosign makes anew.

use crate::{
    case::{Case, text},
    rows::{Rows, Verdict},
    tamper::{edit, edit_text, flip, other_line, other_signature, with},
};
use serde_json::{Value, json};
use std::process::Command;
use tests::{Output, have};

const ENTRY: &str = "/verificationMaterial/tlogEntries/0";

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
    let verify = |bundle: &Value, root: &Value, key: &str, blob: &str| {
        let (bundle, root) = (case.write("shown.json", bundle), case.write("root.json", root));
        let mut judge = Command::new(bin.join("judge-sigstore"));
        judge.args([text(&case.path(key)), text(&bundle), text(&root), text(&case.path(blob))]);
        Output::of(&mut judge)
    };
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
    rows.keep("6-sigstore-verify");
}
