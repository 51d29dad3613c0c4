//! Notes, verifier keys and checkpoints are those of the specification and of `signed_note`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use signed_note::{StandardSigner, StandardVerifier, VerifierList};
use tlog::{
    Checkpoint, CheckpointError, MAX_NOTE_LEN, Note, NoteError, VerifierKey, VerifierKeyError, empty_root,
    leaf_hash, signed_note,
};

/// From the specification of signed notes.
const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const NOTE: &str = "This is an example message.\n\n\
    \u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

/// A key as a token would hold it.
pub(crate) struct Signer {
    pub(crate) key: SigningKey,
    pub(crate) vkey: VerifierKey,
}

impl Signer {
    pub(crate) fn new(name: &str, seed: u8) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let vkey = VerifierKey::new_ed25519(name, key.verifying_key().to_bytes()).unwrap();
        Self { key, vkey }
    }

    pub(crate) fn note(&self, text: &str) -> String {
        signed_note(text, &self.vkey, &self.key.sign(text.as_bytes()).to_bytes()).unwrap()
    }

    /// The same key as `signed_note` reads it.
    fn judge(&self) -> StandardSigner {
        let typed: Vec<u8> = [&[1], self.key.as_bytes().as_slice()].concat();
        let id = self.vkey.key_id();
        let text = format!("PRIVATE+KEY+{}+{id:08x}+{}", self.vkey.name(), STANDARD.encode(typed));
        StandardSigner::new(&text).unwrap()
    }
}

pub(crate) fn log_signer() -> Signer {
    Signer::new("log.example.com", 1)
}

/// Whether `signed_note` accepts this note under this key.
pub(crate) fn judge_accepts(note: &[u8], vkey: &VerifierKey) -> bool {
    let verifier = StandardVerifier::new(&vkey.to_string()).unwrap();
    let known = VerifierList::new(vec![Box::new(verifier)]);
    signed_note::Note::from_bytes(note).is_ok_and(|n| n.verify(&known).is_ok())
}

#[test]
fn the_note_of_the_specification_verifies_and_prints_back() {
    let key = VerifierKey::parse(VKEY).unwrap();
    assert_eq!((key.name(), key.key_id()), ("example.com/foo", 0x530d_903a));
    assert_eq!(key.to_string(), VKEY);
    let note = Note::parse(NOTE).unwrap();
    assert_eq!(note.text(), "This is an example message.\n");
    assert_eq!(note.verify(&key), Ok(()));
    assert_eq!(note.to_string(), NOTE);
}

#[test]
fn our_notes_are_byte_for_byte_those_of_signed_note() {
    let signer = log_signer();
    for text in ["one line\n", "two\nlines\n", "blank\n\nlines\n\n", "\n", "\u{2014} not a signature\n"] {
        let note = signer.note(text);
        let mut judged = signed_note::Note::new(text.as_bytes(), &[]).unwrap();
        judged.add_sigs(&[&signer.judge()]).unwrap();
        assert_eq!(note.as_bytes(), judged.to_bytes());
        assert!(judge_accepts(note.as_bytes(), &signer.vkey));
        let parsed = Note::parse(&note).unwrap();
        assert_eq!((parsed.text(), parsed.verify(&signer.vkey)), (text, Ok(())));
    }
}

#[test]
fn lines_of_other_keys_are_ignored_but_never_instead_of_ours() {
    let (log, other) = (log_signer(), Signer::new("witness.example.com", 2));
    let (ours, foreign) = (log.note("text\n"), other.note("text\n"));
    let line = |note: &str| note.split_once("\n\n").unwrap().1.to_owned();
    let both = format!("text\n\n{}{}", line(&foreign), line(&ours));
    let note = Note::parse(&both).unwrap();
    assert_eq!((note.verify(&log.vkey), note.verify(&other.vkey)), (Ok(()), Ok(())));
    assert_eq!(note.signatures().len(), 2);
    let unknown_type = format!("{ours}\u{2014} log.example.com {}\n", STANDARD.encode([7; 90]));
    assert_eq!(Note::parse(&unknown_type).unwrap().verify(&log.vkey), Ok(()));
    let not_by_us = Note::parse(&foreign).unwrap().verify(&log.vkey);
    assert_eq!(not_by_us, Err(NoteError::NotSignedBy { vkey: log.vkey.to_string() }));
    let same_name = Signer::new("log.example.com", 3);
    assert!(Note::parse(&ours).unwrap().verify(&same_name.vkey).is_err());
}

