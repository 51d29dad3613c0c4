//! The end of a log, and a new one that goes on with the same collections, keys and clients.

use hsm_sim::Rule;
use record::{Digest, Event, Leaf, Purpose};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tests::{
    Instance, Output, OwnKeeper, Part, Parts, Settings, TARGETS_KEY, Wanted, alter, copy, have, wait_for,
};

const NEW: &str = "log-2.chancery.test";
const REPOSITORY: &str = "demo/app";
/// `CKA_ID` of a keeper's root key.
const ROOT_KEY: &[u8] = &[1];

/// A service whose log has ended: its database and spool were both restored from older copies. The newest database was
/// found elsewhere, without a spool and without the token of the log key.
struct Ended {
    service: Instance,
    parts: Parts,
    /// The origin and verifier key of the log that ended.
    vkey: String,
    origin: String,
    note: PathBuf,
}

impl Ended {
    /// With these tags; the older copies have the first one only. None where no registry is installed.
    fn with(tags: &[&str], client: &Path) -> Option<Self> {
        if !have("docker-registry") || !have("curl") || !have("notary") {
            return None;
        }
        let mut service = Instance::start();
        let digest = service.registry.push(REPOSITORY, "v1", "x");
        let (first, later) = tags.split_first().unwrap();
        assert_eq!(service.sign(REPOSITORY, &digest, first).code, 0);
        assert_eq!(service.stop(), 0);
        let older = service.dir().join("older");
        for part in [Part::Daemon, Part::LogKeeper] {
            copy(&service.dir().join(part.state()), &older.join(part.state()));
        }
        service.resume(&Settings::default());
        for tag in later {
            assert_eq!(service.sign(REPOSITORY, &digest, tag).code, 0);
        }
        let pinned = service.notary(client, &["list", &service.repository(REPOSITORY)]);
        assert!(tags.iter().all(|tag| pinned.stdout.contains(tag)), "{pinned:?}");
        let ended = Self::of(service);
        ended.parts.restore(&older, &[Part::Daemon, Part::LogKeeper]);
        Some(ended)
    }

    /// The log of a service that runs ends now; the newest database is kept.
    fn of(mut service: Instance) -> Self {
        service.verify_log();
        let vkey = service.env()["CHANCERY_LOG_VKEY"].clone();
        let note = service.dir().join("last-note");
        let kept = service.dir().join("kept");
        service.fetch_log(&kept);
        fs::copy(kept.join("checkpoint"), &note).unwrap();
        assert_eq!(service.stop(), 0);
        let parts = Parts::of(&service);
        copy(&parts.state(Part::Daemon), &service.dir().join("former"));
        let origin = vkey.split('+').next().unwrap().to_owned();
        Self { service, parts, vkey, origin, note }
    }

    /// Starts the daemon on the older copies: it must not serve.
    fn is_refused(&self) {
        let (_log, _signing) = (self.parts.start(Part::LogKeeper), self.parts.start(Part::SigningKeeper));
        let mut daemon = self.parts.start(Part::Daemon);
        assert_eq!(self.parts.settled(&mut daemon), Some(78), "{}", daemon.said());
        assert!(daemon.said().contains("a keeper never follows a log that lacks what it has seen"));
    }

    /// Puts the states of daemon and log keeper aside, and makes a key and a log keeper's state for the new log; its name and
    /// key come into every file that named the former ones. Gives the new verifier key.
    fn begin_anew(&self) -> String {
        let dir = self.service.dir();
        for part in [Part::Daemon, Part::LogKeeper] {
            fs::rename(self.parts.state(part), dir.join(format!("older-{part:?}"))).unwrap();
        }
        let config = fs::read_to_string(self.parts.config(Part::LogKeeper)).unwrap();
        let module = quoted(&config, "module = ");
        let label = quoted(&config, "label = ");
        let pin = dir.join("log/pin");
        let made = Output::of(&mut self.service.keeper_command(&[
            "admin",
            "key",
            "generate",
            "--module",
            &module,
            "--token-label",
            &label,
            "--pin-file",
            pin.to_str().unwrap(),
            "--id",
            "02",
            "--label",
            "log-2",
            "--type",
            "ed25519",
            "--origin",
            NEW,
        ]));
        assert_eq!(made.code, 0, "{made:?}");
        let made: Value = serde_json::from_str(&made.stdout).unwrap();
        let vkey = made["vkey"].as_str().unwrap().to_owned();
        for file in ["log/keeper.toml", "signing/charter.toml", "chanceryd.toml", "env"] {
            let text = fs::read_to_string(dir.join(file)).unwrap();
            let text =
                text.replace(&self.vkey, &vkey).replace(&format!("{:?}", self.origin), &format!("{NEW:?}"));
            fs::write(dir.join(file), text.replace("cka_id = \"01\"\nvkey", "cka_id = \"02\"\nvkey"))
                .unwrap();
        }
        let made = Output::of(&mut self.parts.command(Part::LogKeeper, &["init"]));
        assert_eq!(made.code, 0, "{made:?}");
        vkey
    }

