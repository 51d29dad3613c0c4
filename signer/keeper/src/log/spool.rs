//! The spool: every leaf's bytes in order, in append-only segments that together are one unbroken row.
//!
//! A segment is a record file named by the index of its first leaf, 20 digits and `.seg`.
//!
//! | kind | body |
//! |---|---|
//! | 1, first record only | previous segment's first index, its final length in bytes, epoch, size: `u64` big-endian each; then the frontier's hashes, 32 bytes each, highest subtree first |
//! | 2 | one leaf's bytes |
//! | 3 | epoch, `u64` big-endian |
//!
//! It promises: what was appended is on the disk; size and epoch never fall; a segment that is missing or has lost its
//! end is found at the start, other damage when it is read. It does not know what leaves say, nor the log key.

use crate::exit::Fatal;
use crate::records::{Form, OVERHEAD, Record, RecordFile, create_folder};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use tlog::{Frontier, Hash, leaf_hash};

/// A segment that has reached this length gets a successor: what the start reads, and what one damaged file can cost.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Every how many leaves an offset is remembered: bounds both the index in memory and the walk to a leaf.
const STRIDE: u64 = 64;

/// The spool's files.
pub(super) static FORM: Form = Form { magic: *b"chancSPL", restore: RESTORE };
/// How far one lease may raise the epoch over its own: more leases than any log ever gives, so that a spool made anew
/// always gets there, and little enough that no daemon can use the numbers up.
const MAX_EPOCH_STEP: u64 = 1 << 32;
const SUFFIX: &str = ".seg";
const FRONTIER: u8 = 1;
const LEAF: u8 = 2;
const EPOCH: u8 = 3;

/// The open spool. Its process must hold the state folder's lock.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    segment_bytes: u64,
    row: Vec<Place>,
    active: Segment,
    earlier: Option<Segment>,
    frontier: Frontier,
    epoch: u64,
}

/// Where a segment stands in the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    first: u64,
    /// Its final length; for the last segment, which still grows, 0.
    len: u64,
}

/// One segment's file with a sparse index into it.
#[derive(Debug)]
struct Segment {
    first: u64,
    file: RecordFile,
    index: Vec<u64>,
    leaves: u64,
}

/// The first record of a segment.
#[derive(Debug, PartialEq, Eq)]
struct Opening {
    previous: Place,
    epoch: u64,
    frontier: Frontier,
}

impl Spool {
    /// Creates an empty spool. Refuses a folder that holds anything.
    pub fn create(folder: &Path) -> Result<(), Fatal> {
        create_folder(folder)?;
        let read = |source| Fatal::Read { path: folder.to_owned(), source };
        if std::fs::read_dir(folder).map_err(read)?.next().is_some() {
            let next = "a log is begun once: if this is an old test's, remove the folder by hand";
            return Err(state(folder, "is not empty".into(), next));
        }
        let opening =
            Opening { previous: Place { first: 0, len: 0 }, epoch: 0, frontier: Frontier::default() };
        RecordFile::create(&segment_path(folder, 0), &FORM, &[opening.record()]).map(drop)
    }

