//! Append-only files of records: the one form in which a keeper keeps anything.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic: which file this is |
//! | 4 | version of this form, `u32` big-endian: 1 |
//! | then, per record: | |
//! | 4 | `len`, `u32` big-endian: bytes of kind and body together, 1 to 16 MiB |
//! | 4 | CRC-32C of kind and body, `u32` big-endian |
//! | 1 | kind |
//! | len - 1 | body |
//!
//! It promises: what [`RecordFile::append`] has accepted is on the disk; a file is created whole or not at all; at the
//! next start a torn last record is cut, since nobody has relied on it, and any other damage is refused. It does not
//! know what the records mean.

use crate::exit::Fatal;
use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes before the first record.
pub const HEADER: u64 = 12;
/// Bytes that a record takes besides its body.
pub const OVERHEAD: u64 = 9;
/// Largest record, kind included: twice the largest frame, so that no accepted frame is too long to be recorded.
pub const MAX_RECORD: usize = 16 * 1024 * 1024;
/// Largest file, since it is read as a whole at the start; spool segments and the compacted journal stay far below.
pub const MAX_FILE: u64 = 256 * 1024 * 1024;

const VERSION: [u8; 4] = 1u32.to_be_bytes();
const RESTORE: &str = "do not create it anew: restore it, or rebuild it as the operator's guide says";

/// One record to be written.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// What the body is; the file's owner defines the kinds.
    pub kind: u8,
    /// The body.
    pub body: Cow<'a, [u8]>,
}

/// Takes one record at replay: offset, kind, body. What it returns as an error is why the record is refused.
pub type Replay<'a> = dyn FnMut(u64, u8, &[u8]) -> Result<(), String> + 'a;

/// An open file of records. After a failed write it refuses every further one.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    file: File,
    len: u64,
    /// Set while a write is under way, and for good when it failed or the file was opened for reading only.
    failed: bool,
}

