//! Backups: made while the service signs, verified where no service is, and the service given back by them.

use record::{Digest, Event, Leaf};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
};
use tests::{
    Instance, Output, Part, Parts, SIGNING_KEEPER, Settings, binary, commands, dump, have, second, wait_for,
};

/// A service with one signed tag, and a folder for backups.
struct Scene {
    service: Instance,
    digest: Digest,
    safe: tempfile::TempDir,
}

impl Scene {
    /// None where no registry is installed.
    fn set() -> Option<Self> {
        if !have("docker-registry") {
            return None;
        }
        let service = Instance::start();
        let digest = service.registry.push("demo/app", "v1", "x");
        let scene = Self { service, digest, safe: tempfile::tempdir().unwrap() };
        scene.sign("v1");
        Some(scene)
    }

    fn sign(&self, tag: &str) {
        let signed = self.service.sign("demo/app", &self.digest, tag);
        assert_eq!(signed.code, 0, "{signed:?}");
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.safe.path().join(name)
    }

    fn config(&self) -> PathBuf {
        self.service.dir().join("chanceryd.toml")
    }

    fn create(&self, to: &Path) -> Output {
        create(&self.service, to)
    }

    fn restore(&self, from: &Path) -> Output {
        let config = self.config();
        self.service.chancery(&["backup", "restore", "--config", text(&config), "--from", text(from)])
    }

    /// `chancery backup verify` on a machine that has the log's key and nothing else.
    fn verify(&self, dir: &Path) -> Output {
        let mut command = Command::new(binary("chancery"));
        command
            .args(["backup", "verify", "-o", "json", "--vkey", &self.service.env()["CHANCERY_LOG_VKEY"]])
            .arg(dir);
        for name in ["CHANCERY_URL", "CHANCERY_TOKEN", "CHANCERY_CACERT", "CHANCERY_LOG_VKEY"] {
            command.env_remove(name);
        }
        Output::of(command.env("XDG_STATE_HOME", self.folder("auditor")))
    }

    fn verified(&self, dir: &Path) -> serde_json::Value {
        let said = self.verify(dir);
        assert_eq!(said.code, 0, "{said:?}");
        serde_json::from_str(&said.stdout).unwrap()
    }

    fn data(&self) -> PathBuf {
        self.service.dir().join("data")
    }

    /// The host of the daemon is gone.
    fn lose_data(&self) {
        fs::remove_dir_all(self.data()).unwrap();
    }
}

