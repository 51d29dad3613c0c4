//! Decisions over whole frames, with keys in software: every refusal and every way to close an item.

use super::super::software::{Software, done, signature};
use super::super::state::MAX_USED;
use super::super::world::{Made, REPOSITORY, World, targets};
use super::*;
use record::wire::{Blob, Extra, SignResult};
use record::{Action, KeeperName, Origin, OutcomeKind, Purpose, Repository, Sha256};

const MINUTE_MS: i64 = 60_000;

struct Collection {
    root: (Made, Vec<u8>),
    targets: (Made, Vec<u8>),
    snapshot: (Made, Vec<u8>),
}

/// Certificate, root, targets, snapshot and timestamp of a new collection, each signed and settled.
fn collection(keeper: &mut Software, world: &mut World, repository: &str) -> Collection {
    let certificate = world.certificate(repository);
    let der = sealed(keeper, world, &certificate);
    let root = world.root(repository, &der);
    let root = (root.clone(), sealed(keeper, world, &root));
    let targets = world.first_targets(repository, "v1");
    let targets = (targets.clone(), sealed(keeper, world, &targets));
    let snapshot = world.snapshot(repository, 1, root.0.child(&root.1), targets.0.child(&targets.1));
    let snapshot = (snapshot.clone(), sealed(keeper, world, &snapshot));
    let timestamp = world.timestamp(repository, 1, snapshot.0.child(&snapshot.1));
    sealed(keeper, world, &timestamp);
    Collection { root, targets, snapshot }
}

fn sealed(keeper: &mut Software, world: &mut World, made: &Made) -> Vec<u8> {
    let signature = keeper.through(world, made);
    made.seal(world, &signature)
}

/// The file with one bit of its signature flipped.
fn unsigned_file(file: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(file.to_vec()).unwrap();
    let at = text.find("\"sig\":\"").unwrap() + 20;
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &text[..at], &text[at + 1..]).into_bytes()
}

fn spent(keeper: &Software, made: &Made) -> bool {
    keeper.state.is_used(made.index)
}

#[test]
fn a_whole_collection_is_signed_and_settled() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let made = collection(&mut keeper, &mut world, REPOSITORY);
    let next = world.next_targets(&made.targets.0, &made.targets.1, 2, "v2");
    let next = (next.clone(), sealed(&mut keeper, &mut world, &next));
    let root = made.root.0.child(&made.root.1);
    let snapshot = world.snapshot(REPOSITORY, 2, root, next.0.child(&next.1));
    sealed(&mut keeper, &mut world, &snapshot);
    assert!(keeper.state.open.is_empty());
}

/// INVARIANT(own-bytes)
#[test]
fn own_bytes() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let intent = world.intent(REPOSITORY, targets(REPOSITORY, 1, world.in_days(365), None, "v1"));
    let made = world.put(intent, Extra::Targets { prev: None });
    assert_eq!(keeper.refusal(&world, &made), "bytes");
    assert!(spent(&keeper, &made));
    let good = world.first_targets(REPOSITORY, "v1");
    let batch = world.batch(keeper.state.seen.size, &[&good], vec![]);
    let work = done(keeper.decide(&world, &batch));
    let built = formats::build(&good.intent, &good.extra, &world.public()).unwrap();
    assert_eq!(work.accepted[0].payload(), Sha256::of(&built));
}

#[test]
fn an_item_without_its_proof_is_refused_and_its_index_stays_free() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let (made, other) = (world.first_targets(REPOSITORY, "v1"), world.first_targets(REPOSITORY, "v2"));
    let seen = keeper.state.seen.size;
    let good = world.batch(seen, &[&made], vec![]);
    let mut none = good.clone();
    none.sign[0].inclusion.clear();
    let mut of_other = good.clone();
    of_other.sign[0].index = other.index;
    let mut tampered = good.clone();
    tampered.sign[0].inclusion[0] = Sha256::of(b"x");
    for bad in [none, of_other, tampered] {
        let answer = done(keeper.decide(&world, &bad)).answer;
        assert_eq!(answer.refused[0].code.as_str(), "proof");
    }
    assert!(!spent(&keeper, &made) && !spent(&keeper, &other));
    assert_eq!(done(keeper.decide(&world, &good)).answer.accepted, [made.index]);
}

