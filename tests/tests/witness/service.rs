//! A whole service and its witnesses.

use record::{Digest, Event, Leaf, Sha256};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    thread,
};
use tests::{Instance, Output, OwnWitness, Settings, free_port, have, wait_for};
use tlog::Checkpoint;

/// What stays while a service is put back to an older copy of itself.
const STATE: [&str; 3] = ["data", "log/state", "signing/state"];

/// A service with two witnesses, of which a quorum takes both.
struct Site {
    service: Instance,
    north: OwnWitness,
    south: OwnWitness,
    digest: Digest,
    dir: tempfile::TempDir,
}

impl Site {
    /// `more` is what stands in `[log.witnesses]` besides the policy, `others` are more lines of the policy. None where no
    /// registry is installed.
    fn start(more: &str, others: &str) -> Option<Self> {
        if !have("docker-registry") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut service = Instance::start();
        let digest = service.registry.push("demo/app", "v1", "x");
        assert_eq!(service.stop(), 0);
        let log = service.env()["CHANCERY_LOG_VKEY"].clone();
        let [mut north, mut south] = ["north", "south"].map(|name| OwnWitness::init(dir.path(), name, &log));
        north.start();
        south.start();
        let lines = format!("log {log}\n{}{}{others}", north.line(), south.line());
        for (name, threshold) in [("both", "all"), ("one", "any")] {
            let text = format!("{lines}group enough {threshold} north south\nquorum enough\n");
            fs::write(dir.path().join(name), text).unwrap();
        }
        let config = service.dir().join("chanceryd.toml");
        let text = fs::read_to_string(&config).unwrap();
        let policy = dir.path().join("both").display().to_string();
        fs::write(&config, format!("{text}\n[log.witnesses]\npolicy = {policy:?}\n{more}\n")).unwrap();
        service.resume(&Settings::default());
        Some(Self { service, north, south, digest, dir })
    }

    fn sign(&self, tag: &str) -> Output {
        self.service.sign("demo/app", &self.digest, tag)
    }

    fn signs(&self, tag: &str) {
        let signed = self.sign(tag);
        assert_eq!(signed.code, 0, "{signed:?}");
    }

    /// The published checkpoint.
    fn published(&self) -> Checkpoint {
        let (status, note) = self.service.http("", "/v1/log/checkpoint", &[]);
        assert_eq!(status, 200, "{note}");
        Checkpoint::open(&note, &self.service.env()["CHANCERY_LOG_VKEY"].parse().unwrap()).unwrap()
    }

    /// `chancery log verify` of the server with a policy.
    fn verify(&self, policy: &str) -> Output {
        let policy = self.dir.path().join(policy);
        let args = ["log", "verify", "-o", "json", "--policy", policy.to_str().unwrap()];
        self.service.chancery_as("CHANCERY_AUDITOR_TOKEN", &args)
    }

    /// Everything up to now is published, and enough witnesses have cosigned it.
    fn is_witnessed(&self, policy: &str) {
        let size = self.service.noted().unwrap();
        assert!(self.published().size >= size);
        let verified = wait_for("the quorum", || Some(self.verify(policy)).filter(|v| v.code == 0));
        let report: Value = serde_json::from_str(&verified.stdout).unwrap();
        assert!(report["size"].as_u64().unwrap() >= size, "{report}");
    }

    /// What each start of the daemon says of its configuration and of its witnesses' policy.
    fn configurations(&self) -> Vec<(Sha256, Option<Sha256>)> {
        let of = |leaf: &Leaf| match leaf {
            Leaf::Event(Event::Started { config, witness_policy, .. }) => Some((*config, *witness_policy)),
            _ => None,
        };
        self.service.history().leaves().iter().filter_map(of).collect()
    }

    fn readiness(&self) -> (u16, Value) {
        let (status, body) = self.service.http("", "/readyz", &[]);
        (status, serde_json::from_str(&body).unwrap())
    }

    fn alarms(&self) -> String {
        self.readiness().1["alarms"].to_string()
    }

