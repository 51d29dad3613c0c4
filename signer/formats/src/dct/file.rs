//! A signed file: the envelope `{"signed":..,"signatures":[..]}` around one role's metadata.
//!
//! Signatures are over the canonical form of `signed`, never over its bytes in the file: clients write other spellings
//! (`\u0026`) of what they sign. The file's own bytes are what other files name by hash.

use super::{
    Role,
    canonical_json::{self, JsonError, Value, object},
    certificate::CertificateError,
    fields::{Fields, Unknown},
    key::METHOD,
    root::{self, RootBody, RootView},
    snapshot,
    targets::{self, Target},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use record::{FileRef, GrammarError, Sha256, Signature, Spki, Tag, Time};
use std::collections::BTreeMap;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Largest file, about 28 000 tags: in base64, with its proofs and a root file beside it, it still fits one frame of the
/// wire to the keeper (8 MiB), so that a collection never grows past the size at which it can be signed again.
pub const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;
/// Most signatures on one file: a root that was rotated carries those of earlier root keys too.
pub const MAX_SIGNATURES: usize = 64;

/// Why bytes are not a file that every client reads alike, or do not say what was asked of them.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Over [`MAX_FILE_BYTES`].
    #[error("a file of {0} bytes: the limit is 4 MiB")]
    TooLong(usize),
    /// Not JSON, or JSON with two meanings.
    #[error("the file cannot be read")]
    Json(#[source] JsonError),
    /// Something else where an object must be.
    #[error("{0} must be an object")]
    NotAnObject(&'static str),
    /// A member is missing or has the wrong form.
    #[error("{name} of {at} {why}")]
    Member {
        /// The object.
        at: &'static str,
        /// The member.
        name: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// A member that clients would mistake for another one.
    #[error(
        "member {name:?} of {at} differs only in case from one that clients know: they would mix them up"
    )]
    CaseTwin {
        /// The object.
        at: &'static str,
        /// The member.
        name: String,
    },
    /// A member where none but the dialect's own may stand.
    #[error("{at} has a member {name:?} that does not belong there")]
    Unknown {
        /// The object.
        at: &'static str,
        /// The member.
        name: String,
    },
    /// Over [`MAX_SIGNATURES`].
    #[error("{0} signatures on one file: the limit is 64")]
    TooManySignatures(usize),
    /// A key under an id that is not its own.
    #[error("a key stands under the id {stated}, but its id is {computed}")]
    KeyId {
        /// The member's name.
        stated: String,
        /// The id computed from the key.
        computed: String,
    },
    /// A key of a type that this role cannot have here.
    #[error("a key of type {0:?} where a P-256 key is needed (ecdsa; ecdsa-x509 for root)")]
    KeyType(String),
    /// A certificate inside root metadata cannot be read.
    #[error("the root key's certificate cannot be used")]
    Certificate(#[source] CertificateError),
    /// A role with several keys or a threshold over one, where the service knows one key a role.
    #[error("role {0} has several keys or a threshold over one; the service signs with one key a role")]
    SeveralKeys(Role),
    /// The file of another role.
    #[error("this is {found} metadata, wanted: {wanted}")]
    Role {
        /// What was asked for.
        wanted: &'static str,
        /// What the file is.
        found: Role,
    },
    /// A target whose name is no tag.
    #[error("a target's name is no tag")]
    Tag(#[source] GrammarError),
    /// A target whose digest is no image's.
    #[error("the digest of tag {tag} is no image's")]
    Digest {
        /// The tag.
        tag: Tag,
        /// Why.
        source: record::DigestError,
    },
    /// No signature by that key.
    #[error("no signature by key {0}")]
    NotSigned(String),
    /// A signature by that key that does not verify.
    #[error("the signature by key {0} does not verify over this content")]
    BadSignature(String),
}

/// One signature on a file, as it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSignature {
    /// Id of the key in the collection's metadata, lower hex.
    pub keyid: String,
    /// Signature method; for P-256 keys `ecdsa`.
    pub method: String,
    /// The signature; for `ecdsa` it is `r || s`.
    pub sig: Vec<u8>,
}

/// A signed file, read strictly. That it was read says nothing about its signatures: see [`SignedFile::verify`].
#[derive(Debug, Clone)]
pub struct SignedFile {
    role: Role,
    version: u64,
    expires: Time,
    body: Body,
    signed: Value,
    payload: Vec<u8>,
    payload_hash: Sha256,
    signatures: Vec<FileSignature>,
}

#[derive(Debug, Clone)]
enum Body {
    Root(RootBody),
    Targets(BTreeMap<String, FileRef>),
    Meta(BTreeMap<String, FileRef>),
}

impl SignedFile {
    /// Reads a file of any of the four roles.
    pub fn parse(bytes: &[u8]) -> Result<Self, FileError> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(FileError::TooLong(bytes.len()));
        }
        let whole = canonical_json::parse(bytes).map_err(FileError::Json)?;
        let outer = Fields::open(&whole, "the file", &["signatures", "signed"], Unknown::Refused)?;
        let signatures = read_signatures(outer.list("signatures")?)?;
        let signed = outer.value("signed")?;
        let role = read_role(signed)?;
        let fields = Fields::open(signed, "signed", members(role), Unknown::Carried)?;
        let payload = canonical_json::encode(signed);
        Ok(Self {
            role,
            version: fields.number("version", 1)?,
            expires: read_expiry(fields.text("expires")?)
                .ok_or_else(|| fields.wrong("expires", "must be an RFC 3339 time from 1970 to 9999"))?,
            body: read_body(role, &fields)?,
            payload_hash: Sha256::of(&payload),
            payload,
            signed: signed.clone(),
            signatures,
        })
    }

    /// Whose metadata this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// TUF version, from 1.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When it expires, cut to whole seconds.
    pub fn expires(&self) -> Time {
        self.expires
    }

    /// The canonical bytes of `signed`: what the signatures are over.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// SHA-256 of [`SignedFile::payload`]. Not the hash of the file, which [`FileRef::of`] its bytes gives.
    pub fn payload_hash(&self) -> Sha256 {
        self.payload_hash
    }

    /// The signatures, unchecked.
    pub fn signatures(&self) -> &[FileSignature] {
        &self.signatures
    }

    /// Checks that a signature stated to be by `keyid` is one by `spki` over this content. The method is bound to the
    /// key's type: a signature that names another method is none.
    pub fn verify(&self, spki: &Spki, keyid: &str) -> Result<(), FileError> {
        let mut stated = self.signatures.iter().filter(|s| s.keyid == keyid && s.method == METHOD).peekable();
        if stated.peek().is_none() {
            return Err(FileError::NotSigned(keyid.to_owned()));
        }
        let good = |s: &FileSignature| {
            Signature::from_raw(&s.sig).is_ok_and(|sig| spki.verifies(&self.payload_hash, &sig))
        };
        if stated.any(good) { Ok(()) } else { Err(FileError::BadSignature(keyid.to_owned())) }
    }

    /// The images by tag, of targets metadata.
    pub fn targets(&self) -> Result<BTreeMap<Tag, Target>, FileError> {
        match &self.body {
            Body::Targets(targets) => targets::tagged(targets),
            _ => Err(FileError::Role { wanted: "targets", found: self.role }),
        }
    }

    /// The files by role name, of snapshot and timestamp metadata.
    pub fn meta(&self) -> Result<&BTreeMap<String, FileRef>, FileError> {
        match &self.body {
            Body::Meta(files) => Ok(files),
            _ => Err(FileError::Role { wanted: "snapshot or timestamp", found: self.role }),
        }
    }

    /// The keys by role, of root metadata that has one P-256 key a role.
    pub fn root(&self) -> Result<RootView, FileError> {
        match &self.body {
            Body::Root(body) => body.view(),
            _ => Err(FileError::Role { wanted: "root", found: self.role }),
        }
    }

    pub(crate) fn signed(&self) -> &Value {
        &self.signed
    }
}

