//! The decisions of a stretch of the log as a table (RFC 4180): one row for each thing that somebody asked for, and one
//! for each intent that nobody asked for. Made of `entries.jsonl` and nothing else.

use super::{AuditError, Lines};
use crate::audit::{
    facts::{Asked, Ended, Facts},
    matching::{End, Matching},
};
use record::Leaf;
use std::{collections::BTreeMap, fmt::Display, io::Write, path::Path};

const HEADER: [&str; 14] = [
    "index",
    "time",
    "decision",
    "repository",
    "tag",
    "digest",
    "by",
    "request",
    "rules",
    "purpose",
    "keeper",
    "key",
    "end",
    "end_index",
];

/// Writes the table. An intent whose end is not among these entries is `open`.
pub(super) fn write(entries: &Path, out: &mut dyn Write) -> Result<(), AuditError> {
    let ends = ends(entries)?;
    row(out, HEADER.map(str::to_owned))?;
    for line in Lines::open(entries)? {
        let (index, bytes) = line?;
        let Ok(leaf) = Leaf::decode(&bytes) else { continue };
        let facts = Facts::of(&leaf);
        if facts.decision.is_none() {
            continue;
        }
        let ended = matches!(leaf, Leaf::Intent(_))
            .then(|| ends.get(&index).copied().unwrap_or(Ended { end: End::Open, index: None }));
        let nobody = [Asked::default()];
        let asked = if facts.asked.is_empty() { nobody.as_slice() } else { &facts.asked };
        for asked in asked {
            row(out, cells(index, &facts, asked, ended))?;
        }
    }
    Ok(())
}

/// The ends that these entries have of their own intents.
fn ends(entries: &Path) -> Result<BTreeMap<u64, Ended>, AuditError> {
    let (mut matching, mut ends) = (Matching::default(), BTreeMap::new());
    for line in Lines::open(entries)? {
        let (index, bytes) = line?;
        let closed = match Leaf::decode(&bytes) {
            Ok(Leaf::Intent(intent)) => {
                matching.intent(index, &intent);
                None
            }
            Ok(Leaf::Completion(completion)) => {
                matching.completion(&completion).map(|open| (open, End::Signed))
            }
            Ok(Leaf::Outcome(outcome)) => {
                matching.outcome(&outcome).ok().map(|open| (open, End::from(outcome.outcome)))
            }
            _ => None,
        };
        ends.extend(closed.map(|(open, end)| (open.index, Ended { end, index: Some(index) })));
    }
    Ok(ends)
}

fn cells(index: u64, facts: &Facts, asked: &Asked, ended: Option<Ended>) -> [String; 14] {
    fn text<T: Display>(value: Option<&T>) -> String {
        value.map(ToString::to_string).unwrap_or_default()
    }
    [
        index.to_string(),
        text(facts.time.as_ref()),
        facts.decision.map(|d| d.as_str()).unwrap_or_default().to_owned(),
        text(facts.repository.as_ref()),
        text(asked.tag.as_ref()),
        text(asked.digest.as_ref()),
        text(asked.by.as_ref()),
        text(asked.request.as_ref()),
        asked.rules.join(" "),
        text(facts.purpose.as_ref()),
        text(facts.keeper.as_ref()),
        text(facts.key.as_ref()),
        ended.map(|e| e.end.as_str()).unwrap_or_default().to_owned(),
        text(ended.and_then(|e| e.index).as_ref()),
    ]
}

fn row(out: &mut dyn Write, cells: [String; 14]) -> Result<(), AuditError> {
    let line = cells.map(|cell| cell_text(&cell)).join(",");
    Ok(out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\r\n"))?)
}

/// A cell as RFC 4180 writes it. One that a spreadsheet would take for a formula gets an apostrophe in front.
pub(super) fn cell_text(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}
