//! The end of a log, as a signing keeper sees it: its operator has it follow another one, which goes on with the same
//! collections and keys.
//!
//! It promises that every version and hash of the chain, the clock, the rates and the generation go over, at once or not at
//! all, and that what was still open in the former log is named before it is given up. It does not know whether the other
//! log is the right one: its operator has written that into the charter.

use super::charter::Charter;
use super::journal::Journal;
use super::owner;
use super::state::{Open, State};
use crate::admin::report::{self, Document, Format};
use crate::config::SignConfig;
use crate::exit::Fatal;
use record::{KeyId, Origin, PayloadDigest, Purpose, Repository};
use serde::Serialize;

/// What became of a keeper that was told to follow another log.
#[derive(Debug, Serialize)]
struct Followed {
    keeper: String,
    former: Origin,
    log: Origin,
    /// False if it follows that log already: nothing was done.
    changed: bool,
    /// Versions that were carried over: one for each collection and role.
    carried: u64,
    /// Leaves of the former log that it had seen.
    seen: u64,
    abandoned: Vec<Abandoned>,
}

/// An item that was reserved and whose end the keeper never saw: a signature of it may exist.
#[derive(Debug, Serialize)]
struct Abandoned {
    index: u64,
    key: KeyId,
    payload: String,
    repository: Repository,
    role: Purpose,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
}

/// Has a stopped signing keeper follow the log that its charter names, in place of `former`. Items that are still open are
/// given up only if `abandon_open` says so. A second call changes nothing.
pub fn follow_log(
    config: &SignConfig,
    former: &Origin,
    abandon_open: bool,
    output: Option<Format>,
) -> Result<(), Fatal> {
    let charter = Charter::read(&config.charter, &config.name)?;
    if *former == charter.origin {
        let why = format!(
            "origin: it is still {former}: write the new log's origin and log_vkey into the charter first"
        );
        return Err(Fatal::Config { file: config.charter.clone(), why });
    }
    let mut told = Followed {
        keeper: config.name.to_string(),
        former: former.clone(),
        log: charter.origin.clone(),
        changed: false,
        carried: 0,
        seen: 0,
        abandoned: vec![],
    };
    if Journal::followed(&config.state)? == charter.origin {
        let (_, state) = Journal::open(&config.state, owner(&charter))?;
        told.carried = carried(&state);
        return report::print(output, &told);
    }
    let (journal, state) =
        Journal::open(&config.state, super::Owner { origin: former.clone(), ..owner(&charter) })?;
    told.abandoned = state.open.iter().map(|(index, item)| Abandoned::of(*index, item)).collect();
    if !told.abandoned.is_empty() && !abandon_open {
        let path = journal.path().to_owned();
        let (why, next) = (
            format!("the former log has not closed what this keeper reserved:\n{}", told.abandoned()),
            "start the former log once more, so that it closes them; or, if it cannot be, say --abandon-open: signatures \
             of them may exist, and their versions are never used for other content"
                .to_owned(),
        );
        return Err(Fatal::State { path, why, next });
    }
    (told.changed, told.seen) = (true, state.seen.size);
    let state = state.for_another_log();
    told.carried = carried(&state);
    journal.succeed(charter.origin, &state)?;
    report::print(output, &told)
}

fn carried(state: &State) -> u64 {
    state.chain.links().filter(|(.., link)| link.carried.is_some()).count() as u64
}

impl Abandoned {
    fn of(index: u64, item: &Open) -> Self {
        let payload = match item.digest() {
            PayloadDigest::Sha256(digest) => digest.to_string(),
            PayloadDigest::Sha384(digest) => digest.to_string(),
        };
        let Open { key, repository, role, version, .. } = item.clone();
        Self { index, key, payload, repository, role, version }
    }

    fn line(&self) -> String {
        let Self { index, key, payload, repository, role, version } = self;
        let version = version.map(|v| format!(" version {v}")).unwrap_or_default();
        format!("  intent {index}: {role}{version} of {repository}, payload {payload}, key {key}\n")
    }
}

impl Followed {
    fn abandoned(&self) -> String {
        self.abandoned.iter().map(Abandoned::line).collect()
    }
}

impl Document for Followed {
    const SCHEMA: &'static str = "chancery.keeper.follow-log/v1";

    fn text(&self) -> String {
        let Self { keeper, former, log, carried, seen, .. } = self;
        if !self.changed {
            return format!(
                "done already: keeper {keeper} follows {log}, with {carried} versions carried over"
            );
        }
        let mut text = format!(
            "keeper {keeper} follows {log} from its first entry on, and no longer {former}, of which it had seen {seen} \
             entries; {carried} versions are carried over\n"
        );
        if !self.abandoned.is_empty() {
            text.push_str("given up, though signatures of them may exist:\n");
            text.push_str(&self.abandoned());
        }
        text
    }
}
