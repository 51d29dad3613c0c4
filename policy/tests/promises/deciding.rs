//! Each guardrail, alone and together with others.

use crate::facts::*;
use policy::{Caller, Fact, Manifest, PolicySet, Sources, Token};
use record::{Principal, Repository};

/// Makes one fact of an allowed request wrong.
type Spoil = fn(&mut Signing);

#[test]
fn a_request_in_order_is_allowed_and_names_the_rule_and_the_policy() {
    let policy = policy();
    let decision = Signing::into("r.example/team/app").decided_by(&policy);
    assert!(decision.allowed() && decision.reasons.is_empty(), "{decision:?}");
    assert_eq!(decision.rules, ["builtin/sign"]);
    assert_eq!(decision.stamp, policy.stamp());
    assert!(Signing::into("r.example/team/strict").decided_by(&policy).allowed(), "a member of the team");
}

#[test]
fn a_repository_without_an_entry_is_denied_as_unknown_and_for_nothing_else() {
    let mut ask = Signing::into("r.example/other/app");
    ask.token.scopes_sign = false;
    let decision = ask.decided();
    assert_eq!(failed(&decision), ["builtin/unknown-repository"]);
    assert_eq!(decision.reasons[0].remedy, "act");
    assert!(decision.reasons[0].message.contains("r.example/other/app"));
}

#[test]
fn one_policy_set_serves_many_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&policy());
}

#[test]
fn every_guardrail_denies_alone() {
    let spoil: [(&str, &str, Spoil); 9] = [
        ("builtin/token-scope", "act", |a| a.token.repositories = vec!["r.example/te".to_owned()]),
        ("builtin/token-not-for-signing", "act", |a| a.token.scopes_sign = false),
        ("builtin/token-expired", "act", |a| a.now = a.token.expires),
        ("builtin/not-a-signer", "act", |a| a.token.principal = Principal::parse("token:ext").unwrap()),
        ("builtin/not-in-registry", "act", |a| a.image.manifest = Manifest::Absent),
        ("builtin/registry-unreachable", "retry", |a| a.image.manifest = Manifest::Unreachable),
        ("builtin/tag-immutable", "final", |a| a.image.tag_previous = Fact::Found(digest("old"))),
        ("builtin/no-collection", "act", |a| a.image.collection_exists = false),
        ("builtin/not-a-caller", "final", |a| a.token.principal = Principal::parse("system:tuf").unwrap()),
    ];
    for (rule, remedy, change) in spoil {
        let mut ask = Signing::into("r.example/team/strict");
        change(&mut ask);
        let decision = ask.decided();
        assert!(!decision.allowed() && decision.rules.is_empty(), "{rule}");
        assert_eq!(failed(&decision), [rule]);
        assert_eq!(decision.reasons[0].remedy, remedy, "{rule}");
    }
    assert_eq!(failed(&Signing::into("r.example/team/frozen").decided()), ["builtin/repository-frozen"]);
}

#[test]
fn only_listed_media_types_of_a_size_that_registries_must_carry_are_signed() {
    let with = |media_type: &str, size| {
        let mut ask = Signing::into("r.example/team/app");
        ask.image.manifest = Manifest::Present { media_type: media_type.to_owned(), size };
        ask.decided()
    };
    for media_type in [
        OCI_MANIFEST,
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ] {
        assert!(with(media_type, 4 * 1024 * 1024).allowed(), "{media_type}");
    }
    for media_type in ["", "application/json", "application/vnd.docker.distribution.manifest.v1+prettyjws"] {
        assert_eq!(failed(&with(media_type, 1)), ["builtin/media-type"], "{media_type}");
    }
    for size in [4 * 1024 * 1024 + 1, u64::MAX] {
        assert_eq!(failed(&with(OCI_MANIFEST, size)), ["builtin/manifest-size"], "{size}");
    }
}

#[test]
fn a_denial_lists_everything_that_is_missing_at_once() {
    let mut ask = Signing::into("r.example/team/strict");
    ask.token.principal = Principal::parse("token:ext").unwrap();
    ask.token.scopes_sign = false;
    ask.token.repositories.clear();
    ask.token.expires = at("2020-01-01T00:00:00.000Z");
    ask.image.manifest = Manifest::Present { media_type: "text/plain".to_owned(), size: u64::MAX };
    ask.image.tag_previous = Fact::Found(digest("old"));
    ask.image.collection_exists = false;
    assert_eq!(
        failed(&ask.decided()),
        [
            "builtin/manifest-size",
            "builtin/media-type",
            "builtin/no-collection",
            "builtin/not-a-signer",
            "builtin/tag-immutable",
            "builtin/token-expired",
            "builtin/token-not-for-signing",
            "builtin/token-scope",
        ]
    );
}

