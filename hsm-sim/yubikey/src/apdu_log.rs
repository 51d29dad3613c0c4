//! The APDU log: every command and response as a JSON line, without PINs, PUKs, and keys.
//!
//! Not an oracle and not fsynced; for a person who wonders what a tool sent.

use crate::{Error, hex};
use serde::Serialize;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

const GET_RESPONSE: u8 = 0xc0;
const CHAINED: u8 = 0x10;
/// VERIFY, CHANGE REFERENCE DATA, RESET RETRY COUNTER, IMPORT, SET MANAGEMENT KEY: the whole body is secret.
const SECRET_BODIES: [u8; 5] = [0x20, 0x24, 0x2c, 0xfe, 0xff];
/// The object where tools store the management key (PRINTED), as it is named in a tag list.
const SECRET_OBJECT: [u8; 5] = [0x5c, 3, 0x5f, 0xc1, 0x09];

/// An open log.
#[derive(Debug)]
pub(crate) struct ApduLog {
    file: File,
    n: u64,
    mask: Mask,
}

#[derive(Serialize)]
struct Line {
    n: u64,
    command: String,
    response: String,
}

/// What of the exchange under way is secret: a chain and a long response go over several APDUs.
#[derive(Debug, Default)]
struct Mask {
    body: bool,
    response: bool,
    in_chain: bool,
}

impl ApduLog {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let file = file.map_err(Error::file("open the APDU log for appending", path))?;
        Ok(Self { file, n: 0, mask: Mask::default() })
    }

    pub(crate) fn append(&mut self, command: &[u8], response: &[u8]) -> io::Result<()> {
        self.n += 1;
        self.mask.look_at(command);
        let line = Line {
            n: self.n,
            command: masked(command, 4, command.len(), self.mask.body),
            response: masked(response, 0, response.len().saturating_sub(2), self.mask.response),
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        self.file.write_all(&text)
    }
}

impl Mask {
    fn look_at(&mut self, command: &[u8]) {
        let &[cla, ins, ..] = command else { return };
        if ins == GET_RESPONSE {
            self.body = false;
            return;
        }
        let secret_object = command.windows(SECRET_OBJECT.len()).any(|part| part == SECRET_OBJECT);
        let begun = self.in_chain && self.body;
        self.body = SECRET_BODIES.contains(&ins) || secret_object || begun;
        self.response = secret_object;
        self.in_chain = cla & CHAINED != 0;
    }
}

/// `from..to` is what may be hidden.
fn masked(bytes: &[u8], from: usize, to: usize, hide: bool) -> String {
    match (hide && from < to, bytes.get(..from), bytes.get(to..)) {
        (true, Some(head), Some(tail)) => {
            format!("{}[{} bytes hidden]{}", hex::encode(head), to - from, hex::encode(tail))
        }
        _ => hex::encode(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(exchanges: &[(&[u8], &[u8])]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = ApduLog::open(&path).unwrap();
        exchanges.iter().for_each(|(command, response)| log.append(command, response).unwrap());
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn pins_puks_and_keys_do_not_appear_in_the_log() {
        let secret = [0xde, 0xad];
        for ins in SECRET_BODIES {
            for cla in [0, CHAINED] {
                let command = [&[cla, ins, 0, 0x80, 2], &secret[..]].concat();
                let text = logged(&[(&command, &[0x90, 0]), (&command, &[0x63, 0xc2])]);
                assert!(!text.contains("dead"), "{text}");
                assert!(text.contains("63c2"), "{text}");
            }
        }
    }

    #[test]
    fn the_stored_management_key_is_hidden_over_chains_and_long_responses() {
        let get = [&[0, 0xcb, 0x3f, 0xff, 5], &SECRET_OBJECT[..], &[0]].concat();
        let put = [&[CHAINED, 0xdb, 0x3f, 0xff, 5], &SECRET_OBJECT[..]].concat();
        let rest = [0, 0xdb, 0x3f, 0xff, 2, 0xde, 0xad];
        let text = logged(&[
            (&get, &[0xde, 0xad, 0x61, 2]),
            (&[0, GET_RESPONSE, 0, 0, 2], &[0xde, 0xad, 0x90, 0]),
            (&put, &[0x90, 0]),
            (&rest, &[0x90, 0]),
        ]);
        assert!(!text.contains("dead"), "{text}");
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn everything_else_is_there_whole() {
        let text = logged(&[(&[0, 0x87, 0x11, 0x9c, 1, 7], &[1, 2, 0x90, 0])]);
        assert_eq!(text, "{\"n\":1,\"command\":\"0087119c0107\",\"response\":\"01029000\"}\n");
    }
}
