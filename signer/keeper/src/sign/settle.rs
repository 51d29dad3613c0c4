//! Which leaf closes an open item: only one that says what this keeper said.

use super::charter::Charter;
use super::refusal::{Code, Refused, chain_of};
use super::results::Results;
use super::state::{Change, Open, Seen, State};
use record::wire::{Settle, SignResult};
use record::{Completion, Leaf, OutcomeKind, Sha256};

/// The change that `settle` makes, if its leaf stands in the log and fits the item's result.
// INVARIANT(keepers-word): a signed item is closed by its own completion only, a failed one by a failed outcome only, a
// lost one by an unknown outcome or by a signature that turned up.
pub(super) fn close(
    settle: &Settle,
    charter: &Charter,
    state: &State,
    results: &Results,
) -> Result<Change, Refused> {
    let index = settle.index;
    let item = state
        .open
        .get(&index)
        .ok_or_else(|| Refused::new(Code::Used, "not open here: settled before, or never accepted"))?;
    let result = results
        .finished(index)
        .ok_or_else(|| Refused::new(Code::Unsettled, "the token still works on it: wait for the result"))?;
    if settle.at <= index {
        return Err(Refused::new(Code::Unsettled, "the leaf stands before the intent that it should close"));
    }
    included(&settle.leaf.0, settle.at, &settle.inclusion, &state.seen)?;
    let signed = fits(&settle.leaf.0, index, item, result, charter)?;
    Ok(Change::Settled { index, signed })
}

/// Whether the log that was seen holds `leaf` at `index`.
pub(super) fn included(leaf: &[u8], index: u64, proof: &[Sha256], seen: &Seen) -> Result<(), Refused> {
    let proof: Vec<tlog::Hash> = proof.iter().map(|h| tlog::Hash(*h.as_bytes())).collect();
    let root = tlog::Hash(*seen.root.as_bytes());
    tlog::verify_inclusion(&tlog::leaf_hash(leaf), index, seen.size, &proof, &root).map_err(|e| {
        Refused::new(
            Code::Proof,
            format!("leaf {index} in the log of {} leaves: {}", seen.size, chain_of(&e)),
        )
    })
}

/// Whether the leaf fits the result, and if so whether it holds a signature.
fn fits(
    leaf: &[u8],
    index: u64,
    item: &Open,
    result: &SignResult,
    charter: &Charter,
) -> Result<bool, Refused> {
    let refused = |why: &str| Refused::new(Code::Unsettled, why);
    let is_its = |c: &Completion| c.key() == item.key && c.digest() == item.digest();
    match (Leaf::decode(leaf), result) {
        // Whatever else a completion holds follows from key, digest and signature: it has one spelling.
        (Ok(Leaf::Completion(c)), SignResult::Signed { signature })
            if is_its(&c) && c.signature() == signature =>
        {
            Ok(true)
        }
        (_, SignResult::Signed { .. }) => Err(refused("only the completion with this signature closes it")),
        (Ok(Leaf::Outcome(o)), _) if o.intent != index || o.keeper != charter.keeper => {
            Err(refused("the outcome is of another intent or in another keeper's name"))
        }
        (Ok(Leaf::Outcome(o)), SignResult::Failed { .. }) if o.outcome == OutcomeKind::Failed => Ok(false),
        (Ok(Leaf::Outcome(o)), SignResult::Lost {}) if o.outcome == OutcomeKind::Unknown => Ok(false),
        (Ok(Leaf::Completion(c)), SignResult::Lost {}) if is_its(&c) && c.verifies() => Ok(true),
        _ => Err(refused("the leaf does not say what this keeper said of it")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::software::Software;
    use super::*;
    use record::{FailureCode, Purpose, Sha384, SignedData};

    /// A completion by a key of each kind over the same payload, made by another program.
    const GOLDEN: &str = include_str!("../../../record/tests/golden/completions.jsonl");
    const PAYLOAD: &[u8] = br#"{"what":"is signed"}"#;

    fn item(completion: &Completion, payload: &[u8]) -> Open {
        let sha384 = matches!(completion.data(), SignedData::Sha384(_)).then(|| Sha384::of(payload));
        Open {
            key: completion.key(),
            payload: Sha256::of(payload),
            payload_sha384: sha384,
            repository: "r.example/team/app".parse().unwrap(),
            role: Purpose::Targets,
            version: None,
            failed: None,
        }
    }

    /// INVARIANT(keepers-word)
    #[test]
    fn an_item_of_every_kind_of_key_is_closed_by_its_own_completion_only() {
        let charter = Charter::parse(Software::new().world().charter().as_bytes()).unwrap();
        let all = GOLDEN.lines().map(|leaf| match Leaf::decode(leaf.as_bytes()).unwrap() {
            Leaf::Completion(completion) => (leaf.as_bytes(), completion),
            other => panic!("{other:?}"),
        });
        let all: Vec<_> = all.collect();
        for (n, (leaf, completion)) in all.iter().enumerate() {
            let signed = SignResult::Signed { signature: completion.signature().clone() };
            let (own, other) = (item(completion, PAYLOAD), item(completion, b"other"));
            let closes =
                |item: &Open, result: &SignResult, leaf: &[u8]| fits(leaf, 7, item, result, &charter);
            assert!(closes(&own, &signed, leaf).unwrap());
            assert!(closes(&own, &SignResult::Lost {}, leaf).unwrap());
            for result in [&signed, &SignResult::Lost {}] {
                assert!(closes(&other, result, leaf).is_err(), "over another payload");
                let (another, _) = &all[(n + 1) % all.len()];
                assert!(closes(&own, result, another).is_err(), "by another key");
            }
            let failed = SignResult::Failed { code: FailureCode::parse("device-error").unwrap() };
            assert!(closes(&own, &failed, leaf).is_err());
        }
    }
}
