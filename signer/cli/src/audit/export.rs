//! An export: a stretch of the log as files that other tools read, bound to a checkpoint of the log.
//!
//! `entries.jsonl` has the entries' own bytes, `decisions.csv` is made of nothing else, and the manifest names both by
//! SHA-256. What binds an export is the log's own signature. The manifest has the hashes of the tree before the first
//! entry and the consistency proof behind the last one, so that the entries give the root of a tree which the checkpoint
//! extends, or the export is refused. Whoever made the export may sign the manifest too, which says who that was.

use super::{
    Accepted, AuditError, LogSource, Prover, Trust,
    verify::Witness,
    walk::{Walked, walk},
};
use record::{Leaf, Sha256, Time};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha::Counted;
use signature::SIGNATURE;
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};
use tlog::{CosignerKey, Frontier, Hash, TILE_WIDTH, leaf_hash};

mod csv;
mod sha;
mod signature;

pub(crate) use signature::{Exporter, ManifestSignature};

/// The `schema` member of a manifest.
const SCHEMA: &str = "chancery.export/v1";
/// The files.
const ENTRIES: &str = "entries.jsonl";
const DECISIONS: &str = "decisions.csv";
const CHECKPOINT: &str = "checkpoint";
const MANIFEST: &str = "manifest.json";
/// The longest manifest or checkpoint: far above 63 hashes, or any note.
const MAX_SMALL_FILE: u64 = 256 * 1024;
/// The longest line of entries: an entry in base64, or as JSON, with its index.
const MAX_LINE: u64 = 128 * 1024;

/// Which entries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Range {
    /// The first one; without it the log's first.
    pub(crate) from: Option<u64>,
    /// The one behind the last; without it the log's end.
    pub(crate) until: Option<u64>,
    /// Only from the first entry of this time or later.
    pub(crate) since: Option<Time>,
    /// Only up to the first entry of this time or later, without it, that stands behind every earlier one: times in a log may
    /// go back, and nothing earlier is left out.
    pub(crate) before: Option<Time>,
}

/// What binds the files to the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    schema: String,
    /// The log's verifier key, for people: whoever verifies brings a key of his own.
    log: String,
    /// The first entry.
    pub(crate) from: u64,
    /// The entry behind the last one.
    pub(crate) until: u64,
    /// Base64: the complete subtrees of the log before `from`, the largest first.
    before: Vec<String>,
    /// Base64: the consistency proof from `until` to the checkpoint.
    after: Vec<String>,
    pub(crate) files: Vec<Named>,
}

/// A file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) sha256: Sha256,
    pub(crate) bytes: u64,
}

/// What was written or verified.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Exported {
    pub(crate) dir: PathBuf,
    pub(crate) origin: String,
    /// The checkpoint's size.
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) witnesses: Option<Vec<Witness>>,
    pub(crate) manifest: Manifest,
    pub(crate) signature: ManifestSignature,
    #[serde(skip)]
    pub(crate) note: String,
    #[serde(skip)]
    pub(crate) checkpoint: tlog::Checkpoint,
}

/// Verifies the whole log and writes a stretch of it into `dir`, which must be empty or absent; signed, if somebody signs
/// it. Says too how much is wrong with the log's entries.
pub(crate) fn export(
    source: &LogSource,
    trust: &Trust,
    range: &Range,
    dir: &Path,
    exporter: Option<&Exporter<'_>>,
) -> Result<(Exported, u64), AuditError> {
    let mut bounds = Bounds::default();
    let Walked { accepted, mut ends } =
        walk(source, trust, |index, _, step| bounds.step(index, step.leaf.as_ref(), range))?;
    let (from, until) = bounds.of(range, accepted.checkpoint.size)?;
    let out = Out { dir };
    out.create()?;
    let mut prover = Prover::new(source, &accepted.checkpoint);
    let before = prover.frontier(from)?;
    let entries = out.write(ENTRIES, |file| write_entries(&prover, from, until, file))?;
    let decisions = out.write(DECISIONS, |file| csv::write(&dir.join(ENTRIES), file))?;
    let checkpoint = out.write(CHECKPOINT, |file| Ok(file.write_all(accepted.note.as_bytes())?))?;
    let text = |hashes: &[Hash]| hashes.iter().map(Hash::to_base64).collect();
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        log: trust.key.to_string(),
        from,
        until,
        before: text(before.hashes()),
        after: text(&prover.consistency(until)?),
        files: vec![entries, decisions, checkpoint],
    };
    let mut bytes = serde_json::to_vec_pretty(&manifest).map_err(|e| AuditError::Export(e.to_string()))?;
    bytes.push(b'\n');
    // Last: a folder with a manifest has the files that it names.
    out.write(MANIFEST, |file| Ok(file.write_all(&bytes)?))?;
    if let Some(exporter) = exporter {
        let note = signature::sign(&bytes, &manifest, exporter)?;
        out.write(SIGNATURE, |file| Ok(file.write_all(note.as_bytes())?))?;
    }
    // Read back: what stands on the disk is what is handed out.
    let signer = exporter.map(|exporter| exporter.key.public());
    Ok((verify(dir, trust, signer)?, ends.findings().total))
}

