//! Append-only files of records: the one form in which a keeper keeps anything.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic: which file this is |
//! | 4 | version of this form, `u32` big-endian: 2 |
//! | then, per append: | |
//! | 17 | its head: a record of kind 0, with the body `bytes`, `u32` big-endian, and their CRC-32C, `u32` big-endian |
//! | bytes | the records that were written together |
//!
//! | bytes of a record | what |
//! |---|---|
//! | 4 | `len`, `u32` big-endian: bytes of kind and body together, 1 to 16 MiB |
//! | 4 | CRC-32C of kind and body, `u32` big-endian |
//! | 1 | kind |
//! | len - 1 | body |
//!
//! The pages of a write reach the disk in any order. So an append is sound as a whole or not at all, whichever of its
//! records are: the head tells. It promises: what [`RecordFile::append`] has accepted is on the disk; a file is created
//! whole or not at all; at the next start an unsound last append is cut, since nobody has relied on it, and any other
//! damage is refused. It does not know what the records mean.

use crate::exit::Fatal;
use std::borrow::Cow;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes before the first append.
pub const HEADER: u64 = 12;
/// Bytes of an append before its first record.
pub const HEAD: u64 = OVERHEAD + 8;
/// Bytes that a record takes besides its body.
pub const OVERHEAD: u64 = 9;
/// Largest record, kind included: twice the largest frame, so that no accepted frame is too long to be recorded.
pub const MAX_RECORD: usize = 16 * 1024 * 1024;
/// Largest append, without its head: a damaged end that is longer is no torn write.
pub const MAX_APPEND: usize = 2 * MAX_RECORD;
/// Largest file, since it is read as a whole at the start; spool segments and the compacted journal stay far below.
pub const MAX_FILE: u64 = 256 * 1024 * 1024;

const VERSION: [u8; 4] = 2u32.to_be_bytes();
/// The kind of an append's head.
const APPEND: u8 = 0;

/// Which file it is.
#[derive(Debug)]
pub struct Form {
    /// Its first bytes.
    pub magic: [u8; 8],
    /// What an operator does when it is lost or damaged.
    pub restore: &'static str,
}

/// One record to be written.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// What the body is; the file's owner defines the kinds, from 1 on.
    pub kind: u8,
    /// The body.
    pub body: Cow<'a, [u8]>,
}

/// Takes one record at replay: offset, kind, body. What it returns as an error is why the record is refused.
pub type Replay<'a> = dyn FnMut(u64, u8, &[u8]) -> Result<(), String> + 'a;

/// An open file of records.
#[derive(Debug)]
pub struct RecordFile {
    form: &'static Form,
    path: PathBuf,
    file: File,
    len: u64,
    growth: Growth,
}

/// Whether anything may be written behind a file's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// Yes.
    Open,
    /// A write is under way, or has failed: what is there is not known.
    InDoubt,
    /// It has its last record, and was opened for reading only.
    Sealed,
}

/// A file that was read and may not be relied on yet. After a sync that failed, the system calls its pages clean: what
/// this process has read may be in memory only, and no later sync would write it.
#[derive(Debug)]
#[must_use]
pub struct Unsynced {
    file: RecordFile,
    /// Where the last sound append begins, and its bytes.
    last: u64,
    tail: Vec<u8>,
    /// Bytes of an unsound append behind it.
    torn: u64,
}

impl Unsynced {
    /// Cuts a torn end, writes the last append once more, and syncs the file and its name. All appends before the last
    /// were synced with success, or the last would not have been begun.
    pub fn rely(self) -> Result<RecordFile, Fatal> {
        let RecordFile { path, file, len, .. } = &self.file;
        if self.torn > 0 {
            tracing::warn!(path = %path.display(), at = len, cut = self.torn, "cutting a torn last append");
        }
        file.set_len(*len)
            .and_then(|()| file.write_all_at(&self.tail, self.last))
            .and_then(|()| file.sync_all())
            .map_err(|source| Fatal::Write { path: path.clone(), source })?;
        sync_folder_of(path)?;
        Ok(self.file)
    }
}

