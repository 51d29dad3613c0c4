//! A witness that follows the rule never contradicts itself, whatever is sent to it; and a log takes nothing from it that does
//! not verify.

use crate::{
    forest::{FOREST, forest, leaf},
    notes::Signer,
    witnesses::Witness,
};
use proptest::prelude::*;
use tlog::{
    AddCheckpoint, Checkpoint, Hash, Note, NoteError, ProofError, WitnessError, WitnessRefusal,
    accepted_cosignatures, empty_root, encode_cosignatures,
};

const ORIGIN: &str = "log.example.com";

fn log() -> Signer {
    Signer::new(ORIGIN, 1)
}

/// A request for the checkpoint of this size and root.
fn request(old: u64, size: u64, root: Hash, proof: Vec<Hash>) -> AddCheckpoint {
    let text = format!("{ORIGIN}\n{size}\n{}\n", root.to_base64());
    AddCheckpoint { old, proof, checkpoint: Note::parse(&log().note(&text)).unwrap() }
}

/// What an honest log asks a witness at `old`.
fn honest(old: u64, size: u64) -> AddCheckpoint {
    let proof = if old == 0 || old > size { Vec::new() } else { forest().consistency(old, size) };
    request(old, size, forest().root(size), proof)
}

fn seen(size: u64) -> Checkpoint {
    Checkpoint { origin: ORIGIN.into(), size, root: forest().root(size) }
}

#[test]
fn each_fault_of_a_request_has_the_status_that_the_specification_gives_it() {
    let status = |request: &AddCheckpoint, at: Option<u64>| {
        request.judge(&log().vkey, at.map(seen).as_ref()).map_err(|refusal| refusal.status())
    };
    assert_eq!(status(&honest(0, 5), None), Ok(seen(5)));
    assert_eq!(status(&honest(5, 9), Some(5)), Ok(seen(9)));
    assert_eq!(status(&honest(5, 5), Some(5)), Ok(seen(5)), "asked again");
    assert_eq!(status(&honest(0, 0), None), Ok(seen(0)));
    assert_eq!(status(&honest(9, 5), Some(9)), Err(400));
    assert_eq!(status(&honest(3, 9), Some(5)), Err(409));
    assert_eq!(status(&honest(0, 9), Some(5)), Err(409));
    assert_eq!(status(&honest(5, 9), None), Err(409));
    let other_root = request(5, 5, leaf(0), Vec::new());
    assert_eq!(status(&other_root, Some(5)), Err(422));
    assert_eq!(
        status(&request(0, 5, forest().root(5), vec![leaf(0)]), None),
        Err(422),
        "a proof from nothing"
    );
    assert_eq!(status(&request(0, 0, leaf(0), Vec::new()), None), Err(422));
    let stranger = Signer::new(ORIGIN, 9);
    let unsigned = honest(0, 5).judge(&stranger.vkey, None);
    assert_eq!(unsigned.map_err(|refusal| refusal.status()), Err(403));
    let other_log = Signer::new("other.example.com", 1);
    let unknown = honest(0, 5).judge(&other_log.vkey, None).unwrap_err();
    assert_eq!((unknown.status(), unknown), (404, WitnessRefusal::Origin { origin: ORIGIN.into() }));
    let note = Note::parse(&log().note("no checkpoint\n")).unwrap();
    let malformed = AddCheckpoint { checkpoint: note, ..honest(0, 5) };
    assert_eq!(status(&malformed, None), Err(400));
    let conflict = honest(3, 9).judge(&log().vkey, Some(&seen(5)));
    assert_eq!(conflict, Err(WitnessRefusal::Conflict { old: 3, seen: 5 }));
}

#[test]
fn a_log_keeps_only_what_its_witness_has_signed() {
    let (witness, other) = (Witness::new("w.example.com", 7), Witness::new("w.example.com", 8));
    let note = honest(0, 5).checkpoint;
    let both = other.cosigned(&witness.cosigned(&note, 3), 4);
    let lines = both.signatures()[1..].to_vec();
    let accepted = accepted_cosignatures(&note, &witness.vkey, &encode_cosignatures(&lines)).unwrap();
    assert_eq!(accepted, lines[..1]);
    assert_eq!(note.clone().with_signatures(accepted).unwrap().cosigned_at(&witness.vkey), Ok(3));
    let refused = |answer: &str| accepted_cosignatures(&note, &witness.vkey, answer).unwrap_err();
    let only_other = encode_cosignatures(&lines[1..]);
    assert!(matches!(refused(&only_other), WitnessError::Note(NoteError::NotSignedBy { .. })));
    let of_another_size = witness.cosigned(&honest(0, 6).checkpoint, 3).signatures()[1..].to_vec();
    let wrong = encode_cosignatures(&of_another_size);
    assert!(matches!(refused(&wrong), WitnessError::Note(NoteError::BadSignature { .. })));
    let mixed = format!("{}{wrong}", encode_cosignatures(&lines));
    assert!(matches!(refused(&mixed), WitnessError::Note(NoteError::BadSignature { .. })));
}