#[test]
fn one_bad_line_of_our_key_rejects_the_whole_note() {
    let log = log_signer();
    let (good, bad) = (log.note("text\n"), log.note("other\n"));
    let bad_line = bad.split_once("\n\n").unwrap().1;
    let good_line = good.split_once("\n\n").unwrap().1;
    for lines in [format!("{good_line}{bad_line}"), format!("{bad_line}{good_line}"), bad_line.to_owned()] {
        let note = Note::parse(&format!("text\n\n{lines}")).unwrap();
        assert_eq!(note.verify(&log.vkey), Err(NoteError::BadSignature { vkey: log.vkey.to_string() }));
    }
    let short = format!(
        "text\n\n\u{2014} log.example.com {}\n",
        STANDARD.encode([log.vkey.key_id().to_be_bytes().as_slice(), &[0; 63]].concat())
    );
    assert!(matches!(Note::parse(&short).unwrap().verify(&log.vkey), Err(NoteError::BadSignature { .. })));
}

#[test]
fn a_wrong_signature_never_becomes_a_note() {
    let log = log_signer();
    let signature = log.key.sign(b"other\n").to_bytes();
    assert!(matches!(signed_note("text\n", &log.vkey, &signature), Err(NoteError::BadSignature { .. })));
    for text in ["", "text", "a\tb\n", "a\r\n", "\0\n"] {
        let signature = log.key.sign(text.as_bytes()).to_bytes();
        assert_eq!(signed_note(text, &log.vkey, &signature), Err(NoteError::Text), "{text:?}");
    }
}

#[test]
fn notes_beyond_the_limits_are_refused() {
    let log = log_signer();
    let note = log.note("text\n");
    let line = note.split_once("\n\n").unwrap().1;
    assert_eq!(Note::parse(&format!("text\n\n{}", line.repeat(64))).unwrap().verify(&log.vkey), Ok(()));
    assert_eq!(Note::parse(&format!("text\n\n{}", line.repeat(65))), Err(NoteError::TooManySignatures));
    let text = format!("{}\n", "a".repeat(MAX_NOTE_LEN - 2 - line.len()));
    let largest = log.note(&text);
    assert_eq!(largest.len(), MAX_NOTE_LEN);
    assert!(Note::parse(&largest).is_ok());
    assert_eq!(Note::parse(&format!("a{largest}")), Err(NoteError::TooLong { len: MAX_NOTE_LEN + 1 }));
    let signature = log.key.sign(format!("a{text}").as_bytes()).to_bytes();
    let refused = signed_note(&format!("a{text}"), &log.vkey, &signature);
    assert_eq!(refused, Err(NoteError::TooLong { len: MAX_NOTE_LEN + 1 }));
}

#[test]
fn what_is_not_a_note_is_refused() {
    let line = NOTE.split_once("\n\n").unwrap().1;
    let table = [
        ("text\n".to_owned(), NoteError::Unsigned),
        ("text\n\n".to_owned(), NoteError::Unsigned),
        (format!("text\n{line}"), NoteError::Unsigned),
        (NOTE.trim_end().to_owned(), NoteError::Text),
        (NOTE.replace('\n', "\r\n"), NoteError::Text),
        (format!("text\n\n{line}\n"), NoteError::Unsigned),
        (format!("text\n\n{line}text\n"), NoteError::SignatureLine { line: 2 }),
        (format!("text\n\n- {}", &line[4..]), NoteError::SignatureLine { line: 1 }),
        (NOTE.replace("foo ", "foo  "), NoteError::SignatureLine { line: 1 }),
        (NOTE.replace("foo", "f+o"), NoteError::SignatureLine { line: 1 }),
        (NOTE.replace("foo", "f\u{a0}o"), NoteError::SignatureLine { line: 1 }),
        (NOTE.replace("example.com/foo ", " "), NoteError::SignatureLine { line: 1 }),
        ("text\n\n\u{2014} foo Uw2QOg==\n".to_owned(), NoteError::SignatureLine { line: 1 }),
        (NOTE.replace("aQM=", "aQM"), NoteError::SignatureLine { line: 1 }),
        (NOTE.replace("aQM=", "aQN="), NoteError::SignatureLine { line: 1 }),
    ];
    for (note, error) in table {
        assert_eq!(Note::parse(&note), Err(error), "{note:?}");
    }
}

