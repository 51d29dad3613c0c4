//! The client against witnesses that follow a script, on a log that stands in a real database.

use super::{
    Publication,
    witness::{Fault, Question, Witness},
};
use crate::{
    audit::{Log, Noted, Parts, Refill, Sequencer},
    config::{MirrorConfig, MirrorPlace},
    generations::Generations,
    health::Health,
    store::{NewLeaf, Store},
};
use ed25519_dalek::{Signer, SigningKey};
use record::{Event, Leaf, Nonce, Origin, Sha256, SystemClock};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};
use tlog::{
    AddCheckpoint, Checkpoint, CosignerKey, Hash, Note, NoteSignature, VerifierKey, WitnessPolicy,
    cosignature_line, cosigned_message, encode_cosignatures, encode_size, signed_note,
};

const ORIGIN: &str = "log.example.com";
/// Within this a task must have ended that nothing holds up.
const SOON: Duration = Duration::from_secs(5);
/// For one answer in these tests.
const DEADLINE: Duration = Duration::from_millis(500);

/// A log of some leaves, none of which a keeper has.
struct World {
    log: Log,
    sequencer: Sequencer,
    health: Arc<Health>,
    key: SigningKey,
    _dir: tempfile::TempDir,
}

impl World {
    async fn of(leaves: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = Store::path_in(dir.path());
        let key = SigningKey::from_bytes(&[1; 32]);
        let vkey = vkey(&key);
        Store::create(&path, ORIGIN, &vkey.to_string()).await.unwrap();
        let (store, mut writer) = Store::open(&path).await.unwrap();
        let leaf = |n: u64| {
            let nonce: Nonce = format!("{n:032x}").parse().unwrap();
            let leaf = Leaf::Event(Event::Stopped {
                time: record::Time::from_unix_ms(1_790_000_000_000).unwrap(),
                nonce,
            });
            NewLeaf { bytes: leaf.encode().unwrap(), leaf, payload: None }
        };
        writer.commit(1, &(0..leaves).map(leaf).collect::<Vec<_>>(), &[]).await.unwrap();
        let health = Arc::new(Health::new(Arc::new(SystemClock), None));
        let parts = Parts {
            writer,
            socket: "nowhere".into(),
            vkey,
            refill: Refill::UpTo(0),
            clock: Arc::new(SystemClock),
            generations: Arc::new(Generations::new(Default::default())),
            link: None,
        };
        let origin = Origin::parse(ORIGIN).unwrap();
        let (log, sequencer) = Log::new(parts, origin, store, health.clone());
        let world = Self { log, sequencer, health, key, _dir: dir };
        world.sequencer.show(world.noted(leaves).await);
        world
    }

    fn vkey(&self) -> VerifierKey {
        vkey(&self.key)
    }

    async fn noted(&self, size: u64) -> Noted {
        Noted { size, root: tlog::empty_root(), note: self.note(size).await.to_string().into() }
    }

    /// The checkpoint of the first `size` leaves.
    async fn note(&self, size: u64) -> Note {
        note(&self.key, size, self.log.root_at(size).await.unwrap())
    }

    /// Has a witness cosign the first `size` leaves: how many signatures, or the code of the fault.
    async fn ask(&self, witness: &mut Witness, size: u64) -> Result<NoteSignature, Fault> {
        let (note, key) = (self.note(size).await, self.vkey());
        witness.cosign(&Question { note: &note, size, key: &key, log: &self.log }).await
    }
}

fn vkey(key: &SigningKey) -> VerifierKey {
    VerifierKey::new_ed25519(ORIGIN, key.verifying_key().to_bytes()).unwrap()
}

/// A checkpoint of the log by some key of its name.
fn note(key: &SigningKey, size: u64, root: Hash) -> Note {
    let text = Checkpoint { origin: ORIGIN.into(), size, root }.text();
    Note::parse(&signed_note(&text, &vkey(key), &key.sign(text.as_bytes()).to_bytes()).unwrap()).unwrap()
}

/// What a scripted witness does with a request: the head's first line, and the body.
type Script = dyn FnMut(&str, &str) -> Reply + Send;

enum Reply {
    /// Status, content type, body.
    Answer(u16, &'static str, String),
    /// A status with another place to ask.
    Redirect(String),
    /// A body without an end.
    Endless,
    /// Nothing, ever.
    Silence,
}

/// Serves a script on a port of this host until the test ends; gives the URL.
fn serve(mut script: Box<Script>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (line, body) = read_request(&mut stream);
            // A client that has heard enough hangs up.
            let _gone = match script(&line, &body) {
                Reply::Answer(status, kind, body) => write!(
                    stream,
                    "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                ),
                Reply::Redirect(to) => write!(
                    stream,
                    "HTTP/1.1 307 X\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                ),
                Reply::Endless => {
                    write!(stream, "HTTP/1.1 200 X\r\nconnection: close\r\n\r\n").and_then(|()| {
                        loop {
                            stream.write_all(&[b'x'; 4096])?;
                        }
                    })
                }
                Reply::Silence => {
                    silent.push(stream);
                    Ok(())
                }
            };
        }
    });
    url
}

