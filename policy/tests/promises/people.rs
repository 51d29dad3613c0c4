//! Approvals, touches and emergencies.

use crate::facts::*;
use policy::{
    Approval, BreakGlass, Caller, Fact, Justification, Machine, Method, Outcome, Person, PolicyError,
    PolicySet,
};

const TEAMS: &str = r#"
[[team]]
name = "release"
members = ["token:abc", "person:ann", "person:bob", "person:cat"]
[[team]]
name = "security"
members = ["person:cat", "person:dan"]
"#;

fn guarded(options: &str) -> PolicySet {
    with_data(&format!("[[repository]]\nname = \"r.example/team/app\"\n{options}\n{TEAMS}"))
}

fn approved(people: &[&str]) -> Signing {
    let mut ask = Signing::into("r.example/team/app");
    let approval =
        |name: &&str| Approval { person: principal(&format!("person:{name}")), method: Method::Piv };
    ask.image.approvals = people.iter().map(approval).collect();
    ask
}

fn person(name: &str) -> Caller {
    let principal = principal(&format!("person:{name}"));
    Caller::Person(Person { principal, active: true, expires: at("2026-12-01T00:00:00.000Z") })
}

#[test]
fn a_request_enters_without_approvals_and_the_key_waits_for_all_of_them() {
    let policy = guarded("approvals = [{ group = \"release\", count = 2 }]");
    assert!(policy.decide(&approved(&[]).facts_to_enter()).allowed());
    for people in [&[][..], &["ann"], &["ann", "ann"], &["ann", "dan"], &["ann", "eve"]] {
        let decision = approved(people).decided_by(&policy);
        assert_eq!(
            (failed(&decision), decision.outcome),
            (vec!["builtin/quorum"], Outcome::Waiting),
            "{people:?}"
        );
        assert_eq!(decision.reasons[0].remedy, "approval");
    }
    let one = approved(&["ann"]).decided_by(&policy);
    assert_eq!(one.reasons[0].message, "v1 of r.example/team/app needs more approvals: 1 more of release");
    assert!(approved(&["ann", "bob"]).decided_by(&policy).allowed());
}

#[test]
fn a_person_fills_one_place_also_one_of_two_groups() {
    let policy =
        guarded("approvals = [{ group = \"release\", count = 1 }, { group = \"security\", count = 1 }]");
    for people in [&["cat"][..], &["ann", "bob"], &["dan"]] {
        assert_eq!(failed(&approved(people).decided_by(&policy)), ["builtin/quorum"], "{people:?}");
    }
    for people in [["cat", "dan"], ["dan", "cat"], ["cat", "ann"], ["ann", "dan"]] {
        assert!(approved(&people).decided_by(&policy).allowed(), "{people:?}");
    }
}

#[test]
fn who_asks_does_not_approve() {
    let policy = guarded("signers = [\"release\"]\napprovals = [{ group = \"release\", count = 2 }]");
    let mut own = approved(&["ann", "bob"]);
    own.caller = Some(person("ann"));
    let decision = own.decided_by(&policy);
    assert_eq!(failed(&decision), ["builtin/four-eyes", "builtin/quorum"]);
    assert_eq!(decision.outcome, Outcome::Waiting);
    own.image.approvals.push(Approval { person: principal("person:cat"), method: Method::Piv });
    assert!(own.decided_by(&policy).allowed(), "two others have approved");
}

#[test]
fn an_approval_in_the_browser_counts_only_where_the_operator_says_so() {
    let mut ask = approved(&["ann"]);
    ask.image.approvals[0].method = Method::Webauthn;
    let options = "approvals = [{ group = \"release\", count = 1 }]";
    assert_eq!(failed(&ask.decided_by(&guarded(options))), ["builtin/quorum"]);
    assert!(
        ask.decided_by(&guarded(&format!("{options}\napproval_methods = [\"piv\", \"webauthn\"]"))).allowed()
    );
}

#[test]
fn only_protected_tags_need_approvals_where_some_are_named() {
    let policy =
        guarded("protected_tags = [\"v*\", \"latest\"]\napprovals = [{ group = \"release\", count = 1 }]");
    for (tag, free) in [("v1", false), ("latest", false), ("latest2", true), ("dev", true), ("1v", true)] {
        let mut ask = approved(&[]);
        ask.image.tag = tag.parse().unwrap();
        assert_eq!(ask.decided_by(&policy).allowed(), free, "{tag}");
    }
}

