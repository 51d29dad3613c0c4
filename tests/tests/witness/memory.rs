//! A witness alone: what it answers, and that it never forgets or contradicts what it has cosigned.

use ed25519_dalek::{Signer, SigningKey};
use std::{fs, thread, time::Duration};
use tests::{Output, OwnWitness, exchange};
use tlog::{
    AddCheckpoint, Checkpoint, Frontier, Hash, Note, TileId, Tiles, VerifierKey, accepted_cosignatures,
    consistency_proof, decode_size, leaf_hash, signed_note,
};

const ORIGIN: &str = "log.example.com";

/// A log of at most 256 leaves, which may have been another one before.
#[derive(Clone, Default)]
struct Tree(Vec<Hash>);

impl Tree {
    /// This log with one more entry.
    fn with(&self, entry: &str) -> Self {
        let mut leaves = self.0.clone();
        leaves.push(leaf_hash(entry.as_bytes()));
        Self(leaves)
    }

    fn of(size: usize) -> Self {
        (0..size).fold(Self::default(), |tree, n| tree.with(&n.to_string()))
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn checkpoint(&self) -> Checkpoint {
        let mut frontier = Frontier::default();
        self.0.iter().for_each(|leaf| frontier.append(*leaf));
        Checkpoint { origin: ORIGIN.into(), size: self.size(), root: frontier.root() }
    }

    fn note(&self) -> Note {
        let text = self.checkpoint().text();
        let signature = key().sign(text.as_bytes()).to_bytes();
        Note::parse(&signed_note(&text, &vkey(), &signature).unwrap()).unwrap()
    }

    /// What an honest log asks a witness that stands at `old`.
    fn request(&self, old: u64) -> AddCheckpoint {
        let mut tiles = Tiles::new();
        tiles.insert(TileId { level: 0, index: 0 }, self.0.clone());
        let proof = match old {
            0 => vec![],
            old => consistency_proof(old, self.size(), &tiles).unwrap(),
        };
        AddCheckpoint { old, proof, checkpoint: self.note() }
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn vkey() -> VerifierKey {
    VerifierKey::new_ed25519(ORIGIN, key().verifying_key().to_bytes()).unwrap()
}

fn witness(folder: &tempfile::TempDir) -> OwnWitness {
    OwnWitness::init(folder.path(), "w", &vkey().to_string())
}

fn ask(witness: &OwnWitness, request: &str) -> (u16, String) {
    exchange(witness.port(), "POST", "/add-checkpoint", request).unwrap()
}

#[test]
fn each_request_has_the_answer_of_the_specification() {
    let folder = tempfile::tempdir().unwrap();
    let mut witness = witness(&folder);
    witness.start();
    assert_eq!(witness.seen(), None);
    let ok = |tree: &Tree, old| {
        let request = tree.request(old);
        let (status, body) = ask(&witness, &request.to_string());
        assert_eq!(status, 200, "{body}");
        accepted_cosignatures(&request.checkpoint, &witness.vkey().parse().unwrap(), &body).unwrap();
        assert_eq!(witness.seen(), Some(tree.checkpoint()));
    };
    ok(&Tree::of(3), 0);
    ok(&Tree::of(3), 3);
    ok(&Tree::of(9), 3);
    let nine = Tree::of(9);
    let (status, body) = ask(&witness, &Tree::of(12).request(3).to_string());
    assert_eq!((status, decode_size(&body)), (409, Ok(9)));
    let unsigned = Tree::of(12).request(9).to_string().replace(ORIGIN, "log.other.example");
    let altered = {
        let mut request = Tree::of(12).request(9);
        request.proof[0] = leaf_hash(b"x");
        request
    };
    let fork = Tree::of(8).with("other");
    let stolen = {
        let other =
            VerifierKey::new_ed25519(ORIGIN, SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes());
        let text = Tree::of(12).checkpoint().text();
        let signature = SigningKey::from_bytes(&[2; 32]).sign(text.as_bytes()).to_bytes();
        let checkpoint = Note::parse(&signed_note(&text, &other.unwrap(), &signature).unwrap()).unwrap();
        AddCheckpoint { checkpoint, ..Tree::of(12).request(9) }
    };
    for (request, expected) in [
        (unsigned, 404),
        (stolen.to_string(), 403),
        (altered.to_string(), 422),
        (AddCheckpoint { old: 9, proof: vec![], checkpoint: fork.note() }.to_string(), 422),
        (AddCheckpoint { old: 12, proof: vec![], checkpoint: nine.note() }.to_string(), 400),
        ("old 09\n\n".into(), 400),
        ("\u{0}".into(), 400),
        ("x".repeat(100_000), 413),
    ] {
        let (status, body) = ask(&witness, &request);
        assert_eq!(status, expected, "{body}: {:.200}", request);
    }
    for (method, path, expected) in [
        ("GET", "/add-checkpoint".to_owned(), 405),
        ("GET", "/".into(), 404),
        ("GET", format!("/{}/checkpoint", "0".repeat(64)), 404),
        ("PUT", format!("/{}/checkpoint", "0".repeat(64)), 405),
    ] {
        assert_eq!(exchange(witness.port(), method, &path, "").unwrap().0, expected, "{method} {path}");
    }
    assert_eq!(witness.seen(), Some(nine.checkpoint()), "nothing of that was taken");
    assert_eq!(witness.stop(), Some(0));
    witness.start();
    assert_eq!(witness.seen(), Some(nine.checkpoint()));
}

#[test]
fn killed_at_any_moment_it_keeps_what_it_cosigned_and_never_cosigns_a_second_history() {
    const ROUNDS: u64 = 60;
    let folder = tempfile::tempdir().unwrap();
    let mut witness = witness(&folder);
    let mut tree = Tree::default();
    let (mut answered, mut kept_unanswered) = (0, 0);
    for round in 0..ROUNDS {
        witness.start();
        let seen = witness.seen();
        assert_eq!(
            seen,
            (tree.size() > 0).then(|| tree.checkpoint()),
            "round {round}: it has forgotten, or made up"
        );
        // Two histories at once, of which one at most may be cosigned.
        let branches = ["a", "b"].map(|name| tree.with(&format!("{round}{name}")));
        let asked = branches.clone().map(|branch| {
            let (port, request) = (witness.port(), branch.request(tree.size()));
            thread::spawn(move || {
                let answer = exchange(port, "POST", "/add-checkpoint", &request.to_string());
                answer.ok().filter(|(status, _)| *status == 200).map(|(_, body)| (request.checkpoint, body))
            })
        });
        // Spread over the time that an answer takes: before, within and after the write.
        thread::sleep(Duration::from_micros(round * 37 % 60 * 100));
        witness.kill();
        let own = witness.vkey().parse().unwrap();
        let cosigned: Vec<Note> = asked
            .into_iter()
            .filter_map(|asked| asked.join().unwrap())
            .inspect(|(note, body)| drop(accepted_cosignatures(note, &own, body).unwrap()))
            .map(|(note, _)| note)
            .collect();
        assert!(cosigned.len() < 2, "round {round}: two histories were cosigned");
        witness.start();
        let now = witness.seen();
        witness.kill();
        if let Some(note) = cosigned.first() {
            let cosigned = Checkpoint::of_note(note, &vkey()).unwrap();
            assert_eq!(now, Some(cosigned), "round {round}: what it cosigned is not what it knows");
            answered += 1;
        }
        let grown = branches.into_iter().find(|branch| Some(branch.checkpoint()) == now);
        kept_unanswered += u64::from(grown.is_some() && cosigned.is_empty());
        tree = grown.unwrap_or(tree);
    }
    println!(
        "{ROUNDS} kills: {answered} cosigned, {kept_unanswered} kept and not answered, the rest neither"
    );
    assert!(answered > 0 && answered < ROUNDS, "the kills come too early, or too late: {answered}");
}

#[test]
fn a_memory_that_is_missing_cut_off_or_altered_ends_it_and_a_second_process_does_not_begin() {
    let folder = tempfile::tempdir().unwrap();
    let mut witness = witness(&folder);
    witness.start();
    let second = Output::of(&mut witness.command());
    assert_eq!(second.code, 6, "{second:?}");
    assert!(second.stderr.contains("another process works on this folder"), "{second:?}");
    assert_eq!(ask(&witness, &Tree::of(5).request(0).to_string()).0, 200);
    assert_eq!(witness.stop(), Some(0));
    let path = witness.memory();
    let whole = fs::read_to_string(&path).unwrap();
    let refused = |why: &str| {
        let ended = Output::of(&mut witness.command());
        assert_eq!(ended.code, 78, "{why}: {ended:?}");
        assert!(ended.stderr.contains(path.to_str().unwrap()), "{why}: {ended:?}");
    };
    // Cut before each line, and once in the middle of each.
    let cuts = whole.match_indices('\n').flat_map(|(at, _)| [at + 1, at.saturating_sub(7)]);
    for cut in cuts.filter(|cut| *cut < whole.len()) {
        fs::write(&path, &whole[..cut]).unwrap();
        refused(&format!("cut at {cut}"));
    }
    for (from, to) in [("\n5\n", "\n4\n"), ("/v1", "/v2"), (ORIGIN, "log.example.net")] {
        fs::write(&path, whole.replacen(from, to, 1)).unwrap();
        refused(from);
    }
    fs::remove_file(&path).unwrap();
    refused("missing");
    assert!(!path.exists(), "it was begun anew");
    fs::write(&path, whole).unwrap();
    let mut witness = witness;
    witness.start();
    assert_eq!(witness.seen(), Some(Tree::of(5).checkpoint()));

    // A write that fails: nothing is cosigned, it ends, and what was cosigned before is still known.
    let obstacle = path.with_extension("new");
    fs::create_dir(&obstacle).unwrap();
    assert_eq!(ask(&witness, &Tree::of(7).request(5).to_string()).0, 500);
    assert_eq!(witness.ended(), 78);
    fs::remove_dir(&obstacle).unwrap();
    witness.start();
    assert_eq!(witness.seen(), Some(Tree::of(5).checkpoint()));
    assert_eq!(ask(&witness, &Tree::of(7).request(5).to_string()).0, 200);
}
