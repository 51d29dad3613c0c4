//! What a log takes over from the one that it continues: only in its first entries, and each file as its entry names it.

use record::{Adopted, AdoptedPart, Continues, FileRef, Genesis};

/// The log that is continued, and the files that are taken over from it.
#[derive(Default)]
pub(super) struct Adoption {
    pub(super) continues: Option<Continues>,
    /// The entry that may take something over; none once that is over.
    next: Option<u64>,
    /// Bytes of the parts since the last whole file, and how many parts they are.
    bytes: Vec<u8>,
    parts: u64,
}

impl Adoption {
    /// Takes the first entry.
    pub(super) fn genesis(&mut self, index: u64, genesis: &Genesis) {
        self.continues.clone_from(&genesis.continues);
        self.next = genesis.continues.as_ref().map(|_| index + 1);
    }

    /// Takes a part of a file; says what is wrong.
    pub(super) fn part(&mut self, index: u64, part: &AdoptedPart) -> Result<(), &'static str> {
        self.here(index)?;
        self.bytes.extend(&part.content.0);
        self.parts += 1;
        Ok(())
    }

    /// Takes the entry that names a file; says what is wrong.
    pub(super) fn file(&mut self, index: u64, adopted: &Adopted) -> Result<(), &'static str> {
        self.here(index)?;
        let (mut bytes, parts) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.parts));
        bytes.extend(&adopted.content.0);
        if parts != adopted.parts {
            Err("a file of another number of parts")
        } else if FileRef::of(&bytes) != adopted.file {
            Err("a file that is not the one that its entry names")
        } else {
            Ok(())
        }
    }

    /// Files are taken over before anything else happens: later, one could stand for a signature that nobody announced.
    fn here(&mut self, index: u64) -> Result<(), &'static str> {
        if self.next != Some(index) {
            return Err("a file of a former log, and not directly behind a genesis entry that continues one");
        }
        self.next = Some(index + 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::LogSource;
    use crate::audit::synthetic::{Log, denial, time};
    use crate::audit::verify::verify;
    use record::wire::Blob;
    use record::{Event, Leaf, Nonce, Purpose, Sha256};
    use serde_json::Value;

    fn former() -> Continues {
        Continues {
            log: "old.example".parse().unwrap(),
            vkey: "old.example+00000000+AA==".into(),
            size: 7,
            root: Sha256::of(b"root"),
            reason: "its key was lost".into(),
        }
    }

    fn nonce() -> Nonce {
        Nonce::parse(&"b".repeat(32)).unwrap()
    }

    fn part(content: &[u8]) -> Leaf {
        let content = Blob(content.to_vec());
        Leaf::Event(Event::AdoptedPart(AdoptedPart { time: time(1), nonce: nonce(), content }))
    }

    /// The last leaf of a file that consists of `parts` before it and `content`.
    fn file(whole: &[u8], parts: u64, content: &[u8]) -> Leaf {
        Leaf::Event(Event::Adopted(Adopted {
            time: time(1),
            nonce: nonce(),
            repository: "r.example/a".parse().unwrap(),
            role: Purpose::Targets,
            version: 4,
            reserved: Some(5),
            key: Sha256::of(b"key").to_string().parse().unwrap(),
            payload: Sha256::of(b"payload"),
            file: FileRef::of(whole),
            expires: time(9),
            parts,
            content: Blob(content.to_vec()),
        }))
    }

    /// What both verifiers say of a log: how many findings, and which log it continues.
    fn judged(log: &Log) -> (u64, Option<String>) {
        let published = log.published(log.size());
        let ours = verify(&published.source(), &log.trust(), None, &[]).unwrap();
        let ours = (ours.findings_total, ours.continues.map(|c| c.log.to_string()));
        let LogSource::Dir(dir) = published.source() else { panic!() };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/verifier/verify_log.py");
        let python =
            std::process::Command::new("python3").arg(script).arg(dir).arg(log.vkey().to_string()).output();
        if let Ok(said) = python {
            let said: Value = serde_json::from_slice(&said.stdout).unwrap();
            let log = said["continues"]["log"].as_str().map(str::to_owned);
            assert_eq!((said["findings_total"].as_u64().unwrap(), log), ours, "{said}");
        } else {
            eprintln!("SKIPPED: python3 is not installed");
        }
        ours
    }

    #[test]
    fn both_verifiers_take_files_of_a_former_log_directly_behind_genesis_whole_and_nowhere_else() {
        let whole = || {
            vec![
                file(b"one", 0, b"one"),
                part(b"a file "),
                part(b"of three "),
                file(b"a file of three parts", 2, b"parts"),
            ]
        };
        let rows: [(&str, Vec<Leaf>, u64); 6] = [
            ("whole", whole(), 0),
            ("another entry first", [vec![denial(1, "v1")], whole()].concat(), 4),
            (
                "another entry between",
                [whole(), vec![denial(1, "v1"), file(b"late", 0, b"late")]].concat(),
                1,
            ),
            ("other bytes", vec![file(b"one", 0, b"two")], 1),
            ("a part too few", vec![part(b"a "), file(b"a file", 2, b"file")], 1),
            ("a part of nothing", vec![file(b"a file", 1, b"a file")], 1),
        ];
        for (row, leaves, findings) in rows {
            let mut log = Log::continuing(former());
            for leaf in leaves {
                log.push(leaf);
            }
            assert_eq!(judged(&log), (findings, Some("old.example".into())), "{row}");
        }
        let mut first = Log::new();
        first.push(file(b"one", 0, b"one"));
        assert_eq!(judged(&first), (1, None), "a log that continues none");
    }
}
