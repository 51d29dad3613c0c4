//! Properties of all decisions, over random facts: the guardrails against the same rules in plain Rust, and what the
//! loss of a policy can do.

use super::*;
use crate::{Ask, Caller, Manifest};
use proptest::{prelude::*, sample::select};
use record::{Digest, Principal, Tag, Time};
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
[[repository]]
name = "r.example/frozen/"
frozen = true
[[team]]
name = "release"
members = ["token:abc"]
[[team]]
name = "empty"
members = []
"#;
const OPEN: &str = r#"@id("open") permit (principal, action, resource);"#;

static PLAIN: LazyLock<PolicySet> = LazyLock::new(|| load(""));
static OPENED: LazyLock<PolicySet> = LazyLock::new(|| load(OPEN));

fn load(cedar: &str) -> PolicySet {
    let cedar = vec![("own.cedar".to_owned(), cedar.to_owned())];
    PolicySet::load(Sources { data: DATA.to_owned(), cedar }).unwrap()
}

/// The set with the operator's open permit, but without these policies.
fn without(ids: &[&str]) -> PolicySet {
    let mut set = load(OPEN);
    for id in ids {
        set.rules.policies.remove_static(cedar_policy::PolicyId::new(id)).unwrap();
    }
    set
}

fn now() -> Time {
    "2026-11-23T10:00:00.000Z".parse().unwrap()
}

fn callers() -> impl Strategy<Value = Caller> {
    let principals = select(vec!["token:abc", "token:abc", "token:other", "system:tuf"]);
    let scopes =
        select(vec!["r.example/", "r.example/", "r.example/open/", "r.example/team/app", "r.example/te"]);
    let lives = select(vec![1_i64, 1, 86_400_000, 0, -1]);
    let signs = prop::bool::weighted(0.8);
    (principals, signs, prop::collection::vec(scopes, 0..3), lives).prop_map(
        |(principal, scopes_sign, scopes, life_ms)| Caller {
            principal: Principal::parse(principal).unwrap(),
            scopes_sign,
            repositories: scopes.into_iter().map(str::to_owned).collect(),
            expires: now().plus_ms(life_ms),
        },
    )
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

fn asks() -> impl Strategy<Value = Ask> {
    let digest = |text: &str| Digest::of(text.as_bytes());
    let previous = select(vec![None, Some(digest("new")), Some(digest("old"))]);
    let sign = (manifests(), previous, any::<bool>()).prop_map(
        move |(manifest, tag_previous, collection_exists)| Ask::Sign {
            tag: Tag::parse("v1").unwrap(),
            digest: digest("new"),
            manifest,
            tag_previous,
            collection_exists,
        },
    );
    let create = any::<bool>().prop_map(|collection_exists| Ask::CreateRepository { collection_exists });
    prop_oneof![4 => sign, 1 => create]
}

fn facts() -> impl Strategy<Value = Facts> {
    let names = select(vec![
        "r.example/open/a",
        "r.example/open/deep/b",
        "r.example/team/app",
        "r.example/team/app",
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
    let caller = &facts.caller;
    if name == "r.example/unknown" {
        return vec!["builtin/unknown-repository".to_owned()];
    }
    if !caller.principal.as_str().starts_with("token:") {
        return vec!["builtin/not-a-token".to_owned()];
    }
    let team = name == "r.example/team/app";
    let covered = caller.repositories.iter().any(|scope| match scope.as_str() {
        "r.example/" => true,
        "r.example/open/" => name.starts_with("r.example/open/"),
        other => other == name,
    });
    let mut failed = vec![
        ("token-scope", !covered),
        ("token-not-for-signing", !caller.scopes_sign),
        ("token-expired", caller.expires <= facts.now),
        ("not-a-signer", team && caller.principal.as_str() != "token:abc"),
        ("repository-frozen", name.starts_with("r.example/frozen/")),
    ];
    failed.extend(match &facts.ask {
        Ask::CreateRepository { collection_exists } => vec![("collection-exists", *collection_exists)],
        Ask::Sign { digest, manifest, tag_previous, collection_exists, .. } => {
            let moves = tag_previous.is_some_and(|previous| previous != *digest);
            let mut failed = expected_of_manifest(manifest, team);
            failed.push(("tag-immutable", moves && (team || name.starts_with("r.example/open/deep/"))));
            failed.push(("no-collection", !collection_exists && name != "r.example/open/a"));
            failed
        }
    });
    let mut ids: Vec<String> =
        failed.into_iter().filter(|(_, fails)| *fails).map(|(id, _)| format!("builtin/{id}")).collect();
    ids.sort();
    ids
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
        prop_assert_eq!(decision.allowed, decision.reasons.is_empty());
        prop_assert_eq!(decision.allowed, !decision.rules.is_empty());
        prop_assert_eq!(&decision, &PLAIN.decide(&facts), "the same facts, the same decision");
        for reason in &decision.reasons {
            prop_assert!(["final", "retry", "act"].contains(&reason.remedy.as_str()));
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
            let permits = ["builtin/sign", "builtin/create-repository", "open"];
            permits.iter().map(|permit| without(&[permit])).collect()
        });
        let full = OPENED.decide(&facts).allowed;
        for set in LESS.iter() {
            prop_assert!(full || !set.decide(&facts).allowed);
        }
    }

    #[test]
    fn without_a_permit_nothing_is_allowed_and_the_denial_says_so(facts in facts()) {
        static NONE: LazyLock<PolicySet> =
            LazyLock::new(|| without(&["builtin/sign", "builtin/create-repository", "open"]));
        let decision = NONE.decide(&facts);
        let expected = expected(&facts);
        prop_assert!(!decision.allowed);
        let no_permit = vec!["builtin/no-permit".to_owned()];
        prop_assert_eq!(failed(&decision), if expected.is_empty() { no_permit } else { expected });
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
        let full = PLAIN.decide(&facts).allowed;
        for set in LESS.iter() {
            prop_assert_eq!(set.decide(&facts).allowed, full);
        }
    }
}
