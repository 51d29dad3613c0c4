//! Decisions over whole frames, with keys in software: the edges that a black box cannot reach or count. The refusals
//! themselves are shown over the binary, in `tests/hostile_daemon`.

use super::super::charter::Charter;
use super::super::software::{Software, done, signature};
use super::super::state::MAX_USED;
use super::super::world::{Collection, Made, REPOSITORY, World, targets};
use super::*;
use record::wire::{Blob, Extra, SignResult};
use record::{Action, KeeperName, Origin, OutcomeKind, Purpose, Repository, Sha256};

const MINUTE_MS: i64 = 60_000;

fn collection(keeper: &mut Software, world: &mut World, repository: &str) -> Collection {
    world.collection(repository, |world, made| sealed(keeper, world, made))
}

fn sealed(keeper: &mut Software, world: &mut World, made: &Made) -> Vec<u8> {
    let signature = keeper.through(world, made);
    made.seal(world, &signature)
}

fn spent(keeper: &Software, made: &Made) -> bool {
    keeper.state.is_used(made.index)
}

#[test]
fn a_refusal_that_proves_nothing_about_an_index_leaves_it_free_and_every_other_spends_it() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    type Tamper = fn(&mut record::Intent);
    let changed = |world: &mut World, change: Tamper| {
        let mut intent = world.first_targets(REPOSITORY, "v1").intent;
        change(&mut intent);
        world.put(intent, Extra::Targets { prev: None })
    };
    let rows: [(&str, bool, Tamper); 6] = [
        ("intent", false, |i| i.log = Origin::parse("other.example.com").unwrap()),
        ("intent", false, |i| i.keeper = KeeperName::parse("other").unwrap()),
        ("intent", false, |i| i.key = Sha256::of(b"other").to_string().parse().unwrap()),
        ("bytes", true, |i| i.payload = Sha256::of(b"other")),
        ("scope", true, |i| i.repository = Repository::parse("r.example/teams").unwrap()),
        ("stale", true, |i| i.time = i.time.plus_ms(-6 * MINUTE_MS)),
    ];
    for (code, spends, change) in rows {
        let made = changed(&mut world, change);
        assert_eq!((keeper.refusal(&world, &made).as_str(), spent(&keeper, &made)), (code, spends));
    }
    let made = world.first_targets(REPOSITORY, "v1");
    let good = world.batch(keeper.state.seen.size, &[&made], vec![]);
    let mut unproven = good.clone();
    unproven.sign[0].inclusion[0] = Sha256::of(b"x");
    assert_eq!(done(keeper.decide(&world, &unproven)).answer.refused[0].code.as_str(), "proof");
    assert!(!spent(&keeper, &made));
    let again = world.batch(keeper.state.seen.size, &[&made], vec![]);
    assert_eq!(done(keeper.decide(&world, &again)).answer.accepted, [made.index]);
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

#[test]
fn a_root_with_a_role_key_outside_the_charter_is_out_of_scope() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
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

/// The world's charter with the keys of these purposes at another keeper.
fn elsewhere(world: &World, purposes: &[Purpose]) -> String {
    let text = world.charter();
    let mut tables = text.split("\n[[key]]\n");
    let mut charter = tables.next().unwrap().to_owned();
    for table in tables {
        let is_others = purposes.iter().any(|p| table.contains(&format!("purpose = \"{p}\"")));
        let known = ["spki", "purpose", "repositories"];
        let lines = table.lines().filter(|line| !is_others || known.iter().any(|k| line.starts_with(k)));
        charter += if is_others { "\n[[other_key]]\n" } else { "\n[[key]]\n" };
        lines.for_each(|line| charter += &format!("{line}\n"));
    }
    charter
}

fn without_root(world: &World) -> String {
    elsewhere(world, &[Purpose::Root])
}

fn only_root(world: &World) -> String {
    elsewhere(world, &[Purpose::Targets, Purpose::Snapshot, Purpose::Timestamp])
}

#[test]
fn a_root_key_at_another_keeper_makes_a_collection_with_the_keys_here() {
    let mut with_root = Software { charter: only_root, ..Software::new() };
    let mut keeper = Software { charter: without_root, ..Software::new() };
    let mut world = keeper.world();
    let made = world.collection(REPOSITORY, |world, made| match made.intent.purpose {
        Purpose::Root => sealed(&mut with_root, world, made),
        _ => sealed(&mut keeper, world, made),
    });
    let repository = Repository::parse(REPOSITORY).unwrap();
    let link = keeper.state.chain.link(&repository, Purpose::Root).unwrap();
    assert_eq!((link.version, link.payload, link.confirmed), (1, made.root.0.intent.payload, true));
    // Neither keeper uses a key that is the other's.
    let certificate = world.certificate("r.example/team/other");
    assert_eq!(keeper.refusal(&world, &certificate), "intent");
    let targets = world.first_targets("r.example/team/other", "v1");
    assert_eq!(with_root.refusal(&world, &targets), "intent");
}

