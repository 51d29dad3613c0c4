//! What a token says of its keys: all of them, one, and one as evidence for somebody else.

use super::super::report::{Document, print};
use super::super::token::About;
use super::super::{Format, LoginArgs, shown};
use crate::config::{Secrecy, read_trusted};
use crate::exit::Fatal;
use crate::sign::charter::Charter;
use crate::token::piv::SlotFacts;
use crate::token::{CkaId, ExamineError, Found, PublicKey, examine, unusable};
use base64::{Engine, engine::general_purpose::STANDARD};
use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use cryptoki::session::Session;
use record::{Origin, PivSlot, Sha256};
use serde::Serialize;
use std::path::Path;

/// Largest PKCS#11 library that is hashed: vendors' have some ten megabytes.
const MAX_MODULE: u64 = 512 * 1024 * 1024;

/// A key as its token describes it.
#[derive(Serialize, Default)]
pub(crate) struct KeyDocument {
    /// SHA-256 of the SPKI, as the service names a P-256 key.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cka_id: Option<String>,
    /// On a YubiKey.
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<PivSlot>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    algorithm: Option<String>,
    /// Base64 of the DER `SubjectPublicKeyInfo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    spki: Option<String>,
    /// Base64 of the 32 bytes of an Ed25519 key.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vkey: Option<String>,
    /// What the card says that the key wants before it signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pin_policy: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    touch_policy: Option<&'static str>,
    /// Whether the card says that it made the key itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    generated: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    evidence: Vec<String>,
    /// Whether a keeper would use the key, as far as its attributes or its attestation go.
    usable: bool,
    /// Why no keeper would use the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// What a charter says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    granted: Option<Granted>,
}

#[derive(Serialize)]
struct Granted {
    charter: String,
    purpose: record::Purpose,
    repositories: Vec<String>,
    /// Who must approve what it signs: `none`, or the rule.
    approval: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retired: Option<String>,
}

impl KeyDocument {
    pub(super) fn of(id: &CkaId, label: Option<String>, found: &Found) -> Self {
        let evidence = found.evidence.clone();
        Self { cka_id: Some(id.to_string()), label, usable: true, evidence, ..Self::public(&found.public) }
    }

    /// A key on a YubiKey, and what a keeper would say of it.
    pub(crate) fn on_card(slot: PivSlot, facts: &SlotFacts, verdict: Result<Vec<String>, String>) -> Self {
        let (usable, evidence, refused) = match verdict {
            Ok(evidence) => (true, evidence, None),
            Err(why) => (false, vec![], Some(why)),
        };
        Self {
            slot: Some(slot),
            pin_policy: Some(facts.pin_policy()),
            touch_policy: Some(facts.touch_policy()),
            generated: Some(facts.generated),
            evidence,
            usable,
            refused,
            ..Self::public(&facts.public)
        }
    }

    /// A slot of a YubiKey with a key of which no more is known.
    pub(crate) fn refused_on_card(slot: PivSlot, why: String) -> Self {
        Self { slot: Some(slot), refused: Some(why), ..Self::default() }
    }

    fn public(public: &PublicKey) -> Self {
        let public_key = match public {
            PublicKey::Ed25519(key) => Some(STANDARD.encode(key)),
            PublicKey::P256(_) | PublicKey::P384(_) | PublicKey::Rsa(_) => None,
        };
        let der = public.spki_der();
        Self {
            algorithm: Some(public.kind().to_owned()),
            id: der.as_deref().map(|der| Sha256::of(der).to_string()),
            spki: der.map(|der| STANDARD.encode(der)),
            public_key,
            ..Self::default()
        }
    }

    /// The same with the verifier key of this log, whose key `public` becomes.
    pub(crate) fn of_log(mut self, origin: Option<&Origin>, public: &PublicKey) -> Result<Self, Fatal> {
        let Some(origin) = origin else { return Ok(self) };
        let vkey = public.verifier_key(origin.as_str()).transpose().map_err(|e| Fatal::Key {
            token: origin.to_string(),
            cka_id: self.place(),
            why: e.to_string(),
        })?;
        self.vkey = vkey.map(|vkey| vkey.to_string());
        Ok(self)
    }

    fn refused(cka_id: String, label: Option<String>, why: String) -> Self {
        Self { cka_id: Some(cka_id), label, refused: Some(why), ..Self::default() }
    }

    /// Where it lies.
    fn place(&self) -> String {
        let slot = || self.slot.map(|slot| slot.to_string());
        self.cka_id.clone().or_else(slot).unwrap_or_default()
    }

