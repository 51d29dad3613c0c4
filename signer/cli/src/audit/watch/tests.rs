use super::*;
use crate::audit::synthetic::{Log, Published, completion, intent, outcome, time};
use record::OutcomeKind;

const LIMITS: Limits = Limits { stall_ms: 3_600_000, open_ms: 600_000 };

/// A monitor with a memory of its own.
struct Monitor {
    watch: Watch,
    seen: SeenNotes,
    _state: tempfile::TempDir,
}

impl Monitor {
    fn of(log: &Log) -> Self {
        let state = tempfile::tempdir().unwrap();
        Self { watch: Watch::new(log.trust(), LIMITS), seen: SeenNotes::under(state.path()), _state: state }
    }

    fn look(&mut self, published: &Published, now: u64) -> Vec<(Kind, Option<u64>)> {
        let alarms = self.watch.look(&published.source(), Some(&self.seen), time(now)).unwrap();
        alarms.into_iter().map(|a| (a.alarm, a.index)).collect()
    }
}

#[test]
fn a_log_that_grows_in_good_order_is_no_alarm() {
    let log = Log::with_requests(300);
    let mut monitor = Monitor::of(&log);
    for size in [1, 2, 255, 256, 257, 512, log.size(), log.size()] {
        assert_eq!(monitor.look(&log.published(size), 300), [], "{size}");
        assert_eq!(monitor.watch.size(), size);
    }
}

#[test]
fn each_thing_that_is_wrong_is_told_once() {
    let mut log = Log::with_requests(3);
    let mut monitor = Monitor::of(&log);
    assert_eq!(monitor.look(&log.published(log.size()), 5), []);
    log.push(completion(77));
    log.push(intent(9, 9));
    log.push(outcome(8, OutcomeKind::Unknown));
    log.push(intent(11, 11));
    let published = log.published(log.size());
    let expected = [(Kind::Finding, Some(7)), (Kind::UnknownOutcome, Some(9))];
    assert_eq!(monitor.look(&published, 20), expected);
    assert_eq!(monitor.look(&published, 30), []);
    assert_eq!(monitor.look(&published, 11 + 601), [(Kind::OpenIntent, Some(10))]);
    assert_eq!(monitor.look(&published, 11 + 3601), [(Kind::Stalled, None)]);
    log.push(completion(11));
    log.push(intent(4000, 12));
    assert_eq!(monitor.look(&log.published(log.size()), 4000), []);
    assert_eq!(
        monitor.look(&log.published(log.size()), 9000),
        [(Kind::OpenIntent, Some(12)), (Kind::Stalled, None)]
    );
}

#[test]
fn a_log_full_of_faults_is_told_with_a_limit() {
    let mut log = Log::new();
    let faults = 11 * 256;
    (0..faults).for_each(|_| log.push_bytes(b"{}".to_vec()));
    let mut monitor = Monitor::of(&log);
    let told = monitor.watch.look(&log.published(log.size()).source(), Some(&monitor.seen), time(5)).unwrap();
    assert_eq!(told.len(), MAX_NEWS + 1);
    let more = format!("{} more entries", faults - MAX_NEWS);
    assert!(told.last().unwrap().what.starts_with(&more), "{more}: {:?}", told.last());
    log.push(completion(7));
    assert_eq!(monitor.look(&log.published(log.size()), 5), [(Kind::Finding, Some(log.size() - 1))]);
}

#[test]
fn unknown_outcomes_beyond_those_that_are_kept_are_counted() {
    let mut log = Log::new();
    let intents = 120;
    (1..=intents).for_each(|n| log.push(intent(n, n)));
    (1..=intents).for_each(|n| log.push(outcome(n, OutcomeKind::Unknown)));
    let mut monitor = Monitor::of(&log);
    let published = log.published(log.size());
    let told = monitor.watch.look(&published.source(), Some(&monitor.seen), time(121)).unwrap();
    assert_eq!(told.len(), MAX_LISTED + 1);
    assert!(told.last().unwrap().what.starts_with("20 more "), "{:?}", told.last());
}

