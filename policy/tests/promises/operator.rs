//! What an operator's own policies can and cannot do.

use crate::facts::*;
use policy::{Fact, Manifest};

#[test]
fn an_operators_forbid_denies_with_its_own_words() {
    let policy = with_cedar(
        r#"
        @id("freeze/christmas") @remedy("retry") @message("{repository}: no releases before {now} is over, {tag}")
        forbid (principal, action == Sign::Action::"sign", resource in Sign::Namespace::"r.example/team/")
        when { context.now >= datetime("2026-12-20") && context.now < datetime("2027-01-03") };
        "#,
    );
    let mut ask = Signing::into("r.example/team/app");
    assert!(ask.decided_by(&policy).allowed(), "before the freeze");
    ask.token.expires = at("2027-12-01T00:00:00.000Z");
    ask.now = at("2026-12-24T18:00:00.000Z");
    let decision = ask.decided_by(&policy);
    assert_eq!(failed(&decision), ["freeze/christmas"]);
    assert_eq!(decision.reasons[0].remedy, "retry");
    assert_eq!(
        decision.reasons[0].message,
        "r.example/team/app: no releases before 2026-12-24T18:00:00.000Z is over, v1"
    );
}

#[test]
fn a_forbid_without_annotations_denies_for_good_and_names_the_repository() {
    let policy =
        with_cedar(r#"@id("no-ext") forbid (principal in Sign::Team::"contractors", action, resource);"#);
    let mut ask = Signing::into("r.example/team/app");
    assert!(ask.decided_by(&policy).allowed(), "another team");
    ask.token.principal = "token:ext".parse().unwrap();
    let decision = ask.decided_by(&policy);
    assert_eq!(failed(&decision), ["no-ext"]);
    assert_eq!(decision.reasons[0].remedy, "final");
    assert_eq!(decision.reasons[0].message, "r.example/team/app: this rule forbids it");
}

#[test]
fn an_operators_forbid_stands_beside_the_guardrails_in_one_list() {
    let policy = with_cedar(
        r#"@id("only-v") @message("{tag}: tags begin with release-")
        forbid (principal, action == Sign::Action::"sign", resource) unless { context.tag like "release-*" };"#,
    );
    let mut ask = Signing::into("r.example/team/strict");
    ask.image.manifest = Manifest::Absent;
    assert_eq!(failed(&ask.decided_by(&policy)), ["builtin/not-in-registry", "only-v"]);
}

#[test]
fn an_operators_permit_is_named_but_lifts_no_guardrail() {
    let policy = with_cedar(r#"@id("open") permit (principal, action, resource);"#);
    let mut ask = Signing::into("r.example/team/strict");
    let decision = ask.decided_by(&policy);
    assert!(decision.allowed());
    assert_eq!(decision.rules, ["builtin/sign", "open"]);
    ask.token.principal = "token:ext".parse().unwrap();
    assert_eq!(failed(&ask.decided_by(&policy)), ["builtin/not-a-signer"]);
}

/// The validator does not bound durations, so this policy loads; the sum overflows when it is evaluated, and Cedar then
/// skips the forbid and answers Allow.
#[test]
fn a_policy_that_cannot_be_evaluated_denies() {
    let policy = with_cedar(
        r#"@id("grace") forbid (principal, action, resource)
        when { principal.expires.offset(duration("9223372036854775807ms")) < context.now };"#,
    );
    let decision = Signing::into("r.example/team/app").decided_by(&policy);
    assert!(!decision.allowed() && decision.rules.is_empty());
    assert_eq!(failed(&decision), ["builtin/evaluation-error"]);
    assert!(decision.reasons[0].message.contains("rule grace"), "{}", decision.reasons[0].message);

    let mut absent = Signing::into("r.example/team/app");
    absent.image.manifest = Manifest::Absent;
    assert_eq!(
        failed(&absent.decided_by(&policy)),
        ["builtin/evaluation-error", "builtin/not-in-registry"],
        "what else is missing is still said"
    );
}

#[test]
fn the_longest_possible_denial_fits_one_leaf_of_the_log() {
    let rule = |n: usize| {
        format!(
            "@id(\"{n:064}\") @message(\"{}\") forbid (principal, action, resource);\n",
            "\u{20ac}\"".replace('"', "'").repeat(150)
        )
    };
    let cedar: String = (0..policy::MAX_OPERATOR_POLICIES).map(rule).collect();
    let mut ask = Signing::into("r.example/team/strict");
    ask.token.scopes_sign = false;
    ask.token.repositories.clear();
    ask.image.manifest = Manifest::Present { media_type: "\"".repeat(1000), size: u64::MAX };
    ask.image.tag_previous = Fact::Found(digest("old"));
    let decision = ask.decided_by(&with_cedar(&cedar));
    assert_eq!(decision.reasons.len(), policy::MAX_OPERATOR_POLICIES + 5);
    let bytes = record::canonical::encode(&decision.reasons).unwrap().len();
    assert!(bytes + 2_048 < record::MAX_LEAF_BYTES, "{bytes}");
}