#[expect(clippy::len_without_is_empty, reason = "a record file is never empty: it has a header")]
impl RecordFile {
    /// Creates the file with its first records, synced together with its folder. Refuses an existing file.
    pub fn create(path: &Path, magic: &[u8; 8], first: &[Record<'_>]) -> Result<Self, Fatal> {
        let made = write_new(path, magic, first)?;
        // A hard link refuses an existing name; a rename would replace it.
        match std::fs::hard_link(&made.path, path) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let _ = std::fs::remove_file(&made.path);
                return Err(state(
                    path,
                    "exists already",
                    "a keeper's state is created once and never over an old one",
                ));
            }
            Err(source) => return Err(Fatal::Write { path: path.to_owned(), source }),
        }
        std::fs::remove_file(&made.path)
            .map_err(|source| Fatal::Write { path: made.path.clone(), source })?;
        sync_folder_of(path)?;
        Ok(Self { path: path.to_owned(), ..made })
    }

    /// Opens a file and hands every record to `each`: its offset, kind and body. A torn last record is cut and the
    /// cut is synced. Any other damage, a record that `each` refuses, a missing or an empty file: [`Fatal::State`].
    pub fn open(path: &Path, magic: &[u8; 8], each: &mut Replay<'_>) -> Result<Self, Fatal> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| not_opened(path, e))?;
        let bytes = read_whole(path, &file)?;
        check_header(path, magic, &bytes)?;
        let end = replay(path, &bytes, each)?;
        if end < bytes.len() {
            tracing::warn!(path = %path.display(), at = end, cut = bytes.len() - end, "cutting a torn last record");
            file.set_len(end as u64)
                .and_then(|()| file.sync_all())
                .map_err(|source| Fatal::Write { path: path.to_owned(), source })?;
        }
        Ok(Self { path: path.to_owned(), file, len: end as u64, failed: false })
    }

    /// Opens a file that nobody appends to any more, for reading only: it must have exactly this length and no
    /// damage, a torn last record included.
    pub fn open_sealed(path: &Path, magic: &[u8; 8], len: u64, each: &mut Replay<'_>) -> Result<Self, Fatal> {
        let file = File::open(path).map_err(|e| not_opened(path, e))?;
        let bytes = read_whole(path, &file)?;
        check_header(path, magic, &bytes)?;
        if bytes.len() as u64 != len {
            return Err(state(path, &format!("has {} bytes instead of {len}", bytes.len()), RESTORE));
        }
        let end = replay(path, &bytes, each)?;
        if end < bytes.len() {
            return Err(damaged(path, end as u64, "the last record is damaged"));
        }
        Ok(Self { path: path.to_owned(), file, len, failed: true })
    }

    /// The first record of a file, without reading the rest, and the file's length.
    pub fn first_record(path: &Path, magic: &[u8; 8]) -> Result<(u8, Vec<u8>, u64), Fatal> {
        let fault = |source| Fatal::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(|e| not_opened(path, e))?;
        let len = file.metadata().map_err(fault)?.len();
        let mut header = vec![0; usize::try_from(len.min(HEADER)).unwrap_or(0)];
        file.read_exact_at(&mut header, 0).map_err(fault)?;
        check_header(path, magic, &header)?;
        let opened = Self { path: path.to_owned(), file, len, failed: true };
        if len < HEADER + OVERHEAD {
            return Err(damaged(path, HEADER, "the first record is missing"));
        }
        let (kind, body) = opened.read_at(HEADER)?;
        Ok((kind, body, len))
    }

    /// Writes all `records` with one write and one `fdatasync`, and returns the offset of the first. When this
    /// returns they are durable. On an error the process must end: see [`Fatal::end`].
    pub fn append(&mut self, records: &[Record<'_>]) -> Result<u64, Fatal> {
        let at = self.len;
        let bytes = encode(&self.path, records)?;
        if self.failed || at + bytes.len() as u64 > MAX_FILE {
            let why =
                if self.failed { "an earlier write failed" } else { "the file is at its limit of 256 MiB" };
            return Err(Fatal::Write { path: self.path.clone(), source: io::Error::other(why) });
        }
        self.failed = true;
        self.file
            .write_all_at(&bytes, at)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| Fatal::Write { path: self.path.clone(), source })?;
        self.failed = false;
        self.len = at + bytes.len() as u64;
        Ok(at)
    }

    /// The file's length in bytes: the offset of the next record.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The record at an offset that `append` or `open` has named.
    pub fn read_at(&self, offset: u64) -> Result<(u8, Vec<u8>), Fatal> {
        let fault = |source| Fatal::Read { path: self.path.clone(), source };
        let mut head = [0u8; 8];
        self.file.read_exact_at(&mut head, offset).map_err(fault)?;
        let (len, crc) = parse_head(head);
        if len == 0 || len > MAX_RECORD {
            return Err(damaged(&self.path, offset, "the record's length is impossible"));
        }
        let mut content = vec![0; len];
        self.file.read_exact_at(&mut content, offset + 8).map_err(fault)?;
        match content.split_first() {
            Some((kind, body)) if crc32c::crc32c(&content) == crc => Ok((*kind, body.to_vec())),
            _ => Err(damaged(&self.path, offset, "the checksum does not match")),
        }
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Puts a new file with these records in the place of an old one, atomically (compaction).
pub fn replace(path: &Path, magic: &[u8; 8], records: &[Record<'_>]) -> Result<RecordFile, Fatal> {
    let made = write_new(path, magic, records)?;
    std::fs::rename(&made.path, path).map_err(|source| Fatal::Write { path: path.to_owned(), source })?;
    sync_folder_of(path)?;
    Ok(RecordFile { path: path.to_owned(), ..made })
}

/// A held state folder; released when the process ends.
#[derive(Debug)]
pub struct FolderLock {
    _folder: File,
}

/// Takes the state folder for this process. The kernel releases it at the process's end, however that comes.
pub fn lock_folder(path: &Path) -> Result<FolderLock, Fatal> {
    let folder = File::open(path).map_err(|e| not_opened(path, e))?;
    match rustix::fs::flock(&folder, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(FolderLock { _folder: folder }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Fatal::Held { path: path.to_owned() }),
        Err(e) => Err(Fatal::Read { path: path.to_owned(), source: e.into() }),
    }
}

/// Makes the names in the folder of `path` durable.
pub(crate) fn sync_folder_of(path: &Path) -> Result<(), Fatal> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(|source| Fatal::Write { path: folder.to_owned(), source })
}

/// Writes and syncs `path.new`, in the place of what a crash may have left there.
fn write_new(path: &Path, magic: &[u8; 8], records: &[Record<'_>]) -> Result<RecordFile, Fatal> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut bytes = [magic.as_slice(), &VERSION].concat();
    bytes.extend(encode(path, records)?);
    let written = || -> io::Result<File> {
        // Removed, not truncated: a crash in `create` may have left it as a second name of the file itself.
        match std::fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        Ok(file)
    };
    let file = written().map_err(|source| Fatal::Write { path: new.clone(), source })?;
    Ok(RecordFile { path: new, file, len: bytes.len() as u64, failed: false })
}

fn encode(path: &Path, records: &[Record<'_>]) -> Result<Vec<u8>, Fatal> {
    let mut bytes = Vec::with_capacity(records.iter().map(|r| r.body.len() + OVERHEAD as usize).sum());
    for record in records {
        let len = record.body.len() + 1;
        let Some(prefix) = u32::try_from(len).ok().filter(|_| len <= MAX_RECORD) else {
            let source = io::Error::other(format!("a record of {len} bytes: the limit is 16 MiB"));
            return Err(Fatal::Write { path: path.to_owned(), source });
        };
        let crc = crc32c::crc32c_append(crc32c::crc32c(&[record.kind]), &record.body);
        bytes.extend_from_slice(&prefix.to_be_bytes());
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes.push(record.kind);
        bytes.extend_from_slice(&record.body);
    }
    Ok(bytes)
}

fn read_whole(path: &Path, file: &File) -> Result<Vec<u8>, Fatal> {
    let fault = |source| Fatal::Read { path: path.to_owned(), source };
    let len = file.metadata().map_err(fault)?.len();
    if len > MAX_FILE {
        return Err(state(path, "is longer than the limit of 256 MiB", "it is no file of this keeper"));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0).map_err(fault)?;
    Ok(bytes)
}

fn check_header(path: &Path, magic: &[u8; 8], bytes: &[u8]) -> Result<(), Fatal> {
    match (bytes.get(..8), bytes.get(8..12)) {
        (Some(m), Some(v)) if m == magic && v == VERSION => Ok(()),
        (Some(m), Some(_)) if m == magic => Err(state(
            path,
            "was written by another version of this program",
            "run the version that wrote it",
        )),
        _ if bytes.is_empty() => Err(state(path, "is empty", RESTORE)),
        _ => Err(state(path, "does not begin as such a file does", RESTORE)),
    }
}

/// Hands out the records; returns where the sound part ends.
fn replay(path: &Path, bytes: &[u8], each: &mut Replay<'_>) -> Result<usize, Fatal> {
    let mut at = HEADER as usize;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Some((kind, body)) = record_at(rest) else {
            return if is_torn_tail(rest) {
                Ok(at)
            } else {
                Err(damaged(path, at as u64, "the record is damaged and others follow it"))
            };
        };
        each(at as u64, kind, body).map_err(|why| damaged(path, at as u64, &why))?;
        at += body.len() + OVERHEAD as usize;
    }
    Ok(at)
}

/// The sound record that `bytes` begin with.
fn record_at(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (len, crc) = parse_head(*bytes.first_chunk::<8>()?);
    let content = bytes.get(8..)?.get(..len).filter(|_| len <= MAX_RECORD)?;
    let (kind, body) = content.split_first()?;
    (crc32c::crc32c(content) == crc).then_some((*kind, body))
}

/// Whether an unsound end of a file can be what a crash leaves of a last write: too short, not matching its checksum
/// with nothing behind it, or only zeros where the file had grown before its data came. A damaged length of an
/// earlier record could look the same, so no sound record may follow anywhere.
fn is_torn_tail(rest: &[u8]) -> bool {
    if rest.iter().all(|b| *b == 0) {
        return true;
    }
    let reaches_end = match rest.first_chunk::<8>() {
        None => true,
        Some(head) => {
            let (len, _) = parse_head(*head);
            (1..=MAX_RECORD).contains(&len) && rest.len() <= len + 8
        }
    };
    reaches_end && !(1..rest.len()).any(|at| rest.get(at..).and_then(record_at).is_some())
}

fn parse_head(head: [u8; 8]) -> (usize, u32) {
    let [a, b, c, d, e, f, g, h] = head;
    (
        usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX),
        u32::from_be_bytes([e, f, g, h]),
    )
}

fn not_opened(path: &Path, error: io::Error) -> Fatal {
    if error.kind() == io::ErrorKind::NotFound {
        state(path, "is missing", RESTORE)
    } else {
        Fatal::Read { path: path.to_owned(), source: error }
    }
}

fn damaged(path: &Path, offset: u64, why: &str) -> Fatal {
    state(path, &format!("record at byte {offset}: {why}"), RESTORE)
}

fn state(path: &Path, why: &str, next: &str) -> Fatal {
    Fatal::State { path: path.to_owned(), why: why.into(), next: next.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: &[u8; 8] = b"test0001";

    fn record(kind: u8, body: &[u8]) -> Record<'_> {
        Record { kind, body: Cow::Borrowed(body) }
    }

    type Seen = Vec<(u8, Vec<u8>)>;

    fn open(path: &Path) -> Result<(RecordFile, Seen), Fatal> {
        let mut seen = vec![];
        let file = RecordFile::open(path, MAGIC, &mut |_, kind, body| {
            seen.push((kind, body.to_vec()));
            Ok(())
        })?;
        Ok((file, seen))
    }

    fn sample(folder: &Path) -> (PathBuf, u64) {
        let path = folder.join("f");
        let mut file = RecordFile::create(&path, MAGIC, &[record(1, b"first")]).unwrap();
        file.append(&[record(2, b"second"), record(3, b"")]).unwrap();
        let last = file.append(&[record(4, b"the last record, long enough to be torn")]).unwrap();
        (path, last)
    }

    #[test]
    fn records_read_back_in_order_and_by_offset() {
        let folder = tempfile::tempdir().unwrap();
        let (path, last) = sample(folder.path());
        let (file, seen) = open(&path).unwrap();
        assert_eq!(seen.iter().map(|(k, _)| *k).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(file.read_at(last).unwrap().1, b"the last record, long enough to be torn");
        assert_eq!(file.len(), std::fs::metadata(&path).unwrap().len());
    }

    #[test]
    fn a_last_record_torn_at_any_byte_is_cut_and_the_rest_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, last) = sample(folder.path());
        let whole = std::fs::read(&path).unwrap();
        for cut in last as usize..whole.len() {
            for zeros in [0, 40] {
                let mut torn = whole[..cut].to_vec();
                torn.resize(cut + zeros, 0);
                if torn.len() > whole.len() && cut > last as usize {
                    continue; // longer than the record that was being written: no crash leaves that
                }
                std::fs::write(&path, &torn).unwrap();
                let (mut file, seen) = open(&path).unwrap();
                assert_eq!((seen.len(), file.len()), (3, last), "cut at {cut}, {zeros} zeros");
                file.append(&[record(9, b"new")]).unwrap();
                assert_eq!(open(&path).unwrap().1.len(), 4);
            }
        }
    }

    #[test]
    fn a_flipped_bit_before_the_last_record_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, last) = sample(folder.path());
        let whole = std::fs::read(&path).unwrap();
        for at in 0..last as usize {
            for bit in 0..8 {
                let mut bad = whole.clone();
                bad[at] ^= 1 << bit;
                std::fs::write(&path, &bad).unwrap();
                let error = open(&path).unwrap_err();
                assert!(matches!(error, Fatal::State { .. }), "byte {at} bit {bit}: {error}");
                assert_eq!(std::fs::read(&path).unwrap(), bad, "a refused file is not touched");
            }
        }
    }

    #[test]
    fn a_missing_an_empty_and_a_foreign_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        assert!(matches!(open(&path), Err(Fatal::State { .. })));
        for content in [&b""[..], b"test", b"other001\0\0\0\x01", b"test0001\0\0\0\x02"] {
            std::fs::write(&path, content).unwrap();
            assert!(matches!(open(&path), Err(Fatal::State { .. })), "{content:?}");
        }
    }

    #[test]
    fn create_refuses_an_existing_file_and_replace_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = sample(folder.path());
        assert!(matches!(RecordFile::create(&path, MAGIC, &[]), Err(Fatal::State { .. })));
        assert_eq!(open(&path).unwrap().1.len(), 4);
        let mut file = replace(&path, MAGIC, &[record(7, b"only")]).unwrap();
        file.append(&[record(8, b"more")]).unwrap();
        assert_eq!(open(&path).unwrap().1, [(7, b"only".to_vec()), (8, b"more".to_vec())]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_temporary_file_left_by_a_crash_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = sample(folder.path());
        // What a crash between the two steps of `create` leaves: two names of one file.
        std::fs::hard_link(&path, folder.path().join("f.new")).unwrap();
        assert!(RecordFile::create(&path, MAGIC, &[]).is_err());
        assert_eq!(open(&path).unwrap().1.len(), 4);
    }

    #[test]
    fn a_sealed_file_is_read_whole_or_refused_and_never_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, last) = sample(folder.path());
        let whole = std::fs::read(&path).unwrap();
        let len = whole.len() as u64;
        let mut count = 0;
        let mut sealed = RecordFile::open_sealed(&path, MAGIC, len, &mut |_, _, _| {
            count += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(count, 4);
        assert!(sealed.append(&[record(1, b"x")]).is_err());
        for cut in [last as usize, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            for len in [len, cut as u64] {
                let opened = RecordFile::open_sealed(&path, MAGIC, len, &mut |_, _, _| Ok(()));
                assert_eq!(opened.is_ok(), cut == last as usize && len == last, "{cut} {len}");
            }
            assert_eq!(std::fs::metadata(&path).unwrap().len(), cut as u64);
        }
        assert_eq!(RecordFile::first_record(&path, MAGIC).unwrap().1, b"first");
    }

    #[test]
    fn a_refused_record_names_its_offset() {
        let folder = tempfile::tempdir().unwrap();
        let (path, last) = sample(folder.path());
        let mut each = |_, kind, _: &[u8]| if kind == 4 { Err("no".to_owned()) } else { Ok(()) };
        let error = RecordFile::open(&path, MAGIC, &mut each).unwrap_err();
        assert!(error.to_string().contains(&format!("byte {last}: no")), "{error}");
    }

    #[test]
    fn one_process_holds_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock_folder(folder.path()).unwrap();
        assert!(matches!(lock_folder(folder.path()), Err(Fatal::Held { .. })));
        drop(held);
        assert!(lock_folder(folder.path()).is_ok());
    }
}
