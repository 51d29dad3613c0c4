use super::{Bench, OK, P256};
use crate::{journal::Operation, profile::Profile};
use der::{Decode, Encode};
use rsa::{Pkcs1v15Sign, RsaPublicKey, pkcs8::DecodePublicKey};
use sha2::{Digest, Sha256, Sha512};
use x509_cert::Certificate;

fn attest(bench: &mut Bench, slot: u8) -> (Vec<u8>, u16) {
    bench.send([0, 0xf9, slot, 0], &[])
}

/// Panics unless `issuer` made the signature of `certificate`.
fn assert_issued(certificate: &Certificate, issuer: &Certificate) {
    let (tbs, by) = (certificate.tbs_certificate(), issuer.tbs_certificate());
    assert_eq!(tbs.issuer(), by.subject());
    let spki = by.subject_public_key_info().to_der().unwrap();
    let key = RsaPublicKey::from_public_key_der(&spki).unwrap();
    let signed = tbs.to_der().unwrap();
    let signature = certificate.signature().raw_bytes();
    let sha256 =
        || key.verify(Pkcs1v15Sign::new_unprefixed(), &info(256, &Sha256::digest(&signed)), signature);
    let sha512 =
        || key.verify(Pkcs1v15Sign::new_unprefixed(), &info(512, &Sha512::digest(&signed)), signature);
    sha256().or_else(|_| sha512()).unwrap();
}

fn info(bits: u16, digest: &[u8]) -> Vec<u8> {
    let (whole, inner, oid) = if bits == 256 { (0x31, 0x20, 1) } else { (0x51, 0x40, 3) };
    [&[0x30, whole, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, oid, 5, 0, 4, inner], digest]
        .concat()
}

#[test]
fn an_attestation_leads_to_the_test_root_of_its_profile() {
    for profile in Profile::ALL {
        let mut bench = Bench::new(profile);
        bench.generate(0x9c, P256, 3, 2);
        let (leaf, sw) = attest(&mut bench, 0x9c);
        assert_eq!(sw, OK);
        let above = profile.attestation_intermediates().iter().rev();
        let chain: Vec<Certificate> = [leaf.as_slice(), profile.attestation_f9()]
            .into_iter()
            .chain(above.copied())
            .chain([profile.attestation_root(), profile.attestation_root()])
            .map(|der| Certificate::from_der(der).unwrap())
            .collect();
        chain.windows(2).for_each(|pair| assert_issued(&pair[0], &pair[1]));
        for issuer in &chain[1..] {
            let name = issuer.tbs_certificate().subject().to_string();
            assert!(name.starts_with("CN=TEST ") && name.ends_with("not Yubico"), "{name}");
        }
    }
}

#[test]
fn an_attestation_says_what_the_key_is_and_where() {
    let mut bench = Bench::v5_7();
    let public = bench.generate(0x9c, P256, 3, 2);
    let leaf = Certificate::from_der(&attest(&mut bench, 0x9c).0).unwrap();
    let tbs = leaf.tbs_certificate();
    let f9 = Certificate::from_der(Profile::V5_7_4.attestation_f9()).unwrap();
    assert_eq!(tbs.subject().to_string(), "CN=YubiKey PIV Attestation 9c");
    assert_eq!(tbs.validity(), f9.tbs_certificate().validity());
    assert_eq!(tbs.subject_public_key_info().subject_public_key.raw_bytes(), &public[2..]);
    let found: Vec<(String, bool, Vec<u8>)> = tbs
        .extensions()
        .unwrap()
        .iter()
        .map(|found| (found.extn_id.to_string(), found.critical, found.extn_value.as_bytes().to_vec()))
        .collect();
    let expected = |number, value: &[u8]| (format!("1.3.6.1.4.1.41482.3.{number}"), false, value.to_vec());
    assert_eq!(
        found,
        [
            expected(3, &[5, 7, 4]),
            expected(7, &[2, 3, 0x74, 0xcb, 0xb1]),
            expected(8, &[3, 2]),
            expected(9, &[1])
        ]
    );
}

#[test]
fn only_keys_that_were_made_here_are_attested() {
    let mut bench = Bench::v5_7();
    bench.authenticate();
    assert_eq!(bench.sw([0, 0xfe, P256, 0x9a], &[&[6, 32], &[0x11; 32][..]].concat()), OK);
    for slot in [0x9a, 0x9c, 0xf9, 0x96] {
        assert_eq!(attest(&mut bench, slot).1, 0x6a80, "{slot:02x}");
    }
}

#[test]
fn every_kind_of_key_can_be_attested_and_the_journal_has_it() {
    let mut bench = Bench::v5_7();
    for algorithm in [P256, 0x14, 0xe0, 0xe1] {
        bench.generate(0x82, algorithm, 0, 0);
        let leaf = Certificate::from_der(&attest(&mut bench, 0x82).0).unwrap();
        let last = bench.world.journal.last().unwrap();
        assert_eq!(last.operation, Operation::Attest);
        assert_eq!(last.signature, leaf.signature().raw_bytes());
        assert_eq!(last.input_sha256, Sha256::digest(leaf.tbs_certificate().to_der().unwrap()).to_vec());
    }
}

#[test]
fn an_attestation_key_that_was_overwritten_leads_nowhere() {
    let mut bench = Bench::v5_7();
    bench.generate(0x9a, P256, 0, 0);
    bench.generate(0xf9, P256, 0, 0);
    let (leaf, sw) = attest(&mut bench, 0x9a);
    assert_eq!(sw, OK);
    let leaf = Certificate::from_der(&leaf).unwrap();
    assert_eq!(leaf.signature_algorithm().oid.to_string(), "1.2.840.10045.4.3.2");
    bench.sw([0, 0xdb, 0x3f, 0xff], &[0x5c, 3, 0x5f, 0xff, 1, 0x53, 1, 7]);
    assert_eq!(attest(&mut bench, 0x9a).1, 0x6a80);
}