#[test]
fn an_intent_for_another_log_keeper_key_purpose_or_format_is_refused_and_its_index_stays_free() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let changes: [fn(&mut record::Intent); 5] = [
        |i| i.log = Origin::parse("other.example.com").unwrap(),
        |i| i.keeper = KeeperName::parse("other").unwrap(),
        |i| i.key = Sha256::of(b"other").to_string().parse().unwrap(),
        |i| i.purpose = Purpose::Snapshot,
        |i| i.format = record::Format::DctRootCertificate,
    ];
    for change in changes {
        let mut intent = world.first_targets(REPOSITORY, "v1").intent;
        change(&mut intent);
        let made = world.put(intent, Extra::Targets { prev: None });
        assert_eq!(keeper.refusal(&world, &made), "intent");
        assert!(!spent(&keeper, &made));
    }
    let mut with_root_key = world.first_targets(REPOSITORY, "v1").intent;
    with_root_key.key = world.spki[&Purpose::Root].id();
    let made = world.put(with_root_key, Extra::Targets { prev: None });
    assert_eq!(keeper.refusal(&world, &made), "intent");
}

#[test]
fn an_intent_too_old_too_new_or_met_by_a_clock_set_back_is_stale_and_spent() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    for (ms, code) in
        [(-5 * MINUTE_MS - 1, Some("stale")), (5 * MINUTE_MS + 1, Some("stale")), (5 * MINUTE_MS, None)]
    {
        let mut intent = world.first_targets(REPOSITORY, "v1").intent;
        intent.time = keeper.now.plus_ms(ms);
        let made = world.put(intent, Extra::Targets { prev: None });
        let answer = keeper.frame(&world, &[&made], vec![]);
        assert_eq!(answer.refused.first().map(|r| r.code.as_str()), code, "{ms}");
        assert!(spent(&keeper, &made));
    }
    keeper.now = keeper.now.plus_ms(-5001);
    let made = world.first_targets("r.example/team/b", "v1");
    assert_eq!(keeper.refusal(&world, &made), "stale");
}

#[test]
fn a_clock_that_jumped_ahead_for_a_moment_does_not_end_signing() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let (right, year_ms) = (keeper.now, 365 * 24 * 60 * MINUTE_MS);
    keeper.now = right.plus_ms(year_ms);
    let made = world.first_targets(REPOSITORY, "v1");
    assert_eq!(keeper.refusal(&world, &made), "stale");
    keeper.now = right;
    let made = world.first_targets(REPOSITORY, "v1");
    keeper.through(&mut world, &made);
    // An intent with the same wrong time moves the journal's clock: then the refusal names both times.
    (keeper.now, world.now) = (right.plus_ms(year_ms), right.plus_ms(year_ms));
    let made = world.first_targets("r.example/team/b", "v1");
    keeper.through(&mut world, &made);
    (keeper.now, world.now) = (right, right);
    let made = world.first_targets("r.example/team/c", "v1");
    let answer = keeper.frame(&world, &[&made], vec![]);
    let detail = &answer.refused[0].detail;
    for word in [right.to_string(), right.plus_ms(year_ms).to_string(), "wait for that time".into()] {
        assert!(detail.contains(&word), "{detail}");
    }
}

/// INVARIANT(once) over frames: an index that was accepted or refused is never looked at again.
#[test]
fn an_index_is_accepted_once_in_the_same_frame_and_in_later_ones() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let made = world.first_targets(REPOSITORY, "v1");
    let answer = keeper.frame(&world, &[&made, &made], vec![]);
    assert_eq!((answer.accepted, answer.refused[0].code.as_str()), (vec![made.index], "used"));
    assert_eq!(keeper.refusal(&world, &made), "used");
    let signature = keeper.sign(&made);
    let settle = world.completion(&made, &signature);
    keeper.frame(&world, &[], vec![settle]);
    assert_eq!(keeper.refusal(&world, &made), "used");
}

