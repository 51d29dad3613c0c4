//! The words that a message may hold in braces, and what stands in their place.

use crate::{
    Fact, Manifest,
    data::{Group, WorkloadRules},
    standing::Standing,
};
use record::CiText;

/// Longest piece of a message that another party chose, in characters.
const MAX_FOREIGN: usize = 80;

/// The words that a message may hold in braces.
pub(crate) const WORDS: &[&str] = &[
    "principal",
    "repository",
    "tag",
    "digest",
    "previous",
    "media-type",
    "media-types",
    "size",
    "expires",
    "signers",
    "now",
    "children",
    "image-age",
    "image-max-age",
    "provenance",
    "builder",
    "builders",
    "slsa-level",
    "slsa-level-wanted",
    "source",
    "sources",
    "sbom",
    "scan",
    "scan-max-age",
    "key",
    "keys",
    "key-purpose",
    "key-not-after",
    "freeze",
    "freeze-until",
    "office-hours",
    "caller-rate",
    "caller-last-hour",
    "repository-rate",
    "repository-last-hour",
    "missing-approvals",
    "missing-break-glass",
    "reason",
    "issuer",
    "workload",
    "workload-refs",
    "workload-workflows",
    "workload-workflow-refs",
    "workload-environments",
    "workload-events",
    "ci-repository",
    "ci-repository-id",
    "ci-owner-id",
    "ci-ref",
    "ci-workflow",
    "ci-workflow-ref",
    "ci-environment",
    "ci-event",
];

/// What stands in a word's place; none where there is no such thing.
pub(super) fn value(word: &str, standing: &Standing<'_>) -> Option<String> {
    let (facts, rules) = (standing.facts, standing.rules);
    match word {
        "principal" => Some(facts.caller.principal().to_string()),
        "repository" => Some(facts.repository.to_string()),
        "expires" => Some(facts.caller.expires().to_string()),
        "now" => Some(facts.now.to_string()),
        "signers" => list(&rules.signers),
        "media-types" => list(&rules.media_types),
        "keys" => list(&rules.keys),
        "builders" => list(rules.require.builders.as_ref()?),
        "sources" => list(rules.require.sources.as_ref()?),
        "slsa-level-wanted" => Some(rules.require.slsa_level.to_string()),
        "scan-max-age" => rules.require.scan_max_age_s.map(duration),
        "image-max-age" => rules.require.image_max_age_s.map(duration),
        "caller-rate" => Some(rules.rate.caller?.to_string()),
        "repository-rate" => Some(rules.rate.repository?.to_string()),
        "office-hours" => Some(rules.office_hours.as_ref()?.to_string()),
        "freeze" => Some(standing.freeze?.name.clone()),
        "freeze-until" => Some(standing.freeze?.until.to_string()),
        "missing-approvals" => groups(&standing.missing),
        "missing-break-glass" => groups(&standing.missing_break_glass),
        _ => of_job(word, standing).or_else(|| of_image(word, standing)),
    }
}

fn of_job(word: &str, standing: &Standing<'_>) -> Option<String> {
    let ci = standing.facts.caller.ci()?;
    let text = |text: &Option<CiText>| text.as_ref().map(|text| foreign(text.as_str()));
    match word {
        "issuer" => Some(foreign(ci.issuer.as_str())),
        "ci-repository" => Some(foreign(ci.repository.as_str())),
        "ci-repository-id" => Some(foreign(ci.repository_id.as_str())),
        "ci-owner-id" => text(&ci.owner_id),
        "ci-ref" => text(&ci.reference),
        "ci-workflow" => text(&ci.workflow),
        "ci-workflow-ref" => text(&ci.workflow_ref),
        "ci-environment" => text(&ci.environment),
        "ci-event" => text(&ci.event),
        _ => of_binding(word, standing.binding?.0),
    }
}

fn of_binding(word: &str, rules: &WorkloadRules) -> Option<String> {
    let globs = |globs: &[crate::Glob]| globs.iter().map(crate::Glob::as_str).collect::<Vec<_>>().join(", ");
    match word {
        "workload" => Some(rules.name.clone()),
        "workload-refs" => rules.refs.as_deref().map(globs),
        "workload-workflow-refs" => rules.workflow_refs.as_deref().map(globs),
        "workload-workflows" => list(rules.workflows.as_ref()?),
        "workload-environments" => list(rules.environments.as_ref()?),
        "workload-events" => Some(rules.events_text()),
        _ => None,
    }
}

