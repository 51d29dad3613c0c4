//! The paths under which a log is published (C2SP tlog-tiles, "Merkle Tree" and "Log entries").
//!
//! Promises: one resource has one path, and only that spelling parses. Does not know whether a path exists.

use crate::{TILE_WIDTH, TileId, tile_width};
use std::{fmt, str::FromStr};

/// C2SP tlog-tiles: levels are 0 to 63.
const MAX_LEVEL: u8 = 63;
/// The longest path, `tile/entries/` with a number of 20 digits and a width, has 55 characters.
const MAX_PATH_LEN: usize = 64;
/// A log of 2^63 entries has tile levels 0 to 7.
const LEVELS: u8 = 8;

/// What a tile's file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Entries: a bundle, numbered like the level-0 tile of their leaf hashes.
    Entries,
    /// Hashes of this level.
    Hashes(u8),
}

/// The path of a hash tile or an entry bundle, `tile/<level or entries>/<index>[.p/<width>]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    kind: TileKind,
    index: u64,
    /// 1 to 256.
    width: u16,
}

/// Why a text, or a level and width, name no tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Not of the form `tile/<level or entries>/<index>[.p/<width>]`.
    #[error("not the path of a tile: tile/<0 to 63 or entries>/<index>[.p/<1 to 255>], in its one spelling")]
    Grammar,
    /// A level beyond 63.
    #[error("tile levels are 0 to 63, this is {0}")]
    Level(u8),
    /// No hash, or more than a full tile has.
    #[error("a tile has 1 to 256 entries, not {0}")]
    Width(u64),
}

impl TilePath {
    /// The path of a hash tile that has `width` hashes, 1 to 256.
    pub fn hashes(id: TileId, width: u64) -> Result<Self, PathError> {
        Self::new(TileKind::Hashes(id.level), id.index, width)
    }

    /// The path of an entry bundle that has `width` entries, 1 to 256.
    pub fn entries(index: u64, width: u64) -> Result<Self, PathError> {
        Self::new(TileKind::Entries, index, width)
    }

    /// The path of a hash tile that a tree of `size` leaves has.
    pub(crate) fn in_tree(id: TileId, size: u64) -> Self {
        Self { kind: TileKind::Hashes(id.level), index: id.index, width: tile_width(id, size) as u16 }
    }

    /// Parses a path as [`Display`](fmt::Display) writes it.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        // Leading zeros, needless groups and signs are caught by writing the result again.
        let path = Self::parse_loosely(text).ok_or(PathError::Grammar)?;
        if path.to_string() == text { Ok(path) } else { Err(PathError::Grammar) }
    }

    /// What the file holds.
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// The number of the tile in its level.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or entries the file holds: 1 to 256.
    pub fn width(&self) -> u64 {
        u64::from(self.width)
    }

    /// Whether the tile is not yet full.
    pub fn is_partial(&self) -> bool {
        self.width() < TILE_WIDTH
    }

    /// The path of the same tile once it is full: where a client looks when a partial tile is gone.
    #[must_use]
    pub fn full(&self) -> Self {
        Self { width: TILE_WIDTH as u16, ..*self }
    }

    /// The hash tile that this path names; none for an entry bundle.
    pub fn tile(&self) -> Option<TileId> {
        match self.kind {
            TileKind::Entries => None,
            TileKind::Hashes(level) => Some(TileId { level, index: self.index }),
        }
    }

    fn new(kind: TileKind, index: u64, width: u64) -> Result<Self, PathError> {
        match (kind, u16::try_from(width)) {
            (TileKind::Hashes(level), _) if level > MAX_LEVEL => Err(PathError::Level(level)),
            (_, Ok(narrow)) if (1..=TILE_WIDTH).contains(&width) => Ok(Self { kind, index, width: narrow }),
            _ => Err(PathError::Width(width)),
        }
    }

    fn parse_loosely(text: &str) -> Option<Self> {
        if text.len() > MAX_PATH_LEN {
            return None;
        }
        let (kind, rest) = text.strip_prefix("tile/")?.split_once('/')?;
        let kind = if kind == "entries" { TileKind::Entries } else { TileKind::Hashes(kind.parse().ok()?) };
        let (index, width) = match rest.split_once(".p/") {
            Some((_, "256")) => return None,
            Some((index, width)) => (index, width.parse().ok()?),
            None => (rest, TILE_WIDTH),
        };
        Self::new(kind, parse_index(index)?, width).ok()
    }
}

/// Reads `x001/x234/067` as 1234067.
fn parse_index(text: &str) -> Option<u64> {
    text.split('/').try_fold(0u64, |index, group| {
        let digits = group.strip_prefix('x').unwrap_or(group);
        index.checked_mul(1000)?.checked_add(u64::from(digits.parse::<u16>().ok().filter(|n| *n < 1000)?))
    })
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Entries => write!(f, "tile/entries/")?,
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        write_index(self.index, f)?;
        if self.is_partial() { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// Writes 1234067 as `x001/x234/067`.
fn write_index(index: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let groups = index.checked_ilog10().unwrap_or(0) / 3;
    for group in (1..=groups).rev() {
        write!(f, "x{:03}/", index / 1000u64.pow(group) % 1000)?;
    }
    write!(f, "{:03}", index % 1000)
}

impl FromStr for TilePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text)
    }
}

/// All tiles that a log of `size` entries publishes: its entry bundles, then its hash tiles from level 0 up, each level
/// in order. The checkpoint is not among them.
pub fn tile_paths(size: u64) -> impl Iterator<Item = TilePath> {
    let entries =
        level_widths(0, size).map(|(index, width)| TilePath { kind: TileKind::Entries, index, width });
    let hashes = (0..LEVELS).flat_map(move |level| {
        level_widths(level, size).map(move |(index, width)| TilePath {
            kind: TileKind::Hashes(level),
            index,
            width,
        })
    });
    entries.chain(hashes)
}

