//! What was shown to a judge, what it had to say of it, and what it said.

use std::{
    fs,
    path::{Path, PathBuf},
};
use tests::Output;

/// Longest word of a judge in the table.
const MAX_SAID_CHARS: usize = 160;

/// Rows of one judge, in order.
pub(crate) struct Rows {
    judge: String,
    lines: Vec<String>,
    failed: Vec<String>,
}

/// What a judge must say.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    Accepts,
    /// Refuses, and says one of these words, which are about this fault and no other.
    Refuses(&'static [&'static str]),
    /// Accepts, since it does not read what was altered.
    DoesNotRead,
    /// Accepts and refuses what `tlog` does, of many.
    Agrees,
}

impl Rows {
    /// Rows of a judge, or none where it is not to be had, which is said.
    pub(crate) fn of(judge: &str) -> Option<(Self, PathBuf)> {
        fs::create_dir_all(folder()).unwrap();
        match hsm_sim::cached_version(judge) {
            Ok(version) => {
                let rows = Self { judge: format!("{judge} ({version})"), lines: vec![], failed: vec![] };
                Some((rows, hsm_sim::cached(judge).join("usr/bin")))
            }
            Err(error) => {
                let why = format!("{judge} is not to be had, tests/interop.sh fetches it: {error}");
                fs::write(folder().join(judge), format!("| {judge} | | | SKIPPED: {why} | |\n")).unwrap();
                hsm_sim::skip(why);
                None
            }
        }
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, what: &str, verdict: Verdict, said: &Output) {
        let words = words(said);
        let (wanted, good) = match verdict {
            Verdict::Accepts => ("accepts".to_owned(), said.code == 0),
            Verdict::DoesNotRead => ("does not read it".to_owned(), said.code == 0),
            Verdict::Agrees => ("says what `tlog` says".to_owned(), said.code == 0),
            Verdict::Refuses(about) => (
                format!("refuses: {}", about.join(" or ")),
                said.code != 0 && about.iter().any(|w| words.contains(w)),
            ),
        };
        let result = if good { "as it must" } else { "WRONG" };
        let did = match (verdict, said.code) {
            (Verdict::Agrees, 0) => "says it".to_owned(),
            (_, 0) => "accepts".to_owned(),
            _ => format!("refuses: {}", shown(&words)),
        };
        self.lines.push(format!("| {} | {what} | {wanted} | {did} | {result} |\n", self.judge));
        if !good {
            self.failed.push(format!("{what}: wanted {wanted}, and it ended with {}: {words}", said.code));
        }
    }

    /// Keeps the rows for the table; panics if one is not as it must be.
    pub(crate) fn keep(self, file: &str) {
        fs::write(folder().join(file), self.lines.concat()).unwrap();
        assert!(self.failed.is_empty(), "{}: {}\n", self.judge, self.failed.join("\n"));
    }
}

/// What a judge said, on one line.
fn words(said: &Output) -> String {
    [&said.stdout, &said.stderr]
        .into_iter()
        .flat_map(|text| text.split_whitespace())
        .collect::<Vec<_>>()
        .join(" ")
}

/// What it said at last, without the decoration of cosign, which says it twice, and without hashes.
fn shown(words: &str) -> String {
    let last = words.rsplit("error during command execution: ").next().unwrap_or(words);
    let mut shown = String::new();
    for part in last.split_inclusive(']') {
        let hash = part.rsplit_once('[').filter(|(_, inside)| inside.len() > 40);
        match hash {
            Some((before, _)) => shown.push_str(&format!("{before}[...]")),
            None => shown.push_str(part),
        }
    }
    shown.replace('|', "\\|").chars().take(MAX_SAID_CHARS).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/interop")
}