#[test]
fn an_intent_that_is_late_behind_many_others_is_told() {
    let mut log = Log::new();
    let many = MAX_LISTED as u64 + 20;
    (1..=many).for_each(|n| log.push(intent(n, n)));
    let mut monitor = Monitor::of(&log);
    let told = monitor.look(&log.published(log.size()), many + 601);
    assert_eq!(told.len(), MAX_LISTED + 1);
    assert_eq!(told.last(), Some(&(Kind::OpenIntent, None)));
    log.push(intent(many + 601, 9999));
    assert_eq!(monitor.look(&log.published(log.size()), many + 602), []);
    assert_eq!(
        monitor.look(&log.published(log.size()), many + 601 + 601),
        [(Kind::OpenIntent, Some(many + 1))]
    );
}

#[test]
fn times_of_the_future_silence_nothing() {
    let mut log = Log::with_requests(3);
    let years = 9 * 365 * 86_400;
    log.push(intent(years, 9));
    log.push(intent(5, 10));
    let Leaf::Outcome(mut end) = outcome(8, OutcomeKind::Void) else { panic!() };
    end.time = time(years);
    log.push(Leaf::Outcome(end));
    let mut monitor = Monitor::of(&log);
    let published = log.published(log.size());
    assert_eq!(monitor.look(&published, 10), []);
    assert_eq!(monitor.look(&published, 10 + 601), [(Kind::OpenIntent, Some(7))]);
    assert_eq!(monitor.look(&published, 10 + 3601), [(Kind::Stalled, None)]);
    assert_eq!(monitor.look(&published, 10 + 7000), []);
}

#[test]
fn another_fault_of_the_same_kind_is_told_too() {
    let log = Log::with_requests(20);
    let mut monitor = Monitor::of(&log);
    let (altered, missing) = (log.published(log.size()), log.published(log.size()));
    let bundle = |published: &Published| {
        published.files().into_iter().find(|f| f.to_string_lossy().contains("entries")).unwrap()
    };
    std::fs::write(bundle(&altered), b"").unwrap();
    std::fs::remove_file(bundle(&missing)).unwrap();
    assert_eq!(monitor.look(&altered, 20), [(Kind::NotVerified, None)]);
    assert_eq!(monitor.look(&missing, 20), [(Kind::NotVerified, None)]);
    assert_eq!(monitor.look(&altered, 20), []);
}

#[test]
fn a_memory_that_cannot_be_used_is_no_alarm_about_the_log() {
    let log = Log::with_requests(20);
    let state = tempfile::NamedTempFile::new().unwrap();
    let seen = SeenNotes::under(state.path());
    let published = log.published(log.size());
    let end = Watch::new(log.trust(), LIMITS).look(&published.source(), Some(&seen), time(20));
    assert!(matches!(end, Err(AuditError::Memory { .. })), "{end:?}");
}

#[test]
fn a_folder_that_is_older_than_what_was_seen_is_known_as_such() {
    let log = Log::with_requests(20);
    let mut monitor = Monitor::of(&log);
    let now = log.published(log.size());
    monitor.seen.advance(&now.note, &log.trust(), &now.source()).unwrap();
    assert_eq!(monitor.look(&log.published(30), 20), []);
    assert_eq!(monitor.watch.memory(), Memory { seen_before: Some(log.size()), older: true });
    assert_eq!(monitor.look(&now, 20), []);
    assert!(!monitor.watch.memory().older);
}

#[test]
fn a_fork_is_told_and_what_was_read_before_is_kept() {
    let (log, other) = (Log::with_requests(20), Log::with_other_requests(20));
    for (size, theirs) in [(30, 30), (30, 41), (30, 20)] {
        let mut monitor = Monitor::of(&log);
        assert_eq!(monitor.look(&log.published(size), 20), []);
        assert_eq!(monitor.look(&other.published(theirs), 20), [(Kind::Fork, None)], "{theirs}");
        assert_eq!(monitor.watch.size(), size);
    }
}

#[test]
fn a_fork_that_an_earlier_command_could_see_is_told_at_the_first_look() {
    let (log, other) = (Log::with_requests(20), Log::with_other_requests(20));
    let mut monitor = Monitor::of(&log);
    let before = log.published(30);
    monitor.seen.advance(&before.note, &log.trust(), &before.source()).unwrap();
    assert_eq!(monitor.look(&other.published(41), 20), [(Kind::Fork, None)]);
}

