//! `chancery log watch`: a monitor in the foreground, one line for each alarm.

use super::log::{blocking, memory_note, seen_notes, source, trust};
use crate::{
    args::{LogWatchArgs, Span},
    audit::watch::{Alarm, Kind, Limits, Runs, Watch},
    connect::Connection,
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use record::{Clock, SystemClock};

impl Answer for Alarm {
    const SCHEMA: &'static str = "chancery.log-alarm/v1";
}

pub(super) async fn run(
    args: LogWatchArgs,
    connection: &Connection,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let (trust, source) = (trust(&args.key)?, source(args.source.as_deref(), connection)?);
    let limits = Limits { stall_ms: milliseconds(args.stall), open_ms: milliseconds(args.open) };
    let mut watch = Watch::new(trust, limits);
    if !args.runs.is_empty() {
        let runs = Runs::of(args.runs, milliseconds(args.runs_for));
        watch.demand_runs(runs, milliseconds(args.runs_within), args.runs_since.map(|since| since.0));
    }
    let mut noted = None;
    loop {
        let from = source.clone();
        // A folder can be watched by a user without a home.
        let seen = if from.is_remote() { Some(seen_notes()?) } else { seen_notes().ok() };
        let (next, alarms) = blocking(move || {
            let alarms = watch.look(&from, seen.as_ref(), SystemClock.now())?;
            Ok((watch, alarms))
        })
        .await?;
        watch = next;
        let note = memory_note(watch.memory(), watch.size());
        if let Some(note) = note.as_ref().filter(|_| note != noted) {
            output.note(note);
        }
        noted = note;
        for alarm in &alarms {
            output.result(alarm, &text(alarm))?;
        }
        if let Some(end) = end(&alarms, args.once) {
            return end;
        }
        output.progress(&format!("{} entries read", watch.size()));
        tokio::time::sleep(args.interval.0).await;
    }
}

/// How the watch ends after a look, if it ends.
fn end(alarms: &[Alarm], once: bool) -> Option<Result<Exit, Failure>> {
    let has = |kind: Kind| alarms.iter().any(|alarm| alarm.alarm == kind);
    let failure = |exit, what: &str, next: &str| Some(Err(Failure::new(exit, what).next(next)));
    if has(Kind::Fork) {
        return failure(
            Exit::Verification,
            "the log was rewritten",
            "keep what both sides have signed as evidence and tell the people who run the log, by another way",
        );
    }
    match alarms {
        _ if !once => None,
        [] => Some(Ok(Exit::Ok)),
        [only] if only.alarm == Kind::Unreachable => {
            failure(Exit::Temporary, "the log cannot be read", "check the source and try again")
        }
        _ => failure(
            Exit::Verification,
            "there are alarms",
            "look at the entries with chancery log show --from INDEX",
        ),
    }
}

fn milliseconds(span: Span) -> i64 {
    i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX)
}

fn text(alarm: &Alarm) -> String {
    let at = alarm.index.map(|index| format!("  entry {index}")).unwrap_or_default();
    format!("{}  ALARM {}{at}: {}", alarm.time, alarm.alarm.as_str(), alarm.what)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::audit::synthetic::time;

    pub(in crate::commands) fn alarm(alarm: Kind) -> Alarm {
        Alarm { alarm, time: time(1), size: 5, index: Some(3), what: "so".into(), change: None }
    }

    #[test]
    fn a_fork_ends_the_watch_and_with_once_every_alarm_does() {
        let code =
            |alarms: &[Alarm], once| end(alarms, once).map(|end| end.unwrap_or_else(|failure| failure.exit));
        assert_eq!((code(&[], false), code(&[], true)), (None, Some(Exit::Ok)));
        assert_eq!(code(&[alarm(Kind::Stalled)], false), None);
        assert_eq!(code(&[alarm(Kind::Stalled)], true), Some(Exit::Verification));
        assert_eq!(code(&[alarm(Kind::Unreachable)], true), Some(Exit::Temporary));
        assert_eq!(code(&[alarm(Kind::Stalled), alarm(Kind::Fork)], false), Some(Exit::Verification));
    }

    #[test]
    fn a_line_says_what_when_and_where() {
        let text = text(&alarm(Kind::UnknownOutcome));
        assert!(text.ends_with("Z  ALARM unknown-outcome  entry 3: so"), "{text}");
    }
}