#[test]
fn messages_say_what_is_wrong_in_the_words_of_the_request() {
    let mut ask = Signing::into("r.example/team/strict");
    ask.token.principal = Principal::parse("token:ext").unwrap();
    ask.image.tag_previous = Fact::Found(digest("old"));
    ask.image.collection_exists = false;
    let decision = ask.decided();
    let message = |rule: &str| &decision.reasons.iter().find(|r| r.rule == rule).unwrap().message;
    assert!(message("builtin/tag-immutable").contains(&digest("old").to_string()));
    assert!(message("builtin/tag-immutable").starts_with("v1 is already signed for"));
    assert!(message("builtin/no-collection").ends_with("run chancery repo create r.example/team/strict"));
    assert!(
        message("builtin/not-a-signer").contains("token:ext")
            && message("builtin/not-a-signer").contains("(release)")
    );
}

#[test]
fn a_registry_cannot_write_into_a_denial_more_than_a_line() {
    let mut ask = Signing::into("r.example/team/app");
    let media_type = format!("evil\u{202e}\n\u{1b}[31m\"\\{}{{digest}}", "x".repeat(100_000));
    ask.image.manifest = Manifest::Present { media_type, size: 1 };
    let message = &ask.decided().reasons[0].message;
    assert!(message.len() <= policy::MAX_MESSAGE && !message.contains(|c: char| c.is_control() || c == '"'));
    assert!(message.is_ascii(), "nothing that turns the text round: {message}");
    assert!(!message.contains("sha256:"), "what the registry wrote is not read for words in braces");
}

#[test]
fn an_immutable_tag_may_be_signed_again_for_the_same_digest() {
    let mut ask = Signing::into("r.example/team/strict");
    ask.image.tag_previous = Fact::Found(digest("new"));
    assert!(ask.decided().allowed());
    ask.repository = "r.example/team/app";
    ask.image.tag_previous = Fact::Found(digest("old"));
    assert!(ask.decided().allowed(), "tags of this repository may move");
}

#[test]
fn the_first_sign_makes_the_collection_only_where_the_operator_says_so() {
    let mut ask = Signing::into("r.example/team/app");
    ask.image.collection_exists = false;
    assert!(ask.decided().allowed());
}

#[test]
fn a_token_covers_whole_names_and_whole_path_components_only() {
    let covered = |scope: &str| {
        let mut ask = Signing::into("r.example/team/app");
        ask.token.repositories = vec![scope.to_owned()];
        ask.decided().allowed()
    };
    assert!(covered("r.example/") && covered("r.example/team/") && covered("r.example/team/app"));
    for scope in ["", "r.example", "r.example/team", "r.example/team/app/", "r.example/team/ap", "*"] {
        assert!(!covered(scope), "{scope:?}");
    }
}

#[test]
fn a_collection_is_created_once_and_by_those_who_may_sign() {
    let policy = policy();
    let fresh = policy.decide(&creating("r.example/team/strict", false));
    assert!(fresh.allowed(), "{fresh:?}");
    assert_eq!(fresh.rules, ["builtin/create-repository"]);
    let again = policy.decide(&creating("r.example/team/strict", true));
    assert_eq!(failed(&again), ["builtin/collection-exists"]);
    assert_eq!(
        failed(&policy.decide(&creating("r.example/team/frozen", false))),
        ["builtin/repository-frozen"]
    );
    let mut stranger = creating("r.example/team/strict", false);
    stranger.caller =
        Caller::Token(Token { principal: principal("token:ext"), scopes_sign: false, ..token() });
    let denied = policy.decide(&stranger);
    assert_eq!(failed(&denied), ["builtin/not-a-signer", "builtin/token-not-for-signing"]);
}

#[test]
fn the_exact_entry_beats_the_longest_prefix_and_inherits_nothing() {
    let data = r#"
        schema = 1
        [[repository]]
        name = "r.example/"
        frozen = true
        [[repository]]
        name = "r.example/a/"
        immutable_tags = true
        [[repository]]
        name = "r.example/a/b/"
        [[repository]]
        name = "r.example/a/b/c"
    "#;
    let policy = PolicySet::load(Sources { data: data.to_owned(), cedar: Vec::new(), tests: None }).unwrap();
    let entry = |name: &str| policy.repository(&Repository::parse(name).unwrap()).map(|r| r.name.as_str());
    assert_eq!(entry("r.example/a/b/c"), Some("r.example/a/b/c"));
    assert_eq!(entry("r.example/a/b/c/d"), Some("r.example/a/b/"));
    assert_eq!(entry("r.example/a/b"), Some("r.example/a/"));
    assert_eq!(entry("r.example/ab"), Some("r.example/"));
    assert_eq!(entry("r.example.org/a"), None);
    assert!(!policy.repository(&Repository::parse("r.example/a/b/c").unwrap()).unwrap().immutable_tags);
}
