//! The crash table of the protocol, row by row: who dies when, and what the log says afterwards.
//!
//! Processes are stopped at the row's point by freezing their neighbour, killed without warning, and raised again by
//! `chancery dev`, as systemd would. After each row the log is verified whole, and the token's own journal has exactly
//! the signatures that the log tells of.

use hsm_sim::Rule;
use record::{Digest, OutcomeKind, Tag};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread::{self, JoinHandle},
};
use tests::{DAEMON, End, Instance, LOG_KEEPER, Output, SIGNING_KEEPER, TARGETS_KEY, Told, have, wait_for};

/// A service with a collection, and the image that the rows sign under one tag after the other.
struct Scene {
    service: Arc<Instance>,
    digest: Digest,
}

impl Scene {
    /// None where no registry is installed.
    fn set() -> Option<Self> {
        if !have("docker-registry") {
            return None;
        }
        let service = Arc::new(Instance::start());
        let digest = service.registry.push("demo/app", "v1", "x");
        let scene = Self { service, digest };
        assert_eq!(scene.ask("first").join().unwrap().code, 0);
        Some(scene)
    }

    /// A client that asks for a signature and asks again while the service is away.
    fn ask(&self, tag: &str) -> JoinHandle<Output> {
        let (service, digest, tag) = (self.service.clone(), self.digest, tag.to_owned());
        thread::spawn(move || service.sign("demo/app", &digest, &tag))
    }

    /// Waits until the database holds more leaves than before.
    fn wait_for_commit(&self, before: u64) {
        wait_for("a commit", || (self.service.committed() > before).then_some(()));
    }

    /// After a crash: the client got its signature, the log is whole, and the intents for its tag ended like this.
    fn ended(&self, client: JoinHandle<Output>, tag: &str, ends: &[End]) {
        let answer = client.join().unwrap();
        assert_eq!(answer.code, 0, "the client's retry gets its signature: {answer:?}");
        self.service.wait_until_ready();
        let tag: Tag = tag.parse().unwrap();
        let told = wait_for("the log to tell of every end", || {
            let told = self.service.history().intents_for(&tag);
            let done = told.len() >= ends.len() && told.iter().all(|t| t.end != End::Open);
            done.then_some(told)
        });
        assert_eq!(told.iter().map(|t| t.end).collect::<Vec<_>>(), ends, "{told:?}");
        self.service.verify_log();
        self.token_agrees();
    }

    /// Each payload has as many signatures as intents that ended with one; an `unknown` may have one, a `void` has none.
    /// (An intent that follows a void one may have the very same bytes.)
    fn token_agrees(&self) {
        let (mut signed, mut unknown) = (BTreeMap::new(), BTreeMap::new());
        for Told { intent, end, .. } in self.service.history().intents() {
            let (sure, perhaps) =
                (signed.entry(intent.payload).or_insert(0), unknown.entry(intent.payload).or_insert(0));
            match end {
                End::Signed => *sure += 1,
                End::Without(OutcomeKind::Unknown) => *perhaps += 1,
                End::Without(_) | End::Open => {}
            }
        }
        let mut made = BTreeMap::new();
        self.service.signed().into_iter().for_each(|payload| *made.entry(payload).or_insert(0) += 1);
        let strangers: Vec<_> = made.keys().filter(|payload| !signed.contains_key(*payload)).collect();
        assert!(strangers.is_empty(), "signatures that no intent announced: {strangers:?}");
        for (payload, least) in signed {
            let found = made.get(&payload).copied().unwrap_or(0);
            assert!(
                (least..=least + unknown[&payload]).contains(&found),
                "{payload}: {found} signatures, {least} in the log"
            );
        }
    }
}

#[test]
fn after_the_commit_of_an_intent_and_before_its_append_it_is_void() {
    let Some(scene) = Scene::set() else { return };
    scene.service.freeze(LOG_KEEPER);
    let before = scene.service.committed();
    let client = scene.ask("row1");
    scene.wait_for_commit(before);
    scene.service.kill_all(&[DAEMON, LOG_KEEPER]);
    scene.ended(client, "row1", &[End::Without(OutcomeKind::Void), End::Signed]);
}

#[test]
fn after_append_and_note_and_before_reserve_it_is_void() {
    let Some(scene) = Scene::set() else { return };
    scene.service.freeze(SIGNING_KEEPER);
    let before = scene.service.noted().unwrap();
    let client = scene.ask("row2");
    wait_for("a note over the intent", || scene.service.noted().filter(|size| *size > before));
    scene.service.kill_all(&[DAEMON, SIGNING_KEEPER]);
    scene.ended(client, "row2", &[End::Without(OutcomeKind::Void), End::Signed]);
}

#[test]
fn a_keeper_that_dies_after_reserve_leaves_an_unknown_outcome_and_no_signature() {
    let Some(scene) = Scene::set() else { return };
    let hang = scene.service.faults.add(Rule::hang("C_Sign").key(TARGETS_KEY).before()).unwrap();
    let before = scene.service.signed();
    let client = scene.ask("row3");
    scene.service.faults.wait_fired(&hang, 1).unwrap();
    scene.service.kill_all(&[SIGNING_KEEPER]);
    assert_eq!(scene.service.signed(), before);
    scene.service.faults.clear().unwrap();
    scene.ended(client, "row3", &[End::Without(OutcomeKind::Unknown), End::Signed]);
}

