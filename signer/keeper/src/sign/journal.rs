//! The journal: a signing keeper's durable memory, one file of records.
//!
//! | kind | body (JSON, nothing unknown in it) | written |
//! |---|---|---|
//! | 1 `start` | `{schema, keeper, origin, generation, parts, seen, forked, floor, clock, open[{index,item}], rate[{key,window}], roster{first,document}}` | first, by `init`, by compaction and by `follow-log` |
//! | 2 `part` | `{used[[index,time]], links[{repository,role,link}]}` | `parts` times behind `start` |
//! | 3 `reserve` | `{clock, changes[]}`: all changes of one frame, that an item failed, or a roster | before any of them has an effect outside |
//! | 4 `fork` | `{seen, note}`: what was seen, and the note that does not extend it | before `Fork` is answered |
//! | 5 `clear-fork` | `{clock}` | by an operator, while the keeper does not run |
//!
//! The *generation* counts the records of the kinds 3 to 5 that were ever written, over all compactions, and each change
//! to another log. A file cannot
//! show that its end was cut off between two records, or that it is an older copy of itself; the daemon can, which was
//! told a higher generation.
//!
//! It promises that [`Journal::reserve`] has put its changes on the disk before it returns, and that whatever cannot
//! be read back to the byte is refused, never replaced by a fresh start. It does not know why a change was made.

use super::chain::Link;
use super::state::{Held, Open, Reserve, Seen, State, Window};
use crate::exit::Fatal;
use crate::records::{self, FolderLock, Form, Record, RecordFile};
use people::Roster;
use record::wire::Blob;
use record::{KeeperName, KeyId, Origin, Purpose, Repository, Sha256, Time};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

static FORM: Form = Form {
    magic: *b"chancjnl",
    restore: "restore the state folder, or retire this keeper; without its journal it could sign twice",
};
const SCHEMA: u32 = 1;
const START: u8 = 1;
const PART: u8 = 2;
const RESERVE: u8 = 3;
const FORK: u8 = 4;
const CLEAR_FORK: u8 = 5;
/// Entries in one `part`: a record of at most about 2 MiB.
const PART_ENTRIES: usize = 4096;
/// Changes written behind the last compaction before the next one: a start replays them in well under a second.
const COMPACT_AFTER: u64 = 16 * 1024 * 1024;

/// Whose journal it is: a journal of another keeper or log is never continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// The keeper.
    pub(super) keeper: KeeperName,
    /// The log it follows.
    pub(super) origin: Origin,
}

/// The open journal. Whoever has it holds the state folder.
#[derive(Debug)]
pub(super) struct Journal {
    owner: Owner,
    file: RecordFile,
    generation: u64,
    compacted_len: u64,
    compact_after: u64,
    _lock: FolderLock,
}

/// Proof that the changes of a frame are on the disk. Only [`Journal::reserve`] makes one; a job for the token cannot
/// be made without it.
#[derive(Debug)]
pub(super) struct Durable(());

impl Journal {
    /// Creates the journal of a keeper that has seen nothing. Refuses when one exists.
    pub(super) fn create(folder: &Path, owner: Owner, now: Time) -> Result<Self, Fatal> {
        records::create_folder(folder)?;
        let lock = records::lock_folder(folder, &FORM)?;
        let path = path_in(folder);
        let bodies = snapshot(&path, &owner, 0, &State::new(now))?;
        let file = RecordFile::create(&path, &FORM, &as_records(&bodies))?;
        let compacted_len = file.len();
        let generation = 0;
        Ok(Self { owner, file, generation, compacted_len, compact_after: COMPACT_AFTER, _lock: lock })
    }

    /// Opens the journal and replays it.
    // INVARIANT(no-reset): a missing, foreign or damaged journal ends the start; nothing is made up in its place.
    pub(super) fn open(folder: &Path, owner: Owner) -> Result<(Self, State), Fatal> {
        let lock = records::lock_folder(folder, &FORM)?;
        let path = path_in(folder);
        let mut replay = Replay::new(&owner);
        let file = RecordFile::open(&path, &FORM, &mut |end, kind, body| replay.record(end, kind, body))?;
        let Replayed { state, generation, compacted_len } =
            replay.finish().map_err(|why| damaged(&path, why))?;
        let file = file.rely()?;
        let compact_after = COMPACT_AFTER;
        Ok((Self { owner, file, generation, compacted_len, compact_after, _lock: lock }, state))
    }