#[test]
fn too_many_approvals_are_no_approval() {
    let names: Vec<String> = (0..=policy::MAX_APPROVALS).map(|n| format!("p{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let decision = approved(&names).decided_by(&guarded(""));
    assert_eq!((failed(&decision), decision.outcome), (vec!["builtin/evaluation-error"], Outcome::Denied));
}

#[test]
fn quorums_that_ask_nobody_or_that_nobody_reaches_are_no_policy() {
    for (options, says) in [
        ("approvals = []", "an empty list asks nobody"),
        ("approvals = [{ group = \"release\", count = 0 }]", "count = 0"),
        ("approvals = [{ group = \"release\", count = -1 }]", "count = -1"),
        ("approvals = [{ group = \"release\", count = 17 }]", "count = 17"),
        ("approvals = [{ group = \"relase\", count = 1 }]", "did you mean \"release\"?"),
        ("approvals = [{ group = \"release\", count = 4 }]", "1 more of group \"release\""),
        (
            "approvals = [{ group = \"release\", count = 3 }, { group = \"security\", count = 2 }]",
            "nobody could ever reach it",
        ),
        (
            "approvals = [{ group = \"release\", count = 1 }, { group = \"release\", count = 1 }]",
            "stands there twice",
        ),
        ("break_glass = { approvals = [] }", "an empty list asks nobody"),
        ("approvals = [{ group = \"release\", count = 1, who = 1 }]", "unknown key \"who\""),
        ("break_glass = { aprovals = [] }", "did you mean \"approvals\"?"),
        ("approval_methods = []", "no approval would count"),
    ] {
        let data = format!("schema = 1\n[[repository]]\nname = \"r.example/team/app\"\n{options}\n{TEAMS}");
        match PolicySet::load(sources(&data, "")) {
            Err(PolicyError::Data(error)) => assert!(error.to_string().contains(says), "{options}: {error}"),
            other => panic!("{options}: {other:?}"),
        }
    }
}

#[test]
fn a_touch_is_given_or_made_sure_by_the_key() {
    let policy = guarded("touch = true");
    for (touched, always, allowed) in [
        (Fact::NotLookedAt, false, false),
        (Fact::Absent, false, false),
        (Fact::Found(at("2026-11-23T09:59:59.000Z")), false, true),
        (Fact::NotLookedAt, true, true),
    ] {
        let mut ask = approved(&[]);
        (ask.image.touched, ask.image.key) =
            (touched, Fact::Found(policy::SigningKey { touch_always: always, ..key() }));
        let decision = ask.decided_by(&policy);
        assert_eq!(decision.allowed(), allowed, "{touched:?} {always}");
        assert!(
            allowed || (failed(&decision), decision.outcome) == (vec!["builtin/touch"], Outcome::Waiting)
        );
    }
}

fn emergency(people: &[&str]) -> Signing {
    let mut ask = approved(people);
    ask.image.break_glass =
        Fact::Found(BreakGlass { reason: Justification::parse("payments are down").unwrap() });
    ask.image.tag_previous = Fact::Found(digest("old"));
    ask
}

#[test]
fn an_emergency_lifts_what_gives_way_when_its_own_people_agree_and_raises_an_alarm() {
    let policy =
        guarded("immutable_tags = true\nbreak_glass = { approvals = [{ group = \"security\", count = 2 }] }");
    let mut calm = emergency(&[]);
    calm.image.break_glass = Fact::Absent;
    let decision = calm.decided_by(&policy);
    assert_eq!(
        (failed(&decision), decision.outcome, decision.alarm),
        (vec!["builtin/tag-immutable"], Outcome::Waiting, false)
    );
    assert_eq!(decision.reasons[0].remedy, "break-glass");

    let entering = policy.decide(&emergency(&[]).facts_to_enter());
    assert!(entering.allowed() && entering.alarm, "{entering:?}");
    let waiting = emergency(&["cat"]).decided_by(&policy);
    assert_eq!(failed(&waiting), ["builtin/break-glass-quorum", "builtin/tag-immutable"]);
    assert!(waiting.alarm && waiting.outcome == Outcome::Waiting);
    let lifted = emergency(&["cat", "dan"]).decided_by(&policy);
    assert!(lifted.allowed() && lifted.alarm, "{lifted:?}");
}

#[test]
fn there_is_no_emergency_where_the_operator_has_none() {
    let decision = emergency(&["cat", "dan"]).decided_by(&guarded("immutable_tags = true"));
    assert_eq!(failed(&decision), ["builtin/break-glass-not-allowed", "builtin/tag-immutable"]);
    assert_eq!((decision.outcome, decision.reasons[1].remedy.as_str()), (Outcome::Denied, "final"));
    assert!(decision.alarm);
}

#[test]
fn an_emergency_does_not_lift_the_approvals_of_every_day_nor_the_registry() {
    let policy = guarded(
        "immutable_tags = true\napprovals = [{ group = \"release\", count = 2 }]\n\
         break_glass = { approvals = [{ group = \"security\", count = 1 }] }",
    );
    let mut ask = emergency(&["dan"]);
    ask.image.manifest = policy::Manifest::Absent;
    assert_eq!(failed(&ask.decided_by(&policy)), ["builtin/not-in-registry", "builtin/quorum"]);
}

#[test]
fn machines_and_people_sign_only_as_members_of_the_signers() {
    let data = "[[repository]]\nname = \"r.example/team/app\"\nsigners = [\"builders\"]\n\
                [[repository]]\nname = \"r.example/team/open\"\n\
                [[team]]\nname = \"builders\"\nmembers = [\"machine:spiffe://acme/ci\", \"person:ann\"]\n";
    let policy = with_data(data);
    let machine = |id: &str| {
        let principal = principal(&format!("machine:{id}"));
        Caller::Machine(Machine { principal, expires: at("2026-12-01T00:00:00.000Z") })
    };
    for caller in [machine("spiffe://acme/ci"), person("ann")] {
        assert!(
            Signing::by(caller.clone(), "r.example/team/app").decided_by(&policy).allowed(),
            "{caller:?}"
        );
        let open = Signing::by(caller, "r.example/team/open").decided_by(&policy);
        assert_eq!(failed(&open), ["builtin/not-a-signer"], "no team signs there, so only tokens do");
    }
    for caller in [machine("spiffe://acme/other"), person("bob")] {
        assert_eq!(
            failed(&Signing::by(caller, "r.example/team/app").decided_by(&policy)),
            ["builtin/not-a-signer"]
        );
    }
    let mut late = Signing::by(person("ann"), "r.example/team/app");
    late.now = at("2026-12-01T00:00:00.000Z");
    assert_eq!(failed(&late.decided_by(&policy)), ["builtin/credential-expired"]);
    let Caller::Person(ann) = person("ann") else { panic!("a person") };
    let gone = Signing::by(Caller::Person(Person { active: false, ..ann }), "r.example/team/app")
        .decided_by(&policy);
    assert_eq!(failed(&gone), ["builtin/person-not-active"]);
}
