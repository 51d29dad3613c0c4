//! A mirror in memory whose every call can fail, before it is applied or after.

use super::{
    MirrorError,
    bucket::Bucket,
    follow::{Follower, Source},
    place::Place,
};
use crate::{audit::Noted, store::StoreError};
use ed25519_dalek::{Signer, SigningKey};
use futures_util::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tlog::{Checkpoint, Frontier, Hash, TileId, TilePath, VerifierKey, leaf_hash};

const ORIGIN: &str = "log.chancery.test";

/// A log in memory; `word` makes it one of its own.
struct Log {
    entries: Vec<Vec<u8>>,
    tiles: BTreeMap<TileId, Vec<Hash>>,
    key: SigningKey,
}

impl Log {
    fn of(size: u64, word: &str) -> Self {
        let entries: Vec<_> = (0..size).map(|n| format!("{word} {n}").into_bytes()).collect();
        let (mut frontier, mut tiles) = (Frontier::default(), BTreeMap::<TileId, Vec<Hash>>::new());
        for entry in &entries {
            frontier.append_with(leaf_hash(entry), |tile, _, hash| tiles.entry(tile).or_default().push(hash));
        }
        Self { entries, tiles, key: SigningKey::from_bytes(&[7; 32]) }
    }

    fn vkey(&self) -> VerifierKey {
        VerifierKey::new_ed25519(ORIGIN, self.key.verifying_key().to_bytes()).unwrap()
    }

    fn root(&self, size: u64) -> Hash {
        let mut frontier = Frontier::default();
        self.entries[..size as usize].iter().for_each(|entry| frontier.append(leaf_hash(entry)));
        frontier.root()
    }

    /// The checkpoint of its first `size` leaves.
    fn noted(&self, size: u64) -> Noted {
        let text = Checkpoint { origin: ORIGIN.into(), size, root: self.root(size) }.text();
        let note =
            tlog::signed_note(&text, &self.vkey(), &self.key.sign(text.as_bytes()).to_bytes()).unwrap();
        Noted { size, root: self.root(size), note: note.into() }
    }
}

impl Source for Log {
    fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    async fn root_at(&self, size: u64) -> std::result::Result<Hash, StoreError> {
        Ok(self.root(size))
    }

    async fn file(&self, path: TilePath, _size: u64) -> std::result::Result<Vec<u8>, StoreError> {
        let width = path.width() as usize;
        Ok(match path.tile() {
            Some(id) => tlog::encode_tile(&self.tiles[&id][..width]),
            None => {
                let from = path.index() as usize * 256;
                tlog::encode_bundle(self.entries[from..from + width].iter().map(Vec::as_slice)).unwrap()
            }
        })
    }
}

/// A store whose calls fail from one on.
#[derive(Debug, Default)]
struct Failing {
    inner: InMemory,
    calls: AtomicU64,
    /// The first call that fails, counted from 1; 0 for none.
    fails_at: AtomicU64,
    /// How many fail from there.
    fails: AtomicU64,
    /// Whether they are done all the same.
    is_applied: bool,
}

impl Failing {
    fn fail(&self, at: u64, fails: u64) {
        self.calls.store(0, Ordering::SeqCst);
        self.fails_at.store(at, Ordering::SeqCst);
        self.fails.store(fails, Ordering::SeqCst);
    }

    /// Does a call, fails, or both.
    async fn call<T>(&self, done: impl Future<Output = Result<T>>) -> Result<T> {
        let (call, at) =
            (self.calls.fetch_add(1, Ordering::SeqCst) + 1, self.fails_at.load(Ordering::SeqCst));
        if at == 0 || call < at || call >= at + self.fails.load(Ordering::SeqCst) {
            return done.await;
        }
        if self.is_applied {
            done.await?;
        }
        Err(object_store::Error::Generic { store: "memory", source: "it broke".into() })
    }

    /// Every file, by its path.
    async fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut names = self.inner.list(None);
        while let Some(object) = names.next().await {
            let path = object.unwrap().location;
            let bytes =
                self.inner.get_opts(&path, GetOptions::default()).await.unwrap().bytes().await.unwrap();
            files.insert(path.to_string().strip_prefix("log/").unwrap().to_owned(), bytes.to_vec());
        }
        files
    }

    /// The size at which the mirror verifies, with every entry; none before its first checkpoint.
    async fn verified(&self, log: &Log) -> Option<u64> {
        let files = self.files().await;
        files.get("checkpoint")?;
        // No file is read that was replaced by a wider one: the old checkpoint's are there until the new one is.
        let read = |path: &str| Ok::<_, std::convert::Infallible>(files.get(path).cloned());
        Some(tlog::verify_log(read, &log.vkey(), |_, _| ()).unwrap().entries)
    }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.call(self.inner.put_opts(path, payload, options)).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        panic!("files are small")
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.call(self.inner.get_opts(path, options)).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let removed = self.inner.delete_stream(paths);
        let fails = self.calls.fetch_add(1, Ordering::SeqCst) + 1 == self.fails_at.load(Ordering::SeqCst);
        if !fails {
            return removed;
        }
        let broke = Err(object_store::Error::Generic { store: "memory", source: "it broke".into() });
        futures_util::stream::once(async { broke }).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        panic!("nothing is copied there")
    }
}