#[test]
fn a_keeper_that_dies_after_its_key_has_signed_leaves_an_unknown_outcome() {
    let Some(scene) = Scene::set() else { return };
    let hang = scene.service.faults.add(Rule::hang("C_Sign").key(TARGETS_KEY).after()).unwrap();
    let before = scene.service.signed().len();
    let client = scene.ask("row3");
    scene.service.faults.wait_fired(&hang, 1).unwrap();
    scene.service.kill_all(&[SIGNING_KEEPER]);
    assert_eq!(scene.service.signed().len(), before + 1, "the key had signed");
    scene.service.faults.clear().unwrap();
    scene.ended(client, "row3", &[End::Without(OutcomeKind::Unknown), End::Signed]);
}

#[test]
fn a_daemon_that_dies_while_the_key_signs_loses_nothing() {
    let Some(scene) = Scene::set() else { return };
    let hang = scene.service.faults.add(Rule::hang("C_Sign").key(TARGETS_KEY).before()).unwrap();
    let client = scene.ask("row4");
    scene.service.faults.wait_fired(&hang, 1).unwrap();
    scene.service.kill_all(&[DAEMON]);
    scene.service.faults.clear().unwrap();
    scene.ended(client, "row4", &[End::Signed]);
}

#[test]
fn a_daemon_that_dies_before_it_reads_the_answer_loses_nothing() {
    let Some(scene) = Scene::set() else { return };
    let hang = scene.service.faults.add(Rule::hang("C_Sign").key(TARGETS_KEY).before()).unwrap();
    let before = scene.service.signed().len();
    let client = scene.ask("row4");
    scene.service.faults.wait_fired(&hang, 1).unwrap();
    scene.service.freeze(DAEMON);
    scene.service.faults.clear().unwrap();
    wait_for("the key to have signed", || (scene.service.signed().len() > before).then_some(()));
    scene.service.kill_all(&[DAEMON]);
    scene.ended(client, "row4", &[End::Signed]);
}

#[test]
fn after_the_commit_of_a_completion_and_before_its_append_it_is_appended_and_answered() {
    let Some(scene) = Scene::set() else { return };
    let hang = scene.service.faults.add(Rule::hang("C_Sign").key(TARGETS_KEY).before()).unwrap();
    let client = scene.ask("row5");
    scene.service.faults.wait_fired(&hang, 1).unwrap();
    let before = scene.service.committed();
    scene.service.freeze(LOG_KEEPER);
    scene.service.faults.clear().unwrap();
    scene.wait_for_commit(before);
    scene.service.kill_all(&[DAEMON, LOG_KEEPER]);
    scene.ended(client, "row5", &[End::Signed]);
}

#[test]
fn a_log_keeper_that_dies_alone_while_two_repositories_publish_seals_nothing() {
    let Some(scene) = Scene::set() else { return };
    scene.service.registry.push("demo/other", "v1", "x");
    let other = {
        let (service, digest) = (scene.service.clone(), scene.digest);
        thread::spawn(move || service.sign("demo/other", &digest, "v1"))
    };
    let before = scene.service.committed();
    let client = scene.ask("both");
    scene.wait_for_commit(before);
    // The keepers fall one after the other while ends are committed and not noted.
    for words in [LOG_KEEPER, SIGNING_KEEPER, LOG_KEEPER] {
        scene.service.freeze(LOG_KEEPER);
        scene.service.kill_all(&[words]);
        if words != LOG_KEEPER {
            scene.service.thaw(LOG_KEEPER);
        }
        scene.service.wait_until_ready();
    }
    let answer = other.join().unwrap();
    assert_eq!(answer.code, 0, "{answer:?}");
    let answer = client.join().unwrap();
    assert_eq!(answer.code, 0, "{answer:?}");
    wait_for("every intent to have its end", || {
        scene.service.history().intents().iter().all(|t| t.end != End::Open).then_some(())
    });
    scene.service.verify_log();
    scene.token_agrees();
}

#[test]
fn a_cut_of_everything_at_once_leaves_one_end_for_each_intent() {
    let Some(scene) = Scene::set() else { return };
    // Each round cuts one commit later than the round before: intents, completions, of targets, snapshot, timestamp.
    let mut tags = BTreeSet::new();
    for leaves in 1..=6 {
        let before = scene.service.committed();
        let clients: Vec<_> = (0..3)
            .map(|n| {
                let tag = format!("cut{leaves}-{n}");
                tags.insert(tag.clone());
                scene.ask(&tag)
            })
            .collect();
        scene.wait_for_commit(before + leaves - 1);
        scene.service.kill_all(&[DAEMON, LOG_KEEPER, SIGNING_KEEPER]);
        for client in clients {
            let answer = client.join().unwrap();
            assert_eq!(answer.code, 0, "round {leaves}: {answer:?}");
        }
    }
    scene.service.wait_until_ready();
    scene.service.verify_log();
    scene.token_agrees();
    for tag in tags {
        let told = scene.service.history().intents_for(&tag.parse().unwrap());
        let signed = told.iter().filter(|t| t.end == End::Signed).count();
        assert_eq!(signed, 1, "{tag}: {told:?}");
    }
}
