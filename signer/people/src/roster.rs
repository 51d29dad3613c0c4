//! The roster: who the people are, which keys are theirs, in which groups they are, and how many of whom may change it.
//!
//! It promises that a roster that parses can be followed by another one (its own quorum can be reached by PIV), that no key
//! stands in it twice and no person, group or member either. Whether it is in force, `succession` decides; whether a
//! key's attestation is good, the people decided who signed the roster: nobody reads certificates at run time.

use crate::name::Name;
use record::canonical::{self, CanonicalError};
use record::wire::Blob;
use record::{Algorithm, KeyId, PivSlot, Principal, Sha256, Spki, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most bytes of a roster: as base64 and with its signatures it still fits into one leaf of the log.
pub const MAX_ROSTER_BYTES: usize = 40 * 1024;
/// Most people; the bytes end it earlier where each has several keys.
pub const MAX_PEOPLE: usize = 100;
/// Most keys of one person.
pub const MAX_KEYS_OF_ONE: usize = 8;
/// Most groups.
pub const MAX_GROUPS: usize = 32;
/// Most principals of one person.
const MAX_PRINCIPALS: usize = 16;
/// Longest credential id of WebAuthn (CTAP 2.1).
const MAX_CREDENTIAL: usize = 1023;
/// Longest host name, and so nearly the longest origin.
const MAX_ORIGIN: usize = 300;

/// A roster in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    content: RosterContent,
    bytes: Blob,
    /// Where each key stands: number of the person, and of the key.
    places: BTreeMap<KeyId, (usize, usize)>,
}

/// What a roster says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterContent {
    /// 1 for the first; each next one is one higher.
    pub version: u64,
    /// SHA-256 of the version before; absent in the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Sha256>,
    /// The people, sorted by name; 1 to [`MAX_PEOPLE`].
    pub people: Vec<Person>,
    /// The groups, sorted by name; 1 to [`MAX_GROUPS`].
    pub groups: Vec<Group>,
    /// Who may make the next version.
    pub changes: Changes,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The name, which never means another person.
    pub name: Name,
    /// Since when they are in the roster.
    pub added: Time,
    /// Under what else they make requests, such as `token:ab12`, sorted; at most 16. They never approve what these request,
    /// nor what `person:<name>` does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<Principal>,
    /// Their keys, 1 to [`MAX_KEYS_OF_ONE`]: a second one for when the first is lost. They count as one.
    pub keys: Vec<PersonKey>,
}

/// A person's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonKey {
    /// The public half.
    pub spki: Spki,
    /// Since when it is in the roster.
    pub added: Time,
    /// How it signs.
    pub method: Method,
}

/// How a key signs, and what is kept of where it lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Method {
    /// On the PIV application of a card: P-256 or P-384.
    Piv {
        /// The device's serial number.
        serial: u32,
        /// The slot.
        slot: PivSlot,
        /// SHA-256 of the slot's attestation certificate in DER followed by that of the device (`f9`). It says that the key was
        /// made on the device and needs a touch for each signature; the people who signed the roster have read it.
        attestation: Sha256,
    },
    /// A credential of WebAuthn: P-256.
    #[serde(rename_all = "camelCase")]
    Webauthn {
        /// The relying party's id: a host name.
        rp_id: String,
        /// The page's origin, such as `https://approve.example.com`.
        origin: String,
        /// The credential's id, 1 to 1023 bytes.
        credential: Blob,
    },
}

/// People who decide together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The name, by which rules name it.
    pub name: Name,
    /// The members, sorted; people of this roster.
    pub members: Vec<Name>,
}

/// The quorum for the next version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// The group.
    pub group: Name,
    /// How many of its members, by PIV; at least 1.
    pub count: u32,
}

