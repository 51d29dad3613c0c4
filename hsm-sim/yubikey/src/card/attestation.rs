//! ATTEST: a certificate that says "this key was made on this card" (developers.yubico.com, "PIV attestation").
//!
//! The form is a real 5.7.4 card's: random serial number of 16 bytes, issuer and validity from the f9 certificate,
//! subject with the slot, five extensions that are not critical and hold raw bytes. f9 is `pki/make.sh`'s, or whatever was
//! imported over it.

use super::{Answer, Card, random};
use crate::{
    algorithm::{Algorithm, Slot, TouchPolicy},
    apdu::{Command, Sw},
    journal::{Operation, Signed, TouchState},
    key::{PrivateKey, Refused, der_unsigned},
    ports::Ports,
    rng::Expander,
    state::{ATTESTATION_CERTIFICATE, Key},
    tlv,
};
use sha2::{Digest, Sha256};

const SEQUENCE: u32 = 0x30;
const SET: u32 = 0x31;
const OID: u32 = 0x06;
const OCTET_STRING: u32 = 0x04;
const BIT_STRING: u32 = 0x03;
const UTF8_STRING: u32 = 0x0c;
const VERSION: u32 = 0xa0;
const EXTENSIONS: u32 = 0xa3;
const V3: &[u8] = &[2, 1, 2];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// Yubico's arc 1.3.6.1.4.1.41482.3; firmware, serial, policies and form factor are 3, 7, 8 and 9 below it.
const YUBICO_PIV: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0xc4, 0x0a, 3];
/// `sha256WithRSAEncryption` with its NULL.
const SHA256_RSA: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b, 0x05, 0];
/// `ecdsa-with-SHA256`.
const SHA256_ECDSA: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// `DigestInfo` of SHA-256 without the digest (RFC 8017 section 9.2 note 1).
const SHA256_INFO: &[u8] =
    &[0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];

/// What the leaf takes over from the f9 certificate, in DER.
struct Issuer {
    subject: Vec<u8>,
    validity: Vec<u8>,
}

impl Card {
    /// Only keys that were generated here; 6A80 for an imported one, an empty slot and f9 itself.
    pub(super) fn attest(&mut self, command: &Command<'_>, ports: &mut dyn Ports) -> Answer {
        let slot = Slot::new(command.p1).filter(|slot| *slot != Slot::ATTESTATION).ok_or(Sw::WRONG_DATA)?;
        let key = self.state.slots.get(&slot).filter(|key| key.generated).ok_or(Sw::WRONG_DATA)?;
        let f9 = self.state.slots.get(&Slot::ATTESTATION).ok_or(Sw::WRONG_DATA)?;
        let issuer = self.issuer().ok_or(Sw::WRONG_DATA)?;
        let mut rng = random(ports)?;
        let algorithm = signature_algorithm(f9.key.algorithm()).ok_or(Sw::WRONG_DATA)?;
        let to_sign = self.to_be_signed(slot, key, &issuer, algorithm, rng.bytes());
        let signature = sign(&f9.key, &to_sign, &mut rng).map_err(|_| Sw::WRONG_DATA)?;
        self.journal(&self.attested(f9, &to_sign, &signature), ports)?;
        let bits = tlv::encode(BIT_STRING, &[&[0], signature.as_slice()].concat());
        Ok(tlv::encode(SEQUENCE, &[to_sign, tlv::encode(SEQUENCE, algorithm), bits].concat()))
    }

    fn issuer(&self) -> Option<Issuer> {
        let object = tlv::parse(&self.state.objects.get(&ATTESTATION_CERTIFICATE)?.0)?;
        let (certificate, _) = tlv::take(tlv::find(&object, 0x70)?)?;
        let (to_be_signed, _) = tlv::take(certificate.value)?;
        match tlv::parse(to_be_signed.value)?.as_slice() {
            [_version, _serial, _algorithm, _issuer, validity, subject, ..] => Some(Issuer {
                subject: tlv::encode(subject.tag, subject.value),
                validity: tlv::encode(validity.tag, validity.value),
            }),
            _ => None,
        }
    }

    fn to_be_signed(
        &self,
        slot: Slot,
        key: &Key,
        issuer: &Issuer,
        algorithm: &[u8],
        serial: [u8; 16],
    ) -> Vec<u8> {
        let serial: Vec<u8> = serial.into_iter().skip_while(|byte| *byte == 0).collect();
        let fields = [
            tlv::encode(VERSION, V3),
            der_unsigned(&serial),
            tlv::encode(SEQUENCE, algorithm),
            issuer.subject.clone(),
            issuer.validity.clone(),
            common_name(&format!("YubiKey PIV Attestation {slot}")),
            key.key.spki(),
            tlv::encode(EXTENSIONS, &tlv::encode(SEQUENCE, &self.extensions(key))),
        ];
        tlv::encode(SEQUENCE, &fields.concat())
    }

    fn extensions(&self, key: &Key) -> Vec<u8> {
        let serial: Vec<u8> =
            self.state.serial.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        [
            extension(3, &self.state.firmware.bytes()),
            extension(7, &der_unsigned(&serial)),
            extension(8, &[key.pin_policy.id(), key.touch_policy.id()]),
            extension(9, &[self.state.form_factor]),
        ]
        .concat()
    }

    fn attested(&self, f9: &Key, to_sign: &[u8], signature: &[u8]) -> Signed {
        let (input_sha256, input) = Signed::digest(to_sign);
        Signed {
            operation: Operation::Attest,
            slot: Slot::ATTESTATION,
            algorithm: f9.key.algorithm(),
            input_sha256,
            input,
            signature: signature.to_vec(),
            pin_policy: f9.pin_policy,
            pin: self.pin_state(),
            touch_policy: TouchPolicy::Never,
            touch: TouchState::None,
        }
    }
}

fn extension(number: u8, value: &[u8]) -> Vec<u8> {
    let oid = tlv::encode(OID, &[YUBICO_PIV, &[number]].concat());
    tlv::encode(SEQUENCE, &[oid, tlv::encode(OCTET_STRING, value)].concat())
}

fn common_name(text: &str) -> Vec<u8> {
    let value = [tlv::encode(OID, COMMON_NAME), tlv::encode(UTF8_STRING, text.as_bytes())].concat();
    tlv::encode(SEQUENCE, &tlv::encode(SET, &tlv::encode(SEQUENCE, &value)))
}

fn signature_algorithm(key: Algorithm) -> Option<&'static [u8]> {
    match key {
        Algorithm::EccP256 | Algorithm::EccP384 => Some(SHA256_ECDSA),
        Algorithm::Ed25519 | Algorithm::X25519 => None,
        _ => Some(SHA256_RSA),
    }
}

fn sign(key: &PrivateKey, to_sign: &[u8], rng: &mut Expander) -> Result<Vec<u8>, Refused> {
    let digest = Sha256::digest(to_sign);
    match key.algorithm().rsa_bits() {
        Some(bits) => key.sign(&pkcs1_block(bits / 8, &digest), rng),
        None => key.sign(&digest, rng),
    }
}

/// EMSA-PKCS1-v1_5 (RFC 8017 section 9.2).
fn pkcs1_block(length: usize, digest: &[u8]) -> Vec<u8> {
    let padding = length.saturating_sub(SHA256_INFO.len() + digest.len() + 3);
    [&[0, 1], vec![0xff; padding].as_slice(), &[0], SHA256_INFO, digest].concat()
}