#[expect(clippy::len_without_is_empty, reason = "a record file is never empty: it has a header")]
impl RecordFile {
    /// Creates the file with its first records, synced together with its folder. Refuses an existing file.
    pub fn create(path: &Path, form: &'static Form, first: &[Record<'_>]) -> Result<Self, Fatal> {
        let made = write_new(path, form, first)?;
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

    /// Opens a file and hands every record to `each`: its offset, kind and body. A torn last append is left out. Any
    /// other damage, a record that `each` refuses, a missing or an empty file: [`Fatal::State`]. Nothing is changed
    /// yet.
    pub fn open(path: &Path, form: &'static Form, each: &mut Replay<'_>) -> Result<Unsynced, Fatal> {
        let file =
            OpenOptions::new().read(true).write(true).open(path).map_err(|e| not_opened(path, form, e))?;
        let mut bytes = read_whole(path, &file)?;
        check_header(path, form, &bytes)?;
        let Sound { last, end } = replay(path, form, &bytes, each)?;
        let torn = (bytes.len() - end) as u64;
        bytes.truncate(end);
        let tail = bytes.split_off(last);
        let file = Self { form, path: path.to_owned(), file, len: end as u64, growth: Growth::Open };
        Ok(Unsynced { file, last: last as u64, tail, torn })
    }

    /// Opens a file that nobody appends to any more, for reading only: it must have exactly this length and no
    /// damage, a torn last append included.
    pub fn open_sealed(
        path: &Path,
        form: &'static Form,
        len: u64,
        each: &mut Replay<'_>,
    ) -> Result<Self, Fatal> {
        let file = File::open(path).map_err(|e| not_opened(path, form, e))?;
        let bytes = read_whole(path, &file)?;
        check_header(path, form, &bytes)?;
        if bytes.len() as u64 != len {
            return Err(state(path, &format!("has {} bytes instead of {len}", bytes.len()), form.restore));
        }
        let Sound { end, .. } = replay(path, form, &bytes, each)?;
        if end < bytes.len() {
            return Err(damaged(path, form, end as u64, "the last append is damaged"));
        }
        Ok(Self { form, path: path.to_owned(), file, len, growth: Growth::Sealed })
    }

    /// The first record of a file, without reading the rest, and the file's length.
    pub fn first_record(path: &Path, form: &'static Form) -> Result<(u8, Vec<u8>, u64), Fatal> {
        let fault = |source| Fatal::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(|e| not_opened(path, form, e))?;
        let len = file.metadata().map_err(fault)?.len();
        let mut header = vec![0; usize::try_from(len.min(HEADER)).unwrap_or(0)];
        file.read_exact_at(&mut header, 0).map_err(fault)?;
        check_header(path, form, &header)?;
        let opened = Self { form, path: path.to_owned(), file, len, growth: Growth::Sealed };
        if len < HEADER + HEAD + OVERHEAD {
            return Err(damaged(path, form, HEADER, "the first record is missing"));
        }
        let (kind, body) = opened.read_at(HEADER + HEAD)?;
        Ok((kind, body, len))
    }

    /// Writes all `records` with one write and one `fdatasync`, and returns the offset of the first. When this
    /// returns they are durable; when the process dies before, the next start finds all of them or none. On an error
    /// the process must end: see [`Fatal::end`].
    pub fn append(&mut self, records: &[Record<'_>]) -> Result<u64, Fatal> {
        let at = self.len;
        let mut bytes = Vec::new();
        encode(&self.path, records, &mut bytes)?;
        let refused = match self.growth {
            Growth::InDoubt => Some("an earlier write failed"),
            Growth::Sealed => Some("the file is sealed"),
            Growth::Open if at + bytes.len() as u64 > MAX_FILE => Some("the file is at its limit of 256 MiB"),
            Growth::Open => None,
        };
        if let Some(why) = refused {
            return Err(Fatal::Write { path: self.path.clone(), source: io::Error::other(why) });
        }
        self.growth = Growth::InDoubt;
        self.file
            .write_all_at(&bytes, at)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| Fatal::Write { path: self.path.clone(), source })?;
        self.growth = Growth::Open;
        self.len = at + bytes.len() as u64;
        Ok(at + HEAD)
    }

    /// The file's length in bytes: the offset of the next append.
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
            return Err(damaged(&self.path, self.form, offset, "the record's length is impossible"));
        }
        let mut content = vec![0; len];
        self.file.read_exact_at(&mut content, offset + 8).map_err(fault)?;
        match content.split_first() {
            Some((kind, body)) if crc32c::crc32c(&content) == crc => Ok((*kind, body.to_vec())),
            _ => Err(damaged(&self.path, self.form, offset, "the checksum does not match")),
        }
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Puts a new file with these records in the place of an old one, atomically (compaction).
pub fn replace(path: &Path, form: &'static Form, records: &[Record<'_>]) -> Result<RecordFile, Fatal> {
    let made = write_new(path, form, records)?;
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
pub fn lock_folder(path: &Path, form: &Form) -> Result<FolderLock, Fatal> {
    let folder = File::open(path).map_err(|e| not_opened(path, form, e))?;
    match rustix::fs::flock(&folder, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(FolderLock { _folder: folder }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Fatal::Held { path: path.to_owned() }),
        Err(e) => Err(Fatal::Read { path: path.to_owned(), source: e.into() }),
    }
}

/// Creates a folder with the parents that it lacks, each open to its owner only, and makes their names durable. One
/// that is there already gets its name synced: the one who made it may not have come so far.
pub fn create_folder(path: &Path) -> Result<(), Fatal> {
    let made: Vec<&Path> = path.ancestors().skip(1).take_while(|folder| is_missing(folder)).collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Fatal::Write { path: path.to_owned(), source })?;
    [path].into_iter().chain(made).try_for_each(sync_folder_of)
}

