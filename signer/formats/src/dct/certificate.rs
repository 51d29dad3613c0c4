//! The certificate that Docker Content Trust wraps a root key in, as the notary clients make it.
//!
//! Self-signed; issuer and subject are one common name, the exact repository, of any length (clients ignore X.520's 64);
//! `KeyUsage` digitalSignature and keyEncipherment, critical; `ExtendedKeyUsage` codeSigning; `BasicConstraints` of an end
//! entity, critical; ecdsa-with-SHA256 (RFC 5280, RFC 5758). The common name is never a wildcard: with one, a
//! repository's files would pass for another's.

use base64::{Engine, engine::general_purpose::STANDARD};
use record::{Nonce, Repository, Sha256, Signature, Spki, Time};
use x509_cert::{
    Certificate, Version,
    der::{Decode, Encode, Tag, Tagged, asn1::ObjectIdentifier},
    ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage},
    name::Name,
};

/// Why a certificate cannot be made or does not do.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The serial number is zero.
    #[error("a certificate's serial number must be positive")]
    Serial,
    /// The validity is empty or not in whole seconds.
    #[error("a certificate's validity must have whole seconds and end after it begins")]
    Validity,
    /// Not an X.509 certificate in DER.
    #[error("not an X.509 certificate in canonical DER: {0}")]
    Der(String),
    /// Not PEM in the form that verifiers re-encode to.
    #[error("not one certificate in PEM as Go writes it (64 columns, final newline, no headers)")]
    Pem,
    /// Not version 3, or not ecdsa-with-SHA256, or issuer and subject differ.
    #[error("the certificate must be version 3, self-issued, and signed with ecdsa-with-SHA256")]
    Kind,
    /// Another subject than the repository.
    #[error("the certificate's subject must be the one common name {wanted}, exactly")]
    Name {
        /// The repository.
        wanted: Repository,
    },
    /// Another public key.
    #[error("the certificate holds another public key than the root key")]
    Key,
    /// Not a P-256 key.
    #[error("the certificate's public key is no P-256 key in canonical DER")]
    KeyType,
    /// The extensions are not those of an end entity for code signing.
    #[error("the certificate must be an end entity's (CA:FALSE) for digital signatures and code signing")]
    Usage,
    /// The signature is not the key's own.
    #[error("the certificate's signature does not verify with its own key")]
    Signature,
}

/// When a certificate is valid, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From.
    pub not_before: Time,
    /// Until.
    pub not_after: Time,
}

/// `AlgorithmIdentifier` ecdsa-with-SHA256, 1.2.840.10045.4.3.2 (RFC 5758).
const ECDSA_WITH_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
/// Version 3, explicitly tagged.
const VERSION_3: &[u8] = b"\xa0\x03\x02\x01\x02";
/// OID 2.5.4.3, commonName.
const COMMON_NAME: &[u8] = b"\x06\x03\x55\x04\x03";
/// `KeyUsage`, critical: digitalSignature, keyEncipherment.
const KEY_USAGE: &[u8] = b"\x30\x0e\x06\x03\x55\x1d\x0f\x01\x01\xff\x04\x04\x03\x02\x05\xa0";
/// `ExtendedKeyUsage`: codeSigning.
const CODE_SIGNING: &[u8] =
    b"\x30\x13\x06\x03\x55\x1d\x25\x04\x0c\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x03";
/// `BasicConstraints`, critical: no CA.
const END_ENTITY: &[u8] = b"\x30\x0c\x06\x03\x55\x1d\x13\x01\x01\xff\x04\x02\x30\x00";

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const EXTENSIONS: u8 = 0xa3;

/// The `TBSCertificate` for the root key `spki` of the collection `gun`: the bytes that the key signs.
pub fn tbs(
    gun: &Repository,
    spki: &Spki,
    serial: &Nonce,
    not_before: Time,
    not_after: Time,
) -> Result<Vec<u8>, CertificateError> {
    let whole = not_before == not_before.whole_seconds() && not_after == not_after.whole_seconds();
    if !whole || not_after <= not_before {
        return Err(CertificateError::Validity);
    }
    let name = name(gun);
    let extensions = tlv(SEQUENCE, &[KEY_USAGE, CODE_SIGNING, END_ENTITY]);
    Ok(tlv(
        SEQUENCE,
        &[
            VERSION_3,
            &serial_number(serial)?,
            ECDSA_WITH_SHA256,
            &name,
            &tlv(SEQUENCE, &[&time(not_before), &time(not_after)]),
            &name,
            spki.der(),
            &tlv(EXTENSIONS, &[&extensions]),
        ],
    ))
}

