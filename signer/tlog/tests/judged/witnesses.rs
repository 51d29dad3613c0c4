//! Cosignatures, policies, the witness protocol and offline proofs: against a checkpoint of a public log, files that another
//! program made, and alterations of both.

use crate::{forest::forest, forest::leaf, forest::leaves, notes::Signer};
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;
use tlog::{
    AddCheckpoint, Checkpoint, CosignerKey, LogKey, LogProof, LogProofError, MAX_POLICY_ITEMS, Note,
    NoteError, PolicyError, ProofError, VerifierKey, VerifierKeyError, WitnessError, WitnessPolicy,
    Witnessed, cosignature_line, cosigned_message, decode_cosignatures, decode_size, encode_cosignatures,
    encode_size, leaf_hash, verify_consistency,
};

const PROOF: &str = include_str!("../golden/second-of-three.tlog-proof");
const REQUEST: &str = include_str!("../golden/add-checkpoint.txt");
const ANSWER: &str = include_str!("../golden/answer.txt");
const POLICY: &str = include_str!("../golden/policy.txt");

/// A checkpoint that the public log arche2025h1 (staging) published, with the cosignatures of four public witnesses.
const PUBLIC: &str = "arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

\u{2014} arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
\u{2014} arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
\u{2014} transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
\u{2014} witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
\u{2014} remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
\u{2014} witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
";
const PUBLIC_POLICY: &str = "\
log arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f
witness garden transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM
witness smartit witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO
witness remora remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2
witness stagemole witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv
group all all garden smartit remora stagemole
quorum all
";

/// A witness with its key in hand.
pub(crate) struct Witness {
    key: SigningKey,
    pub(crate) vkey: CosignerKey,
}

impl Witness {
    pub(crate) fn new(name: &str, seed: u8) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let vkey = CosignerKey::new_ed25519(name, key.verifying_key().to_bytes()).unwrap();
        Self { key, vkey }
    }

    pub(crate) fn cosigned(&self, note: &Note, time_s: u64) -> Note {
        let signature = self.key.sign(cosigned_message(time_s, note.text()).as_bytes()).to_bytes();
        let line = cosignature_line(note.text(), &self.vkey, time_s, &signature).unwrap();
        note.clone().with_signatures([line]).unwrap()
    }
}

fn log_key() -> VerifierKey {
    Signer::new("log.example.com", 1).vkey
}

fn policy() -> WitnessPolicy {
    WitnessPolicy::parse(POLICY).unwrap()
}

#[test]
fn a_public_checkpoint_is_signed_by_its_log_and_cosigned_by_four_witnesses() {
    let policy = WitnessPolicy::parse(PUBLIC_POLICY).unwrap();
    let note = Note::parse(PUBLIC).unwrap();
    let checkpoint = Checkpoint::of_note(&note, &policy.logs()[0].key).unwrap();
    assert_eq!(checkpoint.size, 1_432_088_532);
    let by = policy.demand(&note).unwrap();
    assert_eq!(
        by.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(),
        ["garden", "smartit", "remora", "stagemole"]
    );
    assert!(by.iter().all(|w| w.time_s == 0x6a12_2120));
    for (place, witness) in policy.witnesses().iter().enumerate() {
        let line = PUBLIC.lines().find(|l| l.contains(witness.key.name())).unwrap();
        let without = Note::parse(&PUBLIC.replace(&format!("{line}\n"), "")).unwrap();
        assert_eq!(policy.demand(&without), Err(PolicyError::Quorum { have: 3, known: 4 }), "{place}");
    }
}

#[test]
fn every_altered_byte_of_a_cosignature_refuses_the_note() {
    let policy = WitnessPolicy::parse(PUBLIC_POLICY).unwrap();
    let note = Note::parse(PUBLIC).unwrap();
    let remora = note.signatures().iter().find(|s| s.name == "remora.n621.de").unwrap();
    for at in 0..remora.sig.len() {
        let mut altered = remora.clone();
        altered.sig[at] ^= 1;
        let text = PUBLIC.replace(&remora.to_string(), &altered.to_string());
        let refused = policy.demand(&Note::parse(&text).unwrap());
        assert!(matches!(refused, Err(PolicyError::Note(NoteError::BadSignature { .. }))), "byte {at}");
    }
}

