//! Roots, frontiers and proofs are those of two other implementations.

use crate::forest::{FOREST, entry, forest, leaf, leaves, pairs, sizes};
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash, mem_backed_tree::MemoryBackedTree};
use proptest::prelude::*;
use sha2::Sha256;
use tlog::{
    Frontier, Hash, ProofError, TileId, Tiles, consistency_proof, empty_root, inclusion_proof,
    tiles_for_consistency, tiles_for_frontier, tiles_for_inclusion, verify_consistency, verify_inclusion,
};
use tlog_tiles::tlog as judge;

fn theirs(hash: Hash) -> judge::Hash {
    judge::Hash(hash.0)
}

fn ct_root(root: Hash, size: u64) -> RootHash<Sha256> {
    RootHash::new(root.0.into(), size)
}

fn digests(proof: &[Hash]) -> Vec<sha2::digest::Output<Sha256>> {
    proof.iter().map(|hash| hash.0.into()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_frontier_from_tiles_has_the_root_that_tlog_tiles_computes(size in sizes()) {
        let frontier = forest().frontier(size);
        prop_assert_eq!(frontier.root(), forest().root(size));
        prop_assert_eq!(frontier.size(), size);
        let again = Frontier::from_parts(size, frontier.hashes().to_vec());
        prop_assert_eq!(again, Ok(frontier));
        prop_assert!(tiles_for_frontier(size).len() <= 8);
    }

    #[test]
    fn appending_goes_on_from_a_stored_frontier(size in sizes(), more in 0..300u64) {
        let end = (size + more).min(FOREST);
        let mut frontier = forest().frontier(size.min(end));
        for index in size..end {
            frontier.append(leaf(index));
        }
        prop_assert_eq!(frontier, forest().frontier(end));
    }

    #[test]
    fn inclusion_proofs_are_those_of_tlog_tiles_and_satisfy_all_three_verifiers((index, size) in leaves()) {
        let (proof, root) = (forest().inclusion(index, size), forest().root(size));
        prop_assert_eq!(verify_inclusion(&leaf(index), index, size, &proof, &root), Ok(()));

        let judged = judge::prove_record(size, index, forest()).unwrap();
        prop_assert_eq!(&proof.iter().copied().map(theirs).collect::<Vec<_>>(), &judged);
        judge::check_record(&judged, size, theirs(root), index, theirs(leaf(index))).unwrap();

        let second = InclusionProof::<Sha256>::from_digests(&digests(&proof));
        ct_root(root, size).verify_inclusion(&entry(index), index, &second).unwrap();
    }

    #[test]
    fn consistency_proofs_are_those_of_tlog_tiles_and_satisfy_all_three_verifiers((old, new) in pairs()) {
        let proof = forest().consistency(old, new);
        let (old_root, new_root) = (forest().root(old), forest().root(new));
        prop_assert_eq!(verify_consistency(old, &old_root, new, &new_root, &proof), Ok(()));
        if old == 0 || old == new {
            prop_assert_eq!(proof, []);
            return Ok(());
        }
        let judged = judge::prove_tree(new, old, forest()).unwrap();
        prop_assert_eq!(&proof.iter().copied().map(theirs).collect::<Vec<_>>(), &judged);
        judge::check_tree(&judged, new, theirs(new_root), old, theirs(old_root)).unwrap();

        let second = ConsistencyProof::<Sha256>::from_digests(&digests(&proof));
        ct_root(new_root, new).verify_consistency(&ct_root(old_root, old), &second).unwrap();
    }

    #[test]
    fn tiles_of_a_later_size_give_the_same_proofs((index, size) in leaves(), later in sizes()) {
        let needed = tiles_for_inclusion(index, size).unwrap();
        let tiles = forest().tiles(needed, later.max(size));
        prop_assert_eq!(inclusion_proof(index, size, &tiles).unwrap(), forest().inclusion(index, size));
    }

    #[test]
    fn every_tile_that_a_proof_asks_for_is_needed_and_published((index, size) in leaves(), skip: prop::sample::Index) {
        let needed = tiles_for_inclusion(index, size).unwrap();
        prop_assume!(!needed.is_empty());
        prop_assert!(needed.iter().all(|&id| tlog::tile_width(id, size) > 0));
        let missing = *skip.get(&needed.iter().copied().collect::<Vec<TileId>>());
        let rest = needed.into_iter().filter(|&id| id != missing);
        let result = inclusion_proof(index, size, &forest().tiles(rest, size));
        prop_assert_eq!(result, Err(ProofError::MissingTile { tile: missing }));
    }
}

#[test]
fn all_proofs_of_small_trees_are_those_of_ct_merkle() {
    const LARGEST: u64 = 70;
    let mut tree = MemoryBackedTree::<Sha256, [u8; 8]>::new();
    let mut roots = vec![empty_root()];
    for size in 1..=LARGEST {
        tree.push(entry(size - 1));
        let root = Hash(tree.root().as_bytes()[..].try_into().unwrap());
        assert_eq!(forest().frontier(size).root(), root);
        roots.push(root);
        for index in 0..size {
            let proof = forest().inclusion(index, size);
            let judged = tree.prove_inclusion(index as usize);
            assert_eq!(judged.as_bytes(), proof.iter().flat_map(|h| h.0).collect::<Vec<_>>());
            assert_eq!(verify_inclusion(&leaf(index), index, size, &proof, &root), Ok(()));
        }
        for old in 1..size {
            let proof = forest().consistency(old, size);
            let judged = tree.prove_consistency((size - old) as usize);
            assert_eq!(judged.as_bytes(), proof.iter().flat_map(|h| h.0).collect::<Vec<_>>());
            assert_eq!(verify_consistency(old, &roots[old as usize], size, &root, &proof), Ok(()));
        }
    }
}

#[test]
fn a_frontier_grown_leaf_by_leaf_equals_one_read_from_tiles_at_every_size_up_to_three_tiles() {
    let mut frontier = Frontier::default();
    for index in 0..=768 {
        assert_eq!(frontier, forest().frontier(index), "size {index}");
        frontier.append(leaf(index));
    }
}

#[test]
fn what_no_tree_has_is_an_error_and_not_a_proof() {
    let none = Tiles::new();
    assert_eq!(inclusion_proof(5, 5, &none), Err(ProofError::Index { index: 5, size: 5 }));
    assert_eq!(inclusion_proof(0, 0, &none), Err(ProofError::Index { index: 0, size: 0 }));
    assert_eq!(consistency_proof(6, 5, &none), Err(ProofError::Order { old: 6, new: 5 }));
    let beyond = ProofError::Size { size: u64::MAX };
    assert_eq!(tiles_for_inclusion(0, u64::MAX), Err(beyond));
    assert_eq!(tiles_for_consistency(1, u64::MAX), Err(beyond));
    assert_eq!(tlog::frontier_from_tiles(u64::MAX, &none), Err(beyond));
    let root = empty_root();
    assert_eq!(verify_inclusion(&root, 0, u64::MAX, &[], &root), Err(beyond));
    assert_eq!(verify_consistency(1, &root, u64::MAX, &root, &[]), Err(beyond));
    assert!(Frontier::from_parts(u64::MAX, vec![root; 64]).is_err());
    assert!(Frontier::from_parts(3, vec![root]).is_err() && Frontier::from_parts(3, vec![root; 3]).is_err());
    assert_eq!(Frontier::from_parts(0, vec![]).unwrap().root(), root);
}

#[test]
fn the_largest_log_needs_few_tiles_for_any_proof() {
    let size = tlog::MAX_SIZE;
    for index in [0, 1, size / 2, size - 1] {
        assert!(tiles_for_inclusion(index, size).unwrap().len() <= 16);
        assert!(tiles_for_consistency(index + 1, size).unwrap().len() <= 16);
    }
    assert_eq!(tiles_for_frontier(size).len(), 8);
}

#[test]
fn a_tile_that_ends_too_early_is_named() {
    let tile = TileId { level: 0, index: 0 };
    let mut tiles = Tiles::new();
    tiles.insert(tile, vec![leaf(0)]);
    assert_eq!(inclusion_proof(0, 2, &tiles), Err(ProofError::ShortTile { tile, found: 1, needed: 2 }));
}
