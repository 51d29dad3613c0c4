//! Who counts for a rule, who does not, and why.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code, where a panic is a failed test"
)]

#[expect(dead_code, reason = "each test file uses a part of it")]
#[path = "support/cast.rs"]
mod cast;

use cast::{Ceremony, at, by_piv, content, first, first_content, id, name, statement};
use people::{
    Approval, Content, Decision, MethodKind, Need, NoQuorum, Quorum, Roster, Rule, RuleError, Statement, Why,
    counted,
};
use proptest::prelude::*;
use record::{Principal, Tag, Time};
use std::collections::BTreeSet;

fn need(group: &str, count: u32) -> Need {
    Need { group: name(group), count, methods: vec![MethodKind::Piv] }
}

fn rule(needs: &[(&str, u32)]) -> Rule {
    Rule::new(needs.iter().map(|(group, count)| need(group, *count)).collect()).unwrap()
}

fn count(approvals: &[Approval], needs: &[(&str, u32)]) -> Result<Quorum, NoQuorum> {
    counted(&statement(), approvals, &first(), &rule(needs), at(1))
}

/// The one reason for which an approval beside alice's did not count.
fn uncounted(approval: Approval) -> Why {
    uncounted_by(&statement(), approval, &first())
}

fn uncounted_by(statement: &Statement, approval: Approval, roster: &Roster) -> Why {
    let approvals = [by_piv("alice", statement), approval];
    match counted(statement, &approvals, roster, &rule(&[("release", 2)]), at(1)) {
        Err(NoQuorum::Missing { groups, mut uncounted }) => {
            assert_eq!((groups, uncounted.len()), (vec![(name("release"), 1, 2)], 1));
            uncounted.remove(0).why
        }
        other => panic!("{other:?}"),
    }
}

fn changed(change: impl FnOnce(&mut Content)) -> Statement {
    let mut content = content();
    change(&mut content);
    Statement::new(content).unwrap()
}

#[test]
fn two_people_of_the_group_are_a_quorum_of_two_and_are_named() {
    let said = statement();
    let quorum = count(&[by_piv("bob", &said), by_piv("alice", &said)], &[("release", 2)]).unwrap();
    let who: BTreeSet<&str> = quorum.counted.iter().map(|c| c.person.as_str()).collect();
    assert_eq!((who, quorum.uncounted.len()), (BTreeSet::from(["alice", "bob"]), 0));
}

#[test]
fn one_person_is_one_however_many_keys_and_approvals() {
    assert!(matches!(uncounted(by_piv("alice-2", &statement())), Why::SamePerson));
    assert!(matches!(uncounted(by_piv("alice", &statement())), Why::SamePerson));
}

#[test]
fn a_person_in_two_groups_fills_one_place_of_a_rule() {
    let said = statement();
    let needs = [("release", 1), ("security", 1)];
    assert!(matches!(count(&[by_piv("alice", &said)], &needs), Err(NoQuorum::Missing { .. })));
    // Alice alone could fill both places, bob only the first: so she has to move, whoever comes first.
    for order in [["alice", "bob"], ["bob", "alice"]] {
        let quorum = count(&order.map(|who| by_piv(who, &said)), &needs).unwrap();
        let places: Vec<_> = quorum.counted.iter().map(|c| (c.person.as_str(), c.group.as_str())).collect();
        assert_eq!(places, [("bob", "release"), ("alice", "security")]);
    }
}

#[test]
fn the_requester_does_not_approve_under_any_of_their_names() {
    let alice = changed(|c| c.requester = Principal::parse("person:bob").unwrap());
    assert!(matches!(uncounted_by(&alice, by_piv("bob", &alice), &first()), Why::Requester));
    let mut content = first_content();
    content.people[1].principals = vec![Principal::parse("token:ci").unwrap()];
    let roster = Roster::new(content).unwrap();
    assert!(matches!(uncounted_by(&statement(), by_piv("bob", &statement()), &roster), Why::Requester));
}

