//! The charter: what this keeper may sign, written by the operator, read once at the start.
//!
//! ```toml
//! schema = 1
//! keeper = "signing"
//! origin = "log.example.com"
//! log_vkey = "log.example.com+3f1c9a20+AQ..."
//!
//! [[key]]
//! spki = "MFkw..."                   # base64 of the DER SubjectPublicKeyInfo
//! cka_id = "02"                      # or slot = "9c", on a YubiKey
//! touch = "never"                    # or "always": one touch, one signature. Default: never
//! purpose = "targets"                # root, targets, snapshot, timestamp
//! repositories = ["r.example/team/"] # exact names, or prefixes that end in '/'
//! approval = "none"                  # or people: see below
//! signatures_per_hour = 10000
//! max_validity_days = 1100
//! # retired = "2026-11-24T10:20:30.000Z" # written by `admin key retire`: kept for the record, never signs again
//!
//! [[other_key]]                      # of another keeper: a role key in this one's roots, or a root key in its snapshots
//! spki = "MFkw..."
//! purpose = "root"
//! repositories = ["r.example/gold/"]
//! ```
//!
//! Where people have to approve, a rule of groups stands in place of `"none"`, behind the key's other members, and the first
//! roster is pinned beside the log's key:
//!
//! ```toml
//! roster_sha256 = "9f86..."          # of the bytes of the roster's version 1
//!
//! [[key]]
//! # ...
//! [[key.approval]]
//! group = "release"                  # as the roster names it
//! count = 2                          # so many different people
//! methods = ["piv"]                  # or "webauthn", or both. Default: piv
//! ```
//!
//! All of a rule's groups must approve, by different people. Only keys for roots and targets have rules: the other roles'
//! files are renewed by the service, and name nothing but files that were approved.
//!
//! A retired key is not presented and not looked for in the token, and may share its `cka_id` with the key that follows
//! it. What it signed before stays verifiable.
//!
//! It promises: the file is root's or the keeper's own and nobody else could have written it; nothing in it is
//! unknown; one key has one purpose; every error names file, key and member. It does not know whether the token has
//! the keys.

use crate::config::{self, Secrecy};
use crate::exit::Fatal;
use crate::token::{self, CkaId, KeyRef, TouchPolicy};
use people::{Need, Rule};
use record::wire::Blob;
use record::{
    Algorithm, Event, KeeperName, KeeperRecord, KeyId, KeyRecord, Leaf, LeafError, Nonce, Origin, PivSlot,
    Purpose, Repository, Sha256, Spki, Time,
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tlog::VerifierKey;

const SCHEMA: u32 = 1;
/// Most keys of one keeper: `Welcome` names them all and must stay far below a frame.
const MAX_KEYS: usize = 256;
/// Most repositories or prefixes of one key; all together must also fit into one leaf.
const MAX_REPOSITORIES: usize = 256;
/// Highest rate: what the fastest network HSMs sign in an hour, rounded up.
const MAX_RATE: u32 = 50_000_000;
/// Longest validity: ten years and leap days, what clients give their roots.
const MAX_VALIDITY_DAYS: u32 = 3_660;

/// What one key may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CharterKey {
    /// The public half.
    pub(crate) spki: Spki,
    /// Where it lies in the token.
    pub(crate) at: KeyRef,
    /// Whether each signature needs a touch.
    pub(crate) touch: TouchPolicy,
    /// The one purpose.
    pub(crate) purpose: Purpose,
    /// Exact names, or prefixes that end in '/'.
    pub(crate) repositories: Vec<String>,
    /// Who must approve what it signs; nobody if absent.
    pub(crate) rule: Option<Rule>,
    /// Most items reserved in one hour.
    pub(super) signatures_per_hour: u32,
    /// Longest time from now to an expiry.
    pub(super) max_validity_days: u32,
    /// Since when it signs nothing any more, if that is so.
    pub(crate) retired: Option<Time>,
}