#[test]
fn a_second_open_item_for_the_same_bytes_is_a_duplicate() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let (made, again) = (world.first_targets(REPOSITORY, "v1"), world.first_targets(REPOSITORY, "v1"));
    assert_eq!(made.intent.payload, again.intent.payload);
    let answer = keeper.frame(&world, &[&made, &again], vec![]);
    assert_eq!((answer.accepted, answer.refused[0].code.as_str()), (vec![made.index], "duplicate"));
    let signature = keeper.sign(&made);
    let settle = world.completion(&made, &signature);
    keeper.frame(&world, &[], vec![settle]);
    let third = world.first_targets(REPOSITORY, "v1");
    assert_eq!(keeper.frame(&world, &[&third], vec![]).accepted, [third.index], "a retry once it is settled");
}

#[test]
fn a_repository_or_root_key_outside_the_charter_is_out_of_scope() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    for repository in ["r.example/teams/app", "r.example/other", "evil.example/team/app"] {
        let made = world.first_targets(repository, "v1");
        assert_eq!(keeper.refusal(&world, &made), "scope");
        assert!(spent(&keeper, &made));
    }
    let certificate = world.certificate(REPOSITORY);
    let der = sealed(&mut keeper, &mut world, &certificate);
    for role in Purpose::ALL {
        let mut intent = world.root(REPOSITORY, &der).intent;
        let Action::Root { roles, .. } = &mut intent.action else { panic!() };
        let other = if role == Purpose::Targets { roles.snapshot } else { roles.targets };
        match role {
            Purpose::Root => roles.root = other,
            Purpose::Targets => roles.targets = other,
            Purpose::Snapshot => roles.snapshot = other,
            Purpose::Timestamp => roles.timestamp = Sha256::of(b"stranger").to_string().parse().unwrap(),
        }
        let made = world.put(intent, Extra::Root { certificate: Blob(der.clone()) });
        assert_eq!(keeper.refusal(&world, &made), "scope", "{role}");
    }
}

#[test]
fn a_key_signs_no_more_in_an_hour_than_its_charter_says() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let key = world.spki[&Purpose::Targets].id();
    let number = keeper.now.unix_ms() / 3_600_000;
    keeper.state.rate.insert(key, super::super::state::Window { number, count: 9_999 });
    let (last, over) =
        (world.first_targets("r.example/team/a", "v1"), world.first_targets("r.example/team/b", "v1"));
    let answer = keeper.frame(&world, &[&last, &over], vec![]);
    assert_eq!((answer.accepted, answer.refused[0].code.as_str()), (vec![last.index], "rate"));
    assert!(spent(&keeper, &over));
}

/// INVARIANT(settle): what was signed must be closed in the log before more is signed.
#[test]
fn nothing_is_signed_while_a_finished_item_waits_for_its_leaf_for_a_minute() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let made = world.first_targets(REPOSITORY, "v1");
    keeper.frame(&world, &[&made], vec![]);
    let signature = keeper.sign(&made);
    keeper.now = keeper.now.plus_ms(MINUTE_MS + 1);
    let next = world.first_targets("r.example/team/b", "v1");
    let answer = keeper.frame(&world, &[&next], vec![]);
    assert_eq!(answer.refused[0].code.as_str(), "unsettled");
    assert!(answer.refused[0].detail.contains("is not settled"), "{:?}", answer.refused);
    assert!(!spent(&keeper, &next));
    let settle = world.completion(&made, &signature);
    let answer = keeper.frame(&world, &[&next], vec![settle]);
    assert_eq!((answer.settled, answer.accepted), (vec![made.index], vec![next.index]));
}

#[test]
fn a_keeper_that_can_remember_no_more_indices_says_so_and_what_makes_room() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let (open, next, void) = (
        world.first_targets("r.example/team/a", "v1"),
        world.first_targets("r.example/team/b", "v1"),
        world.first_targets("r.example/team/c", "v1"),
    );
    keeper.frame(&world, &[&open], vec![]);
    keeper.state.used = (1_000..1_000 + MAX_USED as u64 - 1).map(|index| (index, keeper.now)).collect();
    let mut batch = world.batch(keeper.state.seen.size, &[&next], vec![]);
    batch.void = vec![void.index];
    let answer = done(keeper.decide(&world, &batch)).answer;
    assert_eq!(answer.refused.len(), 2);
    for refused in &answer.refused {
        assert_eq!(refused.code.as_str(), "full");
        assert!(refused.detail.contains(&format!("open item, {}", open.index)), "{}", refused.detail);
    }
    assert!(!spent(&keeper, &next) && !spent(&keeper, &void));
    let signature = keeper.sign(&open);
    let settle = world.completion(&open, &signature);
    keeper.now = keeper.now.plus_ms(10 * MINUTE_MS + 1);
    keeper.frame(&world, &[], vec![settle]);
    assert!(keeper.state.used.is_empty());
}

