//! litewitness, a witness of the public network: it follows the service's log through growth, restarts and disagreement, and
//! the checkpoints that it cosigned are believed by every client that believed them before.

use crate::{
    cosign::offline,
    rows::{Rows, Verdict},
    tamper::other_signature,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use record::{Digest, Event, Leaf};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tests::{Instance, Output, Settings, free_port, have, wait_for};
use tlog::{
    AddCheckpoint, Checkpoint, CosignerKey, Hash, Note, TilePath, Tiles, VerifierKey, accepted_cosignatures,
    consistency_proof, decode_size, decode_tile, tile_width, tiles_for_consistency,
};

const NAME: &str = "witness.example.com/lite";

/// A litewitness on a database of its own, its key in an ssh-agent.
struct LiteWitness {
    dir: tempfile::TempDir,
    bin: PathBuf,
    agent: Child,
    witness: Option<Child>,
    port: u16,
    fingerprint: String,
    vkey: CosignerKey,
}

impl LiteWitness {
    /// Follows one log.
    fn of(bin: &Path, log: &VerifierKey) -> Self {
        let dir = tempfile::Builder::new().prefix("chy").tempdir().unwrap();
        let key = dir.path().join("key");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&key));
        let agent = quiet(Command::new("ssh-agent").args(["-D", "-a"]).arg(dir.path().join("agent")))
            .spawn()
            .unwrap();
        let add = || {
            Output::of(
                Command::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", dir.path().join("agent")),
            )
        };
        wait_for("the ssh-agent to take the key", || (add().code == 0).then_some(()));
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        let blob = STANDARD.decode(public.split(' ').nth(1).unwrap().trim()).unwrap();
        let vkey = CosignerKey::new_ed25519(NAME, blob[blob.len() - 32..].try_into().unwrap()).unwrap();
        let printed = run(Command::new("ssh-keygen").arg("-lf").arg(key.with_extension("pub")));
        let fingerprint = printed.split(' ').nth(1).unwrap().to_owned();
        let mut witness =
            Self { dir, bin: bin.to_owned(), agent, witness: None, port: free_port(), fingerprint, vkey };
        for args in [vec!["add-log"], vec!["add-key", "-key", &log.to_string()]] {
            let mut command = Command::new(bin.join("witnessctl"));
            command.arg(args[0]).arg("-db").arg(witness.db()).args(["-origin", log.name()]).args(&args[1..]);
            run(&mut command);
        }
        witness.start();
        witness
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("db")
    }

    fn start(&mut self) {
        let mut command = Command::new(self.bin.join("litewitness"));
        command.arg("-db").arg(self.db()).args(["-key", &self.fingerprint, "-name", NAME]);
        command.args(["-listen", &format!("127.0.0.1:{}", self.port)]);
        command.arg("-ssh-agent").arg(self.dir.path().join("agent"));
        self.witness = Some(quiet(&mut command).spawn().unwrap());
        wait_for("litewitness to listen", || std::net::TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// Kills it without warning, and starts it again.
    fn restart(&mut self) {
        self.end();
        self.start();
    }

    fn end(&mut self) {
        if let Some(mut witness) = self.witness.take() {
            let _gone = witness.kill();
            let _gone = witness.wait();
        }
    }

    /// What it answers to a checkpoint: status and body.
    fn ask(&self, message: &AddCheckpoint) -> (u16, String) {
        let body = self.dir.path().join("body");
        fs::write(&body, message.to_string()).unwrap();
        let mut curl = Command::new("curl");
        curl.args(["-s", "--max-time", "20", "-w", "\n%{http_code}", "--data-binary"]);
        curl.arg(format!("@{}", body.display()))
            .arg(format!("http://127.0.0.1:{}/add-checkpoint", self.port));
        let said = Output::of(&mut curl);
        let (body, status) = said.stdout.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }
}

impl Drop for LiteWitness {
    fn drop(&mut self) {
        self.end();
        let _gone = self.agent.kill();
        let _gone = self.agent.wait();
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

fn run(command: &mut Command) -> String {
    let said = Output::of(command);
    assert_eq!(said.code, 0, "{command:?}: {said:?}");
    said.stdout
}

/// The published log at one moment.
struct Published {
    folder: tempfile::TempDir,
    vkey: VerifierKey,
    note: Note,
    checkpoint: Checkpoint,
}

impl Published {
    /// All that is published once the log has more than `beyond` entries.
    fn beyond(service: &Instance, beyond: u64) -> Self {
        let vkey: VerifierKey = service.env()["CHANCERY_LOG_VKEY"].parse().unwrap();
        wait_for("a larger checkpoint", || {
            let folder = tempfile::tempdir().unwrap();
            service.fetch_log(folder.path());
            let note = Note::parse(&fs::read_to_string(folder.path().join("checkpoint")).unwrap()).unwrap();
            let checkpoint = Checkpoint::of_note(&note, &vkey).unwrap();
            (checkpoint.size > beyond).then(|| Self { folder, vkey: vkey.clone(), note, checkpoint })
        })
    }

    fn size(&self) -> u64 {
        self.checkpoint.size
    }

    fn proof_from(&self, old: u64) -> Vec<Hash> {
        let size = self.size();
        let mut tiles = Tiles::new();
        for id in tiles_for_consistency(old, size).unwrap() {
            let path = TilePath::hashes(id, tile_width(id, size)).unwrap().to_string();
            tiles.insert(id, decode_tile(&fs::read(self.folder.path().join(path)).unwrap()).unwrap());
        }
        consistency_proof(old, size, &tiles).unwrap()
    }

    /// The request of a log that believes its witness to have seen `old` entries.
    fn request(&self, old: u64) -> AddCheckpoint {
        let proof = if old == 0 || old >= self.size() { vec![] } else { self.proof_from(old) };
        AddCheckpoint { old, proof, checkpoint: self.note.clone() }
    }
}

/// What a log makes of an answer: its cosignatures verify, or the status that it must react to.
fn judged(witness: &LiteWitness, published: &Published, (status, body): (u16, String)) -> Output {
    let verified = status == 200
        && accepted_cosignatures(&published.note, &witness.vkey, &body).is_ok_and(|c| c.len() == 1);
    let said =
        if verified { "200 with a cosignature that verifies".into() } else { format!("{status} {body}") };
    Output { code: i32::from(!verified), stdout: said, stderr: String::new() }
}

fn sign(service: &Instance, digest: &Digest, tag: &str) {
    let signed = service.sign("demo/app", digest, tag);
    assert_eq!(signed.code, 0, "{signed:?}");
}

#[test]
fn litewitness_cosigns_the_log_through_growth_restarts_and_a_conflict() {
    if !have("docker-registry") || !have("ssh-agent") {
        return;
    }
    let Some((mut rows, bin)) = Rows::of("torchwood") else { return };
    let mut service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "hello");
    let first = Published::beyond(&service, 0);
    let mut witness = LiteWitness::of(&bin, &first.vkey);
    let mut row = |witness: &LiteWitness,
                   what: &str,
                   verdict: Verdict,
                   published: &Published,
                   message: &AddCheckpoint| {
        let (status, body) = witness.ask(message);
        rows.add(what, verdict, &judged(witness, published, (status, body.clone())));
        body
    };
    row(&witness, "the first checkpoint", Verdict::Accepts, &first, &first.request(0));
    row(&witness, "the same one again", Verdict::Accepts, &first, &first.request(first.size()));

    sign(&service, &digest, "v1");
    let grown = Published::beyond(&service, first.size());
    row(&witness, "a larger one with its proof", Verdict::Accepts, &grown, &grown.request(first.size()));

    witness.restart();
    assert_eq!(service.stop(), 0);
    service.resume(&Settings::default());
    sign(&service, &digest, "v2");
    let after = Published::beyond(&service, grown.size());
    row(
        &witness,
        "a larger one after log and witness were restarted",
        Verdict::Accepts,
        &after,
        &after.request(grown.size()),
    );

    sign(&service, &digest, "v3");
    let last = Published::beyond(&service, after.size());
    let conflict = Verdict::Refuses(&["409"]);
    let told =
        row(&witness, "a proof from elsewhere: a conflict", conflict, &last, &last.request(first.size()));
    let seen = decode_size(&told).unwrap();
    assert_eq!(seen, after.size());
    row(&witness, "the same one from where the witness stands", Verdict::Accepts, &last, &last.request(seen));
    row(&witness, "an earlier one", Verdict::Refuses(&["400"]), &first, &first.request(last.size()));
    row(&witness, "an earlier one as if nothing was", conflict, &first, &first.request(0));

    sign(&service, &digest, "v4");
    let next = Published::beyond(&service, last.size());
    let mut wrong = next.request(last.size());
    wrong.proof[0].0[0] ^= 1;
    row(&witness, "a wrong proof", Verdict::Refuses(&["422"]), &next, &wrong);
    let altered = Note::parse(&other_signature(&next.note.to_string())).unwrap();
    let altered = AddCheckpoint { checkpoint: altered, ..next.request(last.size()) };
    row(&witness, "a checkpoint that its log did not sign", Verdict::Refuses(&["403"]), &next, &altered);
    let cosigned = row(&witness, "and the true one", Verdict::Accepts, &next, &next.request(last.size()));
    rows.keep("3-litewitness");

    clients_believe_what_was_cosigned(&service, &witness, &next, &cosigned);
}

/// As `docs/how-to/witnesses.md` sets it up, fail-closed: what is published has the witness's cosignature, or is not published.
#[test]
fn the_service_itself_gets_litewitness_to_cosign_its_log_through_growth_and_restarts() {
    if !have("docker-registry") || !have("ssh-agent") {
        return;
    }
    let Some((mut rows, bin)) = Rows::of("torchwood") else { return };
    let mut service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "hello");
    assert_eq!(service.stop(), 0);
    let log: VerifierKey = service.env()["CHANCERY_LOG_VKEY"].parse().unwrap();
    let mut witness = LiteWitness::of(&bin, &log);
    let policy = witness.dir.path().join("policy");
    let line = format!("witness lite {} http://127.0.0.1:{}", witness.vkey, witness.port);
    fs::write(&policy, format!("log {log}\n{line}\nquorum lite\n")).unwrap();
    let config = service.dir().join("chanceryd.toml");
    let text = fs::read_to_string(&config).unwrap();
    let witnesses = format!("[log.witnesses]\npolicy = {policy:?}\nwithout_quorum = \"wait\"\n");
    let limit = "max_unwitnessed = { leaves = 2000, minutes = 30 }";
    fs::write(&config, format!("{text}\n{witnesses}{limit}\n")).unwrap();

    let mut row = |service: &Instance, witness: &LiteWitness, what: &str| {
        let said = cosigned(service, witness);
        rows.add(&format!("asked by the service: {what}"), Verdict::Accepts, &said);
    };
    service.resume(&Settings::default());
    row(&service, &witness, "the first checkpoint");
    for tag in ["v1", "v2"] {
        sign(&service, &digest, tag);
        row(&service, &witness, "a larger one");
    }
    // The next daemon does not know where the witness stands, and is told so by a 409.
    witness.restart();
    assert_eq!(service.stop(), 0);
    service.resume(&Settings::default());
    sign(&service, &digest, "v3");
    row(&service, &witness, "a larger one after log and witness were restarted");
    rows.keep("3-litewitness-2");
    let troubles =
        |leaf: &&Leaf| matches!(leaf, Leaf::Event(Event::WitnessLost { .. } | Event::WitnessConflict { .. }));
    assert_eq!(service.history().leaves().iter().filter(troubles).count(), 0);
    let policy = policy.to_str().unwrap();
    let verified = service.chancery_as("CHANCERY_AUDITOR_TOKEN", &["log", "verify", "--policy", policy]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

/// Waits until everything that the log has now is published, and gives what the witness has said of it.
fn cosigned(service: &Instance, witness: &LiteWitness) -> Output {
    let log: VerifierKey = service.env()["CHANCERY_LOG_VKEY"].parse().unwrap();
    let size = service.committed();
    let note = wait_for("the whole log to be published", || {
        let (status, note) = service.http("", "/v1/log/checkpoint", &[]);
        let note = (status == 200).then(|| Note::parse(&note).unwrap())?;
        (Checkpoint::of_note(&note, &log).unwrap().size >= size).then_some(note)
    });
    let (code, stdout) = match note.cosigned_at(&witness.vkey) {
        Ok(_) => (0, "a cosignature that verifies".into()),
        Err(error) => (1, error.to_string()),
    };
    Output { code, stdout, stderr: String::new() }
}

/// The cosigned checkpoint in the place of the log's own: the auditor's tools demand the cosignature, and cosign does not mind it.
fn clients_believe_what_was_cosigned(
    service: &Instance,
    witness: &LiteWitness,
    published: &Published,
    answer: &str,
) {
    let lines = accepted_cosignatures(&published.note, &witness.vkey, answer).unwrap();
    let cosigned = published.note.clone().with_signatures(lines).unwrap().to_string();
    let log = published.folder.path();
    let policy = witness.dir.path().join("policy");
    fs::write(&policy, format!("log {}\nwitness lite {}\nquorum lite\n", published.vkey, witness.vkey))
        .unwrap();
    let verify =
        || service.chancery(&["log", "verify", log.to_str().unwrap(), "--policy", policy.to_str().unwrap()]);
    assert_eq!(verify().code, 10, "without the cosignature");
    fs::write(log.join("checkpoint"), cosigned).unwrap();
    let said = verify();
    assert_eq!(said.code, 0, "{said:?}");
    let Some((mut rows, bin)) = Rows::of("cosign-3.1.1") else { return };
    let signed = service.chancery(&[
        "log",
        "search",
        log.to_str().unwrap(),
        "--tag",
        "v4",
        "--end",
        "signed",
        "-o",
        "json",
    ]);
    let found: serde_json::Value =
        serde_json::from_str(&signed.stdout).unwrap_or_else(|e| panic!("{e}: {signed:?}"));
    let hit = &found["hits"][0];
    let (bundle, keys) = (log.join("bundle.json"), PathBuf::from(&service.env()["CHANCERY_PUBKEYS"]));
    let index = hit["index"].to_string();
    let prove = service.chancery(&[
        "log",
        "prove",
        &index,
        log.to_str().unwrap(),
        "--sigstore-bundle",
        bundle.to_str().unwrap(),
    ]);
    assert_eq!(prove.code, 0, "{prove:?}");
    // The server has what was signed.
    let blob = log.join("blob");
    let prove = service.chancery_as(
        "CHANCERY_AUDITOR_TOKEN",
        &["log", "prove", &index, "--payload", blob.to_str().unwrap()],
    );
    assert_eq!(prove.code, 0, "{prove:?}");
    let mut cosign = offline(&bin.join("cosign"));
    cosign.arg("verify-blob").arg("--key").arg(keys.join("targets.pub.pem")).arg("--bundle").arg(bundle);
    cosign
        .arg("--trusted-root")
        .arg(keys.join("trusted_root.json"))
        .arg(blob)
        .env("HOME", witness.dir.path());
    rows.add(
        "bundle: with a checkpoint that litewitness cosigned",
        Verdict::Accepts,
        &Output::of(&mut cosign),
    );
    rows.keep("4-cosign-3.1.1");
}
