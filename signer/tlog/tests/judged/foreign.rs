//! Parsers meet bytes from anywhere: they never panic, and what they accept has one spelling.

use crate::notes::{judge_accepts, log_signer};
use proptest::prelude::*;
use tlog::{
    AddCheckpoint, Checkpoint, Hash, LogProof, Note, TilePath, VerifierKey, WitnessPolicy, decode_bundle,
    decode_cosignatures, decode_size, decode_tile, encode_cosignatures, encode_size, encode_tile,
};

/// Texts that come close to what the parsers read.
fn near_texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\u{2014} ".to_owned()),
        Just("\n".to_owned()),
        Just("\n\n".to_owned()),
        Just("log.example.com".to_owned()),
        Just("+".to_owned()),
        Just(" ".to_owned()),
        Just("tile/".to_owned()),
        Just("entries/".to_owned()),
        Just("c2sp.org/tlog-proof@v1\n".to_owned()),
        Just("index ".to_owned()),
        Just("old ".to_owned()),
        Just("witness ".to_owned()),
        Just("group ".to_owned()),
        Just("quorum ".to_owned()),
        Just("x001/".to_owned()),
        Just(".p/".to_owned()),
        "[0-9]{1,4}",
        "[A-Za-z0-9+/=]{0,48}",
        "\\PC{0,3}",
    ];
    prop_oneof![
        3 => prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()),
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn whatever_a_parser_of_texts_accepts_prints_back_the_same(text in near_texts()) {
        if let Ok(note) = Note::parse(&text) {
            prop_assert_eq!(note.to_string(), &*text);
        }
        if let Ok(key) = VerifierKey::parse(&text) {
            prop_assert_eq!(key.to_string(), &*text);
        }
        if let Ok(proof) = LogProof::parse(&text) {
            prop_assert_eq!(proof.to_string(), &*text);
        }
        if let Ok(request) = AddCheckpoint::parse(&text) {
            prop_assert_eq!(request.to_string(), &*text);
        }
        if let Ok(lines) = decode_cosignatures(&text) {
            prop_assert_eq!(encode_cosignatures(&lines), &*text);
        }
        if let Ok(size) = decode_size(&text) {
            prop_assert_eq!(encode_size(size), &*text);
        }
        // A policy has many spellings; it only must not panic.
        let _ = WitnessPolicy::parse(&text);
        if let Ok(checkpoint) = Checkpoint::parse(&text) {
            prop_assert_eq!(checkpoint.text(), &*text);
        }
        if let Ok(path) = TilePath::parse(&text) {
            prop_assert_eq!(path.to_string(), &*text);
        }
        if let Ok(hash) = Hash::from_base64(&text) {
            prop_assert_eq!(hash.to_base64(), text);
        }
    }

    #[test]
    fn whatever_a_parser_of_bytes_accepts_encodes_back_the_same(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode_bundle(&bytes);
        if let Ok(hashes) = decode_tile(&bytes) {
            prop_assert_eq!(encode_tile(&hashes), bytes);
        }
    }

    #[test]
    fn every_path_that_can_be_built_parses_back(level in 0..=63u8, index: u64, shift in 0..64u32, width in 1..=256u64) {
        let index = index >> shift;
        for path in [TilePath::entries(index, width), TilePath::hashes(tlog::TileId { level, index }, width)] {
            let path = path.unwrap();
            prop_assert_eq!(TilePath::parse(&path.to_string()), Ok(path));
            prop_assert_eq!(path.full().is_partial(), false);
        }
    }

    #[test]
    fn an_altered_byte_makes_a_note_worthless(at: prop::sample::Index, byte: u8) {
        let log = log_signer();
        let good = log.note("log.example.com\n5\nroot\n");
        let mut bytes = good.clone().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        let accepted = str::from_utf8(&bytes).is_ok_and(|n| Note::parse(n).is_ok_and(|n| n.verify(&log.vkey).is_ok()));
        prop_assert!(!accepted);
        prop_assert!(!judge_accepts(&bytes, &log.vkey));
    }

    #[test]
    fn no_note_is_accepted_that_signed_note_refuses(text in near_texts(), cut: prop::sample::Index) {
        let log = log_signer();
        let good = log.note("text\n");
        let (head, tail) = good.split_at(good.floor_char_boundary(cut.index(good.len() + 1)));
        for note in [format!("{text}{good}"), format!("{head}{text}{tail}"), format!("{good}{text}")] {
            if Note::parse(&note).is_ok_and(|n| n.verify(&log.vkey).is_ok()) {
                prop_assert!(judge_accepts(note.as_bytes(), &log.vkey), "{note:?}");
            }
        }
    }
}