/// Verifies an export from its own files. Of a `signer` it demands the signature over the manifest.
pub(crate) fn verify(
    dir: &Path,
    trust: &Trust,
    signer: Option<&CosignerKey>,
) -> Result<Exported, AuditError> {
    let bytes = small(&dir.join(MANIFEST))?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| wrong(format!("{MANIFEST}: {e}")))?;
    if manifest.schema != SCHEMA || manifest.log != trust.key.to_string() {
        return Err(wrong(format!("{MANIFEST} is of another kind, or of another log")));
    }
    let signature = signature::verify(dir, &bytes, &manifest, signer)?;
    let note = small(&dir.join(CHECKPOINT))?;
    let note = str::from_utf8(&note).map_err(|_| wrong("the checkpoint is not UTF-8"))?;
    let accepted = trust.accept(note)?;
    let names: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    if names != [ENTRIES, DECISIONS, CHECKPOINT] {
        return Err(wrong(format!("{MANIFEST} names other files than an export has")));
    }
    for file in &manifest.files {
        let found = sha::of_file(&dir.join(&file.name)).map_err(|e| unreadable(&dir.join(&file.name), e))?;
        if (found.sha256(), found.bytes) != (file.sha256, file.bytes) {
            return Err(wrong(format!("{} is not the file that {MANIFEST} names", file.name)));
        }
    }
    bound(dir, &manifest, &accepted.checkpoint)?;
    let mut made = Counted::new(io::sink());
    csv::write(&dir.join(ENTRIES), &mut made)?;
    if manifest.files.iter().any(|file| file.name == DECISIONS && file.sha256 != made.sha256()) {
        return Err(wrong(format!("{DECISIONS} does not say what {ENTRIES} says")));
    }
    let witnesses = trust.policy.is_some().then(|| accepted.witnesses.iter().map(Witness::from).collect());
    let Accepted { note, checkpoint, .. } = accepted;
    let (origin, size) = (checkpoint.origin.clone(), checkpoint.size);
    Ok(Exported { dir: dir.to_owned(), origin, size, witnesses, manifest, signature, note, checkpoint })
}

/// Demands that the entries are those of the log from `from` to `until`.
fn bound(dir: &Path, manifest: &Manifest, checkpoint: &tlog::Checkpoint) -> Result<(), AuditError> {
    let hashes = |texts: &[String]| -> Result<Vec<Hash>, AuditError> {
        texts.iter().map(|h| Hash::from_base64(h).map_err(|e| wrong(format!("{MANIFEST}: {e}")))).collect()
    };
    let not_proven = |e: &dyn std::fmt::Display| wrong(format!("the entries are not the log's: {e}"));
    let mut frontier =
        Frontier::from_parts(manifest.from, hashes(&manifest.before)?).map_err(|e| not_proven(&e))?;
    for line in Lines::open(&dir.join(ENTRIES))? {
        let (index, bytes) = line?;
        if index != frontier.size() || index >= manifest.until {
            return Err(wrong(format!("{ENTRIES} has entry {index} where {} belongs", frontier.size())));
        }
        frontier.append(leaf_hash(&bytes));
    }
    if frontier.size() != manifest.until {
        return Err(wrong(format!("{ENTRIES} ends before entry {}", manifest.until)));
    }
    let (until, root) = (manifest.until, frontier.root());
    tlog::verify_consistency(until, &root, checkpoint.size, &checkpoint.root, &hashes(&manifest.after)?)
        .map_err(|e| not_proven(&e))
}

/// Where the times of a range begin and end in the log.
#[derive(Default)]
struct Bounds {
    since: Option<u64>,
    before: Option<u64>,
}

impl Bounds {
    fn step(&mut self, index: u64, leaf: Option<&Leaf>, range: &Range) {
        let Some(time) = leaf.and_then(Leaf::time) else { return };
        let reached = |bound: Option<Time>| bound.is_some_and(|bound| time >= bound);
        if self.since.is_none() && reached(range.since) {
            self.since = Some(index);
        }
        if !reached(range.before) {
            self.before = None;
        } else if self.before.is_none() {
            self.before = Some(index);
        }
    }

