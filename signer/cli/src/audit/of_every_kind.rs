//! Completions of every kind of key, as auditors meet them: in both verifiers, and in evidence.

use super::evidence::{self, Wanted};
use super::synthetic::{Log, intent, time};
use super::{LogSource, verify::verify};
use record::{
    Algorithm, Completion, Event, Intent, KeeperRecord, KeyRecord, Leaf, Nonce, Purpose, Sha256, Spki,
};

/// A completion by a key of each kind over [`PAYLOAD`], made by another program.
const GOLDEN: &str = include_str!("../../../record/tests/golden/completions.jsonl");
const PAYLOAD: &[u8] = br#"{"what":"is signed"}"#;

fn golden() -> Vec<(Algorithm, &'static str, Completion)> {
    let decoded = |leaf: &'static str| match Leaf::decode(leaf.as_bytes()).unwrap() {
        Leaf::Completion(completion) => (completion.spki().algorithm(), leaf, completion),
        other => panic!("{other:?}"),
    };
    let all: Vec<_> = GOLDEN.lines().map(decoded).collect();
    assert_eq!(all.iter().map(|(algorithm, ..)| *algorithm).collect::<Vec<_>>(), Algorithm::ALL);
    all
}

/// What a keeper with these keys presents.
fn presents(keys: impl Iterator<Item = Spki>) -> Leaf {
    let key = |spki| KeyRecord {
        spki,
        purpose: Purpose::Targets,
        repositories: vec!["r.example/".into()],
        evidence: vec![],
    };
    let keeper = KeeperRecord {
        name: "signing".parse().unwrap(),
        charter: Sha256::of(b"another charter"),
        keys: keys.map(key).collect(),
    };
    let nonce = Nonce::parse("000000000000000000000000000000aa").unwrap();
    Leaf::Event(Event::Keeper { time: time(1), nonce, keeper })
}

/// An intent for the golden payload by a key of this kind.
fn intent_of(n: u64, algorithm: Algorithm, spki: &Spki) -> Intent {
    let Leaf::Intent(mut intent) = intent(n, n) else { panic!("no intent") };
    intent.key = spki.id();
    intent.name_payload(algorithm, PAYLOAD).unwrap();
    intent
}

/// A log of an intent and a completion of each kind; the first intent is entry 2, the first completion 3.
fn log_of(completions: impl Fn(Algorithm, &str) -> String) -> Log {
    let mut log = Log::new();
    log.push(presents(golden().into_iter().map(|(.., completion)| completion.spki().clone())));
    for (algorithm, leaf, completion) in golden() {
        log.push(Leaf::Intent(intent_of(log.size(), algorithm, completion.spki())));
        log.push_bytes(completions(algorithm, leaf).into_bytes());
    }
    log
}

/// How many signatures and findings both verifiers count.
fn counted(log: &Log) -> (u64, u64) {
    let published = log.published(log.size());
    let ours = verify(&published.source(), &log.trust(), None, &[]).unwrap();
    let LogSource::Dir(dir) = published.source() else { panic!() };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/verifier/verify_log.py");
    let python =
        std::process::Command::new("python3").arg(script).arg(dir).arg(log.vkey().to_string()).output();
    if let Ok(said) = python {
        let theirs: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
        let theirs = (theirs["signed"].as_u64().unwrap(), theirs["findings_total"].as_u64().unwrap());
        assert_eq!(
            theirs,
            (ours.counts.signed, ours.findings_total),
            "{}",
            String::from_utf8_lossy(&said.stdout)
        );
    } else {
        eprintln!("SKIPPED: python3 is not installed");
    }
    (ours.counts.signed, ours.findings_total)
}

#[test]
fn completions_of_every_kind_end_their_intents_and_verify_for_both_verifiers() {
    assert_eq!(counted(&log_of(|_, leaf| leaf.to_owned())), (6, 0));
}

#[test]
fn both_verifiers_find_an_altered_signature_of_every_kind() {
    let all = golden();
    let altered = |algorithm: Algorithm, leaf: &str| {
        let base64 = |bytes: &[u8]| serde_json::to_string(&record::wire::Blob(bytes.to_vec())).unwrap();
        let place = all.iter().position(|(of, ..)| *of == algorithm).unwrap();
        let signature = all[place].2.signature().to_der();
        let mut other = signature.clone();
        // The last bits of s, of the message's own length, or of the padding's hash.
        *other.last_mut().unwrap() ^= 1;
        leaf.replace(&base64(&signature), &base64(&other))
    };
    assert_eq!(counted(&log_of(altered)), (6, 6));
}

#[test]
fn both_verifiers_find_a_completion_whose_intent_names_the_payload_in_another_hash() {
    for (algorithm, wrong) in
        [(Algorithm::EcdsaP384, Algorithm::EcdsaP256), (Algorithm::EcdsaP256, Algorithm::EcdsaP384)]
    {
        let (_, leaf, completion) = golden().into_iter().find(|(of, ..)| *of == algorithm).unwrap();
        let mut log = Log::new();
        log.push(presents(std::iter::once(completion.spki().clone())));
        log.push(Leaf::Intent(intent_of(2, wrong, completion.spki())));
        log.push_bytes(leaf.as_bytes().to_vec());
        assert_eq!(counted(&log), (0, 1), "{algorithm}");
    }
}

#[test]
fn evidence_of_a_signature_of_every_kind_proves_it_to_who_has_the_logs_key_alone() {
    let log = log_of(|_, leaf| leaf.to_owned());
    let published = log.published(log.size());
    for (n, (algorithm, _, completion)) in (0..).zip(golden()) {
        let wanted = Wanted::Index(2 + 2 * n);
        let file =
            evidence::collect(&published.source(), &log.trust(), &wanted).unwrap().evidence.encode().unwrap();
        let about = evidence::verify(&file, &log.trust()).unwrap().about;
        let shown = about.signature.unwrap();
        assert_eq!(
            (shown.payload, shown.public_key),
            (Sha256::of(PAYLOAD), completion.spki().clone()),
            "{algorithm}"
        );
        assert_eq!(&shown.signature, completion.signature());
    }
}
