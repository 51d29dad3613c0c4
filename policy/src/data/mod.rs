//! The operator's data, `repositories.toml`: which repositories are served, with which options, and who signs for them.
//!
//! Promises: a name is a repository by the grammar of `record`, or such a name's beginning up to a '/'; no name stands
//! twice; what an entry names is defined; a key that is not known is refused, with the nearest one that is. It does not
//! know what the options decide.

mod calendar;
mod check;
mod error;
mod exemption;
mod keys;
mod quorum;
mod repository;
mod signing_key;
mod team;
mod validity;
mod workload;

pub(crate) use calendar::weekday_and_minute;
pub use calendar::{Freeze, OfficeHours};
pub use error::DataError;
pub use exemption::Exemption;
pub use quorum::{Group, Quorum};
pub use repository::{MAX_MEDIA_TYPES, Rate, RepositoryRules, Require};
pub use signing_key::KeyRules;
pub use team::MAX_MEMBERS;
pub(crate) use team::Teams;
pub use validity::{Validity, ValidityError};
pub use workload::WorkloadRules;
pub(crate) use workload::{Conditions, best};

use record::{KeyId, Principal, Repository, Time};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// Most `[[repository]]` entries: prefixes exist so that nobody needs to list every image.
pub const MAX_REPOSITORIES: usize = 10_000;
/// Most `[[team]]` entries.
pub const MAX_TEAMS: usize = 1_000;
/// Most `[[workload]]` entries.
pub const MAX_WORKLOADS: usize = 10_000;
/// Most `[[key]]` entries, `[[freeze]]` windows and `[[exemption]]`s: each kind is walked or looked through at a decision.
pub const MAX_FEW: usize = 1_000;

/// The version of the file's shape that this program reads.
const SCHEMA: i64 = 1;

/// All entries, ready to be looked up.
#[derive(Debug)]
pub(crate) struct Data {
    entries: HashMap<String, RepositoryRules>,
    teams: Teams,
    /// Principal to the teams it is in.
    memberships: HashMap<String, Vec<String>>,
    workloads: BTreeMap<String, WorkloadRules>,
    keys: BTreeMap<String, KeyRules>,
    freezes: Vec<Freeze>,
    exemptions: Vec<Exemption>,
}

impl Data {
    pub(crate) fn parse(text: &str) -> Result<Self, DataError> {
        keys::check(text)?;
        let raw: RawFile = toml::from_str(text).map_err(|e| DataError::Toml(Box::new(e)))?;
        if raw.schema != SCHEMA {
            return Err(DataError::Schema(raw.schema));
        }
        let many = [
            ("repositories", raw.repository.len(), MAX_REPOSITORIES),
            ("teams", raw.team.len(), MAX_TEAMS),
            ("workloads", raw.workload.len(), MAX_WORKLOADS),
            ("keys", raw.key.len(), MAX_FEW),
            ("freeze windows", raw.freeze.len(), MAX_FEW),
            ("exemptions", raw.exemption.len(), MAX_FEW),
        ];
        many.into_iter().try_for_each(|(what, found, most)| check::limit("the file", what, found, most))?;
        let teams = team::check(raw.team)?;
        let workloads =
            named("workload", raw.workload.into_iter().map(workload::RawWorkload::check), |w| &w.name)?;
        let keys = named("key", raw.key.into_iter().map(signing_key::RawKey::check), |k| &k.name)?;
        let freezes = named("freeze", raw.freeze.into_iter().map(calendar::RawFreeze::check), |f| &f.name)?;
        let exemptions = raw.exemption.into_iter().map(|e| e.check(&teams)).collect::<Result<_, _>>()?;
        let mut entries = HashMap::new();
        for repository in raw.repository {
            let rules = repository.check(&teams, &workloads, &keys)?;
            if let Some(twice) = entries.insert(rules.name.clone(), rules) {
                return Err(DataError::Duplicate { what: "repository", name: twice.name });
            }
        }
        let (memberships, freezes) = (team::memberships(&teams), freezes.into_values().collect());
        Ok(Self { entries, memberships, teams, workloads, keys, freezes, exemptions })
    }

