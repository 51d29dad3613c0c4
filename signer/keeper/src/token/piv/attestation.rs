//! What an attestation proves: that a key was made on a YubiKey, on which one, and what it wants before it signs
//! (developers.yubico.com, "PIV attestation").
//!
//! The chain alone proves little: f9 is the same key in a whole batch of cards. What counts is the chain to a pinned root
//! and the serial number in the statement, together; [`Statement`] is what the caller compares.

use super::certificate::{Certificate, CertificateError};
use super::firmware::Firmware;
use crate::config::{Demands, Secrecy, read_trusted};
use crate::exit::Fatal;
use der::{Decode, oid::ObjectIdentifier};
use record::{PivSlot, Time};
use std::path::{Path, PathBuf};

/// SHA-256 of Yubico's roots: `Yubico PIV Root CA Serial 263751` (firmware before 5.7.4) and `Yubico Attestation Root 1`.
const YUBICO_ROOTS: [&str; 2] = [
    "63ece914e54dd87915f34033c85af4c0696ba1512f8add66ced738331207b546",
    "62760c6a6ef91679f454c8902b80fd009825b3f25da90f1fbace2ec6586cd5a8",
];
/// Certificates between f9 and a root: Yubico has two, and a new generation may have one more.
const MAX_BETWEEN: usize = 4;
/// Certificates in all files together: Yubico publishes about a dozen.
const MAX_CERTIFICATES: usize = 64;
/// What the subject of an attestation says before the slot.
const SUBJECT: &str = "YubiKey PIV Attestation ";
const FIRMWARE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.41482.3.3");
const SERIAL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.41482.3.7");
const POLICIES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.41482.3.8");

/// The certificates that attestations may lead to and over.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust {
    roots: Vec<Certificate>,
    between: Vec<Certificate>,
}

/// What a card says of a key, by a chain that leads to a trusted root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) serial: u32,
    pub(super) firmware: Firmware,
    pub(super) slot: PivSlot,
    /// DER `SubjectPublicKeyInfo`.
    pub(super) spki: Vec<u8>,
    /// The policies' bytes, as GET METADATA has them.
    pub(super) pin_policy: u8,
    pub(super) touch_policy: u8,
}

/// A statement with the certificates that prove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proven {
    pub(super) statement: Statement,
    /// DER, from the attestation up to the root.
    pub(super) chain: Vec<Vec<u8>>,
}

/// Why an attestation proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AttestationError {
    #[error("the certificate {name:?} {why}")]
    Certificate { name: String, why: CertificateError },
    #[error("the certificate {0:?} is not valid now: compare this host's clock")]
    Expired(String),
    #[error("the certificate {0:?} stands above the card's and is no CA's")]
    NotCa(String),
    #[error(
        "its chain ends at {0:?}, of which there is no trusted certificate: name Yubico's files in attestation_chain, or a \
         root of your own in attestation_roots"
    )]
    NoRoot(String),
    #[error("it lacks {0}, or says it in an unknown form")]
    Lacks(&'static str),
}

impl Trust {
    /// Reads the configured files.
    pub(super) fn read(demands: &Demands) -> Result<Self, Fatal> {
        let is_yubicos = |c: &Certificate| YUBICO_ROOTS.contains(&c.sha256.to_string().as_str());
        let (pinned, between): (Vec<_>, Vec<_>) =
            read_all(&demands.attestation_chain)?.into_iter().partition(is_yubicos);
        let mut roots = read_all(&demands.attestation_roots)?;
        for root in &roots {
            tracing::warn!(subject = root.subject_name, sha256 = %root.sha256, "attestations by a root that is not Yubico's are trusted");
        }
        roots.extend(pinned);
        Ok(Self { roots, between })
    }

    /// What the attestation `leaf`, made by the key of the certificate `f9`, proves now.
    pub(super) fn verify(&self, leaf: &[u8], f9: &[u8], now: Time) -> Result<Proven, AttestationError> {
        let leaf = Certificate::parse(leaf).map_err(named("attestation"))?;
        let f9 = Certificate::parse_f9(f9).map_err(named("f9"))?;
        issued(&leaf, &f9, now)?;
        let above = self.follow(&f9, now)?;
        let statement = statement(&leaf)?;
        let chain = [&leaf, &f9].into_iter().chain(above).map(|c| c.der.clone()).collect();
        Ok(Proven { statement, chain })
    }

    /// Whether a card with this `f9` can prove anything now, before it has a key.
    pub(super) fn verify_f9(&self, f9: &[u8], now: Time) -> Result<(), AttestationError> {
        let f9 = Certificate::parse_f9(f9).map_err(named("f9"))?;
        self.follow(&f9, now).map(drop)
    }

