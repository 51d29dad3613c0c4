//! CI jobs: bound to a repository by ids that are never given again, and by nothing else.

use crate::facts::*;
use policy::{Outcome, PolicySet};
use record::{Ci, CiText};

const BOUND: &str = r#"
[[repository]]
name = "r.example/team/api"
workloads = ["api"]
[[repository]]
name = "r.example/team/open"
[[workload]]
name = "api"
issuer = "github"
repository_id = "42"
owner_id = "7"
refs = ["refs/heads/main", "refs/tags/v*"]
workflows = ["acme/ci/.github/workflows/release.yml"]
workflow_refs = ["refs/heads/main"]
environments = ["production"]
"#;

/// Makes one fact of a job wrong.
type Spoil = fn(&mut Ci);

fn text(text: &str) -> CiText {
    CiText::parse(text).unwrap()
}

fn failed_for(policy: &PolicySet, change: impl Fn(&mut Ci)) -> Vec<String> {
    let mut ci = ci();
    change(&mut ci);
    let decision = Signing::by(job(ci), "r.example/team/api").decided_by(policy);
    assert_eq!(decision.allowed(), decision.reasons.is_empty());
    failed(&decision).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_job_that_fulfils_every_condition_signs_and_each_condition_denies_alone() {
    let policy = with_data(BOUND);
    assert_eq!(failed_for(&policy, |_| ()), Vec::<String>::new());
    assert_eq!(failed_for(&policy, |ci| ci.reference = Some(text("refs/tags/v1.2"))), Vec::<String>::new());
    let spoil: [(&str, Spoil); 14] = [
        ("workload-fork", |ci| ci.fork_or_merge_request = true),
        ("workload-ref", |ci| ci.reference = Some(text("refs/heads/feature"))),
        ("workload-ref", |ci| ci.reference = Some(text("refs/tags/v1/x"))),
        ("workload-ref", |ci| ci.reference = None),
        ("workload-ref-protected", |ci| ci.ref_protected = false),
        ("workload-workflow", |ci| ci.workflow = Some(text("acme/ci/.github/workflows/release.yml2"))),
        ("workload-workflow", |ci| ci.workflow = None),
        ("workload-workflow-ref", |ci| ci.workflow_ref = Some(text("refs/heads/main2"))),
        ("workload-environment", |ci| ci.environment = Some(text("staging"))),
        ("workload-environment", |ci| ci.environment = None),
        ("workload-event", |ci| ci.event = Some(text("pull_request"))),
        ("workload-event", |ci| ci.event = Some(text("pull_request_target"))),
        ("workload-event", |ci| ci.event = Some(text("merge_request_event"))),
        ("workload-runner", |ci| ci.hosted_runner = false),
    ];
    for (rule, change) in spoil {
        assert_eq!(failed_for(&policy, change), [format!("builtin/{rule}")]);
    }
}

#[test]
fn names_bind_nothing_and_ids_of_others_neither() {
    let policy = with_data(BOUND);
    assert!(
        failed_for(&policy, |ci| ci.repository = text("github.com/acme/renamed")).is_empty(),
        "a renamed repository"
    );
    let others: [Spoil; 4] = [
        |ci| ci.repository_id = text("43"),
        |ci| ci.issuer = text("gitlab"),
        // The name of a repository that was deleted, taken by somebody else.
        |ci| ci.owner_id = Some(text("8")),
        |ci| ci.owner_id = None,
    ];
    for change in others {
        assert_eq!(
            failed_for(&policy, change),
            ["builtin/workload-not-bound"],
            "and no condition of a binding that is not its own"
        );
    }
    let open = Signing::by(job(ci()), "r.example/team/open").decided_by(&policy);
    assert_eq!(failed(&open), ["builtin/workload-not-bound"], "no jobs are bound there");
}

#[test]
fn a_principal_that_is_not_the_jobs_own_is_no_caller() {
    let policy = with_data(BOUND);
    let policy::Caller::Workload(mut forged) = job(ci()) else { panic!("a job") };
    forged.ci.repository_id = text("43");
    let decision = Signing::by(policy::Caller::Workload(forged), "r.example/team/api").decided_by(&policy);
    assert_eq!((failed(&decision), decision.outcome), (vec!["builtin/not-a-caller"], Outcome::Denied));
}

#[test]
fn of_several_bindings_one_must_fit_wholly() {
    let second = "[[workload]]\nname = \"nightly\"\nissuer = \"github\"\nrepository_id = \"42\"\n\
                  refs = [\"refs/heads/nightly\"]\nref_protected = false\nhosted_runner = false\n";
    let data = BOUND.replace("[\"api\"]", "[\"api\", \"nightly\"]");
    let policy = with_data(&format!("{data}{second}"));
    assert!(failed_for(&policy, |_| ()).is_empty());
    assert!(failed_for(&policy, |ci| ci.reference = Some(text("refs/heads/nightly"))).is_empty());
    // Half of one and half of the other is none.
    let mixed = failed_for(&policy, |ci| ci.hosted_runner = false);
    assert_eq!(mixed.len(), 1, "{mixed:?}");
}

#[test]
fn a_denial_names_the_binding_and_what_it_wants() {
    let mut ci = ci();
    ci.reference = Some(text("refs/heads/feature"));
    ci.event = Some(text("pull_request"));
    let decision = Signing::by(job(ci), "r.example/team/api").decided_by(&with_data(BOUND));
    let messages: Vec<&str> = decision.reasons.iter().map(|r| r.message.as_str()).collect();
    assert!(
        messages[0].starts_with("the job was started by pull_request, and workload api signs for push, "),
        "{messages:?}"
    );
    assert_eq!(
        messages[1],
        "the job runs for refs/heads/feature, and workload api signs for refs/heads/main, refs/tags/v* only"
    );
}

#[test]
fn providers_without_events_and_references_can_be_bound_and_only_on_purpose() {
    let data = "[[repository]]\nname = \"r.example/team/api\"\nworkloads = [\"k8s\"]\n\
                [[workload]]\nname = \"k8s\"\nissuer = \"cluster\"\nrepository_id = \"u-1\"\n";
    let pod = |ci: &mut Ci| {
        (ci.issuer, ci.repository_id) = (text("cluster"), text("u-1"));
        (ci.reference, ci.event, ci.ref_protected, ci.hosted_runner) = (None, None, false, false);
    };
    assert_eq!(
        failed_for(&with_data(data), pod),
        ["builtin/workload-ref-protected", "builtin/workload-runner"]
    );
    let meant = format!("{data}ref_protected = false\nhosted_runner = false\n");
    assert!(failed_for(&with_data(&meant), pod).is_empty());
    let events = format!("{meant}events = [\"push\"]\n");
    assert_eq!(failed_for(&with_data(&events), pod), ["builtin/workload-event"]);
}

#[test]
fn a_job_makes_no_collection() {
    let mut facts = creating("r.example/team/api", false);
    facts.caller = job(ci());
    assert_eq!(failed(&with_data(BOUND).decide(&facts)), ["builtin/workload-creates-nothing"]);
}
