use super::*;
use crate::{args::Format, output::Output};
use std::{fs, path::PathBuf};

/// Documents of every kind, for the test of all schemas.
pub(in crate::commands) fn documents() -> (Checked, Linted, Tested, Diff, Explained, Replay) {
    let set = PolicySet::load(Sources::read(&example()).unwrap()).unwrap();
    let case = &set.cases()[1];
    let (decision, decided) = set.decide_to_record(case.facts.clone());
    let other = set.decide(&set.cases()[0].facts);
    let changes = Change::between("x", &decision, &other).into_iter().collect();
    (
        Checked {
            stamp: set.stamp(),
            engine: PolicySet::engine(),
            cases: 4,
            warnings: set.lint(SystemClock.now()),
        },
        Linted { warnings: Vec::new() },
        Tested { passed: 4, failed: 0, results: set.run(set.cases()) },
        Diff { old: set.stamp(), new: set.stamp(), cases: 4, changes },
        Explained { explanation: set.explain(&case.facts), all: false },
        Replay { replayed: set.replay(&decided), decided },
    )
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policy/example")
}

/// A copy of the example with one text in one of its files replaced.
fn changed(file: &str, was: &str, is: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["repositories.toml", "tests.toml"] {
        let mut text = fs::read_to_string(example().join(name)).unwrap();
        if name == file {
            assert!(text.contains(was), "{was}");
            text = text.replacen(was, is, 1);
        }
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// How a command ends, and what it writes to standard output.
fn ends(line: &str) -> (Exit, String) {
    use clap::Parser;
    let cli = crate::args::Cli::try_parse_from(line.split('|').map(str::trim)).unwrap();
    let crate::args::Command::Policy(command) = cli.command else { panic!("{line}") };
    let shared = crate::output::tests::Shared::default();
    let mut output = Output::to(Format::Text, Box::new(shared.clone()), Box::new(Vec::new()));
    let exit = run(&command, &mut output).unwrap_or_else(|failure| failure.exit);
    (exit, shared.text())
}

#[test]
fn a_folder_is_checked_and_one_that_a_daemon_would_refuse_ends_with_78() {
    let (exit, text) = ends(&format!("chancery|policy|check|{}", example().display()));
    assert!(exit == Exit::Ok && text.contains("tests       4 passed"), "{text}");
    for (file, was, is) in [
        ("repositories.toml", "immutable_tags", "imutable_tags"),
        ("tests.toml", "expect = \"allowed\"", "expect = \"denied\""),
    ] {
        let folder = changed(file, was, is);
        assert_eq!(ends(&format!("chancery|policy|check|{}", folder.path().display())).0, Exit::State);
    }
    assert_eq!(ends("chancery|policy|check|/nowhere").0, Exit::State);
}

#[test]
fn tests_show_each_case_also_where_some_fail() {
    let folder = changed("tests.toml", "expect = \"allowed\"", "expect = \"denied\"");
    let (exit, text) = ends(&format!("chancery|policy|test|{}", folder.path().display()));
    assert_eq!(exit, Exit::State);
    assert!(text.contains("FAILED") && text.ends_with("3 passed, 1 failed\n"), "{text}");
    let more = example().join("tests.toml");
    let (exit, text) =
        ends(&format!("chancery|policy|test|{}|--cases|{}", example().display(), more.display()));
    assert!(exit == Exit::Ok && text.ends_with("8 passed, 0 failed\n"), "{text}");
}

#[test]
fn a_diff_names_the_cases_that_are_decided_differently() {
    let folder = changed("repositories.toml", "count = 2", "count = 1");
    let line = format!("chancery|policy|diff|{}|{}", example().display(), folder.path().display());
    let (exit, text) = ends(&line);
    assert_eq!(exit, Exit::Ok);
    assert!(text.contains("old  waiting by builtin/quorum\n  new  allowed by builtin/sign-by-job"), "{text}");
    assert!(text.ends_with("1 of 4 cases are decided differently\n"), "{text}");
    assert_eq!(ends(&format!("{line}|--same")).0, Exit::Conflict);
}

#[test]
fn an_explanation_ends_as_its_decision_and_can_be_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("decided.json");
    let explain = |case: &str| format!("chancery|policy|explain|{}|--case|{case}", example().display());
    let (exit, text) = ends(&format!(
        "{}|--record|{}",
        explain("one person of the release team is not enough"),
        file.display()
    ));
    assert!(exit == Exit::Waiting && text.contains("missing     builtin/quorum: v1.2 of"), "{text}");
    assert_eq!(ends(&explain("a release job with both approvals")).0, Exit::Ok);
    assert_eq!(ends(&explain("a fork never signs")).0, Exit::Denied);
    assert_eq!(ends(&explain("no such case")).0, Exit::NotFound);

    let replay =
        |folder: &Path| format!("chancery|policy|replay|{}|--decision|{}", folder.display(), file.display());
    assert_eq!(ends(&replay(&example())).0, Exit::Ok);
    let other = changed("repositories.toml", "count = 2", "count = 1");
    assert_eq!(ends(&replay(other.path())).0, Exit::Verification, "another policy");
    let lie = fs::read_to_string(&file).unwrap().replace("\"waiting\"", "\"allowed\"");
    fs::write(&file, lie).unwrap();
    assert_eq!(ends(&replay(&example())).0, Exit::Verification, "another decision");
    fs::write(&file, "{}").unwrap();
    assert_eq!(ends(&replay(&example())).0, Exit::Usage);
}

#[test]
fn lint_shows_what_to_look_at_again_and_ends_well() {
    let folder = changed(
        "repositories.toml",
        "approvals = [{ group = \"security\", count = 2 }]",
        "approvals = [{ group = \"security\", count = 1 }]",
    );
    let (exit, text) = ends(&format!("chancery|policy|lint|{}", folder.path().display()));
    assert!(exit == Exit::Ok && text.contains("quorum-of-one"), "{text}");
}