/// One mirror of a log, and a task of it that can be started anew.
struct Rig {
    store: Arc<Failing>,
    follower: Follower,
    entries: bool,
}

impl Rig {
    fn new(log: &Log, store: Failing, entries: bool) -> Self {
        Self { store: Arc::new(store), follower: Follower::new(log.vkey(), entries), entries }
    }

    /// As after a restart of the daemon.
    fn restart(&mut self, log: &Log) {
        self.follower = Follower::new(log.vkey(), self.entries);
    }

    async fn round(&mut self, log: &Log, size: u64) -> std::result::Result<(), MirrorError> {
        let (store, entries) = (self.store.clone(), self.entries);
        let open = move || Ok(Place::Bucket(Bucket::over(store, "log", entries)));
        self.follower.round(open, log.noted(size), log).await
    }

    async fn put(&self, path: &str, bytes: &[u8]) {
        let payload = PutPayload::from(bytes.to_vec());
        self.store
            .inner
            .put_opts(&Path::from(format!("log/{path}")), payload, PutOptions::default())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_mirror_verifies_after_each_call_that_fails_and_the_next_round_completes_it() {
    let log = Log::of(600, "entry");
    for (is_applied, restarts) in [(false, false), (false, true), (true, false), (true, true)] {
        for fails in [1, u64::MAX >> 1] {
            for k in 1.. {
                let mut rig = Rig::new(&log, Failing { is_applied, ..Failing::default() }, true);
                rig.round(&log, 250).await.unwrap();
                if restarts {
                    rig.restart(&log);
                }
                rig.store.fail(k, fails);
                let failed = rig.round(&log, 600).await.is_err();
                let size = rig.store.verified(&log).await.unwrap();
                assert!(size == 250 || size == 600, "call {k}: {size}");
                if restarts {
                    rig.restart(&log);
                }
                rig.store.fail(0, 0);
                rig.round(&log, 600).await.unwrap();
                assert_eq!(rig.store.verified(&log).await, Some(600), "call {k}");
                let paths: BTreeSet<_> = rig.store.files().await.into_keys().collect();
                let published = tlog::tile_paths(600).map(|path| path.to_string());
                assert_eq!(paths, published.chain(["checkpoint".into()]).collect(), "call {k}");
                if !failed {
                    assert!(k > 10, "only {k} calls");
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_checkpoint_over_what_this_host_no_longer_holds_is_not_written() {
    let (log, was) = (Log::of(300, "entry"), Log::of(300, "other"));
    let mut rig = Rig::new(&log, Failing::default(), true);
    rig.round(&log, 250).await.unwrap();
    let store = rig.store.clone();
    let open = move || Ok(Place::Bucket(Bucket::over(store, "log", true)));
    let refused = rig.follower.round(open, was.noted(300), &log).await;
    assert!(matches!(refused, Err(MirrorError::Store(StoreError::Contradiction(_)))), "{refused:?}");
    assert_eq!(rig.store.verified(&log).await, Some(250));
}

#[tokio::test]
async fn fresh_cosignatures_of_a_log_at_rest_reach_its_mirror_and_fewer_ones_do_not() {
    let log = Log::of(300, "entry");
    let mut rig = Rig::new(&log, Failing::default(), false);
    let with = |lines: &[&str]| {
        let lines = lines.iter().map(|line| format!("\u{2014} witness.test {line}\n"));
        let noted = log.noted(300);
        Noted { note: format!("{}{}", noted.note, lines.collect::<String>()).into(), ..noted }
    };
    let (first, fresh) = (with(&["AAAAAQAA"]), with(&["AAAAAQAB"]));
    for (target, expected) in [(&first, &first), (&fresh, &fresh), (&with(&[]), &fresh)] {
        let store = rig.store.clone();
        let open = move || Ok(Place::Bucket(Bucket::over(store, "log", false)));
        rig.follower.round(open, target.clone(), &log).await.unwrap();
        assert_eq!(rig.store.files().await["checkpoint"], expected.note.as_bytes());
    }
}

#[tokio::test]
async fn a_mirror_grows_through_every_kind_of_size() {
    let log = Log::of(66_000, "entry");
    let mut rig = Rig::new(&log, Failing::default(), true);
    for size in [1, 2, 255, 256, 257, 511, 513, 65_535, 65_536, 65_537, 66_000] {
        rig.round(&log, size).await.unwrap();
        assert_eq!(rig.store.verified(&log).await, Some(size));
        let partial = |path: &String| path.contains(".p/");
        let partials: Vec<_> = rig.store.files().await.into_keys().filter(partial).collect();
        let full =
            |path: &String| size / 256 > TilePath::parse(path).unwrap().index() && path.contains("/0/");
        assert!(!partials.iter().any(full), "{size}: {partials:?}");
    }
}

#[tokio::test]
async fn a_mirror_for_everybody_has_no_entries_and_keeps_its_kind() {
    let log = Log::of(300, "entry");
    let mut rig = Rig::new(&log, Failing::default(), false);
    rig.round(&log, 300).await.unwrap();
    let entries =
        |files: BTreeMap<String, Vec<u8>>| files.keys().filter(|path| path.contains("entries")).count();
    let files = rig.store.files().await;
    assert!(files.contains_key("tile/0/000") && files.contains_key("tile/1/000.p/1"), "{:?}", files.keys());
    assert_eq!(entries(files), 0);
    rig.entries = true;
    rig.restart(&log);
    assert!(matches!(rig.round(&log, 300).await, Err(MirrorError::NotOurs(_))));
    let mut rig = Rig::new(&log, Failing::default(), true);
    rig.round(&log, 299).await.unwrap();
    rig.entries = false;
    rig.restart(&log);
    let before = rig.store.files().await;
    assert!(matches!(rig.round(&log, 300).await, Err(MirrorError::NotOurs(_))));
    assert_eq!(rig.store.files().await, before);
}

#[tokio::test]
async fn what_is_no_checkpoint_of_ours_is_never_overwritten() {
    let log = Log::of(300, "entry");
    let stranger = Log { key: SigningKey::from_bytes(&[8; 32]), ..Log::of(3, "entry") };
    let large = vec![b'x'; tlog::MAX_NOTE_LEN + 1];
    let mut rig = Rig::new(&log, Failing::default(), true);
    rig.round(&log, 299).await.unwrap();
    rig.put("checkpoint", b"put there later").await;
    assert!(matches!(rig.round(&log, 300).await, Err(MirrorError::NotOurs(_))));
    assert_eq!(rig.store.files().await["checkpoint"], b"put there later");
    for foreign in [b"".as_slice(), b"\xff", b"hello\n", stranger.noted(3).note.as_bytes(), &large] {
        let mut rig = Rig::new(&log, Failing::default(), true);
        rig.put("checkpoint", foreign).await;
        for _ in 0..2 {
            assert!(matches!(rig.round(&log, 300).await, Err(MirrorError::NotOurs(_))));
        }
        assert_eq!(rig.store.files().await, BTreeMap::from([("checkpoint".to_owned(), foreign.to_vec())]));
    }
}

#[tokio::test]
async fn only_a_checkpoint_under_our_key_that_is_larger_or_another_one_is_a_fork() {
    let (log, other) = (Log::of(300, "entry"), Log::of(300, "other"));
    for (held, is_fork) in
        [(log.noted(300), false), (log.noted(299), false), (other.noted(299), true), (other.noted(300), true)]
    {
        let mut rig = Rig::new(&log, Failing::default(), true);
        rig.put("checkpoint", held.note.as_bytes()).await;
        rig.put("tile/entries/000", b"x").await;
        let judged = rig.round(&log, 300).await;
        assert_eq!(matches!(judged, Err(MirrorError::Fork(_))), is_fork, "{judged:?}");
    }
    let (rolled_back, newer) = (Log::of(299, "entry"), log.noted(300));
    let mut rig = Rig::new(&log, Failing::default(), true);
    rig.put("checkpoint", newer.note.as_bytes()).await;
    let Err(MirrorError::Fork(why)) = rig.round(&rolled_back, 299).await else { panic!("not a fork") };
    assert!(why.contains("300") && why.contains("299") && why.contains("rolled back"), "{why}");
    // What is not yet published is ours all the same.
    let mut rig = Rig::new(&log, Failing::default(), true);
    rig.round(&log, 300).await.unwrap();
    rig.restart(&log);
    rig.round(&log, 200).await.unwrap();
    assert_eq!(rig.store.verified(&log).await, Some(300));
}

#[tokio::test]
async fn a_copy_that_was_cut_off_goes_on_where_it_was_unless_the_place_was_emptied() {
    let log = Log::of(5100, "entry");
    for emptied in [false, true] {
        let mut rig = Rig::new(&log, Failing::default(), true);
        rig.store.fail(30, u64::MAX >> 1);
        assert!(rig.round(&log, 5000).await.is_err());
        rig.store.fail(0, 0);
        if emptied {
            for path in rig.store.files().await.into_keys() {
                let all = futures_util::stream::iter([Ok(Path::from(format!("log/{path}")))]).boxed();
                rig.store.inner.delete_stream(all).for_each(|removed| async { drop(removed.unwrap()) }).await;
            }
        }
        // A newer checkpoint comes after the one that was begun.
        rig.round(&log, 5100).await.unwrap();
        let calls = rig.store.calls.load(Ordering::SeqCst);
        assert_eq!(rig.store.verified(&log).await, Some(5100));
        let files = tlog::tile_paths(5000).count() as u64;
        assert_eq!(calls < files, !emptied, "{calls} calls for {files} files");
    }
}
