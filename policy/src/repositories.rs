//! The operator's data, `repositories.toml`: which repositories are served, with which options, and who signs for them.
//!
//! Promises: a name is a repository by the grammar of `record`, or such a name's beginning up to a '/'; no name stands
//! twice; a key that is not known is refused, with the nearest one that is. It does not know what the options decide.

use crate::{
    nearest,
    validity::{RawValidity, Validity, ValidityError},
};
use record::{GrammarError, Principal, Repository, TokenId};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most `[[repository]]` entries: prefixes exist so that nobody needs to list every image.
pub const MAX_REPOSITORIES: usize = 10_000;
/// Most `[[team]]` entries.
pub const MAX_TEAMS: usize = 1_000;
/// Most members of one team.
pub const MAX_MEMBERS: usize = 1_000;
/// Most teams that sign for one repository: they are all named in a denial.
pub const MAX_SIGNERS: usize = 32;
/// Most media types of one repository: they are all named in a denial.
pub const MAX_MEDIA_TYPES: usize = 32;

/// The version of the file's shape that this program reads.
const SCHEMA: i64 = 1;

/// What an image is unless the operator says otherwise: manifest and index, by OCI and by Docker.
const IMAGE_MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// The options of one entry. An entry stands for itself: nothing is inherited from a shorter prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryRules {
    /// The entry's name: a repository, or a prefix that ends in '/'.
    pub name: String,
    /// Whether a tag that is signed for one digest can never be signed for another.
    pub immutable_tags: bool,
    /// Whether the first request to sign also makes the collection.
    pub create_on_first_sign: bool,
    /// Media types of manifests that may be signed; never empty.
    pub media_types: Vec<String>,
    /// Whether nothing may be signed or created for now.
    pub frozen: bool,
    /// Teams whose members may sign, sorted; empty: every token whose scope covers the repository.
    pub signers: Vec<String>,
    /// How long what is signed stays valid.
    pub validity: Validity,
}