    /// The entry of exactly this name, else the one with the longest prefix.
    pub(crate) fn entry(&self, repository: &Repository) -> Option<&RepositoryRules> {
        let name = repository.as_str();
        let prefixes = prefixes(name).rev();
        std::iter::once(name).chain(prefixes).find_map(|key| self.entries.get(key))
    }

    /// All entries, by name.
    pub(crate) fn entries(&self) -> Vec<&RepositoryRules> {
        let mut all: Vec<_> = self.entries.values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The teams that this principal is in, sorted.
    pub(crate) fn teams_of(&self, principal: &Principal) -> &[String] {
        self.memberships.get(principal.as_str()).map_or(&[], Vec::as_slice)
    }

    /// All teams with their members.
    pub(crate) fn teams(&self) -> &Teams {
        &self.teams
    }

    /// The identities of CI jobs that sign for a repository, in the order of their names.
    pub(crate) fn workloads_of(&self, rules: &RepositoryRules) -> impl Iterator<Item = &WorkloadRules> {
        rules.workloads.iter().filter_map(|name| self.workloads.get(name))
    }

    /// All identities of CI jobs.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = &WorkloadRules> {
        self.workloads.values()
    }

    /// Ids of the keys that a repository is bound to; empty: any key.
    pub(crate) fn keys_of(&self, rules: &RepositoryRules) -> impl Iterator<Item = KeyId> {
        rules.keys.iter().filter_map(|name| Some(self.keys.get(name)?.id))
    }

    /// When the operator lets a key's use end.
    pub(crate) fn key_ends(&self, id: KeyId) -> Option<Time> {
        self.keys.values().filter(|key| key.id == id).filter_map(|key| key.not_after).min()
    }

    /// All keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &KeyRules> {
        self.keys.values()
    }

    /// The freeze window that holds, the one that ends last.
    pub(crate) fn freeze(&self, repository: &Repository, now: Time) -> Option<&Freeze> {
        self.freezes.iter().filter(|freeze| freeze.holds(repository, now)).max_by_key(|freeze| freeze.until)
    }

    /// All freeze windows.
    pub(crate) fn freezes(&self) -> &[Freeze] {
        &self.freezes
    }

    /// Whether an exemption lets a rule's word not count now.
    pub(crate) fn exempts(&self, rule: &str, repository: &Repository, now: Time) -> bool {
        self.exemptions.iter().any(|exemption| exemption.holds(rule, repository, now))
    }

    /// All exemptions.
    pub(crate) fn exemptions(&self) -> &[Exemption] {
        &self.exemptions
    }
}

/// Every prefix of a name that ends in '/', shortest first.
pub(crate) fn prefixes(name: &str) -> impl DoubleEndedIterator<Item = &str> {
    name.match_indices('/').filter_map(|(at, _)| name.get(..=at))
}

fn named<T>(
    what: &'static str,
    all: impl Iterator<Item = Result<T, DataError>>,
    name: impl Fn(&T) -> &String,
) -> Result<BTreeMap<String, T>, DataError> {
    let mut map = BTreeMap::new();
    for one in all {
        let one = one?;
        if let Some(twice) = map.insert(name(&one).clone(), one) {
            return Err(DataError::Duplicate { what, name: name(&twice).clone() });
        }
    }
    Ok(map)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    schema: i64,
    #[serde(default)]
    repository: Vec<repository::RawRepository>,
    #[serde(default)]
    team: Vec<team::RawTeam>,
    #[serde(default)]
    workload: Vec<workload::RawWorkload>,
    #[serde(default)]
    key: Vec<signing_key::RawKey>,
    #[serde(default)]
    freeze: Vec<calendar::RawFreeze>,
    #[serde(default)]
    exemption: Vec<exemption::RawExemption>,
}