#[test]
fn versions_out_of_order_and_targets_built_on_other_content_are_refused() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let first = world.first_targets(REPOSITORY, "v1");
    let file = sealed(&mut keeper, &mut world, &first);
    let jump = world.next_targets(&first, &file, 3, "v3");
    assert_eq!(keeper.refusal(&world, &jump), "chain");
    let other = world.first_targets(REPOSITORY, "other");
    assert_eq!(keeper.refusal(&world, &other), "chain", "version 1 again with other content");
    let foreign = world.first_targets("r.example/team/b", "x");
    let foreign_file = sealed(&mut keeper, &mut world, &foreign);
    let mut on_foreign = world.next_targets(&foreign, &foreign_file, 2, "v2");
    on_foreign.intent.repository = Repository::parse(REPOSITORY).unwrap();
    let on_foreign = world.put(on_foreign.intent, on_foreign.extra);
    assert_eq!(keeper.refusal(&world, &on_foreign), "chain");
    let good = world.next_targets(&first, &file, 2, "v2");
    keeper.through(&mut world, &good);
}

/// INVARIANT(short-life)
#[test]
fn short_life() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let day = 86_400;
    let now = keeper.now.whole_seconds();
    for (seconds, code) in
        [(0, "validity"), (-day, "validity"), (1100 * day + 1, "validity"), (1100 * day, "")]
    {
        let intent = world.intent(REPOSITORY, targets(REPOSITORY, 1, now.plus_s(seconds), None, "v1"));
        let made = world.make(intent, Extra::Targets { prev: None });
        let answer = keeper.frame(&world, &[&made], vec![]);
        assert_eq!(answer.refused.first().map_or("", |r| r.code.as_str()), code, "{seconds}");
    }
}

#[test]
fn a_snapshot_takes_only_the_newest_files_of_its_own_collection() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let a = collection(&mut keeper, &mut world, REPOSITORY);
    let b = collection(&mut keeper, &mut world, "r.example/team/b");
    let root = || a.root.0.child(&a.root.1);
    let own = || a.targets.0.child(&a.targets.1);
    let foreign = b.targets.0.child(&b.targets.1);
    // A taken-over daemon logs an intent that claims the foreign file for this collection.
    let mut claim = b.targets.0.intent.clone();
    claim.repository = Repository::parse(REPOSITORY).unwrap();
    let claimed = world.put(claim, Extra::Targets { prev: None }).child(&b.targets.1);
    let mut without_leaf = own();
    without_leaf.leaf = Blob(b"{}".to_vec());
    let mut unsigned = own();
    unsigned.file = Blob(unsigned_file(&a.targets.1));
    for (what, child) in
        [("foreign", foreign), ("claimed", claimed), ("without leaf", without_leaf), ("unsigned", unsigned)]
    {
        let made = world.snapshot(REPOSITORY, 2, root(), child);
        assert_eq!(keeper.refusal(&world, &made), "child", "{what}");
        assert!(spent(&keeper, &made));
    }
    let swapped = world.snapshot(REPOSITORY, 2, b.root.0.child(&b.root.1), own());
    assert_eq!(keeper.refusal(&world, &swapped), "child");
    let next = world.next_targets(&a.targets.0, &a.targets.1, 2, "v2");
    sealed(&mut keeper, &mut world, &next);
    let older = world.snapshot(REPOSITORY, 2, root(), own());
    assert_eq!(keeper.refusal(&world, &older), "child", "older than the newest reserved");
    let timestamp = world.timestamp(REPOSITORY, 2, b.snapshot.0.child(&b.snapshot.1));
    assert_eq!(keeper.refusal(&world, &timestamp), "child");
}

