//! Two daemons, two log keepers, two of everything on copies of one state: how much of it can sign, and who tells.

use record::Digest;
use std::path::PathBuf;
use tests::{Instance, Output, Part, Parts, free_port, have, wait_for};

/// Times that a second daemon is started beside a first one.
const ROUNDS: usize = 100;

/// Times that two are started at one moment.
const STARTS: usize = 20;

/// A stopped service with one signed tag, and its parts.
struct Scene {
    service: Instance,
    digest: Digest,
    parts: Parts,
    copies: PathBuf,
}

impl Scene {
    /// None where no registry is installed.
    fn set() -> Option<Self> {
        if !have("docker-registry") || !have("curl") {
            return None;
        }
        let mut service = Instance::start();
        let digest = service.registry.push("demo/app", "v1", "x");
        let signed = service.sign("demo/app", &digest, "v1");
        assert_eq!(signed.code, 0, "{signed:?}");
        assert_eq!(service.stop(), 0);
        let (parts, copies) = (Parts::of(&service), service.dir().join("copies"));
        Some(Self { service, digest, parts, copies })
    }

    fn copied(&self, own: &[Part], name: &str) -> Parts {
        Parts::copied(&self.service, own, &self.copies.join(name), free_port())
    }

    /// Asks the daemon of these parts for a signature.
    fn sign(&self, parts: &Parts, tag: &str, wait: &str) -> Output {
        let image = format!("{}@{}", self.service.repository("demo/app"), self.digest);
        let wait = format!("--wait={wait}");
        self.service.chancery(&["sign", "--url", &parts.url(), &image, "--tag", tag, &wait])
    }

    /// What a client that remembers says of the log of these parts.
    fn look(&self, parts: &Parts) -> Output {
        self.service.chancery(&["log", "checkpoint", "--url", &parts.url()])
    }
}

#[test]
fn a_second_daemon_on_one_state_or_on_a_copy_of_it_extends_nothing() {
    let Some(scene) = Scene::set() else { return };
    let copied = scene.copied(&[Part::Daemon], "daemon");
    let (_log, _signing) = (scene.parts.start(Part::LogKeeper), scene.parts.start(Part::SigningKeeper));
    let mut daemon = scene.parts.start(Part::Daemon);
    assert_eq!(scene.parts.settled(&mut daemon), None, "{}", daemon.said());
    let before = scene.service.committed();
    for round in 0..ROUNDS {
        let (parts, code, why) = match round % 2 {
            0 => (&scene.parts, 75, "another chanceryd is running on this folder"),
            _ => (&copied, 69, "another daemon holds the log keeper's lease"),
        };
        let second = Output::of(&mut parts.command(Part::Daemon, &["serve"]));
        assert_eq!(second.code, code, "round {round}: {second:?}");
        assert!(second.stderr.contains(why), "round {round}: {second:?}");
    }
    assert_eq!(scene.service.committed(), before, "a loser wrote");
    let signed = scene.sign(&scene.parts, "v2", "60s");
    assert_eq!(signed.code, 0, "{signed:?}");
    // The lease passes to the copy when the first one ends, and with it all that was written meanwhile; and back.
    for (winner, loser) in [(&copied, &scene.parts), (&scene.parts, &copied)] {
        assert_eq!(daemon.stop(), 0);
        daemon = winner.start(Part::Daemon);
        assert_eq!(winner.settled(&mut daemon), None, "{}", daemon.said());
        assert_eq!(Output::of(&mut loser.command(Part::Daemon, &["serve"])).code, 69);
        let looked = scene.look(winner);
        assert_eq!(looked.code, 0, "one log: {looked:?}");
    }
    scene.service.verify_log();
}