/// The tiles that a log of `new` entries publishes and did not publish at `old` entries, in the order of [`tile_paths`]:
/// what a copy of the smaller log lacks. None where `old` is not smaller.
pub fn tile_paths_since(old: u64, new: u64) -> impl Iterator<Item = TilePath> {
    let kinds = std::iter::once((TileKind::Entries, 0)).chain((0..LEVELS).map(|l| (TileKind::Hashes(l), l)));
    kinds.flat_map(move |(kind, level)| {
        // Every tile before this one was full, and is what it was.
        let grown = old.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
        let was = move |index| tile_width(TileId { level, index }, old) as u16;
        level_widths_from(level, grown, new)
            .filter(move |(index, width)| *width > was(*index))
            .map(move |(index, width)| TilePath { kind, index, width })
    })
}

/// Index and width of every tile of a level.
fn level_widths(level: u8, size: u64) -> impl Iterator<Item = (u64, u16)> {
    level_widths_from(level, 0, size)
}

/// The same, from a tile on.
fn level_widths_from(level: u8, first: u64, size: u64) -> impl Iterator<Item = (u64, u16)> {
    (first..)
        .map(move |index| (index, tile_width(TileId { level, index }, size) as u16))
        .take_while(|(_, width)| *width > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_tile_has_exactly_one_path() {
        let table = [
            (TilePath::hashes(TileId { level: 0, index: 1_234_067 }, 256), "tile/0/x001/x234/067"),
            (TilePath::hashes(TileId { level: 0, index: 1_234_067 }, 5), "tile/0/x001/x234/067.p/5"),
            (TilePath::hashes(TileId { level: 0, index: 0 }, 1), "tile/0/000.p/1"),
            (TilePath::hashes(TileId { level: 63, index: 999 }, 255), "tile/63/999.p/255"),
            (TilePath::hashes(TileId { level: 7, index: 1000 }, 256), "tile/7/x001/000"),
            (TilePath::entries(0, 256), "tile/entries/000"),
            (TilePath::entries(1_000_000, 17), "tile/entries/x001/x000/000.p/17"),
            (TilePath::entries(u64::MAX, 255), "tile/entries/x018/x446/x744/x073/x709/x551/615.p/255"),
        ];
        for (path, text) in table {
            let path = path.unwrap();
            assert_eq!(path.to_string(), text);
            assert_eq!(TilePath::parse(text), Ok(path));
        }
    }

    #[test]
    fn other_spellings_of_a_path_are_refused() {
        for bad in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/0/1000",
            "tile/0/+01",
            "tile/00/000",
            "tile/+0/000",
            "tile/-1/000",
            "tile/64/000",
            "tile/256/000",
            "tile/0/x000/001",
            "tile/0/x001",
            "tile/0/001/002",
            "tile/0/x001/x002",
            "tile/0/X001/002",
            "tile/0/xx001/002",
            "tile/0/000.p/0",
            "tile/0/000.p/01",
            "tile/0/000.p/256",
            "tile/0/000.p/+5",
            "tile/0/000.p/",
            "tile/0/000.p/5/",
            "tile/0/000.p/5.p/5",
            "tile/0/000.p",
            "/tile/0/000",
            "tile/0/000/",
            "tile/0/../0/000",
            "tile/data/000",
            "tile/8/0/000",
            "tile/entries/x018/x446/x744/x073/x709/x551/616",
            "tile/entries/x001/x018/x446/x744/x073/x709/x551/615",
            "tile/０/000",
        ] {
            assert_eq!(TilePath::parse(bad), Err(PathError::Grammar), "{bad}");
        }
    }

    #[test]
    fn no_path_names_an_empty_or_overfull_tile() {
        let id = TileId { level: 0, index: 0 };
        assert_eq!(TilePath::hashes(id, 0), Err(PathError::Width(0)));
        assert_eq!(TilePath::entries(0, 257), Err(PathError::Width(257)));
        assert_eq!(TilePath::entries(0, 65_537), Err(PathError::Width(65_537)));
        assert_eq!(TilePath::hashes(TileId { level: 64, index: 0 }, 1), Err(PathError::Level(64)));
    }

    #[test]
    fn a_log_publishes_full_tiles_and_the_partial_ones_of_its_size() {
        assert_eq!(tile_paths(0).count(), 0);
        let texts = |size| tile_paths(size).map(|p| p.to_string()).collect::<Vec<_>>();
        assert_eq!(texts(1), ["tile/entries/000.p/1", "tile/0/000.p/1"]);
        assert_eq!(texts(256), ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
        let large = texts(70_000);
        assert_eq!(large.len(), 274 + 274 + 2 + 1);
        for path in ["tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"] {
            assert!(large.iter().any(|p| p == path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_copy_of_a_smaller_log_lacks_exactly_what_the_larger_one_has_more(old in size(), more in size()) {
            let new = old + more;
            let before: BTreeSet<_> = tile_paths(old).collect();
            let lacked: Vec<_> = tile_paths(new).filter(|path| !before.contains(path)).collect();
            prop_assert_eq!(tile_paths_since(old, new).collect::<Vec<_>>(), lacked);
            prop_assert_eq!(tile_paths_since(new, old).count(), 0);
        }
    }

    /// Sizes around the ends of tiles of the first levels, and others.
    fn size() -> impl Strategy<Value = u64> {
        prop_oneof![0..3u64, 254..258u64, 65_534..65_539u64, 131_070..131_074u64, 0..200_000u64]
    }
}
