//! The builder: what it makes reads back, and what does not fit the intent is refused.

use crate::collection::{Collection, GUN, Key, at, change, child, far, targets};
use formats::{
    BuildError, Keys, MAX_VERSION, build,
    dct::{MAX_FILE_BYTES, Role, SignedFile, canonical_json, certificate, certificate_key_id, key_id},
    seal,
};
use proptest::prelude::*;
use record::{
    Action, Change, Digest, FileRef, MAX_CHANGES, Purpose, Sha256, Tag,
    wire::{Blob, Extra},
};
use std::collections::BTreeMap;

#[test]
fn root_metadata_reads_back_with_the_keys_and_certificate_it_was_built_from() {
    let c = Collection::new(GUN);
    let files = c.files();
    let read = SignedFile::parse(&files.root).unwrap();
    let root = read.root().unwrap();
    assert_eq!((read.role(), read.version(), read.expires()), (Role::Root, 1, far()));
    assert_eq!(root.certificate, files.certificate);
    assert_eq!(root.root.keyid, certificate_key_id(&files.certificate));
    for purpose in Purpose::ALL {
        let role = root.of(purpose.into());
        assert_eq!(role.spki, c.key(purpose).spki, "{purpose}");
        if purpose != Purpose::Root {
            assert_eq!(role.keyid, key_id(&role.spki));
        }
    }
    read.verify(&c.root.spki, &root.root.keyid).unwrap();
}

#[test]
fn each_file_names_the_one_below_it_and_is_signed_by_its_own_role() {
    let c = Collection::new(GUN);
    let files = c.files();
    let snapshot = SignedFile::parse(&files.snapshot).unwrap();
    let timestamp = SignedFile::parse(&files.timestamp).unwrap();
    let expected = BTreeMap::from([
        ("root".to_owned(), FileRef::of(&files.root)),
        ("targets".to_owned(), FileRef::of(&files.targets)),
    ]);
    assert_eq!(snapshot.meta().unwrap(), &expected);
    assert_eq!(timestamp.meta().unwrap()["snapshot"], FileRef::of(&files.snapshot));
    assert!(timestamp.targets().is_err() && timestamp.root().is_err());
    snapshot.verify(&c.snapshot.spki, &key_id(&c.snapshot.spki)).unwrap();
    timestamp.verify(&c.timestamp.spki, &key_id(&c.timestamp.spki)).unwrap();
    assert!(timestamp.verify(&c.snapshot.spki, &key_id(&c.snapshot.spki)).is_err(), "another key's id");
    assert!(timestamp.verify(&c.snapshot.spki, &key_id(&c.timestamp.spki)).is_err(), "another key");
}

