//! What a log takes over from the one that it continues: only in its first entries, and each file as its entry names it, signed
//! by its collection's key.

use formats::dct::{RootView, read_adopted};
use record::{Adopted, AdoptedPart, Continues, Event, Genesis, Leaf, Repository};

/// The log that is continued, and the files that are taken over from it.
#[derive(Default)]
pub(super) struct Adoption {
    pub(super) continues: Option<Continues>,
    /// The entry that may take something over; none once that is over.
    next: Option<u64>,
    /// Bytes of the parts since the last whole file, and how many parts they are.
    bytes: Vec<u8>,
    parts: u64,
    /// The collection whose root was taken over last, and its keys: its other files stand directly behind.
    root: Option<(Repository, RootView)>,
}

impl Adoption {
    /// Takes every entry, in order; says what is wrong.
    pub(super) fn entry(&mut self, index: u64, leaf: &Leaf) -> Result<(), String> {
        match leaf {
            Leaf::Event(Event::Adopted(adopted)) => self.file(index, adopted),
            Leaf::Event(Event::AdoptedPart(part)) => self.part(index, part),
            other => {
                let complete = self.no_parts();
                match other {
                    Leaf::Genesis(genesis) => self.genesis(index, genesis),
                    Leaf::Event(Event::AdoptedReservation(_)) => self.here(index)?,
                    _ => {}
                }
                complete
            }
        }
    }

    fn genesis(&mut self, index: u64, genesis: &Genesis) {
        self.continues.clone_from(&genesis.continues);
        self.next = genesis.continues.as_ref().map(|_| index + 1);
    }

    fn part(&mut self, index: u64, part: &AdoptedPart) -> Result<(), String> {
        self.here(index)?;
        self.bytes.extend(&part.content.0);
        self.parts += 1;
        Ok(())
    }

