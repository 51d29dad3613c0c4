//! The spelling and the limits of statements, approvals and rosters, and how rosters follow each other.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code, where a panic is a failed test")]

#[path = "support/cast.rs"]
mod cast;

use cast::{
    Ceremony, at, by_piv, content, first, first_content, group, id, name, next, piv, statement, webauthn,
};
use people::{
    Approval, ApprovalError, AssertionError, Change, Content, Decision, Method, Roster, RosterContent,
    SignedRoster, Signing, Statement, SuccessionError,
};
use proptest::prelude::*;
use record::{Format, Principal};

fn text(statement: &Statement) -> String {
    String::from_utf8(statement.bytes().to_vec()).unwrap()
}

#[test]
fn a_statement_is_read_as_it_was_written_and_in_no_other_spelling() {
    let said = statement();
    assert_eq!(Statement::parse(said.bytes()).unwrap(), said);
    let good = text(&said);
    for (from, to) in [
        ("{\"_type\"", "{ \"_type\""),
        ("Statement/v1", "Statement/v0.1"),
        ("urn:uuid:36e898e0", "urn:uuid:36e898e1"),
        ("\"decision\":\"approve\"", "\"decision\":\"maybe\""),
        ("\"decision\":\"approve\"", "\"decision\":\"approve\",\"decision\":\"approve\""),
        ("\"log\":", "\"admin\":true,\"log\":"),
        ("\"size\":525", "\"size\":525.0"),
        ("\"size\":525", "\"size\":-1"),
        ("\"tag\":\"v1\"", "\"tag\":\"-v1\""),
        ("\"log\":\"log.example.com\"", "\"log\":\"log.example.com/\""),
        ("r.example/team/app", "r.example/team/App"),
        ("\"sha256\":\"", "\"sha256\":\"0"),
        ("\"sha256\":\"", "\"sha512\":\"\",\"sha256\":\""),
    ] {
        assert!(good.contains(from), "{from}");
        assert!(Statement::parse(good.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
    }
    let two =
        good.replace("\"subject\":[", "\"subject\":[{\"digest\":{\"sha256\":\"00\"},\"name\":\"x.y/z\"},");
    assert!(Statement::parse(two.as_bytes()).is_err(), "two subjects");
    assert!(Statement::parse(&vec![b' '; 20_000]).is_err());
}

#[test]
fn a_statement_lasts_a_day_at_most_and_names_what_it_is_for() {
    let refused = |change: &dyn Fn(&mut Content)| {
        let mut content = content();
        change(&mut content);
        Statement::new(content).unwrap_err().to_string()
    };
    let day = 24 * 60 * 60 * 1000;
    assert!(refused(&|c| c.expires = at(day + 1)).contains("expires"));
    assert!(refused(&|c| c.expires = c.not_before).contains("expires"));
    assert!(refused(&|c| c.signatures.clear()).contains("signatures"));
    assert!(refused(&|c| c.signatures.extend(c.signatures.clone())).contains("signatures"));
    assert!(refused(&|c| c.break_glass = Some(String::new())).contains("breakGlass"));
    assert!(refused(&|c| c.break_glass = Some("a\nb".into())).contains("breakGlass"));
    assert!(refused(&|c| c.break_glass = Some("x".repeat(501))).contains("breakGlass"));
    for bad in ["", "none", "a/b c", "a/ü", &format!("a/{}", "x".repeat(254))] {
        let typed = |c: &mut Content| {
            let Change::Image { media_type, .. } = &mut c.change else { panic!() };
            *media_type = bad.into();
        };
        assert!(refused(&typed).contains("mediaType"), "{bad:?}");
    }
    let with_children = |count: usize| {
        let mut content = content();
        let Change::Image { children, .. } = &mut content.change else { panic!() };
        *children = (0..count).map(|n| record::Digest::of(&n.to_be_bytes())).collect();
        content.signatures =
            (0..8).map(|n| Signing { format: Format::DctMetadata, key: id(&n.to_string()) }).collect();
        content.signatures.sort();
        content.expires = at(day);
        content.break_glass = Some("x".repeat(500));
        Statement::new(content)
    };
    let largest = with_children(64).unwrap();
    assert!(Approval::parse(&by_piv("bob", &largest).encode().unwrap()).is_ok(), "{}", largest.bytes().len());
    assert!(with_children(65).is_err());
}

#[test]
fn the_code_that_people_compare_is_the_statements_own() {
    let said = statement();
    let code = said.code();
    assert!(code.len() == 7 && code.bytes().all(|b| b.is_ascii_digit() || b == b' '), "{code}");
    assert_ne!(code, said.deciding(Decision::Reject).unwrap().code());
}

#[test]
fn an_approval_has_one_spelling_and_one_signature() {
    let approval = by_piv("bob", &statement());
    let bytes = approval.encode().unwrap();
    assert_eq!(Approval::parse(&bytes).unwrap(), approval);
    let good = String::from_utf8(bytes).unwrap();
    let signatures = good.split_once("\"signatures\":[").unwrap().1.trim_end_matches("]}").to_owned();
    for (from, to) in [
        ("vnd.in-toto+json", "vnd.in-toto.json"),
        ("\"keyid\":\"", "\"keyid\":\"0"),
        ("\"sig\":\"", "\"note\":\"\",\"sig\":\""),
        ("\"sig\":\"M", "\"sig\":\" M"),
        (signatures.as_str(), ""),
        (signatures.as_str(), &format!("{signatures},{signatures}")),
    ] {
        assert!(good.contains(from), "{from}");
        assert!(Approval::parse(good.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
    }
}

fn judged(ceremony: &Ceremony) -> AssertionError {
    let said = statement();
    match ceremony.signed("carol-page", &said).verify(&webauthn("carol-page")).unwrap_err() {
        ApprovalError::Assertion(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn an_assertion_is_evidence_of_a_verified_user_who_touched_for_this_statement_on_this_site() {
    use AssertionError as E;
    let said = statement();
    let good = Ceremony::about(&said);
    let approval = good.signed("carol-page", &said);
    approval.verify(&webauthn("carol-page")).unwrap();
    assert_eq!(Approval::parse(&approval.encode().unwrap()).unwrap(), approval);
    let client = |from: &str, to: &str| {
        assert!(good.client.contains(from));
        Ceremony { client: good.client.replacen(from, to, 1), ..good.clone() }
    };
    let other = Ceremony::about(&said.deciding(Decision::Reject).unwrap());
    let flags = |flags| Ceremony { flags, ..good.clone() };
    for (ceremony, error) in [
        (other, E::Challenge),
        (client("webauthn.get", "webauthn.create"), E::Type),
        (client("https://approve", "https://evil"), E::Origin),
        (client("https://approve", "http://approve"), E::Origin),
        (client("example.com\"", "example.com:8443\""), E::Origin),
        (client("false", "true"), E::CrossOrigin),
        (client("\"crossOrigin\":false", "\"topOrigin\":\"https://evil.example\""), E::CrossOrigin),
        (client("{", "{\"type\":\"webauthn.get\","), E::ClientData),
        (client("}", ""), E::ClientData),
        (client("}", &format!(",\"x\":\"{}\"}}", "y".repeat(4096))), E::ClientData),
        (flags(0x04), E::NotPresent),
        (flags(0x01), E::NotVerified),
        (flags(0x0d), E::Copied),
        (flags(0x1d), E::Copied),
        (flags(0x45), E::AuthenticatorData),
        (flags(0x85), E::AuthenticatorData),
        (Ceremony { rp_id: "evil.example".into(), ..good.clone() }, E::RelyingParty),
        (Ceremony { more: vec![0xa0], ..good.clone() }, E::AuthenticatorData),
    ] {
        assert_eq!(judged(&ceremony), error, "{}", ceremony.client);
    }
    // What browsers add at random changes nothing; another key does.
    client("}", ",\"other_keys_can_be_added_here\":\"do not compare\"}")
        .signed("carol-page", &said)
        .verify(&webauthn("carol-page"))
        .unwrap();
    assert!(good.signed("carol-page", &said).verify(&webauthn("bob")).is_err());
    // Neither way of signing passes for the other.
    assert!(matches!(good.signed("carol", &said).verify(&piv("carol")), Err(ApprovalError::Method)));
    assert!(matches!(by_piv("carol", &said).verify(&webauthn("carol")), Err(ApprovalError::Method)));
}

#[test]
fn a_p384_key_approves_too() {
    use p384::ecdsa::signature::Signer;
    let key = p384::ecdsa::SigningKey::from_slice(&[7; 48]).unwrap();
    let spki = record::Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap();
    let said = statement();
    let signature: p384::ecdsa::Signature = key.sign(&people::pae(people::PAYLOAD_TYPE, said.bytes()));
    let proof = people::Proof::Piv(signature.to_der().as_bytes().to_vec());
    let of_roster = people::PersonKey { spki: spki.clone(), ..piv("x") };
    Approval::new(said, spki.id(), proof).verify(&of_roster).unwrap();
}

fn refused(change: impl FnOnce(&mut RosterContent)) -> String {
    let mut content = first_content();
    change(&mut content);
    Roster::new(content).unwrap_err().to_string()
}

#[test]
fn a_roster_names_everything_once_and_can_be_followed() {
    let roster = first();
    assert_eq!(Roster::parse(roster.bytes()).unwrap(), roster);
    let token = || Principal::parse("token:x").unwrap();
    for (said, why) in [
        (refused(|c| c.version = 0), "version"),
        (refused(|c| c.version = 2), "previous"),
        (refused(|c| c.people.swap(0, 1)), "people: sorted"),
        (refused(|c| c.people.clear()), "people: 1 to"),
        (refused(|c| c.people[1].keys = vec![piv("alice")]), "twice"),
        (refused(|c| c.people[1].keys.clear()), "bob: has 1 to 8"),
        (
            refused(|c| c.people.iter_mut().take(2).for_each(|p| p.principals = vec![token()])),
            "another person",
        ),
        (
            refused(|c| c.people[0].principals = vec![Principal::parse("person:bob").unwrap()]),
            "person's name",
        ),
        (refused(|c| c.groups[0].members.clear()), "group all: has no members"),
        (refused(|c| c.groups[0].members.push(name("zoe"))), "not among the people"),
        (refused(|c| c.groups[0].members.push(name("alice"))), "members sorted"),
        (refused(|c| c.groups.clear()), "groups: 1 to"),
        (refused(|c| c.changes.count = 0), "changes"),
        (refused(|c| c.changes.count = 4), "changes"),
        (refused(|c| c.changes.group = name("nobody")), "changes"),
    ] {
        assert!(said.contains(why), "{why}: {said}");
    }
    // bob is left with a page only, so that three cannot sign the next one.
    let page_only = |c: &mut RosterContent| (c.people[1].keys, c.changes.count) = (vec![webauthn("bob")], 3);
    assert!(refused(page_only).contains("changes"));
    let page = |origin: &str, rp_id: &str| {
        refused(|c| {
            let Method::Webauthn { origin: o, rp_id: r, .. } = &mut c.people[2].keys[1].method else {
                panic!()
            };
            (*o, *r) = (origin.into(), rp_id.into());
        })
    };
    for (origin, rp_id) in [
        ("http://approve.example.com", "approve.example.com"),
        ("https://approve.example.com.evil.example", "approve.example.com"),
        ("https://evilapprove.example.com", "approve.example.com"),
        ("https://approve.example.com/", "approve.example.com"),
        ("https://approve.example.com:0443", "approve.example.com"),
        ("https://approve.example.com:443", "approve.example.com"),
        ("https://Approve.example.com", "Approve.example.com"),
    ] {
        assert!(page(origin, rp_id).contains("origin"), "{origin}");
    }
}

#[test]
fn the_first_roster_is_the_pinned_one_and_no_other() {
    let roster = first();
    let offered = || SignedRoster::new(first(), vec![]);
    assert_eq!(SignedRoster::parse(&offered().encode().unwrap()).unwrap(), offered());
    assert_eq!(offered().first(roster.sha256()).unwrap(), roster);
    let pin = record::Sha256::of(b"another");
    assert!(matches!(offered().first(pin), Err(SuccessionError::NotPinned { .. })));
    let signed = SignedRoster::new(first(), vec![(id("alice"), vec![1])]);
    assert!(matches!(signed.first(roster.sha256()), Err(SuccessionError::SignedFirst)));
    let second = next(&roster, &["alice", "bob"], |_| ());
    let pin = second.offered().sha256();
    assert!(matches!(second.first(pin), Err(SuccessionError::NotPinned { version: 2, .. })));
}

#[test]
fn a_roster_follows_by_the_signatures_of_the_quorum_before_it_by_piv() {
    let one = first();
    // dave takes bob's place in `keys`.
    let swap = |c: &mut RosterContent| c.groups[1] = group("keys", &["alice", "carol", "dave"]);
    let two = next(&one, &["alice", "bob"], swap);
    let two = SignedRoster::parse(&two.encode().unwrap()).unwrap().after(&one).unwrap();
    assert_eq!(two.version(), 2);
    let fails = |signers: &[&str], from: &Roster, wanted: &str| {
        let error = next(from, signers, |_| ()).after(from).unwrap_err().to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
    };
    fails(&[], &one, "0 of 2 members of group keys have signed it: 2 more");
    fails(&["alice"], &one, "1 of 2");
    fails(&["alice", "alice-2"], &one, "1 of 2");
    fails(&["alice", "dave"], &one, "1 of 2");
    fails(&["alice", "mallory"], &one, "no PIV key");
    fails(&["alice", "carol-page"], &one, "no PIV key");
    fails(&["alice", "bob"], &two, "1 of 2");
    next(&two, &["alice", "dave"], |_| ()).after(&two).unwrap();
    // Over its exact bytes.
    let signed = next(&one, &["alice", "bob"], |c| c.changes.count = 1);
    let signature = |s: &SignedRoster| {
        let envelope: serde_json::Value = serde_json::from_slice(&s.encode().unwrap()).unwrap();
        let taken = envelope["signatures"].as_array().unwrap().iter().map(|s| {
            let blob: record::wire::Blob = serde_json::from_value(s["sig"].clone()).unwrap();
            (s["keyid"].as_str().unwrap().parse().unwrap(), blob.0)
        });
        taken.collect::<Vec<_>>()
    };
    let moved = SignedRoster::new(next(&one, &[], |_| ()).offered().clone(), signature(&signed));
    assert!(matches!(moved.after(&one), Err(SuccessionError::Signature(_))));
}

#[test]
fn only_the_next_version_of_this_very_roster_follows() {
    let one = first();
    let two = next(&one, &["alice", "bob"], |_| ()).after(&one).unwrap();
    let three = next(&two, &["alice", "bob"], |_| ());
    assert!(matches!(three.clone().after(&one), Err(SuccessionError::Version { current: 1, offered: 3 })));
    assert!(three.after(&two).is_ok());
    let again = next(&one, &["alice", "bob"], |_| ());
    assert!(matches!(again.after(&two), Err(SuccessionError::Version { .. })), "no way back");
    let other = Roster::new({
        let mut content = first_content();
        content.changes.count = 1;
        content
    });
    let of_other = next(&other.unwrap(), &["alice", "bob"], |_| ());
    assert!(matches!(of_other.after(&one), Err(SuccessionError::Previous(1))));
}

proptest! {
    /// No byte of an approval can be changed: either it is not read any more, or it does not verify.
    #[test]
    fn no_byte_of_an_approval_can_change(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let said = statement();
        for (approval, key) in [(by_piv("bob", &said), piv("bob")), (Ceremony::about(&said).signed("bob", &said), webauthn("bob"))] {
            let mut bytes = approval.encode().unwrap();
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            let counts = Approval::parse(&bytes).is_ok_and(|read| read.key() == key.spki.id() && read.verify(&key).is_ok());
            prop_assert!(!counts, "byte {}", at);
        }
    }

    /// Whatever is read was written by `encode`.
    #[test]
    fn nothing_but_the_encoding_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Statement::parse(&bytes).is_err());
        prop_assert!(Approval::parse(&bytes).is_err());
        prop_assert!(SignedRoster::parse(&bytes).is_err());
    }
}
