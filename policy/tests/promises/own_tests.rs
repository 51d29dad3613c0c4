//! `tests.toml`: a policy that does not decide as it says itself is not taken.

use crate::facts::*;
use policy::{Case, CaseError, Outcome, PolicyError, PolicySet, Sources};

const CASES: &str = r#"
schema = 1
[[case]]
name = "made by its token"
expect = "allowed"
rules = ["builtin/create-repository"]
[case.facts]
repository = "r.example/team/app"
now = "2026-11-23T10:00:00.000Z"
ask = { action = "create-repository", collection_exists = false }
[case.facts.caller]
kind = "token"
principal = "token:abc"
scopes_sign = true
repositories = ["r.example/team/"]
expires = "2026-12-01T00:00:00.000Z"
[[case]]
name = "made twice"
like = "made by its token"
expect = "denied"
rules = ["builtin/collection-exists", "builtin/token-expired"]
facts = { ask = { collection_exists = true }, caller = { expires = "2026-11-23T10:00:00.000Z" } }
"#;

fn load(tests: &str) -> Result<PolicySet, PolicyError> {
    PolicySet::load(Sources { tests: Some(tests.to_owned()), ..sources(DATA, "") })
}

fn refused(tests: &str) -> CaseError {
    match load(tests) {
        Err(PolicyError::Case(error)) => error,
        other => panic!("{other:?} for {tests}"),
    }
}

#[test]
fn a_set_whose_tests_pass_is_taken_under_the_stamp_that_it_has_without_them() {
    assert_eq!(load(CASES).unwrap().stamp(), policy().stamp());
}

#[test]
fn a_set_that_decides_otherwise_is_refused_with_what_it_decided() {
    let expectation = refused(&CASES.replace("expect = \"allowed\"", "expect = \"waiting\"")).to_string();
    assert!(expectation.contains("1 of its own 2 tests fail"), "{expectation}");
    assert!(
        expectation.contains(
            "\"made by its token\" is allowed by builtin/create-repository, and must be waiting by builtin/create-repository"
        ),
        "{expectation}"
    );
    // The right word for another reason is a failure too.
    assert!(matches!(
        refused(&CASES.replace("\"builtin/collection-exists\", ", "")),
        CaseError::Failed { failed: 1, .. }
    ));
    let cedar =
        vec![("own.cedar".to_owned(), "@id(\"no\") forbid (principal, action, resource);".to_owned())];
    let set = PolicySet::load(Sources { data: DATA.to_owned(), cedar, tests: Some(CASES.to_owned()) });
    assert!(
        matches!(set, Err(PolicyError::Case(CaseError::Failed { failed: 2, cases: 2, .. }))),
        "a new rule changes both"
    );
}

#[test]
fn cases_have_all_facts_and_no_others() {
    assert!(matches!(refused(&CASES.replace("scopes_sign = true\n", "")), CaseError::Facts { .. }));
    assert!(matches!(refused(&CASES.replace("scopes_sign", "scope_sign")), CaseError::Facts { .. }));
    assert!(matches!(
        refused(&CASES.replace("kind = \"token\"", "kind = \"root\"")),
        CaseError::Facts { .. }
    ));
    assert!(matches!(refused(&CASES.replace("like =", "lke =")), CaseError::Toml(_)));
    assert!(matches!(refused(&CASES.replace("schema = 1", "schema = 2")), CaseError::Schema(2)));
    assert!(
        refused(&CASES.replace("like = \"made by", "like = \"make by")).to_string().contains("did you mean")
    );
    assert!(matches!(
        refused(&CASES.replace("\"made twice\"", "\"made by its token\"")),
        CaseError::Case { .. }
    ));
    let many: String = (0..=policy::MAX_CASES)
        .map(|n| format!("[[case]]\nname = \"{n}\"\nexpect = \"denied\"\nrules = []\n"))
        .collect();
    assert!(matches!(refused(&format!("schema = 1\n{many}")), CaseError::TooMany(_)));
}

#[test]
fn another_kind_of_value_replaces_the_one_before() {
    let text = include_str!("../../example/tests.toml");
    let more = r#"
[[case]]
name = "unreachable"
like = "a release job with both approvals"
expect = "waiting"
rules = ["builtin/registry-unreachable"]
facts = { ask = { manifest = "unreachable" } }
[[case]]
name = "and back"
like = "unreachable"
expect = "denied"
rules = ["builtin/media-type"]
facts = { ask = { manifest = { present = { media_type = "text/plain", size = 1 } } } }
"#;
    let cases = Case::parse_all(&format!("{text}{more}")).unwrap();
    let last = cases.last().unwrap();
    assert_eq!((cases.len(), last.expect), (6, Outcome::Denied));
    let manifest = policy::Manifest::Present { media_type: "text/plain".to_owned(), size: 1 };
    assert_eq!(last.facts.ask.signing().unwrap().manifest, manifest);
}

#[test]
fn a_folder_without_tests_has_none_and_one_with_them_runs_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("repositories.toml"), DATA).unwrap();
    let load = || PolicySet::load(Sources::read(folder.path())?);
    assert_eq!(load().unwrap().cases().len(), 0);
    std::fs::write(folder.path().join("tests.toml"), CASES).unwrap();
    assert_eq!(load().unwrap().cases().len(), 2);
    std::fs::write(folder.path().join("tests.toml"), CASES.replace("allowed", "denied")).unwrap();
    assert!(matches!(load(), Err(PolicyError::Case(CaseError::Failed { .. }))));
}