fn create(service: &Instance, to: &Path) -> Output {
    let config = service.dir().join("chanceryd.toml");
    service.chancery(&["backup", "create", "--config", text(&config), "--out", text(to)])
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_backup_that_is_made_while_the_service_signs_is_whole_and_stops_no_signature() {
    let Some(scene) = Scene::set() else { return };
    let backup = scene.folder("backup");
    let (service, digest) = (Arc::new(scene.service), scene.digest);
    let client = {
        let service = service.clone();
        thread::spawn(move || {
            (0..12).for_each(|n| {
                let signed = service.sign("demo/app", &digest, &format!("c{n}"));
                assert_eq!(signed.code, 0, "{signed:?}");
            })
        })
    };
    let mut leaves = Vec::new();
    while !client.is_finished() {
        let made = create(&service, &backup);
        assert_eq!(made.code, 0, "{made:?}");
        let said =
            second::agreed(&backup, &service.env()["CHANCERY_LOG_VKEY"], &scene.safe.path().join("auditor"));
        leaves
            .push(serde_json::from_str::<serde_json::Value>(&said.stdout).unwrap()["size"].as_u64().unwrap());
    }
    client.join().unwrap();
    let Some(service) = Arc::into_inner(service) else { panic!("the client has ended") };
    let scene = Scene { service, ..scene };
    assert!(leaves.len() > 2 && leaves.is_sorted() && leaves.first() < leaves.last(), "{leaves:?}");
    let report = scene.verified(&backup);
    assert_eq!(report["sequence"], leaves.len(), "{report}");
    for (kind, most) in [("files", 16), ("tail", 12)] {
        assert!(report[kind].as_u64().unwrap() < most, "{kind}: {report}");
    }
    holds_no_secret(&scene, &backup);
}

/// No PIN, no bearer token, no TLS key; and nobody else may read it.
fn holds_no_secret(scene: &Scene, backup: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let dir = scene.service.dir();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap().trim().to_owned();
    let mut secrets = vec![read("log/pin"), read("signing/pin"), read("log/so-pin")];
    secrets.extend(read("tls/server.key").lines().filter(|line| !line.starts_with('-')).map(str::to_owned));
    let bearers = scene.service.env().into_iter().filter(|(name, _)| name.ends_with("TOKEN"));
    secrets.extend(bearers.map(|(_, bearer)| bearer.rsplit('_').next().unwrap().to_owned()));
    assert!(secrets.len() > 6 && secrets.iter().all(|secret| secret.len() > 7), "{}", secrets.len());
    for file in files(backup) {
        let bytes = fs::read(&file).unwrap();
        let found = secrets.iter().any(|secret| bytes.windows(secret.len()).any(|w| w == secret.as_bytes()));
        assert!(!found, "{} holds a secret", file.display());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_restored_database_is_row_for_row_the_one_that_was_backed_up() {
    let Some(mut scene) = Scene::set() else { return };
    assert_eq!(scene.service.sign("nowhere/app", &scene.digest, "v1").code, 3, "a denial is in it, too");
    let waiting = with_a_waiting_request(&mut scene);
    let backup = scene.folder("backup");
    let made = scene.create(&backup);
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(scene.verified(&backup)["requests"], 3);
    let before = without_credentials(&scene.data());
    assert!(before.iter().any(|row| row.starts_with("request: ") && row.contains(&waiting)), "{before:?}");

    let refused = scene.restore(&backup);
    assert_eq!(refused.code, 78, "over a database: {refused:?}");
    assert!(refused.stderr.contains("an empty folder only"), "{refused:?}");
    scene.lose_data();
    let restored = scene.restore(&backup);
    assert_eq!(restored.code, 0, "{restored:?}");
    let after = without_credentials(&scene.data());
    for (was, is) in before.iter().zip(&after) {
        assert_eq!(was, is);
    }
    assert_eq!(before.len(), after.len());

    scene.service.resume(&Settings::default());
    wait_for("the request that waited to be signed", || {
        (scene.service.state(&waiting) == "published").then_some(())
    });
    let (_, again) = scene.service.post("CHANCERY_TOKEN", "waiting", "demo/app", &scene.digest, "waiting");
    assert_eq!(again["id"], waiting.as_str(), "the same idempotency key gives the same request");
    scene.service.verify_log();
}

/// All rows but those of credentials, which no backup has, and of the moment from which on tokens must be issued.
fn without_credentials(data: &Path) -> Vec<String> {
    let tables = ["session: ", "used_token: ", "poll_token: ", "token_floor: "];
    let mut rows = dump(data);
    rows.retain(|row| !tables.iter().any(|table| row.starts_with(table)));
    rows
}

/// Stops the service while one request is at work and another waits behind it; the id of that one.
fn with_a_waiting_request(scene: &mut Scene) -> String {
    let service = &mut scene.service;
    service.freeze(SIGNING_KEEPER);
    let before = service.committed();
    let (status, _) = service.post("CHANCERY_TOKEN", "first", "demo/app", &scene.digest, "first");
    assert_eq!(status, 202);
    wait_for("an intent", || (service.committed() > before).then_some(()));
    let (status, waiting) = service.post("CHANCERY_TOKEN", "waiting", "demo/app", &scene.digest, "waiting");
    assert_eq!(status, 202, "{waiting}");
    service.kill_all(&[tests::DAEMON, SIGNING_KEEPER]);
    service.stop();
    waiting["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_backup_older_than_the_spool_is_refilled_and_a_much_older_one_waits_for_an_operator() {
    let Some(mut scene) = Scene::set() else { return };
    let backup = scene.folder("backup");
    let known = scene.service.post("CHANCERY_TOKEN", "known", "demo/app", &scene.digest, "known").1;
    let known = known["id"].as_str().unwrap().to_owned();
    wait_for("a signature", || (scene.service.state(&known) == "published").then_some(()));
    assert_eq!(scene.create(&backup).code, 0);
    scene.sign("v2");
    let seen = scene.service.trust_file("demo/app", "targets.json");
    assert_eq!(scene.service.stop(), 0);
    scene.lose_data();
    assert_eq!(scene.restore(&backup).code, 0);
    let limited = fs::read_to_string(scene.config()).unwrap() + "\n[limits]\nrefill_leaves = 1\n";
    fs::write(scene.config(), &limited).unwrap();
    let said = scene.service.resume_in_vain();
    for word in ["exit status: 78", "leaves and the log keeper's spool", "chanceryd rebuild"] {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    {
        let parts = Parts::of(&scene.service);
        let _log = parts.start(Part::LogKeeper);
        let config = scene.config();
        let rebuilt = scene.service.chancery(&["log", "rebuild", "--config", text(&config)]);
        assert_eq!(rebuilt.code, 0, "{rebuilt:?}");
    }
    scene.service.resume(&Settings::default());
    assert_eq!(scene.service.trust_file("demo/app", "targets.json"), seen, "nothing was lost");
    let signed = scene.service.signed().len();
    let (_, again) = scene.service.post("CHANCERY_TOKEN", "known", "demo/app", &scene.digest, "known");
    assert_eq!((&again["id"], &again["state"]), (&known.into(), &"published".into()), "{again}");
    assert_eq!(scene.service.signed().len(), signed, "asking again uses no key");
    let told = |leaf: &&Leaf| matches!(leaf, Leaf::Event(Event::StoreRolledBack { .. }));
    assert_eq!(scene.service.history().leaves().iter().filter(told).count(), 1);
    scene.service.verify_log();
}

#[test]
fn the_spool_of_a_lost_host_is_filled_again_from_the_database_or_its_backup() {
    let Some(mut scene) = Scene::set() else { return };
    assert_eq!(scene.service.stop(), 0);
    let older = scene.folder("older");
    assert_eq!(scene.create(&older).code, 0, "of a stopped service");
    // The log keeper's host is gone, the daemon's is not.
    new_spool(&scene);
    scene.service.resume(&Settings::default());
    scene.sign("v2");
    // Both are gone, and the backup has all that a keeper has seen.
    assert_eq!(scene.service.stop(), 0);
    let newest = scene.folder("newest");
    assert_eq!(scene.create(&newest).code, 0);
    new_spool(&scene);
    scene.lose_data();
    assert_eq!(scene.restore(&newest).code, 0);
    scene.service.resume(&Settings::default());
    scene.sign("v3");
    let told = |leaf: &&Leaf| matches!(leaf, Leaf::Event(Event::SpoolRolledBack { spool: 0, .. }));
    assert_eq!(scene.service.history().leaves().iter().filter(told).count(), 2);
    scene.service.verify_log();
    // Both are gone, and the backup is older than what a keeper has seen: this log cannot go on.
    assert_eq!(scene.service.stop(), 0);
    let signed = scene.service.signed();
    new_spool(&scene);
    scene.lose_data();
    assert_eq!(scene.restore(&older).code, 0);
    let said = scene.service.resume_in_vain();
    for word in ["exit status: 78", "keeper signing has seen"] {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    assert_eq!(scene.service.signed(), signed, "no key was used");
}

/// An empty spool, as the operator of a new log keeper's host makes one; the log key's token is the old one.
fn new_spool(scene: &Scene) {
    let parts = Parts::of(&scene.service);
    fs::remove_dir_all(parts.state(Part::LogKeeper)).unwrap();
    let made = Output::of(&mut parts.command(Part::LogKeeper, &["init"]));
    assert_eq!(made.code, 0, "{made:?}");
}

#[test]
fn a_backup_with_a_fault_is_not_restored_and_leaves_nothing() {
    let Some(mut scene) = Scene::set() else { return };
    assert_eq!(scene.service.stop(), 0);
    let backup = scene.folder("backup");
    assert_eq!(scene.create(&backup).code, 0);
    scene.lose_data();
    let all = files(&backup);
    for file in &all {
        let whole = fs::read(file).unwrap();
        let Some(last) = whole.last() else { continue };
        let mut bytes = whole.clone();
        *bytes.last_mut().unwrap() = last ^ 1;
        fs::write(file, bytes).unwrap();
        let (verified, restored) = (scene.verify(&backup), scene.restore(&backup));
        assert_eq!((verified.code, restored.code), (10, 10), "{}: {verified:?} {restored:?}", file.display());
        let name = file.strip_prefix(&backup).unwrap();
        assert!(restored.stderr.contains(text(name)), "{}: {restored:?}", name.display());
        assert!(!scene.data().exists(), "something was made");
        fs::write(file, whole).unwrap();
    }
    // What a restore leaves that was cut off is neither a database nor an empty folder.
    fs::create_dir(scene.data()).unwrap();
    fs::write(scene.data().join("chancery.restoring"), "half").unwrap();
    let (restored, started) = (scene.restore(&backup), scene.service.resume_in_vain());
    assert!(restored.code == 78 && restored.stderr.contains("it holds chancery.restoring"), "{restored:?}");
    assert!(started.contains("exit status: 78") && started.contains("chancery.db"), "{started}");
    scene.lose_data();
    assert_eq!(scene.restore(&backup).code, 0);
    scene.service.resume(&Settings::default());
    scene.sign("v2");
}

#[test]
fn a_backup_of_a_database_that_fell_behind_or_of_another_log_is_not_written() {
    let Some(mut scene) = Scene::set() else { return };
    assert_eq!(scene.service.stop(), 0);
    let (older, backup) = (scene.folder("older"), scene.folder("backup"));
    assert_eq!(scene.create(&older).code, 0);
    scene.service.resume(&Settings::default());
    scene.sign("v2");
    assert_eq!(scene.create(&backup).code, 0);
    let manifest = fs::read(backup.join("manifest.json")).unwrap();
    assert_eq!(scene.service.stop(), 0);
    scene.lose_data();
    assert_eq!(scene.restore(&older).code, 0);
    let refused = scene.create(&backup);
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.stderr.contains("the database is older than its backup"), "{refused:?}");
    assert_eq!(fs::read(backup.join("manifest.json")).unwrap(), manifest, "the newer backup is as it was");
    scene.verified(&backup);
}

#[test]
fn every_command_of_the_page_about_backups_does_what_the_page_says() {
    let Some(mut scene) = Scene::set() else { return };
    let script = commands("how-to/backup.md");
    assert!(script.matches("chancery backup ").count() > 3, "{script}");
    let (daily, drill) =
        script.split_once("# chanceryd is stopped from here on").expect("the page has a drill");
    let made = scene.by_hand(daily);
    for said in ["complete    all ", "all there, none altered"] {
        assert!(made.stdout.contains(said), "{said}: {made:?}");
    }
    assert_eq!(scene.service.stop(), 0);
    scene.by_hand(drill);
    scene.service.resume(&Settings::default());
    scene.sign("v2");
}

impl Scene {
    /// What an operator types who has the daemon's rights on its host.
    fn by_hand(&self, script: &str) -> Output {
        let env = self.service.env();
        let programs = binary("chancery").parent().unwrap().display().to_string();
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", script]).current_dir(self.safe.path()).envs(&env);
        bash.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()));
        bash.env("CONFIG", self.config()).env("DATA", self.data());
        let ran = Output::of(bash.env("HOME", self.safe.path()).env("XDG_STATE_HOME", self.safe.path()));
        assert_eq!(ran.code, 0, "{ran:?}");
        ran
    }
}
