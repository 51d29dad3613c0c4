//! Entries of a charter: added and retired by commands, in the text that its operator wrote.
//!
//! It promises that a charter stays what a keeper would read: the changed text is parsed as a keeper parses it before
//! it is written, every other entry is found unchanged in it, and comments stay where they are.

use super::edit::Editing;
use crate::exit::Fatal;
use crate::sign::charter::{Charter, CharterKey};
use crate::token::{CkaId, KeyRef, TouchPolicy};
use record::{Clock, KeyId, Purpose, Spki, SystemClock, Time};
use serde::Deserialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// The SPKI of the base point of P-256 (FIPS 186-4, D.1.2.3): stands for the key that is not there yet, when an entry
/// is tried before a key is generated for it.
const NO_KEY_YET: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";

/// What an operator gives to a key. All or nothing of it: a command that can do without takes an `Option` of it, which
/// is why the arguments require each other instead of being required.
#[derive(Debug, Clone, clap::Args)]
pub struct Grant {
    /// The charter that gets an entry for the key.
    #[arg(long, value_name = "FILE", required = false, requires_all = ["purpose", "repositories"])]
    pub charter: PathBuf,
    /// What the key may sign: root, targets, snapshot or timestamp.
    #[arg(long, required = false, requires = "charter")]
    pub purpose: Purpose,
    /// A repository that it may sign for, or a prefix that ends in '/'; may be given more than once.
    #[arg(long = "repository", value_name = "NAME", required = false, requires = "charter")]
    pub repositories: Vec<String>,
    /// Most signatures in one hour [default: 10000].
    #[arg(long, value_name = "N", requires = "charter")]
    pub signatures_per_hour: Option<u32>,
    /// Longest time from now to an expiry [default: what clients usually give the purpose].
    #[arg(long, value_name = "DAYS", requires = "charter")]
    pub max_validity_days: Option<u32>,
}

/// Signatures in one hour, where the operator gives no number: a busy registry's, and few enough to notice a thief.
const USUAL_RATE: u32 = 10_000;

/// What an entry says of a key besides its public half and what an operator gives it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) at: KeyRef,
    pub(super) touch: TouchPolicy,
}

impl Place {
    /// In a PKCS#11 token.
    pub(super) fn cka_id(id: &CkaId) -> Self {
        Self { at: KeyRef::CkaId(id.clone()), touch: TouchPolicy::Never }
    }

    fn lines(&self) -> String {
        let touch = match self.touch {
            TouchPolicy::Never => String::new(),
            wanted => format!("\ntouch = \"{}\"", wanted.as_str()),
        };
        format!("{} = \"{}\"{touch}", self.at.member(), self.at)
    }
}

impl Grant {
    /// The entry of the key in this place.
    fn entry(&self, spki: &str, place: &Place, remark: &str) -> String {
        let days = self.max_validity_days.unwrap_or_else(|| usual_days(self.purpose));
        let repositories: Vec<String> = self.repositories.iter().map(|name| string(name)).collect();
        format!(
            "\n# {remark}\n[[key]]\nspki = {}\n{}\npurpose = \"{}\"\nrepositories = [{}]\n\
             approval = \"none\"\nsignatures_per_hour = {}\nmax_validity_days = {days}\n",
            string(spki),
            place.lines(),
            self.purpose,
            repositories.join(", "),
            self.signatures_per_hour.unwrap_or(USUAL_RATE),
        )
    }
}

/// What clients give their files at most: ten years for roots, three for targets and snapshots, a month for timestamps.
fn usual_days(purpose: Purpose) -> u32 {
    match purpose {
        Purpose::Root => 3_660,
        Purpose::Targets | Purpose::Snapshot => 1_100,
        Purpose::Timestamp => 31,
    }
}

/// A TOML basic string: JSON's escapes are a subset of TOML's.
pub(super) fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A charter that is being changed.
#[derive(Debug)]
pub(super) struct CharterText(Editing);

impl CharterText {
    pub(super) fn open(path: &Path) -> Result<Self, Fatal> {
        Editing::open(path).map(Self)
    }

    /// Whether an entry for a key in this place will fit: asked before such a key is generated.
    pub(super) fn try_entry(&self, grant: &Grant, place: &Place) -> Result<(), Fatal> {
        self.with(&grant.entry(NO_KEY_YET, place, "")).map(drop)
    }

    /// Whether it has this very entry, but for its limits: a command that was interrupted has written it.
    pub(super) fn has(&self, grant: &Grant, place: &Place, spki: &Spki) -> bool {
        let charter = Charter::parse(self.0.text().as_bytes());
        charter.ok().and_then(|charter| charter.key(&spki.id()).cloned()).is_some_and(|key| {
            let same_place = key.at == place.at && key.touch == place.touch && key.retired.is_none();
            same_place && key.purpose == grant.purpose && key.repositories == grant.repositories
        })
    }