#[test]
fn an_approval_counts_for_the_statement_that_it_signed_and_no_other() {
    for other in [
        changed(|c| c.subject = record::Sha256::of(b"another manifest")),
        changed(|c| c.nonce = record::Nonce::parse(&"f".repeat(32)).unwrap()),
        changed(|c| c.break_glass = Some("fire".into())),
        changed(|c| c.expires = at(3_600_001)),
    ] {
        assert!(matches!(uncounted(by_piv("bob", &other)), Why::OtherStatement));
        // The same signature, presented with the statement that is asked about.
        let moved = Approval::new(statement(), id("bob"), proof_of(&by_piv("bob", &other)));
        assert!(matches!(uncounted(moved), Why::Proof(_)));
    }
}

fn proof_of(approval: &Approval) -> people::Proof {
    let envelope: serde_json::Value = serde_json::from_slice(&approval.encode().unwrap()).unwrap();
    let sig: record::wire::Blob = serde_json::from_value(envelope["signatures"][0]["sig"].clone()).unwrap();
    people::Proof::Piv(sig.0)
}

#[test]
fn a_key_signs_for_its_own_person_only() {
    let forged = Approval::new(statement(), id("bob"), proof_of(&by_piv("dave", &statement())));
    assert!(matches!(uncounted(forged), Why::Proof(_)));
    assert!(matches!(uncounted(by_piv("mallory", &statement())), Why::UnknownKey));
    assert!(matches!(uncounted(by_piv("dave", &statement())), Why::NoMember));
}

#[test]
fn whoever_has_left_the_roster_does_not_count() {
    let mut content = first_content();
    content.people.remove(1);
    content.groups.iter_mut().for_each(|g| g.members.retain(|m| m.as_str() != "bob"));
    let without_bob = Roster::new(content).unwrap();
    assert!(matches!(uncounted_by(&statement(), by_piv("bob", &statement()), &without_bob), Why::UnknownKey));
}

#[test]
fn webauthn_counts_only_where_the_rule_says_so() {
    let said = statement();
    let touched = || Ceremony::about(&said).signed("carol-page", &said);
    assert!(matches!(uncounted(touched()), Why::Method(MethodKind::Webauthn)));
    let both = Need { methods: vec![MethodKind::Piv, MethodKind::Webauthn], ..need("release", 2) };
    let approvals = [by_piv("alice", &said), touched()];
    assert!(counted(&said, &approvals, &first(), &Rule::new(vec![both]).unwrap(), at(1)).is_ok());
    // One person, by both methods, is still one.
    let twice = [by_piv("carol", &said), touched()];
    let both = Need { methods: vec![MethodKind::Piv, MethodKind::Webauthn], ..need("release", 2) };
    assert!(counted(&said, &twice, &first(), &Rule::new(vec![both]).unwrap(), at(1)).is_err());
}

#[test]
fn a_statement_counts_from_its_first_moment_to_before_its_last() {
    let said = statement();
    let at_time =
        |now: Time| counted(&said, &[by_piv("alice", &said)], &first(), &rule(&[("release", 1)]), now);
    assert!(matches!(at_time(at(-1)), Err(NoQuorum::NotYet { .. })));
    assert!(at_time(at(0)).is_ok() && at_time(at(3_599_999)).is_ok());
    assert!(matches!(at_time(at(3_600_000)), Err(NoQuorum::Expired { .. })));
}

#[test]
fn a_members_rejection_ends_it_and_a_strangers_does_not() {
    let said = statement();
    let no = said.deciding(Decision::Reject).unwrap();
    let all = [by_piv("alice", &said), by_piv("bob", &said)];
    let with = |seed| count(&[all.as_slice(), &[by_piv(seed, &no)]].concat(), &[("release", 2)]);
    assert!(matches!(with("carol"), Err(NoQuorum::Rejected(who)) if who == name("carol")));
    assert!(
        matches!(with("bob"), Err(NoQuorum::Rejected(who)) if who == name("bob")),
        "who changed their mind"
    );
    assert!(with("dave").is_ok() && with("mallory").is_ok());
    let approvals = [by_piv("alice", &no), by_piv("bob", &no)];
    let verdict = counted(&no, &approvals, &first(), &rule(&[("release", 2)]), at(1));
    assert!(matches!(verdict, Err(NoQuorum::Rejection)), "a rejection is never approved");
}