/// Why bytes are no roster, or no roster can be made of this.
#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    /// Over [`MAX_ROSTER_BYTES`].
    #[error("a roster of {0} bytes: the limit is {MAX_ROSTER_BYTES}")]
    TooLong(usize),
    /// Not canonical JSON of this shape.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// Something in it against its rules.
    #[error("{what}: {why}")]
    Rule {
        /// The person, group or member.
        what: String,
        /// The rule.
        why: &'static str,
    },
}

impl Roster {
    /// The roster that says this.
    pub fn new(content: RosterContent) -> Result<Self, RosterError> {
        content.check()?;
        let bytes = canonical::encode(&content)?;
        within_limit(&bytes)?;
        Ok(Self { places: content.places(), content, bytes: Blob(bytes) })
    }

    /// Reads the bytes of a roster, and nothing else.
    pub fn parse(bytes: &[u8]) -> Result<Self, RosterError> {
        within_limit(bytes)?;
        let content: RosterContent = canonical::decode(bytes)?;
        content.check()?;
        Ok(Self { places: content.places(), content, bytes: Blob(bytes.to_vec()) })
    }

    /// What it says.
    pub fn content(&self) -> &RosterContent {
        &self.content
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes.0
    }

    /// How the next version names it, and a charter the first.
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(&self.bytes.0)
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.content.version
    }

    /// The key of this id, and whose it is.
    pub fn key(&self, id: KeyId) -> Option<(&Person, &PersonKey)> {
        let (person, key) = self.places.get(&id)?;
        let person = self.content.people.get(*person)?;
        Some((person, person.keys.get(*key)?))
    }

    /// All keys, each with its person.
    pub fn keys(&self) -> impl Iterator<Item = (&Person, &PersonKey)> {
        self.content.people.iter().flat_map(|person| person.keys.iter().map(move |key| (person, key)))
    }

    /// The members of a group; none if there is no such group.
    pub fn members(&self, group: &Name) -> &[Name] {
        self.content.groups.iter().find(|g| g.name == *group).map_or(&[], |g| g.members.as_slice())
    }
}

impl Person {
    /// Whether this person makes requests as `principal`.
    pub fn is(&self, principal: &Principal) -> bool {
        principal.as_str().strip_prefix("person:") == Some(self.name.as_str())
            || self.principals.contains(principal)
    }
}

fn within_limit(bytes: &[u8]) -> Result<(), RosterError> {
    if bytes.len() <= MAX_ROSTER_BYTES { Ok(()) } else { Err(RosterError::TooLong(bytes.len())) }
}

fn need(fits: bool, what: impl ToString, why: &'static str) -> Result<(), RosterError> {
    if fits { Ok(()) } else { Err(RosterError::Rule { what: what.to_string(), why }) }
}

impl RosterContent {
    fn places(&self) -> BTreeMap<KeyId, (usize, usize)> {
        let of_person = |(number, person): (usize, &Person)| {
            let ids = person.keys.iter().map(|key| key.spki.id()).enumerate();
            ids.map(|(key, id)| (id, (number, key))).collect::<Vec<_>>()
        };
        self.people.iter().enumerate().flat_map(of_person).collect()
    }

    fn check(&self) -> Result<(), RosterError> {
        need(self.version >= 1, "version", "counts from 1")?;
        let first = self.version == 1;
        need(first == self.previous.is_none(), "previous", "stands in every version but the first")?;
        need((1..=MAX_PEOPLE).contains(&self.people.len()), "people", "1 to 100 people")?;
        need(self.people.is_sorted_by(|a, b| a.name < b.name), "people", "sorted by name, each once")?;
        self.people.iter().try_for_each(Person::check)?;
        self.no_key_or_principal_twice()?;
        need((1..=MAX_GROUPS).contains(&self.groups.len()), "groups", "1 to 32 groups")?;
        need(self.groups.is_sorted_by(|a, b| a.name < b.name), "groups", "sorted by name, each once")?;
        self.groups.iter().try_for_each(|group| self.check_group(group))?;
        self.check_changes()
    }