    /// Adds the entry of a key whose proof and test signature are in order.
    pub(super) fn add(&self, grant: &Grant, place: &Place, spki: &Spki, remark: &str) -> Result<(), Fatal> {
        let encoded = serde_json::to_value(spki).ok();
        let encoded = encoded.as_ref().and_then(|v| v.as_str()).unwrap_or_default();
        self.0.replace(&self.with(&grant.entry(encoded, place, remark))?)
    }

    /// Marks the entry of a key as retired; when it is so already, says since when.
    pub(super) fn retire(&self, id: &KeyId) -> Result<Retirement, Fatal> {
        let charter = self.parse(self.0.text())?;
        let Some(key) = charter.key(id) else {
            return Err(self.wrong(format!(
                "has no key {id}: `chancery-keeper admin key list --charter FILE` shows those that it has"
            )));
        };
        if let Some(since) = key.retired {
            return Ok(Retirement { key: key.clone(), since, new: false });
        }
        let since = SystemClock.now();
        let text = self.with_retired(id, since)?;
        let only_retired = self.parse(&text).ok().is_some_and(|changed| {
            let expected = |(other, key): (&KeyId, &CharterKey)| {
                let mut key = key.clone();
                key.retired = if other == id { Some(since) } else { key.retired };
                (*other, key)
            };
            charter.all().map(expected).eq(changed.all().map(|(id, key)| (*id, key.clone())))
        });
        if !only_retired {
            let line = format!("add `retired = \"{since}\"` to the entry of key {id} by hand");
            return Err(self.wrong(format!("is written in a way that this command cannot change: {line}")));
        }
        self.0.replace(&text)?;
        Ok(Retirement { key: key.clone(), since, new: true })
    }

    fn with(&self, entry: &str) -> Result<String, Fatal> {
        let mut text = self.0.text().to_owned();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(entry);
        self.parse(&text).map(drop).map_err(|error| {
            let why = match error {
                Fatal::Config { why, .. } => why,
                other => other.to_string(),
            };
            self.wrong(format!("cannot have the new entry, nothing was changed: {why}"))
        })?;
        Ok(text)
    }

    /// The text with a line more, behind the line of the key's `spki`.
    fn with_retired(&self, id: &KeyId, since: Time) -> Result<String, Fatal> {
        let text = self.0.text();
        let spkis: Spkis = toml::from_str(text).map_err(|e| self.wrong(e.to_string()))?;
        let place = spkis.key.iter().find(|p| p.spki.get_ref().id() == *id).map(|p| p.spki.span().end);
        let at = place.and_then(|end| text.get(end..)?.find('\n').map(|n| end + n + 1));
        let (before, behind) = at.and_then(|at| text.split_at_checked(at)).unwrap_or((text, ""));
        let mut changed = before.to_owned();
        if !changed.ends_with('\n') {
            changed.push('\n');
        }
        let _infallible = writeln!(changed, "retired = \"{since}\"");
        changed.push_str(behind);
        Ok(changed)
    }

    fn parse(&self, text: &str) -> Result<Charter, Fatal> {
        Charter::parse(text.as_bytes()).map_err(|e| self.wrong(e.to_string().trim_end().to_owned()))
    }

    fn wrong(&self, why: String) -> Fatal {
        Fatal::Config { file: self.0.path().to_owned(), why }
    }
}

/// A key that signs nothing any more.
pub(super) struct Retirement {
    pub(super) key: CharterKey,
    pub(super) since: Time,
    pub(super) new: bool,
}

#[derive(Deserialize)]
struct Spkis {
    key: Vec<Located>,
}

#[derive(Deserialize)]
struct Located {
    spki: Spanned<Spki>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const HEAD: &str = "schema = 1 # the first\nkeeper = \"signing\"\norigin = \"log.example.com\"\n";

