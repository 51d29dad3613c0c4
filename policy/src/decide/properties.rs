//! Properties of all decisions, over random facts: the guardrails against the same rules in plain Rust, and what the
//! loss of a policy can do.

use super::*;
use crate::{
    Approval, Ask, Attestations, BreakGlass, Fact, Justification, Machine, Manifest, Method, Signed, Signing,
    SigningKey, Token,
};
use proptest::{prelude::*, sample::select};
use record::{Digest, Principal, Purpose, Tag, Time};
use std::sync::LazyLock;

const DATA: &str = r#"
schema = 1
[[repository]]
name = "r.example/open/"
create_on_first_sign = true
[[repository]]
name = "r.example/open/deep/"
immutable_tags = true
[[repository]]
name = "r.example/team/app"
immutable_tags = true
signers = ["release", "empty"]
media_types = ["application/vnd.oci.image.index.v1+json"]
break_glass = { approvals = [{ group = "guards", count = 1 }] }
[[repository]]
name = "r.example/two/app"
approvals = [{ group = "people", count = 1 }, { group = "guards", count = 1 }]
create_on_first_sign = true
touch = true
[[repository]]
name = "r.example/frozen/"
frozen = true
[[team]]
name = "release"
members = ["token:abc"]
[[team]]
name = "empty"
members = []
[[team]]
name = "people"
members = ["person:ann", "person:bob"]
[[team]]
name = "guards"
members = ["person:bob", "person:dan"]
"#;
const OPEN: &str = r#"@id("open") permit (principal, action, resource);"#;

static PLAIN: LazyLock<PolicySet> = LazyLock::new(|| load(""));
static OPENED: LazyLock<PolicySet> = LazyLock::new(|| load(OPEN));

fn load(cedar: &str) -> PolicySet {
    let cedar = vec![("own.cedar".to_owned(), cedar.to_owned())];
    PolicySet::load(Sources { data: DATA.to_owned(), cedar, tests: None }).unwrap()
}

/// The set with the operator's open permit, but without these policies.
fn without(ids: &[&str]) -> PolicySet {
    let mut set = load(OPEN);
    for id in ids {
        let id = || cedar_policy::PolicyId::new(id);
        let from_permits = set.rules.permits.remove_static(id()).is_ok();
        assert!(from_permits || set.rules.forbids.remove_static(id()).is_ok());
    }
    set
}

fn now() -> Time {
    "2026-11-23T10:00:00.000Z".parse().unwrap()
}

fn callers() -> impl Strategy<Value = Caller> {
    let principals = select(vec!["token:abc", "token:abc", "token:other", "system:tuf"]);
    let scopes = select(vec![
        "r.example/",
        "r.example/",
        "r.example/open/",
        "r.example/team/app",
        "r.example/two/app",
        "r.example/te",
    ]);
    let lives = select(vec![1_i64, 1, 86_400_000, 0, -1]);
    let signs = prop::bool::weighted(0.8);
    let tokens = (principals, signs, prop::collection::vec(scopes, 0..3), lives).prop_map(
        |(principal, scopes_sign, scopes, life_ms)| {
            Caller::Token(Token {
                principal: Principal::parse(principal).unwrap(),
                scopes_sign,
                repositories: scopes.into_iter().map(str::to_owned).collect(),
                expires: now().plus_ms(life_ms),
            })
        },
    );
    let machine = Machine { principal: Principal::parse("machine:m").unwrap(), expires: now().plus_ms(1) };
    prop_oneof![9 => tokens, 1 => Just(Caller::Machine(machine))]
}

fn manifests() -> impl Strategy<Value = Manifest> {
    let media_types = select(vec![
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "text/plain",
    ]);
    let present = (media_types, select(vec![0, 4_194_304, 4_194_305, u64::MAX]))
        .prop_map(|(media_type, size)| Manifest::Present { media_type: media_type.to_owned(), size });
    prop_oneof![4 => present, 1 => Just(Manifest::Absent), 1 => Just(Manifest::Unreachable)]
}

fn approvals() -> impl Strategy<Value = Vec<Approval>> {
    let people = select(vec!["person:ann", "person:bob", "person:dan", "person:eve"]);
    let methods = select(vec![Method::Piv, Method::Piv, Method::Webauthn]);
    let one = (people, methods)
        .prop_map(|(person, method)| Approval { person: Principal::parse(person).unwrap(), method });
    prop::collection::vec(one, 0..4)
}

