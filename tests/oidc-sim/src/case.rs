//! A token as a data file describes it: the claims that a provider sends, and what is altered in them.

use crate::{Kind, Signer, SigningKey, compact};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Claims of each provider, as its tokens have them, without `iss`, `aud` and times.
const CLAIMS: [(&str, &str); 6] = [
    ("buildkite", include_str!("../claims/buildkite.json")),
    ("circleci", include_str!("../claims/circleci.json")),
    ("github", include_str!("../claims/github.json")),
    ("gitlab", include_str!("../claims/gitlab.json")),
    ("jenkins", include_str!("../claims/jenkins.json")),
    ("kubernetes", include_str!("../claims/kubernetes.json")),
];

/// Claims that a provider sends for a job that pushes to its main branch.
///
/// # Panics
/// For a provider that is not among them.
pub fn claims(provider: &str) -> Map<String, Value> {
    let (_, text) = CLAIMS.iter().find(|(name, _)| *name == provider).expect("a known provider");
    serde_json::from_str(text).unwrap()
}

/// An issuer's keys: three that it publishes, and two that it does not.
#[derive(Debug)]
pub struct Keys {
    /// The one that it signs with.
    pub rsa: SigningKey,
    /// Another kind.
    pub p256: SigningKey,
    /// Another kind, which no test allows.
    pub ed25519: SigningKey,
    /// Not the issuer's, and with the name of its first.
    pub impostor: SigningKey,
    /// Not the issuer's, with a name of its own.
    pub stranger: SigningKey,
}

impl Keys {
    /// New keys.
    pub fn new() -> Self {
        Self {
            rsa: SigningKey::new(Kind::Rs256, "rsa"),
            p256: SigningKey::new(Kind::Es256, "p256"),
            ed25519: SigningKey::new(Kind::EdDsa, "ed25519"),
            impostor: SigningKey::new(Kind::Rs256, "rsa"),
            stranger: SigningKey::new(Kind::Rs256, "stranger"),
        }
    }

    /// Those that are published.
    pub fn public(&self) -> [Value; 3] {
        [&self.rsa, &self.p256, &self.ed25519].map(SigningKey::public)
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self::new()
    }
}

/// Who signs a draft.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// The issuer.
    #[default]
    Rsa,
    /// The issuer, with another kind of key.
    P256,
    /// The issuer, with a kind of key that is not allowed.
    Ed25519,
    /// Somebody with a key of the same name.
    Impostor,
    /// Somebody with a key of another name.
    Stranger,
    /// Somebody who takes the issuer's public key for the secret of HMAC.
    HmacOfPublic,
    /// Nobody.
    Nobody,
}

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its name in the catalogue of attacks, or the provider's.
    pub row: String,
    /// What comes in, in words.
    pub input: String,
    /// The cases.
    pub case: Vec<Case>,
}

/// One token: what is altered in an honest one, and what is to become of it. All members but the name may be absent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What is wrong, or right, in words.
    pub name: String,
    /// Whose claims; `github` if it is not said.
    pub provider: Option<String>,
    /// A JSON object whose members are put over the header's; null takes one out.
    pub header: Option<String>,
    /// The same for the claims. ISSUER and AUDIENCE stand for the right ones, LONG for 2000 letters.
    pub claims: Option<String>,
    /// Claims that are times, in seconds from now.
    #[serde(default)]
    pub times: BTreeMap<String, i64>,
    /// Members that are put in front of the claims as they stand: so one can stand there twice.
    #[serde(default)]
    pub prefix: String,
    /// Who signs.
    #[serde(default)]
    pub by: By,
    /// The code with which the token is refused; without it, it is accepted.
    pub refused: Option<String>,
    /// A JSON object: what members the record of the job has then, and null for those that it has not.
    pub ci: Option<String>,
    /// Whose token it is then.
    pub principal: Option<String>,
    /// How the daemon answers who wants to sign with it.
    pub status: Option<u16>,
    /// The code of that answer.
    pub code: Option<String>,
}

impl Row {
    /// Reads a file.
    ///
    /// # Panics
    /// If there is no such file of this form, with at least one case.
    pub fn read(path: &std::path::Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let row: Self = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(!row.case.is_empty(), "{} has no case", path.display());
        row
    }
}

impl Case {
    /// The token of an issuer with this URL for this audience. Every one has another `jti`, if the provider gives one.
    pub fn mint(&self, issuer: &str, audience: &str, keys: &Keys, now_s: i64) -> String {
        let (key, signer) = match self.by {
            By::Rsa => (&keys.rsa, Signer::Key(&keys.rsa)),
            By::P256 => (&keys.p256, Signer::Key(&keys.p256)),
            By::Ed25519 => (&keys.ed25519, Signer::Key(&keys.ed25519)),
            By::Impostor => (&keys.impostor, Signer::Key(&keys.impostor)),
            By::Stranger => (&keys.stranger, Signer::Key(&keys.stranger)),
            By::HmacOfPublic => (&keys.rsa, Signer::HmacOfPublic(&keys.rsa)),
            By::Nobody => (&keys.rsa, Signer::Nobody),
        };
        let mut header = object(json!({"alg": key.algorithm(), "kid": key.id(), "typ": "JWT"}));
        put(&mut header, self.header.as_deref());
        let mut claims = claims(self.provider.as_deref().unwrap_or("github"));
        if claims.contains_key("jti") {
            claims.insert("jti".into(), unique().into());
        }
        // The API server writes one audience as a list, too.
        let aud = if claims.contains_key("kubernetes.io") { json!([audience]) } else { json!(audience) };
        let times = json!({"iss": issuer, "aud": aud, "iat": now_s, "nbf": now_s, "exp": now_s + 300});
        claims.extend(object(times));
        let altered = self.claims.as_deref().map(|text| {
            text.replace("ISSUER", issuer).replace("AUDIENCE", audience).replace("LONG", &"x".repeat(2000))
        });
        put(&mut claims, altered.as_deref());
        claims.extend(self.times.iter().map(|(name, from_now)| (name.clone(), json!(now_s + from_now))));
        let text = Value::Object(claims).to_string().replacen('{', &format!("{{{}", self.prefix), 1);
        compact(&Value::Object(header).to_string(), &text, signer)
    }
}

fn unique() -> String {
    SigningKey::new(Kind::Es256, "").public()["x"].to_string()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("no object: {other}"),
    }
}

fn put(members: &mut Map<String, Value>, over: Option<&str>) {
    let over = over.map(|text| object(serde_json::from_str(text).expect("JSON in a data file")));
    for (name, value) in over.unwrap_or_default() {
        if value.is_null() {
            members.remove(&name);
        } else {
            members.insert(name, value);
        }
    }
}
