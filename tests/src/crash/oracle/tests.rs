//! Doctored histories: each thing that must never be is found, and a good history is good.

use super::*;
use crate::crash::cuts::{Bound, Cut, Cuts};
use record::{
    Action, Change, Completion, FailureCode, Intent, Nonce, Outcome, PayloadDigest, Purpose, Requested,
    Sha256, Signature, SignedData, Spki, Time,
};

/// A log, a journal and what was seen of them, with nothing wrong at first.
#[derive(Default)]
struct Doctored {
    log: LogCopy,
    journal: Vec<Option<ImageSignature>>,
    moments: Vec<Moment>,
    acknowledged: Vec<Acknowledged>,
    checkpoints: Vec<Checkpoint>,
    deaths: Vec<Death>,
}

fn time() -> Time {
    Time::from_unix_ms(1_790_000_000_000).unwrap()
}

/// The base point of P-256 as a key: nothing here verifies a signature.
fn spki() -> Spki {
    let hex = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
               4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    Spki::from_sec1(&(0..hex.len()).step_by(2).map(byte).collect::<Vec<_>>()).unwrap()
}

fn payload(content: u64) -> Sha256 {
    Sha256::of(&content.to_be_bytes())
}

/// By the key of every intent here.
fn signed(content: u64) -> ImageSignature {
    ImageSignature { key: spki().id(), digest: PayloadDigest::Sha256(payload(content)) }
}

fn tag(content: u64) -> Tag {
    format!("v{content}").parse().unwrap()
}

impl Doctored {
    fn push(&mut self, leaf: &Leaf) -> u64 {
        self.log.push(&leaf.encode().unwrap()).unwrap();
        self.log.size() - 1
    }

    /// Its index.
    fn intent(&mut self, content: u64) -> u64 {
        let n = self.log.size();
        let action = Action::Targets {
            version: 1,
            expires: time(),
            prev: None,
            changes: vec![Change {
                tag: tag(content),
                digest: record::Digest::of(b"image"),
                size: 7,
                media_type: "application/vnd.oci.image.manifest.v1+json".into(),
                requested: Requested {
                    request: record::RequestId::new(time()),
                    by: "token:ci".parse().unwrap(),
                    rules: vec![],
                    decision: None,
                    statement: None,
                },
            }],
        };
        self.push(&Leaf::Intent(Intent {
            log: "log.chancery.test".parse().unwrap(),
            keeper: "signing".parse().unwrap(),
            key: spki().id(),
            purpose: Purpose::Targets,
            format: action.format(),
            time: time(),
            nonce: Nonce::parse(&format!("{n:032x}")).unwrap(),
            repository: "r.example/a".parse().unwrap(),
            policy: None,
            requested: None,
            retries: None,
            action,
            payload: payload(content),
            payload_sha384: None,
        }))
    }

    fn sign(&mut self, content: u64) {
        self.journal.push(Some(signed(content)));
    }

    fn complete(&mut self, content: u64) -> u64 {
        let signature = Signature::from_raw(&[1; 64]).unwrap();
        let data = SignedData::Sha256(payload(content));
        self.push(&Leaf::Completion(Completion::new(spki(), data, signature).unwrap()))
    }

    fn outcome(&mut self, intent: u64, outcome: OutcomeKind) -> u64 {
        let code = (outcome == OutcomeKind::Failed).then(|| FailureCode::parse("token").unwrap());
        let keeper = "signing".parse().unwrap();
        self.push(&Leaf::Outcome(Outcome { intent, outcome, time: time(), keeper, code }))
    }

    /// The journal and the log as they are now.
    fn look(&mut self) {
        self.moments.push(Moment { journaled: self.journal.len(), noted: self.log.size() });
    }

    fn publish(&mut self) {
        let (size, origin) = (self.log.size(), "log.chancery.test".into());
        let root = self.log.root_at(size).unwrap();
        self.checkpoints.push(Checkpoint { origin, size, root });
    }

    /// A request from its intent to its acknowledgement.
    fn whole(&mut self, content: u64) {
        let intent = self.intent(content);
        self.journal.push(None);
        self.sign(content);
        self.look();
        let completion = self.complete(content);
        self.publish();
        self.acknowledged.push(Acknowledged { tag: tag(content), intent, completion });
    }

    fn account(&self) -> Account {
        judge(&Evidence {
            log: &self.log,
            journal: &self.journal,
            moments: &self.moments,
            acknowledged: &self.acknowledged,
            checkpoints: &self.checkpoints,
            deaths: &self.deaths,
        })
    }