#[test]
fn a_root_of_another_keeper_is_taken_for_its_own_collection_and_once() {
    let mut with_root = Software { charter: only_root, ..Software::new() };
    let mut keeper = Software { charter: without_root, ..Software::new() };
    let mut world = keeper.world();
    let other = "r.example/team/other";
    let mut root_of = |world: &mut World, repository: &str| {
        let certificate = world.certificate(repository);
        let der = sealed(&mut with_root, world, &certificate);
        let root = world.root(repository, &der);
        let file = sealed(&mut with_root, world, &root);
        (root, file)
    };
    let (root, file) = root_of(&mut world, REPOSITORY);
    let (_, others) = root_of(&mut world, other);
    let targets = world.first_targets(REPOSITORY, "v1");
    let targets_file = sealed(&mut keeper, &mut world, &targets);
    let targets = targets.child(&targets_file);
    // Another collection's root, under an intent that a lying daemon has written for this one.
    let mut intent = root.intent.clone();
    intent.payload = formats::dct::SignedFile::parse(&others).unwrap().payload_hash();
    let lie = world.put(intent, root.extra.clone());
    let made = world.snapshot(REPOSITORY, 1, lie.child(&others), targets.clone());
    assert_eq!(keeper.refusal(&world, &made), "child");
    let made = world.snapshot(REPOSITORY, 1, root.child(&file), targets.clone());
    keeper.through(&mut world, &made);
    // Another first root of the same collection, which no honest keeper would have signed.
    let mut second = Software { charter: only_root, ..Software::new() };
    let certificate = world.certificate(REPOSITORY);
    second.state.seen = keeper.state.seen;
    let der = sealed(&mut second, &mut world, &certificate);
    world.now = world.now.plus_s(1);
    let again = world.root(REPOSITORY, &der);
    let again_file = sealed(&mut second, &mut world, &again);
    assert_ne!(again.intent.payload, root.intent.payload);
    let made = world.snapshot(REPOSITORY, 2, again.child(&again_file), targets);
    let answer = keeper.frame(&world, &[&made], vec![]);
    assert!(answer.refused[0].detail.contains("reserved for other content"), "{:?}", answer.refused);
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
fn targets_that_a_snapshot_names_can_not_be_left_out_even_if_never_settled() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let a = collection(&mut keeper, &mut world, REPOSITORY);
    let second = world.next_targets(&a.targets.0, &a.targets.1, 2, "v2");
    keeper.frame(&world, &[&second], vec![]);
    let file = second.seal(&world, &keeper.sign(&second));
    let snapshot = world.snapshot(REPOSITORY, 2, a.root.0.child(&a.root.1), second.child(&file));
    assert_eq!(keeper.frame(&world, &[&snapshot], vec![]).accepted, [snapshot.index]);
    let timestamp = world.timestamp(REPOSITORY, 2, a.snapshot.0.child(&a.snapshot.1));
    let accepted = keeper.frame(&world, &[&timestamp], vec![]).accepted;
    assert_eq!(
        accepted,
        [timestamp.index],
        "nobody has seen the snapshot above it, which may never be signed"
    );
    keeper.sign(&timestamp);
    let settled = world.completion(&snapshot, &keeper.sign(&snapshot));
    keeper.frame(&world, &[], vec![settled]);
    let timestamp = world.timestamp(REPOSITORY, 3, a.snapshot.0.child(&a.snapshot.1));
    assert_eq!(keeper.refusal(&world, &timestamp), "child", "it is signed, and the log says so");
    let around = world.next_targets(&a.targets.0, &a.targets.1, 3, "v3");
    assert_eq!(keeper.refusal(&world, &around), "chain");
}

#[test]
fn a_note_that_the_log_did_not_sign_is_no_fork() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let made = world.first_targets(REPOSITORY, "v1");
    let mut unsigned = world.batch(0, &[&made], vec![]);
    unsigned.note = unsigned.note.replacen(ORIGIN_LINE, "log.example.org\n", 1);
    assert!(matches!(keeper.decide(&world, &unsigned), Verdict::Refused(r) if r.code == Code::Proof));
    assert_eq!(keeper.state.seen.size, 0);
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

/// INVARIANT(retired): a key that its charter calls retired signs nothing, whatever the log says.
#[test]
fn a_retired_key_signs_nothing_and_the_files_that_it_signed_before_still_count() {
    let mut keeper = Software::new();
    let mut world = keeper.world();
    let retired = |purpose: &str| {
        let line = format!("purpose = \"{purpose}\"\n");
        let charter =
            world.charter().replace(&line, &format!("{line}retired = \"2026-09-21T00:00:00.000Z\"\n"));
        Charter::parse(charter.as_bytes()).unwrap()
    };
    let (without_targets, without_root) = (retired("targets"), retired("root"));
    let certificate = world.certificate(REPOSITORY);
    let batch = world.batch(0, &[&certificate], vec![]);
    let rules = Rules { charter: &without_root, now: keeper.now };
    let verdict = decide(&batch, &rules, &mut keeper.state, &mut keeper.results).unwrap();
    let answer = done(verdict).answer;
    assert_eq!((answer.accepted.len(), answer.refused[0].code.as_str()), (0, "retired"));
    assert!(spent(&keeper, &certificate));
    let made = collection(&mut keeper, &mut world, REPOSITORY);
    let decide_without_targets = |keeper: &mut Software, world: &World, made: &Made| {
        let batch = world.batch(keeper.state.seen.size, &[made], vec![]);
        let rules = Rules { charter: &without_targets, now: keeper.now };
        done(decide(&batch, &rules, &mut keeper.state, &mut keeper.results).unwrap()).answer
    };
    let (root, targets) = (made.root.0.child(&made.root.1), made.targets.0.child(&made.targets.1));
    let snapshot = world.snapshot(REPOSITORY, 2, root, targets);
    assert_eq!(decide_without_targets(&mut keeper, &world, &snapshot).accepted, [snapshot.index]);
    let other = "r.example/team/other";
    let certificate = world.certificate(other);
    let der = sealed(&mut keeper, &mut world, &certificate);
    let root = world.root(other, &der);
    let answer = decide_without_targets(&mut keeper, &world, &root);
    assert_eq!(answer.refused[0].code.as_str(), "scope", "no new root names a retired key");
}