    /// Writes what one frame, or one failed item, changed. `state` is the state with these changes, for the compaction
    /// that may follow.
    // INVARIANT(log-before-key): one write and one fdatasync stand between every check and every use of a key.
    pub(super) fn reserve(&mut self, reserve: &Reserve, state: &State) -> Result<Durable, Fatal> {
        self.append(RESERVE, reserve)?;
        if self.file.len().saturating_sub(self.compacted_len) > self.compact_after {
            self.compact(state)?;
        }
        Ok(Durable(()))
    }

    /// Writes that `note` does not extend what was seen. From now on nothing is reserved.
    pub(super) fn fork(&mut self, seen: Seen, note: &str) -> Result<(), Fatal> {
        self.append(FORK, &Fork { seen, note: note.to_owned() })
    }

    /// Writes that an operator has looked into the fork.
    pub(super) fn clear_fork(&mut self, clock: Time) -> Result<(), Fatal> {
        self.append(CLEAR_FORK, &ClearFork { clock })
    }

    /// Puts the same keeper's journal for another log in this one's place, at once and whole. The daemon of the former log
    /// finds a keeper of another one.
    // INVARIANT(forward-only): the versions, the clock and the generation go on from where they were.
    pub(super) fn succeed(mut self, origin: Origin, state: &State) -> Result<Self, Fatal> {
        self.owner.origin = origin;
        self.generation += 1;
        self.compact(state)?;
        Ok(self)
    }

    /// The log that the journal in this folder follows.
    pub(super) fn followed(folder: &Path) -> Result<Origin, Fatal> {
        let path = path_in(folder);
        match records::RecordFile::first_record(&path, &FORM)? {
            (START, body, _) => {
                decode::<Start>(&body).map(|start| start.origin).map_err(|why| damaged(&path, &why))
            }
            _ => Err(damaged(&path, "it holds no state")),
        }
    }

    /// How many records were ever written. All of them are durable.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Why this journal is not to be used, if a daemon was once told of a higher `generation` than it has.
    // INVARIANT(no-reset): numbers that were told never fall. A cut or older journal has forgotten used indices and
    // versions, and the key might sign two contents for one.
    pub(super) fn older_than(&self, generation: u64) -> Option<Fatal> {
        (generation > self.generation).then(|| Fatal::State {
            path: self.path().to_owned(),
            why: format!(
                "is older than what this keeper told its daemon: it knows of {} records, the daemon of {generation}",
                self.generation
            ),
            next: format!("take the newest copy: {}", FORM.restore),
        })
    }