#[test]
fn targets_that_a_snapshot_names_can_not_be_left_out_even_if_never_settled() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let a = collection(&mut keeper, &mut world, REPOSITORY);
    let second = world.next_targets(&a.targets.0, &a.targets.1, 2, "v2");
    keeper.frame(&world, &[&second], vec![]);
    let file = second.seal(&world, &keeper.sign(&second));
    let snapshot = world.snapshot(REPOSITORY, 2, a.root.0.child(&a.root.1), second.child(&file));
    assert_eq!(keeper.frame(&world, &[&snapshot], vec![]).accepted, [snapshot.index]);
    let around = world.next_targets(&a.targets.0, &a.targets.1, 3, "v3");
    assert_eq!(keeper.refusal(&world, &around), "chain");
}

#[test]
fn an_older_note_moves_nothing_and_a_fork_stops_everything() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let made = world.first_targets(REPOSITORY, "v1");
    keeper.frame(&world, &[], vec![]);
    let seen = keeper.state.seen;
    let mut older = world.batch(seen.size, &[&made], vec![]);
    older.note = world.log.note(seen.size - 1);
    assert!(matches!(keeper.decide(&world, &older), Verdict::Behind));
    let mut same_size = world.batch(seen.size, &[&made], vec![]);
    same_size.note = world.log.sign(seen.size, tlog::leaf_hash(b"other"));
    assert!(matches!(keeper.decide(&world, &same_size), Verdict::Fork));
    let mut larger = world.batch(seen.size, &[&made], vec![]);
    larger.note = world.log.sign(seen.size + 1, tlog::leaf_hash(b"other"));
    assert!(matches!(keeper.decide(&world, &larger), Verdict::Fork));
    let mut unsigned = world.batch(seen.size, &[&made], vec![]);
    unsigned.note = unsigned.note.replacen(ORIGIN_LINE, "log.example.org\n", 1);
    assert!(matches!(keeper.decide(&world, &unsigned), Verdict::Refused(r) if r.code == Code::Proof));
    assert_eq!(keeper.state.seen, seen);
    keeper.state.forked = true;
    let good = world.batch(seen.size, &[&made], vec![]);
    assert!(matches!(keeper.decide(&world, &good), Verdict::Forked));
    assert!(!spent(&keeper, &made));
}

const ORIGIN_LINE: &str = "log.example.com\n";

/// INVARIANT(keepers-word)
#[test]
fn keepers_word() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let (a, b) =
        (world.first_targets("r.example/team/a", "v1"), world.first_targets("r.example/team/b", "v1"));
    keeper.frame(&world, &[&a, &b], vec![]);
    let refused = |keeper: &mut Software, world: &World, settle| {
        let answer = keeper.frame(world, &[], vec![settle]);
        assert!(answer.settled.is_empty());
        answer.unsettled[0].code.to_string()
    };
    let early = world.completion(&a, &signature(&a));
    assert_eq!(refused(&mut keeper, &world, early.clone()), "unsettled", "still at the token");
    keeper.sign(&a);
    let failed = SignResult::Failed { code: Code::Stale.failure() };
    keeper.results.finish(b.index, failed, keeper.now);
    for kind in [OutcomeKind::Failed, OutcomeKind::Unknown, OutcomeKind::Void] {
        let settle = world.outcome(&a, kind);
        assert_eq!(refused(&mut keeper, &world, settle), "unsettled", "signed, said to be {kind:?}");
    }
    let mut unproven = world.batch(keeper.state.seen.size, &[], vec![early.clone()]);
    unproven.settle[0].inclusion.clear();
    assert_eq!(done(keeper.decide(&world, &unproven)).answer.unsettled[0].code.as_str(), "proof");
    for kind in [OutcomeKind::Unknown, OutcomeKind::Void] {
        let settle = world.outcome(&b, kind);
        assert_eq!(refused(&mut keeper, &world, settle), "unsettled", "failed, said to be {kind:?}");
    }
    let of_b = world.completion(&b, &signature(&b));
    assert_eq!(refused(&mut keeper, &world, of_b), "unsettled", "failed, said to be signed");
    let right = world.outcome(&b, OutcomeKind::Failed);
    assert_eq!(keeper.frame(&world, &[], vec![early, right]).settled, [a.index, b.index]);
}