fn of_image(word: &str, standing: &Standing<'_>) -> Option<String> {
    let signing = standing.signing()?;
    let provenance = signing.attestations.provenance.found();
    let key = signing.key.found();
    match (word, &signing.manifest) {
        ("tag", _) => Some(signing.tag.to_string()),
        ("digest", _) => Some(signing.digest.to_string()),
        ("previous", _) => signing.tag_previous.found().map(ToString::to_string),
        ("size", Manifest::Present { size, .. }) => Some(size.to_string()),
        ("media-type", Manifest::Present { media_type, .. }) => Some(foreign(media_type)),
        ("children", _) => Some(match &signing.children {
            Fact::Found(children) => {
                format!("{} of {} are missing; push them", children.missing, children.named)
            }
            Fact::Absent => "this is no index".to_owned(),
            Fact::NotLookedAt => NOT_LOOKED_AT.to_owned(),
        }),
        ("image-age", _) => Some(state(&signing.image_created, "its configuration tells no time", |_| {
            age("this one is", standing.image_age_s)
        })),
        ("provenance", _) => {
            Some(state(&signing.attestations.provenance, "there is none; attach it", |provenance| {
                match (provenance.verified, provenance.subject_equal) {
                    (false, _) => "no configured key has signed it".to_owned(),
                    (true, false) => "it is about another digest".to_owned(),
                    (true, true) => "there is one".to_owned(),
                }
            }))
        }
        ("sbom", _) => {
            Some(state(&signing.attestations.sbom, "there is none", |_| "there is one".to_owned()))
        }
        ("scan", _) => Some(state(&signing.attestations.scan, "there is none", |scan| match scan.passed {
            true => age("the newest is", standing.scan_age_s),
            false => "the newest did not pass".to_owned(),
        })),
        ("builder", _) => provenance.map(|provenance| foreign(&provenance.builder)),
        ("source", _) => provenance.map(|provenance| foreign(&provenance.source)),
        ("slsa-level", _) => provenance.map(|provenance| provenance.slsa_level.to_string()),
        ("key", _) => Some(key.map_or_else(
            || "a key that nobody has looked at".to_owned(),
            |key| format!("the key {}", key.id),
        )),
        ("key-purpose", _) => key.map(|key| key.purpose.to_string()),
        ("key-not-after", _) => standing.key_ends.map(|ends| ends.to_string()),
        ("caller-last-hour", _) => {
            Some(state(&signing.signed_last_hour, "none", |signed| signed.by_caller.to_string()))
        }
        ("repository-last-hour", _) => {
            Some(state(&signing.signed_last_hour, "none", |signed| signed.of_repository.to_string()))
        }
        ("reason", _) => signing.break_glass.found().map(|glass| foreign(glass.reason.as_str())),
        _ => None,
    }
}

const NOT_LOOKED_AT: &str = "this service has not looked";

fn state<T>(fact: &Fact<T>, absent: &str, found: impl Fn(&T) -> String) -> String {
    match fact {
        Fact::NotLookedAt => NOT_LOOKED_AT.to_owned(),
        Fact::Absent => absent.to_owned(),
        Fact::Found(value) => found(value),
    }
}

fn age(what: &str, age_s: Option<i64>) -> String {
    match age_s {
        Some(i64::MAX) | None => format!("{what} from the future"),
        Some(s) => format!("{what} {} old", duration(s)),
    }
}

/// In the largest unit that is exact; otherwise cut to whole hours or minutes.
fn duration(s: i64) -> String {
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
    let exact = units.into_iter().find(|(unit, _)| s >= *unit && s % unit == 0);
    let coarse = || units.into_iter().skip(1).find(|(unit, _)| s >= 2 * unit);
    exact.or_else(coarse).map_or_else(|| format!("{s}s"), |(unit, name)| format!("{}{name}", s / unit))
}

fn groups(missing: &[Group]) -> Option<String> {
    let one = |group: &Group| format!("{} more of {}", group.count, group.team);
    list(&missing.iter().map(one).collect::<Vec<_>>())
}

/// What another party wrote, in plain ASCII: no character that hides or turns round the text about it.
fn foreign(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(MAX_FOREIGN).map(plain).collect()
}

fn list(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| names.join(", "))
}
