//! Which files a backup has: a function of its manifest's numbers.

use crate::Manifest;
use std::collections::BTreeSet;
use tlog::{TILE_WIDTH, TilePath, tile_paths};

/// The file of the payloads that the intents among `width` leaves from `bundle * 256` on name: numbered like the entry
/// bundle of those leaves, which never changes once it is full, as that does not.
pub fn payload_path(bundle: u64, width: u64) -> String {
    // Widths that are no tile's do not occur: callers take them from `payload_paths`.
    let entries = TilePath::entries(bundle, width).map(|path| path.to_string()).unwrap_or_default();
    entries.replacen("tile/entries", "payload", 1)
}

/// Number, width and path of every payload file of a log of `leaves` leaves, in order.
pub fn payload_paths(leaves: u64) -> impl Iterator<Item = (u64, u64, String)> {
    (0..leaves.div_ceil(TILE_WIDTH)).map(move |bundle| {
        let width = (leaves - bundle * TILE_WIDTH).min(TILE_WIDTH);
        (bundle, width, payload_path(bundle, width))
    })
}

/// The leaves that no note covers yet.
pub(crate) fn tail(sequence: u64) -> String {
    format!("tail-{sequence}")
}

/// The requests that no leaf gives.
pub(crate) fn requests(sequence: u64) -> String {
    format!("requests-{sequence}.jsonl")
}

/// Every file that the manifest of such a backup names, and no other.
pub(crate) fn expected(manifest: &Manifest) -> BTreeSet<String> {
    let tiles = tile_paths(manifest.size).map(|path| path.to_string());
    let payloads = payload_paths(manifest.leaves).map(|(.., path)| path);
    let state = [tail(manifest.sequence), requests(manifest.sequence)];
    tiles.chain(payloads).chain(state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_files_are_numbered_like_entry_bundles() {
        let paths = |leaves| payload_paths(leaves).map(|(.., path)| path).collect::<Vec<_>>();
        assert!(paths(0).is_empty());
        assert_eq!(paths(5), ["payload/000.p/5"]);
        assert_eq!(paths(256), ["payload/000"]);
        assert_eq!(paths(257), ["payload/000", "payload/001.p/1"]);
        assert_eq!(payload_path(1_234_067, 256), "payload/x001/x234/067");
    }
}