#[test]
fn the_golden_files_say_what_another_program_wrote() {
    let proof = LogProof::parse(PROOF).unwrap();
    assert_eq!(proof.extra.as_deref(), Some(b"by the way".as_slice()));
    let checkpoint = proof.verify(&leaf_hash(b"second"), &log_key(), Some(&policy())).unwrap();
    assert_eq!(checkpoint.size, 3);
    let expected = [("one", 1_790_000_000), ("two", 1_790_000_007)];
    let expected = expected.map(|(name, time_s)| Witnessed { name: name.into(), time_s });
    assert_eq!(policy().witnessed(&proof.checkpoint), Ok(expected.to_vec()));
    let request = AddCheckpoint::parse(REQUEST).unwrap();
    let old_root = forest_of(&[b"first", b"second"]);
    assert_eq!(request.old, 2);
    assert_eq!(verify_consistency(2, &old_root, 3, &checkpoint.root, &request.proof), Ok(()));
    let lines = decode_cosignatures(ANSWER).unwrap();
    assert_eq!(request.checkpoint.clone().with_signatures(lines.clone()), Ok(proof.checkpoint.clone()));
    for (written, golden) in
        [(proof.to_string(), PROOF), (request.to_string(), REQUEST), (encode_cosignatures(&lines), ANSWER)]
    {
        assert_eq!(written, golden);
    }
}

fn forest_of(entries: &[&[u8]]) -> tlog::Hash {
    let mut frontier = tlog::Frontier::default();
    entries.iter().for_each(|entry| frontier.append(leaf_hash(entry)));
    frontier.root()
}

#[test]
fn a_proof_is_refused_for_another_entry_log_or_quorum() {
    let proof = LogProof::parse(PROOF).unwrap();
    let verify = |entry: &[u8]| proof.verify(&leaf_hash(entry), &log_key(), None);
    assert!(verify(b"second").is_ok());
    let other_entry = verify(b"first");
    assert_eq!(other_entry, Err(LogProofError::Inclusion { index: 1, source: ProofError::Root }));
    let stranger = Signer::new("log.example.com", 9).vkey;
    let refused = proof.verify(&leaf_hash(b"second"), &stranger, None);
    assert!(matches!(refused, Err(LogProofError::Checkpoint(_))));
    let all = WitnessPolicy::parse(&POLICY.replace("own 2", "own all")).unwrap();
    let refused = proof.verify(&leaf_hash(b"second"), &log_key(), Some(&all));
    assert_eq!(refused, Err(LogProofError::Witnesses(PolicyError::Quorum { have: 2, known: 3 })));
}

#[test]
fn other_spellings_of_a_proof_are_refused() {
    let bad = |from: &str, to: &str| LogProof::parse(&PROOF.replacen(from, to, 1)).unwrap_err();
    assert_eq!(bad("@v1", "@v2"), LogProofError::Header);
    assert_eq!(bad("extra YnkgdGhlIHdheQ==", "extra YnkgdGhlIHdheQ"), LogProofError::Extra);
    for (from, to) in
        [("index 1\n", ""), ("index 1", "index 01"), ("index 1", "index +1"), ("index", "Index")]
    {
        assert_eq!(bad(from, to), LogProofError::Index, "{to:?}");
    }
    assert!(matches!(bad("index 1\n", "index 1\nAAAA\n"), LogProofError::Hash { line: 1, .. }));
    assert!(matches!(bad("\n\n", "\n"), LogProofError::Hash { .. } | LogProofError::Note(_)));
    let many = format!("index 1\n{}", format!("{}\n", leaf_hash(b"x").to_base64()).repeat(64));
    assert_eq!(bad("index 1\n", &many), LogProofError::TooManyHashes);
    let long = format!("extra {}\n", "A".repeat(tlog::MAX_LOG_PROOF_LEN));
    assert!(matches!(bad("extra YnkgdGhlIHdheQ==\n", &long), LogProofError::TooLong { .. }));
    assert!(matches!(LogProof::parse(&format!("{PROOF}\n")), Err(LogProofError::Note(_))));
}