    /// Opens the spool: reads the last segment, and checks that all earlier ones are there with their final lengths.
    pub fn open(folder: &Path, segment_bytes: u64) -> Result<Self, Fatal> {
        let firsts = segment_names(folder)?;
        let row = check_row(folder, &firsts)?;
        let Some(last) = firsts.last() else {
            return Err(state(&segment_path(folder, 0), "is missing".into(), RESTORE));
        };
        let mut reading = Reading::of(*last);
        let path = segment_path(folder, *last);
        let file =
            RecordFile::open(&path, &FORM, &mut |offset, kind, body| reading.take(offset, kind, body))?;
        let Some((frontier, epoch)) = reading.edge else {
            return Err(state(&path, "has no first record".into(), RESTORE));
        };
        let file = file.rely()?;
        let active = Segment { first: *last, file, index: reading.index, leaves: reading.leaves };
        Ok(Self { folder: folder.to_owned(), segment_bytes, row, active, earlier: None, frontier, epoch })
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root over them.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The highest epoch that was given out.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    // INVARIANT(forward-only): an epoch is given out only after one higher than all before is durable, and leaves are
    // only added: there is no operation that removes, replaces or renumbers anything.
    /// Makes the next epoch durable and returns it: higher than every one given out here, and than `known`, which the
    /// daemon has from a spool that this one replaces. Nothing if that is too far away.
    pub fn next_epoch(&mut self, known: u64) -> Result<Option<u64>, Fatal> {
        let reachable = known <= self.epoch.saturating_add(MAX_EPOCH_STEP);
        let Some(epoch) = self.epoch.max(known).checked_add(1).filter(|_| reachable) else { return Ok(None) };
        self.active.file.append(&[Record { kind: EPOCH, body: Cow::Owned(epoch.to_be_bytes().to_vec()) }])?;
        self.epoch = epoch;
        Ok(Some(epoch))
    }

    // INVARIANT(two-copies): these bytes are on this process's own disk before it answers, and only then does the
    // daemon, which holds the first copy under another user, go on to any key.
    /// Appends leaves with one write and one sync. When this returns they are durable.
    pub fn append(&mut self, leaves: &[&[u8]]) -> Result<(), Fatal> {
        if self.active.file.len() >= self.segment_bytes && self.active.leaves > 0 {
            self.begin_segment()?;
        }
        let records: Vec<Record<'_>> =
            leaves.iter().map(|leaf| Record { kind: LEAF, body: Cow::Borrowed(*leaf) }).collect();
        let mut offset = self.active.file.append(&records)?;
        for leaf in leaves {
            self.active.note(offset);
            self.frontier.append(leaf_hash(leaf));
            offset += leaf.len() as u64 + OVERHEAD;
        }
        Ok(())
    }

    /// Leaves from index `from` on, at most `n`, fewer where the spool ends.
    pub fn read(&mut self, from: u64, n: u64) -> Result<Vec<Vec<u8>>, Fatal> {
        let end = from.saturating_add(n).min(self.size());
        let mut leaves = Vec::new();
        let mut at = from;
        while at < end {
            let segment = self.segment_of(at)?;
            let read = segment.read(at, end - at)?;
            if read.is_empty() {
                let path = segment.file.path();
                return Err(state(path, format!("does not hold leaf {at}, which belongs into it"), RESTORE));
            }
            at += read.len() as u64;
            leaves.extend(read);
        }
        Ok(leaves)
    }

    fn begin_segment(&mut self) -> Result<(), Fatal> {
        let first = self.size();
        let previous = Place { first: self.active.first, len: self.active.file.len() };
        let opening = Opening { previous, epoch: self.epoch, frontier: self.frontier.clone() };
        let file = RecordFile::create(&segment_path(&self.folder, first), &FORM, &[opening.record()])?;
        if let Some(sealed) = self.row.last_mut() {
            sealed.len = previous.len;
        }
        self.row.push(Place { first, len: 0 });
        self.active = Segment { first, file, index: Vec::new(), leaves: 0 };
        Ok(())
    }

    /// The segment that holds a leaf; one earlier segment is kept open, for reads that go on where the last one ended.
    fn segment_of(&mut self, leaf: u64) -> Result<&Segment, Fatal> {
        if leaf >= self.active.first {
            return Ok(&self.active);
        }
        let after = self.row.partition_point(|place| place.first <= leaf);
        let place = after.checked_sub(1).and_then(|i| self.row.get(i)).copied();
        let Some(place) = place else {
            return Err(state(&self.folder, format!("has no segment for leaf {leaf}"), RESTORE));
        };
        match self.earlier.take().filter(|segment| segment.first == place.first) {
            Some(open) => Ok(self.earlier.insert(open)),
            None => Ok(self.earlier.insert(Segment::open_sealed(&self.folder, place)?)),
        }
    }
}

impl Segment {
    fn open_sealed(folder: &Path, place: Place) -> Result<Self, Fatal> {
        let mut reading = Reading::of(place.first);
        let path = segment_path(folder, place.first);
        let file = RecordFile::open_sealed(&path, &FORM, place.len, &mut |offset, kind, body| {
            reading.take(offset, kind, body)
        })?;
        Ok(Self { first: place.first, file, index: reading.index, leaves: reading.leaves })
    }