/// The certificate: `tbs` with its signature.
pub fn assemble(tbs: &[u8], signature: &Signature) -> Result<Vec<u8>, CertificateError> {
    let bits = tlv(BIT_STRING, &[&[0], &signature.to_der()]);
    let der = tlv(SEQUENCE, &[tbs, ECDSA_WITH_SHA256, &bits]);
    parse(&der)?;
    Ok(der)
}

/// Checks that `der` wraps the root key `spki` of exactly the collection `gun`, and is signed by that key. Whether it is
/// valid now is the caller's question.
pub fn check(der: &[u8], gun: &Repository, spki: &Spki) -> Result<Validity, CertificateError> {
    let certificate = parse(der)?;
    check_kind(&certificate)?;
    check_name(certificate.tbs_certificate().subject(), gun)?;
    if key_of(&certificate)? != *spki {
        return Err(CertificateError::Key);
    }
    check_usage(&certificate)?;
    check_signature(&certificate, spki)?;
    validity(&certificate)
}

/// The certificate as PEM in the form of Go's encoder: verifiers write it again and compute the key id from that.
pub fn to_pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut pem = String::from(PEM_BEGIN);
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at_checked(PEM_COLUMNS).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str(PEM_END);
    pem
}

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
const PEM_END: &str = "-----END CERTIFICATE-----\n";
const PEM_COLUMNS: usize = 64;

/// Reads what [`to_pem`] writes, and nothing else.
pub(crate) fn from_pem(pem: &[u8]) -> Result<Vec<u8>, CertificateError> {
    let text = std::str::from_utf8(pem).map_err(|_| CertificateError::Pem)?;
    let body =
        text.strip_prefix(PEM_BEGIN).and_then(|t| t.strip_suffix(PEM_END)).ok_or(CertificateError::Pem)?;
    let der = STANDARD.decode(body.replace('\n', "")).map_err(|_| CertificateError::Pem)?;
    if to_pem(&der).as_bytes() == pem { Ok(der) } else { Err(CertificateError::Pem) }
}

/// The public key in a certificate.
pub(crate) fn spki(der: &[u8]) -> Result<Spki, CertificateError> {
    key_of(&parse(der)?)
}

/// One DER value: tag, definite length, the parts of its content.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|b| *b == 0).collect();
    let mut out = vec![tag];
    match significant.as_slice() {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(0x7f));
            out.extend_from_slice(long);
        }
    }
    out.extend(content);
    out
}

/// `RDNSequence` of one common name. Always `UTF8String`, so that equal names have equal bytes.
fn name(gun: &Repository) -> Vec<u8> {
    let value = tlv(UTF8_STRING, &[gun.as_str().as_bytes()]);
    tlv(SEQUENCE, &[&tlv(SET, &[&tlv(SEQUENCE, &[COMMON_NAME, &value])])])
}

/// A positive DER INTEGER: no leading zero but the one that keeps the sign.
fn serial_number(serial: &Nonce) -> Result<Vec<u8>, CertificateError> {
    let value = u128::from_str_radix(serial.as_str(), 16).map_err(|_| CertificateError::Serial)?;
    let bytes: Vec<u8> = value.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
    match bytes.first() {
        None => Err(CertificateError::Serial),
        Some(first) if *first >= 0x80 => Ok(tlv(INTEGER, &[&[0], &bytes])),
        Some(_) => Ok(tlv(INTEGER, &[&bytes])),
    }
}

/// RFC 5280, 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050 on.
fn time(at: Time) -> Vec<u8> {
    let mut digits = at.to_rfc3339_seconds();
    digits.retain(|c| c.is_ascii_digit() || c == 'Z');
    match digits.split_at_checked(2) {
        Some((_, short)) if *digits < *"2050" => tlv(UTC_TIME, &[short.as_bytes()]),
        _ => tlv(GENERALIZED_TIME, &[digits.as_bytes()]),
    }
}