    /// `admin follow-log` of the signing keeper.
    fn follow(&self, more: &[&str]) -> Output {
        let words = [&["admin", "follow-log", "--former-origin", &self.origin], more].concat();
        Output::of(&mut self.parts.command(Part::SigningKeeper, &words))
    }

    /// `chanceryd init` of the new log, with the newest database of the former one.
    fn init(&self) -> Command {
        let dir = self.service.dir();
        let mut init = self.parts.command(Part::Daemon, &["init", "--former-vkey", &self.vkey]);
        init.arg("--admin-token-file").arg(dir.join("admin-2.token"));
        init.arg("--continues").arg(&self.note).arg("--former").arg(dir.join("former"));
        init.args(["--reason", "its database and its spool were lost"]);
        init
    }

    /// The new log's tokens, in place of the former ones.
    fn make_tokens(&self) {
        let admin = self.service.dir().join("admin-2.token");
        let made = |scope: &str| {
            let repository = self.service.repository("demo/");
            let scoped: &[&str] = if scope == "sign" { &["--repository", &repository] } else { &[] };
            let words = ["--token-file", admin.to_str().unwrap(), "token", "create", "--scope", scope];
            let made = self
                .service
                .chancery(&[&words[..], scoped, &["--expires", "1d", "--note", "x", "-o", "json"]].concat());
            assert_eq!(made.code, 0, "{made:?}");
            let made: Value = serde_json::from_str(&made.stdout).unwrap();
            made["bearer"].as_str().unwrap().to_owned()
        };
        let file = self.service.dir().join("env");
        let mut text = fs::read_to_string(&file).unwrap();
        for (name, scope) in [("CHANCERY_TOKEN", "sign"), ("CHANCERY_AUDITOR_TOKEN", "audit")] {
            text.push_str(&format!("\nexport {name}='{}'\n", made(scope)));
        }
        fs::write(file, text).unwrap();
    }

    /// The version of each role's file that clients get.
    fn versions(&self) -> Vec<u64> {
        let version = |name: &str| {
            let file: Value = serde_json::from_str(&self.service.trust_file(REPOSITORY, name)).unwrap();
            file["signed"]["version"].as_u64().unwrap()
        };
        ["root.json", "targets.json", "snapshot.json", "timestamp.json"].map(version).to_vec()
    }
}

/// The text behind the first `name` of a TOML file.
fn quoted(toml: &str, name: &str) -> String {
    toml.split_once(name).unwrap().1.split('"').nth(1).unwrap().to_owned()
}

