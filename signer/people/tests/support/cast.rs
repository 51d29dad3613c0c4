//! People of tests: software keys from seeds, rosters of them, and what they sign.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use p256::ecdsa::{Signature, SigningKey, signature::Signer};
use people::{
    Approval, Assertion, Change, Changes, Content, Decision, Group, Method, Name, Person, PersonKey, Proof,
    Roster, RosterContent, SignedRoster, Signing, Statement, challenge, pae,
};
use record::wire::Blob;
use record::{
    Format, KeyId, Nonce, Origin, PivSlot, PolicyStamp, Principal, Repository, RequestId, Sha256, Spki, Tag,
    Time,
};

pub(crate) const RP_ID: &str = "approve.example.com";
pub(crate) const PAGE: &str = "https://approve.example.com";

/// The key that this text always gives.
pub(crate) fn key(seed: &str) -> SigningKey {
    SigningKey::from_slice(Sha256::of(seed.as_bytes()).as_bytes()).unwrap()
}

pub(crate) fn spki(key: &SigningKey) -> Spki {
    Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap()
}

pub(crate) fn at(ms: i64) -> Time {
    Time::from_unix_ms(1_790_000_000_000 + ms).unwrap()
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A key on a card, as a roster has it.
pub(crate) fn piv(seed: &str) -> PersonKey {
    let method = Method::Piv {
        serial: 1000,
        slot: PivSlot::parse("9c").unwrap(),
        attestation: Sha256::of(seed.as_bytes()),
    };
    PersonKey { spki: spki(&key(seed)), added: at(0), method }
}

/// A credential, as a roster has it.
pub(crate) fn webauthn(seed: &str) -> PersonKey {
    let (rp_id, origin) = (RP_ID.to_owned(), PAGE.to_owned());
    let method = Method::Webauthn { rp_id, origin, credential: Blob(seed.as_bytes().to_vec()) };
    PersonKey { spki: spki(&key(seed)), added: at(0), method }
}

pub(crate) fn person(text: &str, keys: Vec<PersonKey>) -> Person {
    Person { name: name(text), added: at(0), principals: vec![], keys }
}

pub(crate) fn group(text: &str, members: &[&str]) -> Group {
    Group { name: name(text), members: members.iter().map(|m| name(m)).collect() }
}

/// Version 1: alice (two cards), bob, carol (a card and a credential) and dave, who is in no group but `all`. Two of `keys`
/// change it.
pub(crate) fn first_content() -> RosterContent {
    RosterContent {
        version: 1,
        previous: None,
        people: vec![
            person("alice", vec![piv("alice"), piv("alice-2")]),
            person("bob", vec![piv("bob")]),
            person("carol", vec![piv("carol"), webauthn("carol-page")]),
            person("dave", vec![piv("dave")]),
        ],
        groups: vec![
            group("all", &["alice", "bob", "carol", "dave"]),
            group("keys", &["alice", "bob", "carol"]),
            group("release", &["alice", "bob", "carol"]),
            group("security", &["alice", "carol"]),
        ],
        changes: Changes { group: name("keys"), count: 2 },
    }
}

pub(crate) fn first() -> Roster {
    Roster::new(first_content()).unwrap()
}

/// The version after `roster`, changed, and signed by these keys.
pub(crate) fn next(
    roster: &Roster,
    signers: &[&str],
    change: impl FnOnce(&mut RosterContent),
) -> SignedRoster {
    let mut content = roster.content().clone();
    (content.version, content.previous) = (roster.version() + 1, Some(roster.sha256()));
    change(&mut content);
    let roster = Roster::new(content).unwrap();
    let signed = SignedRoster::signed_bytes(&roster);
    let signatures = signers.iter().map(|seed| (id(seed), der(seed, &signed))).collect();
    SignedRoster::new(roster, signatures)
}

pub(crate) fn id(seed: &str) -> KeyId {
    spki(&key(seed)).id()
}

pub(crate) fn der(seed: &str, message: &[u8]) -> Vec<u8> {
    let signature: Signature = key(seed).sign(message);
    signature.to_der().as_bytes().to_vec()
}

/// What a token asks: that `v1` of an image be signed as targets metadata.
pub(crate) fn content() -> Content {
    Content {
        decision: Decision::Approve,
        log: Origin::parse("log.example.com").unwrap(),
        request: RequestId::parse("019963f0-7c00-7000-8000-000000000001").unwrap(),
        requester: Principal::parse("token:ci").unwrap(),
        repository: Repository::parse("r.example/team/app").unwrap(),
        subject: Sha256::of(b"manifest"),
        change: Change::Image {
            tag: Tag::parse("v1").unwrap(),
            size: 525,
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            children: vec![],
        },
        signatures: vec![Signing { format: Format::DctMetadata, key: id("targets") }],
        policy: PolicyStamp { set: Sha256::of(b"set"), schema: Sha256::of(b"schema") },
        nonce: Nonce::parse("000102030405060708090a0b0c0d0e0f").unwrap(),
        not_before: at(0),
        expires: at(3_600_000),
        break_glass: None,
    }
}

pub(crate) fn statement() -> Statement {
    Statement::new(content()).unwrap()
}

/// The approval, or the rejection, of a statement by a card.
pub(crate) fn by_piv(seed: &str, statement: &Statement) -> Approval {
    let signed = pae(people::PAYLOAD_TYPE, statement.bytes());
    Approval::new(statement.clone(), id(seed), Proof::Piv(der(seed, &signed)))
}

/// What a browser and an authenticator give, before it is signed.
#[derive(Clone)]
pub(crate) struct Ceremony {
    pub(crate) client: String,
    pub(crate) rp_id: String,
    pub(crate) flags: u8,
    pub(crate) more: Vec<u8>,
}

impl Ceremony {
    /// An honest one.
    pub(crate) fn about(statement: &Statement) -> Self {
        let challenge = URL_SAFE_NO_PAD.encode(challenge(statement.bytes()).as_bytes());
        let client = format!(
            r#"{{"type":"webauthn.get","challenge":"{challenge}","origin":"{PAGE}","crossOrigin":false}}"#
        );
        Self { client, rp_id: RP_ID.into(), flags: 0x05, more: vec![] }
    }

    /// Signed by a credential.
    pub(crate) fn signed(&self, seed: &str, statement: &Statement) -> Approval {
        let mut data = Sha256::of(self.rp_id.as_bytes()).as_bytes().to_vec();
        data.push(self.flags);
        data.extend([0, 0, 0, 9]);
        data.extend(&self.more);
        let client = self.client.as_bytes().to_vec();
        let signature = der(seed, &[data.as_slice(), Sha256::of(&client).as_bytes()].concat());
        let assertion = Assertion { authenticator_data: Blob(data), client_data: Blob(client) };
        Approval::new(statement.clone(), id(seed), Proof::Webauthn(signature, assertion))
    }
}
