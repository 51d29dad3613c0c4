//! A witness's folder, and what it answers: the rule of C2SP tlog-witness over files that outlive the process.
//!
//! | file | |
//! |---|---|
//! | `key` | its private key, mode 0600 |
//! | `lock` | held by the process that works on the folder |
//! | `logs/<hex SHA-256 of the origin>` | what it has cosigned last of one log |

use super::{WitnessFault, io, key::WitnessKey, memory::Memory, state};
use record::Sha256;
use rustix::fs::{FlockOperation, flock};
use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};
use tlog::{
    AddCheckpoint, Checkpoint, CosignerKey, Note, NoteSignature, PolicyLog, VerifierKey, WitnessRefusal,
    encode_cosignatures, encode_size,
};

/// A witness that holds its folder.
pub(crate) struct Witness {
    key: WitnessKey,
    /// By the hex SHA-256 of the origin.
    logs: BTreeMap<String, Log>,
    _lock: File,
}

/// A log that it knows.
struct Log {
    memory: Mutex<Memory>,
    /// What readers are shown: the last checkpoint that is kept. They never wait for a disk.
    shown: RwLock<Option<Arc<str>>>,
}

/// What is answered over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The `Content-Type`.
    pub(crate) kind: &'static str,
    /// The body.
    pub(crate) body: String,
    /// What the witness's operator is told, if anything.
    pub(crate) said: Option<String>,
}

const TEXT: &str = "text/plain; charset=utf-8";
const SIZE: &str = "text/x.tlog.size";

impl Witness {
    /// Makes a new folder with a new key; gives the public one.
    pub(crate) fn init(folder: &Path, name: &str) -> Result<CosignerKey, WitnessFault> {
        // Before anything is made: a folder without a key would only stop the next try.
        let key =
            WitnessKey::generate(name).map_err(|why| state(folder, format!("the name {name:?}: {why}")))?;
        let logs = folder.join("logs");
        DirBuilder::new().mode(0o700).create(folder).map_err(io(folder))?;
        DirBuilder::new().mode(0o700).create(&logs).map_err(io(&logs))?;
        key.write(&folder.join("key"))?;
        for made in [Some(folder), folder.parent()].into_iter().flatten() {
            let made = if made.as_os_str().is_empty() { Path::new(".") } else { made };
            File::open(made).and_then(|dir| dir.sync_all()).map_err(io(made))?;
        }
        Ok(key.public().clone())
    }

    /// Begins the memory of a log that is not known yet, in a folder that nobody serves now.
    pub(crate) fn add_log(folder: &Path, log: &VerifierKey) -> Result<(), WitnessFault> {
        let _lock = lock(folder)?;
        WitnessKey::open(&folder.join("key"))?;
        Memory::create(&path_of(folder, log), log)
    }

    /// Opens the folder with the memory of each of these logs. One that is missing is an error: a witness that forgets
    /// what it has seen would cosign a fork.
    pub(crate) fn open(folder: &Path, logs: &[PolicyLog]) -> Result<Self, WitnessFault> {
        let lock = lock(folder)?;
        let key = WitnessKey::open(&folder.join("key"))?;
        let mut memories = BTreeMap::new();
        for log in logs {
            let memory = Memory::open(&path_of(folder, &log.key), &log.key, key.public())?;
            memories.insert(hash_of(&log.key), Log::of(memory));
        }
        Ok(Self { key, logs: memories, _lock: lock })
    }

    /// The public key.
    pub(crate) fn public(&self) -> &CosignerKey {
        self.key.public()
    }

    /// One line for each log: what was cosigned last.
    pub(crate) fn standing(&self) -> Vec<String> {
        let line = |log: &Log| {
            let memory = log.lock();
            let seen = memory.last().map_or("nothing yet".to_owned(), |(c, _)| format!("{} entries", c.size));
            format!("{}: {seen}", memory.log().name())
        };
        self.logs.values().map(line).collect()
    }

