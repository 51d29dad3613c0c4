//! A proof that was altered in any one place is refused.

use crate::forest::{FOREST, forest, leaf, leaves, pairs, sizes};
use proptest::prelude::*;
use tlog::{Hash, ProofError, empty_root, node_hash, verify_consistency, verify_inclusion};

/// Every proof that differs from `proof` in one bit, one hash more, one less, or two neighbours swapped.
fn altered(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = Vec::new();
    for (at, bit) in (0..proof.len()).flat_map(|at| (0..256).map(move |bit| (at, bit))) {
        let mut one = proof.to_vec();
        one[at].0[bit / 8] ^= 1 << (bit % 8);
        all.push(one);
    }
    for at in 0..=proof.len() {
        for extra in [empty_root(), leaf(0), proof.get(at).copied().unwrap_or(leaf(1))] {
            let mut longer = proof.to_vec();
            longer.insert(at, extra);
            all.push(longer);
        }
    }
    for at in 0..proof.len() {
        let mut shorter = proof.to_vec();
        shorter.remove(at);
        all.push(shorter);
    }
    for at in 1..proof.len() {
        let mut swapped = proof.to_vec();
        swapped.swap(at - 1, at);
        all.push(swapped);
    }
    all
}

fn flipped(hash: Hash, bit: u8) -> Hash {
    let mut other = hash;
    other.0[usize::from(bit) / 8] ^= 1 << (bit % 8);
    other
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_altered_inclusion_proof_is_refused((index, size) in leaves()) {
        let (proof, root) = (forest().inclusion(index, size), forest().root(size));
        for bad in altered(&proof) {
            prop_assert!(verify_inclusion(&leaf(index), index, size, &bad, &root).is_err());
        }
    }

    #[test]
    fn an_altered_consistency_proof_is_refused((old, new) in pairs()) {
        let proof = forest().consistency(old, new);
        let (old_root, new_root) = (forest().root(old), forest().root(new));
        for bad in altered(&proof) {
            prop_assert!(verify_consistency(old, &old_root, new, &new_root, &bad).is_err());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_inclusion_proof_proves_no_other_leaf_index_or_tree(
        (index, size) in leaves(), (other_index, other_size) in leaves(), bit: u8
    ) {
        let (proof, root) = (forest().inclusion(index, size), forest().root(size));
        let verify = |leaf, index, size, root| verify_inclusion(&leaf, index, size, &proof, &root);
        prop_assert!(verify(flipped(leaf(index), bit), index, size, root).is_err());
        prop_assert!(verify(leaf(index), index, size, flipped(root, bit)).is_err());
        for near in [other_index, index + 1, index.wrapping_sub(1), index ^ 1, index ^ 256, index + size] {
            if near != index {
                prop_assert!(verify(leaf(index), near, size, root).is_err(), "index {near}");
                prop_assert!(verify(leaf(near), index, size, root).is_err(), "leaf {near}");
            }
        }
        for near in [other_size, size + 1, size - 1, size ^ 256, size * 2] {
            if near != size && near <= FOREST {
                prop_assert!(verify(leaf(index), index, near, forest().root(near)).is_err(), "size {near}");
            }
        }
    }

    #[test]
    fn a_consistency_proof_proves_no_other_pair_of_trees((old, new) in pairs(), other in sizes(), bit: u8) {
        let proof = forest().consistency(old, new);
        let root = |size| forest().root(size);
        let verify = |old, old_root, new, new_root| verify_consistency(old, &old_root, new, &new_root, &proof);
        prop_assert!(verify(old, flipped(root(old), bit), new, root(new)).is_err());
        if old > 0 {
            prop_assert!(verify(old, root(old), new, flipped(root(new), bit)).is_err());
        }
        for near in [other, old + 1, old.wrapping_sub(1), old ^ 256] {
            // From nothing, and from a tree to itself, an empty proof is the right one.
            if near != old && near <= new && !(proof.is_empty() && (near == 0 || near == new)) {
                prop_assert!(verify(near, root(near), new, root(new)).is_err(), "old {near}");
                prop_assert!(verify(near, root(old), new, root(new)).is_err(), "old {near}, its root not");
            }
        }
        for near in [other, new + 1, new.wrapping_sub(1), new ^ 256] {
            if near != new && near <= FOREST && !(proof.is_empty() && (old == 0 || near == old)) {
                prop_assert!(verify(old, root(old), near, root(near)).is_err(), "new {near}");
            }
        }
    }

    #[test]
    fn verifying_foreign_numbers_and_hashes_never_panics(
        numbers: [u64; 2], bits in 0..64u32, hashes in prop::collection::vec(any::<[u8; 32]>(), 0..70)
    ) {
        let proof: Vec<Hash> = hashes.into_iter().map(Hash).collect();
        let [a, b] = numbers.map(|n| n >> bits);
        let root = leaf(0);
        let _ = verify_inclusion(&root, a, b, &proof, &root);
        let _ = verify_consistency(a, &root, b, &root, &proof);
        let _ = tlog::tiles_for_inclusion(a, b);
        let _ = tlog::tiles_for_consistency(a, b);
        let _ = tlog::tiles_for_frontier(a);
        let _ = tlog::inclusion_proof(a, b, &tlog::Tiles::new());
        let _ = tlog::frontier_from_tiles(a, &tlog::Tiles::new());
    }
}

#[test]
fn equal_sizes_need_equal_roots_and_nothing_else() {
    let (root, other) = (forest().root(5), forest().root(6));
    assert_eq!(verify_consistency(5, &root, 5, &root, &[]), Ok(()));
    assert_eq!(verify_consistency(5, &root, 5, &other, &[]), Err(ProofError::Root));
    assert_eq!(verify_consistency(5, &root, 5, &root, &[root]), Err(ProofError::Length));
}

#[test]
fn everything_extends_the_empty_log_and_only_the_empty_log_has_size_zero() {
    let root = forest().root(5);
    assert_eq!(verify_consistency(0, &empty_root(), 5, &root, &[]), Ok(()));
    assert_eq!(verify_consistency(0, &empty_root(), 0, &empty_root(), &[]), Ok(()));
    assert_eq!(verify_consistency(0, &root, 5, &root, &[]), Err(ProofError::OldRoot));
    assert_eq!(verify_consistency(0, &empty_root(), 5, &root, &[root]), Err(ProofError::Length));
    assert_eq!(
        verify_consistency(5, &root, 0, &empty_root(), &[]),
        Err(ProofError::Order { old: 5, new: 0 })
    );
}

#[test]
fn a_proof_that_climbs_beyond_the_root_is_refused_even_if_its_hashes_lead_to_the_forged_one() {
    let forged = |root| node_hash(&leaf(9), &root);
    let long = [leaf(9)];
    assert_eq!(verify_inclusion(&leaf(0), 0, 1, &long, &forged(leaf(0))), Err(ProofError::Length));
    let mut long = forest().consistency(3, 4);
    long.push(leaf(9));
    let (old_root, new_root) = (forged(forest().root(3)), forged(forest().root(4)));
    assert_eq!(verify_consistency(3, &old_root, 4, &new_root, &long), Err(ProofError::Length));
}

#[test]
fn a_rewritten_entry_makes_every_later_consistency_proof_fail() {
    let mut honest = tlog::Frontier::default();
    let mut rewritten = tlog::Frontier::default();
    for index in 0..300 {
        honest.append(leaf(index));
        rewritten.append(if index == 7 { leaf(1_000) } else { leaf(index) });
    }
    let proof = forest().consistency(300, 1_000);
    let new_root = forest().root(1_000);
    assert_eq!(verify_consistency(300, &honest.root(), 1_000, &new_root, &proof), Ok(()));
    let refused = verify_consistency(300, &rewritten.root(), 1_000, &new_root, &proof);
    assert_eq!(refused, Err(ProofError::OldRoot));
}