#[test]
fn a_verifier_key_has_one_spelling_and_binds_its_name() {
    let named = VKEY.replace("foo", "bar");
    assert!(matches!(VerifierKey::parse(&named), Err(VerifierKeyError::KeyId { .. })));
    let typed = |kind: u8| format!("a+530d903a+{}", STANDARD.encode([&[kind], [9; 32].as_slice()].concat()));
    for found in [0, 3, 4, 5, 255] {
        let refused = VerifierKey::parse(&typed(found));
        assert!(matches!(refused, Err(VerifierKeyError::Type { found: f, .. }) if f == found), "{refused:?}");
    }
    for bad in [
        "",
        "a",
        "a+b",
        &VKEY.replace("530d903a", "530D903A"),
        &VKEY.replace("530d903a", "0530d903a"),
        &VKEY.replace("530d903a", "+30d903a"),
        &format!("{VKEY}+"),
        &format!("{VKEY}\n"),
        &format!("{}{VKEY}", "a".repeat(400)),
        "a+530d903a+",
    ] {
        assert_eq!(VerifierKey::parse(bad), Err(VerifierKeyError::Grammar), "{bad}");
    }
    for bad in ["", "a b", "a+b", "a\nb", "a\u{2003}b", &"a".repeat(256)] {
        let key = log_signer().key.verifying_key().to_bytes();
        assert_eq!(VerifierKey::new_ed25519(bad, key), Err(VerifierKeyError::Name), "{bad:?}");
    }
}

#[test]
fn a_key_under_which_anything_verifies_is_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    for weak in [identity, [0; 32]] {
        assert_eq!(VerifierKey::new_ed25519("log", weak), Err(VerifierKeyError::Key));
    }
    assert_eq!(VerifierKey::new_ed25519("log", [2; 32]), Err(VerifierKeyError::Key));
}

#[test]
fn a_checkpoint_is_three_lines_that_tlog_tiles_reads_alike() {
    let ours = Checkpoint { origin: "log.example.com".into(), size: 70_000, root: leaf_hash(b"x") };
    let text = ours.text();
    assert_eq!(text, format!("log.example.com\n70000\n{}\n", leaf_hash(b"x").to_base64()));
    let judged = tlog_tiles::checkpoint::Checkpoint::from_bytes(text.as_bytes()).unwrap();
    assert_eq!((judged.origin(), judged.size(), judged.hash().0), ("log.example.com", 70_000, ours.root.0));
    assert_eq!(Checkpoint::parse(&text), Ok(ours));
}

#[test]
fn a_checkpoint_opens_only_under_its_own_logs_key() {
    let log = log_signer();
    let ours = Checkpoint { origin: "log.example.com".into(), size: 5, root: leaf_hash(b"x") };
    let note = log.note(&ours.text());
    assert_eq!(Checkpoint::open(&note, &log.vkey), Ok(ours.clone()));
    let stranger = Signer::new("log.example.com", 9);
    let refused = Checkpoint::open(&note, &stranger.vkey);
    assert!(matches!(refused, Err(CheckpointError::Note(NoteError::NotSignedBy { .. }))));
    let altered = Checkpoint::open(&note.replace("\n5\n", "\n6\n"), &log.vkey);
    assert!(matches!(altered, Err(CheckpointError::Note(NoteError::BadSignature { .. }))));
    let other_log = Checkpoint { origin: "other.example.com".into(), ..ours };
    let refused = Checkpoint::open(&log.note(&other_log.text()), &log.vkey);
    assert!(matches!(refused, Err(CheckpointError::OtherLog { .. })));
}

#[test]
fn other_spellings_of_a_checkpoint_are_refused() {
    let root = leaf_hash(b"x").to_base64();
    let zero = empty_root().to_base64();
    assert!(Checkpoint::parse(&format!("log\n0\n{zero}\n")).is_ok());
    assert_eq!(Checkpoint::parse(&format!("log\n0\n{root}\n")), Err(CheckpointError::EmptyRoot));
    for size in
        ["", "05", "+5", "-5", "5 ", " 5", "5.0", "0x5", "9223372036854775808", "99999999999999999999"]
    {
        let text = format!("log\n{size}\n{root}\n");
        assert_eq!(Checkpoint::parse(&text), Err(CheckpointError::Size), "{text}");
    }
    for text in [
        String::new(),
        format!("log\n5\n{root}"),
        format!("log\n5\n{root}\n\n"),
        format!("log\n5\n{root}\nextension\n"),
        "log\n5\n".to_owned(),
    ] {
        assert_eq!(Checkpoint::parse(&text), Err(CheckpointError::Lines), "{text:?}");
    }
    for origin in ["", "a b", "a+b"] {
        assert_eq!(Checkpoint::parse(&format!("{origin}\n5\n{root}\n")), Err(CheckpointError::Origin));
    }
    for root in ["", "AAAA", &root[1..], &format!("{root} "), &root.replace('=', "")] {
        let refused = Checkpoint::parse(&format!("log\n5\n{root}\n"));
        assert!(matches!(refused, Err(CheckpointError::Root(_))), "{root}");
    }
}
