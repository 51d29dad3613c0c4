//! A published log verifies as a whole, and one altered byte in any file is found.

use crate::{forest::leaf, notes::log_signer};
use std::collections::BTreeMap;
use tlog::{
    Checkpoint, Frontier, Hash, LogReport, TileId, TileKind, TilePath, VerifyError, encode_bundle,
    encode_tile, tile_paths, verify_log,
};

/// A published log, as files in memory.
type Published = BTreeMap<String, Vec<u8>>;
type Verified = Result<LogReport, VerifyError<std::io::Error>>;

fn publish(size: u64) -> Published {
    let mut frontier = Frontier::default();
    let mut tiles = BTreeMap::<TileId, Vec<Hash>>::new();
    for index in 0..size {
        frontier.append_with(leaf(index), |tile, _, hash| tiles.entry(tile).or_default().push(hash));
    }
    let mut files: Published = tile_paths(size)
        .map(|path| match path.tile() {
            Some(tile) => (path.to_string(), encode_tile(&tiles[&tile])),
            None => (path.to_string(), bundle(&path)),
        })
        .collect();
    sign(&mut files, size, frontier.root());
    files
}

fn sign(files: &mut Published, size: u64, root: Hash) {
    let checkpoint = Checkpoint { origin: "log.example.com".into(), size, root };
    files.insert("checkpoint".into(), log_signer().note(&checkpoint.text()).into_bytes());
}

fn bundle(path: &TilePath) -> Vec<u8> {
    let first = path.index() * 256;
    let entries: Vec<_> = (first..first + path.width()).map(crate::forest::entry).collect();
    encode_bundle(entries.iter().map(<[u8; 8]>::as_slice)).unwrap()
}

fn verify(files: &Published) -> Verified {
    verify_log(|path| Ok(files.get(path).cloned()), &log_signer().vkey, |_, _| ())
}

#[test]
fn a_published_log_verifies_and_every_entry_is_seen_once_in_order() {
    for size in [0, 1, 2, 255, 256, 257, 511, 512, 1000, 65_535, 65_536, 65_537, 70_000] {
        let files = publish(size);
        let mut seen = 0;
        let report = verify_log::<std::io::Error>(
            |path| Ok(files.get(path).cloned()),
            &log_signer().vkey,
            |index, entry| {
                assert_eq!((index, entry), (seen, crate::forest::entry(index).as_slice()));
                seen += 1;
            },
        )
        .unwrap();
        assert_eq!((report.entries, report.checkpoint.size, seen), (size, size, size));
    }
}

#[test]
fn every_published_file_is_read_and_one_flipped_bit_in_any_is_found() {
    let files = publish(700);
    for (path, bytes) in &files {
        for at in [0, 1, 2, bytes.len() / 2, bytes.len() - 1] {
            let mut altered = files.clone();
            altered.get_mut(path).unwrap()[at] ^= 1;
            verify(&altered).expect_err(path);
        }
    }
}

#[test]
fn the_highest_tiles_of_a_larger_log_are_compared_too() {
    let files = publish(65_537);
    for path in ["tile/1/000", "tile/2/000.p/1", "tile/0/255", "tile/0/256.p/1"] {
        let mut altered = files.clone();
        altered.get_mut(path).unwrap()[31] ^= 1;
        assert!(
            matches!(verify(&altered), Err(VerifyError::Hash { path: found, position: 0 }) if found == path)
        );
    }
}

#[test]
fn a_missing_cut_or_overlong_file_is_found() {
    let files = publish(700);
    for path in files.keys() {
        let change = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut changed = files.clone();
            edit(changed.get_mut(path).unwrap());
            verify(&changed).expect_err(path)
        };
        change(&|bytes| bytes.clear());
        change(&|bytes| bytes.truncate(bytes.len() - 1));
        change(&|bytes| bytes.truncate(bytes.len() - 32));
        change(&|bytes| bytes.extend([0; 32]));
        change(&|bytes| bytes.extend([0; 2]));
        let mut removed = files.clone();
        removed.remove(path);
        assert!(matches!(verify(&removed), Err(VerifyError::Missing { path: found }) if found == *path));
    }
}

#[test]
fn a_full_tile_stands_in_for_a_partial_one_that_is_gone() {
    let mut files = publish(700);
    let later = publish(1024);
    for path in tile_paths(700).filter(TilePath::is_partial).filter(|p| p.kind() != TileKind::Hashes(1)) {
        files.remove(&path.to_string()).unwrap();
        let full = path.full().to_string();
        files.insert(full.clone(), later[&full].clone());
    }
    assert_eq!(verify(&files).unwrap().entries, 700);
    files.get_mut("tile/0/002").unwrap()[0] ^= 1;
    assert!(matches!(verify(&files), Err(VerifyError::Hash { position: 0, .. })));
}

#[test]
fn a_log_that_was_rewritten_with_all_its_tiles_fails_at_the_signed_root() {
    let honest = publish(700);
    let mut frontier = Frontier::default();
    (0..700).for_each(|index| frontier.append(leaf(index)));
    let mut rewritten = honest.clone();
    sign(&mut rewritten, 700, leaf(0));
    let Err(VerifyError::Root { size: 700, computed, signed }) = verify(&rewritten) else {
        panic!("the root is what differs");
    };
    assert_eq!((computed, signed), (frontier.root(), leaf(0)));
}

#[test]
fn entries_and_tiles_of_one_log_under_the_checkpoint_of_a_shorter_one_fail() {
    let mut files = publish(700);
    files.insert("checkpoint".into(), publish(699)["checkpoint"].clone());
    assert!(matches!(verify(&files), Err(VerifyError::Missing { .. })));
}

#[test]
fn an_unreadable_file_is_not_called_an_altered_one() {
    let files = publish(300);
    for broken in files.keys() {
        let result = verify_log(
            |path| {
                if path == broken {
                    Err(std::io::Error::other("input/output error"))
                } else {
                    Ok(files.get(path).cloned())
                }
            },
            &log_signer().vkey,
            |_, _| (),
        );
        assert!(matches!(result, Err(VerifyError::Read { path, .. }) if path == *broken));
    }
}

#[test]
fn a_checkpoint_that_is_not_text_or_not_signed_by_this_log_is_refused() {
    let mut files = publish(3);
    let unsigned =
        String::from_utf8(files["checkpoint"].clone()).unwrap().replace("log.example", "lag.example");
    files.insert("checkpoint".into(), unsigned.into_bytes());
    assert!(matches!(verify(&files), Err(VerifyError::Checkpoint(_))));
    files.insert("checkpoint".into(), vec![0xff]);
    assert!(matches!(verify(&files), Err(VerifyError::CheckpointText)));
}