impl CharterKey {
    /// Whether the key may sign for `repository`.
    pub(super) fn covers(&self, repository: &Repository) -> bool {
        self.repositories.iter().any(|prefix| repository.is_under(prefix))
    }
}

/// What is known of a key that another keeper has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OtherKey {
    spki: Spki,
    purpose: Purpose,
    repositories: Vec<String>,
}

/// A charter that was read and checked.
#[derive(Debug, Clone)]
pub(crate) struct Charter {
    /// SHA-256 of the file's bytes.
    pub(super) sha256: Sha256,
    /// The keeper it is for.
    pub(crate) keeper: KeeperName,
    /// The log it follows.
    pub(super) origin: Origin,
    /// The log's key.
    pub(super) log_vkey: VerifierKey,
    /// SHA-256 of the first roster; there is one if a key has a rule.
    pub(super) first_roster: Option<Sha256>,
    /// All public keys, retired ones too, for the builders.
    pub(super) public: formats::Keys,
    keys: BTreeMap<KeyId, CharterKey>,
    others: BTreeMap<KeyId, OtherKey>,
}

impl Charter {
    /// Reads the charter of `keeper`.
    pub(crate) fn read(path: &Path, keeper: &KeeperName) -> Result<Self, Fatal> {
        let bytes = config::read_trusted(path, Secrecy::Public)?;
        let charter = Self::parse(&bytes)
            .map_err(|e| Fatal::Config { file: path.to_owned(), why: e.to_string().trim_end().to_owned() })?;
        if charter.keeper != *keeper {
            let why = format!("keeper: is the charter of {}, this keeper is {keeper}", charter.keeper);
            return Err(Fatal::Config { file: path.to_owned(), why });
        }
        Ok(charter)
    }

    /// Parses a charter's bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CharterError> {
        let text = std::str::from_utf8(bytes).map_err(|_| CharterError::Text)?;
        let file: CharterFile = toml::from_str(text).map_err(CharterError::Toml)?;
        if file.schema != SCHEMA {
            return Err(CharterError::Schema(file.schema));
        }
        let log_vkey = log_key(&file)?;
        let keys = keys(file.key)?;
        let others = others(file.other_key, &keys)?;
        let sha256 = Sha256::of(bytes);
        let log_spki = log_vkey.spki_der();
        if keys.values().any(|key| key.spki.der() == log_spki) {
            return Err(CharterError::LogKey(
                "is a key of this charter too, and a key has one purpose".into(),
            ));
        }
        if file.roster_sha256.is_none() && keys.values().any(|key| key.rule.is_some()) {
            return Err(CharterError::NoRoster);
        }
        one_rule_a_repository(&keys)?;
        fits_into_a_leaf(&file.keeper, sha256, &keys)?;
        Ok(Self {
            sha256,
            keeper: file.keeper,
            origin: file.origin,
            log_vkey,
            first_roster: file.roster_sha256,
            public: keys.values().map(|k| &k.spki).chain(others.values().map(|k| &k.spki)).cloned().collect(),
            keys,
            others,
        })
    }

    /// The key of this id, whether or not it is retired: for what it has signed.
    pub(crate) fn key(&self, id: &KeyId) -> Option<&CharterKey> {
        self.keys.get(id)
    }

    /// The public half of the key of this id, whoever has it and whether or not it is retired, if it is for this purpose
    /// in this repository: what it signed before still counts.
    pub(super) fn role_key(&self, id: &KeyId, purpose: Purpose, repository: &Repository) -> Option<&Spki> {
        let own = self.keys.get(id).map(|k| (&k.spki, k.purpose, &k.repositories));
        let other = || self.others.get(id).map(|k| (&k.spki, k.purpose, &k.repositories));
        let (spki, is_for, repositories) = own.or_else(other)?;
        let fits = is_for == purpose && repositories.iter().any(|prefix| repository.is_under(prefix));
        fits.then_some(spki)
    }

    /// Whether the key of this id is this keeper's, and retired.
    pub(super) fn is_retired(&self, id: &KeyId) -> bool {
        self.keys.get(id).is_some_and(|key| key.retired.is_some())
    }

    /// Whether another keeper has the key of this id.
    pub(super) fn is_others(&self, id: &KeyId) -> bool {
        self.others.contains_key(id)
    }

    /// Whether this is a key of the log, this keeper or another one: such a key is nobody's who approves.
    pub(super) fn has_signing_key(&self, spki: &Spki) -> bool {
        let id = spki.id();
        spki.der() == self.log_vkey.spki_der() || self.keys.contains_key(&id) || self.others.contains_key(&id)
    }

    /// The keys that may sign.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&KeyId, &CharterKey)> {
        self.keys.iter().filter(|(_, key)| key.retired.is_none())
    }

    /// All keys, retired ones too.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&KeyId, &CharterKey)> {
        self.keys.iter()
    }
}