    /// `POST add-checkpoint` at this time, in seconds since 1970. An error is a write that failed: nothing was cosigned,
    /// and nothing will be.
    pub(crate) fn add_checkpoint(&self, body: &[u8], time_s: u64) -> Result<Answer, WitnessFault> {
        let request = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8".to_owned());
        let request = request.and_then(|text| AddCheckpoint::parse(text).map_err(|e| api::chain_text(&e)));
        let request = match request {
            Ok(request) => request,
            Err(why) => return Ok(Answer::refused(400, why)),
        };
        let origin = request.checkpoint.text().split('\n').next().unwrap_or_default();
        let Some(log) = self.logs.get(&Sha256::of(origin.as_bytes()).to_string()) else {
            return Ok(match Checkpoint::parse(request.checkpoint.text()) {
                Ok(_) => Answer::refused(404, "this witness does not know the log".into()),
                Err(e) => Answer::refused(400, api::chain_text(&e)),
            });
        };
        // Held until the cosigned checkpoint is on disk: comparing and keeping are one step.
        let mut memory = log.lock();
        let seen = memory.last().map(|(checkpoint, _)| checkpoint);
        match request.judge(memory.log(), seen) {
            Ok(checkpoint) => {
                let answer = self.cosign(&mut memory, checkpoint, &request.checkpoint, time_s);
                log.show(&memory);
                answer
            }
            Err(WitnessRefusal::Conflict { seen, .. }) => {
                Ok(Answer { status: 409, kind: SIZE, body: encode_size(seen), said: None })
            }
            Err(refusal) => Ok(Answer::of_refusal(&refusal, &request, &mut memory)),
        }
    }

    fn cosign(
        &self,
        memory: &mut Memory,
        checkpoint: Checkpoint,
        note: &Note,
        time_s: u64,
    ) -> Result<Answer, WitnessFault> {
        let line = match self.key.cosign(note.text(), time_s) {
            Ok(line) => line,
            Err(e) => return Ok(Answer::refused(500, api::chain_text(&e))),
        };
        // Asked again about the same: kept already, and strangers cannot wear the disk out.
        if memory.last().is_none_or(|(last, _)| *last != checkpoint) {
            let said = format!("cosigned {} {}", checkpoint.origin, checkpoint.size);
            match kept(note, memory.log(), line.clone()) {
                Some(cosigned) => memory.keep(checkpoint, cosigned)?,
                None => {
                    return Ok(Answer::refused(400, "the checkpoint has no room for a cosignature".into()));
                }
            }
            return Ok(Answer { said: Some(said), ..Answer::cosigned(line) });
        }
        Ok(Answer::cosigned(line))
    }

    /// `GET <hash>/checkpoint`: the last cosigned checkpoint of the log whose origin has this SHA-256.
    pub(crate) fn checkpoint(&self, hash: &str) -> Answer {
        match self.logs.get(hash).and_then(Log::shown) {
            Some(body) => Answer { status: 200, kind: TEXT, body: body.to_string(), said: None },
            None => Answer::refused(404, "no checkpoint of this log was cosigned here".into()),
        }
    }
}