/// A request: where the proof starts, the size, and what is wrong with it, if anything.
fn requests() -> impl Strategy<Value = (u64, u64, u8)> {
    (0..40u64, 0..40u64, 0..4u8)
}

#[test]
fn a_wrong_proof_with_a_true_checkpoint_is_no_evidence_of_a_fork() {
    let refused = |request: &AddCheckpoint| request.judge(&log().vkey, Some(&seen(7))).unwrap_err();
    for size in [7, 9] {
        let junk = request(7, size, forest().root(size), vec![leaf(1)]);
        assert!(matches!(refused(&junk), WitnessRefusal::Inconsistent(_)), "{size}");
    }
    assert_eq!(refused(&request(7, 7, leaf(7), Vec::new())), WitnessRefusal::Forked { size: 7 });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_a_witness_accepts_only_grows_and_is_one_log(sent in prop::collection::vec(requests(), 1..40)) {
        let mut state: Option<Checkpoint> = None;
        for (old, size, fault) in sent {
            let at = state.as_ref().map_or(0, |seen| seen.size);
            // Half of the requests start where the witness stands, as those of a log that was told do.
            let old = if size % 2 == 0 { at } else { old };
            let mut request = honest(old, size.min(FOREST));
            match fault {
                1 => request.proof.push(leaf(1)),
                2 if request.proof.is_empty() => {}
                2 => request.proof[0] = empty_root(),
                3 => request = self::request(old, size, leaf(size), request.proof),
                _ => {}
            }
            match request.judge(&log().vkey, state.as_ref()) {
                Ok(next) => {
                    prop_assert!(next.size >= at && old == at);
                    // The first checkpoint is taken on trust; from then on it is that log, or nothing.
                    if state.as_ref().is_none_or(|seen| seen.root == forest().root(seen.size)) && at > 0 {
                        prop_assert_eq!(next.root, forest().root(next.size));
                    }
                    state = Some(next);
                }
                Err(WitnessRefusal::Conflict { seen, .. }) => prop_assert!(seen == at && old != at),
                Err(WitnessRefusal::Shrinks { .. }) => prop_assert!(old > size),
                Err(WitnessRefusal::Forked { size: same }) => prop_assert!(same == at && old == at),
                Err(WitnessRefusal::Inconsistent(error)) => prop_assert!(fault != 0 || at > 0, "{:?}", error),
                Err(refusal) => prop_assert!(size == 0 && fault == 3, "{:?}", refusal),
            }
        }
    }

    #[test]
    fn an_honest_log_that_asks_again_after_409_is_always_cosigned(sizes in prop::collection::vec(1..FOREST, 1..12)) {
        let mut sizes = sizes;
        sizes.sort_unstable();
        let mut state: Option<Checkpoint> = None;
        for size in sizes {
            let next = match honest(0, size).judge(&log().vkey, state.as_ref()) {
                Err(WitnessRefusal::Conflict { seen, .. }) => honest(seen, size).judge(&log().vkey, state.as_ref()),
                first => first,
            };
            prop_assert_eq!(next.as_ref(), Ok(&seen(size)));
            state = next.ok();
        }
    }

    #[test]
    fn no_proof_makes_a_witness_accept_another_log(old in 1..40u64, more in 0..40u64, proof in prop::collection::vec(any::<[u8; 32]>(), 0..8)) {
        let proof = proof.into_iter().map(Hash).collect();
        let refused = request(old, old + more, leaf(old), proof).judge(&log().vkey, Some(&seen(old)));
        let is_right = match more {
            0 => refused == Err(WitnessRefusal::Forked { size: old }),
            _ => matches!(
                refused,
                Err(WitnessRefusal::Inconsistent(ProofError::Root | ProofError::OldRoot | ProofError::Length))
            ),
        };
        prop_assert!(is_right, "{:?}", refused);
    }
}
