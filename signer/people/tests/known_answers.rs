//! Documents that another program has made, by `golden/make.py`: the bytes of `docs/people-formats.md`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code, where a panic is a failed test"
)]

use people::{
    Approval, Decision, MethodKind, Name, Need, NoQuorum, Roster, Rule, SignedRoster, Statement, counted,
};
use record::Time;
use std::path::Path;
use std::process::Command;

const ROSTERS: [&[u8]; 2] = [include_bytes!("golden/roster-1.json"), include_bytes!("golden/roster-2.json")];
const STATEMENT: &[u8] = include_bytes!("golden/statement.json");
const APPROVALS: [&[u8]; 3] = [
    include_bytes!("golden/approval-alice.json"),
    include_bytes!("golden/approval-bob.json"),
    include_bytes!("golden/approval-carol.json"),
];
const REJECTION: &[u8] = include_bytes!("golden/rejection-bob.json");
const KNOWN: &str = include_str!("golden/known.json");

fn known(member: &str) -> String {
    let known: serde_json::Value = serde_json::from_str(KNOWN).unwrap();
    known[member].as_str().unwrap().to_owned()
}

fn roster() -> Roster {
    let [one, two] = ROSTERS.map(|bytes| SignedRoster::parse(bytes).unwrap());
    two.after(&one.first(known("pin").parse().unwrap()).unwrap()).unwrap()
}

fn noon() -> Time {
    "2026-11-24T12:00:00.000Z".parse().unwrap()
}

#[test]
fn a_roster_follows_the_pinned_one_and_is_written_as_it_was_read() {
    assert_eq!(roster().version(), 2);
    for bytes in ROSTERS {
        assert_eq!(SignedRoster::parse(bytes).unwrap().encode().unwrap(), bytes);
    }
}

#[test]
fn people_approve_by_every_method_and_curve_and_all_count() {
    let statement = Statement::parse(STATEMENT).unwrap();
    assert_eq!(statement.sha256().to_string(), known("statement"));
    assert_eq!(statement.code().replace(' ', ""), known("code"));
    let approvals = APPROVALS.map(|bytes| Approval::parse(bytes).unwrap());
    for (approval, bytes) in approvals.iter().zip(APPROVALS) {
        assert_eq!(approval.encode().unwrap(), bytes);
    }
    let methods = vec![MethodKind::Piv, MethodKind::Webauthn];
    let all_three = Need { group: Name::parse("release").unwrap(), count: 3, methods };
    let rule = Rule::new(vec![all_three]).unwrap();
    let quorum = counted(&statement, &approvals, &roster(), &rule, noon()).unwrap();
    assert_eq!(quorum.counted.len(), 3);
    let no = Approval::parse(REJECTION).unwrap();
    assert_eq!(no.statement().content().decision, Decision::Reject);
    let [a, b, c] = approvals;
    let verdict = counted(&statement, &[a, b, c, no], &roster(), &rule, noon());
    assert!(matches!(verdict, Err(NoQuorum::Rejected(who)) if who.as_str() == "bob"));
}

/// The verifier that shares no code with this crate, on these files, and on each of them damaged.
#[test]
fn the_independent_verifier_agrees_and_refuses_what_was_changed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = root.join("tests/golden");
    let verify = |pin: &str, folder: &Path| {
        let mut python = Command::new("python3");
        python.arg(root.join("../../tests/verifier/verify_people.py")).arg(pin);
        for name in
            ["roster-1", "roster-2", "approval-alice", "approval-bob", "approval-carol", "rejection-bob"]
        {
            python.arg(folder.join(format!("{name}.json")));
        }
        let Ok(output) = python.output() else { return None };
        Some((output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap()))
    };
    let Some((code, said)) = verify(&known("pin"), &golden) else {
        println!("SKIPPED: python3 is not installed");
        return;
    };
    assert_eq!(code, 0, "{said}");
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["roster"]["version"], 2);
    let statement = &report["statements"][0];
    assert_eq!(statement["sha256"], known("statement"));
    assert_eq!(statement["code"], known("code"));
    assert_eq!(statement["approved"], serde_json::json!(["alice", "bob", "carol"]));
    assert_eq!(statement["rejected"], serde_json::json!(["bob"]));
    assert_eq!(verify(&"0".repeat(64), &golden).unwrap().0, 10, "another pin");
    let damaged = Path::new(env!("CARGO_TARGET_TMPDIR")).join("people-damaged");
    for name in ["roster-1", "roster-2", "approval-alice", "approval-bob", "approval-carol", "rejection-bob"]
    {
        std::fs::create_dir_all(&damaged).unwrap();
        for entry in std::fs::read_dir(&golden).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, damaged.join(path.file_name().unwrap())).unwrap();
        }
        // The last letter before the end of the last text: of a signature, of the browser's words, or of the payload's type.
        let path = damaged.join(format!("{name}.json"));
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.iter().rposition(u8::is_ascii_alphabetic).unwrap() - 8;
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(verify(&known("pin"), &damaged).unwrap().0, 10, "{name}");
    }
}
