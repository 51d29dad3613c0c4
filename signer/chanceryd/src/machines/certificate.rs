//! Who a client certificate names: a SPIFFE id, or else the public key. Never a name of its subject.

use record::{Principal, Sha256, Time};
use rustls::pki_types::CertificateDer;
use std::time::Duration;
use x509_cert::{
    Certificate,
    der::{Decode, Encode, oid::AssociatedOid},
    ext::pkix::{ExtendedKeyUsage, SubjectAltName, name::GeneralName},
};

/// id-kp-clientAuth (RFC 5280, section 4.2.1.12).
const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
/// How a SPIFFE id begins.
const SPIFFE: &str = "spiffe://";

/// A machine, as its certificate names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// `machine:spiffe://<trust domain>/<path>`, or `machine:<SHA-256 of the SPKI>`.
    pub principal: Principal,
    /// When the certificate ends.
    pub not_after: Time,
}

/// Why a certificate that its CA vouches for names nobody.
#[derive(Debug, thiserror::Error)]
pub(super) enum NobodyError {
    #[error("the certificate is not DER: {0}")]
    Der(#[from] x509_cert::der::Error),
    #[error("the certificate is not for client authentication: it lacks the extended key usage clientAuth")]
    Usage,
    #[error("the certificate has a SPIFFE id and another URI: an SVID has exactly one")]
    TwoNames,
    #[error("the certificate's SPIFFE id is not of the form spiffe://<trust domain>/<path>")]
    SpiffeId,
    #[error("the certificate's SPIFFE id is of a trust domain that is not in the configuration")]
    TrustDomain,
    #[error("the certificate's SPIFFE id is longer than 240 characters")]
    TooLong,
    #[error("the certificate's end is no time")]
    Time,
}

/// The machine that a certificate names; its chain was judged before.
pub(super) fn machine(der: &CertificateDer<'_>, trust_domains: &[String]) -> Result<Machine, NobodyError> {
    let certificate = Certificate::from_der(der)?;
    let tbs = certificate.tbs_certificate();
    let extension = |oid| tbs.extensions().into_iter().flatten().find(|e| e.extn_id == oid);
    let usages = match extension(ExtendedKeyUsage::OID) {
        Some(usage) => ExtendedKeyUsage::from_der(usage.extn_value.as_bytes())?.0,
        None => Vec::new(),
    };
    if !usages.iter().any(|usage| usage.to_string() == CLIENT_AUTH) {
        return Err(NobodyError::Usage);
    }
    let names = match extension(SubjectAltName::OID) {
        Some(names) => SubjectAltName::from_der(names.extn_value.as_bytes())?.0,
        None => Vec::new(),
    };
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
            _ => None,
        })
        .collect();
    let name = match spiffe_id(&uris, trust_domains)? {
        Some(id) => id.to_owned(),
        None => Sha256::of(&tbs.subject_public_key_info().to_der()?).to_string(),
    };
    let principal = Principal::parse(&format!("machine:{name}")).map_err(|_| NobodyError::TooLong)?;
    let not_after = time(tbs.validity().not_after.to_unix_duration()).ok_or(NobodyError::Time)?;
    Ok(Machine { principal, not_after })
}

/// The SPIFFE id among the URIs of a certificate (SPIFFE X.509-SVID, section 2): exactly one URI, or none of SPIFFE.
fn spiffe_id<'a>(uris: &[&'a str], trust_domains: &[String]) -> Result<Option<&'a str>, NobodyError> {
    let is_spiffe = |uri: &&&str| uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"));
    let Some(id) = uris.iter().find(is_spiffe) else { return Ok(None) };
    if uris.len() > 1 {
        return Err(NobodyError::TwoNames);
    }
    let (domain, path) =
        id.strip_prefix(SPIFFE).and_then(|rest| rest.split_once('/')).ok_or(NobodyError::SpiffeId)?;
    if !is_trust_domain(domain) || !path.split('/').all(is_segment) {
        return Err(NobodyError::SpiffeId);
    }
    if trust_domains.iter().any(|known| known == domain) {
        Ok(Some(id))
    } else {
        Err(NobodyError::TrustDomain)
    }
}

/// A SPIFFE trust domain (SPIFFE-ID, section 2.1): 1 to 255 of `a-z 0-9 . - _`.
pub(crate) fn is_trust_domain(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b))
}

/// A segment of a SPIFFE id's path (SPIFFE-ID, section 2.2).
fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

/// A time since 1970, if it is one that the log can name.
pub(super) fn time(since_1970: Duration) -> Option<Time> {
    Time::from_unix_ms(i64::try_from(since_1970.as_millis()).ok()?).ok()
}