/// What is wrong with a charter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CharterError {
    /// Not text.
    #[error("is not UTF-8 text")]
    Text,
    /// Not TOML of this shape.
    #[error("{0}")]
    Toml(toml::de::Error),
    /// A form that this program does not know.
    #[error("schema: {0} is not known to this program, which knows {SCHEMA}")]
    Schema(u32),
    /// The log's key.
    #[error("log_vkey: {0}")]
    LogKey(String),
    /// No key, or too many.
    #[error("key: a charter has 1 to {MAX_KEYS} keys, this one has {0}")]
    KeyCount(usize),
    /// Rules, and nothing by which to count people.
    #[error(
        "roster_sha256: a key has an approval rule: pin the first roster by the SHA-256 of its bytes, as `chancery-desk roster draft` prints it"
    )]
    NoRoster,
    /// A way around a rule.
    #[error(
        "approval: two {purpose} keys have other rules and share {repository}: whoever may use the laxer one needs nobody of the other's"
    )]
    TwoRules {
        /// The keys' purpose.
        purpose: Purpose,
        /// What both may sign for.
        repository: String,
    },
    /// Its keys with their repositories are too much for the leaf in which the daemon logs them.
    #[error("key: all keys with their repositories must fit into one leaf of the log: {0}")]
    Leaf(LeafError),
    /// A member of one key.
    #[error("{table} {number}, {member}: {why}")]
    Key {
        /// `key` or `other_key`.
        table: &'static str,
        /// Counted from 1 in the order of the file.
        number: usize,
        /// The member.
        member: &'static str,
        /// What is wrong.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CharterFile {
    schema: u32,
    keeper: KeeperName,
    origin: Origin,
    log_vkey: String,
    roster_sha256: Option<Sha256>,
    #[serde(default)]
    key: Vec<KeyTable>,
    #[serde(default)]
    other_key: Vec<OtherKeyTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OtherKeyTable {
    spki: Blob,
    purpose: Purpose,
    repositories: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyTable {
    spki: Blob,
    cka_id: Option<CkaId>,
    slot: Option<PivSlot>,
    #[serde(default)]
    touch: TouchPolicy,
    purpose: Purpose,
    repositories: Vec<String>,
    approval: toml::Value,
    signatures_per_hour: u32,
    max_validity_days: u32,
    retired: Option<Time>,
}

fn log_key(file: &CharterFile) -> Result<VerifierKey, CharterError> {
    let key = VerifierKey::parse(&file.log_vkey).map_err(|e| CharterError::LogKey(e.to_string()))?;
    if key.name() == file.origin.as_str() {
        Ok(key)
    } else {
        Err(CharterError::LogKey(format!("is the key of {:?}, the origin is {}", key.name(), file.origin)))
    }
}

fn keys(tables: Vec<KeyTable>) -> Result<BTreeMap<KeyId, CharterKey>, CharterError> {
    if tables.is_empty() || tables.len() > MAX_KEYS {
        return Err(CharterError::KeyCount(tables.len()));
    }
    let mut keys = BTreeMap::new();
    let mut places = BTreeSet::new();
    for (number, table) in (1..).zip(tables) {
        let fault =
            |(member, why): (&'static str, String)| CharterError::Key { table: "key", number, member, why };
        let key = table.check().map_err(fault)?;
        if key.retired.is_none() && !places.insert(key.at.clone()) {
            return Err(fault((key.at.member(), format!("{} stands in another key too", key.at))));
        }
        if keys.insert(key.spki.id(), key).is_some() {
            return Err(fault((
                "spki",
                "stands in another key too: a key has one purpose and one rule".into(),
            )));
        }
    }
    Ok(keys)
}

/// For one repository and purpose there is one rule. A new collection could otherwise be given to the key with the laxer one.
// INVARIANT(people): no other key of this charter signs for what a rule guards.
fn one_rule_a_repository(keys: &BTreeMap<KeyId, CharterKey>) -> Result<(), CharterError> {
    let active: Vec<&CharterKey> = keys.values().filter(|key| key.retired.is_none()).collect();
    for (at, key) in active.iter().enumerate() {
        let others = active.iter().skip(at + 1).filter(|o| o.purpose == key.purpose && o.rule != key.rule);
        for other in others {
            let shared = |name: &&String| other.repositories.iter().any(|o| overlap(name, o));
            if let Some(repository) = key.repositories.iter().find(shared).cloned() {
                return Err(CharterError::TwoRules { purpose: key.purpose, repository });
            }
        }
    }
    Ok(())
}

/// Whether a repository can be under both names.
fn overlap(a: &str, b: &str) -> bool {
    let holds =
        |wide: &str, narrow: &str| wide == narrow || (wide.ends_with('/') && narrow.starts_with(wide));
    holds(a, b) || holds(b, a)
}

fn others(
    tables: Vec<OtherKeyTable>,
    own: &BTreeMap<KeyId, CharterKey>,
) -> Result<BTreeMap<KeyId, OtherKey>, CharterError> {
    if tables.len() > MAX_KEYS {
        return Err(CharterError::KeyCount(tables.len()));
    }
    let mut others = BTreeMap::new();
    for (number, OtherKeyTable { spki, purpose, repositories }) in (1..).zip(tables) {
        let fault = |member, why: String| CharterError::Key { table: "other_key", number, member, why };
        let spki = p256(&spki.0).map_err(|why| fault("spki", why))?;
        check_repositories(&repositories).map_err(|why| fault("repositories", why))?;
        let id = spki.id();
        if own.contains_key(&id) || others.insert(id, OtherKey { spki, purpose, repositories }).is_some() {
            return Err(fault("spki", "stands in another key too: a key is in one keeper".into()));
        }
    }
    Ok(others)
}

/// The daemon writes into the log what this keeper presents, and asks nothing of a keeper that the log does not know:
/// what no leaf can hold is refused here, where its writer reads it.
#[expect(clippy::expect_used, reason = "constants that fit their grammars, as long as any")]
fn fits_into_a_leaf(
    name: &KeeperName,
    charter: Sha256,
    keys: &BTreeMap<KeyId, CharterKey>,
) -> Result<(), CharterError> {
    let record = |key: &CharterKey| KeyRecord {
        spki: key.spki.clone(),
        purpose: key.purpose,
        repositories: key.repositories.clone(),
        evidence: token::longest_evidence(),
    };
    let active = keys.values().filter(|key| key.retired.is_none());
    let keeper = KeeperRecord { name: name.clone(), charter, keys: active.map(record).collect() };
    let time = Time::from_unix_ms(0).expect("a time");
    let nonce = Nonce::parse("ffffffffffffffffffffffffffffffff").expect("a nonce");
    Leaf::Event(Event::Keeper { time, nonce, keeper }).encode().map(drop).map_err(CharterError::Leaf)
}

impl KeyTable {
    fn check(self) -> Result<CharterKey, (&'static str, String)> {
        let rule = rule(self.approval, self.purpose).map_err(|why| ("approval", why))?;
        let at =
            KeyRef::from_members(self.cka_id, self.slot).map_err(|e| ("cka_id or slot", e.to_string()))?;
        check_repositories(&self.repositories).map_err(|why| ("repositories", why))?;
        let spki = p256(&self.spki.0).map_err(|why| ("spki", why))?;
        in_range(self.signatures_per_hour, MAX_RATE).map_err(|why| ("signatures_per_hour", why))?;
        in_range(self.max_validity_days, MAX_VALIDITY_DAYS).map_err(|why| ("max_validity_days", why))?;
        Ok(CharterKey {
            spki,
            at,
            touch: self.touch,
            purpose: self.purpose,
            repositories: self.repositories,
            rule,
            signatures_per_hour: self.signatures_per_hour,
            max_validity_days: self.max_validity_days,
            retired: self.retired,
        })
    }
}

/// The rule of a key: none for the word `none` and for nothing else.
// INVARIANT(people): a rule that says nothing is an error, never nobody.
fn rule(written: toml::Value, purpose: Purpose) -> Result<Option<Rule>, String> {
    let needs = match written {
        toml::Value::String(word) if word == "none" => return Ok(None),
        toml::Value::Array(tables) => {
            let need = |table: toml::Value| {
                table.try_into::<Need>().map_err(|e| e.to_string().trim_end().to_owned())
            };
            tables.into_iter().map(need).collect::<Result<Vec<Need>, String>>()?
        }
        other => {
            return Err(format!(
                "is \"none\", or tables [[key.approval]] with group, count and methods; not {other}"
            ));
        }
    };
    if !matches!(purpose, Purpose::Root | Purpose::Targets) {
        return Err(format!(
            "a {purpose} key has no rule: its files are renewed without people, and name nothing but files that were approved"
        ));
    }
    Rule::new(needs).map(Some).map_err(|e| e.to_string())
}

/// The roles of image trust are on P-256; a token may hold keys of other kinds beside them.
fn p256(der: &[u8]) -> Result<Spki, String> {
    let spki = Spki::from_der(der).map_err(|error| error.to_string())?;
    match spki.algorithm() {
        Algorithm::EcdsaP256 => Ok(spki),
        other => Err(format!(
            "is a key of type {other}, and this role is signed with p256 keys only: generate one with --type p256"
        )),
    }
}

fn check_repositories(names: &[String]) -> Result<(), String> {
    if names.is_empty() || names.len() > MAX_REPOSITORIES {
        return Err(format!("names 1 to {MAX_REPOSITORIES} repositories, here are {}", names.len()));
    }
    names.iter().try_for_each(|name| {
        // A prefix is right when a name below it is.
        let below = if name.ends_with('/') { format!("{name}x") } else { name.clone() };
        Repository::parse(&below)
            .map(drop)
            .map_err(|e| format!("{name:?} is no repository, and no prefix that ends in '/': {e}"))
    })
}

fn in_range(value: u32, most: u32) -> Result<(), String> {
    if (1..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!("is a number from 1 to {most}, not {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::software::Software;
    use super::*;

    fn why(text: &str) -> String {
        Charter::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_charter_reads_as_it_is_written() {
        let world = Software::new().world();
        let text = world.charter();
        let charter = Charter::parse(text.as_bytes()).unwrap();
        assert_eq!(charter.sha256, Sha256::of(text.as_bytes()));
        assert_eq!(charter.keys().count(), 4);
        let targets = charter.key(&world.spki[&Purpose::Targets].id()).unwrap();
        assert_eq!((targets.purpose, targets.max_validity_days), (Purpose::Targets, 1100));
        assert!(targets.covers(&Repository::parse("r.example/team/app").unwrap()));
        assert!(!targets.covers(&Repository::parse("r.example/teams").unwrap()));
    }

    #[test]
    fn a_retired_key_is_known_and_not_presented_and_its_place_in_the_token_is_free() {
        let world = Software::new().world();
        let good = world.charter();
        let retired = good.replacen(
            "cka_id = \"02\"\n",
            "cka_id = \"01\"\nretired = \"2026-11-24T10:20:30.000Z\"\n",
            1,
        );
        let charter = Charter::parse(retired.as_bytes()).unwrap();
        assert_eq!((charter.keys().count(), charter.all().count()), (3, 4));
        let key = charter.all().find(|(_, key)| key.retired.is_some()).unwrap();
        assert!(charter.key(key.0).is_some() && charter.keys().all(|(id, _)| id != key.0));
        assert!(why(&retired.replace("2026-11-24T10:20:30.000Z", "yesterday")).contains("retired"));
    }

    #[test]
    fn each_error_names_the_key_and_the_member() {
        let world = Software::new().world();
        let good = world.charter();
        let spki = |purpose| serde_json::to_string(&world.spki[&purpose]).unwrap();
        for (from, to, expected) in [
            ("schema = 1", "schema = 2", "schema: 2"),
            ("keeper = ", "unknown = 1\nkeeper = ", "unknown"),
            ("origin = \"log", "origin = \"other", "log_vkey: is the key of"),
            ("approval = \"none\"", "approval = \"quorum\"", "key 1, approval"),
            ("\"r.example/team/\"", "\"r.example/team*\"", "key 1, repositories"),
            ("\"r.example/team/\"", "\"r.example\"", "key 1, repositories"),
            ("[\"r.example/team/\"]", "[]", "key 1, repositories"),
            ("signatures_per_hour = 10000", "signatures_per_hour = 0", "key 1, signatures_per_hour"),
            ("max_validity_days = 1100", "max_validity_days = 36500", "key 1, max_validity_days"),
            ("cka_id = \"02\"", "cka_id = \"01\"", "key 2, cka_id"),
            (spki(Purpose::Root).as_str(), spki(Purpose::Targets).as_str(), "key 2, spki"),
            ("purpose = \"root\"", "purpose = \"image\"", "purpose"),
            ("cka_id = \"01\"", "cka_id = \"zz\"", "cka_id"),
            ("cka_id = \"01\"", "", "key 1, cka_id or slot"),
            ("cka_id = \"01\"", "cka_id = \"01\"\nslot = \"9c\"", "key 1, cka_id or slot"),
            ("cka_id = \"01\"", "slot = \"f9\"", "PIV slot"),
            ("cka_id = \"01\"", "cka_id = \"01\"\ntouch = \"cached\"", "touch"),
        ] {
            assert!(good.contains(from), "{from}");
            let error = why(&good.replacen(from, to, 1));
            assert!(error.contains(expected), "{expected}: {error}");
        }
        for (other, expected) in [
            (
                format!(
                    "spki = {}\npurpose = \"root\"\nrepositories = [\"a.example/b/\"]",
                    spki(Purpose::Root)
                ),
                "spki",
            ),
            ("spki = \"\"\npurpose = \"root\"\nrepositories = []".into(), "spki"),
        ] {
            let error = why(&format!("{good}\n[[other_key]]\n{other}\n"));
            assert!(error.contains(expected), "{error}");
        }
        assert!(why(good.split("[[key]]").next().unwrap()).contains("1 to 256 keys"));
    }

    /// The charter of a world whose targets key has this rule; the other keys have none.
    fn guarded(rule: &str) -> String {
        let mut world = Software::new().world();
        world.first_roster = Some(Sha256::of(b"a roster"));
        world.rules = [(Purpose::Targets, rule.to_owned())].into();
        world.charter()
    }

    const TWO: &str = "[[key.approval]]\ngroup = \"release\"\ncount = 2\n";

    #[test]
    fn a_rule_reads_as_it_is_written_and_asks_for_piv_unless_it_says_more() {
        let more = "[[key.approval]]\ngroup = \"security\"\ncount = 1\nmethods = [\"piv\", \"webauthn\"]\n";
        let charter = Charter::parse(guarded(&format!("{TWO}{more}")).as_bytes()).unwrap();
        let rules: Vec<_> = charter.keys().filter_map(|(_, key)| key.rule.as_ref()).collect();
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0].to_string(), "2 of release by piv, 1 of security by piv or webauthn");
    }

    /// INVARIANT(people)
    #[test]
    fn a_rule_that_asks_for_nobody_is_an_error_and_never_nobody() {
        let good = guarded(TWO);
        assert!(Charter::parse(good.as_bytes()).is_ok());
        let pin = good.lines().find(|line| line.starts_with("roster_sha256")).unwrap();
        let inline = |approval: &str| {
            let none = "approval = \"none\"\nsignatures_per_hour";
            Software::new().world().charter().replacen(
                none,
                &format!("approval = {approval}\nsignatures_per_hour"),
                1,
            )
        };
        for (text, expected) in [
            (
                good.replace("count = 2", "count = 0"),
                "key 2, approval: count of group release is 1 to 16, not 0",
            ),
            (good.replace("count = 2", "count = 17"), "count of group release"),
            (good.replace("count = 2", "count = -1"), "key 2, approval"),
            (good.replace("count = 2\n", ""), "missing field `count`"),
            (good.replace("group = \"release\"\n", ""), "missing field `group`"),
            (good.replace("count = 2", "count = 2\nmethods = []"), "methods of group release"),
            (good.replace("count = 2", "count = 2\nmethods = [\"sms\"]"), "sms"),
            (good.replace("count = 2", "count = 2\nany = true"), "any"),
            (good.replace("\"release\"", "\"Release\""), "1 to 64 of a-z"),
            (guarded(&format!("{TWO}{TWO}")), "stands in the rule twice"),
            (good.replace(pin, ""), "roster_sha256: a key has an approval rule"),
            (good.replace(pin, "roster_sha256 = \"\""), "64 lower-case hex"),
            (inline("[]"), "key 1, approval: a rule names 1 to 8 groups, this one names 0"),
            (inline("\"\""), "key 1, approval: is \"none\", or tables"),
            (inline("\"None\""), "is \"none\", or tables"),
            (inline("false"), "is \"none\", or tables"),
            (inline("0"), "is \"none\", or tables"),
            (inline("{}"), "is \"none\", or tables"),
            (Software::new().world().charter().replacen("approval = \"none\"\n", "", 1), "approval"),
        ] {
            let error = why(&text);
            assert!(error.contains(expected), "{expected}: {error}");
        }
        for purpose in [Purpose::Snapshot, Purpose::Timestamp] {
            let mut world = Software::new().world();
            (world.first_roster, world.rules) = (Some(Sha256::of(b"x")), [(purpose, TWO.to_owned())].into());
            assert!(why(&world.charter()).contains("has no rule"), "{purpose}");
        }
    }

    /// INVARIANT(people)
    #[test]
    fn no_two_keys_of_one_purpose_and_repository_have_other_rules() {
        let good = guarded(TWO);
        let other = p256::ecdsa::SigningKey::from_slice(&[78; 32]).unwrap();
        let other = Spki::from_sec1(other.verifying_key().to_sec1_point(false).as_bytes()).unwrap();
        let with = |repository: &str, approval: &str, more: &str| {
            format!(
                "{good}\n[[key]]\nspki = {}\ncka_id = \"09\"\npurpose = \"targets\"\nrepositories = [\"{repository}\"]\n{approval}\
                 signatures_per_hour = 1\nmax_validity_days = 1\n{more}",
                serde_json::to_string(&other).unwrap()
            )
        };
        let none = "approval = \"none\"\n";
        for shared in ["r.example/team/", "r.example/team/app", "r.example/"] {
            assert!(why(&with(shared, none, "")).contains("two targets keys have other rules"), "{shared}");
            assert!(Charter::parse(with(shared, "", TWO).as_bytes()).is_ok(), "{shared}: the same rule");
        }
        assert!(Charter::parse(with("r.example/other/", none, "").as_bytes()).is_ok());
        let retired = with("r.example/team/", none, "retired = \"2026-11-24T10:20:30.000Z\"\n");
        assert!(Charter::parse(retired.as_bytes()).is_ok(), "it signs nothing");
    }

    #[test]
    fn the_logs_key_is_no_key_of_a_charter() {
        let world = Software::new().world();
        let good = world.charter();
        let origin = Charter::parse(good.as_bytes()).unwrap().origin.to_string();
        let log_vkey = good.lines().find(|line| line.starts_with("log_vkey")).unwrap();
        for (purpose, refused) in [(Some(Purpose::Targets), true), (None, false)] {
            let key = p256::ecdsa::SigningKey::from_slice(&[77; 32]).unwrap();
            let other = Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap();
            let spki = purpose.map_or(&other, |purpose| &world.spki[&purpose]);
            let vkey = VerifierKey::new_p256(origin.as_str(), spki.der()).unwrap();
            let text = good.replace(log_vkey, &format!("log_vkey = \"{vkey}\""));
            let parsed = Charter::parse(text.as_bytes());
            assert_eq!(parsed.is_err(), refused, "{:?}", parsed.err().map(|e| e.to_string()));
        }
    }

    #[test]
    fn a_key_that_is_not_on_p256_is_refused_by_its_kind() {
        let world = Software::new().world();
        let targets = serde_json::to_string(&world.spki[&Purpose::Targets]).unwrap();
        for (spki, expected) in [
            (P384, "key 2, spki: is a key of type p384, and this role is signed with p256 keys only"),
            (RSA, "key 2, spki: is a key of type rsa2048"),
            ("AAAA", "key 2, spki: not a SubjectPublicKeyInfo"),
        ] {
            let error = why(&world.charter().replacen(&targets, &format!("{spki:?}"), 1));
            assert!(error.contains(expected), "{error}");
        }
    }

    const P384: &str = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAElzW/DXzwOWuB0wbLEbZ+tMA0FJ0s+pkVS4SViBSQH1gkqUKofkMHyhX2gbSjHVWrGSToSAim/Zjg1yBEtIdn3hqYqQC5NkCZ3lpQ7UMnP9/c0Abm+szUvp1Cphi3QcWV";
    const RSA: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEArff5+csOJMKdFxfSpkaCsPTd61LlsxZLCcIFKLFq331br7FEhZMf2Lh4Jls0tYnLFAleS/sqYaX1gmQaPTXaYtSaRXypMj9QHdLr/nMKiSalymkrKpmiza3pPk16c40T9BI4HuO0Zr+C7EeY0EMGH6Ly8BGACHCX5LidsqD/hQjKANKuTxSOe9B7ugsn9tXTTS6TcX2fii5i+zAgVOmvOGiuohJlxxTxVCqciav2RNmWTKfTz/kq8+wp/myeooSknRyTXneP4nRA1X99WWnjJu8JWfF75ZHIPv+Efs63Ch9cqsS2FRQXXvOlW6/UsC1BVmxG+d5mm2OSLQgWIU5+6QIDAQAB";

    #[test]
    fn a_charter_that_no_leaf_of_the_log_can_hold_is_refused() {
        let good = Software::new().world().charter();
        let with = |count: usize| {
            let names: Vec<String> =
                (0..count).map(|n| format!("\"r.example/{}/{n:03}\"", "x".repeat(200))).collect();
            good.replacen("[\"r.example/team/\"]", &format!("[{}]", names.join(",")), 1).replacen(
                "[\"r.example/team/\"]",
                &format!("[{}]", names.join(",")),
                1,
            )
        };
        assert!(Charter::parse(with(100).as_bytes()).is_ok());
        assert!(why(&with(200)).contains("must fit into one leaf of the log"));
    }

    #[test]
    fn a_charter_that_others_could_have_written_or_of_another_keeper_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("charter.toml");
        std::fs::write(&path, Software::new().world().charter()).unwrap();
        let read = |name: &str| Charter::read(&path, &KeeperName::parse(name).unwrap());
        assert!(read("signing").is_ok());
        assert_eq!(read("other").unwrap_err().code(), 78);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(read("signing").unwrap_err().code(), 78);
    }
}