    fn no_key_or_principal_twice(&self) -> Result<(), RosterError> {
        let (mut keys, mut principals) = (BTreeSet::new(), BTreeSet::new());
        for person in &self.people {
            for key in &person.keys {
                need(keys.insert(key.spki.id()), &person.name, "has a key that stands in the roster twice")?;
            }
            for principal in &person.principals {
                need(principals.insert(principal), &person.name, "has a principal of another person too")?;
            }
        }
        Ok(())
    }

    fn check_group(&self, group: &Group) -> Result<(), RosterError> {
        let what = format_args!("group {}", group.name);
        need(!group.members.is_empty(), what, "has no members")?;
        need(group.members.is_sorted_by(|a, b| a < b), what, "has its members sorted, each once")?;
        let known = |name: &Name| self.people.iter().any(|person| person.name == *name);
        need(group.members.iter().all(known), what, "has a member who is not among the people")
    }

    /// A quorum that cannot be reached would end the roster.
    fn check_changes(&self) -> Result<(), RosterError> {
        let Changes { group, count } = &self.changes;
        let group = self.groups.iter().find(|g| g.name == *group);
        let by_piv = |person: &&Person| {
            let is_member = group.is_some_and(|g| g.members.contains(&person.name));
            is_member && person.keys.iter().any(|key| matches!(key.method, Method::Piv { .. }))
        };
        let able = self.people.iter().filter(by_piv).count();
        let why = "names a group of this roster, and 1 to as many as it has members with a PIV key";
        need(*count >= 1 && u64::from(*count) <= able as u64, "changes", why)
    }
}

impl Person {
    fn check(&self) -> Result<(), RosterError> {
        need((1..=MAX_KEYS_OF_ONE).contains(&self.keys.len()), &self.name, "has 1 to 8 keys")?;
        need(self.principals.len() <= MAX_PRINCIPALS, &self.name, "has at most 16 principals")?;
        need(self.principals.is_sorted_by(|a, b| a < b), &self.name, "has its principals sorted, each once")?;
        let people = self.principals.iter().any(|p| p.as_str().starts_with("person:"));
        need(!people, &self.name, "has a principal that is a person's name")?;
        self.keys.iter().try_for_each(|key| key.check(&self.name))
    }
}

impl PersonKey {
    fn check(&self, owner: &Name) -> Result<(), RosterError> {
        let algorithm = self.spki.algorithm();
        match &self.method {
            Method::Piv { .. } => {
                let fits = matches!(algorithm, Algorithm::EcdsaP256 | Algorithm::EcdsaP384);
                need(fits, owner, "has a key for PIV that is not on P-256 or P-384")
            }
            Method::Webauthn { rp_id, origin, credential } => {
                need(
                    algorithm == Algorithm::EcdsaP256,
                    owner,
                    "has a key for WebAuthn that is not on P-256",
                )?;
                let host = is_host(rp_id) && origin.len() <= MAX_ORIGIN && is_below(origin, rp_id);
                need(
                    host,
                    owner,
                    "has an origin that is no https:// address of its relying party's host or below",
                )?;
                let id = (1..=MAX_CREDENTIAL).contains(&credential.0.len());
                need(id, owner, "has a credential whose id is not 1 to 1023 bytes")
            }
        }
    }
}

fn is_host(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Whether an origin is `https://` with the host itself or one below it, and a port or none.
fn is_below(origin: &str, host: &str) -> bool {
    let Some(authority) = origin.strip_prefix("https://") else { return false };
    let (name, port) = authority.split_once(':').map_or((authority, None), |(name, port)| (name, Some(port)));
    let port_fits =
        port.is_none_or(|p| p.parse::<u16>().is_ok_and(|n| n.to_string() == p && n != 443 && n != 0));
    let below = name == host || name.strip_suffix(host).is_some_and(|front| front.ends_with('.'));
    port_fits && below && is_host(name)
}