#[test]
fn other_spellings_of_a_witness_message_are_refused() {
    let bad = |from: &str, to: &str| AddCheckpoint::parse(&REQUEST.replacen(from, to, 1)).unwrap_err();
    for to in ["", "old 02", "old -2", "old", "Old 2", "old 9223372036854775808"] {
        assert_eq!(bad("old 2", to), WitnessError::Old, "{to:?}");
    }
    assert!(matches!(bad("old 2\n", "old 2\nAAAA\n"), WitnessError::Hash { line: 1, .. }));
    let many = format!("old 2\n{}", format!("{}\n", leaf_hash(b"x").to_base64()).repeat(64));
    assert_eq!(bad("old 2\n", &many), WitnessError::TooManyHashes);
    assert_eq!(AddCheckpoint::parse("old 2\n"), Err(WitnessError::Blank));
    assert!(matches!(AddCheckpoint::parse("old 0\n\n"), Err(WitnessError::Note(_))));
    let long = AddCheckpoint::parse(&format!("{REQUEST}{}", " ".repeat(tlog::MAX_REQUEST_LEN)));
    assert!(matches!(long, Err(WitnessError::TooLong { .. })));
    assert_eq!(
        (encode_size(0).as_str(), decode_size("0\n"), decode_size("70000\n")),
        ("0\n", Ok(0), Ok(70_000))
    );
    for size in ["", "\n", "7", "07\n", "7\n\n", "+7\n", "7 \n", "18446744073709551616\n"] {
        assert_eq!(decode_size(size), Err(WitnessError::Size), "{size:?}");
    }
    for answer in ["", "\n", "no line\n", ANSWER.trim_end()] {
        assert!(matches!(decode_cosignatures(answer), Err(WitnessError::Note(_))), "{answer:?}");
    }
}

#[test]
fn a_key_of_one_type_is_not_taken_for_the_other() {
    let (log, witness) = (log_key(), Witness::new("log.example.com", 1));
    assert_eq!(log.key(), LogKey::Ed25519(witness.vkey.public_key()));
    assert_ne!(log.key_id(), witness.vkey.key_id());
    let as_log = VerifierKey::parse(&witness.vkey.to_string());
    assert!(matches!(as_log, Err(VerifierKeyError::Type { found: 4, .. })), "{as_log:?}");
    let as_witness = CosignerKey::parse(&log.to_string());
    assert!(matches!(as_witness, Err(VerifierKeyError::Type { found: 1, .. })), "{as_witness:?}");
}

#[test]
fn a_cosignature_is_for_one_time_and_one_text() {
    let witness = Witness::new("w.example.com", 7);
    let note = Note::parse(REQUEST.split_once("\n\n").unwrap().1).unwrap();
    assert!(matches!(note.cosigned_at(&witness.vkey), Err(NoteError::NotSignedBy { .. })));
    let twice = witness.cosigned(&witness.cosigned(&note, 9), 5);
    assert_eq!(twice.cosigned_at(&witness.vkey), Ok(9), "the latest of two");
    assert_eq!(witness.cosigned(&twice, 5), twice, "a line is not added twice");
    let signature = witness.key.sign(cosigned_message(5, note.text()).as_bytes()).to_bytes();
    for (time_s, text) in [(6, note.text()), (5, "other\n1\ntext\n")] {
        let refused = cosignature_line(text, &witness.vkey, time_s, &signature);
        assert!(matches!(refused, Err(NoteError::BadSignature { .. })));
    }
}