fn is_missing(folder: &Path) -> bool {
    !folder.as_os_str().is_empty() && !folder.exists()
}

/// Makes the names in the folder of `path` durable.
fn sync_folder_of(path: &Path) -> Result<(), Fatal> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(|source| Fatal::Write { path: folder.to_owned(), source })
}

/// Writes and syncs `path.new`, in the place of what a crash may have left there. Each record is an append of its own:
/// the file gets its name when it is whole, and the records together may be longer than one append.
fn write_new(path: &Path, form: &'static Form, records: &[Record<'_>]) -> Result<RecordFile, Fatal> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut bytes = [form.magic.as_slice(), &VERSION].concat();
    records.chunks(1).try_for_each(|record| encode(path, record, &mut bytes))?;
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
    Ok(RecordFile { form, path: new, file, len: bytes.len() as u64, growth: Growth::Open })
}

/// Puts one append behind `bytes`.
fn encode(path: &Path, records: &[Record<'_>], bytes: &mut Vec<u8>) -> Result<(), Fatal> {
    let too_long = |what: &str, len: usize| {
        let source = io::Error::other(format!("{what} of {len} bytes: the limit is 16 MiB, 32 MiB together"));
        Fatal::Write { path: path.to_owned(), source }
    };
    let len = records.iter().map(|r| r.body.len() + OVERHEAD as usize).sum();
    let mut together = Vec::with_capacity(len);
    for record in records {
        let len = record.body.len() + 1;
        if len > MAX_RECORD || !put_record(record.kind, &record.body, &mut together) {
            return Err(too_long("a record", len));
        }
    }
    let prefix = u32::try_from(len).ok().filter(|_| len <= MAX_APPEND);
    let prefix = prefix.ok_or_else(|| too_long("an append", len))?;
    let head = [prefix.to_be_bytes(), crc32c::crc32c(&together).to_be_bytes()].concat();
    put_record(APPEND, &head, bytes);
    bytes.append(&mut together);
    Ok(())
}

/// Whether the record has a length that can be written.
fn put_record(kind: u8, body: &[u8], bytes: &mut Vec<u8>) -> bool {
    let Ok(len) = u32::try_from(body.len() + 1) else { return false };
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c_append(crc32c::crc32c(&[kind]), body).to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    true
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

fn check_header(path: &Path, form: &Form, bytes: &[u8]) -> Result<(), Fatal> {
    match (bytes.get(..8), bytes.get(8..12)) {
        (Some(m), Some(v)) if m == form.magic && v == VERSION => Ok(()),
        (Some(m), Some(_)) if m == form.magic => Err(state(
            path,
            "was written by another version of this program",
            "run the version that wrote it",
        )),
        _ if bytes.is_empty() => Err(state(path, "is empty", form.restore)),
        _ => Err(state(path, "does not begin as such a file does", form.restore)),
    }
}

/// The sound part of a file.
struct Sound {
    /// Where its last append begins; its end, if it has none.
    last: usize,
    /// Where it ends.
    end: usize,
}

/// Hands out the records of the sound part.
fn replay(path: &Path, form: &Form, bytes: &[u8], each: &mut Replay<'_>) -> Result<Sound, Fatal> {
    let (mut last, mut at) = (HEADER as usize, HEADER as usize);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(mut together) = append_at(rest) else {
            return if is_torn(rest) {
                Ok(Sound { last, end: at })
            } else {
                Err(damaged(path, form, at as u64, "the append is damaged, and it is not the last one"))
            };
        };
        last = at;
        at += HEAD as usize + together.len();
        while !together.is_empty() {
            let offset = (at - together.len()) as u64;
            let (kind, body) = record_at(together)
                .ok_or_else(|| damaged(path, form, offset, "the record does not fit its append"))?;
            each(offset, kind, body).map_err(|why| damaged(path, form, offset, &why))?;
            together = together.get(OVERHEAD as usize + body.len()..).unwrap_or_default();
        }
    }
    Ok(Sound { last, end: at })
}

/// The records of the sound append that `bytes` begin with.
fn append_at(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.get(HEAD as usize..)?;
    let (len, _) = parse_head(*bytes.first_chunk()?);
    // Before the checksums, since this is asked at every byte of a torn end.
    if len != HEAD as usize - 8 || bytes.get(8) != Some(&APPEND) {
        return None;
    }
    let (_, head) = record_at(bytes)?;
    let (len, crc) = parse_head(*head.first_chunk()?);
    rest.get(..len).filter(|together| crc32c::crc32c(together) == crc)
}

/// The sound record that `bytes` begin with.
fn record_at(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (len, crc) = parse_head(*bytes.first_chunk::<8>()?);
    let content = bytes.get(8..)?.get(..len).filter(|_| len <= MAX_RECORD)?;
    let (kind, body) = content.split_first()?;
    (crc32c::crc32c(content) == crc).then_some((*kind, body))
}

/// Whether an unsound end of a file can be what a crash leaves of a last write: any of its pages may be missing, be
/// zeros, or be there. But nothing was appended behind a write that had not succeeded.
fn is_torn(rest: &[u8]) -> bool {
    let mut later = 1..rest.len();
    rest.len() <= HEAD as usize + MAX_APPEND && !later.any(|at| rest.get(at..).and_then(append_at).is_some())
}

fn parse_head(head: [u8; 8]) -> (usize, u32) {
    let [a, b, c, d, e, f, g, h] = head;
    (
        usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX),
        u32::from_be_bytes([e, f, g, h]),
    )
}

