//! Tessera's fsck over everything that the log publishes, and over the same with one bit altered.

use crate::{
    rows::{Rows, Verdict},
    tamper::other_signature,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tests::{Instance, Output, have};

/// The one file of a small log whose path has this in it.
fn file(log: &Path, part: &str) -> PathBuf {
    let entries = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    let mut files = entries.map(|path| if path.is_dir() { file(&path, part) } else { path });
    files.find(|path| path.to_string_lossy().contains(part)).unwrap_or_default()
}

fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

fn sign_otherwise(note: &mut [u8]) {
    let other = other_signature(std::str::from_utf8(note).unwrap());
    note.copy_from_slice(other.as_bytes());
}

/// What is shown, the file that it is in, and how it is altered.
type Case = (&'static str, &'static str, fn(&mut [u8]), Verdict);

#[test]
fn tesseras_fsck_finds_the_published_log_whole_and_every_altered_bit() {
    if !have("docker-registry") {
        return;
    }
    let Some((mut rows, bin)) = Rows::of("tessera-fsck") else { return };
    let service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "hello");
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
    let (folder, vkey) = (tempfile::tempdir().unwrap(), service.env()["CHANCERY_LOG_VKEY"].clone());
    let log = folder.path();
    service.fetch_log(log);
    let fsck = || Output::of(Command::new(bin.join("fsck")).arg(log).arg(&vkey));
    rows.add("everything that is published", Verdict::Accepts, &fsck());
    let other_tile = Verdict::Refuses(&["failed: tile/0/"]);
    let unsigned = Verdict::Refuses(&["invalid signature for key"]);
    let cases: [Case; 3] = [
        ("a bit of a tile altered", "tile/0/", flip, other_tile),
        ("a bit of an entry altered", "tile/entries/", flip, other_tile),
        ("the checkpoint's signature altered", "/checkpoint", sign_otherwise, unsigned),
    ];
    for (what, part, alter, verdict) in cases {
        let path = file(log, part);
        let whole = fs::read(&path).unwrap_or_else(|e| panic!("{part}: {e}"));
        let mut altered = whole.clone();
        alter(&mut altered);
        fs::write(&path, altered).unwrap();
        rows.add(what, verdict, &fsck());
        fs::write(&path, whole).unwrap();
    }
    rows.add("everything that is published, restored", Verdict::Accepts, &fsck());
    rows.keep("5-tessera-fsck");
}