    fn file(&mut self, index: u64, adopted: &Adopted) -> Result<(), String> {
        self.here(index)?;
        let (mut bytes, parts) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.parts));
        bytes.extend(&adopted.content.0);
        if parts != adopted.parts {
            return Err("a file of another number of parts".into());
        }
        let root = self.root.as_ref().filter(|(of, _)| *of == adopted.repository).map(|(_, root)| root);
        let file = read_adopted(adopted, &bytes, root).map_err(|e| e.to_string())?;
        if let Ok(root) = file.root() {
            self.root = Some((adopted.repository.clone(), root));
        }
        Ok(())
    }

    /// Parts stand directly before the file that they are of.
    fn no_parts(&mut self) -> Result<(), String> {
        self.bytes.clear();
        if std::mem::take(&mut self.parts) == 0 {
            return Ok(());
        }
        Err("parts of a file of a former log, and no such file directly behind them".into())
    }

    /// Files are taken over before anything else happens: later, one could stand for a signature that nobody announced.
    fn here(&mut self, index: u64) -> Result<(), String> {
        if self.next != Some(index) {
            let what = "a file of a former log, and not directly behind a genesis entry that continues one";
            return Err(what.into());
        }
        self.next = Some(index + 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::LogSource;
    use crate::audit::synthetic::{Collection, Log, denial, time};
    use crate::audit::verify::verify;
    use record::wire::Blob;
    use record::{AdoptedReservation, Nonce, Purpose, Sha256};
    use serde_json::Value;

    fn former() -> Continues {
        Continues {
            log: "old.example".parse().unwrap(),
            vkey: "old.example+00000000+AA==".into(),
            size: 7,
            root: Sha256::of(b"root"),
            reason: "its key was lost".into(),
            without: vec!["r.example/damaged".parse().unwrap()],
        }
    }

    fn nonce() -> Nonce {
        Nonce::parse(&"b".repeat(32)).unwrap()
    }

    fn leaf(adopted: Adopted) -> Leaf {
        Leaf::Event(Event::Adopted(adopted))
    }

    fn reservation() -> Leaf {
        let (repository, role) = ("r.example/a".parse().unwrap(), Purpose::Timestamp);
        let reservation =
            AdoptedReservation { time: time(1), nonce: nonce(), repository, role, version: 2, root: None };
        Leaf::Event(Event::AdoptedReservation(reservation))
    }

    /// The leaves of a file, cut into three.
    fn cut(mut adopted: Adopted) -> Vec<Leaf> {
        let mut whole = adopted.content.0.split_off(0);
        adopted.content = Blob(whole.split_off(100));
        let second = whole.split_off(10);
        adopted.parts = 2;
        let part = |content| {
            let content = Blob(content);
            Leaf::Event(Event::AdoptedPart(AdoptedPart { time: time(1), nonce: nonce(), content }))
        };
        vec![part(whole), part(second), leaf(adopted)]
    }

    /// What both verifiers say of a log: how many findings, and which log it continues.
    fn judged(log: &Log) -> (u64, Option<String>) {
        let published = log.published(log.size());
        let ours = verify(&published.source(), &log.trust(), None, &[]).unwrap();
        let found = ours.findings;
        let ours = (ours.findings_total, ours.continues.map(|c| c.log.to_string()));
        let LogSource::Dir(dir) = published.source() else { panic!() };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/verifier/verify_log.py");
        let python =
            std::process::Command::new("python3").arg(script).arg(dir).arg(log.vkey().to_string()).output();
        if let Ok(said) = python {
            let said: Value = serde_json::from_slice(&said.stdout).unwrap();
            let log = said["continues"]["log"].as_str().map(str::to_owned);
            let theirs = (said["findings_total"].as_u64().unwrap(), log);
            assert_eq!(theirs, ours, "{said} {found:?}");
        } else {
            eprintln!("SKIPPED: python3 is not installed");
        }
        ours
    }

    /// Of a log with these leaves behind genesis.
    fn findings(leaves: impl IntoIterator<Item = Leaf>) -> u64 {
        let mut log = Log::continuing(former());
        leaves.into_iter().for_each(|leaf| log.push(leaf));
        let (findings, continues) = judged(&log);
        assert_eq!(continues.as_deref(), Some("old.example"));
        findings
    }

    #[test]
    fn both_verifiers_take_files_of_a_former_log_directly_behind_genesis_whole_and_nowhere_else() {
        let a = Collection::new("r.example/a");
        let whole = || [vec![leaf(a.root())], cut(a.targets()), vec![reservation()]].concat();
        let other = || vec![denial(1, "v1")];
        let mut short = whole();
        short.remove(1);
        let mut of_nothing = a.root();
        of_nothing.parts = 1;
        let rows: [(&str, Vec<Leaf>, u64); 8] = [
            ("whole", whole(), 0),
            ("another entry first", [other(), whole()].concat(), 5),
            ("another entry between", [whole(), other(), vec![leaf(a.root()), reservation()]].concat(), 2),
            ("a part too few", short, 1),
            ("a part of nothing", vec![leaf(of_nothing)], 1),
            ("parts without their file", [&cut(a.root())[..2], &other()[..]].concat(), 1),
            ("parts, and no file of theirs", [&cut(a.root())[..2], &[reservation()]].concat(), 1),
            ("another file's parts", [&cut(a.root())[..2], &whole()[..]].concat(), 2),
        ];
        for (row, leaves, expected) in rows {
            assert_eq!(findings(leaves), expected, "{row}");
        }
        let mut first = Log::new();
        first.push(leaf(a.root()));
        assert_eq!(judged(&first), (1, None), "a log that continues none");
    }

    #[test]
    fn both_verifiers_find_a_file_of_a_former_log_that_its_collections_key_has_not_signed() {
        let (a, b) = (Collection::new("r.example/a"), Collection::new("r.example/b"));
        type Forgery = fn(&mut Adopted);
        let forgeries: [(&str, Forgery); 9] = [
            ("another role", |f| f.role = Purpose::Snapshot),
            ("another version", |f| f.version += 1),
            ("another payload", |f| f.payload = Sha256::of(b"other")),
            ("another key", |f| f.key = Sha256::of(b"key").to_string().parse().unwrap()),
            ("another collection", |f| f.repository = "r.example/b".parse().unwrap()),
            ("another file", |f| f.file.sha256 = Sha256::of(b"other")),
            ("another length", |f| f.file.length += 1),
            ("any bytes", |f| Collection::put(f, b"any bytes".to_vec())),
            ("a signature over something else", |f| {
                let text = String::from_utf8(f.content.0.clone()).unwrap();
                let (signed, sig) = text.split_once("\"sig\":\"").unwrap();
                let letter = if sig.starts_with('A') { 'B' } else { 'A' };
                Collection::put(f, format!("{signed}\"sig\":\"{letter}{}", &sig[1..]).into_bytes());
            }),
        ];
        for (what, forge) in forgeries {
            let (mut root, mut targets) = (a.root(), a.targets());
            forge(&mut root);
            forge(&mut targets);
            assert_eq!(findings([leaf(root), leaf(a.root()), leaf(targets)]), 2, "{what}");
        }
        assert_eq!(findings([leaf(a.targets())]), 1, "before its root");
        assert_eq!(findings([leaf(a.root()), leaf(b.root()), leaf(a.targets())]), 1, "behind another root");
        assert_eq!(
            findings([leaf(a.root()), leaf(a.signed_by_root())]),
            1,
            "signed by the key of another role"
        );
    }
}