#[test]
fn a_lost_item_is_closed_as_unknown_or_by_a_signature_that_turned_up() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let (a, b) =
        (world.first_targets("r.example/team/a", "v1"), world.first_targets("r.example/team/b", "v1"));
    keeper.frame(&world, &[&a, &b], vec![]);
    keeper.restart();
    let wrong_kind = world.outcome(&a, OutcomeKind::Failed);
    let of_other = record::Leaf::decode(&world.completion(&b, &signature(&b)).leaf.0).unwrap();
    let wrong_payload = world.settle(a.index, &of_other);
    let answer = keeper.frame(&world, &[], vec![wrong_kind, wrong_payload]);
    assert_eq!(answer.unsettled.len(), 2);
    let unknown = world.outcome(&a, OutcomeKind::Unknown);
    let turned_up = world.completion(&b, &signature(&b));
    assert_eq!(keeper.frame(&world, &[], vec![unknown, turned_up]).settled, [a.index, b.index]);
    let confirmed =
        |made: &Made| keeper.state.chain.link(&made.intent.repository, Purpose::Targets).unwrap().confirmed;
    assert!(!confirmed(&a) && confirmed(&b));
}

#[test]
fn what_was_said_to_have_failed_is_settled_as_failed_after_a_restart_and_as_nothing_else() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let made = world.first_targets(REPOSITORY, "v1");
    keeper.frame(&world, &[&made], vec![]);
    let code = crate::code("token-busy");
    let mut draft = Draft::new(&mut keeper.state, keeper.now);
    draft.change(Change::Failed { index: made.index, code }).unwrap();
    keeper.restart();
    for kind in [OutcomeKind::Unknown, OutcomeKind::Void] {
        let settle = world.outcome(&made, kind);
        assert_eq!(keeper.frame(&world, &[], vec![settle]).unsettled.len(), 1, "failed, said to be {kind:?}");
    }
    let settle = world.outcome(&made, OutcomeKind::Failed);
    assert_eq!(keeper.frame(&world, &[], vec![settle]).settled, [made.index]);
}

#[test]
fn a_void_index_is_spent_and_one_that_is_open_or_not_yet_seen_can_not_be_voided() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let (open, void) =
        (world.first_targets("r.example/team/a", "v1"), world.first_targets("r.example/team/b", "v1"));
    keeper.frame(&world, &[&open], vec![]);
    let mut batch = world.batch(keeper.state.seen.size, &[], vec![]);
    batch.void = vec![open.index, void.index, void.index, u64::MAX];
    let answer = done(keeper.decide(&world, &batch)).answer;
    let refused: Vec<_> = answer.refused.iter().map(|r| (r.index, r.code.as_str())).collect();
    assert_eq!(refused, [(open.index, "unsettled"), (u64::MAX, "proof")]);
    assert_eq!(keeper.refusal(&world, &void), "used");
}

#[test]
fn a_frame_beyond_the_limits_is_refused_as_a_whole() {
    let mut keeper = Software::new();
    let world = keeper.world();
    let mut batch = world.batch(0, &[], vec![]);
    batch.void = vec![0; MAX_ITEMS + 1];
    assert!(matches!(keeper.decide(&world, &batch), Verdict::Refused(r) if r.code == Code::Frame));
    assert_eq!(keeper.state.seen.size, 0);
}

#[test]
fn a_leaf_that_stood_in_the_log_before_the_intent_closes_nothing() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let mut foretold = world.first_targets(REPOSITORY, "v1");
    foretold.index = world.log.size() + 1;
    let settle = world.outcome(&foretold, OutcomeKind::Unknown);
    let made = world.first_targets(REPOSITORY, "v1");
    assert_eq!(made.index, foretold.index);
    keeper.frame(&world, &[&made], vec![]);
    keeper.restart();
    let answer = keeper.frame(&world, &[], vec![settle]);
    assert_eq!(answer.unsettled[0].code.as_str(), "unsettled");
}

#[test]
fn a_child_with_the_right_bytes_but_the_intent_of_another_collection_is_refused() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let a = collection(&mut keeper, &mut world, REPOSITORY);
    let mut elsewhere = a.targets.0.intent.clone();
    elsewhere.repository = Repository::parse("r.example/team/b").unwrap();
    let child = world.put(elsewhere, Extra::Targets { prev: None }).child(&a.targets.1);
    let made = world.snapshot(REPOSITORY, 2, a.root.0.child(&a.root.1), child);
    assert_eq!(keeper.refusal(&world, &made), "child");
}