/// Parses, and refuses what does not encode to the same bytes again: the parsed parts then stand for the whole.
fn parse(der: &[u8]) -> Result<Certificate, CertificateError> {
    let why = |e: x509_cert::der::Error| CertificateError::Der(e.to_string());
    let certificate = Certificate::from_der(der).map_err(why)?;
    if certificate.to_der().map_err(why)? == der {
        Ok(certificate)
    } else {
        Err(CertificateError::Der("another encoding of the same content".into()))
    }
}

fn check_kind(certificate: &Certificate) -> Result<(), CertificateError> {
    let tbs = certificate.tbs_certificate();
    let algorithms = [tbs.signature(), certificate.signature_algorithm()];
    let ecdsa = algorithms.into_iter().all(|a| a.to_der().is_ok_and(|der| der == ECDSA_WITH_SHA256));
    if ecdsa && tbs.version() == Version::V3 && tbs.issuer() == tbs.subject() {
        Ok(())
    } else {
        Err(CertificateError::Kind)
    }
}

/// Old clients wrote a PrintableString; both spell the same name.
fn check_name(subject: &Name, gun: &Repository) -> Result<(), CertificateError> {
    let common_name = ObjectIdentifier::new_unwrap("2.5.4.3");
    let mut attributes = subject.iter_rdn().flat_map(|rdn| rdn.iter());
    let exact = attributes.next().is_some_and(|a| {
        a.oid == common_name
            && [Tag::Utf8String, Tag::PrintableString].contains(&a.value.tag())
            && a.value.value() == gun.as_str().as_bytes()
    });
    if exact && attributes.next().is_none() {
        Ok(())
    } else {
        Err(CertificateError::Name { wanted: gun.clone() })
    }
}

fn check_usage(certificate: &Certificate) -> Result<(), CertificateError> {
    let tbs = certificate.tbs_certificate();
    let usage = |_| CertificateError::Usage;
    let constraints = tbs.get_extension::<BasicConstraints>().map_err(usage)?;
    let key_usage = tbs.get_extension::<KeyUsage>().map_err(usage)?;
    let extended = tbs.get_extension::<ExtendedKeyUsage>().map_err(usage)?;
    let code_signing = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
    let end_entity = constraints.is_some_and(|(_, c)| !c.ca);
    let signs = key_usage.is_some_and(|(_, k)| k.digital_signature() && !k.key_cert_sign());
    if end_entity && signs && extended.is_some_and(|(_, e)| e.0.contains(&code_signing)) {
        Ok(())
    } else {
        Err(CertificateError::Usage)
    }
}

fn check_signature(certificate: &Certificate, spki: &Spki) -> Result<(), CertificateError> {
    let tbs = certificate.tbs_certificate().to_der().map_err(|e| CertificateError::Der(e.to_string()))?;
    let signature = certificate.signature().as_bytes().and_then(|der| Signature::from_der(der).ok());
    if signature.is_some_and(|s| spki.verifies(&Sha256::of(&tbs), &s)) {
        Ok(())
    } else {
        Err(CertificateError::Signature)
    }
}

fn key_of(certificate: &Certificate) -> Result<Spki, CertificateError> {
    let der = certificate.tbs_certificate().subject_public_key_info().to_der();
    der.ok().and_then(|der| super::key::p256(&der)).ok_or(CertificateError::KeyType)
}