    /// The certificates above that of f9, up to a trusted root.
    fn follow<'a>(
        &'a self,
        f9: &'a Certificate,
        now: Time,
    ) -> Result<Vec<&'a Certificate>, AttestationError> {
        let mut current = f9;
        let mut path = Vec::new();
        for _ in 0..=MAX_BETWEEN {
            let issuer = |all: &'_ [Certificate]| all.iter().position(|c| c.subject == current.issuer);
            if let Some(root) = issuer(&self.roots).and_then(|at| self.roots.get(at)) {
                issued(current, root, now)?;
                authority(root, now)?;
                path.push(root);
                return Ok(path);
            }
            let above = issuer(&self.between).and_then(|at| self.between.get(at));
            let above = above.ok_or_else(|| AttestationError::NoRoot(current.issuer_name.clone()))?;
            issued(current, above, now)?;
            authority(above, now)?;
            path.push(above);
            current = above;
        }
        Err(AttestationError::NoRoot(current.issuer_name.clone()))
    }
}

fn named(name: &'static str) -> impl Fn(CertificateError) -> AttestationError {
    move |why| AttestationError::Certificate { name: name.to_owned(), why }
}

/// `below` names `above` as its issuer, was signed by its key, and is valid.
fn issued(below: &Certificate, above: &Certificate, now: Time) -> Result<(), AttestationError> {
    if below.issuer != above.subject {
        return Err(AttestationError::NoRoot(below.issuer_name.clone()));
    }
    below
        .verify(above)
        .map_err(|why| AttestationError::Certificate { name: below.subject_name.clone(), why })?;
    if below.covers(now) { Ok(()) } else { Err(AttestationError::Expired(below.subject_name.clone())) }
}

/// `certificate` may stand above a card's.
fn authority(certificate: &Certificate, now: Time) -> Result<(), AttestationError> {
    if !certificate.is_ca {
        return Err(AttestationError::NotCa(certificate.subject_name.clone()));
    }
    if certificate.covers(now) {
        Ok(())
    } else {
        Err(AttestationError::Expired(certificate.subject_name.clone()))
    }
}

fn statement(leaf: &Certificate) -> Result<Statement, AttestationError> {
    let value = |oid: ObjectIdentifier, what: &'static str| {
        let found = leaf.extensions.iter().find(|(id, _)| *id == oid).map(|(_, value)| value.as_slice());
        found.ok_or(AttestationError::Lacks(what))
    };
    let firmware = value(FIRMWARE, "the firmware version")?;
    let firmware = firmware.try_into().map_err(|_| AttestationError::Lacks("the firmware version"))?;
    let serial = u32::from_der(value(SERIAL, "the serial number")?);
    let &[pin_policy, touch_policy] = value(POLICIES, "the policies")? else {
        return Err(AttestationError::Lacks("the policies"));
    };
    let slot = leaf.common_name.strip_prefix(SUBJECT).and_then(|slot| PivSlot::parse(slot).ok());
    Ok(Statement {
        serial: serial.map_err(|_| AttestationError::Lacks("the serial number"))?,
        firmware: Firmware::new(firmware),
        slot: slot.ok_or(AttestationError::Lacks("the slot"))?,
        spki: leaf.spki.clone(),
        pin_policy,
        touch_policy,
    })
}

fn read_all(files: &[PathBuf]) -> Result<Vec<Certificate>, Fatal> {
    let mut all = Vec::new();
    for file in files {
        all.extend(read(file)?);
        if all.len() > MAX_CERTIFICATES {
            let why = format!("with it, the files have more than {MAX_CERTIFICATES} certificates");
            return Err(Fatal::Config { file: file.clone(), why });
        }
    }
    Ok(all)
}

/// The certificates of a PEM file; what stands around them is for people.
fn read(file: &Path) -> Result<Vec<Certificate>, Fatal> {
    let fault = |why: String| Fatal::Config { file: file.to_owned(), why };
    let bytes = read_trusted(file, Secrecy::Public)?;
    let text = String::from_utf8(bytes.to_vec()).map_err(|_| fault("is no PEM file".into()))?;
    let mut found = Vec::new();
    for part in text.split("-----BEGIN CERTIFICATE-----").skip(1) {
        let (body, _) = part
            .split_once("-----END CERTIFICATE-----")
            .ok_or_else(|| fault("has half a certificate".into()))?;
        let body: String = body.split_whitespace().collect();
        let number = found.len() + 1;
        let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body)
            .map_err(|e| fault(format!("certificate {number}: {e}")))?;
        found.push(Certificate::parse(&der).map_err(|e| fault(format!("certificate {number} {e}")))?);
    }
    if found.is_empty() { Err(fault("has no certificate in PEM form".into())) } else { Ok(found) }
}