fn read_request(stream: &mut TcpStream) -> (String, String) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap_or("0");
            if body.len() >= length.parse::<usize>().unwrap() {
                return (head.lines().next().unwrap_or_default().to_owned(), body.to_owned());
            }
        }
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "a request cut short");
        bytes.extend_from_slice(&buffer[..n]);
    }
}

/// The key of a witness, and what it does when it follows the rule.
struct Honest {
    key: SigningKey,
    seen: Option<Checkpoint>,
    asked: u32,
}

impl Honest {
    fn new() -> Self {
        Self { key: SigningKey::from_bytes(&[7; 32]), seen: None, asked: 0 }
    }

    fn cosigner(&self) -> CosignerKey {
        CosignerKey::new_ed25519("w.example", self.key.verifying_key().to_bytes()).unwrap()
    }

    /// Its cosignature over a text.
    fn line(&self, text: &str) -> NoteSignature {
        let signature = self.key.sign(cosigned_message(1_790_000_000, text).as_bytes()).to_bytes();
        cosignature_line(text, &self.cosigner(), 1_790_000_000, &signature).unwrap()
    }

    fn answer(&mut self, body: &str) -> Reply {
        self.asked += 1;
        let request = AddCheckpoint::parse(body).unwrap();
        match request.judge(&vkey(&SigningKey::from_bytes(&[1; 32])), self.seen.as_ref()) {
            Ok(checkpoint) => {
                self.seen = Some(checkpoint);
                Reply::Answer(200, "text/plain", encode_cosignatures(&[self.line(request.checkpoint.text())]))
            }
            Err(tlog::WitnessRefusal::Conflict { seen, .. }) => {
                Reply::Answer(409, "text/x.tlog.size", encode_size(seen))
            }
            Err(refusal) => Reply::Answer(refusal.status(), "text/plain", refusal.to_string()),
        }
    }
}

/// A client of the witness at this URL, which has the honest one's key.
fn client(url: &str) -> Witness {
    let policy = format!("witness w {} {url}\nquorum w\n", Honest::new().cosigner());
    let policy = WitnessPolicy::parse(&policy).unwrap();
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    Witness::new(&policy.witnesses()[0], url, builder.build().unwrap(), DEADLINE).unwrap()
}

/// A witness that answers every `add-checkpoint` with this, and shows no checkpoint.
fn always(status: u16, kind: &'static str, body: impl Into<String>) -> Witness {
    let body = body.into();
    client(&serve(Box::new(move |line, _| match line.starts_with("POST /add-checkpoint ") {
        true => Reply::Answer(status, kind, body.clone()),
        false => Reply::Answer(404, "text/plain", String::new()),
    })))
}

#[tokio::test]
async fn a_witness_cosigns_growth_and_is_asked_from_where_it_says_it_stands() {
    let world = World::of(300).await;
    let honest = Arc::new(Mutex::new(Honest::new()));
    let script = honest.clone();
    let url = serve(Box::new(move |_, body| script.lock().unwrap().answer(body)));
    let mut witness = client(&url);
    for size in [0, 1, 7, 7, 256, 257, 300] {
        let line = world.ask(&mut witness, size).await.unwrap();
        let note = world.note(size).await;
        assert_eq!(line, honest.lock().unwrap().line(note.text()));
    }
    assert_eq!(honest.lock().unwrap().asked, 7, "one question each");
    let mut forgetful = client(&url);
    world.ask(&mut forgetful, 300).await.unwrap();
    assert_eq!(honest.lock().unwrap().asked, 9, "a second one from where it stands");
}

#[tokio::test]
async fn whatever_is_no_cosignature_is_a_fault_with_its_own_word_and_never_a_signature() {
    let world = World::of(20).await;
    let text = world.note(20).await.text().to_owned();
    let lie = {
        let mut line = Honest::new().line(&text);
        line.sig[20] ^= 1;
        encode_cosignatures(&[line])
    };
    let strangers = {
        let stranger = Honest { key: SigningKey::from_bytes(&[9; 32]), ..Honest::new() };
        encode_cosignatures(&[stranger.line(&text)])
    };
    let other_text = encode_cosignatures(&[Honest::new().line(world.note(19).await.text())]);
    let elsewhere = serve(Box::new(|_, _| panic!("a redirect was followed")));
    let scripted = |reply: fn() -> Reply| client(&serve(Box::new(move |_, _| reply())));
    let mut turn = 0;
    let turning = client(&serve(Box::new(move |_, _| {
        turn += 1;
        Reply::Answer(409, "text/x.tlog.size", encode_size(turn))
    })));
    let size = "text/x.tlog.size";
    for (mut witness, code) in [
        (always(200, "text/plain", ""), "bad-cosignature"),
        (always(200, "text/plain", "— w.example AAAA\n"), "bad-cosignature"),
        (always(200, "text/plain", lie), "bad-cosignature"),
        (always(200, "text/plain", strangers), "bad-cosignature"),
        (always(200, "text/plain", other_text), "bad-cosignature"),
        (always(200, "text/plain", "x".repeat(70_000)), "bad-answer"),
        (always(201, "text/plain", ""), "status"),
        (always(400, "text/plain", ""), "status"),
        (always(403, "text/plain", ""), "unknown-key"),
        (always(404, "text/plain", ""), "unknown-log"),
        (always(500, "text/plain", ""), "status"),
        (always(409, size, "007\n"), "bad-answer"),
        (always(409, size, "7"), "bad-answer"),
        (always(409, size, "9".repeat(99)), "bad-answer"),
        (always(409, size, "21\n"), "claim"),
        (always(409, size, "0\n"), "claim"),
        (always(409, "text/plain", "7\n"), "claim"),
        (always(422, "text/plain", ""), "claim"),
        (scripted(|| Reply::Endless), "bad-answer"),
        (scripted(|| Reply::Silence), "slow"),
        (client("http://127.0.0.1:1"), "unreachable"),
        (client(&serve(Box::new(move |_, _| Reply::Redirect(elsewhere.clone())))), "status"),
        (turning, "bad-answer"),
    ] {
        let fault = world.ask(&mut witness, 20).await.unwrap_err();
        assert_eq!(fault.code(), code, "{fault}");
    }
    assert_eq!(world.health.sealed(), None);
}