fn images() -> impl Strategy<Value = Signing> {
    let digest = |text: &str| Digest::of(text.as_bytes());
    let previous =
        select(vec![Fact::Absent, Fact::Found(digest("new")), Fact::Found(digest("old")), Fact::NotLookedAt]);
    let touched = select(vec![Fact::NotLookedAt, Fact::Absent, Fact::Found(now())]);
    let glass = prop::bool::weighted(0.2);
    let key = SigningKey {
        id: Sha256::of(b"key").to_string().parse().unwrap(),
        purpose: Purpose::Targets,
        attested: false,
        touch_always: false,
    };
    let broken = BreakGlass { reason: Justification::parse("fire").unwrap() };
    (manifests(), previous, any::<bool>(), approvals(), touched, glass).prop_map(
        move |(manifest, tag_previous, collection_exists, approvals, touched, glass)| Signing {
            tag: Tag::parse("v1").unwrap(),
            digest: digest("new"),
            manifest,
            children: Fact::NotLookedAt,
            image_created: Fact::NotLookedAt,
            attestations: Attestations::not_looked_at(),
            tag_previous,
            collection_exists,
            key: Fact::Found(key),
            signed_last_hour: Fact::Found(Signed { by_caller: 0, of_repository: 0 }),
            approvals,
            touched,
            break_glass: if glass { Fact::Found(broken.clone()) } else { Fact::Absent },
        },
    )
}

fn asks() -> impl Strategy<Value = Ask> {
    let create = any::<bool>().prop_map(|collection_exists| Ask::CreateRepository { collection_exists });
    let enter = images().prop_map(|image| Ask::RequestSign(Box::new(image)));
    let sign = images().prop_map(|image| Ask::Sign(Box::new(image)));
    prop_oneof![4 => sign, 2 => enter, 1 => create]
}

fn facts() -> impl Strategy<Value = Facts> {
    let names = select(vec![
        "r.example/open/a",
        "r.example/open/deep/b",
        "r.example/team/app",
        "r.example/team/app",
        "r.example/two/app",
        "r.example/two/app",
        "r.example/frozen/x",
        "r.example/unknown",
    ]);
    (callers(), names, asks()).prop_map(|(caller, name, ask)| Facts {
        caller,
        repository: Repository::parse(name).unwrap(),
        ask,
        now: now(),
    })
}

/// The guardrails once more, in plain Rust, for [`DATA`]: the ids that must fail.
fn expected(facts: &Facts) -> Vec<String> {
    let name = facts.repository.as_str();
    let principal = facts.caller.principal().as_str();
    if name == "r.example/unknown" {
        return vec!["builtin/unknown-repository".to_owned()];
    }
    if principal == "system:tuf" {
        return vec!["builtin/not-a-caller".to_owned()];
    }
    let team = name == "r.example/team/app";
    let mut failed = vec![("repository-frozen", name.starts_with("r.example/frozen/"))];
    match &facts.caller {
        Caller::Token(token) => {
            let covered = token.repositories.iter().any(|scope| match scope.as_str() {
                "r.example/" => true,
                "r.example/open/" => name.starts_with("r.example/open/"),
                other => other == name,
            });
            failed.extend([
                ("token-scope", !covered),
                ("token-not-for-signing", !token.scopes_sign),
                ("token-expired", token.expires <= facts.now),
                ("not-a-signer", team && principal != "token:abc"),
            ]);
        }
        _ => failed.push(("not-a-signer", true)),
    }
    match &facts.ask {
        Ask::CreateRepository { collection_exists } => failed.push(("collection-exists", *collection_exists)),
        Ask::RequestSign(image) => failed.extend(expected_of_image(image, name, true)),
        Ask::Sign(image) => {
            failed.extend(expected_of_image(image, name, false));
            failed.extend(expected_of_people(image, name));
        }
    }
    let mut ids: Vec<String> =
        failed.into_iter().filter(|(_, fails)| *fails).map(|(id, _)| format!("builtin/{id}")).collect();
    ids.sort();
    ids
}

