//! Rules that are only observed, and exemptions from rules.

use crate::facts::*;
use policy::{PolicyError, PolicySet, RuleError};

const NO_LATEST: &str = r#"@id("no-v1") @message("{tag} says nothing") @mode("observe")
    forbid (principal, action == Sign::Action::"sign", resource) when { context.tag == "v1" };"#;

#[test]
fn an_observed_rule_is_told_and_denies_nothing() {
    let ask = Signing::into("r.example/team/app");
    let decision = ask.decided_by(&with_cedar(NO_LATEST));
    assert!(decision.allowed() && decision.rules == ["builtin/sign"]);
    assert_eq!(decision.observed.len(), 1);
    assert_eq!(
        (decision.observed[0].rule.as_str(), decision.observed[0].message.as_str()),
        ("no-v1", "v1 says nothing")
    );
    let enforced = ask.decided_by(&with_cedar(&NO_LATEST.replace("observe", "enforce")));
    assert_eq!(failed(&enforced), ["no-v1"], "the same rule denies when it counts");
}

#[test]
fn an_observed_rule_that_cannot_be_evaluated_is_a_warning() {
    let policy = with_cedar(
        r#"@id("grace") @mode("observe") forbid (principal, action, resource)
        when { principal.expires.offset(duration("9223372036854775807ms")) < context.now };"#,
    );
    let decision = Signing::into("r.example/team/app").decided_by(&policy);
    assert!(
        decision.allowed() && decision.warnings.len() == 1 && decision.warnings[0].contains("rule grace"),
        "{decision:?}"
    );
}

fn exempting(rule: &str, repository: &str, until: &str) -> String {
    format!(
        "schema = 1\n[[repository]]\nname = \"r.example/team/\"\nrequire = {{ sbom = true }}\n[[exemption]]\nrule = {rule:?}\n\
         repository = {repository:?}\nowner = \"person:ann\"\nuntil = {until}\nreason = \"the old builder makes none\"\n"
    )
}

#[test]
fn an_exemption_holds_for_one_rule_one_repository_and_its_time() {
    for (repository, until, allowed) in [
        ("r.example/team/app", "2026-11-24", true),
        ("r.example/team/app", "2026-11-23T10:00:00Z", false),
        ("r.example/team/other", "2026-11-24", false),
    ] {
        let policy = PolicySet::load(sources(&exempting("builtin/sbom", repository, until), "")).unwrap();
        let decision = Signing::into("r.example/team/app").decided_by(&policy);
        assert_eq!(decision.allowed(), allowed, "{repository} {until}");
        assert_eq!(decision.exempted, if allowed { vec!["builtin/sbom"] } else { vec![] });
    }
    let own = "@id(\"own\") forbid (principal, action, resource);";
    let data = exempting("own", "r.example/team/app", "2026-12-24");
    let decision =
        Signing::into("r.example/team/app").decided_by(&PolicySet::load(sources(&data, own)).unwrap());
    assert_eq!((failed(&decision), &decision.exempted), (vec!["builtin/sbom"], &vec!["own".to_owned()]));
}

#[test]
fn guardrails_on_who_asks_and_what_is_there_have_no_exemptions() {
    for rule in [
        "builtin/not-in-registry",
        "builtin/workload-fork",
        "builtin/quorum",
        "builtin/tag-immutable",
        "builtin/sign",
        "builtin/sbon",
    ] {
        let error =
            PolicySet::load(sources(&exempting(rule, "r.example/team/app", "2026-12-24"), "")).unwrap_err();
        assert!(matches!(error, PolicyError::Rule(RuleError::Exempted { .. })), "{rule}: {error}");
        assert!(
            rule != "builtin/sbon" || error.to_string().contains("did you mean \"builtin/sbom\"?"),
            "{error}"
        );
    }
    for (was, is) in [
        ("person:ann", "token:abc"),
        ("person:ann", "team:nobody"),
        ("the old builder makes none", " "),
        ("r.example/team/app", "r.example/team/"),
    ] {
        let data = exempting("builtin/sbom", "r.example/team/app", "2026-12-24").replace(was, is);
        assert!(matches!(PolicySet::load(sources(&data, "")), Err(PolicyError::Data(_))), "{is}");
    }
}

#[test]
fn a_rule_that_an_emergency_lifts_must_ask_for_it() {
    let rule = |when: &str| {
        format!(
            "@id(\"a\") @remedy(\"break-glass\") @otherwise(\"retry\") forbid (principal, action == Sign::Action::\"sign\", resource) when {{ {when} }};"
        )
    };
    with_cedar(&rule("!context.breakGlass"));
    let error = PolicySet::load(sources(DATA, &rule("context.tag == \"x\""))).unwrap_err().to_string();
    assert!(error.contains("does not ask for context.breakGlass"), "{error}");
}

#[test]
fn lint_tells_what_loads_and_should_be_looked_at_again() {
    let data = r#"
schema = 1
[[repository]]
name = "r.example/paypal"
approvals = [{ group = "few", count = 1 }]
[[repository]]
name = "r.example/paypa1"
signers = ["none"]
protected_tags = ["v*"]
[[team]]
name = "few"
members = ["person:ann"]
[[team]]
name = "none"
members = []
[[team]]
name = "idle"
members = ["token:abc"]
[[workload]]
name = "idle"
issuer = "github"
repository_id = "1"
[[key]]
name = "old"
id = "0000000000000000000000000000000000000000000000000000000000000000"
not_after = 2026-01-01
[[freeze]]
name = "past"
from = 2025-12-20
until = 2026-01-03
[[exemption]]
rule = "builtin/sbom"
repository = "r.example/paypal"
owner = "person:ann"
until = 2028-01-01
reason = "x"
[[exemption]]
rule = "builtin/sbom"
repository = "r.example/gone"
owner = "team:few"
until = 2026-01-01
reason = "x"
"#;
    let cedar = r#"@id("open") permit (principal, action, resource);
        @id("late") forbid (principal, action, resource) when { context.now.offset(duration("1h")) < principal.expires };"#;
    let policy = PolicySet::load(sources(data, cedar)).unwrap();
    let told: Vec<String> = policy
        .lint(at("2026-11-23T10:00:00.000Z"))
        .into_iter()
        .map(|w| format!("{}: {}", w.code, w.message))
        .collect();
    for part in [
        "arithmetic: policy late",
        "broad-permit: permit open",
        "long-exemption: r.example/paypal",
        "look-alike: these names look alike",
        "over: freeze \"past\"",
        "over: key \"old\"",
        "over: the exemption of r.example/gone",
        "quorum-of-one: r.example/paypal",
        "unused: exemption for \"r.example/gone\"",
        "unused: r.example/paypa1: 'protected_tags'",
        "unused: team \"idle\"",
        "unused: team \"none\"",
        "unused: workload \"idle\"",
    ] {
        assert_eq!(told.iter().filter(|t| t.starts_with(part)).count(), 1, "{part} in {told:#?}");
    }
    assert_eq!(told.len(), 13, "{told:#?}");
    assert!(
        crate::facts::policy()
            .lint(at("2026-11-23T10:00:00.000Z"))
            .iter()
            .all(|w| w.message.contains("contractors")),
        "nothing is made up"
    );
}