    /// Where the journal lies.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    fn append<T: Serialize>(&mut self, kind: u8, body: &T) -> Result<(), Fatal> {
        let body = encode(self.file.path(), body)?;
        self.file.append(&[Record { kind, body: Cow::Owned(body) }])?;
        self.generation += 1;
        Ok(())
    }

    fn compact(&mut self, state: &State) -> Result<(), Fatal> {
        let path = self.file.path().to_owned();
        let bodies = snapshot(&path, &self.owner, self.generation, state)?;
        self.file = records::replace(&path, &FORM, &as_records(&bodies))?;
        self.compacted_len = self.file.len();
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    schema: u32,
    keeper: KeeperName,
    origin: Origin,
    generation: u64,
    parts: usize,
    seen: Seen,
    forked: bool,
    floor: u64,
    clock: Time,
    open: Vec<OpenEntry>,
    rate: Vec<RateEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    roster: Option<RosterEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RosterEntry {
    first: Sha256,
    document: Blob,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenEntry {
    index: u64,
    item: Open,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateEntry {
    key: KeyId,
    window: Window,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    used: Vec<(u64, Time)>,
    links: Vec<LinkEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkEntry {
    repository: Repository,
    role: Purpose,
    link: Link,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fork {
    seen: Seen,
    note: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClearFork {
    clock: Time,
}

/// The whole state as the records that a compacted journal begins with.
fn snapshot(path: &Path, owner: &Owner, generation: u64, state: &State) -> Result<Vec<(u8, Vec<u8>)>, Fatal> {
    let parts = parts(state);
    let start = Start {
        schema: SCHEMA,
        keeper: owner.keeper.clone(),
        origin: owner.origin.clone(),
        generation,
        parts: parts.len(),
        seen: state.seen,
        forked: state.forked,
        floor: state.floor,
        clock: state.clock,
        open: state.open.iter().map(|(i, o)| OpenEntry { index: *i, item: o.clone() }).collect(),
        rate: state.rate.iter().map(|(key, window)| RateEntry { key: *key, window: *window }).collect(),
        roster: state
            .roster
            .as_ref()
            .map(|held| RosterEntry { first: held.first, document: Blob(held.roster.bytes().to_vec()) }),
    };
    let mut bodies = vec![(START, encode(path, &start)?)];
    for part in parts {
        bodies.push((PART, encode(path, &part)?));
    }
    Ok(bodies)
}

fn parts(state: &State) -> Vec<Part> {
    let used: Vec<(u64, Time)> = state.used.iter().map(|(index, at)| (*index, *at)).collect();
    let mut parts: Vec<Part> =
        used.chunks(PART_ENTRIES).map(|used| Part { used: used.to_vec(), links: vec![] }).collect();
    let mut links = state.chain.links().map(|(repository, role, link)| LinkEntry {
        repository: repository.clone(),
        role,
        link: *link,
    });
    loop {
        let links: Vec<LinkEntry> = links.by_ref().take(PART_ENTRIES).collect();
        if links.is_empty() {
            return parts;
        }
        parts.push(Part { used: vec![], links });
    }
}

/// A journal as far as it was read.
struct Replay<'a> {
    owner: &'a Owner,
    state: Option<State>,
    generation: u64,
    parts_missing: usize,
    compacted_len: u64,
}

/// A journal that was read to its end.
struct Replayed {
    state: State,
    generation: u64,
    compacted_len: u64,
}

impl<'a> Replay<'a> {
    fn new(owner: &'a Owner) -> Self {
        Self { owner, state: None, generation: 0, parts_missing: 0, compacted_len: records::HEADER }
    }

    fn record(&mut self, at: u64, kind: u8, body: &[u8]) -> Result<(), String> {
        if kind == START || kind == PART {
            self.compacted_len = at + body.len() as u64 + records::OVERHEAD;
        } else {
            self.generation += 1;
        }
        match (kind, self.state.as_mut()) {
            (START, None) => self.start(decode(body)?),
            (PART, Some(state)) if self.parts_missing > 0 => {
                self.parts_missing -= 1;
                restore(state, decode(body)?);
                Ok(())
            }
            (_, Some(_)) if self.parts_missing > 0 => Err("a part of the state is missing".into()),
            (RESERVE, Some(state)) => state.replay(&decode::<Reserve>(body)?).map_err(|e| e.to_string()),
            (FORK, Some(state)) => {
                decode::<Fork>(body)?;
                state.forked = true;
                Ok(())
            }
            (CLEAR_FORK, Some(state)) => {
                decode::<ClearFork>(body)?;
                state.forked = false;
                Ok(())
            }
            _ => Err(format!("a record of kind {kind} does not belong here")),
        }
    }

    fn start(&mut self, start: Start) -> Result<(), String> {
        if start.schema != SCHEMA {
            return Err(format!("schema {} is not known to this program", start.schema));
        }
        let owner = Owner { keeper: start.keeper, origin: start.origin };
        if owner != *self.owner {
            return Err(format!("it is the journal of keeper {} for log {}", owner.keeper, owner.origin));
        }
        let mut state = State::new(start.clock);
        (state.seen, state.forked, state.floor) = (start.seen, start.forked, start.floor);
        state.open = start.open.into_iter().map(|e| (e.index, e.item)).collect();
        state.rate = start.rate.into_iter().map(|e| (e.key, e.window)).collect();
        state.roster = start.roster.map(held).transpose()?;
        (self.generation, self.parts_missing) = (start.generation, start.parts);
        self.state = Some(state);
        Ok(())
    }

    fn finish(self) -> Result<Replayed, &'static str> {
        let Self { generation, compacted_len, .. } = self;
        match self.state {
            Some(state) if self.parts_missing == 0 => Ok(Replayed { state, generation, compacted_len }),
            Some(_) => Err("a part of the state is missing"),
            None => Err("it holds no state"),
        }
    }
}

fn held(entry: RosterEntry) -> Result<Held, String> {
    let roster = Roster::parse(&entry.document.0).map_err(|e| format!("its roster: {e}"))?;
    Ok(Held { first: entry.first, roster })
}

fn restore(state: &mut State, part: Part) {
    state.used.extend(part.used);
    for entry in part.links {
        state.chain.restore(entry.repository, entry.role, entry.link);
    }
}

fn as_records(bodies: &[(u8, Vec<u8>)]) -> Vec<Record<'_>> {
    bodies.iter().map(|(kind, body)| Record { kind: *kind, body: Cow::Borrowed(body) }).collect()
}

fn encode<T: Serialize>(path: &Path, body: &T) -> Result<Vec<u8>, Fatal> {
    serde_json::to_vec(body).map_err(|e| Fatal::Write { path: path.to_owned(), source: io::Error::other(e) })
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|e| e.to_string())
}

fn path_in(folder: &Path) -> PathBuf {
    folder.join("journal")
}

fn damaged(path: &Path, why: &str) -> Fatal {
    Fatal::State { path: path.to_owned(), why: why.to_owned(), next: FORM.restore.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::state::{Change, Draft};
    use super::*;
    use crate::steps;

    fn now() -> Time {
        Time::from_unix_ms(1_790_000_000_000).unwrap()
    }

    fn owner() -> Owner {
        Owner {
            keeper: KeeperName::parse("signing").unwrap(),
            origin: Origin::parse("log.example.com").unwrap(),
        }
    }

    fn open_item(index: u64) -> Change {
        let item = Open {
            key: Sha256::of(b"key").to_string().parse().unwrap(),
            payload: Sha256::of(&index.to_be_bytes()),
            payload_sha384: None,
            repository: Repository::parse(&format!("r.example/team/app{index}")).unwrap(),
            role: Purpose::Targets,
            version: Some(1),
            failed: None,
        };
        Change::Opened { index, item }
    }

    fn reserved(state: &mut State, changes: Vec<Change>) -> Reserve {
        let mut draft = Draft::new(state, now());
        changes.into_iter().for_each(|c| draft.change(c).unwrap());
        draft.close().unwrap()
    }

    fn write(journal: &mut Journal, state: &mut State, changes: Vec<Change>) {
        let reserve = reserved(state, changes);
        journal.reserve(&reserve, state).unwrap();
    }

    fn filled(folder: &Path) -> State {
        let mut journal = Journal::create(folder, owner(), now()).unwrap();
        let mut state = State::new(now());
        for index in 0..20 {
            write(&mut journal, &mut state, vec![open_item(index), Change::Spent { index: 100 + index }]);
        }
        write(&mut journal, &mut state, vec![Change::Settled { index: 3, signed: true }]);
        write(&mut journal, &mut state, vec![Change::Failed { index: 4, code: crate::code("token-busy") }]);
        state
    }

    fn why(error: Fatal) -> String {
        assert_eq!(error.code(), 78, "{error}");
        error.to_string()
    }

    #[test]
    fn what_was_reserved_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let state = filled(folder.path());
        let (_, replayed) = Journal::open(folder.path(), owner()).unwrap();
        assert_eq!(replayed, state);
        assert!(
            replayed
                .chain
                .link(&Repository::parse("r.example/team/app3").unwrap(), Purpose::Targets)
                .unwrap()
                .confirmed
        );
    }

    #[test]
    fn compaction_keeps_every_number() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = filled(folder.path());
        let (mut journal, _) = Journal::open(folder.path(), owner()).unwrap();
        assert!(journal.compacted_len < journal.file.len());
        journal.compact_after = 1;
        write(&mut journal, &mut state, vec![open_item(50)]);
        assert_eq!(journal.compacted_len, journal.file.len());
        write(&mut journal, &mut state, vec![open_item(51)]);
        drop(journal);
        let (journal, replayed) = Journal::open(folder.path(), owner()).unwrap();
        assert_eq!((replayed, journal.generation()), (state, 24));
    }

    const COMPACTION: &str = "sign::journal::tests::operation_a_reservation_with_a_compaction";

    #[test]
    #[ignore = "an operation, which the next test has disturbed in a process of its own"]
    fn operation_a_reservation_with_a_compaction() {
        let Some(folder) = steps::folder() else { return };
        let done = Journal::open(&folder, owner()).and_then(|(mut journal, mut state)| {
            journal.compact_after = 1;
            let reserve = reserved(&mut state, vec![open_item(50)]);
            journal.reserve(&reserve, &state).map(drop)
        });
        steps::say(done);
    }

    #[test]
    fn a_compaction_that_dies_or_fails_at_any_of_its_calls_loses_nothing_and_ends_with_74() {
        let before = tempfile::tempdir().unwrap();
        let old = filled(before.path());
        let mut new = old.clone();
        reserved(&mut new, vec![open_item(50)]);
        let files = ["journal", "journal.new"];
        let Some(calls) = steps::recorded(COMPACTION, before.path(), &files) else { return };
        let start = [
            "openat .",
            "openat journal",
            "ftruncate journal",
            "pwrite64 journal",
            "fsync journal",
            "openat .",
            "fsync .",
        ];
        let reservation = ["pwrite64 journal", "fdatasync journal"];
        // The new file is whole on the disk before it has the name, and the name before anybody is told.
        let compaction = [
            "unlink journal.new",
            "openat journal.new",
            "write journal.new",
            "fsync journal.new",
            "rename journal.new",
            "openat .",
            "fsync .",
        ];
        assert_eq!(calls, [&start[..], &reservation, &compaction].concat());
        steps::disturbed(COMPACTION, before.path(), &files, |left, step| {
            let (mut journal, mut state) =
                Journal::open(left, owner()).unwrap_or_else(|e| panic!("{step}: {e}"));
            let whole = [(&old, 22), (&new, 23)].contains(&(&state, journal.generation()));
            assert!(whole, "{step}: {state:?}");
            // It grows and is compacted as if nothing had been.
            write(&mut journal, &mut state, vec![open_item(51)]);
            journal.compact_after = 1;
            write(&mut journal, &mut state, vec![open_item(52)]);
            drop(journal);
            assert_eq!(Journal::open(left, owner()).unwrap().1, state, "{step}");
            assert_eq!(std::fs::read_dir(left).unwrap().count(), 1, "{step}: only the journal is left");
        });
    }

    #[test]
    fn a_journal_that_lost_a_record_it_told_of_is_refused_and_one_that_lost_a_torn_record_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = filled(folder.path());
        let path = path_in(folder.path());
        let (mut journal, _) = Journal::open(folder.path(), owner()).unwrap();
        let told = journal.generation();
        let before = journal.file.len();
        write(&mut journal, &mut state, vec![open_item(60)]);
        drop(journal);
        // Nobody was told of the last record: its sync did not come back.
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let (journal, _) = Journal::open(folder.path(), owner()).unwrap();
        assert_eq!(journal.generation(), told);
        assert!(journal.older_than(told).is_none() && journal.older_than(0).is_none());
        drop(journal);
        std::fs::write(&path, &whole[..before as usize - 1]).unwrap();
        let (journal, _) = Journal::open(folder.path(), owner()).unwrap();
        assert!(why(journal.older_than(told).unwrap()).contains("journal"));
    }

    #[test]
    fn a_fork_is_remembered_until_an_operator_clears_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(folder.path(), owner(), now()).unwrap();
        journal.fork(State::new(now()).seen, "note").unwrap();
        drop(journal);
        let (mut journal, state) = Journal::open(folder.path(), owner()).unwrap();
        assert!(state.forked);
        journal.clear_fork(now()).unwrap();
        drop(journal);
        assert!(!Journal::open(folder.path(), owner()).unwrap().1.forked);
    }

    #[test]
    fn a_missing_empty_truncated_foreign_or_existing_journal_ends_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_in(folder.path());
        let open = || why(Journal::open(folder.path(), owner()).unwrap_err());
        assert!(open().contains("journal"), "missing");
        filled(folder.path());
        assert!(why(Journal::create(folder.path(), owner(), now()).unwrap_err()).contains("journal"));
        let other = Owner { keeper: KeeperName::parse("other").unwrap(), ..owner() };
        assert!(why(Journal::open(folder.path(), other).unwrap_err()).contains("keeper signing"));
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 5, 12, 40] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(open().contains("journal"), "cut at {cut}");
        }
        assert!(why(Journal::open(&folder.path().join("none"), owner()).unwrap_err()).contains("none"));
    }

    #[test]
    fn a_flipped_bit_before_the_last_record_ends_the_start() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        let path = path_in(folder.path());
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len() - 400).step_by(97) {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            std::fs::write(&path, bytes).unwrap();
            why(Journal::open(folder.path(), owner()).unwrap_err());
        }
    }

    #[test]
    fn a_record_that_uses_an_index_twice_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        let (mut journal, state) = Journal::open(folder.path(), owner()).unwrap();
        let twice = Reserve { clock: now(), changes: vec![open_item(5)] };
        journal.reserve(&twice, &state).unwrap();
        drop(journal);
        assert!(why(Journal::open(folder.path(), owner()).unwrap_err()).contains("index 5 was used before"));
    }

    #[test]
    fn two_keepers_never_share_a_journal() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Journal::create(folder.path(), owner(), now()).unwrap();
        assert_eq!(Journal::open(folder.path(), owner()).unwrap_err().code(), 75);
    }

    #[test]
    fn a_roster_is_kept_over_compaction_and_only_the_next_one_follows() {
        let rosters = [
            include_str!("../../../people/tests/golden/roster-1.json"),
            include_str!("../../../people/tests/golden/roster-2.json"),
        ];
        let taken = |number: usize| Change::Roster { signed: Blob(rosters[number].as_bytes().to_vec()) };
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(folder.path(), owner(), now()).unwrap();
        let mut state = State::new(now());
        let out_of_order = Reserve { clock: now(), changes: vec![taken(1)] };
        assert!(state.clone().replay(&out_of_order).is_err(), "not without the first");
        write(&mut journal, &mut state, vec![taken(0)]);
        write(&mut journal, &mut state, vec![taken(1)]);
        for number in [0, 1] {
            let again = Reserve { clock: now(), changes: vec![taken(number)] };
            assert!(state.clone().replay(&again).is_err(), "version {} again", number + 1);
        }
        drop(journal);
        let (mut journal, replayed) = Journal::open(folder.path(), owner()).unwrap();
        assert_eq!(replayed, state);
        journal.compact_after = 1;
        write(&mut journal, &mut state, vec![open_item(1)]);
        drop(journal);
        let (_, compacted) = Journal::open(folder.path(), owner()).unwrap();
        assert_eq!(compacted, state);
        assert_eq!(compacted.roster.unwrap().roster.version(), 2);
    }

    #[test]
    fn a_large_state_is_split_into_parts() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::new(now());
        state.used = (1..10_000).map(|i| (i, now())).collect();
        let mut journal = Journal::create(folder.path(), owner(), now()).unwrap();
        journal.compact(&state).unwrap();
        drop(journal);
        assert_eq!(parts(&state).len(), 3);
        assert_eq!(Journal::open(folder.path(), owner()).unwrap().1, state);
    }
}