/// The file of canonical `payload` with one signature. The payload stands in it as it is: clients read and canonicalise
/// it again and must get the same bytes.
pub(crate) fn envelope(payload: &[u8], keyid: &str, signature: &Signature) -> Vec<u8> {
    let entry = object([
        ("keyid", keyid.into()),
        ("method", METHOD.into()),
        ("sig", Value::String(STANDARD.encode(signature.to_raw()))),
    ]);
    let signatures = canonical_json::encode(&Value::Array(vec![entry]));
    [b"{\"signed\":".as_slice(), payload, b",\"signatures\":", &signatures, b"}"].concat()
}

/// The members that all roles have.
pub(crate) fn head(role: Role, version: u64, expires: Time) -> [(String, Value); 3] {
    [
        ("_type".to_owned(), role.type_name().into()),
        ("expires".to_owned(), Value::String(expires.to_rfc3339_seconds())),
        ("version".to_owned(), Value::Integer(i64::try_from(version).unwrap_or(i64::MAX))),
    ]
}

/// A `signed` member: what all roles have, and `members`.
pub(crate) fn signed<const N: usize>(
    role: Role,
    version: u64,
    expires: Time,
    members: [(&str, Value); N],
) -> Value {
    let own = members.into_iter().map(|(name, value)| (name.to_owned(), value));
    Value::Object(head(role, version, expires).into_iter().chain(own).collect())
}