    pub(crate) fn granted(mut self, charter: Option<&(String, Charter)>) -> Self {
        let Some((file, charter)) = charter else { return self };
        let key = charter.all().find(|(id, _)| self.id.as_deref() == Some(id.to_string().as_str()));
        self.granted = key.map(|(_, key)| Granted {
            charter: file.clone(),
            purpose: key.purpose,
            repositories: key.repositories.clone(),
            approval: key.rule.as_ref().map_or_else(|| "none".into(), ToString::to_string),
            retired: key.retired.map(|since| since.to_string()),
        });
        self
    }

    /// One line of a list.
    pub(crate) fn line(&self) -> String {
        let state = match (&self.refused, &self.granted) {
            (Some(why), _) => format!("REFUSED: {why}"),
            (None, Some(Granted { retired: Some(since), .. })) => format!("retired since {since}"),
            (None, Some(granted)) => format!("{} for {}", granted.purpose, granted.repositories.join(" ")),
            (None, None) => "usable".into(),
        };
        format!(
            "{}  {:<8}  {}  {}  {state}",
            self.place(),
            self.algorithm.as_deref().unwrap_or("-"),
            self.id.as_deref().or(self.public_key.as_deref()).unwrap_or("-"),
            self.label.as_deref().unwrap_or("-")
        )
    }

    pub(crate) fn text(&self) -> String {
        let name = if self.slot.is_some() { "slot" } else { "CKA_ID" };
        let mut lines = vec![format!("{name:<14}{}", self.place())];
        let mut add = |name: &str, value: Option<&str>| {
            lines.extend(value.map(|value| format!("{name:<14}{value}")));
        };
        add("key", self.id.as_deref());
        add("label", self.label.as_deref());
        add("type", self.algorithm.as_deref());
        add("spki", self.spki.as_deref());
        add("public key", self.public_key.as_deref());
        add("vkey", self.vkey.as_deref());
        let policies = self.pin_policy.zip(self.touch_policy);
        let policies = policies.map(|(pin, touch)| format!("PIN {pin}, touch {touch}"));
        add("policies", policies.as_deref());
        add("evidence", Some(self.evidence.join(" ").as_str()).filter(|e| !e.is_empty()));
        add("REFUSED", self.refused.as_deref());
        if let Some(granted) = &self.granted {
            let what =
                format!("{}: {} for {}", granted.charter, granted.purpose, granted.repositories.join(" "));
            add("charter", Some(&what));
            add("approval", Some(&granted.approval));
            add("retired", granted.retired.as_deref());
        }
        lines.join("\n")
    }
}

/// The keys of a token.
#[derive(Serialize)]
pub(crate) struct Keys {
    pub(crate) keys: Vec<KeyDocument>,
}

impl Document for Keys {
    const SCHEMA: &'static str = "chancery.keeper.keys/v1";

    fn text(&self) -> String {
        self.keys.iter().map(KeyDocument::line).collect::<Vec<_>>().join("\n")
    }
}

impl Document for KeyDocument {
    const SCHEMA: &'static str = "chancery.keeper.key/v1";

    fn text(&self) -> String {
        self.text()
    }
}

/// Prints every private key of the token, with what was read back, or why no keeper would use it, and what a charter
/// says of it.
pub fn list(login: &LoginArgs, charter: Option<&Path>, format: Option<Format>) -> Result<(), Fatal> {
    let charter = charter.map(read_charter).transpose()?;
    let open = login.open()?;
    let keys = all_in(&open.session, login.label())?;
    print(format, &Keys { keys: keys.into_iter().map(|key| key.granted(charter.as_ref())).collect() })
}

/// Prints one key of the token.
pub fn show(
    login: &LoginArgs,
    id: &CkaId,
    charter: Option<&Path>,
    format: Option<Format>,
) -> Result<(), Fatal> {
    let charter = charter.map(read_charter).transpose()?;
    let open = login.open()?;
    print(format, &one(&open.session, login, id)?.granted(charter.as_ref()))
}

#[derive(Serialize)]
struct Evidence {
    /// What kind of evidence this is: `pkcs11-attributes` is the module's word.
    kind: &'static str,
    token: About,
    module: Module,
    key: KeyDocument,
    says: &'static str,
    does_not_prove: [&'static str; 3],
}

#[derive(Serialize)]
struct Module {
    path: String,
    sha256: Sha256,
    library: String,
}

impl Document for Evidence {
    const SCHEMA: &'static str = "chancery.keeper.key-evidence/v1";