    fn violations(&self) -> Vec<Violation> {
        self.account().violations
    }
}

fn good() -> Doctored {
    let mut history = Doctored::default();
    history.publish();
    history
        .push(&Leaf::Event(Event::Stopped { time: time(), nonce: Nonce::parse(&"0".repeat(32)).unwrap() }));
    history.whole(1);
    history.whole(2);
    history
}

#[test]
fn a_good_history_has_no_violation_and_is_counted() {
    let mut history = good();
    // Void, then the same bytes again; then a death that leaves two unknown, one of which was signed.
    let void = history.intent(3);
    history.outcome(void, OutcomeKind::Void);
    history.whole(3);
    let (signed, unsigned, failed) = (history.intent(4), history.intent(5), history.intent(6));
    history.sign(4);
    history.look();
    let noted = history.log.size();
    history.deaths.push(Death { since: noted - 1, until: noted });
    history.outcome(signed, OutcomeKind::Unknown);
    history.outcome(unsigned, OutcomeKind::Unknown);
    history.outcome(failed, OutcomeKind::Failed);
    history.whole(4);
    history.publish();
    let expected = Account {
        signatures: 5,
        intents: 8,
        completions: 4,
        void: 1,
        failed: 1,
        unknown_signed: 1,
        unknown_unsigned: 1,
        open: 0,
        violations: vec![],
    };
    assert_eq!(history.account(), expected);
}

#[test]
fn a_signature_without_an_intent_is_found() {
    let mut history = good();
    history.sign(9);
    let line = history.journal.len() - 1;
    assert_eq!(history.violations(), [Violation::NoIntent { line, signed: signed(9) }]);
}

#[test]
fn the_right_payload_signed_by_another_key_is_found() {
    let mut history = good();
    history.intent(9);
    let wrong = ImageSignature { key: payload(0).to_string().parse().unwrap(), ..signed(9) };
    history.journal.push(Some(wrong));
    let line = history.journal.len() - 1;
    history.complete(9);
    let count = Violation::Count { signed: signed(9), made: 0, completed: 1, unknown: 0 };
    assert_eq!(history.violations(), [Violation::NoIntent { line, signed: wrong }, count]);
}

#[test]
fn an_intent_that_came_after_its_signature_is_found() {
    let mut history = good();
    history.sign(9);
    history.look();
    let (noted, line) = (history.log.size(), history.journal.len() - 1);
    let intent = history.intent(9);
    history.complete(9);
    assert_eq!(history.violations(), [Violation::LateIntent { line, intent, noted }]);
}

#[test]
fn a_second_signature_before_its_own_intent_is_found() {
    let mut history = good();
    history.sign(2);
    history.look();
    let (noted, line) = (history.log.size(), history.journal.len() - 1);
    let intent = history.intent(2);
    history.complete(2);
    assert_eq!(history.violations(), [Violation::LateIntent { line, intent, noted }]);
}

#[test]
fn an_acknowledged_signature_without_its_completion_is_found() {
    let mut history = good();
    let intent = history.intent(9);
    history.sign(9);
    let told = Acknowledged { tag: tag(9), intent, completion: intent + 1 };
    history.acknowledged.push(told.clone());
    assert!(history.violations().contains(&Violation::NotCompleted(told.clone())));
    // Another leaf at that place is no completion of it either.
    history.publish();
    history.whole(8);
    assert!(history.violations().contains(&Violation::NotCompleted(told)));
}

#[test]
fn an_acknowledged_request_whose_intent_is_gone_is_found() {
    for intent in [2, 99] {
        let mut history = good();
        let told = Acknowledged { tag: tag(9), intent, completion: 2 };
        history.acknowledged.push(told.clone());
        assert_eq!(history.violations(), [Violation::NotIntended(told)]);
    }
}

#[test]
fn a_second_end_is_found_whichever_the_two_are() {
    for second in [OutcomeKind::Void, OutcomeKind::Failed, OutcomeKind::Unknown] {
        let mut history = good();
        let intent = history.acknowledged[0].intent;
        let leaf = history.outcome(intent, second);
        assert_eq!(history.violations(), [Violation::SecondEnd { leaf }]);
    }
    let mut history = good();
    let intent = history.intent(9);
    history.outcome(intent, OutcomeKind::Void);
    let leaf = history.outcome(intent, OutcomeKind::Void);
    assert_eq!(history.violations(), [Violation::SecondEnd { leaf }]);
    let mut history = good();
    let leaf = history.complete(1);
    assert_eq!(history.violations(), [Violation::SecondEnd { leaf }]);
    let mut history = good();
    let leaf = history.outcome(0, OutcomeKind::Void);
    assert_eq!(history.violations(), [Violation::SecondEnd { leaf }], "leaf 0 is no intent");
}