#[test]
fn a_policy_line_that_breaks_a_rule_is_named() {
    let fault = |text: &str| match WitnessPolicy::parse(text) {
        Err(PolicyError::Line { line, what }) => (line, what),
        other => panic!("{text}: {other:?}"),
    };
    let with = |from: &str, to: &str| fault(&POLICY.replacen(from, to, 1));
    assert!(with("group own 2", "group own 4").1.contains("reached by any"));
    for threshold in ["0", "02", "-1", "most", "any all"] {
        let (line, _) = with("own 2", &format!("own {threshold}"));
        assert_eq!(line, 7, "{threshold}");
    }
    assert_eq!(with("one two three", "one two four"), (7, "it uses a name that no earlier line defines"));
    assert_eq!(
        with("one two three", "one two two"),
        (7, "it uses a name that is a member of a group already")
    );
    assert_eq!(with("one two three", "").0, 7);
    assert_eq!(with("quorum own", "quorum own\nquorum none"), (9, "there is a quorum line before this one"));
    assert_eq!(with("quorum own", "quorum nobody").0, 8);
    for name in ["one", "none"] {
        assert_eq!(with("group own", &format!("group {name}")), (7, "this name is taken"));
    }
    assert_eq!(with("# Two", "Two").0, 1);
    assert_eq!(with("# Two", "# \u{1}Two").0, 1);
    let log = POLICY.lines().nth(1).unwrap();
    assert_eq!(with("quorum", &format!("{log}\nquorum")), (8, "this log's key stands on an earlier line"));
    let key = Witness::new("alias.example.com", 11).vkey;
    let alias = format!("witness alias {key}\nquorum");
    assert_eq!(with("quorum", &alias), (8, "this witness's key stands on an earlier line"));
    assert_eq!(WitnessPolicy::parse(&POLICY.replace("quorum own", "")), Err(PolicyError::NoQuorum));
    assert_eq!(WitnessPolicy::parse(""), Err(PolicyError::NoQuorum));
    let swapped = POLICY.replace("log log", "witness x log");
    assert!(matches!(WitnessPolicy::parse(&swapped), Err(PolicyError::Key { line: 2, .. })));
    let long = format!("#{}\n{POLICY}", "x".repeat(tlog::MAX_POLICY_LEN));
    assert!(matches!(WitnessPolicy::parse(&long), Err(PolicyError::TooLong { .. })));
}

#[test]
fn a_policy_has_room_for_63_of_each_and_no_more() {
    let lines = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let seed = |n: usize| u8::try_from(n).unwrap();
    let logs = |n: usize| format!("log {}\n", Signer::new("log", seed(n) + 100).vkey);
    let witnesses = |n: usize| format!("witness w{n} {}\n", Witness::new("w", seed(n)).vkey);
    let groups = |n: usize| {
        let inner = n.checked_sub(1).map_or(String::new(), |before| format!(" g{before}"));
        format!("group g{n} all w{n}{inner}\n")
    };
    let of = |l, w, g| {
        let (l, w, g) = (lines(l, &logs), lines(w, &witnesses), lines(g, &groups));
        WitnessPolicy::parse(&format!("{l}{w}{g}quorum g{}\n", MAX_POLICY_ITEMS - 1))
    };
    let most = MAX_POLICY_ITEMS;
    let policy = of(most, most, most).unwrap();
    for (l, w, g) in [(most + 1, most, most), (most, most + 1, most)] {
        assert!(matches!(of(l, w, g), Err(PolicyError::Line { .. })));
    }
    let mut note = Note::parse(REQUEST.split_once("\n\n").unwrap().1).unwrap();
    for n in 0..most {
        assert_eq!(policy.demand(&note), Err(PolicyError::Quorum { have: n, known: most }));
        note = Witness::new("w", seed(n)).cosigned(&note, 1);
    }
    assert_eq!(policy.demand(&note).unwrap().len(), most);
    let one_more = Witness::new("x", 99);
    let signature = one_more.key.sign(cosigned_message(1, note.text()).as_bytes()).to_bytes();
    let line = cosignature_line(note.text(), &one_more.vkey, 1, &signature).unwrap();
    assert_eq!(note.with_signatures([line]), Err(NoteError::TooManySignatures));
}