    /// A charter without keys in a file of its own.
    fn charter(more: &str) -> (tempfile::TempDir, PathBuf) {
        let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]).verifying_key();
        let vkey = tlog::VerifierKey::new_ed25519("log.example.com", key.to_bytes()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("charter.toml");
        std::fs::write(&path, format!("{HEAD}log_vkey = \"{vkey}\"\n{more}")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        (folder, path)
    }

    fn grant(charter: &Path, repository: &str) -> Grant {
        Grant {
            charter: charter.to_owned(),
            purpose: Purpose::Targets,
            repositories: vec![repository.into()],
            signatures_per_hour: Some(10),
            max_validity_days: None,
        }
    }

    fn spki(number: u8) -> Spki {
        let key = p256::ecdsa::SigningKey::from_slice(&[number; 32]).unwrap();
        Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap()
    }

    fn id(text: &str) -> Place {
        Place::cka_id(&CkaId::parse(text).unwrap())
    }

    fn read(path: &Path) -> Charter {
        Charter::parse(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn entries_are_added_behind_what_stands_there_and_doubles_are_refused_unwritten() {
        let (_folder, path) = charter("");
        let grant = grant(&path, "r.example/team/");
        let text = CharterText::open(&path).unwrap();
        text.try_entry(&grant, &id("02")).unwrap();
        text.add(&grant, &id("02"), &spki(1), "the first key").unwrap();
        drop(text);
        let before = std::fs::read_to_string(&path).unwrap();
        assert!(before.starts_with(HEAD) && before.contains("# the first key\n"));
        assert_eq!(read(&path).key(&spki(1).id()).unwrap().at.to_string(), "02");
        let text = CharterText::open(&path).unwrap();
        for (cka_id, key, named) in [("02", 2, "cka_id"), ("03", 1, "spki")] {
            let error = text.add(&grant, &id(cka_id), &spki(key), "").unwrap_err().to_string();
            assert!(error.contains(&format!("key 2, {named}")) && error.contains("charter.toml"), "{error}");
        }
        assert!(text.try_entry(&grant, &id("02")).unwrap_err().to_string().contains("cka_id"));
        let wild = Grant { repositories: vec!["r.example/*".into()], ..grant };
        assert!(text.try_entry(&wild, &id("03")).unwrap_err().to_string().contains("repositories"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    }

    #[test]
    fn the_entry_of_a_key_on_a_card_has_its_slot_and_its_touch_and_is_known_again() {
        let (_folder, path) = charter("");
        let grant = grant(&path, "r.example/team/");
        let at = KeyRef::Slot(record::PivSlot::parse("9c").unwrap());
        let place = Place { at: at.clone(), touch: TouchPolicy::Always };
        let text = CharterText::open(&path).unwrap();
        text.try_entry(&grant, &place).unwrap();
        assert!(!text.has(&grant, &place, &spki(1)));
        text.add(&grant, &place, &spki(1), "the card's").unwrap();
        drop(text);
        let key = read(&path).key(&spki(1).id()).unwrap().clone();
        assert_eq!((key.at, key.touch), (at, TouchPolicy::Always));
        let text = CharterText::open(&path).unwrap();
        assert!(text.has(&grant, &place, &spki(1)) && !text.has(&grant, &place, &spki(2)));
        assert!(!text.has(&grant, &Place { touch: TouchPolicy::Never, ..place.clone() }, &spki(1)));
        let other = Grant { purpose: Purpose::Root, ..grant };
        assert!(!text.has(&other, &place, &spki(1)));
        text.retire(&spki(1).id()).unwrap();
        drop(text);
        assert!(!CharterText::open(&path).unwrap().has(&other, &place, &spki(1)));
    }

    #[test]
    fn a_retired_entry_stays_and_every_other_byte_of_the_charter_too() {
        let (_folder, path) = charter("# no line end behind the last key");
        let grant = grant(&path, "r.example/team/");
        for number in 1..3 {
            let text = CharterText::open(&path).unwrap();
            text.add(&grant, &id(&format!("{number:02}")), &spki(number), "x").unwrap();
        }
        let before = std::fs::read_to_string(&path).unwrap();
        let first = CharterText::open(&path).unwrap().retire(&spki(1).id()).unwrap();
        assert!(first.new);
        let line = format!("retired = \"{}\"\n", first.since);
        assert_eq!(std::fs::read_to_string(&path).unwrap().replace(&line, ""), before);
        let charter = read(&path);
        assert_eq!((charter.keys().count(), charter.all().count()), (1, 2));
        let again = CharterText::open(&path).unwrap().retire(&spki(1).id()).unwrap();
        assert_eq!((again.new, again.since), (false, first.since));
        let unknown = CharterText::open(&path).unwrap().retire(&spki(9).id()).err().unwrap();
        assert!(unknown.to_string().contains(&spki(9).id().to_string()), "{unknown}");
    }

    #[test]
    fn a_charter_in_a_form_that_cannot_be_changed_is_left_alone_and_the_line_is_named() {
        let key = serde_json::to_string(&spki(1)).unwrap();
        let inline = format!(
            "key = [{{ spki = {key}, cka_id = \"02\", purpose = \"targets\", repositories = [\"r.example/a\"], \
             approval = \"none\", signatures_per_hour = 1, max_validity_days = 1 }}]\n"
        );
        let (_folder, path) = charter(&inline);
        let before = std::fs::read(&path).unwrap();
        let error = CharterText::open(&path).unwrap().retire(&spki(1).id()).err().unwrap().to_string();
        assert!(error.contains("by hand") && error.contains("retired = "), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