impl Log {
    fn of(memory: Memory) -> Self {
        let log = Self { shown: RwLock::default(), memory: Mutex::new(memory) };
        log.show(&log.lock());
        log
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows readers what is kept now.
    fn show(&self, memory: &Memory) {
        let note = memory.last().map(|(_, note)| note.to_string().into());
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = note;
    }

    fn shown(&self) -> Option<Arc<str>> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Answer {
    fn cosigned(line: NoteSignature) -> Self {
        Self { status: 200, kind: TEXT, body: encode_cosignatures(&[line]), said: None }
    }

    pub(super) fn refused(status: u16, why: String) -> Self {
        Self { status, kind: TEXT, body: format!("{why}\n"), said: None }
    }

    /// Another root at a size that was cosigned proves a fork. A proof that is wrong proves nothing: whoever has a true
    /// checkpoint can send one, so the operator hears of it once and in other words.
    fn of_refusal(refusal: &WitnessRefusal, request: &AddCheckpoint, memory: &mut Memory) -> Self {
        let said = match refusal {
            WitnessRefusal::Forked { .. } => Some(format!(
                "FORK: signed by its log, and contradicts what was cosigned: {:?}",
                request.checkpoint.to_string()
            )),
            WitnessRefusal::Inconsistent(_) if memory.doubt() => Some(format!(
                "refused a wrong proof, from the log or from anybody else; more are refused without a line until {} grows: {:?}",
                memory.log().name(),
                request.checkpoint.to_string()
            )),
            _ => None,
        };
        Self { said, ..Self::refused(refusal.status(), api::chain_text(refusal)) }
    }
}

/// The checkpoint as it is kept: with its log's signature and the cosignature, and no line that others have added.
fn kept(note: &Note, log: &VerifierKey, cosignature: NoteSignature) -> Option<Note> {
    let by_log = note.signatures().iter().filter(|s| s.id == log.key_id() && s.name == log.name());
    let lines = by_log.take(1).cloned().chain([cosignature]);
    let text = lines.fold(format!("{}\n", note.text()), |text, line| format!("{text}{line}\n"));
    Note::parse(&text).ok()
}

fn hash_of(log: &VerifierKey) -> String {
    Sha256::of(log.name().as_bytes()).to_string()
}

fn path_of(folder: &Path, log: &VerifierKey) -> PathBuf {
    folder.join("logs").join(hash_of(log))
}

fn lock(folder: &Path) -> Result<File, WitnessFault> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(io(&path))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| WitnessFault::Locked { path })?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};
    use tlog::Hash;

    const ORIGIN: &str = "log.example";

    fn log() -> (SigningKey, VerifierKey) {
        let key = SigningKey::from_bytes(&[7; 32]);
        let vkey = VerifierKey::new_ed25519(ORIGIN, key.verifying_key().to_bytes()).unwrap();
        (key, vkey)
    }

    fn request(old: u64, size: u64, root: u8, proof: Vec<Hash>) -> String {
        let (key, vkey) = log();
        let text = Checkpoint { origin: ORIGIN.into(), size, root: Hash([root; 32]) }.text();
        let note = tlog::signed_note(&text, &vkey, &key.sign(text.as_bytes()).to_bytes()).unwrap();
        AddCheckpoint { old, proof, checkpoint: Note::parse(&note).unwrap() }.to_string()
    }

    #[test]
    fn only_a_contradiction_is_told_as_a_fork_and_wrong_proofs_are_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("witness");
        Witness::init(&folder, "witness.example").unwrap();
        let vkey = log().1;
        Witness::add_log(&folder, &vkey).unwrap();
        let witness = Witness::open(&folder, &[PolicyLog { key: vkey, url: None }]).unwrap();
        let ask = |request: String| witness.add_checkpoint(request.as_bytes(), 1_790_000_000).unwrap();
        assert_eq!(ask(request(0, 3, 1, vec![])).status, 200);
        let junk = ask(request(3, 3, 1, vec![Hash([9; 32])]));
        assert_eq!(junk.status, 422);
        assert!(junk.said.as_ref().unwrap().contains("wrong proof"), "{junk:?}");
        assert_eq!(ask(request(3, 4, 1, vec![Hash([9; 32])])).said, None);
        let forked = ask(request(3, 3, 2, vec![]));
        assert_eq!(forked.status, 422);
        assert!(forked.said.as_ref().unwrap().starts_with("FORK:"), "{forked:?}");
        // While a write holds the memory, readers see what was kept before.
        let hash = hash_of(&log().1);
        let _writing = witness.logs[&hash].lock();
        let shown = witness.checkpoint(&hash);
        assert!(shown.status == 200 && shown.body.contains("\n3\n"), "{shown:?}");
    }
}