/// A quorum as a tree of numbers: what the policy's evaluation is compared with.
#[derive(Debug, Clone)]
enum Tree {
    Witness(usize),
    Group(usize, Vec<Tree>),
}

impl Tree {
    /// Writes the group lines, each behind those of its members; gives the name.
    fn write(&self, lines: &mut String, next: &mut usize) -> String {
        match self {
            Self::Witness(n) => format!("w{n}"),
            Self::Group(k, members) => {
                let names: Vec<_> = members.iter().map(|m| m.write(lines, next)).collect();
                *next += 1;
                *lines += &format!("group g{next} {k} {}\n", names.join(" "));
                format!("g{next}")
            }
        }
    }

    fn reached(&self, signed: &[bool]) -> bool {
        match self {
            Self::Witness(n) => signed[*n],
            Self::Group(k, members) => {
                members.iter().map(|m| usize::from(m.reached(signed))).sum::<usize>() >= *k
            }
        }
    }
}

/// A tree over six witnesses, each in one place.
fn trees() -> impl Strategy<Value = Tree> {
    let cut = (
        prop::collection::vec(1..4usize, 1..4),
        1..4usize,
        Just((0..6).collect::<Vec<usize>>()).prop_shuffle(),
    );
    (cut, any::<u64>()).prop_map(|((widths, k, order), thresholds)| {
        let mut rest = order.into_iter();
        let mut groups = Vec::new();
        for (at, width) in widths.into_iter().enumerate() {
            let members: Vec<_> = rest.by_ref().take(width).map(Tree::Witness).collect();
            if !members.is_empty() {
                let threshold = 1 + (thresholds >> (8 * at)) as usize % members.len();
                groups.push(Tree::Group(threshold, members));
            }
        }
        let k = k.min(groups.len());
        Tree::Group(k, groups)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_quorum_is_reached_exactly_when_the_groups_say_so(tree in trees(), who in prop::collection::vec(any::<bool>(), 6)) {
        let witnesses: Vec<_> = (0..6u8).map(|n| Witness::new(&format!("w{n}"), 30 + n)).collect();
        let mut text: String = witnesses.iter().enumerate().map(|(n, w)| format!("witness w{n} {}\n", w.vkey)).collect();
        let mut lines = String::new();
        let quorum = tree.write(&mut lines, &mut 0);
        text += &format!("{lines}quorum {quorum}\n");
        let policy = WitnessPolicy::parse(&text).unwrap();
        let mut note = Note::parse(REQUEST.split_once("\n\n").unwrap().1).unwrap();
        for (witness, _) in witnesses.iter().zip(&who).filter(|(_, signs)| **signs) {
            note = witness.cosigned(&note, 3);
        }
        prop_assert_eq!(policy.demand(&note).is_ok(), tree.reached(&who), "{}", text);
    }

    #[test]
    fn a_proof_file_of_any_leaf_verifies_and_of_no_other((index, size) in leaves(), extra in prop::option::of(prop::collection::vec(any::<u8>(), 0..40))) {
        let log = Signer::new("log.example.com", 1);
        let text = Checkpoint { origin: "log.example.com".into(), size, root: forest().root(size) }.text();
        let checkpoint = Note::parse(&log.note(&text)).unwrap();
        let proof = LogProof { extra, index, hashes: forest().inclusion(index, size), checkpoint };
        let read = LogProof::parse(&proof.to_string()).unwrap();
        prop_assert_eq!(&read, &proof);
        prop_assert!(read.verify(&leaf(index), &log.vkey, None).is_ok());
        prop_assert!(read.verify(&leaf(index + 1), &log.vkey, None).is_err());
        let moved = LogProof { index: (index + 1) % size.max(1), ..read };
        prop_assert!(size == 1 || moved.verify(&leaf(index), &log.vkey, None).is_err());
    }
}
