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