#[test]
fn a_new_log_goes_on_where_one_ended_and_clients_that_had_pinned_the_collection_see_old_and_new_tags() {
    let client = tempfile::tempdir().unwrap();
    let Some(ended) = Ended::with(&["v1", "v2", "v3"], client.path()) else { return };
    ended.is_refused();
    let vkey = ended.begin_anew();
    let log = ended.parts.start(Part::LogKeeper);
    let mut untold = ended.parts.start(Part::SigningKeeper);
    assert_eq!(untold.ended(), Some(78), "a keeper that was not told: {}", untold.said());
    assert!(untold.said().contains(&format!("for log {}", ended.origin)), "{}", untold.said());
    // The service was stopped before its keeper had learnt that the newest timestamp stands in the log.
    let refused = ended.follow(&[]);
    assert_eq!(refused.code, 78, "{refused:?}");
    let open = format!("timestamp version 3 of {}", ended.service.repository(REPOSITORY));
    assert!(refused.stderr.contains(&open), "{refused:?}");
    let followed = ended.follow(&["--abandon-open"]);
    assert_eq!(followed.code, 0, "{followed:?}");
    let told: Value = serde_json::from_str(&followed.stdout).unwrap();
    assert_eq!(
        (&told["abandoned"][0]["role"], &told["changed"]),
        (&"timestamp".into(), &true.into()),
        "{told}"
    );
    let signing = ended.parts.start(Part::SigningKeeper);
    let init = Output::of(&mut ended.init());
    assert_eq!(init.code, 0, "{init:?}");

    // What was signed is served before anything is signed.
    let mut daemon = ended.parts.start(Part::Daemon);
    assert_eq!(ended.parts.settled(&mut daemon), None, "{}", daemon.said());
    let service = &ended.service;
    let before = ended.versions();
    assert_eq!(before, [1, 3, 3, 3]);
    let list = || service.notary(client.path(), &["list", &service.repository(REPOSITORY)]);
    let seen = list();
    assert!(["v1", "v2", "v3"].iter().all(|tag| seen.stdout.contains(tag)), "{seen:?}");

    ended.make_tokens();
    let digest = service.registry.push(REPOSITORY, "v4", "y");
    let signed = service.sign(REPOSITORY, &digest, "v4");
    assert_eq!(signed.code, 0, "{signed:?}");
    assert_eq!(ended.versions(), [1, 4, 4, 4]);
    let seen = list();
    assert!(["v1", "v2", "v3", "v4"].iter().all(|tag| seen.stdout.contains(tag)), "{seen:?}");

    let said = service.verify_log();
    assert!(said.stdout.contains(&ended.origin), "{said:?}");
    let leaves = service.history();
    let adopted = |leaf: &&Leaf| matches!(leaf, Leaf::Event(Event::Adopted(_)));
    assert_eq!(leaves.leaves().iter().filter(adopted).count(), 4);

    // The new log is whole without the former database: its spool alone gives every file again.
    assert_eq!(daemon.stop(), 0);
    fs::remove_dir_all(ended.parts.state(Part::Daemon)).unwrap();
    let rebuilt = Output::of(&mut ended.parts.command(Part::Daemon, &["rebuild"]));
    assert_eq!(rebuilt.code, 0, "{rebuilt:?}");
    let mut daemon = ended.parts.start(Part::Daemon);
    assert_eq!(ended.parts.settled(&mut daemon), None, "{}", daemon.said());
    assert_eq!(ended.versions(), [1, 4, 4, 4]);
    assert_eq!(daemon.stop(), 0);
    drop((log, signing));

    // The former log is over for this keeper, also with its newest database.
    let (old, new) = (ended.vkey.as_str(), vkey.as_str());
    let dir = service.dir();
    fs::rename(ended.parts.state(Part::Daemon), dir.join("newer-data")).unwrap();
    fs::rename(ended.parts.state(Part::LogKeeper), dir.join("newer-log")).unwrap();
    for file in ["log/keeper.toml", "chanceryd.toml"] {
        let text = fs::read_to_string(dir.join(file)).unwrap().replace(new, old);
        let text = text.replace(&format!("{NEW:?}"), &format!("{:?}", ended.origin));
        fs::write(dir.join(file), text.replace("cka_id = \"02\"\nvkey", "cka_id = \"01\"\nvkey")).unwrap();
    }
    fs::rename(dir.join("former"), ended.parts.state(Part::Daemon)).unwrap();
    copy(&dir.join("older-LogKeeper"), &ended.parts.state(Part::LogKeeper));
    let (_log, _signing) = (ended.parts.start(Part::LogKeeper), ended.parts.start(Part::SigningKeeper));
    let mut daemon = ended.parts.start(Part::Daemon);
    assert_eq!(ended.parts.settled(&mut daemon), Some(78), "{}", daemon.said());
    assert!(daemon.said().contains(NEW), "{}", daemon.said());
}

