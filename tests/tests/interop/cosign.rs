//! cosign, old and new, as Debian ships them: both take a signature that the log has, and refuse it when anything of the log's
//! word is missing or altered. Without a network: each runs in a network namespace of its own, where that is permitted.

use crate::{
    case::{Case, text},
    own_log::{ENTRY, OwnLog},
    rows::{Rows, Verdict},
    tamper::{edit, edit_text, flip, other_line, other_signature, with},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};
use tests::{Instance, Output, binary, commands, have, wait_for};

/// A way in which a cosign is asked.
struct Client<'a> {
    case: &'a Case,
    cosign: PathBuf,
    form: Form,
}

/// What it is given besides the key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A Sigstore bundle, and a trusted root.
    Proof,
    /// The same, with the flag of those to which a Sigstore bundle is news.
    ProofByFlag,
    /// An older bundle, and the SET key in the environment.
    Timestamp,
}

/// What is put in the place of the good files.
#[derive(Default)]
struct Instead {
    bundle: Option<Value>,
    trusted_root: Option<Value>,
    key: Option<&'static str>,
    set_key: Option<&'static str>,
    blob: Option<&'static str>,
}

impl Client<'_> {
    /// Asks whether the signature is good.
    fn verify(&self, instead: Instead) -> Output {
        let case = self.case;
        let bundle = case.write("shown.json", instead.bundle.as_ref().unwrap_or(self.good()));
        let root = case.write("root.json", instead.trusted_root.as_ref().unwrap_or(&case.trusted_root));
        let mut command = offline(&self.cosign);
        command.args(["verify-blob", "--key", text(&case.path(instead.key.unwrap_or("targets.pub.pem")))]);
        command.args(["--bundle", text(&bundle)]);
        // An empty home: no trust of cosign's own, and nothing that an earlier call has left.
        let home = tempfile::tempdir().unwrap();
        command.env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin");
        match self.form {
            Form::Proof => command.args(["--trusted-root", text(&root)]),
            Form::ProofByFlag => command.args(["--new-bundle-format", "--trusted-root", text(&root)]),
            Form::Timestamp => {
                let key = case.path(instead.set_key.unwrap_or("set.pub.pem"));
                command.arg("--offline").env("SIGSTORE_REKOR_PUBLIC_KEY", key)
            }
        };
        Output::of(command.arg(case.path(instead.blob.unwrap_or("blob"))))
    }

    fn good(&self) -> &Value {
        match self.form {
            Form::Proof | Form::ProofByFlag => &self.case.bundle,
            Form::Timestamp => &self.case.legacy,
        }
    }

    /// The bundle with one member altered.
    fn bundle(&self, pointer: &str, alter: impl FnOnce(&mut Value)) -> Instead {
        Instead { bundle: Some(with(self.good(), pointer, alter)), ..Instead::default() }
    }
}