/// `{"hashes":{"sha256":..},"length":..}`.
pub(crate) fn file_ref_value(file: &FileRef) -> Value {
    let hash = Value::String(STANDARD.encode(file.sha256.as_bytes()));
    let length = Value::Integer(i64::try_from(file.length).unwrap_or(i64::MAX));
    object([("hashes", object([("sha256", hash)])), ("length", length)])
}

/// Reads what [`file_ref_value`] writes, with any further hashes and `custom` data.
pub(crate) fn read_file_ref(value: &Value) -> Result<FileRef, FileError> {
    let fields = Fields::open(value, "file entry", &["custom", "hashes", "length"], Unknown::Carried)?;
    let hashes = Fields::open(fields.value("hashes")?, "hashes", &["sha256", "sha512"], Unknown::Carried)?;
    let hash: [u8; 32] = hashes
        .base64("sha256")?
        .try_into()
        .map_err(|_| hashes.wrong("sha256", "must be the base64 of 32 bytes"))?;
    Ok(FileRef { sha256: Sha256::from_bytes(hash), length: fields.number("length", 0)? })
}

fn members(role: Role) -> &'static [&'static str] {
    match role {
        Role::Root => &root::MEMBERS,
        Role::Targets => &targets::MEMBERS,
        Role::Snapshot | Role::Timestamp => &snapshot::MEMBERS,
    }
}

fn read_role(signed: &Value) -> Result<Role, FileError> {
    let fields = Fields::open(signed, "signed", &["_type"], Unknown::Carried)?;
    let stated = fields.text("_type")?;
    Role::ALL
        .into_iter()
        .find(|role| role.type_name() == stated)
        .ok_or_else(|| fields.wrong("_type", "must be Root, Targets, Snapshot or Timestamp"))
}

fn read_body(role: Role, fields: &Fields<'_>) -> Result<Body, FileError> {
    match role {
        Role::Root => root::read(fields).map(Body::Root),
        Role::Targets => targets::read(fields).map(Body::Targets),
        Role::Snapshot | Role::Timestamp => snapshot::read(role, fields).map(Body::Meta),
    }
}

fn read_signatures(items: &[Value]) -> Result<Vec<FileSignature>, FileError> {
    if items.len() > MAX_SIGNATURES {
        return Err(FileError::TooManySignatures(items.len()));
    }
    items.iter().map(read_signature).collect()
}

fn read_signature(value: &Value) -> Result<FileSignature, FileError> {
    let fields = Fields::open(value, "signature", &["keyid", "method", "sig"], Unknown::Refused)?;
    Ok(FileSignature {
        keyid: fields.text("keyid")?.to_owned(),
        // Clients compare the method in lower case.
        method: fields.text("method")?.to_ascii_lowercase(),
        sig: fields.base64("sig")?,
    })
}