    fn note(&mut self, offset: u64) {
        if self.leaves.is_multiple_of(STRIDE) {
            self.index.push(offset);
        }
        self.leaves += 1;
    }

    /// Leaves of this segment, from an index that lies in it.
    fn read(&self, from: u64, n: u64) -> Result<Vec<Vec<u8>>, Fatal> {
        let wanted = from - self.first;
        let step = usize::try_from(wanted / STRIDE).unwrap_or(usize::MAX);
        let Some(mut offset) = self.index.get(step).copied() else { return Ok(Vec::new()) };
        let mut number = wanted - wanted % STRIDE;
        let mut leaves = Vec::new();
        while (leaves.len() as u64) < n && number < self.leaves {
            let (kind, body) = self.file.read_at(offset)?;
            offset += body.len() as u64 + OVERHEAD;
            if kind == LEAF {
                if number >= wanted {
                    leaves.push(body);
                }
                number += 1;
            }
        }
        Ok(leaves)
    }
}

/// What replaying a segment gathers.
struct Reading {
    first: u64,
    edge: Option<(Frontier, u64)>,
    index: Vec<u64>,
    leaves: u64,
}

impl Reading {
    fn of(first: u64) -> Self {
        Self { first, edge: None, index: Vec::new(), leaves: 0 }
    }

    fn take(&mut self, offset: u64, kind: u8, body: &[u8]) -> Result<(), String> {
        match (&mut self.edge, kind) {
            (None, FRONTIER) => {
                let opening = Opening::parse(body)?;
                if opening.frontier.size() != self.first {
                    return Err("the frontier is not that of the segment's name".into());
                }
                self.edge = Some((opening.frontier, opening.epoch));
                Ok(())
            }
            (Some((frontier, _)), LEAF) => {
                if self.leaves.is_multiple_of(STRIDE) {
                    self.index.push(offset);
                }
                self.leaves += 1;
                frontier.append(leaf_hash(body));
                Ok(())
            }
            (Some((_, epoch)), EPOCH) => {
                let next =
                    <[u8; 8]>::try_from(body).map(u64::from_be_bytes).map_err(|_| "an epoch has 8 bytes")?;
                if next <= *epoch {
                    return Err(format!("epoch {next} after epoch {epoch}"));
                }
                *epoch = next;
                Ok(())
            }
            _ => Err(format!("a record of kind {kind} does not belong there")),
        }
    }
}

impl Opening {
    fn record(&self) -> Record<'static> {
        let numbers = [self.previous.first, self.previous.len, self.epoch, self.frontier.size()];
        let mut body: Vec<u8> = numbers.into_iter().flat_map(u64::to_be_bytes).collect();
        body.extend(self.frontier.hashes().iter().flat_map(|h| h.0));
        Record { kind: FRONTIER, body: Cow::Owned(body) }
    }

    fn parse(body: &[u8]) -> Result<Self, String> {
        let (numbers, rest) = body.split_at_checked(32).ok_or("a frontier record is too short")?;
        let numbers: Vec<u64> =
            numbers.as_chunks::<8>().0.iter().map(|chunk| u64::from_be_bytes(*chunk)).collect();
        let [first, len, epoch, size] = numbers.as_slice() else {
            return Err("a frontier record is too short".into());
        };
        let (hashes, odd) = rest.as_chunks::<32>();
        if !odd.is_empty() {
            return Err("a frontier record has half a hash".into());
        }
        let frontier = Frontier::from_parts(*size, hashes.iter().map(|h| Hash(*h)).collect())
            .map_err(|e| e.to_string())?;
        Ok(Self { previous: Place { first: *first, len: *len }, epoch: *epoch, frontier })
    }
}

const RESTORE: &str = "restore the newest copy; or, if no signing keeper has seen more of the log than the database has, \
     move the spool's folder away, create an empty one with `chancery-keeper init`, and start the daemon, which appends \
     its leaves again";

fn segment_path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}{SUFFIX}"))
}

