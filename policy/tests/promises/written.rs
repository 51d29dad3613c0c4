//! Facts and decisions as they are written down: so that a decision can be decided again.

use crate::facts::*;
use policy::{Approval, BreakGlass, Fact, Facts, Justification, Method, Provenance, Said, Scan};
use record::canonical;

fn full() -> Facts {
    let mut ask = Signing::by(job(ci()), "r.example/team/app");
    ask.image.attestations = policy::Attestations {
        provenance: Fact::Found(Provenance {
            verified: true,
            subject_equal: false,
            builder: "b".to_owned(),
            source: "s".to_owned(),
            slsa_level: 3,
        }),
        sbom: Fact::Absent,
        scan: Fact::Found(Scan { passed: true, at: ask.now }),
    };
    ask.image.approvals = vec![Approval { person: principal("person:ann"), method: Method::Webauthn }];
    ask.image.break_glass =
        Fact::Found(BreakGlass { reason: Justification::parse("payments are down").unwrap() });
    ask.facts()
}

#[test]
fn facts_have_one_spelling_and_decide_again_as_they_did() {
    let policy = policy();
    for facts in [
        full(),
        Signing::into("r.example/team/strict").facts_to_enter(),
        creating("r.example/team/app", true),
    ] {
        let bytes = canonical::encode(&facts).unwrap();
        let again: Facts = canonical::decode(&bytes).unwrap();
        assert_eq!(again, facts);
        assert_eq!(policy.decide(&again), policy.decide(&facts));
        let decision = canonical::encode(&policy.decide(&facts)).unwrap();
        assert_eq!(canonical::decode::<policy::Decision>(&decision).unwrap(), policy.decide(&facts));
    }
}

/// Every member of every object of the facts: nothing may be left out, and nothing may be there besides.
#[test]
fn no_fact_can_be_left_out_and_none_be_added() {
    let whole = serde_json::to_value(full()).unwrap();
    let mut places = Vec::new();
    objects(&whole, String::new(), &mut places);
    assert!(places.len() > 10, "{places:?}");
    for place in places {
        let object =
            |value: &mut serde_json::Value| value.pointer_mut(&place).unwrap().as_object().unwrap().clone();
        let read = |members: serde_json::Map<String, serde_json::Value>| {
            let mut changed = whole.clone();
            *changed.pointer_mut(&place).unwrap() = members.into();
            serde_json::from_value::<Facts>(changed)
        };
        let members = object(&mut whole.clone());
        for key in members.keys() {
            let mut less = members.clone();
            less.remove(key);
            // A CI job's record has members that a provider may not tell.
            let told =
                ["environment", "event", "ownerId", "ref", "workflow", "workflowRef"].contains(&key.as_str());
            assert!(told || read(less).is_err(), "{place} without {key}");
        }
        let mut more = members.clone();
        more.insert("aprovals".to_owned(), 1.into());
        assert!(read(more).is_err(), "{place} with another member");
    }
}

fn objects(value: &serde_json::Value, place: String, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => {
            into.push(place.clone());
            members.iter().for_each(|(key, value)| objects(value, format!("{place}/{key}"), into));
        }
        serde_json::Value::Array(values) => {
            values.iter().enumerate().for_each(|(n, value)| objects(value, format!("{place}/{n}"), into));
        }
        _ => {}
    }
}

#[test]
fn what_was_decided_is_decided_again_and_another_policy_or_word_is_seen() {
    let (decision, decided) = policy().decide_to_record(Signing::into("r.example/team/strict").facts());
    let bytes = canonical::encode(&decided).unwrap();
    let read: policy::Decided = canonical::decode(&bytes).unwrap();
    let again = policy().replay(&read);
    assert!(again.same_decision && again.same_policy && again.same_engine, "{again:?}");
    assert_eq!(again.decision, decision);
    let other = with_cedar("@id(\"no\") forbid (principal, action, resource);").replay(&read);
    assert!(!other.same_decision && !other.same_policy && other.same_engine);
    let lie = policy::Decided { rules: vec!["open".to_owned()], ..read };
    assert!(!policy().replay(&lie).same_decision);
}

#[test]
fn a_justification_is_one_line_of_words() {
    assert!(Justification::parse(&"x".repeat(policy::MAX_JUSTIFICATION)).is_ok());
    for bad in ["", " ", "a\nb", &"x".repeat(policy::MAX_JUSTIFICATION + 1)] {
        assert!(Justification::parse(bad).is_err(), "{bad:?}");
        assert!(serde_json::from_value::<Justification>(bad.into()).is_err());
    }
}

#[test]
fn an_explanation_has_the_word_of_every_rule() {
    let policy = with_cedar(
        r#"@id("seen") @mode("observe") forbid (principal, action, resource);
        @id("other") forbid (principal, action, resource) when { context.now < datetime("2020-01-01") };"#,
    );
    let mut ask = Signing::into("r.example/team/strict");
    ask.image.manifest = policy::Manifest::Absent;
    let explained = policy.explain(&ask.facts());
    let said = |rule: &str| explained.verdicts.iter().find(|v| v.rule == rule).unwrap().said;
    assert_eq!(said("builtin/not-in-registry"), Said::Forbids);
    assert_eq!(
        (said("seen"), said("other"), said("builtin/sign")),
        (Said::Observed, Said::DoesNotApply, Said::DoesNotApply)
    );
    assert_eq!(explained.entry.as_deref(), Some("r.example/team/strict"));
    assert_eq!(explained.decision, policy.decide(&ask.facts()));
    ask.repository = "r.example/unknown/x";
    let unknown = policy.explain(&ask.facts());
    assert!(unknown.entry.is_none() && unknown.verdicts.iter().all(|v| v.said == Said::NotAsked));
}
