//! A taken-over daemon before a real signing keeper, with a real token behind it: what it can not get.
//!
//! Every row asserts the code of the refusal, and by the token's own journal that no key was touched for it. Tests that
//! are named after an invariant of the protocol are that invariant's.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code, where a panic is a failed test"
)]

#[expect(dead_code, reason = "the people of another crate's tests, of whom not all appear here")]
#[path = "../../../people/tests/support/cast.rs"]
mod cast;
mod collections;
mod durable;
mod heads;
mod intents;
mod outcomes;
mod people;
#[path = "../support/place.rs"]
mod place;
#[path = "../support/rig.rs"]
mod rig;
mod roster;
mod succession;
#[path = "../support/traced.rs"]
mod traced;
#[path = "../support/world.rs"]
mod world;

use record::Sha256;
use record::wire::{FromSigner, read_message};
use rig::{Daemon, Rig, hello};
use std::io::Write;
use world::{Collection, Made, REPOSITORY, World};

/// A repository per row, so that no row stands in another's way.
fn repository(number: usize) -> String {
    format!("r.example/team/row{number}")
}

/// Sends `made` alone; it must be refused with `code`, and no key touched.
fn refused(rig: &Rig, daemon: &mut Daemon, made: &Made, code: &str, row: &str) {
    let before = rig.signed();
    let batch = rig.world.batch(daemon.seen, &[made], vec![]);
    assert_eq!(daemon.refusal(&batch), code, "{row}");
    assert_eq!(rig.signed(), before, "{row}: a key was touched");
}

fn collection(daemon: &mut Daemon, world: &mut World, repository: &str) -> Collection {
    world.collection(repository, |world, made| daemon.through(world, made))
}

/// The file with one bit of its signature flipped.
fn unsigned_file(file: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(file.to_vec()).unwrap();
    let at = text.find("\"sig\":\"").unwrap() + 20;
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &text[..at], &text[at + 1..]).into_bytes()
}

#[test]
fn an_honest_daemon_gets_a_whole_collection_signed_and_each_key_is_touched_once_for_each_file() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let made = collection(&mut daemon, &mut rig.world, REPOSITORY);
    let next = rig.world.next_targets(&made.targets.0, &made.targets.1, 2, "v2");
    let file = daemon.through(&mut rig.world, &next);
    let root = made.root.0.child(&made.root.1);
    let snapshot = rig.world.snapshot(REPOSITORY, 2, root, next.child(&file));
    daemon.through(&mut rig.world, &snapshot);
    let signed = rig.signed();
    assert_eq!(signed.len(), 7);
    assert_eq!((signed[2], signed[5]), (made.targets.0.intent.payload, next.intent.payload));
    assert!(keeper.connect().welcome.open.is_empty());
}

#[test]
fn the_welcome_shows_keys_with_evidence_and_the_charter_that_is_in_force() {
    let Some(rig) = Rig::new() else { return };
    let welcome = rig.start().connect().welcome;
    assert_eq!(welcome.charter, Sha256::of(rig.world.charter().as_bytes()));
    assert_eq!(welcome.keys.len(), 4);
    for key in welcome.keys {
        assert_eq!(key.spki, rig.world.spki[&key.purpose]);
        assert!(key.evidence.iter().any(|e| e == "CKA_NEVER_EXTRACTABLE=true"), "{:?}", key.evidence);
    }
}

#[test]
fn what_is_no_message_ends_that_connection_and_no_other() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut honest = keeper.connect();
    let frame = |body: &[u8]| [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("no JSON", frame(b"hello")),
        (
            "a Batch before Hello",
            frame(br#"{"batch":{"note":"","from":0,"consistency":[],"settle":[],"void":[],"sign":[]}}"#),
        ),
        ("an unknown member", frame(br#"{"hello":{"proto":1,"daemon":"x","generation":0,"more":1}}"#)),
        ("a member twice", frame(br#"{"hello":{"proto":1,"proto":1,"daemon":"x","generation":0}}"#)),
        ("another protocol", frame(br#"{"hello":{"proto":2,"daemon":"x","generation":0}}"#)),
        ("a frame of 4 GiB", u32::MAX.to_be_bytes().to_vec()),
    ];
    for (row, bytes) in rows {
        let mut stream = keeper.raw();
        stream.write_all(&bytes).unwrap();
        let answer = read_message::<FromSigner>(&mut stream).unwrap();
        assert!(
            matches!(&answer, Some(FromSigner::Refused { code, .. }) if code.as_str() == "frame"),
            "{row}: {answer:?}"
        );
        assert_eq!(read_message::<FromSigner>(&mut stream).unwrap_or(None), None, "{row}");
    }
    let mut hello_twice = keeper.connect();
    assert!(matches!(hello_twice.say(&hello(0)), FromSigner::Refused { .. }));
    let mut too_many = rig.world.batch(0, &[], vec![]);
    too_many.void = vec![0; 257];
    assert!(matches!(honest.ask(&too_many), FromSigner::Refused { .. }));
    let made = rig.world.first_targets(REPOSITORY, "v1");
    honest.through(&mut rig.world, &made);
}
