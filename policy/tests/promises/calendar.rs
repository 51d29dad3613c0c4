//! Freeze windows and hours.

use crate::facts::*;
use policy::{DataError, Outcome, PolicyError, PolicySet};

const DATA: &str = r#"
[[repository]]
name = "r.example/team/app"
office_hours = { days = ["mon", "fri"], from = "08:00", until = "17:30" }
[[repository]]
name = "r.example/team/"
[[freeze]]
name = "christmas"
from = 2026-12-20
until = 2027-01-03T06:00:00Z
repositories = ["r.example/team/"]
"#;

fn failed_at(repository: &'static str, now: &str) -> Vec<String> {
    let mut ask = Signing::into(repository);
    (ask.now, ask.token.expires) = (at(now), at("2030-01-01T00:00:00.000Z"));
    let policy = with_data(DATA);
    assert!(policy.decide(&ask.facts_to_enter()).allowed(), "a request may come at any time");
    let decision = ask.decided_by(&policy);
    assert!(decision.allowed() || decision.outcome == Outcome::Waiting);
    assert!(decision.reasons.iter().all(|r| r.remedy == "retry"), "without emergencies, time is the remedy");
    failed(&decision).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_freeze_holds_from_its_first_moment_to_its_last() {
    for (now, frozen) in [
        ("2026-12-19T23:59:59.999Z", false),
        ("2026-12-20T00:00:00.000Z", true),
        ("2027-01-03T05:59:59.999Z", true),
        ("2027-01-03T06:00:00.000Z", false),
    ] {
        assert_eq!(
            failed_at("r.example/team/other", now),
            if frozen { vec!["builtin/freeze-window"] } else { vec![] },
            "{now}"
        );
    }
}

#[test]
fn hours_are_of_the_day_and_of_the_week_in_utc() {
    for (now, open) in [
        ("2026-11-23T07:59:59.999Z", false),
        ("2026-11-23T08:00:00.000Z", true),
        ("2026-11-23T17:29:59.999Z", true),
        ("2026-11-23T17:30:00.000Z", false),
        ("2026-11-24T10:00:00.000Z", false),
        ("2026-11-27T10:00:00.000Z", true),
        ("2026-11-29T10:00:00.000Z", false),
    ] {
        assert_eq!(
            failed_at("r.example/team/app", now),
            if open { vec![] } else { vec!["builtin/office-hours"] },
            "{now}"
        );
    }
}

#[test]
fn times_that_are_none_or_never_come_are_refused() {
    let freeze = |from: &str, until: &str| {
        format!("schema = 1\n[[freeze]]\nname = \"x\"\nfrom = {from}\nuntil = {until}\n")
    };
    let hours = |hours: &str| {
        format!("schema = 1\n[[repository]]\nname = \"r.example/a\"\noffice_hours = {{ {hours} }}\n")
    };
    for data in [
        freeze("2026-12-20T00:00:00", "2027-01-01"),
        freeze("2026-12-20T00:00:00+01:00", "2027-01-01"),
        freeze("2026-12-20T00:00:00.5Z", "2027-01-01"),
        freeze("2027-01-01", "2027-01-01"),
        freeze("08:00:00", "2027-01-01"),
        hours("days = [\"monday\"], from = \"08:00\", until = \"17:00\""),
        hours("days = [], from = \"08:00\", until = \"17:00\""),
        hours("days = [\"mon\"], from = \"8:00\", until = \"17:00\""),
        hours("days = [\"mon\"], from = \"08:00\", until = \"24:01\""),
        hours("days = [\"mon\"], from = \"17:00\", until = \"08:00\""),
    ] {
        let error = PolicySet::load(sources(&data, "")).unwrap_err();
        assert!(matches!(error, PolicyError::Data(DataError::Value { .. })), "{data}: {error}");
    }
}