fn approved_by(image: &Signing, person: &str) -> bool {
    image.approvals.iter().any(|a| a.person.as_str() == person && a.method == Method::Piv)
}

fn expected_of_image(image: &Signing, name: &str, enters: bool) -> Vec<(&'static str, bool)> {
    let team = name == "r.example/team/app";
    let immutable = team || name.starts_with("r.example/open/deep/");
    let claimed = image.break_glass.found().is_some();
    let guard = approved_by(image, "person:bob") || approved_by(image, "person:dan");
    let lifted = claimed && team && (guard || enters);
    let moves = image.tag_previous.found().is_some_and(|previous| *previous != image.digest);
    let mut failed = expected_of_manifest(&image.manifest, team);
    failed.extend([
        ("tag-immutable", moves && immutable && !lifted),
        ("tag-history-unknown", immutable && image.tag_previous == Fact::NotLookedAt),
        (
            "no-collection",
            !image.collection_exists && name != "r.example/open/a" && name != "r.example/two/app",
        ),
        ("break-glass-not-allowed", claimed && !team),
        ("break-glass-quorum", claimed && team && !guard && !enters),
    ]);
    failed
}

/// The two places of `r.example/two/app`: one of ann and bob, one of bob and dan, and two people.
fn expected_of_people(image: &Signing, name: &str) -> Vec<(&'static str, bool)> {
    if name != "r.example/two/app" {
        return Vec::new();
    }
    let [ann, bob, dan] = ["person:ann", "person:bob", "person:dan"].map(|person| approved_by(image, person));
    let met = (ann && (bob || dan)) || (bob && dan);
    vec![("quorum", !met), ("touch", image.touched.found().is_none())]
}

fn expected_of_manifest(manifest: &Manifest, only_indexes: bool) -> Vec<(&'static str, bool)> {
    match manifest {
        Manifest::Absent => vec![("not-in-registry", true)],
        Manifest::Unreachable => vec![("registry-unreachable", true)],
        Manifest::Present { media_type, size } => {
            let listed = media_type.contains("index") || (!only_indexes && media_type.contains("manifest"));
            vec![("media-type", !listed), ("manifest-size", *size > 4 * 1024 * 1024)]
        }
    }
}