    /// The log's words about this witness, in order.
    fn told(&self, name: &str) -> Vec<&'static str> {
        let word = |leaf: &Leaf| match leaf {
            Leaf::Event(Event::WitnessLost { witness, .. }) if witness == name => Some("lost"),
            Leaf::Event(Event::WitnessConflict { witness, .. }) if witness == name => Some("conflict"),
            Leaf::Event(Event::WitnessBack { witness, .. }) if witness == name => Some("back"),
            _ => None,
        };
        self.service.history().leaves().iter().filter_map(word).collect()
    }

    fn copy(&self, name: &str) {
        for part in STATE {
            copy(&self.service.dir().join(part), &self.dir.path().join(name).join(part));
        }
    }

    fn restore(&self, name: &str) {
        for part in STATE {
            let place = self.service.dir().join(part);
            fs::remove_dir_all(&place).unwrap();
            copy(&self.dir.path().join(name).join(part), &place);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[test]
fn what_never_changes_may_be_kept_by_everybody_and_the_checkpoint_and_what_is_missing_by_nobody() {
    let service = Instance::start();
    let headers = |token: &str, path: &str| {
        let (status, said) = service.http(token, &format!("/v1/log/{path}"), &["-o", "/dev/null", "-D", "-"]);
        let cache = said.lines().find_map(|line| line.strip_prefix("cache-control: ")).unwrap_or("");
        (status, cache.trim().to_owned())
    };
    let unchanging = |whose: &str| format!("{whose}, max-age=31536000, immutable");
    for (token, path, status, cache) in [
        ("", "checkpoint", 200, "no-cache".to_owned()),
        ("", "tile/0/000.p/2", 200, unchanging("public")),
        ("CHANCERY_AUDITOR_TOKEN", "tile/entries/000.p/2", 200, unchanging("private")),
        ("", "tile/0/000", 404, "no-store".into()),
        ("", "tile/entries/000.p/2", 401, "no-store".into()),
    ] {
        assert_eq!(headers(token, path), (status, cache), "{path}");
    }
}

/// Somebody who answers every question with a size that this log does not have, and shows nothing.
fn boaster(folder: &Path) -> String {
    let port = free_port();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4];
            let _request = stream.read(&mut head);
            let (status, body) = if &head == b"POST" { (409, "9007199254740993\n") } else { (404, "") };
            let _gone = write!(
                stream,
                "HTTP/1.1 {status} X\r\ncontent-type: text/x.tlog.size\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    let key: PathBuf = folder.join("boaster");
    let made = Output::of(
        Command::new(tests::binary("chancery"))
            .args(["log", "witness", "init", "--name", "boaster.example", "--state"])
            .arg(&key),
    );
    format!("witness boaster {} http://127.0.0.1:{port}\n", made.stdout.trim())
}

#[test]
fn what_is_published_is_cosigned_and_without_the_quorum_it_is_published_with_an_alarm() {
    let folder = tempfile::tempdir().unwrap();
    let more = "without_quorum = \"publish\"\ntimeout_s = 2";
    let Some(mut site) = Site::start(more, &boaster(folder.path())) else { return };
    site.signs("v1");
    site.is_witnessed("both");

    // The log says with which files each start was made: here the second has witnesses.
    let starts = site.configurations();
    let of = |file: &Path| Sha256::of(&fs::read(file).unwrap());
    let (first, last) = (starts[0], starts[starts.len() - 1]);
    assert_eq!(
        last,
        (of(&site.service.dir().join("chanceryd.toml")), Some(of(&site.dir.path().join("both"))))
    );
    assert!(first.0 != last.0 && first.1.is_none(), "{starts:?}");

    // Nobody has signed what it claims: an alarm, and signing goes on.
    wait_for("the log to tell of the claim", || (site.told("boaster") == ["conflict"]).then_some(()));
    let (status, readiness) = site.readiness();
    assert_eq!((status, readiness["ready"].as_bool()), (200, Some(true)), "{readiness}");
    assert!(readiness["heads"].is_null(), "witnesses of this host keep no head off it: {readiness}");
    assert!(
        site.alarms().contains("witness boaster: it claims to have cosigned 9007199254740993 entries"),
        "{readiness}"
    );

    // Growth, and restarts of either side.
    for tag in ["v2", "v3"] {
        site.signs(tag);
        site.is_witnessed("both");
    }
    assert_eq!(site.service.stop(), 0);
    site.service.resume(&Settings::default());
    site.signs("v4");
    assert_eq!(site.north.stop(), Some(0));
    site.north.start();
    site.signs("v5");
    site.is_witnessed("both");
    assert_eq!(site.told("north"), Vec::<&str>::new(), "a restart is no loss");

    // One is gone: published all the same, with one of two.
    site.north.kill();
    site.signs("v6");
    wait_for("the log to tell of the loss", || (site.told("north") == ["lost"]).then_some(()));
    site.is_witnessed("one");
    let refused = site.verify("both");
    assert_eq!(refused.code, 10, "{refused:?}");
    let alarms = site.alarms();
    assert!(alarms.contains("is published without the quorum"), "{alarms}");
    assert!(alarms.contains("witness north: it cannot be reached"), "{alarms}");
    assert_eq!(site.readiness().0, 200);
    let health = site.service.chancery_as("CHANCERY_AUDITOR_TOKEN", &["token", "health"]);
    assert!(health.code == 0 && health.stdout.contains("ALARM: witness north"), "{health:?}");
    let doctor = site.service.chancery(&["doctor"]);
    assert!(doctor.code == 0 && doctor.stdout.contains("warn  alarm: witness north"), "{doctor:?}");

    // And back, by itself.
    site.north.start();
    wait_for("the log to tell of the return", || (site.told("north") == ["lost", "back"]).then_some(()));
    site.is_witnessed("both");
    site.service.verify_log();
    for witness in [&site.north, &site.south] {
        assert!(witness.seen().unwrap().size <= site.published().size);
    }
}

#[test]
fn a_checkpoint_that_waits_for_its_quorum_stops_signing_at_the_limit_and_goes_on_by_itself() {
    let more = "without_quorum = \"wait\"\nmax_unwitnessed = { leaves = 24, minutes = 60 }\ntimeout_s = 2";
    let Some(mut site) = Site::start(more, "") else { return };
    site.signs("v1");
    site.is_witnessed("both");
    let before = site.published();
    site.south.kill();

    // Signing goes on up to the limit, and what is published waits.
    let mut signed = 0;
    let refused = loop {
        let answer = site.sign(&format!("w{signed}"));
        assert_eq!(site.published(), before, "published without its quorum");
        if answer.code != 0 {
            break answer;
        }
        signed += 1;
        assert!(signed < 24, "no limit: {answer:?}");
    };
    assert!(signed > 0, "{refused:?}");
    assert!(refused.code == 9 || refused.code == 7, "{refused:?}");
    wait_for("the service not to be ready", || (site.readiness().0 == 503).then_some(()));
    let (_, readiness) = site.readiness();
    assert!(readiness["problems"].to_string().contains("witnesses: their quorum"), "{readiness}");
    assert!(site.alarms().contains("waits for the quorum"), "{readiness}");

    // Refused with the word that says that nothing is signed without the log; no key is used.
    let journal = site.service.signed();
    let (status, problem) = site.service.post("CHANCERY_TOKEN", "late", "demo/app", &site.digest, "late");
    assert_eq!((status, problem["code"].as_str()), (503, Some("audit-unavailable")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("the limit is 24"), "{problem}");
    assert_eq!(site.service.signed(), journal, "a key was used");
    // Nor does a signature get a timestamp that its checkpoint has to wait for.
    let timestamp = |site: &Site, index: u64| {
        site.service.http("CHANCERY_AUDITOR_TOKEN", &format!("/v1/log/set/{index}"), &[])
    };
    let said: Vec<_> =
        (before.size..site.service.committed()).map(|index| (index, timestamp(&site, index))).collect();
    assert!(said.iter().all(|(_, (status, _))| [404, 503].contains(status)), "{said:?}");
    let waits = said.iter().find(|(_, (_, problem))| problem.contains("no published checkpoint covers"));
    let waiting = waits.expect("a signature that waits").0;
    assert_eq!(site.service.entry_timestamps(), 0);
    // Reads go on.
    assert!(site.service.trust_file("demo/app", "targets.json").contains("\"v1\":"));
    assert_eq!(site.published(), before);

    // It starts so as well, and signs nothing before the quorum is there.
    site.south.start();
    site.service.wait_until_ready();
    site.signs("late");
    site.is_witnessed("both");
    assert!(site.published().size > before.size);
    assert_eq!(timestamp(&site, waiting).0, 200);
    site.service.verify_log();
}

#[test]
fn a_service_put_back_to_an_older_copy_of_everything_is_stopped_by_what_its_witnesses_have_seen() {
    let more = "without_quorum = \"publish\"\ntimeout_s = 2";
    let Some(mut site) = Site::start(more, "") else { return };
    site.signs("v1");
    assert_eq!(site.service.stop(), 0);
    site.copy("older");
    site.service.resume(&Settings::default());
    for tag in ["v2", "v3", "v4", "v5"] {
        site.signs(tag);
    }
    site.is_witnessed("both");
    let seen = site.north.seen().unwrap();
    assert_eq!(site.service.stop(), 0);
    site.restore("older");

    // Keepers, database and spool agree with each other: only the witnesses know better.
    let said = site.service.resume_in_vain();
    assert!(said.contains("chanceryd ended (exit status: 78)"), "{said}");
    let theirs = format!("has a checkpoint of {} entries with root {}", seen.size, seen.root.to_base64());
    for word in ["witness north", &theirs, "the log here has", "restored from an older copy", "chancery.db"] {
        assert!(said.contains(word), "no {word:?} in {said}");
    }

    // Nobody answers at the start: it goes on with an alarm, until somebody does.
    site.north.kill();
    site.south.kill();
    site.service.resume(&Settings::default());
    site.signs("v6");
    wait_for("the alarm", || site.alarms().contains("witness north: it cannot be reached").then_some(()));
    let journal = site.service.signed();
    site.north.start();
    let sealed = wait_for("the seal", || {
        let problems = site.readiness().1["problems"].to_string();
        problems.contains("sealed: FORK: witness north").then_some(problems)
    });
    assert!(sealed.contains(&seen.root.to_base64()), "{sealed}");
    let (status, problem) = site.service.post("CHANCERY_TOKEN", "fork", "demo/app", &site.digest, "v7");
    assert_eq!((status, problem["code"].as_str()), (503, Some("audit-unavailable")), "{problem}");
    assert_eq!(site.service.signed(), journal, "a key was used");
    assert_eq!(site.north.seen().unwrap(), seen, "the fork was cosigned");
}