/// A witness that disputes every question, and shows this note.
fn disputing(claims: u64, shown: &Note) -> Witness {
    let (shown, path) = (shown.to_string(), format!("GET /{}/checkpoint ", Sha256::of(ORIGIN.as_bytes())));
    client(&serve(Box::new(move |line, _| match line.starts_with(&path) {
        true => Reply::Answer(200, "text/plain", shown.clone()),
        false => Reply::Answer(409, "text/x.tlog.size", encode_size(claims)),
    })))
}

#[tokio::test]
async fn only_a_checkpoint_of_our_own_key_that_is_larger_or_another_is_a_fork() {
    let world = World::of(20).await;
    let (ours, strange) = (&world.key, SigningKey::from_bytes(&[9; 32]));
    let (root, other) = (world.log.root_at(20).await.unwrap(), tlog::leaf_hash(b"other"));
    for (note, claims, code) in [
        (note(ours, 21, other), 21, "fork"),
        (note(ours, 20, other), 21, "fork"),
        (note(ours, 12, other), 12, "fork"),
        (note(&strange, 21, other), 21, "claim"),
        // Somebody has shown it a newer note of ours, which is not published yet.
        (note(ours, 20, root), 21, "ahead"),
        (note(ours, 20, root), 20, "ahead"),
        (world.note(12).await, 21, "claim"),
    ] {
        let fault = world.ask(&mut disputing(claims, &note), 12).await.unwrap_err();
        assert_eq!(fault.code(), code, "{fault}");
        if code == "fork" {
            let says = fault.to_string();
            assert!(says.contains("20 entries") && says.contains(&other.to_base64()), "{says}");
        }
    }
}

#[tokio::test]
async fn what_is_published_changes_at_most_once_a_second_and_a_reader_finds_what_it_was_told_of() {
    let world = World::of(20).await;
    let (publication, published) =
        Publication::new(&world.log, world.vkey(), None, world.health.clone(), Arc::new(SystemClock));
    tokio::spawn(publication.run());
    assert_eq!(published.covering(20).await.unwrap().size, 20);
    let mut changes = published.watch();
    let begun = std::time::Instant::now();
    changes.mark_unchanged();
    for size in [17, 18, 19] {
        world.sequencer.show(world.noted(size).await);
        tokio::task::yield_now().await;
    }
    assert_eq!(published.newest().unwrap().size, 20, "not within the same second");
    world.sequencer.show(world.noted(20).await);
    let mut later = world.noted(20).await;
    later.size = 21;
    later.note = format!("{}— x AAAAAAAA\n", later.note).into();
    world.sequencer.show(later);
    assert_eq!(published.covering(21).await.unwrap().size, 21);
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
    changes.changed().await.unwrap();
    assert_eq!(changes.borrow_and_update().as_ref().unwrap().size, 21, "none in between");
    assert!(!changes.has_changed().unwrap());
}

#[tokio::test]
async fn after_a_seal_nothing_is_published_and_no_mirror_is_tried_any_more() {
    let world = World::of(20).await;
    let (publication, published) =
        Publication::new(&world.log, world.vkey(), None, world.health.clone(), Arc::new(SystemClock));
    let noted = tokio::sync::watch::Sender::new(Some(world.noted(20).await));
    let gone = MirrorConfig {
        to: MirrorPlace::Folder("/nowhere".into()),
        entries: false,
        every: Duration::from_secs(1),
    };
    let mut mirrors =
        crate::mirror::start(&[gone], &world.vkey(), &world.log, &noted.subscribe(), &world.health);
    world.health.seal("the disk");
    let ended = async { tokio::join!(publication.run(), mirrors.join_next()) };
    tokio::time::timeout(SOON, ended).await.expect("both end");
    assert!(published.newest().is_none());
}