/// The program in an empty network namespace, where one may be made.
pub(crate) fn offline(program: &Path) -> Command {
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    let permitted = PERMITTED.get_or_init(|| {
        let tried =
            Command::new("unshare").args(["-n", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let permitted = tried.is_ok_and(|status| status.success());
        if !permitted {
            hsm_sim::skip("no network namespace may be made here: cosign is asked with the network there");
        }
        permitted
    });
    if !permitted {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.arg("-n").arg(program);
    command
}

#[test]
fn stock_cosigns_take_what_the_log_has_and_nothing_else() {
    if !have("docker-registry") {
        return;
    }
    let (new, old) = (Rows::of("cosign-3.1.1"), Rows::of("cosign-2.5.0"));
    if new.is_none() && old.is_none() {
        return;
    }
    let case = Case::make();
    for (judge, file) in [(new, "1-cosign-3.1.1"), (old, "2-cosign-2.5.0")] {
        let Some((mut rows, bin)) = judge else { continue };
        let client = |form| Client { case: &case, cosign: bin.join("cosign"), form };
        if file.ends_with("3.1.1") {
            proof_rows(&mut rows, &client(Form::Proof));
            own_log_rows(&mut rows, &client(Form::Proof));
        } else {
            rows.add(
                "bundle, with --new-bundle-format: as it is",
                UNREAD,
                &client(Form::ProofByFlag).verify(Instead::default()),
            );
        }
        timestamp_rows(&mut rows, &client(Form::Timestamp));
        rows.keep(file);
    }
}

/// cosign makes the entry anew from what it verifies, and hashes from there to the root.
const OTHER_ROOT: Verdict = Verdict::Refuses(&["verifying inclusion: calculated root", "wrong proof size"]);
const CHECKPOINT: Verdict = Verdict::Refuses(&[
    "unverified checkpoint signature: failed to verify signatures on checkpoint: invalid signature for key",
]);
const OTHER_KEY: Verdict = Verdict::Refuses(&[
    "unverified checkpoint signature: failed to verify signatures on checkpoint: note has no verifiable signatures",
]);
/// cosign 2.5.0 wants a timestamp in every entry, and looks at no proof without one.
const UNREAD: Verdict = Verdict::Refuses(&["validation error: nil value in transaction log entry"]);
const NO_ENTRY: Verdict = Verdict::Refuses(&["not enough verified log entries from transparency log: 0 < 1"]);

/// The log's proof, piece by piece.
fn proof_rows(rows: &mut Rows, client: &Client<'_>) {
    let case = client.case;
    let at = |member: &str| format!("{ENTRY}{member}");
    let envelope = at("/inclusionProof/checkpoint/envelope");
    let note = case.bundle.pointer(&envelope).unwrap().as_str().unwrap();
    let size: u64 = note.lines().nth(1).unwrap().parse().unwrap();
    let root = note.lines().nth(2).unwrap();
    let (other_bundle, other_root) = (case.read("other.bundle.json"), case.read("other.trusted_root.json"));
    let with_root = |root: Value| Instead { trusted_root: Some(root), ..Instead::default() };
    let mut row = |what: &str, verdict: Verdict, instead: Instead| {
        rows.add(&format!("bundle: {what}"), verdict, &client.verify(instead));
    };
    row("as it is", Verdict::Accepts, Instead::default());
    row("proof: a hash altered", OTHER_ROOT, client.bundle(&at("/inclusionProof/hashes/0"), flip));
    row(
        "proof: a hash left out",
        OTHER_ROOT,
        client.bundle(&at("/inclusionProof/hashes"), |h| drop(h.as_array_mut().unwrap().pop())),
    );
    row("proof: no hash", OTHER_ROOT, client.bundle(&at("/inclusionProof/hashes"), |h| *h = json!([])));
    row("proof: of another index", OTHER_ROOT, client.bundle(&at("/logIndex"), |i| *i = json!("0")));
    row(
        "checkpoint: signature altered",
        CHECKPOINT,
        client.bundle(&envelope, |e| edit_text(e, other_signature)),
    );
    row(
        "checkpoint: size altered",
        CHECKPOINT,
        client.bundle(&envelope, |e| edit_text(e, |n| other_line(n, 1, &(size + 1).to_string()))),
    );
    let other_hash = format!("{}{}", if root.starts_with('A') { 'B' } else { 'A' }, &root[1..]);
    row(
        "checkpoint: root altered",
        CHECKPOINT,
        client.bundle(&envelope, |e| edit_text(e, |n| other_line(n, 2, &other_hash))),
    );
    row(
        "checkpoint: of another log of the same name",
        OTHER_KEY,
        client.bundle(&envelope, |e| *e = other_bundle.pointer(&envelope).unwrap().clone()),
    );
    row(
        "another log's entry with its proof, checkpoint and trusted root",
        OTHER_ROOT,
        Instead {
            bundle: Some(with(&case.bundle, ENTRY, |e| *e = other_bundle.pointer(ENTRY).unwrap().clone())),
            ..with_root(other_root.clone())
        },
    );
    row(
        "no entry of the log",
        NO_ENTRY,
        client.bundle("/verificationMaterial/tlogEntries", |e| *e = json!([])),
    );
    row("trusted root of another log of the same name", NO_ENTRY, with_root(other_root));
    row(
        "trusted root without a log",
        NO_ENTRY,
        with_root(with(&case.trusted_root, "/tlogs", |t| *t = json!([]))),
    );
    row(
        "trusted root with the log under another host",
        OTHER_KEY,
        with_root(with(&case.trusted_root, "/tlogs/0/baseUrl", |u| *u = json!("https://other.example"))),
    );
    row(
        "another blob",
        Verdict::Refuses(&["invalid signature"]),
        Instead { blob: Some("other.blob"), ..Instead::default() },
    );
    row("another key", OTHER_ROOT, Instead { key: Some("snapshot.pub.pem"), ..Instead::default() });
    row("signature altered", OTHER_ROOT, client.bundle("/messageSignature/signature", flip));
    // What the signed checkpoint says counts, and what the client computes itself.
    row(
        "canonicalizedBody altered",
        Verdict::DoesNotRead,
        client.bundle(&at("/canonicalizedBody"), |b| edit(b, |body| other_digest(body))),
    );
    row("rootHash altered", Verdict::DoesNotRead, client.bundle(&at("/inclusionProof/rootHash"), flip));
    row(
        "treeSize altered",
        Verdict::DoesNotRead,
        client.bundle(&at("/inclusionProof/treeSize"), |s| *s = json!((size - 1).to_string())),
    );
}

/// A log of one entry, altered as only a log could.
fn own_log_rows(rows: &mut Rows, client: &Client<'_>) {
    let log = OwnLog::of(client.case);
    let leaf = log.entry();
    let altered = |edit: fn(&mut Vec<u8>)| {
        let mut leaf = leaf.clone();
        edit(&mut leaf);
        leaf
    };
    for (what, verdict, leaf) in [
        ("the same entry", Verdict::Accepts, leaf.clone()),
        ("the entry's digest altered", OTHER_ROOT, altered(|leaf| other_digest(leaf))),
        ("the entry's signature altered", OTHER_ROOT, altered(|leaf| other_member(leaf, "\"content\":\""))),
        ("the entry's key altered", OTHER_ROOT, altered(|leaf| other_member(leaf, "\"rawBytes\":\""))),
        ("a space behind the entry", OTHER_ROOT, altered(|leaf| leaf.push(b' '))),
    ] {
        let instead = Instead {
            bundle: Some(log.bundle(&leaf, 0, 1)),
            trusted_root: Some(log.trusted_root.clone()),
            ..Instead::default()
        };
        rows.add(&format!("a log of the test's own: {what}"), verdict, &client.verify(instead));
    }
}

/// Another digest in an entry of Rekor v2.
fn other_digest(entry: &mut [u8]) {
    other_member(entry, "\"digest\":\"");
}

/// Another first character behind these words of an entry, of hex or base64.
fn other_member(entry: &mut [u8], words: &str) {
    let at = entry.windows(words.len()).position(|w| w == words.as_bytes()).unwrap() + words.len();
    entry[at] = if entry[at] == b'2' { b'3' } else { b'2' };
}

/// The log's entry timestamp, piece by piece.
fn timestamp_rows(rows: &mut Rows, client: &Client<'_>) {
    let other_legacy = client.case.read("other.legacy.json");
    let mut row = |what: &str, verdict: Verdict, instead: Instead| {
        rows.add(&format!("SET: {what}"), verdict, &client.verify(instead));
    };
    let set = Verdict::Refuses(&["unable to verify SET"]);
    row("as it is", Verdict::Accepts, Instead::default());
    row("altered", set, client.bundle("/rekorBundle/SignedEntryTimestamp", flip));
    row(
        "time altered",
        set,
        client.bundle("/rekorBundle/Payload/integratedTime", |t| *t = json!(t.as_i64().unwrap() - 1)),
    );
    row(
        "index altered",
        set,
        client.bundle("/rekorBundle/Payload/logIndex", |i| *i = json!(i.as_u64().unwrap() + 1)),
    );
    row(
        "entry altered",
        Verdict::Refuses(&["failed to extract signature from bundle: verifying signature"]),
        client.bundle("/rekorBundle/Payload/body", |b| edit(b, |body| other_member(body, "\"value\":\""))),
    );
    row(
        "entry written otherwise",
        set,
        client.bundle("/rekorBundle/Payload/body", |b| edit(b, |body| body.push(b' '))),
    );
    let mismatch = Verdict::Refuses(&["signature in bundle does not match signature being verified"]);
    row(
        "of another log",
        mismatch,
        client.bundle("/rekorBundle", |b| *b = other_legacy["rekorBundle"].clone()),
    );
    row(
        "missing",
        Verdict::Refuses(&["offline verification failed"]),
        client.bundle("", |b| drop(b.as_object_mut().unwrap().remove("rekorBundle"))),
    );
    row(
        "another log's SET key",
        Verdict::Refuses(&["rekor log public key not found for payload"]),
        Instead { set_key: Some("other.set.pub.pem"), ..Instead::default() },
    );
    let other_blob = Instead { blob: Some("other.blob"), ..Instead::default() };
    row("another blob", Verdict::Refuses(&["matching bundle to payload"]), other_blob);
    let other_key = Instead { key: Some("snapshot.pub.pem"), ..Instead::default() };
    row("another key", Verdict::Refuses(&["comparing public key PEMs"]), other_key);
    row("signature altered", mismatch, client.bundle("/base64Signature", flip));
}

/// As an administrator of clients reads it, who has the log's keys in his folder already.
#[test]
fn every_command_of_the_page_about_stock_clients_does_what_the_page_says() {
    if !have("docker-registry") || !have("jq") {
        return;
    }
    for judge in ["cosign-3.1.1", "cosign-2.5.0"] {
        let Some((_, bin)) = Rows::of(judge) else { continue };
        let script = commands("how-to/stock-clients.md");
        assert_eq!(script.matches("cosign verify-blob").count(), 2, "{script}");
        // The older one cannot read a proof, as its row says.
        let lacks = |line: &&str| judge == "cosign-2.5.0" && line.contains("cosign verify-blob --key");
        let script: Vec<&str> = script.lines().filter(|line| !lacks(line)).collect();
        let service = Instance::start();
        let script = script.join("\n").replace("registry.example/team/", &service.repository("demo/"));
        let digest = service.registry.push("demo/app", "v1", "hello");
        assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
        wait_for("the whole log to be published", || {
            (service.history().leaves().len() as u64 == service.committed()).then_some(())
        });
        let (desk, mut env) = (tempfile::tempdir().unwrap(), service.env());
        for key in ["log.vkey", "set.pub.pem", "targets.pub.pem"] {
            fs::copy(Path::new(&env["CHANCERY_PUBKEYS"]).join(key), desk.path().join(key)).unwrap();
        }
        // What is on the page suffices.
        env.remove("CHANCERY_LOG_VKEY");
        let programs = binary("chancery").parent().unwrap().display().to_string();
        let path = format!("{}:{programs}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &script]).current_dir(desk.path()).envs(&env).env("PATH", path);
        bash.env("CHANCERY_TOKEN", &env["CHANCERY_AUDITOR_TOKEN"]);
        let ran = Output::of(bash.env("HOME", desk.path()).env("XDG_STATE_HOME", desk.path()));
        assert_eq!(ran.code, 0, "{judge}: {ran:?}");
        let expected = if judge == "cosign-2.5.0" { 1 } else { 2 };
        assert_eq!(ran.stderr.matches("Verified OK").count(), expected, "{judge}: {ran:?}");
        let [made, kept] = [
            desk.path().join("trusted_root.json"),
            PathBuf::from(&env["CHANCERY_PUBKEYS"]).join("trusted_root.json"),
        ];
        assert_eq!(
            fs::read(made).unwrap(),
            fs::read(kept).unwrap(),
            "init's own, and the one made from the keys alone"
        );
    }
}