#[test]
fn the_sentence_says_who_is_missing_and_what_did_not_count() {
    let said = statement();
    let verdict = count(&[by_piv("alice", &said), by_piv("dave", &said)], &[("release", 2), ("security", 1)]);
    assert_eq!(
        verdict.unwrap_err().to_string(),
        "group release has approved with 1 of 2 people, group security has approved with 0 of 1 people; \
         dave's does not count: not a member of a group that the rule names"
    );
}

#[test]
fn a_rule_of_nobody_cannot_be_made() {
    assert_eq!(Rule::new(vec![]), Err(RuleError::Needs(0)));
    assert!(matches!(Rule::new(vec![need("a", 0)]), Err(RuleError::Count { count: 0, .. })));
    assert!(matches!(Rule::new(vec![need("a", 17)]), Err(RuleError::Count { count: 17, .. })));
    assert_eq!(Rule::new(vec![need("a", 1), need("a", 2)]), Err(RuleError::Twice(name("a"))));
    for methods in [vec![], vec![MethodKind::Piv, MethodKind::Piv]] {
        assert_eq!(Rule::new(vec![Need { methods, ..need("a", 1) }]), Err(RuleError::Methods(name("a"))));
    }
    assert!(Rule::new((0..9).map(|n| need(&n.to_string(), 1)).collect()).is_err());
    let text = Rule::new(vec![need("release", 2)]).unwrap().to_string();
    assert_eq!(text, "2 of release by piv");
}

const PEOPLE: [&str; 4] = ["alice", "bob", "carol", "dave"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against counting by hand: a rule of one group is fulfilled exactly if enough distinct members have signed, in any
    /// order, with any repetition, and whatever else is shown.
    #[test]
    fn a_quorum_is_as_many_distinct_members_as_the_rule_says(
        picks in proptest::collection::vec((0usize..4, any::<bool>()), 0..7),
        wanted in 1u32..4,
    ) {
        let (said, other) = (statement(), changed(|c| c.tag_is("v2")));
        let sign = |(who, for_this): &(usize, bool)| by_piv(PEOPLE[*who], if *for_this { &said } else { &other });
        let approvals: Vec<Approval> = picks.iter().map(sign).collect();
        let members: BTreeSet<usize> = picks.iter().filter(|(who, this)| *this && *who < 3).map(|(who, _)| *who).collect();
        let verdict = count(&approvals, &[("release", wanted)]);
        prop_assert_eq!(verdict.is_ok(), members.len() >= wanted as usize);
        if let Ok(quorum) = verdict {
            let who: BTreeSet<_> = quorum.counted.iter().map(|c| c.person.clone()).collect();
            prop_assert_eq!((quorum.counted.len(), who.len()), (wanted as usize, wanted as usize));
        }
    }

    /// Two groups: against trying every way to give the places to people.
    #[test]
    fn each_place_has_a_person_of_its_own(signed in proptest::collection::btree_set(0usize..4, 0..5), a in 1u32..3, b in 1u32..3) {
        let said = statement();
        let approvals: Vec<Approval> = signed.iter().map(|who| by_piv(PEOPLE[*who], &said)).collect();
        // alice and carol are in both groups, bob in the first alone.
        let (both, first_only) = (signed.iter().filter(|w| [0, 2].contains(*w)).count() as u32, u32::from(signed.contains(&1)));
        let possible = (0..=both).any(|to_second| to_second >= b && both - to_second + first_only >= a);
        prop_assert_eq!(count(&approvals, &[("release", a), ("security", b)]).is_ok(), possible);
    }
}

trait Retag {
    fn tag_is(&mut self, text: &str);
}

impl Retag for Content {
    fn tag_is(&mut self, text: &str) {
        if let people::Change::Image { tag, .. } = &mut self.change {
            *tag = Tag::parse(text).unwrap();
        }
    }
}
