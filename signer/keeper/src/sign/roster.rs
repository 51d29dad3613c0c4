//! How a roster comes into force: carried by the daemon or given by the operator, and taken on its own evidence alone.
//!
//! It promises that the first one is the one that the charter pins, that each next one is signed by the people of the one
//! before, and that none is acted on before it is durable. It does not know where a roster comes from.

use super::charter::Charter;
use super::journal::Journal;
use super::owner;
use super::refusal::{Code, Refused, chain_of};
use super::state::{Change, Draft, Held, State};
use crate::admin::report::{self, Document, Format};
use crate::config::SignConfig;
use crate::exit::Fatal;
use people::{MAX_SIGNED_ROSTER_BYTES, Roster, SignedRoster, SuccessionError};
use record::wire::{Blob, RosterInForce};
use record::{Clock, Sha256, SystemClock};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What makes `signed` the roster in force; nothing if it is so already.
pub(super) fn take(signed: &Blob, charter: &Charter, state: &State) -> Result<Option<Change>, Refused> {
    let refused = |why: String| Refused::new(Code::People, why);
    let pin = charter.first_roster.ok_or_else(|| {
        refused("the charter pins no roster: write roster_sha256 into it, the SHA-256 of version 1".into())
    })?;
    let offered = SignedRoster::parse(&signed.0).map_err(|e| refused(chain_of(&e)))?;
    if state.roster.as_ref().is_some_and(|held| held.roster == *offered.offered()) {
        return Ok(None);
    }
    if state.roster.is_none() {
        offered.clone().first(pin).map_err(|e| refused(e.to_string()))?;
    }
    let held =
        Held::taking(state.roster.as_ref(), offered).map_err(|e: SuccessionError| refused(e.to_string()))?;
    no_signing_key(&held.roster, charter).map_err(refused)?;
    Ok(Some(Change::Roster { signed: signed.clone() }))
}

/// How `Welcome` and answers name what is in force.
pub(super) fn in_force(state: &State) -> Option<RosterInForce> {
    let roster = &state.roster.as_ref()?.roster;
    Some(RosterInForce { version: roster.version(), sha256: roster.sha256() })
}

/// Whether the roster that the journal holds is one under this charter: what the operator has written since could have made
/// it another's.
// INVARIANT(no-reset): another pin does not end a roster that people have carried on.
pub(super) fn fits(charter: &Charter, state: &State, file: &Path) -> Result<(), Fatal> {
    let Some(Held { first, roster }) = &state.roster else { return Ok(()) };
    let wrong = |why: String| Fatal::Config { file: file.to_owned(), why };
    if charter.first_roster.is_some_and(|pin| pin != *first) {
        return Err(wrong(format!(
            "roster_sha256: this keeper holds a roster that began with {first}: pin that one, its people make the next version"
        )));
    }
    no_signing_key(roster, charter).map_err(wrong)
}

/// Whether none of the roster's keys is one that signs for the service: who holds that could approve, or an approval could pass
/// for a signature.
fn no_signing_key(roster: &Roster, charter: &Charter) -> Result<(), String> {
    match roster.keys().find(|(_, key)| charter.has_signing_key(&key.spki)) {
        None => Ok(()),
        Some((person, key)) => Err(format!(
            "key {} of {} in the roster is a signing key of the charter, and an approver's key signs nothing else",
            key.spki.id(),
            person.name
        )),
    }
}

/// What an operator's command says of the roster in force.
#[derive(Debug, Serialize)]
struct Shown {
    keeper: String,
    /// False if nothing was taken.
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
    people: Vec<String>,
    groups: Vec<ShownGroup>,
    /// Of each active key that has a rule.
    rules: Vec<ShownRule>,
}

#[derive(Debug, Serialize)]
struct ShownGroup {
    name: String,
    members: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ShownRule {
    key: String,
    purpose: String,
    rule: String,
}

/// Has a stopped signing keeper take signed rosters, in the order of their versions, and shows what is in force then. Without files
/// it only shows. What is in force already changes nothing.
pub fn roster(config: &SignConfig, files: &[PathBuf], output: Option<Format>) -> Result<(), Fatal> {
    let charter = Charter::read(&config.charter, &config.name)?;
    let (mut journal, mut state) = Journal::open(&config.state, owner(&charter))?;
    fits(&charter, &state, &config.charter)?;
    let mut changed = false;
    for file in files {
        let signed = read(file)?;
        let change = take(&signed, &charter, &state)
            .map_err(|refused| Fatal::Config { file: file.clone(), why: refused.detail })?;
        if let Some(change) = change {
            adopt(change, &mut journal, &mut state)?;
            changed = true;
        }
    }
    report::print(output, &Shown::of(&charter, &state, changed))
}

fn read(file: &Path) -> Result<Blob, Fatal> {
    let unread =
        |e: std::io::Error| Fatal::Config { file: file.to_owned(), why: format!("cannot be read: {e}") };
    let length = std::fs::metadata(file).map_err(unread)?.len();
    if length > MAX_SIGNED_ROSTER_BYTES as u64 {
        let why = format!(
            "is no signed roster: it has {length} bytes, and they have at most {MAX_SIGNED_ROSTER_BYTES}"
        );
        return Err(Fatal::Config { file: file.to_owned(), why });
    }
    std::fs::read(file).map(Blob).map_err(unread)
}

fn adopt(change: Change, journal: &mut Journal, state: &mut State) -> Result<(), Fatal> {
    let contradicted = |why: String| Fatal::State {
        path: journal.path().to_owned(),
        why,
        next: "nothing was written; clear the fork first if one is noted".into(),
    };
    let mut draft = Draft::new(state, SystemClock.now());
    let changed = draft.change(change);
    let reserve = draft.close();
    changed.map_err(|e| contradicted(e.to_string()))?;
    match reserve {
        Some(reserve) => journal.reserve(&reserve, state).map(drop),
        None => Ok(()),
    }
}

impl Shown {
    fn of(charter: &Charter, state: &State, changed: bool) -> Self {
        let content = state.roster.as_ref().map(|held| held.roster.content());
        let people = content.into_iter().flat_map(|c| &c.people).map(|p| p.name.to_string());
        let groups = content.into_iter().flat_map(|c| &c.groups).map(|group| ShownGroup {
            name: group.name.to_string(),
            members: group.members.iter().map(ToString::to_string).collect(),
        });
        let rules = charter.keys().filter_map(|(id, key)| {
            let rule = key.rule.as_ref()?.to_string();
            Some(ShownRule { key: id.to_string(), purpose: key.purpose.to_string(), rule })
        });
        Self {
            keeper: charter.keeper.to_string(),
            changed,
            version: state.roster.as_ref().map(|held| held.roster.version()),
            sha256: state.roster.as_ref().map(|held: &Held| Roster::sha256(&held.roster)),
            people: people.collect(),
            groups: groups.collect(),
            rules: rules.collect(),
        }
    }
}

impl Document for Shown {
    const SCHEMA: &'static str = "chancery.keeper.roster/v1";

    fn text(&self) -> String {
        let mut text = match (self.version, self.sha256) {
            (Some(version), Some(sha256)) => format!("roster: version {version}, SHA-256 {sha256}\n"),
            _ => "roster: none yet\n".to_owned(),
        };
        for ShownGroup { name, members } in &self.groups {
            let _infallible = writeln!(text, "group {name}: {}", members.join(" "));
        }
        for ShownRule { key, purpose, rule } in &self.rules {
            let _infallible = writeln!(text, "{purpose} key {key}: {rule}");
        }
        text
    }
}
