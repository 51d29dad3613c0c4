//! The proof of a key as files, which an auditor checks without this program and without trust in this host.

use super::super::{report::Document, shown};
use crate::admin::key::KeyDocument;
use crate::exit::Fatal;
use crate::token::piv::{SlotFacts, Verdict};
use base64::{Engine, engine::general_purpose::STANDARD};
use record::{PivSlot, Sha256};
use serde::Serialize;
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::path::Path;

/// Base64 digits on a line of PEM (RFC 7468).
const LINE: usize = 64;
/// How an auditor checks the files.
const CHECK: &str = "openssl verify -CAfile root.pem -untrusted intermediates.pem attestation.pem";

/// What a card proves of a key, by a chain that was verified.
#[derive(Serialize)]
pub(super) struct Evidence {
    /// What kind of evidence this is: `piv-attestation` is signed by the card's maker.
    kind: &'static str,
    serial: u32,
    key: KeyDocument,
    /// SHA-256 of each certificate, from the attestation up to the root.
    chain: Vec<Sha256>,
    says: &'static str,
    does_not_prove: [&'static str; 2],
    /// The folder with the certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<&'static str>,
    #[serde(skip)]
    certificates: Vec<Vec<u8>>,
}

#[derive(Serialize)]
struct Statement<'a> {
    schema: &'static str,
    #[serde(flatten)]
    evidence: &'a Evidence,
}

impl Evidence {
    pub(super) fn of(serial: u32, slot: PivSlot, facts: &SlotFacts, verdict: Verdict) -> Self {
        Self {
            kind: "piv-attestation",
            serial,
            key: KeyDocument::on_card(slot, facts, Ok(verdict.evidence)),
            chain: verdict.chain.iter().map(|der| Sha256::of(der)).collect(),
            says: "the maker of the card says that this key was made on this card, and what it wants before it signs",
            does_not_prove: [
                "who has the card and its PIN",
                "that the root is Yubico's, to somebody who has it from here only: compare its SHA-256 with Yubico's page",
            ],
            files: None,
            check: None,
            certificates: verdict.chain,
        }
    }

    /// Writes the certificates and this statement into a new folder; its name.
    pub(super) fn write(&self, folder: &Path) -> Result<String, Fatal> {
        let unwritten = |source: io::Error| Fatal::Write { path: folder.to_owned(), source };
        DirBuilder::new().create(folder).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => {
                let why = "is there already, and evidence is never overwritten: name another folder";
                Fatal::Config { file: folder.to_owned(), why: why.into() }
            }
            _ => unwritten(e),
        })?;
        let [leaf, between @ .., root] = self.certificates.as_slice() else {
            return Err(unwritten(io::Error::other("there is no chain")));
        };
        let statement = Statement { schema: Self::SCHEMA, evidence: self };
        let statement = serde_json::to_string_pretty(&statement).map_err(|e| unwritten(e.into()))?;
        for (name, text) in [
            ("attestation.pem", pem(leaf)),
            ("intermediates.pem", between.iter().map(|der| pem(der)).collect()),
            ("root.pem", pem(root)),
            ("statement.json", statement + "\n"),
        ] {
            write(&folder.join(name), &text).map_err(unwritten)?;
        }
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(unwritten)?;
        Ok(shown(folder))
    }

    /// The same with the folder that has its files.
    pub(super) fn in_files(mut self, folder: Option<String>) -> Self {
        self.check = folder.is_some().then_some(CHECK);
        self.files = folder;
        self
    }
}

impl Document for Evidence {
    const SCHEMA: &'static str = "chancery.keeper.key-evidence/v1";

    fn text(&self) -> String {
        let chain: Vec<String> = self.chain.iter().map(|sha256| format!("sha256:{sha256}")).collect();
        let mut text = format!(
            "{}\nYubiKey       {}\nchain         {}\nsays          {}\nnot proven    {}",
            self.key.text(),
            self.serial,
            chain.join("\n              "),
            self.says,
            self.does_not_prove.join("\n              ")
        );
        if let Some((files, check)) = self.files.as_ref().zip(self.check) {
            text += &format!("\nfiles         {files}; to check them there:\n              {check}");
        }
        text
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = String::new();
    for (number, digit) in text.chars().enumerate() {
        if number > 0 && number % LINE == 0 {
            lines.push('\n');
        }
        lines.push(digit);
    }
    format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_has_lines_of_64_digits() {
        let text = pem(&[7; 100]);
        let lines: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(lines, [27, 64, 64, 8, 25], "{text}");
        assert_eq!(pem(&[7; 48]).lines().count(), 3);
    }
}