/// RFC 3339 as Go reads it: upper-case `T` and `Z`, any zone, any fraction. Cut down to whole seconds, so that nothing
/// seems to live longer than it does.
fn read_expiry(text: &str) -> Option<Time> {
    if !text.bytes().all(|b| b.is_ascii_digit() || b"-:.+TZ".contains(&b)) {
        return None;
    }
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Time::from_unix_ms(at.unix_timestamp().checked_mul(1000)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A timestamp file as a client might write it.
    const FILE: &str = r#"{"signed":{"_type":"Timestamp","expires":"2030-01-01T00:00:00Z","meta":{"snapshot":{"hashes":{"sha256":"1HNeOiZeFu7gP1lxi5tdAwGcB9i2xR+Q2jpmbuwTqzU="},"length":1}},"version":1},"signatures":[{"keyid":"ab","method":"ECDSA","sig":"AAAA"}]}"#;

    fn with(from: &str, to: &str) -> Result<SignedFile, FileError> {
        assert!(FILE.contains(from), "{from}");
        SignedFile::parse(FILE.replacen(from, to, 1).as_bytes())
    }

    #[test]
    fn a_file_reads_the_same_in_every_spelling_of_its_content() {
        let plain = SignedFile::parse(FILE.as_bytes()).unwrap();
        let spelled = with("\"_type\":\"Timestamp\",", " \"\\u005ftype\" :\n\"Timestamp\" , ").unwrap();
        assert_eq!(spelled.payload(), plain.payload());
        assert_eq!(plain.payload_hash(), Sha256::of(plain.payload()));
        assert_eq!(plain.signatures()[0].method, "ecdsa", "clients compare it in lower case");
        let more = with("\"version\":1", "\"version\":1,\"x-note\":\"kept\"").unwrap();
        assert!(String::from_utf8_lossy(more.payload()).contains("x-note"), "signed members are carried");
    }

    #[test]
    fn files_that_clients_could_read_differently_are_refused() {
        for (from, to) in [
            ("\"version\":1", "\"version\":1,\"version\":2"),
            ("\"version\":1", "\"version\":1,\"Version\":2"),
            ("\"version\":1", "\"VERSION\":1"),
            ("\"version\":1", "\"version\":0"),
            ("\"version\":1", "\"version\":-1"),
            ("\"version\":1", "\"version\":1.0"),
            ("\"version\":1", "\"version\":\"1\""),
            ("\"version\":1", "\"version\":9007199254740993"),
            ("\"Timestamp\"", "\"timestamp\""),
            ("\"Timestamp\"", "\"Mirrors\""),
            ("\"length\":1", "\"length\":-1"),
            ("\"length\":1", "\"length\":1,\"Length\":2"),
            ("\"sha256\"", "\"sha512\""),
            ("\"snapshot\":{", "\"targets\":{"),
            ("1HNe", "1HN"),
            ("1HNe", ""),
            ("{\"signed\"", "{\"extra\":1,\"signed\""),
            ("{\"signed\"", "{\"Signed\":{},\"signed\""),
            ("\"keyid\"", "\"x\":1,\"keyid\""),
            ("\"AAAA\"", "\"AAA\""),
            ("]}", "]} {}"),
            ("]}", "]"),
        ] {
            assert!(with(from, to).is_err(), "{from} -> {to}");
        }
        assert!(SignedFile::parse(&vec![b' '; MAX_FILE_BYTES + 1]).is_err());
        let many =
            format!("[{}{{", r#"{"keyid":"ab","method":"ecdsa","sig":"AAAA"},"#.repeat(MAX_SIGNATURES));
        assert!(matches!(with("[{", &many), Err(FileError::TooManySignatures(65))));
    }

    #[test]
    fn expiry_is_read_in_every_zone_and_never_later_than_it_is() {
        let read = |text: &str| with("2030-01-01T00:00:00Z", text).map(|f| f.expires().to_rfc3339_seconds());
        for (text, at) in [
            ("2030-01-01T00:00:00.999999999Z", "2030-01-01T00:00:00Z"),
            ("2029-11-23T01:07:43.192279365+05:30", "2029-11-22T19:37:43Z"),
            ("2029-12-31T23:00:00-02:00", "2030-01-01T01:00:00Z"),
        ] {
            assert_eq!(read(text).unwrap(), at);
        }
        for text in [
            "2030-01-01",
            "2030-01-01 00:00:00Z",
            "2030-01-01t00:00:00z",
            "2030-01-01T00:00:00",
            "2030-02-30T00:00:00Z",
            "0001-01-01T00:00:00Z",
            "1893456000",
            "",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_signature_counts_only_with_the_method_of_its_key() {
        let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
        let spki = Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap();
        let plain = SignedFile::parse(FILE.as_bytes()).unwrap();
        assert!(matches!(plain.verify(&spki, "ab"), Err(FileError::BadSignature(_))));
        assert!(matches!(plain.verify(&spki, "cd"), Err(FileError::NotSigned(_))));
        let other = with("ECDSA", "rsapss").unwrap();
        assert!(matches!(other.verify(&spki, "ab"), Err(FileError::NotSigned(_))));
    }

    #[test]
    fn names_and_digests_that_are_no_images_are_errors_only_when_asked_for_as_tags() {
        let targets = |name: &str| {
            let text = FILE
                .replace("\"Timestamp\"", "\"Targets\"")
                .replace("\"meta\":{\"snapshot\"", &format!("\"targets\":{{\"{name}\""));
            SignedFile::parse(text.as_bytes()).unwrap()
        };
        assert_eq!(targets("v1").targets().unwrap().len(), 1);
        assert!(matches!(targets("not a tag").targets(), Err(FileError::Tag(_))));
        assert!(matches!(
            targets("v1").root(),
            Err(FileError::Role { wanted: "root", found: Role::Targets })
        ));
    }
}