fn failed(decision: &Decision) -> Vec<String> {
    decision.reasons.iter().map(|reason| reason.rule.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_guardrails_decide_as_the_same_rules_in_plain_rust(facts in facts()) {
        let decision = PLAIN.decide(&facts);
        prop_assert_eq!(failed(&decision), expected(&facts));
        prop_assert_eq!(decision.allowed(), decision.reasons.is_empty());
        prop_assert_eq!(decision.allowed(), !decision.rules.is_empty());
        prop_assert_eq!(&decision, &PLAIN.decide(&facts), "the same facts, the same decision");
        for reason in &decision.reasons {
            prop_assert!(["final", "retry", "act", "approval", "touch", "break-glass"].contains(&reason.remedy.as_str()));
            prop_assert!(!reason.message.contains(['{', '}']), "{}", reason.message);
        }
    }

    #[test]
    fn an_open_permit_allows_nothing_that_a_guardrail_denies(facts in facts()) {
        prop_assert_eq!(failed(&OPENED.decide(&facts)), expected(&facts));
    }

    #[test]
    fn removing_any_permit_never_allows_more(facts in facts()) {
        static LESS: LazyLock<Vec<PolicySet>> = LazyLock::new(|| {
            let permits = ["builtin/sign", "builtin/sign-by-job", "builtin/sign-by-team", "builtin/create-repository", "open"];
            permits.iter().map(|permit| without(&[permit])).collect()
        });
        let full = OPENED.decide(&facts).allowed();
        for set in LESS.iter() {
            prop_assert!(full || !set.decide(&facts).allowed());
        }
    }

    #[test]
    fn without_a_permit_nothing_is_allowed_and_the_denial_says_so(facts in facts()) {
        static NONE: LazyLock<PolicySet> =
            LazyLock::new(|| {
                without(&[
                    "builtin/sign", "builtin/sign-by-job", "builtin/sign-by-team", "builtin/create-repository",
                    "builtin/create-repository-by-team", "open",
                ])
            });
        let decision = NONE.decide(&facts);
        let expected = expected(&facts);
        prop_assert!(!decision.allowed());
        let no_permit = vec!["builtin/no-permit".to_owned()];
        prop_assert_eq!(failed(&decision), if expected.is_empty() { no_permit } else { expected });
    }

    #[test]
    fn adding_any_forbid_never_allows_more_and_observing_it_changes_nothing(facts in facts()) {
        const CONDITIONS: [&str; 4] = [
            "true == true", "context.now < datetime(\"2026-11-23T10:00:00.001Z\")", "resource.immutableTags", "principal is Sign::Machine",
        ];
        let with = |mode: &str, when: &str| {
            load(&format!("{OPEN}\n@id(\"more\") @mode(\"{mode}\") forbid (principal, action, resource) when {{ {when} }};"))
        };
        static SETS: LazyLock<std::sync::Mutex<Vec<(PolicySet, PolicySet)>>> = LazyLock::new(Default::default);
        let mut sets = SETS.lock().unwrap();
        if sets.is_empty() {
            sets.extend(CONDITIONS.iter().map(|when| (with("enforce", when), with("observe", when))));
        }
        let without = OPENED.decide(&facts);
        for (enforced, observed) in sets.iter() {
            prop_assert!(without.allowed() || !enforced.decide(&facts).allowed());
            let seen = observed.decide(&facts);
            prop_assert_eq!((seen.outcome, &seen.rules, &seen.reasons), (without.outcome, &without.rules, &without.reasons));
            let holds = enforced.decide(&facts).reasons.iter().any(|reason| reason.rule == "more");
            prop_assert_eq!(seen.observed.len(), usize::from(holds), "what it would have denied is told");
        }
    }

    /// Whatever was allowed with these approvals needed those that its quorum needed.
    #[test]
    fn no_request_is_allowed_with_an_approval_less_than_its_quorum(facts in facts(), lost in 0_usize..4) {
        if PLAIN.decide(&facts).allowed() && let Ask::Sign(image) = &facts.ask && facts.repository.as_str() == "r.example/two/app" {
            let mut less = image.clone();
            let person = less.approvals[lost % less.approvals.len()].person.clone();
            less.approvals.retain(|approval| approval.person != person);
            let people: std::collections::BTreeSet<_> = less.approvals.iter().map(|a| &a.person).collect();
            let decision = PLAIN.decide(&Facts { ask: Ask::Sign(less.clone()), ..facts.clone() });
            prop_assert!(people.len() >= 2 || decision.outcome == Outcome::Waiting, "{:?}", decision);
        }
    }

    /// Cedar's own authorizer over permits and forbids together comes to the same, where nothing is observed or exempted.
    #[test]
    fn the_two_sets_decide_as_one_does(facts in facts()) {
        let set = &*OPENED;
        let Some(rules) = set.repository(&facts.repository) else { return Ok(()) };
        if contradiction(&facts).is_some() {
            return Ok(());
        }
        static MERGED: LazyLock<cedar_policy::PolicySet> = LazyLock::new(|| {
            let all = OPENED.rules.permits.policies().chain(OPENED.rules.forbids.policies());
            cedar_policy::PolicySet::from_policies(all.cloned()).unwrap()
        });
        let question = set.names.question(&set.rules.schema, &Standing::of(&facts, rules, &set.data)).unwrap();
        let response = Authorizer::new().is_authorized(&question.request, &MERGED, &question.entities);
        let decision = set.decide(&facts);
        prop_assert_eq!(response.decision() == cedar_policy::Decision::Allow, decision.allowed());
        prop_assert_eq!(determining(&response), decision.determining());
    }

    /// The permits repeat who may ask, so the loss of one forbid lets nobody in.
    #[test]
    fn losing_a_guardrail_on_the_caller_allows_nobody(facts in facts()) {
        static LESS: LazyLock<Vec<PolicySet>> = LazyLock::new(|| {
            let lost = [
                "token-scope", "token-not-for-signing", "token-expired", "not-a-signer", "not-in-registry",
                "registry-unreachable",
            ];
            lost.iter().map(|id| without(&["open", &format!("builtin/{id}")])).collect()
        });
        let full = PLAIN.decide(&facts).allowed();
        for set in LESS.iter() {
            prop_assert_eq!(set.decide(&facts).allowed(), full);
        }
    }
}