    fn text(&self) -> String {
        format!(
            "{}\ntoken         {} {}, serial {}\nmodule        {} ({})\n              sha256:{}\nsays          {}\nnot proven    {}",
            self.key.text(),
            self.token.label,
            self.kind,
            self.token.serial,
            self.module.path,
            self.module.library,
            self.module.sha256,
            self.says,
            self.does_not_prove.join("\n              ")
        )
    }
}

/// Prints what the token and its module say of a key, and what that is worth.
pub fn attest(login: &LoginArgs, id: &CkaId, format: Option<Format>) -> Result<(), Fatal> {
    let module = &login.token.module;
    let open = login.open()?;
    let key = one(&open.session, login, id)?;
    let library = open.present.context.get_library_info().map_err(|e| login.token.broken(&e))?;
    let version = library.library_version();
    print(
        format,
        &Evidence {
            kind: "pkcs11-attributes",
            token: About::of(&open.present.info),
            module: Module {
                path: shown(module),
                sha256: hash(module)?,
                library: format!("{} {}.{}", library.library_description(), version.major(), version.minor()),
            },
            key,
            says: "this module, on this host, reports these attributes of this key",
            does_not_prove: [
                "that the key is in hardware: PKCS#11 has no attestation, and a module can report what it likes",
                "that this is the token's maker's module: compare its SHA-256 with the maker's",
                "anything to somebody who does not trust this host and who runs it: nothing here is signed",
            ],
        },
    )
}

/// Every private key of the token.
pub(crate) fn all_in(session: &Session, label: &str) -> Result<Vec<KeyDocument>, Fatal> {
    let broken = |e| unusable(label, &e);
    let objects = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).map_err(broken)?;
    let mut documents = Vec::with_capacity(objects.len());
    for object in objects {
        let read =
            session.get_attributes(object, &[AttributeType::Id, AttributeType::Label]).map_err(broken)?;
        let (id, name) = id_and_label(&read);
        documents.push(match CkaId::from_bytes(&id) {
            Err(error) => KeyDocument::refused(hex(&id), name, error.to_string()),
            Ok(id) => examined(session, label, &id, name)?,
        });
    }
    Ok(documents)
}

fn examined(session: &Session, token: &str, id: &CkaId, label: Option<String>) -> Result<KeyDocument, Fatal> {
    match examine(session, id) {
        Ok(found) => Ok(KeyDocument::of(id, label, &found)),
        Err(ExamineError::Key(why)) => Ok(KeyDocument::refused(id.to_string(), label, why)),
        Err(ExamineError::Token(error)) => Err(unusable(token, &error)),
    }
}

fn one(session: &Session, login: &LoginArgs, id: &CkaId) -> Result<KeyDocument, Fatal> {
    let broken = |e| login.token.broken(&e);
    let wanted = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(id.as_bytes().to_vec())];
    let objects = session.find_objects(&wanted).map_err(&broken)?;
    let Some(object) = objects.first() else {
        return Err(Fatal::Key {
            token: login.label().to_owned(),
            cka_id: id.to_string(),
            why: "the token has no private key with this id: `chancery-keeper admin key list` shows all"
                .into(),
        });
    };
    let read = session.get_attributes(*object, &[AttributeType::Label]).map_err(&broken)?;
    examined(session, login.label(), id, id_and_label(&read).1)
}

pub(crate) fn read_charter(path: &Path) -> Result<(String, Charter), Fatal> {
    let bytes = read_trusted(path, Secrecy::Public)?;
    let charter = Charter::parse(&bytes)
        .map_err(|e| Fatal::Config { file: path.to_owned(), why: e.to_string().trim_end().to_owned() })?;
    Ok((shown(path), charter))
}

fn hash(module: &Path) -> Result<Sha256, Fatal> {
    let wrong = |why: String| Fatal::Config { file: module.to_owned(), why };
    let about = std::fs::metadata(module).map_err(|e| wrong(e.to_string()))?;
    if about.len() > MAX_MODULE {
        return Err(wrong("is longer than any PKCS#11 library".into()));
    }
    let bytes = std::fs::read(module).map_err(|e| wrong(e.to_string()))?;
    Ok(Sha256::of(&bytes))
}

fn id_and_label(read: &[Attribute]) -> (Vec<u8>, Option<String>) {
    let id = read.iter().find_map(|a| if let Attribute::Id(id) = a { Some(id.clone()) } else { None });
    let label = read.iter().find_map(|a| match a {
        Attribute::Label(label) => Some(String::from_utf8_lossy(label).into_owned()),
        _ => None,
    });
    (id.unwrap_or_default(), label)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