fn validity(certificate: &Certificate) -> Result<Validity, CertificateError> {
    let stated = certificate.tbs_certificate().validity();
    let read = |t: x509_cert::time::Time| {
        let seconds = i64::try_from(t.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        Time::from_unix_ms(seconds.saturating_mul(1000)).map_err(|_| CertificateError::Validity)
    };
    let validity = Validity { not_before: read(stated.not_before)?, not_after: read(stated.not_after)? };
    if validity.not_before < validity.not_after { Ok(validity) } else { Err(CertificateError::Validity) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::ecdsa::{Signature as P256Signature, SigningKey, signature::hazmat::PrehashSigner};

    fn serial(hex: &str) -> Result<Vec<u8>, CertificateError> {
        serial_number(&Nonce::parse(&format!("{hex:0>32}")).unwrap())
    }

    #[test]
    fn serial_numbers_are_positive_and_have_no_spare_zeros() {
        assert!(matches!(serial("0"), Err(CertificateError::Serial)));
        assert_eq!(serial("1").unwrap(), [2, 1, 1]);
        assert_eq!(serial("80").unwrap(), [2, 2, 0, 0x80]);
        assert_eq!(serial("7f00").unwrap(), [2, 2, 0x7f, 0]);
        assert_eq!(serial(&"f".repeat(32)).unwrap().get(..3), Some([2, 17, 0].as_slice()));
    }

    #[test]
    fn times_change_their_type_with_the_year_2050() {
        let at = |text: &str| time(text.parse().unwrap());
        assert_eq!(at("2049-12-31T23:59:59.000Z"), b"\x17\x0d491231235959Z");
        assert_eq!(at("2050-01-01T00:00:00.000Z"), b"\x18\x0f20500101000000Z");
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        let header = |n: usize| tlv(4, &[&vec![0; n]]).get(..4).unwrap_or_default().to_vec();
        assert_eq!(tlv(5, &[]), [5, 0]);
        assert_eq!(header(0x7f), [4, 0x7f, 0, 0]);
        assert_eq!(header(0x80), [4, 0x81, 0x80, 0]);
        assert_eq!(header(0x100), [4, 0x82, 1, 0]);
    }

    #[test]
    fn pem_has_one_spelling() {
        for length in [0, 1, 47, 48, 49, 96] {
            let der = vec![0xa5; length];
            let pem = to_pem(&der);
            assert_eq!(from_pem(pem.as_bytes()).unwrap(), der);
            assert!(pem.lines().all(|l| l.len() <= PEM_COLUMNS) && pem.ends_with("-----\n"));
            let spellings = [pem.trim_end().to_owned(), pem.replace('\n', "\r\n"), format!("{pem}{pem}")];
            for other in spellings {
                assert!(from_pem(other.as_bytes()).is_err(), "{other:?}");
            }
        }
    }

    struct Root {
        key: SigningKey,
        spki: Spki,
        gun: Repository,
    }

    fn root() -> Root {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let spki = Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap();
        Root { key, spki, gun: Repository::parse("localhost/a").unwrap() }
    }

    fn day() -> Time {
        "2030-01-01T00:00:00.000Z".parse().unwrap()
    }

    impl Root {
        fn tbs(&self, from: Time, to: Time) -> Result<Vec<u8>, CertificateError> {
            tbs(&self.gun, &self.spki, &Nonce::parse(&"1".repeat(32)).unwrap(), from, to)
        }

        /// The template with other issuer, subject and extensions, signed by the root key.
        fn variant(&self, issuer: &[u8], subject: &[u8], extensions: &[&[u8]]) -> Vec<u8> {
            let extensions = tlv(EXTENSIONS, &[&tlv(SEQUENCE, extensions)]);
            let validity = tlv(SEQUENCE, &[&time(day()), &time(day().plus_s(60))]);
            let serial = [INTEGER, 1, 1];
            let head: [&[u8]; 5] = [VERSION_3, &serial, ECDSA_WITH_SHA256, issuer, &validity];
            self.signed(&tlv(SEQUENCE, &[&head.concat(), subject, self.spki.der(), &extensions]))
        }

        fn signed(&self, tbs: &[u8]) -> Vec<u8> {
            let made: P256Signature = self.key.sign_prehash(Sha256::of(tbs).as_bytes()).unwrap();
            assemble(tbs, &Signature::from_raw(&made.to_bytes()).unwrap()).unwrap()
        }

        fn check(&self, der: &[u8]) -> Result<Validity, CertificateError> {
            check(der, &self.gun, &self.spki)
        }
    }

    fn common_names(names: &[(u8, &str)]) -> Vec<u8> {
        let one = |(tag, name): &(u8, &str)| {
            tlv(SET, &[&tlv(SEQUENCE, &[COMMON_NAME, &tlv(*tag, &[name.as_bytes()])])])
        };
        tlv(SEQUENCE, &[&names.iter().flat_map(one).collect::<Vec<u8>>()])
    }

    const TEMPLATE: [&[u8]; 3] = [KEY_USAGE, CODE_SIGNING, END_ENTITY];
    const PRINTABLE_STRING: u8 = 0x13;
    const IA5_STRING: u8 = 0x16;

    #[test]
    fn a_validity_must_have_an_extent() {
        let day = day();
        assert!(root().tbs(day, day.plus_s(1)).is_ok());
        for (from, to) in [(day, day), (day.plus_s(1), day), (day, day.plus_ms(1500))] {
            assert!(matches!(root().tbs(from, to), Err(CertificateError::Validity)));
        }
    }

    #[test]
    fn only_one_common_name_that_is_exactly_the_repository_will_do() {
        let root = root();
        let of = |names: &[(u8, &str)]| {
            let name = common_names(names);
            root.check(&root.variant(&name, &name, &TEMPLATE))
        };
        assert!(of(&[(UTF8_STRING, "localhost/a")]).is_ok());
        assert!(of(&[(PRINTABLE_STRING, "localhost/a")]).is_ok(), "as the notary client writes it");
        for names in [
            &[(UTF8_STRING, "localhost/*")][..],
            &[(UTF8_STRING, "localhost/")],
            &[(UTF8_STRING, "localhost/a2")],
            &[(UTF8_STRING, "LOCALHOST/a")],
            &[(IA5_STRING, "localhost/a")],
            &[(UTF8_STRING, "localhost/a"), (UTF8_STRING, "localhost/*")],
            &[],
        ] {
            assert!(matches!(of(names), Err(CertificateError::Name { .. })), "{names:?}");
        }
    }

    #[test]
    fn an_authority_or_a_certificate_for_another_use_is_refused() {
        let root = root();
        let name = name(&root.gun);
        let of = |extensions: &[&[u8]]| root.check(&root.variant(&name, &name, extensions));
        assert!(of(&TEMPLATE).is_ok());
        let authority = b"\x30\x0f\x06\x03\x55\x1d\x13\x01\x01\xff\x04\x05\x30\x03\x01\x01\xff";
        let signs_certificates = b"\x30\x0e\x06\x03\x55\x1d\x0f\x01\x01\xff\x04\x04\x03\x02\x02\x84";
        let server = b"\x30\x13\x06\x03\x55\x1d\x25\x04\x0c\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01";
        for extensions in [
            &[KEY_USAGE, CODE_SIGNING, authority][..],
            &[KEY_USAGE, CODE_SIGNING],
            &[KEY_USAGE, CODE_SIGNING, END_ENTITY, authority],
            &[signs_certificates, CODE_SIGNING, END_ENTITY],
            &[CODE_SIGNING, END_ENTITY],
            &[KEY_USAGE, server, END_ENTITY],
            &[KEY_USAGE, END_ENTITY],
        ] {
            assert!(matches!(of(extensions), Err(CertificateError::Usage)), "{extensions:x?}");
        }
    }

    #[test]
    fn a_certificate_by_another_issuer_or_with_another_signature_is_refused() {
        let root = root();
        let (name, other) = (name(&root.gun), common_names(&[(UTF8_STRING, "localhost/ca")]));
        let issued = root.check(&root.variant(&other, &name, &TEMPLATE));
        assert!(matches!(issued, Err(CertificateError::Kind)));

        let tbs = root.tbs(day(), day().plus_s(60)).unwrap();
        let good = root.signed(&tbs);
        assert!(root.check(&good).is_ok());
        let made: P256Signature = root.key.sign_prehash(Sha256::of(b"other").as_bytes()).unwrap();
        let forged = assemble(&tbs, &Signature::from_raw(&made.to_bytes()).unwrap()).unwrap();
        assert!(matches!(root.check(&forged), Err(CertificateError::Signature)));
        let longer = [good.as_slice(), &[0]].concat();
        assert!(matches!(root.check(&longer), Err(CertificateError::Der(_))));
    }
}