#[test]
fn a_new_version_keeps_every_tag_and_delegation_that_was_not_changed() {
    let c = Collection::new(GUN);
    let hash = "1HNeOiZeFu7gP1lxi5tdAwGcB9i2xR+Q2jpmbuwTqzU=";
    let client = format!(
        r#"{{ "signatures": [], "signed": {{"_type":"Targets","version":7,"expires":"2029-11-23T01:07:43.192279365+05:30",
        "delegations":{{"keys":{{}},"roles":[{{"name":"targets/a","keyids":["00"],"threshold":1,"paths":[""]}}]}},
        "targets":{{"old":{{"length":9,"hashes":{{"sha256":"{hash}"}},"custom":{{"b":1,"a":"x\u0026y"}}}}}}}}}}"#
    );
    let (action, extra) = targets(8, Some(client.as_bytes()), vec![change("new", b"image")]);
    let made = String::from_utf8(c.build(action, &extra).unwrap()).unwrap();
    let old = format!(r#""old":{{"custom":{{"a":"x&y","b":1}},"hashes":{{"sha256":"{hash}"}},"length":9}}"#);
    assert!(made.contains(&old), "{made}");
    assert!(
        made.contains(r#""paths":[""]"#) && made.contains(r#""new":{"#) && made.contains(r#""version":8"#)
    );
}

#[test]
fn a_file_other_than_the_one_the_intent_names_is_refused() {
    let c = Collection::new(GUN);
    let files = c.files();
    let flipped = |bytes: &[u8]| {
        let mut other = bytes.to_vec();
        // A blank before the end: the same content, other bytes.
        other.insert(other.len() - 1, b' ');
        other
    };
    let refused = |action: Action, extra: Extra| {
        assert!(matches!(c.build(action, &extra), Err(BuildError::File { .. })), "{extra:?}");
    };
    let root = Extra::Root { certificate: Blob(flipped(&files.certificate)) };
    refused(c.root_action(&files.certificate), root);

    let snapshot = || Action::Snapshot {
        version: 1,
        expires: far(),
        root: FileRef::of(&files.root),
        targets: FileRef::of(&files.targets),
    };
    let other_root = Extra::Snapshot { root: child(&flipped(&files.root)), targets: child(&files.targets) };
    refused(snapshot(), other_root);
    refused(snapshot(), Extra::Snapshot { root: child(&files.root), targets: child(&files.first) });

    let named = FileRef::of(&files.snapshot);
    let other_length = FileRef { length: named.length + 1, ..named };
    for (snapshot, file) in [(named, flipped(&files.snapshot)), (other_length, files.snapshot.clone())] {
        let action = Action::Timestamp { version: 1, expires: far(), snapshot };
        refused(action, Extra::Timestamp { snapshot: child(&file) });
    }
    let (action, _) = targets(3, Some(&files.targets), vec![change("a", b"1")]);
    refused(action, Extra::Targets { prev: Some(Blob(files.first.clone())) });
}

#[test]
fn a_previous_file_comes_exactly_when_the_intent_names_one() {
    let c = Collection::new(GUN);
    let first = c.targets_file(1, None, vec![change("a", b"1")]);
    let (with, with_file) = targets(2, Some(&first), vec![change("a", b"2")]);
    let (without, without_file) = targets(2, None, vec![change("a", b"2")]);
    assert!(matches!(c.build(with, &without_file), Err(BuildError::Previous)));
    assert!(matches!(c.build(without, &with_file), Err(BuildError::Previous)));
}

#[test]
fn a_file_of_another_role_is_refused_even_if_the_intent_names_it() {
    let c = Collection::new(GUN);
    let files = c.files();
    let action = Action::Snapshot {
        version: 1,
        expires: far(),
        root: FileRef::of(&files.targets),
        targets: FileRef::of(&files.root),
    };
    let extra = Extra::Snapshot { root: child(&files.targets), targets: child(&files.root) };
    assert!(matches!(c.build(action, &extra), Err(BuildError::Role { wanted: Role::Root, .. })));

    let action = Action::Timestamp { version: 1, expires: far(), snapshot: FileRef::of(b"{}") };
    let extra = Extra::Timestamp { snapshot: child(b"{}") };
    assert!(matches!(c.build(action, &extra), Err(BuildError::Read { role: Role::Snapshot, .. })));
}

#[test]
fn extra_files_and_labels_of_another_action_are_refused() {
    let c = Collection::new(GUN);
    let (action, extra) = targets(1, None, vec![change("a", b"1")]);
    assert!(matches!(c.build(action.clone(), &Extra::RootCertificate {}), Err(BuildError::Extra)));
    let mut intent = c.intent(action);
    intent.purpose = Purpose::Snapshot;
    assert!(matches!(build(&intent, &extra, &c.keys()), Err(BuildError::Labels)));
}

#[test]
fn changes_are_sorted_single_and_within_their_limits() {
    let c = Collection::new(GUN);
    let built = |changes| {
        let (action, extra) = targets(1, None, changes);
        c.build(action, &extra)
    };
    let numbered = |n: usize| (0..n).map(|i| change(&format!("t{i:04}"), b"1")).collect::<Vec<_>>();
    assert!(built(numbered(MAX_CHANGES)).is_ok());
    assert!(built(vec![]).is_ok(), "a renewal changes no tag");
    assert!(matches!(built(numbered(MAX_CHANGES + 1)), Err(BuildError::ChangeCount(201))));
    let twice = vec![change("a", b"1"), change("a", b"1")];
    let unsorted = vec![change("b", b"1"), change("a", b"1")];
    for changes in [twice, unsorted] {
        assert!(matches!(built(changes), Err(BuildError::ChangeOrder(tag)) if tag.as_str() == "a"));
    }
    for size in [0, (1 << 53) + 1, u64::MAX] {
        let odd = Change { size, ..change("a", b"1") };
        assert!(matches!(built(vec![odd]), Err(BuildError::ManifestSize { .. })), "{size}");
    }
}

#[test]
fn versions_and_times_that_the_file_cannot_carry_are_refused() {
    let c = Collection::new(GUN);
    let snapshot = c.files().snapshot;
    let extra = Extra::Timestamp { snapshot: child(&snapshot) };
    let built = |version, expires| {
        let action = Action::Timestamp { version, expires, snapshot: FileRef::of(&snapshot) };
        c.build(action, &extra)
    };
    assert!(built(MAX_VERSION, far()).is_ok());
    assert!(matches!(built(0, far()), Err(BuildError::Version(0))));
    assert!(matches!(built(MAX_VERSION + 1, far()), Err(BuildError::Version(_))));
    assert!(matches!(built(1, at("2090-01-01T00:00:00.001Z")), Err(BuildError::Expires(_))));
}

#[test]
fn root_metadata_needs_the_keys_it_names_and_one_key_a_role() {
    let c = Collection::new(GUN);
    let certificate = c.certificate();
    let extra = Extra::Root { certificate: Blob(certificate.clone()) };
    let some = Keys::from_iter([c.root.spki.clone(), c.targets.spki.clone(), c.snapshot.spki.clone()]);
    let intent = c.intent(c.root_action(&certificate));
    let missing = build(&intent, &extra, &some);
    assert!(matches!(missing, Err(BuildError::UnknownKey { purpose: Purpose::Timestamp, .. })));

    let with_roles = |change: fn(&mut record::RoleKeys)| {
        let mut roles = c.roles();
        change(&mut roles);
        let action =
            Action::Root { version: 1, expires: far(), certificate: Sha256::of(&certificate), roles };
        c.build(action, &extra)
    };
    assert!(matches!(with_roles(|r| r.snapshot = r.timestamp), Err(BuildError::SharedKey(_))));
    assert!(matches!(with_roles(|r| r.targets = r.root), Err(BuildError::SharedKey(_))));
    assert!(matches!(
        with_roles(|r| std::mem::swap(&mut r.root, &mut r.targets)),
        Err(BuildError::OtherRootKey)
    ));
}

#[test]
fn root_metadata_needs_the_certificate_of_exactly_its_repository_and_root_key() {
    let c = Collection::new(GUN);
    let refused = |certificate: Vec<u8>| {
        let extra = Extra::Root { certificate: Blob(certificate.clone()) };
        let result = c.build(c.root_action(&certificate), &extra);
        assert!(matches!(result, Err(BuildError::Certificate(_))), "{result:?}");
    };
    refused(Collection::new("registry.example:5000/team/other").certificate());
    refused(Collection { root: Key::new(9), ..Collection::new(GUN) }.certificate());
    refused(b"no certificate".to_vec());
    let mut forged = c.certificate();
    *forged.last_mut().unwrap() ^= 1;
    refused(forged);
}

#[test]
fn a_file_is_sealed_only_with_the_payload_key_and_signature_of_its_intent() {
    let c = Collection::new(GUN);
    let (action, extra) = targets(1, None, vec![change("a", b"1")]);
    let mut intent = c.intent(action);
    let payload = build(&intent, &extra, &c.keys()).unwrap();
    let sig = c.targets.sign(&payload);
    let sealed = |intent: &_, payload: &[u8], key: &Key, sig| seal(intent, &extra, payload, &key.spki, sig);
    assert!(matches!(sealed(&intent, &payload, &c.targets, &sig), Err(BuildError::Payload)), "hash not set");
    intent.payload = Sha256::of(&payload);
    assert!(sealed(&intent, &payload, &c.targets, &sig).is_ok());
    assert!(matches!(sealed(&intent, b"{}", &c.targets, &sig), Err(BuildError::Payload)));
    assert!(matches!(sealed(&intent, &payload, &c.root, &sig), Err(BuildError::Key)));
    let other = c.targets.sign(b"other");
    assert!(matches!(sealed(&intent, &payload, &c.targets, &other), Err(BuildError::Signature)));

    let certificate = c.certificate();
    let mut root = c.intent(c.root_action(&certificate));
    let extra = Extra::Root { certificate: Blob(certificate) };
    let payload = build(&root, &extra, &c.keys()).unwrap();
    root.payload = Sha256::of(&payload);
    let wrong = Extra::Root { certificate: Blob(b"other".to_vec()) };
    let result = seal(&root, &wrong, &payload, &c.root.spki, &c.root.sign(&payload));
    assert!(matches!(result, Err(BuildError::File { part: "certificate", .. })));
}

#[test]
fn a_collection_stops_growing_before_its_file_can_no_longer_be_read() {
    let c = Collection::new(GUN);
    let hash = "1HNeOiZeFu7gP1lxi5tdAwGcB9i2xR+Q2jpmbuwTqzU=";
    let collection_of = |tags: usize| {
        let entry = |i| format!(r#""tag-{i:08}":{{"hashes":{{"sha256":"{hash}"}},"length":1}}"#);
        let entries: Vec<String> = (0..tags).map(entry).collect();
        let entries = entries.join(",");
        format!(
            r#"{{"signed":{{"_type":"Targets","delegations":{{"keys":{{}},"roles":[]}},"expires":"2090-01-01T00:00:00Z","targets":{{{entries}}},"version":1}},"signatures":[]}}"#
        )
    };
    let per_tag = (collection_of(1).len() - collection_of(0).len() + 1).max(1);
    let fits = (MAX_FILE_BYTES - 2048) / per_tag;
    let next = |tags| {
        let (action, extra) = targets(2, Some(collection_of(tags).as_bytes()), vec![change("next", b"1")]);
        c.build(action, &extra)
    };
    assert!(
        SignedFile::parse(
            &next(fits).map(|p| [b"{\"signatures\":[],\"signed\":", p.as_slice(), b"}"].concat()).unwrap()
        )
        .is_ok()
    );
    assert!(matches!(next(MAX_FILE_BYTES / per_tag - 3), Err(BuildError::TooLong(_))));
}

#[test]
fn a_certificate_has_the_name_of_one_repository_however_long() {
    let long = format!("registry.example/{}", "a".repeat(200));
    for gun in [GUN, &long, "localhost/a"] {
        let c = Collection::new(gun);
        let der = c.certificate();
        let validity = certificate::check(&der, &c.gun, &c.root.spki).unwrap();
        assert_eq!(validity.not_before, at("2020-01-01T00:00:00.000Z"));
        assert_eq!(validity.not_after, at("2095-01-01T00:00:00.000Z"));
        assert!(certificate::check(&der, &Collection::new("localhost/b").gun, &c.root.spki).is_err());
        assert!(certificate::check(&der, &c.gun, &c.targets.spki).is_err());
    }
}

fn any_changes() -> impl Strategy<Value = Vec<Change>> {
    let images =
        proptest::collection::btree_map("[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", any::<(u64, u32)>(), 1..20);
    images.prop_map(|images| {
        let change = |(tag, (image, size)): (String, (u64, u32))| Change {
            size: u64::from(size).max(1),
            ..change(&tag, &image.to_be_bytes())
        };
        images.into_iter().map(change).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_built_and_sealed_reads_back_the_same(
        first in any_changes(),
        second in any_changes(),
        version in 2..=MAX_VERSION,
    ) {
        let c = Collection::new(GUN);
        let one = c.targets_file(version - 1, None, first.clone());
        let two = c.targets_file(version, Some(&one), second.clone());
        let read = SignedFile::parse(&two).unwrap();
        let expected: BTreeMap<Tag, (Digest, u64)> =
            first.into_iter().chain(second).map(|c| (c.tag, (c.digest, c.size))).collect();
        let found: BTreeMap<Tag, (Digest, u64)> =
            read.targets().unwrap().into_iter().map(|(tag, t)| (tag, (t.digest, t.size))).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!((read.role(), read.version(), read.expires()), (Role::Targets, version, far()));
        read.verify(&c.targets.spki, &key_id(&c.targets.spki)).unwrap();
        let signed = &two[b"{\"signed\":".len()..][..read.payload().len()];
        prop_assert_eq!(signed, read.payload(), "the payload stands in the file as it was signed");
        let again = canonical_json::encode(&canonical_json::parse(read.payload()).unwrap());
        prop_assert_eq!(again, read.payload());
    }
}