/// First indices of the segments in the folder, in order. A new segment that a crash left unfinished is no segment.
fn segment_names(folder: &Path) -> Result<Vec<u64>, Fatal> {
    let entries = std::fs::read_dir(folder).map_err(|e| {
        if e.kind() == std::io::ErrorKind::NotFound {
            state(folder, "is missing".into(), RESTORE)
        } else {
            Fatal::Read { path: folder.to_owned(), source: e }
        }
    })?;
    let mut firsts = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Fatal::Read { path: folder.to_owned(), source })?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match name.strip_suffix(SUFFIX).map(|digits| (digits.len(), digits.parse::<u64>())) {
            Some((20, Ok(first))) => firsts.push(first),
            _ if name.ends_with(".seg.new") => {}
            _ => {
                let next = "move it away: nothing but segments may lie in the spool";
                return Err(state(&entry.path(), "is no segment of a spool".into(), next));
            }
        }
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Every segment names the one before it and that one's final length: a gap or a lost end shows.
fn check_row(folder: &Path, firsts: &[u64]) -> Result<Vec<Place>, Fatal> {
    let mut row: Vec<Place> = Vec::with_capacity(firsts.len());
    let mut lengths = Vec::with_capacity(firsts.len());
    for first in firsts {
        let path = segment_path(folder, *first);
        let (kind, body, len) = RecordFile::first_record(&path, &FORM)?;
        let opening = if kind == FRONTIER {
            Opening::parse(&body)
        } else {
            Err("its first record is no frontier".into())
        }
        .map_err(|why| state(&path, why, RESTORE))?;
        let Place { first: previous, len: final_len } = opening.previous;
        match row.last_mut() {
            None if *first != 0 => {
                return Err(state(&segment_path(folder, previous), "is missing".into(), RESTORE));
            }
            None => {}
            Some(before) if before.first != previous => {
                return Err(state(&segment_path(folder, previous), "is missing".into(), RESTORE));
            }
            Some(before) if lengths.last() != Some(&final_len) => {
                let why = format!("has not the {final_len} bytes that its successor names");
                return Err(state(&segment_path(folder, before.first), why, RESTORE));
            }
            Some(before) => before.len = final_len,
        }
        row.push(Place { first: *first, len: 0 });
        lengths.push(len);
    }
    Ok(row)
}