fn not_opened(path: &Path, form: &Form, error: io::Error) -> Fatal {
    if error.kind() == io::ErrorKind::NotFound {
        state(path, "is missing", form.restore)
    } else {
        Fatal::Read { path: path.to_owned(), source: error }
    }
}

fn damaged(path: &Path, form: &Form, offset: u64, why: &str) -> Fatal {
    state(path, &format!("byte {offset}: {why}"), form.restore)
}

fn state(path: &Path, why: &str, next: &str) -> Fatal {
    Fatal::State { path: path.to_owned(), why: why.into(), next: next.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    static FORM: Form = Form { magic: *b"test0001", restore: "restore it" };

    fn record(kind: u8, body: &[u8]) -> Record<'_> {
        Record { kind, body: Cow::Borrowed(body) }
    }

    type Seen = Vec<(u8, Vec<u8>)>;

    fn open(path: &Path) -> Result<(RecordFile, Seen), Fatal> {
        let mut seen = vec![];
        let file = RecordFile::open(path, &FORM, &mut |_, kind, body| {
            seen.push((kind, body.to_vec()));
            Ok(())
        })?;
        Ok((file.rely()?, seen))
    }

    fn sample(folder: &Path) -> (PathBuf, u64) {
        let path = folder.join("f");
        let mut file = RecordFile::create(&path, &FORM, &[record(1, b"first")]).unwrap();
        file.append(&[record(2, b"second"), record(3, b"")]).unwrap();
        let last = file.len();
        file.append(&[record(4, b"the last record, long enough to be torn")]).unwrap();
        (path, last)
    }

    #[test]
    fn records_read_back_in_order_and_by_offset() {
        let folder = tempfile::tempdir().unwrap();
        let (path, last) = sample(folder.path());
        let (file, seen) = open(&path).unwrap();
        assert_eq!(seen.iter().map(|(k, _)| *k).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(file.read_at(last + HEAD).unwrap().1, b"the last record, long enough to be torn");
        assert_eq!(file.len(), std::fs::metadata(&path).unwrap().len());
    }

    #[test]
    fn a_last_append_torn_at_any_byte_is_cut_and_the_rest_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, last) = sample(folder.path());
        let whole = std::fs::read(&path).unwrap();
        for cut in last as usize..whole.len() {
            for zeros in [0, 40] {
                let mut torn = whole[..cut].to_vec();
                torn.resize(cut + zeros, 0);
                std::fs::write(&path, &torn).unwrap();
                let (mut file, seen) = open(&path).unwrap();
                assert_eq!((seen.len(), file.len()), (3, last), "cut at {cut}, {zeros} zeros");
                file.append(&[record(9, b"new")]).unwrap();
                assert_eq!(open(&path).unwrap().1.len(), 4);
            }
        }
    }

    /// The pages of one write reach the disk in any order: whichever are lost, all of its records are cut.
    #[test]
    fn an_append_that_lost_any_of_its_pages_is_cut_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = sample(folder.path());
        let before = std::fs::read(&path).unwrap();
        let (mut file, _) = open(&path).unwrap();
        let bodies: Vec<Vec<u8>> = (0..5u8).map(|n| vec![b'a' + n; 100]).collect();
        file.append(&bodies.iter().map(|body| record(5, body)).collect::<Vec<_>>()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        const PAGE: usize = 64;
        let pages = (whole.len() - before.len()).div_ceil(PAGE);
        for lost in 1..1u32 << pages {
            let mut torn = whole.clone();
            for (number, page) in torn[before.len()..].chunks_mut(PAGE).enumerate() {
                if lost & (1 << number) != 0 {
                    page.fill(0);
                }
            }
            std::fs::write(&path, &torn).unwrap();
            let (file, seen) = open(&path).unwrap();
            assert_eq!((seen.len(), file.len()), (4, before.len() as u64), "pages {lost:b}");
        }
    }

    #[test]
    fn a_damaged_end_that_is_longer_than_any_append_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, last) = sample(folder.path());
        let bytes = std::fs::read(&path).unwrap();
        for (more, refused) in [(0, false), (1, true)] {
            let mut long = bytes[..last as usize].to_vec();
            long.resize(last as usize + HEAD as usize + MAX_APPEND + more, b'x');
            std::fs::write(&path, &long).unwrap();
            assert_eq!(open(&path).is_err(), refused, "{more}");
        }
    }

    #[test]
    fn a_flipped_bit_before_the_last_append_is_refused() {
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
        for content in [&b""[..], b"test", b"other001\0\0\0\x02", b"test0001\0\0\0\x01"] {
            std::fs::write(&path, content).unwrap();
            assert!(matches!(open(&path), Err(Fatal::State { .. })), "{content:?}");
        }
        assert!(open(&path).unwrap_err().to_string().contains("another version of this program"));
    }

    #[test]
    fn create_refuses_an_existing_file_and_replace_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = sample(folder.path());
        assert!(matches!(RecordFile::create(&path, &FORM, &[]), Err(Fatal::State { .. })));
        assert_eq!(open(&path).unwrap().1.len(), 4);
        let mut file = replace(&path, &FORM, &[record(7, b"only")]).unwrap();
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
        assert!(RecordFile::create(&path, &FORM, &[]).is_err());
        assert_eq!(open(&path).unwrap().1.len(), 4);
    }

    #[test]
    fn a_sealed_file_is_read_whole_or_refused_and_never_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, last) = sample(folder.path());
        let whole = std::fs::read(&path).unwrap();
        let len = whole.len() as u64;
        let mut count = 0;
        let mut sealed = RecordFile::open_sealed(&path, &FORM, len, &mut |_, _, _| {
            count += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(count, 4);
        assert!(sealed.append(&[record(1, b"x")]).is_err());
        for cut in [last as usize, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            for len in [len, cut as u64] {
                let opened = RecordFile::open_sealed(&path, &FORM, len, &mut |_, _, _| Ok(()));
                assert_eq!(opened.is_ok(), cut == last as usize && len == last, "{cut} {len}");
            }
            assert_eq!(std::fs::metadata(&path).unwrap().len(), cut as u64);
        }
        assert_eq!(RecordFile::first_record(&path, &FORM).unwrap().1, b"first");
    }

    #[test]
    fn a_refused_record_names_its_offset() {
        let folder = tempfile::tempdir().unwrap();
        let (path, last) = sample(folder.path());
        let mut each = |_, kind, _: &[u8]| if kind == 4 { Err("no".to_owned()) } else { Ok(()) };
        let error = RecordFile::open(&path, &FORM, &mut each).unwrap_err();
        assert!(error.to_string().contains(&format!("byte {}: no", last + HEAD)), "{error}");
    }

    #[test]
    fn one_process_holds_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock_folder(folder.path(), &FORM).unwrap();
        assert!(matches!(lock_folder(folder.path(), &FORM), Err(Fatal::Held { .. })));
        drop(held);
        assert!(lock_folder(folder.path(), &FORM).is_ok());
    }
}