#[test]
fn of_two_daemons_that_start_at_one_moment_on_one_state_or_on_a_copy_of_it_one_serves() {
    let Some(scene) = Scene::set() else { return };
    let copied = scene.copied(&[Part::Daemon], "daemon");
    let (_log, _signing) = (scene.parts.start(Part::LogKeeper), scene.parts.start(Part::SigningKeeper));
    for round in 0..STARTS {
        let (other, code, why) = match round % 2 {
            0 => (&scene.parts, 75, "another chanceryd is running on this folder"),
            _ => (&copied, 69, "another daemon holds the log keeper's lease"),
        };
        let places = [&scene.parts, other];
        let mut both = places.map(|parts| parts.start(Part::Daemon));
        let lost = wait_for("one of the two to end", || both.iter_mut().position(|d| d.ended().is_some()));
        let loser = &mut both[lost];
        assert_eq!(loser.ended(), Some(code), "round {round}: {}", loser.said());
        assert!(loser.said().contains(why), "round {round}: {}", loser.said());

        let (place, winner) = (places[1 - lost], &mut both[1 - lost]);
        assert_eq!(place.settled(winner), None, "round {round}: nobody serves: {}", winner.said());
        let signed = scene.sign(place, &format!("t{round}"), "60s");
        assert_eq!(signed.code, 0, "round {round}: {signed:?}");
        let looked = scene.look(place);
        assert_eq!(looked.code, 0, "round {round}: one log: {looked:?}");
        assert_eq!(winner.stop(), 0, "round {round}: {}", winner.said());
    }
    let mut daemon = scene.parts.start(Part::Daemon);
    assert_eq!(scene.parts.settled(&mut daemon), None, "{}", daemon.said());
    scene.service.verify_log();
}

#[test]
fn of_two_log_keepers_with_one_key_a_signing_keeper_follows_one() {
    let Some(scene) = Scene::set() else { return };
    let (ours, theirs) = (&scene.parts, scene.copied(&[Part::Daemon, Part::LogKeeper], "log"));
    let _signing = ours.start(Part::SigningKeeper);
    let running = |parts: &Parts| (parts.start(Part::LogKeeper), parts.start(Part::Daemon));
    let ((_log, mut one), (_other_log, mut two)) = (running(ours), running(&theirs));
    for (parts, daemon) in [(ours, &mut one), (&theirs, &mut two)] {
        assert_eq!(parts.settled(daemon), None, "{}", daemon.said());
    }
    // Each has begun to write a log of its own, and each has notes of it. The signing keeper has seen neither yet.
    let looked = scene.look(&theirs);
    assert_eq!(looked.code, 0, "{looked:?}");
    let signed = scene.sign(&theirs, "theirs", "60s");
    assert_eq!(signed.code, 0, "{signed:?}");
    let made = scene.service.signed();
    let refused = scene.sign(ours, "ours", "5s");
    assert_ne!(refused.code, 0, "{refused:?}");
    assert_eq!(scene.service.signed(), made, "a key was used for the other log");
    assert_ne!(scene.service.http("", "/readyz", &[]).0, 200, "the daemon of the other log says so");
    let looked = scene.look(ours);
    assert_eq!(looked.code, 10, "a client that has seen one is shown the other: {looked:?}");
    // The daemon that the keeper does not follow found that out by itself; the other one is not held up by it.
    let signed = scene.sign(&theirs, "after", "60s");
    assert_eq!(signed.code, 0, "{signed:?}");
    one.stop();
    two.stop();
    let mut again = ours.start(Part::Daemon);
    assert_eq!(ours.settled(&mut again), Some(78), "{}", again.said());
    assert!(again.said().contains("keeper signing has seen"), "{}", again.said());
}

#[test]
fn a_copy_of_everything_with_the_token_is_told_by_clients_and_by_nothing_on_the_host() {
    let Some(scene) = Scene::set() else { return };
    let (ours, theirs) = (&scene.parts, scene.copied(&Part::ALL, "everything"));
    let mut running = Vec::new();
    for parts in [ours, &theirs] {
        running.extend([parts.start(Part::LogKeeper), parts.start(Part::SigningKeeper)]);
        let mut daemon = parts.start(Part::Daemon);
        assert_eq!(parts.settled(&mut daemon), None, "{}", daemon.said());
        running.push(daemon);
    }
    for (parts, tag) in [(ours, "ours"), (&theirs, "theirs")] {
        let signed = scene.sign(parts, tag, "60s");
        assert_eq!(signed.code, 0, "whoever has the token can sign: {signed:?}");
    }
    let (first, second) = (scene.look(ours), scene.look(&theirs));
    assert_eq!((first.code, second.code), (0, 10), "{first:?} {second:?}");
    assert!(second.stderr.contains("rewritten") || second.stderr.contains("shrank"), "{second:?}");
}
