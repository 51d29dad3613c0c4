//! Rows: the key wants a touch, and the finger comes, does not, comes late, or the card goes with it.

use super::table::{ends, into_document};
use hsm_sim_yubikey::TouchMode;
use record::{Digest, Purpose};
use std::{fmt::Write as _, thread, time::Duration};
use tests::{Instance, Output, PATIENCE, Place, YubiKeyKeeper, have};

/// How long the card waits for a finger here.
const WAIT: Duration = Duration::from_millis(1_000);
const REPOSITORY: &str = "demo/gold/app";

/// One row: what the finger does, and what is promised then.
struct Row {
    what: &'static str,
    /// While the request of this tag waits; its answer, and what it was asked for besides.
    act: fn(&Scene, &str) -> Output,
    /// The exit code of `chancery sign`: 0 published, 8 failed after three tries.
    answer: i32,
    /// How the tag's intents end, each with the signatures that the card made for it.
    log: &'static str,
}

struct Scene {
    service: Instance,
    keeper: YubiKeyKeeper,
    digest: Digest,
}

const ROWS: [Row; 7] = [
    Row {
        what: "touched in time",
        act: |scene, tag| scene.while_it_waits(tag, |scene| scene.keeper.card.touch(PATIENCE).unwrap()),
        answer: 0,
        log: "signed 1",
    },
    Row {
        what: "touched after a moment",
        act: |scene, tag| scene.with(TouchMode::Delay(400), tag),
        answer: 0,
        log: "signed 1",
    },
    Row {
        what: "nobody touches it",
        act: |scene, tag| scene.with(TouchMode::Timeout, tag),
        answer: 8,
        log: "failed (touch-timeout) 0, failed (touch-timeout) 0, failed (touch-timeout) 0",
    },
    Row {
        what: "touched too late, each time",
        act: |scene, tag| scene.with(TouchMode::Delay(1_500), tag),
        answer: 8,
        log: "failed (touch-timeout) 0, failed (touch-timeout) 0, failed (touch-timeout) 0",
    },
    Row {
        what: "the card gives up at once",
        act: |scene, tag| scene.with(TouchMode::Deny, tag),
        answer: 8,
        log: "failed (touch-denied) 0, failed (touch-denied) 0, failed (touch-denied) 0",
    },
    Row {
        what: "pulled out while it waits, and put back",
        act: |scene, tag| {
            scene.while_it_waits(tag, |scene| {
                scene.keeper.card.remove().unwrap();
                scene.keeper.card.touch_policy(TouchMode::Auto);
                scene.keeper.card.insert().unwrap();
            })
        },
        answer: 0,
        log: "unknown 0, signed 1",
    },
    Row {
        what: "two requests and one touch: the second request",
        act: |scene, tag| {
            let answer = scene.while_it_waits(&format!("{tag}-first"), |scene| {
                scene.ask(tag);
                scene.keeper.card.touch(PATIENCE).unwrap();
                scene.keeper.card.touch_policy(TouchMode::Timeout);
            });
            assert_eq!(answer.code, 0, "the first request: {answer:?}");
            scene.sign(tag)
        },
        answer: 8,
        log: "failed (touch-timeout) 0, failed (touch-timeout) 0, failed (touch-timeout) 0",
    },
];

impl Scene {
    fn set() -> Option<Self> {
        let place = |purpose, slot, touch| Place { purpose, slot, touch };
        let places = [
            place(Purpose::Root, 0x9a, false),
            place(Purpose::Targets, 0x9c, true),
            place(Purpose::Snapshot, 0x82, false),
            place(Purpose::Timestamp, 0x83, false),
        ];
        let mut service = Instance::start();
        let keeper = YubiKeyKeeper::start_waiting(&mut service, "demo/gold/", &places, WAIT, |card| card)?;
        let digest = service.registry.push(REPOSITORY, "v1", "hello");
        let scene = Self { service, keeper, digest };
        let first = scene.sign("first");
        assert_eq!(first.code, 0, "{first:?}");
        Some(scene)
    }

    /// Asks for a signature and waits for its end; the same tag is the same request.
    fn sign(&self, tag: &str) -> Output {
        let image = format!("{}@{}", self.service.repository(REPOSITORY), self.digest);
        self.service.chancery(&["sign", &image, "--tag", tag, "--idempotency-key", tag, "--wait=60s"])
    }

    fn ask(&self, tag: &str) {
        let (status, asked) = self.service.post("CHANCERY_TOKEN", tag, REPOSITORY, &self.digest, tag);
        assert_eq!(status, 202, "{asked}");
    }

    fn with(&self, mode: TouchMode, tag: &str) -> Output {
        self.keeper.card.touch_policy(mode);
        self.sign(tag)
    }

    /// Does something once the card waits for the finger.
    fn while_it_waits(&self, tag: &str, act: impl FnOnce(&Self)) -> Output {
        self.keeper.card.touch_policy(TouchMode::Manual);
        thread::scope(|scope| {
            let asked = scope.spawn(|| self.sign(tag));
            self.keeper.card.await_touch(PATIENCE).unwrap();
            act(self);
            asked.join().unwrap()
        })
    }
}

#[test]
fn whatever_a_finger_does_the_log_says_how_it_ended_and_the_next_request_is_signed() {
    if !have("docker-registry") {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    for (number, row) in (1..).zip(&ROWS) {
        let tag = format!("touch{number}");
        let answer = (row.act)(&scene, &tag);
        assert_eq!(answer.code, row.answer, "{}: {answer:?}", row.what);
        scene.keeper.card.touch_policy(TouchMode::Auto);
        let next = scene.sign(&format!("{tag}-next"));
        assert_eq!(next.code, 0, "{}, next: {next:?}", row.what);
    }
    let made = scene.keeper.signed().into_iter().map(|(payload, _)| payload).collect();
    let ends = ends(&scene.service, made);
    let mut table = "| row | what happens | answer | intents, and the signatures of each | next request |\n\
                     |---|---|---|---|---|\n"
        .to_owned();
    for (number, row) in (1..).zip(&ROWS) {
        let log = ends[&format!("touch{number}").parse().unwrap()].join(", ");
        assert_eq!(log, row.log, "{}", row.what);
        let answer = if row.answer == 0 { "0 published" } else { "8 failed" };
        writeln!(table, "| {number} | {} | {answer} | {log} | signed |", row.what).unwrap();
    }
    print!("{table}");
    assert_eq!(scene.keeper.pin_tries_left(), 3, "no touch is taken for a wrong PIN");
    scene.service.verify_log();
    into_document("touches", &table);
}