/// What a key was asked for under the former log and is not recorded: its keeper's chain holds it, and nothing else follows.
#[test]
fn collections_that_had_only_begun_go_on_in_the_new_log_and_a_damaged_one_can_be_left_out() {
    if !have("docker-registry") || !have("curl") || !have("notary") {
        return;
    }
    let mut service = Instance::start();
    let wanted = Wanted { name: "own", prefix: "demo/own/", call_deadline_ms: 20_000 };
    // The faults of the service's own tokens would strike the log key as well.
    let mut keeper = OwnKeeper::join(&mut service, wanted);
    let push = |name: &str| service.registry.push(name, "v1", "x");
    let (rootless, untargeted, unreached) =
        ("demo/own/rootless", "demo/own/untargeted", "demo/own/unreached");
    let damaged = "demo/damaged";
    let images = [rootless, untargeted, unreached, damaged].map(push);
    for (repository, image) in [(unreached, &images[2]), (damaged, &images[3])] {
        assert_eq!(service.sign(repository, image, "v1").code, 0);
    }
    keeper.faults.add(Rule::answer("C_Sign", "CKR_FUNCTION_FAILED").key(TARGETS_KEY).after()).unwrap();
    ask_in_vain(&service, untargeted, &images[1], Purpose::Targets);
    // The first signature of a root key is over its certificate, the others over the root: each rule strikes at its own second
    // call, and does not see those at which one before it struck.
    for _ in 0..30 {
        let no_root = Rule::answer("C_Sign", "CKR_FUNCTION_FAILED").key(ROOT_KEY).after().nth(2);
        keeper.faults.add(no_root).unwrap();
    }
    ask_in_vain(&service, rootless, &images[0], Purpose::Root);
    // It is asked, and never reads it.
    keeper.freeze();
    let (answer, _) = service.sign_within(unreached, &images[2], "v2", "1s");
    assert_ne!(answer.code, 0, "{answer:?}");
    let name = service.repository(unreached);
    wait_for("an intent that its keeper never sees", || {
        let asked = |leaf: &Leaf| matches!(leaf, Leaf::Intent(of) if of.repository.as_str() == name && of.action.version() == Some(2));
        service.history().leaves().iter().any(asked).then_some(())
    });
    let ended = Ended::of(service);
    keeper.kill();
    keeper.stop();
    keeper.faults.clear().unwrap();

    let vkey = ended.begin_anew();
    let _log = ended.parts.start(Part::LogKeeper);
    assert_eq!(ended.follow(&["--abandon-open"]).code, 0);
    let _signing = ended.parts.start(Part::SigningKeeper);
    let followed = keeper.follow_log((&ended.origin, &ended.vkey), (NEW, &vkey));
    assert_eq!(followed.code, 0, "{followed:?}");
    keeper.start();
    let name = ended.service.repository(damaged);
    let lost =
        format!("DELETE FROM blob WHERE sha256 IN (SELECT sha256 FROM file WHERE repository = '{name}')");
    alter(&ended.service.dir().join("former"), &lost);
    let init = wait_for("both keepers to listen", || {
        Some(Output::of(&mut ended.init())).filter(|init| init.code != 69)
    });
    assert_eq!(init.code, 78, "{init:?}");
    assert!(init.stderr.contains(&format!("{name}: ")) && init.stderr.contains("--without"), "{init:?}");
    let stranger = Output::of(ended.init().args(["--without", "r.example/unknown"]));
    assert!(stranger.code == 78 && stranger.stderr.contains("r.example/unknown"), "{stranger:?}");
    let init = Output::of(ended.init().args(["--without", &name]));
    assert_eq!(init.code, 0, "{init:?}");
    assert!(init.stderr.contains("left out"), "{init:?}");

    let mut daemon = ended.parts.start(Part::Daemon);
    assert_eq!(ended.parts.settled(&mut daemon), None, "{}", daemon.said());
    ended.make_tokens();
    let service = &ended.service;
    for (repository, image) in [(unreached, &images[2]), (rootless, &images[0]), (untargeted, &images[1])] {
        let tag = if repository == unreached { "v2" } else { "v1" };
        let signed = service.sign(repository, image, tag);
        assert_eq!(signed.code, 0, "{repository}: {signed:?} {}", daemon.said());
        assert!(service.trust_file(repository, "targets.json").contains(&format!("{tag:?}")));
    }
    service.verify_log();
    let leaves = service.history();
    let Leaf::Genesis(genesis) = &leaves.leaves()[0] else { panic!("no genesis") };
    assert_eq!(genesis.continues.as_ref().unwrap().without, [name.parse().unwrap()]);
    assert_eq!(daemon.stop(), 0);
}

/// Asks for a signature that does not come; waits until an intent of this role has ended without one.
fn ask_in_vain(service: &Instance, repository: &str, image: &Digest, role: Purpose) {
    let (answer, _) = service.sign_within(repository, image, "v1", "1s");
    assert_ne!(answer.code, 0, "{answer:?}");
    wait_for("an intent of that role to end", || {
        let history = service.history();
        let leaves = history.leaves();
        let unsigned = |leaf: &&Leaf| match leaf {
            Leaf::Outcome(outcome) => match &leaves[usize::try_from(outcome.intent).unwrap()] {
                Leaf::Intent(intent) => intent.action.version().is_some() && intent.purpose == role,
                _ => false,
            },
            _ => false,
        };
        leaves.iter().find(unsigned).map(|_| ())
    });
}