#[test]
fn an_intent_without_an_end_is_found() {
    let mut history = good();
    let intent = history.intent(9);
    assert_eq!(history.violations(), [Violation::Open { intent }]);
}

#[test]
fn a_void_intent_whose_key_signed_and_a_completion_that_no_key_made_are_found() {
    let mut history = good();
    let intent = history.intent(9);
    history.sign(9);
    history.outcome(intent, OutcomeKind::Void);
    let count = |content, made, completed, unknown| Violation::Count {
        signed: signed(content),
        made,
        completed,
        unknown,
    };
    assert_eq!(history.violations(), [count(9, 1, 0, 0)]);
    let mut history = good();
    history.intent(9);
    history.complete(9);
    assert_eq!(history.violations(), [count(9, 0, 1, 0)]);
    let mut history = good();
    history.sign(1);
    assert_eq!(history.violations(), [count(1, 2, 1, 0)]);
}

#[test]
fn an_unknown_outcome_is_a_violation_unless_the_keeper_died_between() {
    let unknown = |death: fn(u64) -> Option<Death>| {
        let mut history = good();
        let intent = history.intent(9);
        history.sign(9);
        history.deaths.extend(death(intent));
        history.outcome(intent, OutcomeKind::Unknown);
        (intent, history.violations())
    };
    assert_eq!(unknown(|intent| Some(Death { since: intent, until: intent + 1 })).1, []);
    for death in [
        |_| None,
        // It died before there was the intent, and after the outcome.
        |intent| Some(Death { since: 1, until: intent }),
        |intent| Some(Death { since: intent + 2, until: intent + 3 }),
    ] {
        let (intent, found) = unknown(death);
        assert_eq!(found, [Violation::Unexplained { intent }]);
    }
}

/// The daemon was starting when the keeper was killed, so that no note bounds that death from above: the rest that follows
/// does.
#[test]
fn a_death_whose_bound_no_note_gave_explains_nothing_after_the_next_rest() {
    let mut history = good();
    let mut cuts = Cuts::default();
    let since = history.log.size();
    let first = history.intent(7);
    history.sign(7);
    cuts.push(Cut { journaled: history.journal.len(), bound: Bound::Unknown, since: Some(since) });
    history.outcome(first, OutcomeKind::Unknown);
    history.whole(7);
    history.deaths = cuts.deaths(&history.log);
    assert_eq!(history.violations(), [], "it explains that of its own round");
    cuts.settle(history.log.size());

    let second = history.intent(8);
    history.sign(8);
    history.outcome(second, OutcomeKind::Unknown);
    history.whole(8);
    history.deaths = cuts.deaths(&history.log);
    history.moments = cuts.moments(&history.log);
    assert_eq!(history.violations(), [Violation::Unexplained { intent: second }]);
}

#[test]
fn a_tree_that_shrank_and_one_that_was_rewritten_are_found() {
    let mut history = good();
    let short = LogCopy::default();
    let long = std::mem::replace(&mut history.log, short);
    assert!(history.violations().contains(&Violation::Rewritten { seen: long.size(), now: 0 }));
    let mut history = good();
    let seen = history.log.size();
    history.log = LogCopy::default();
    history
        .push(&Leaf::Event(Event::Stopped { time: time(), nonce: Nonce::parse(&"1".repeat(32)).unwrap() }));
    (history.journal, history.moments, history.acknowledged) = Default::default();
    history.whole(1);
    history.whole(2);
    assert!(history.violations().contains(&Violation::Rewritten { seen, now: seen }));
}

#[test]
fn a_copy_of_the_leaves_that_had_lost_some_is_found() {
    let mut history = good();
    let nonce = |n: u8| Nonce::parse(&format!("{n:032x}")).unwrap();
    let events = [
        Event::StoreRolledBack { time: time(), nonce: nonce(1), database: 3, spool: 4 },
        Event::SpoolRolledBack { time: time(), nonce: nonce(2), spool: 3, noted: 4 },
    ];
    let leaves = events.map(|event| history.push(&Leaf::Event(event)));
    assert_eq!(history.violations(), leaves.map(|leaf| Violation::RolledBack { leaf }));
}