    fn of(&self, range: &Range, size: u64) -> Result<(u64, u64), AuditError> {
        // A time that no entry reaches lies behind the log's end.
        let since = range.since.map_or(0, |_| self.since.unwrap_or(size));
        let before = range.before.map_or(size, |_| self.before.unwrap_or(size));
        let from = range.from.unwrap_or(0).max(since);
        let wanted = range.until.unwrap_or(size);
        let until = wanted.min(before);
        if wanted > size || from > until {
            return Err(AuditError::NoRange { from, until: wanted, size });
        }
        Ok((from, until))
    }
}

/// One line of entries: the entry's own bytes where they are JSON on one line, and base64 where they are not.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    index: u64,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    leaf: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<record::wire::Blob>,
}

fn write_entries(prover: &Prover<'_>, from: u64, until: u64, out: &mut dyn Write) -> Result<(), AuditError> {
    for bundle in from / TILE_WIDTH..until.div_ceil(TILE_WIDTH) {
        for (index, bytes) in (bundle * TILE_WIDTH..).zip(prover.entries(bundle)?) {
            if (from..until).contains(&index) {
                let leaf = as_json(&bytes);
                let blob = leaf.is_none().then(|| record::wire::Blob(bytes.clone()));
                serde_json::to_writer(&mut *out, &Line { index, leaf, bytes: blob })
                    .map_err(io::Error::from)?;
                out.write_all(b"\n")?;
            }
        }
    }
    Ok(())
}

/// The bytes as JSON, if they are that and on one line, and nothing stands around them.
fn as_json(bytes: &[u8]) -> Option<&RawValue> {
    // In JSON, null is how an absent member is read.
    let text = str::from_utf8(bytes).ok().filter(|text| !text.contains(['\n', '\r']) && *text != "null")?;
    serde_json::from_str::<&RawValue>(text).ok().filter(|raw| raw.get() == text)
}

/// The entries of a file, one after the other.
struct Lines {
    path: PathBuf,
    file: BufReader<File>,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, AuditError> {
        let file = File::open(path).map_err(|e| unreadable(path, e))?;
        Ok(Self { path: path.to_owned(), file: BufReader::new(file) })
    }

    fn read(&mut self) -> Result<Option<(u64, Vec<u8>)>, AuditError> {
        let mut text = String::new();
        let read = (&mut self.file).take(MAX_LINE).read_line(&mut text);
        if read.map_err(|e| unreadable(&self.path, e))? == 0 {
            return Ok(None);
        }
        let bad = || wrong(format!("{ENTRIES} has a line that is no entry"));
        let text = text.strip_suffix('\n').ok_or_else(bad)?;
        let line: Line<'_> = serde_json::from_str(text).map_err(|_| bad())?;
        match (line.leaf, line.bytes) {
            (Some(leaf), None) => Ok(Some((line.index, leaf.get().as_bytes().to_vec()))),
            (None, Some(bytes)) => Ok(Some((line.index, bytes.0))),
            _ => Err(bad()),
        }
    }
}

impl Iterator for Lines {
    type Item = Result<(u64, Vec<u8>), AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// The folder that is written to.
struct Out<'a> {
    dir: &'a Path,
}

impl Out<'_> {
    fn create(&self) -> Result<(), AuditError> {
        let fault = |source| unwritable(self.dir, source);
        fs::create_dir_all(self.dir).map_err(fault)?;
        if fs::read_dir(self.dir).map_err(fault)?.next().is_some() {
            return Err(unwritable(self.dir, io::Error::other("the folder is not empty")));
        }
        Ok(())
    }

    fn write(
        &self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), AuditError>,
    ) -> Result<Named, AuditError> {
        let path = self.dir.join(name);
        let fault = |source| unwritable(&path, source);
        let file = File::options().create_new(true).write(true).open(&path).map_err(fault)?;
        let mut counted = Counted::new(BufWriter::new(file));
        fill(&mut counted).map_err(|error| match error {
            AuditError::Io(source) => fault(source),
            other => other,
        })?;
        counted.flush().map_err(fault)?;
        let (sha256, bytes) = (counted.sha256(), counted.bytes);
        counted.into_inner().into_inner().map_err(|e| fault(e.into_error()))?.sync_all().map_err(fault)?;
        Ok(Named { name: name.to_owned(), sha256, bytes })
    }
}

fn small(path: &Path) -> Result<Vec<u8>, AuditError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_SMALL_FILE).read_to_end(&mut bytes));
    read.map_err(|e| unreadable(path, e))?;
    Ok(bytes)
}

fn unreadable(path: &Path, source: io::Error) -> AuditError {
    AuditError::Read(super::ReadError::File { path: path.to_owned(), source })
}

fn unwritable(path: &Path, source: io::Error) -> AuditError {
    AuditError::Write { path: path.to_owned(), source }
}

fn wrong(why: impl Into<String>) -> AuditError {
    AuditError::Export(why.into())
}

#[cfg(test)]
mod tests;