fn state(path: &Path, why: String, next: &str) -> Fatal {
    Fatal::State { path: path.to_owned(), why, next: next.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps;

    const SMALL: u64 = 2_000;

    fn leaf(number: u64) -> Vec<u8> {
        format!("leaf {number} {}", "x".repeat(usize::try_from(number % 37).unwrap())).into_bytes()
    }

    /// A spool of `size` leaves in batches of different sizes, and the frontier that it must have.
    fn spool_of(folder: &Path, size: u64) -> (Spool, Frontier) {
        Spool::create(folder).unwrap();
        let mut spool = Spool::open(folder, SMALL).unwrap();
        let mut frontier = Frontier::default();
        let mut next = 0;
        while next < size {
            let batch: Vec<Vec<u8>> = (next..size.min(next + 1 + next % 7)).map(leaf).collect();
            spool.append(&batch.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
            batch.iter().for_each(|l| frontier.append(leaf_hash(l)));
            next += batch.len() as u64;
            if next.is_multiple_of(5) {
                spool.next_epoch(0).unwrap();
            }
        }
        (spool, frontier)
    }

    fn segments(folder: &Path) -> Vec<PathBuf> {
        segment_names(folder).unwrap().into_iter().map(|first| segment_path(folder, first)).collect()
    }

    #[test]
    fn a_reopened_spool_has_the_same_root_epoch_and_leaves_over_many_segments() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("spool");
        let (spool, frontier) = spool_of(&folder, 700);
        let epoch = spool.epoch();
        assert!(segments(&folder).len() > 8, "the limit makes many segments");
        drop(spool);
        let mut spool = Spool::open(&folder, SMALL).unwrap();
        assert_eq!((spool.size(), spool.root(), spool.epoch()), (700, frontier.root(), epoch));
        for from in [0, 1, 63, 64, 65, 300, 699, 700, 9_999] {
            let expected: Vec<Vec<u8>> = (from..700.min(from + 64)).map(leaf).collect();
            assert_eq!(spool.read(from, 64).unwrap(), expected, "from {from}");
        }
        assert_eq!(spool.read(0, u64::MAX).unwrap().len(), 700);
    }

    #[test]
    fn every_size_reopens_to_the_root_that_it_had() {
        let folder = tempfile::tempdir().unwrap();
        Spool::create(folder.path()).unwrap();
        let mut frontier = Frontier::default();
        for number in 0..150 {
            let mut spool = Spool::open(folder.path(), SMALL).unwrap();
            assert_eq!((spool.size(), spool.root()), (number, frontier.root()));
            spool.append(&[&leaf(number)]).unwrap();
            frontier.append(leaf_hash(&leaf(number)));
        }
    }

    #[test]
    fn a_gap_in_the_row_is_refused_and_named() {
        let folder = tempfile::tempdir().unwrap();
        drop(spool_of(folder.path(), 300));
        let all = segments(folder.path());
        for missing in &all[..all.len() - 1] {
            let away = folder.path().join("away");
            std::fs::rename(missing, &away).unwrap();
            let content = std::fs::read(&away).unwrap();
            std::fs::remove_file(&away).unwrap();
            let error = Spool::open(folder.path(), SMALL).unwrap_err();
            let name = missing.file_name().unwrap().to_string_lossy().into_owned();
            assert!(error.code() == 78 && error.to_string().contains(&name), "{name}: {error}");
            std::fs::write(missing, content).unwrap();
        }
        Spool::open(folder.path(), SMALL).unwrap();
    }

    #[test]
    fn an_earlier_segment_that_lost_its_end_or_was_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(spool_of(folder.path(), 300));
        let early = &segments(folder.path())[1];
        let whole = std::fs::read(early).unwrap();
        std::fs::write(early, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(Spool::open(folder.path(), SMALL).unwrap_err().code(), 78);
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        std::fs::write(early, &flipped).unwrap();
        let mut spool = Spool::open(folder.path(), SMALL).unwrap();
        assert_eq!(spool.read(0, 300).unwrap_err().code(), 78);
    }

    #[test]
    fn a_missing_or_empty_spool_is_refused_and_never_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("spool");
        assert_eq!(Spool::open(&spool, SMALL).unwrap_err().code(), 78);
        std::fs::create_dir(&spool).unwrap();
        let error = Spool::open(&spool, SMALL).unwrap_err();
        assert!(error.code() == 78 && error.to_string().contains("00000000000000000000.seg"), "{error}");
        Spool::create(&spool).unwrap();
        assert_eq!(Spool::create(&spool).unwrap_err().code(), 78);
    }

    #[test]
    fn a_torn_append_is_cut_with_all_its_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = spool_of(folder.path(), 10);
        let (root, before) = (spool.root(), spool.active.file.len());
        drop(spool);
        let mut spool = Spool::open(folder.path(), SMALL).unwrap();
        spool.append(&[&leaf(10), &leaf(11), &leaf(12)]).unwrap();
        drop(spool);
        let path = &segments(folder.path())[0];
        let whole = std::fs::read(path).unwrap();
        let before = usize::try_from(before).unwrap();
        let mut headless = whole.clone();
        headless[before..before + 20].fill(0);
        let cuts = (before..whole.len()).map(|cut| whole[..cut].to_vec());
        for torn in cuts.chain([headless]) {
            std::fs::write(path, &torn).unwrap();
            let spool = Spool::open(folder.path(), SMALL).unwrap();
            assert_eq!((spool.size(), spool.root()), (10, root), "of {} bytes", torn.len());
        }
    }

    #[test]
    fn forward_only() {
        let folder = tempfile::tempdir().unwrap();
        Spool::create(folder.path()).unwrap();
        for expected in 1..40 {
            let mut spool = Spool::open(folder.path(), 100).unwrap();
            assert_eq!(spool.next_epoch(0).unwrap(), Some(expected), "over restarts and new segments");
            spool.append(&[&leaf(expected)]).unwrap();
            assert_eq!(spool.size(), expected);
        }
        let mut spool = Spool::open(folder.path(), 100).unwrap();
        assert_eq!(spool.next_epoch(1000).unwrap(), Some(1001), "over what the daemon knows");
        assert_eq!(spool.next_epoch(7).unwrap(), Some(1002), "and over its own");
        assert_eq!(spool.next_epoch(u64::MAX).unwrap(), None);
        drop(spool);
        assert_eq!(Spool::open(folder.path(), 100).unwrap().epoch(), 1002);
        // An epoch that is not higher than the one before is damage.
        let mut reading = Reading::of(0);
        let opening =
            Opening { previous: Place { first: 0, len: 0 }, epoch: 5, frontier: Frontier::default() };
        reading.take(12, FRONTIER, &opening.record().body).unwrap();
        assert!(reading.take(60, EPOCH, &5u64.to_be_bytes()).is_err());
        assert!(reading.take(60, EPOCH, &6u64.to_be_bytes()).is_ok());
    }

    const ROLLOVER: &str = "log::spool::tests::operation_an_append_to_a_full_segment";

    #[test]
    #[ignore = "an operation, which the next test has disturbed in a process of its own"]
    fn operation_an_append_to_a_full_segment() {
        let Some(folder) = steps::folder() else { return };
        let done = Spool::open(&folder, SMALL).and_then(|mut spool| {
            let next = spool.size();
            spool.append(&[&leaf(next), &leaf(next + 1)])
        });
        steps::say(done);
    }

    #[test]
    fn a_new_segment_that_dies_or_fails_at_any_of_its_calls_loses_nothing_and_ends_with_74() {
        let before = tempfile::tempdir().unwrap();
        Spool::create(before.path()).unwrap();
        let mut spool = Spool::open(before.path(), SMALL).unwrap();
        spool.next_epoch(6).unwrap();
        while spool.active.file.len() < SMALL {
            spool.append(&[&leaf(spool.size())]).unwrap();
        }
        let size = spool.size();
        drop(spool);
        let old = "00000000000000000000.seg";
        let new = format!("{size:020}.seg");
        let made = format!("{new}.new");
        // So the system calls what was opened under a name that is gone.
        let renamed = format!("{made} (deleted)");
        let files = [old, &new, &made, &renamed];
        let Some(calls) = steps::recorded(ROLLOVER, before.path(), &files) else { return };
        let of = |name: &str, file: &str| format!("{name} {file}");
        let start = [
            of("openat", "."),
            of("openat", old),
            of("openat", old),
            of("ftruncate", old),
            of("pwrite64", old),
            of("fsync", old),
            of("openat", "."),
            of("fsync", "."),
        ];
        // The new segment is whole on the disk before it has the name, and the name before a leaf is in it.
        let segment = [
            of("unlink", &made),
            of("openat", &made),
            of("write", &made),
            of("fsync", &made),
            of("linkat", &made),
            of("unlink", &made),
            of("openat", "."),
            of("fsync", "."),
        ];
        let leaves = [of("pwrite64", &made), of("fdatasync", &made)];
        assert_eq!(calls, [&start[..], &segment, &leaves].concat());
        steps::disturbed(ROLLOVER, before.path(), &files, |left, step| {
            let mut spool = Spool::open(left, SMALL).unwrap_or_else(|e| panic!("{step}: {e}"));
            assert!([size, size + 2].contains(&spool.size()) && spool.epoch() == 7, "{step}: {spool:?}");
            while spool.size() < size + 200 {
                spool.append(&[&leaf(spool.size())]).unwrap();
            }
            assert_eq!(spool.next_epoch(0).unwrap(), Some(8), "{step}");
            drop(spool);
            let mut spool = Spool::open(left, SMALL).unwrap();
            let mut frontier = Frontier::default();
            (0..size + 200).for_each(|number| frontier.append(leaf_hash(&leaf(number))));
            assert_eq!((spool.size(), spool.root()), (size + 200, frontier.root()), "{step}");
            assert_eq!(
                spool.read(0, u64::MAX).unwrap(),
                (0..size + 200).map(leaf).collect::<Vec<_>>(),
                "{step}"
            );
        });
    }
}
