//! The certificates of attestations, as far as their chain needs them: RSA with SHA-256, and nothing else.

use der::{Decode, Encode, Reader, SliceReader, oid::AssociatedOid, oid::ObjectIdentifier};
use record::{Sha256, Time};
use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use x509_cert::certificate::{CertificateInner, Profile, Raw, Rfc5280};
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::time::Time as X509Time;

/// `sha256WithRSAEncryption` (RFC 8017, appendix A.2.4).
const SHA256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// `DigestInfo` of SHA-256 without the digest (RFC 8017, section 9.2, note 1).
const SHA256_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
/// Yubico's smallest keys; shorter ones are for nobody.
const MIN_RSA_BYTES: usize = 256;

/// A certificate, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    /// As it came.
    pub(super) der: Vec<u8>,
    pub(super) sha256: Sha256,
    /// The names as they are encoded, to be compared.
    pub(super) issuer: Vec<u8>,
    pub(super) subject: Vec<u8>,
    /// The names as they are read.
    pub(super) issuer_name: String,
    pub(super) subject_name: String,
    pub(super) common_name: String,
    /// DER `SubjectPublicKeyInfo`.
    pub(super) spki: Vec<u8>,
    pub(super) is_ca: bool,
    pub(super) extensions: Vec<(ObjectIdentifier, Vec<u8>)>,
    not_before: i64,
    not_after: i64,
    signed: Vec<u8>,
    algorithm: ObjectIdentifier,
    signature: Vec<u8>,
}

/// Why a certificate proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CertificateError {
    #[error("is no X.509 certificate: {0}")]
    Form(#[from] der::Error),
    #[error("is signed with {0}, and only sha256WithRSAEncryption is known here")]
    Algorithm(ObjectIdentifier),
    #[error("its issuer's key is no RSA key of at least 2048 bits")]
    IssuerKey,
    #[error("was not signed by the key of its issuer")]
    Signature,
}

impl Certificate {
    /// Parses DER as RFC 5280 has it.
    pub(super) fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        Self::take_apart::<Rfc5280>(der)
    }

    /// Parses the certificate of an f9 key: those of old cards have serial numbers that RFC 5280 forbids.
    pub(super) fn parse_f9(der: &[u8]) -> Result<Self, CertificateError> {
        Self::take_apart::<Raw>(der)
    }

    fn take_apart<P: Profile>(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = CertificateInner::<P>::from_der(der)?;
        let tbs = certificate.tbs_certificate();
        let common_name = tbs.subject().iter().find(|attribute| attribute.oid == COMMON_NAME);
        let common_name = common_name.map(|attribute| attribute.value.value().to_vec()).unwrap_or_default();
        let extensions = tbs.extensions().cloned().unwrap_or_default();
        let extensions: Vec<_> =
            extensions.into_iter().map(|e| (e.extn_id, e.extn_value.into_bytes().to_vec())).collect();
        Ok(Self {
            der: der.to_vec(),
            sha256: Sha256::of(der),
            issuer: tbs.issuer().to_der()?,
            subject: tbs.subject().to_der()?,
            issuer_name: tbs.issuer().to_string(),
            subject_name: tbs.subject().to_string(),
            common_name: String::from_utf8_lossy(&common_name).into_owned(),
            spki: tbs.subject_public_key_info().to_der()?,
            is_ca: is_ca(&extensions),
            extensions,
            not_before: unix_s(tbs.validity().not_before),
            not_after: unix_s(tbs.validity().not_after),
            signed: signed_part(der)?,
            algorithm: certificate.signature_algorithm().oid,
            signature: certificate.signature().raw_bytes().to_vec(),
        })
    }

    /// Whether `issuer`'s key has signed this certificate.
    pub(super) fn verify(&self, issuer: &Self) -> Result<(), CertificateError> {
        if self.algorithm != SHA256_WITH_RSA {
            return Err(CertificateError::Algorithm(self.algorithm));
        }
        let key = RsaPublicKey::from_public_key_der(&issuer.spki).ok();
        let key = key.filter(|key| key.size() >= MIN_RSA_BYTES).ok_or(CertificateError::IssuerKey)?;
        let scheme = Pkcs1v15Sign { hash_len: Some(32), prefix: Box::new(SHA256_INFO) };
        key.verify(scheme, Sha256::of(&self.signed).as_bytes(), &self.signature)
            .map_err(|_| CertificateError::Signature)
    }

    /// Whether it is valid now.
    pub(super) fn covers(&self, now: Time) -> bool {
        (self.not_before..=self.not_after).contains(&now.unix_s())
    }
}

/// The bytes that the signature is over, as they came: encoding them again could change what was not canonical.
fn signed_part(der: &[u8]) -> Result<Vec<u8>, der::Error> {
    let mut outer = SliceReader::new(der)?;
    outer.sequence(|inner| {
        let signed = inner.tlv_bytes()?.to_vec();
        inner.tlv_bytes()?;
        inner.tlv_bytes()?;
        Ok::<_, der::Error>(signed)
    })
}

fn is_ca(extensions: &[(ObjectIdentifier, Vec<u8>)]) -> bool {
    let constraints = extensions.iter().find(|(oid, _)| *oid == BasicConstraints::OID);
    constraints.is_some_and(|(_, value)| BasicConstraints::from_der(value).is_ok_and(|c| c.ca))
}

fn unix_s(time: X509Time) -> i64 {
    i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
}