/// Why `repositories.toml` is refused.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Not TOML, or a value of the wrong type; the source names line and column.
    #[error("repositories.toml is not TOML of this file's shape")]
    Toml(#[source] Box<toml::de::Error>),
    /// Another version of the file's shape.
    #[error("repositories.toml: schema = {0} is not known to this program; write schema = 1")]
    Schema(i64),
    /// A key that has no meaning.
    #[error("repositories.toml: {place}: unknown key {key:?}{hint}")]
    UnknownKey {
        /// Where it stands.
        place: String,
        /// What was written.
        key: String,
        /// The nearest known key, if one is near.
        hint: String,
    },
    /// A repository or prefix by no grammar.
    #[error("repositories.toml: no name of a repository, nor a prefix of names that ends in '/'")]
    Name(#[source] GrammarError),
    /// Two entries of one name.
    #[error(
        "repositories.toml: {what} {name:?} stands there twice: which one counts would be a guess; remove one"
    )]
    Duplicate {
        /// `repository`, `team`, `member`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A value outside its grammar.
    #[error("repositories.toml: {place}: {value:?} {why}")]
    Value {
        /// Where it stands.
        place: String,
        /// What was written.
        value: String,
        /// What is accepted.
        why: &'static str,
    },
    /// A repository names a team that the file does not define.
    #[error("repositories.toml: repository {repository:?}: no team is named {team:?}{hint}")]
    UnknownTeam {
        /// The entry.
        repository: String,
        /// What it names.
        team: String,
        /// The nearest team, if one is near.
        hint: String,
    },
    /// A bad duration.
    #[error("repositories.toml: repository {repository:?}: {error}")]
    Validity {
        /// The entry.
        repository: String,
        /// What is wrong.
        error: ValidityError,
    },
    /// More than a limit allows.
    #[error("repositories.toml: {place}: {found} {what}, the limit is {limit}")]
    TooMany {
        /// Where.
        place: String,
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// All entries, ready to be looked up.
#[derive(Debug)]
pub(crate) struct Repositories {
    entries: HashMap<String, RepositoryRules>,
    teams: BTreeSet<String>,
    /// Principal to the teams it is in.
    memberships: HashMap<String, Vec<String>>,
}

impl Repositories {
    pub(crate) fn parse(text: &str) -> Result<Self, DataError> {
        check_keys(text)?;
        let raw: RawFile = toml::from_str(text).map_err(|e| DataError::Toml(Box::new(e)))?;
        if raw.schema != SCHEMA {
            return Err(DataError::Schema(raw.schema));
        }
        limit("the file", "repositories", raw.repository.len(), MAX_REPOSITORIES)?;
        limit("the file", "teams", raw.team.len(), MAX_TEAMS)?;
        let teams = check_teams(raw.team)?;
        let mut entries = HashMap::new();
        for repository in raw.repository {
            let rules = repository.check(&teams)?;
            if let Some(twice) = entries.insert(rules.name.clone(), rules) {
                return Err(DataError::Duplicate { what: "repository", name: twice.name });
            }
        }
        Ok(Self { entries, memberships: memberships(&teams), teams: teams.into_keys().collect() })
    }

    /// The entry of exactly this name, else the one with the longest prefix.
    pub(crate) fn entry(&self, repository: &Repository) -> Option<&RepositoryRules> {
        let name = repository.as_str();
        let prefixes = prefixes(name).rev();
        std::iter::once(name).chain(prefixes).find_map(|key| self.entries.get(key))
    }

    /// The teams that this principal is in, sorted.
    pub(crate) fn teams_of(&self, principal: &Principal) -> &[String] {
        self.memberships.get(principal.as_str()).map_or(&[], Vec::as_slice)
    }

    /// The names of all teams.
    pub(crate) fn teams(&self) -> &BTreeSet<String> {
        &self.teams
    }
}

/// Every prefix of a name that ends in '/', shortest first.
pub(crate) fn prefixes(name: &str) -> impl DoubleEndedIterator<Item = &str> {
    name.match_indices('/').filter_map(|(at, _)| name.get(..=at))
}

type Teams = BTreeMap<String, BTreeSet<String>>;

fn memberships(teams: &Teams) -> HashMap<String, Vec<String>> {
    let mut of: HashMap<String, Vec<String>> = HashMap::new();
    for (team, members) in teams {
        for member in members {
            of.entry(member.clone()).or_default().push(team.clone());
        }
    }
    of
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    schema: i64,
    #[serde(default)]
    repository: Vec<RawRepository>,
    #[serde(default)]
    team: Vec<RawTeam>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRepository {
    name: String,
    #[serde(default)]
    immutable_tags: bool,
    #[serde(default)]
    create_on_first_sign: bool,
    media_types: Option<Vec<String>>,
    #[serde(default)]
    frozen: bool,
    #[serde(default)]
    signers: Vec<String>,
    #[serde(default)]
    validity: RawValidity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTeam {
    name: String,
    members: Vec<String>,
}

const FILE_KEYS: [&str; 3] = ["schema", "repository", "team"];
const REPOSITORY_KEYS: [&str; 7] =
    ["name", "immutable_tags", "create_on_first_sign", "media_types", "frozen", "signers", "validity"];
const TEAM_KEYS: [&str; 2] = ["name", "members"];

/// Finds unknown keys before serde does, to say which known key is near. Wrong types are left to serde.
fn check_keys(text: &str) -> Result<(), DataError> {
    let file: toml::Table = toml::from_str(text).map_err(|e| DataError::Toml(Box::new(e)))?;
    known_keys(&file, "the file", &FILE_KEYS)?;
    for (place, entry) in entries_of(&file, "repository") {
        known_keys(entry, &place, &REPOSITORY_KEYS)?;
        if let Some(validity) = entry.get("validity").and_then(toml::Value::as_table) {
            known_keys(validity, &format!("{place}, validity"), &RawValidity::KEYS)?;
        }
    }
    entries_of(&file, "team").try_for_each(|(place, entry)| known_keys(entry, &place, &TEAM_KEYS))
}

fn entries_of<'a>(file: &'a toml::Table, kind: &'a str) -> impl Iterator<Item = (String, &'a toml::Table)> {
    let list = file.get(kind).and_then(toml::Value::as_array).map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(toml::Value::as_table).enumerate().map(move |(index, entry)| {
        let name = entry.get("name").and_then(toml::Value::as_str).unwrap_or("without a name");
        (format!("{kind} number {} ({name})", index + 1), entry)
    })
}

fn known_keys(table: &toml::Table, place: &str, known: &[&str]) -> Result<(), DataError> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(DataError::UnknownKey {
            place: place.to_owned(),
            key: key.clone(),
            hint: nearest::hint(key, known.iter().copied()),
        }),
    }
}

impl RawRepository {
    fn check(self, teams: &Teams) -> Result<RepositoryRules, DataError> {
        check_name(&self.name)?;
        let validity = self.validity.check();
        Ok(RepositoryRules {
            signers: check_signers(&self.name, self.signers, teams)?,
            media_types: check_media_types(&self.name, self.media_types)?,
            validity: validity
                .map_err(|error| DataError::Validity { repository: self.name.clone(), error })?,
            immutable_tags: self.immutable_tags,
            create_on_first_sign: self.create_on_first_sign,
            frozen: self.frozen,
            name: self.name,
        })
    }
}

/// A prefix is valid if a repository could begin with it; so there is none that covers every registry.
fn check_name(name: &str) -> Result<(), DataError> {
    let example = if name.ends_with('/') { format!("{name}x") } else { name.to_owned() };
    Repository::parse(&example).map(|_| ()).map_err(DataError::Name)
}

fn check_signers(repository: &str, signers: Vec<String>, teams: &Teams) -> Result<Vec<String>, DataError> {
    limit(repository, "signers", signers.len(), MAX_SIGNERS)?;
    if let Some(team) = signers.iter().find(|team| !teams.contains_key(*team)) {
        return Err(DataError::UnknownTeam {
            repository: repository.to_owned(),
            team: team.clone(),
            hint: nearest::hint(team, teams.keys().map(String::as_str)),
        });
    }
    Ok(unique("signer", signers)?.into_iter().collect())
}

fn check_media_types(repository: &str, given: Option<Vec<String>>) -> Result<Vec<String>, DataError> {
    let Some(given) = given else { return Ok(IMAGE_MEDIA_TYPES.map(str::to_owned).to_vec()) };
    let place = || format!("repository {repository:?}, media_types");
    limit(repository, "media types", given.len(), MAX_MEDIA_TYPES)?;
    if given.is_empty() {
        let why = "is empty: nothing could be signed; write frozen = true if that is what you want";
        return Err(DataError::Value { place: place(), value: String::new(), why });
    }
    if let Some(bad) = given.iter().find(|text| !is_media_type(text)) {
        let why = "is no media type: write type/subtype in lower case, without parameters";
        return Err(DataError::Value { place: place(), value: bad.clone(), why });
    }
    Ok(unique("media type", given)?.into_iter().collect())
}

/// RFC 6838, section 4.2, in the lower-case spelling that registries use: at most 127 characters on each side.
fn is_media_type(text: &str) -> bool {
    let name = |part: &str| {
        part.len() <= 127
            && part.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$&-^_.+".contains(&b))
    };
    text.split_once('/').is_some_and(|(kind, subtype)| name(kind) && name(subtype))
}

fn check_teams(raw: Vec<RawTeam>) -> Result<Teams, DataError> {
    let mut teams = Teams::new();
    for RawTeam { name, members } in raw {
        if !is_team_name(&name) {
            let why = "is no name of a team: write 1 to 64 of a-z 0-9 and '-'";
            return Err(DataError::Value { place: "team".to_owned(), value: name, why });
        }
        limit(&format!("team {name:?}"), "members", members.len(), MAX_MEMBERS)?;
        if let Some(bad) = members.iter().find(|member| !is_token(member)) {
            let why = "is no token: members are written token:<id>";
            return Err(DataError::Value { place: format!("team {name:?}"), value: bad.clone(), why });
        }
        if teams.insert(name.clone(), unique("member", members)?).is_some() {
            return Err(DataError::Duplicate { what: "team", name });
        }
    }
    Ok(teams)
}

fn is_team_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

pub(crate) fn is_token(principal: &str) -> bool {
    principal.strip_prefix("token:").is_some_and(|id| TokenId::parse(id).is_ok())
}

fn unique(what: &'static str, names: Vec<String>) -> Result<BTreeSet<String>, DataError> {
    let mut set = BTreeSet::new();
    for name in names {
        if let Some(name) = set.replace(name) {
            return Err(DataError::Duplicate { what, name });
        }
    }
    Ok(set)
}

fn limit(place: &str, what: &'static str, found: usize, limit: usize) -> Result<(), DataError> {
    if found <= limit {
        return Ok(());
    }
    Err(DataError::TooMany { place: place.to_owned(), what, found, limit })
}