#[test]
fn altered_files_and_an_absent_log_are_told_and_told_again_when_they_come_back() {
    let log = Log::with_requests(20);
    let mut monitor = Monitor::of(&log);
    let (published, nothing) = (log.published(log.size()), log.published(1));
    std::fs::remove_file(nothing.files().into_iter().find(|f| f.ends_with("checkpoint")).unwrap()).unwrap();
    assert_eq!(monitor.look(&nothing, 20), [(Kind::Unreachable, None)]);
    assert_eq!(monitor.look(&nothing, 20), []);
    let bundle = published.files().into_iter().find(|f| f.to_string_lossy().contains("entries")).unwrap();
    let whole = std::fs::read(&bundle).unwrap();
    std::fs::write(&bundle, [&whole[..whole.len() - 1], b" "].concat()).unwrap();
    let altered = monitor.look(&published, 20);
    assert_eq!(altered, [(Kind::NotVerified, None)]);
    assert_eq!(monitor.watch.size(), 0);
    std::fs::write(&bundle, whole).unwrap();
    assert_eq!(monitor.look(&published, 20), []);
    assert_eq!(monitor.look(&nothing, 20), [(Kind::Unreachable, None)]);
}

#[test]
fn a_signature_that_no_run_asked_for_is_told_once_after_the_runs_had_their_time() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let run = |content: u64| {
        let digest = record::Digest::of(&content.to_be_bytes());
        format!(
            "{{\"run\":\"ci/{content}\",\"repository\":\"r.example/a\",\"digest\":\"{digest}\",\"tag\":\"v{content}\"}}\n"
        )
    };
    let mut log = Log::with_requests(1);
    let mut monitor = Monitor::of(&log);
    monitor.watch.demand_runs(Runs::of(vec![file.path().to_owned()], 3_600_000), 100_000, None);
    for content in [21, 22, 23] {
        log.push(intent(content, content));
        log.push(completion(content));
    }
    let first = log.size() - 6;
    std::fs::write(file.path(), [run(1), run(21)].concat()).unwrap();
    let published = log.published(log.size());
    assert_eq!(monitor.look(&published, 30), [], "the export may come");
    std::fs::write(file.path(), [run(1), run(21), run(22)].concat()).unwrap();
    let alarms = monitor.watch.look(&published.source(), Some(&monitor.seen), time(123)).unwrap();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert_eq!((alarms[0].alarm, alarms[0].index), (Kind::Unexplained, Some(first + 4)));
    let json = serde_json::to_value(&alarms[0]).unwrap();
    for (member, value) in [("repository", "r.example/a"), ("tag", "v23"), ("by", "token:ci")] {
        assert_eq!(json[member], value, "{json}");
    }
    assert!(json["request"].is_string() && json["digest"].is_string(), "{json}");
    assert_eq!(monitor.look(&published, 130), [], "told once");
    // An intent that claims to be of the future gets no more time than the others.
    log.push(intent(500, 24));
    let published = log.published(log.size());
    assert_eq!(monitor.look(&published, 150), []);
    std::fs::write(file.path(), "no run\n").unwrap();
    assert_eq!(
        monitor.look(&published, 260),
        [(Kind::Runs, None)],
        "nothing is judged by a file that cannot be read"
    );
    assert_eq!(monitor.look(&published, 261), []);
    std::fs::write(file.path(), run(1)).unwrap();
    assert_eq!(monitor.look(&published, 262), [(Kind::Unexplained, Some(first + 6))]);
}

#[test]
fn runs_are_demanded_from_a_time_on_and_then_whatever_times_entries_give() {
    let mut log = Log::with_requests(1);
    let first = log.size();
    for (now, content) in [(10, 21), (50, 22), (20, 23)] {
        log.push(intent(now, content));
    }
    let mut monitor = Monitor::of(&log);
    monitor.watch.demand_runs(Runs::of(Vec::new(), 0), 0, Some(time(50)));
    let published = log.published(log.size());
    assert_eq!(
        monitor.look(&published, 60),
        [(Kind::Unexplained, Some(first + 1)), (Kind::Unexplained, Some(first + 2))]
    );
}

#[test]
fn changes_beyond_those_that_can_wait_are_told_as_such() {
    let mut log = Log::new();
    (0..=MAX_WAITING as u64).for_each(|n| log.push(intent(1, n)));
    let mut monitor = Monitor::of(&log);
    monitor.watch.demand_runs(Runs::of(Vec::new(), 0), 100_000, None);
    let published = log.published(log.size());
    let told = monitor.watch.look(&published.source(), Some(&monitor.seen), time(2)).unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].what.starts_with("no run has asked yet for 1 more changes"), "{told:?}");
}
