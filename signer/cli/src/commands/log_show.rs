//! `chancery log show`: entries, one line each. With the log's key every line is proven before it is shown.

use super::log::{blocking, follow, memory_note, optional_trust, source};
use crate::{
    args::LogShowArgs,
    audit::{Accepted, AuditError, LogSource, Prover, opened_checkpoint},
    connect::Connection,
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use record::{
    Action, Adopted, AdoptedPart, AdoptedReservation, Continues, Event, Intent, Leaf, Principal, TokenFault,
};
use serde::Serialize;
use serde_json::value::RawValue;
use tlog::{Checkpoint, Note, TILE_WIDTH, leaf_hash};

/// Most entries of one call: they are held in memory until the last one is proven.
const MAX_ENTRIES: u64 = 10_000;

#[derive(Serialize)]
pub(super) struct Entry {
    index: u64,
    kind: &'static str,
    verified: bool,
    leaf: Box<RawValue>,
    #[serde(skip)]
    line: String,
}

impl Answer for Entry {
    const SCHEMA: &'static str = "chancery.log-entry/v1";
}

pub(super) async fn run(
    args: LogShowArgs,
    connection: &Connection,
    output: &mut Output,
) -> Result<Exit, Failure> {
    if args.limit > MAX_ENTRIES {
        return Err(Failure::new(Exit::Usage, format!("--limit is at most {MAX_ENTRIES}"))
            .next("fetch a long log with chancery log fetch"));
    }
    let trust = optional_trust(&args.key)?;
    let source = source(args.source.as_deref(), connection)?;
    if trust.is_none() {
        output.note("not verified: give --vkey, --vkey-file or CHANCERY_LOG_VKEY to prove every line");
    }
    let (shown, note) = blocking(move || {
        let (checkpoint, note) = match &trust {
            Some(trust) => {
                let Accepted { note, checkpoint, .. } = opened_checkpoint(&source, trust)?;
                let memory = follow(&source, trust, &note)?;
                let note = memory_note(memory, checkpoint.size);
                (checkpoint, note)
            }
            None => (unverified_checkpoint(&source)?, None),
        };
        Ok((entries(&source, &checkpoint, trust.is_some(), args.from, args.limit)?, note))
    })
    .await?;
    if let Some(note) = note {
        output.note(&note);
    }
    for entry in shown {
        output.result(&entry, &entry.line)?;
    }
    Ok(Exit::Ok)
}

/// The entries, each proven under the checkpoint if that one is.
fn entries(
    source: &LogSource,
    checkpoint: &Checkpoint,
    proven: bool,
    from: Option<u64>,
    limit: u64,
) -> Result<Vec<Entry>, AuditError> {
    let first = from.unwrap_or_else(|| checkpoint.size.saturating_sub(limit));
    let until = first.saturating_add(limit).min(checkpoint.size);
    let mut prover = Prover::new(source, checkpoint);
    let mut shown = Vec::new();
    for bundle in first / TILE_WIDTH..until.div_ceil(TILE_WIDTH) {
        let start = bundle * TILE_WIDTH;
        for (index, bytes) in (start..).zip(prover.entries(bundle)?) {
            if !(first..until).contains(&index) {
                continue;
            }
            if proven {
                prover.inclusion_of(index, leaf_hash(&bytes))?;
            }
            shown.push(entry(index, &bytes, proven));
        }
    }
    Ok(shown)
}

fn unverified_checkpoint(source: &LogSource) -> Result<Checkpoint, AuditError> {
    let wrong = |why: &str| AuditError::Log(format!("checkpoint: {why}"));
    let text = String::from_utf8(source.checkpoint()?).map_err(|_| wrong("not UTF-8"))?;
    let note = Note::parse(&text).map_err(|e| wrong(&e.to_string()))?;
    Checkpoint::parse(note.text()).map_err(|e| wrong(&e.to_string()))
}

pub(super) fn entry(index: u64, bytes: &[u8], verified: bool) -> Entry {
    let (kind, about) = match Leaf::decode(bytes) {
        Ok(leaf) => (leaf.kind(), about(&leaf)),
        Err(e) => ("?", format!("not an entry of a Chancery log: {e}")),
    };
    let text = String::from_utf8_lossy(bytes).into_owned();
    // Bytes that are no JSON are shown as a JSON string, so that no entry is ever left out.
    let leaf = RawValue::from_string(text)
        .or_else(|_| serde_json::value::to_raw_value(&String::from_utf8_lossy(bytes)))
        .unwrap_or_else(|_| RawValue::NULL.to_owned());
    Entry { index, kind, verified, leaf, line: format!("{index:>8}  {kind:<12}  {about}") }
}

/// One line for people; the JSON form has everything.
fn about(leaf: &Leaf) -> String {
    match leaf {
        Leaf::Genesis(g) => {
            let former =
                |c: &Continues| format!("  continues {} from {} entries: {}", c.log, c.size, c.reason);
            format!("{}  {}{}", g.time, g.log, g.continues.as_ref().map(former).unwrap_or_default())
        }
        Leaf::Intent(i) => intent(i),
        Leaf::Completion(c) => {
            format!("key {}  payload {}", short(c.key()), short(c.digest()))
        }
        Leaf::Outcome(o) => {
            let code = o.code.as_ref().map_or(String::new(), |c| format!(" ({c})"));
            let kind = o.outcome.as_str();
            format!("{}  entry {} {kind}{code}  by {}", o.time, o.intent, o.keeper)
        }
        Leaf::Denial(d) => {
            let rules: Vec<_> = d.reasons.iter().map(|r| r.rule.as_str()).collect();
            let tag = d.tag.as_ref().map_or(String::new(), |t| format!(":{t}"));
            format!("{}  {}{tag}  {}  by {}", d.time, d.repository, rules.join(" "), d.by)
        }
        Leaf::Allowance(a) => {
            let tag = a.tag.as_ref().map_or(String::new(), |t| format!(":{t}"));
            format!("{}  {}{tag}  {}  by {}", a.time, a.repository, a.rules.join(" "), a.by)
        }
        Leaf::Event(e) => event(e),
    }
}

fn intent(intent: &Intent) -> String {
    let changes = match &intent.action {
        Action::Targets { changes, .. } => {
            changes.iter().map(|c| format!("  {}={}", c.tag, short(c.digest.sha256()))).collect()
        }
        _ => String::new(),
    };
    let version = intent.action.version().map_or_else(|| "certificate".to_owned(), |v| format!("v{v}"));
    format!(
        "{}  {}  {} {version}{changes}  key {}",
        intent.time,
        intent.repository,
        intent.purpose,
        short(intent.key)
    )
}

fn event(event: &Event) -> String {
    match event {
        Event::Started { time, version, config, .. } => {
            format!("{time}  started  version {version}, configuration {}", short(config))
        }
        Event::Stopped { time, .. } => format!("{time}  stopped"),
        Event::Recovered { time, .. } => {
            format!("{time}  recovered  the daemon before did not end in good order")
        }
        Event::Unsealed { time, reason, at, .. } => format!("{time}  unsealed  sealed at {at}: {reason}"),
        Event::Keeper { time, keeper, .. } => {
            format!("{time}  keeper  {} with {} keys", keeper.name, keeper.keys.len())
        }
        Event::TokenCreated { time, by, token, scopes, .. } => {
            format!("{time}  token-created  {token} for {}  by {by}", scopes.join(","))
        }
        Event::TokenRevoked { time, by, token, .. } => format!("{time}  token-revoked  {token}  by {by}"),
        Event::StoreRolledBack { time, database, spool, .. } => {
            format!("{time}  store-rolled-back  from {spool} to {database}, refilled")
        }
        Event::SpoolRolledBack { time, spool, noted, .. } => {
            format!("{time}  spool-rolled-back  from {noted} or more to {spool}, filled from the database")
        }
        Event::TokenTrouble { time, keeper, problems, .. } => {
            let problem = |p: &TokenFault| match &p.key {
                Some(key) => format!("key {key} {}", p.code),
                None => p.code.to_string(),
            };
            let problems = problems.iter().map(problem).collect::<Vec<_>>().join(", ");
            format!("{time}  token-trouble  {keeper}: {problems}")
        }
        Event::TokenWell { time, keeper, .. } => format!("{time}  token-well  {keeper}"),
        Event::PolicyChanged { time, old, new, .. } => {
            format!("{time}  policy-changed  from {} to {}", old.set, new.set)
        }
        Event::ClockStepped { time, by_ms, .. } => format!("{time}  clock-stepped  by {by_ms} ms"),
        Event::RefusalsLimited { time, by, from, .. } => {
            format!("{time}  refusals-limited  of {by}, since {from}: counted from here on")
        }
        Event::RefusalsCounted { time, by, from, until, count, .. } => {
            let by = by.as_ref().map_or("callers without a token", Principal::as_str);
            format!("{time}  refusals-counted  {count} of {by}, from {from} until {until}")
        }
        Event::WitnessLost { time, witness, code, .. } => format!("{time}  witness-lost  {witness} ({code})"),
        Event::WitnessConflict { time, witness, claimed, size, .. } => {
            format!(
                "{time}  witness-conflict  {witness} claims {claimed} entries, without proof; the log has {size}"
            )
        }
        Event::WitnessBack { time, witness, since, .. } => {
            format!("{time}  witness-back  {witness}, not there since {since}")
        }
        Event::Adopted(Adopted { time, repository, role, version, key, .. }) => {
            format!("{time}  adopted  {repository}  {role} v{version}  key {}", short(key))
        }
        Event::AdoptedPart(AdoptedPart { time, content, .. }) => {
            format!("{time}  adopted-part  {} bytes", content.0.len())
        }
        Event::AdoptedReservation(AdoptedReservation { time, repository, role, version, .. }) => {
            format!("{time}  adopted-reservation  {repository}  {role} v{version}, of which there is no file")
        }
    }
}

/// The first twelve digits of a hash: enough to tell apart what one person looks at.
pub(super) fn short(hash: impl std::fmt::Display) -> String {
    let mut text = hash.to_string();
    text.truncate(12);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::synthetic::{Log, Published};

    fn entries_of(
        published: &Published,
        log: &Log,
        from: Option<u64>,
        limit: u64,
    ) -> Result<Vec<Entry>, AuditError> {
        let checkpoint = opened_checkpoint(&published.source(), &log.trust())?.checkpoint;
        entries(&published.source(), &checkpoint, true, from, limit)
    }

    fn lines(published: &Published, log: &Log, from: Option<u64>, limit: u64) -> Vec<u64> {
        let shown = entries_of(published, log, from, limit).unwrap();
        shown.iter().map(|e| e.index).collect()
    }

    #[test]
    fn the_last_entries_or_a_range_are_shown_across_bundles() {
        let log = Log::with_requests(150);
        let published = log.published(log.size());
        assert_eq!(lines(&published, &log, None, 3), [298, 299, 300]);
        assert_eq!(lines(&published, &log, Some(254), 4), [254, 255, 256, 257]);
        assert_eq!(lines(&published, &log, Some(300), 9), [300]);
        assert!(lines(&published, &log, Some(301), 9).is_empty());
        assert!(lines(&published, &log, Some(u64::MAX), u64::MAX).is_empty());
    }

    #[test]
    fn an_entry_that_was_altered_is_not_shown_as_proven() {
        let log = Log::with_requests(3);
        let published = log.published(log.size());
        let bundle = published.files().into_iter().find(|f| f.to_string_lossy().contains("entries")).unwrap();
        let mut bytes = std::fs::read(&bundle).unwrap();
        let name = bytes.windows(8).position(|at| at == b"token:ci").unwrap();
        bytes[name + 7] = b'j';
        std::fs::write(&bundle, bytes).unwrap();
        assert!(entries_of(&published, &log, None, 9).is_err());
        let checkpoint = unverified_checkpoint(&published.source()).unwrap();
        let unproven = entries(&published.source(), &checkpoint, false, None, 9).unwrap();
        assert!(unproven.len() == 7 && unproven.iter().all(|e| !e.verified));
    }

    #[test]
    fn a_line_says_who_what_and_when() {
        let log = Log::with_requests(1);
        let published = log.published(log.size());
        let shown = entries_of(&published, &log, None, 9).unwrap();
        let lines: Vec<_> = shown.iter().map(|e| e.line.as_str()).collect();
        assert!(lines[0].starts_with("       0  genesis "), "{lines:?}");
        assert!(lines[1].contains("r.example/a  targets v1  v1="), "{lines:?}");
        assert!(lines[2].contains("hashedrekord  key "), "{lines:?}");
        assert!(serde_json::to_string(&shown[1]).unwrap().contains("\"leaf\":{\"apiVersion\":\"1\""));
    }
}
