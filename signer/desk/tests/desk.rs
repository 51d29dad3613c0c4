//! People at their desks: the real program, a real pcscd, and a virtual card each.

#![expect(clippy::unwrap_used, reason = "test code, where a panic is a failed test")]

#[expect(dead_code, reason = "the people of another crate's tests, of whom not all appear here")]
#[path = "../../people/tests/support/cast.rs"]
mod cast;

use base64::{Engine, prelude::BASE64_STANDARD};
use hsm_sim_yubikey::{
    Operation, Pcscd, PinPolicy, Profile, SOCKET_VARIABLE, Slot, TouchMode, TouchPolicy, VirtualYubiKey,
    YubiKeyJournal,
};
use people::{Approval, Decision, PersonKey, SignedRoster, Statement};
use std::path::PathBuf;
use std::process::Command;

const ALICE: u32 = 5_740_001;
const BOB: u32 = 5_740_002;

/// A room with two readers, and a card in each: alice's and bob's.
struct Room {
    folder: tempfile::TempDir,
    pcscd: Pcscd,
    cards: [VirtualYubiKey; 2],
}

/// What the program did.
#[derive(Debug)]
struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Room {
    /// `None`, with the reason printed, where pcscd or vpcd are missing.
    fn new(touch: TouchPolicy) -> Option<Self> {
        if let Some(why) = Pcscd::missing() {
            hsm_sim::skip(why);
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let pcscd = Pcscd::start(folder.path(), 2).unwrap();
        let cards = [(ALICE, 0), (BOB, 1)].map(|(serial, reader)| {
            VirtualYubiKey::builder()
                .profile(Profile::V5_7_4)
                .serial(serial)
                .reader(pcscd.vpcd(reader).unwrap())
                .journal(&folder.path().join(format!("journal-{serial}")))
                .key(Slot::SIGNATURE, PinPolicy::Always, touch)
                .insert()
                .unwrap()
        });
        let room = Self { folder, pcscd, cards };
        let pem = |der: &[u8]| {
            let text = BASE64_STANDARD.encode(der);
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
        };
        let between = Profile::V5_7_4.attestation_intermediates();
        room.write("chain.pem", between.iter().map(|der| pem(der)).collect::<String>().as_bytes());
        room.write("root.pem", pem(Profile::V5_7_4.attestation_root()).as_bytes());
        room.write("pin", b"123456\n");
        Some(room)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(self.path(name), bytes).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Runs `chancery-desk` in the room's folder.
    fn run(&self, words: &str) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-desk"));
        command.args(words.split(' ')).current_dir(self.folder.path());
        let ended = command.env(SOCKET_VARIABLE, self.pcscd.socket()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Answer { code: ended.status.code().unwrap(), out: text(ended.stdout), err: text(ended.stderr) }
    }

    /// The same with somebody's card.
    fn with_card(&self, serial: u32, words: &str) -> Answer {
        self.run(&format!(
            "{words} --piv-serial {serial} --attestation-chain chain.pem --attestation-root root.pem"
        ))
    }

    /// The same with the PIN.
    fn signing(&self, serial: u32, words: &str) -> Answer {
        self.with_card(serial, &format!("{words} --pin-file pin"))
    }

    /// What must have gone well.
    fn done(answer: Answer) -> Answer {
        assert_eq!(answer.code, 0, "{answer:?}");
        answer
    }

    fn key(&self, serial: u32) -> PersonKey {
        let shown = Self::done(self.with_card(serial, "key")).out;
        serde_json::from_str(&shown).unwrap()
    }

    /// How many signatures the card of this number has made.
    fn signatures(&self, serial: u32) -> usize {
        let journal = YubiKeyJournal::read(&self.path(&format!("journal-{serial}"))).unwrap_or_default();
        journal.iter().filter(|entry| entry.signed.operation == Operation::Sign).count()
    }
}

#[test]
fn people_make_a_roster_change_it_together_and_approve_by_it() {
    let Some(room) = Room::new(TouchPolicy::Always) else { return };
    let keys = [ALICE, BOB].map(|serial| room.key(serial));
    assert_eq!(keys[0].spki.der(), room.cards[0].public_key(Slot::SIGNATURE).unwrap());
    let mut content = cast::first_content();
    for (person, key) in content.people.iter_mut().zip(keys) {
        person.keys = vec![key];
    }
    room.write("content.json", serde_json::to_string_pretty(&content).unwrap().as_bytes());
    let pin = Room::done(room.run("roster draft content.json --out one")).out;
    let first = SignedRoster::parse(&room.read("one")).unwrap().first(pin.trim().parse().unwrap()).unwrap();

    // The next version is without dave. One is not enough, two are.
    content.version = 2;
    content.previous = Some(first.sha256());
    content.people.pop();
    content.groups.iter_mut().for_each(|group| group.members.retain(|name| name.as_str() != "dave"));
    room.write("next.json", serde_json::to_string(&content).unwrap().as_bytes());
    Room::done(room.run("roster draft next.json --out two"));
    let shown = Room::done(room.run("show two --before one")).out;
    assert!(shown.contains("- person       dave: key") && !shown.contains("alice: key"), "{shown}");
    let signed = Room::done(room.signing(ALICE, "roster sign two --before one --out two-1"));
    assert!(signed.err.contains("- person       dave: key"), "shown before it is signed: {}", signed.err);
    assert!(signed.out.contains("1 of 2 members of group keys"), "{}", signed.out);
    let pin = pin.trim();
    assert_eq!(room.run(&format!("roster verify {pin} one two-1")).code, 10);
    let signed = Room::done(room.signing(BOB, "roster sign two-1 --before one --out two-2"));
    assert!(signed.out.contains("enough people of version 1"), "{}", signed.out);
    Room::done(room.run(&format!("roster verify {pin} one two-2")));
    let second = SignedRoster::parse(&room.read("two-2")).unwrap().after(&first).unwrap();

    let said = cast::statement();
    room.write("statement", said.bytes());
    let approved = Room::done(room.signing(ALICE, "approve statement --out yes"));
    for shown in ["APPROVE", &said.code(), "r.example/team/app", "v1", "token:ci", "Touch YubiKey 5740001"] {
        assert!(approved.err.contains(shown), "{shown}: {}", approved.err);
    }
    Room::done(room.signing(BOB, "approve statement --reject --out no"));
    let [yes, no] = ["yes", "no"].map(|name| Approval::parse(&room.read(name)).unwrap());
    assert_eq!((yes.statement(), no.statement()), (&said, &said.deciding(Decision::Reject).unwrap()));
    for (approval, name) in [(yes, "alice"), (no, "bob")] {
        let (person, key) = second.key(approval.key()).unwrap();
        assert_eq!(person.name.as_str(), name);
        approval.verify(key).unwrap();
    }
    assert_eq!([ALICE, BOB].map(|serial| room.signatures(serial)), [2, 2]);
    assert!(Room::done(room.run("show no")).out.starts_with("REJECT"));
}

#[test]
fn nothing_is_signed_of_another_change_over_a_file_without_a_touch_or_by_a_stranger() {
    let Some(room) = Room::new(TouchPolicy::Always) else { return };
    let said = cast::statement();
    room.write("statement", said.bytes());
    room.write("yes", b"there already");
    let spaced = String::from_utf8(said.bytes().to_vec()).unwrap().replacen(':', ": ", 1);
    room.write("spaced", spaced.as_bytes());
    room.write("one", &SignedRoster::new(cast::first(), vec![]).encode().unwrap());
    room.write("two", &cast::next(&cast::first(), &[], |_| ()).encode().unwrap());
    let other_code = if said.code() == "000 000" { "000001" } else { "000000" };
    for (words, why) in [
        (format!("approve statement --code {other_code} --out new"), "the other screen shows another change"),
        ("approve statement --out yes".into(), "nothing is overwritten"),
        ("approve spaced --out new".into(), "not in canonical form"),
        ("approve one --out new".into(), "one: "),
        ("roster sign one --before one --out new".into(), "does not follow"),
        ("roster sign two --before one --out new".into(), "has no PIV key"),
    ] {
        let answer = room.signing(ALICE, &words);
        assert_eq!(answer.code, 78, "{words}: {answer:?}");
        assert!(answer.err.contains(why), "{why}: {}", answer.err);
        assert!(!room.path("new").exists(), "{words}");
    }
    assert_eq!(room.signatures(ALICE), 0);
    room.cards[0].touch_policy(TouchMode::Deny);
    let denied =
        room.signing(ALICE, &format!("approve statement --code {} --out new", said.code().replace(' ', "")));
    assert_eq!(denied.code, 78, "{denied:?}");
    assert!(!room.path("new").exists());
    assert_eq!(room.signatures(ALICE), 0);
    // A reason cannot turn the lines around that a person reads.
    let turned = people::Content { break_glass: Some("fire \u{202e}evah".into()), ..cast::content() };
    room.write("turned", Statement::new(turned).unwrap().bytes());
    let shown = Room::done(room.run("show turned")).out;
    assert!(shown.contains(r#""fire \u{202e}evah""#), "{shown}");
}

#[test]
fn a_key_that_signs_without_a_touch_approves_nothing() {
    let Some(room) = Room::new(TouchPolicy::Never) else { return };
    room.write("statement", cast::statement().bytes());
    for answer in [room.with_card(ALICE, "key"), room.signing(ALICE, "approve statement --out new")] {
        assert_eq!(answer.code, 78, "{answer:?}");
        assert!(answer.err.contains("without a touch"), "{}", answer.err);
    }
    assert_eq!(room.signatures(ALICE), 0);
}
