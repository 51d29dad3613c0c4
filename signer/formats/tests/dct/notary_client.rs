//! The real client, `notary` 0.7, as the judge of the files.

use crate::{
    collection::{Collection, Files, GUN, Key, change, far},
    golden::checked_in,
    server::Server,
};
use formats::dct::{SignedFile, certificate, key_id};
use record::{Digest, Sha256};
use std::{
    io::Write,
    path::Path,
    process::{Command, Output},
};

const NOTARY: &str = "/usr/bin/notary";

/// Whether the client is there; says so if not.
fn installed() -> bool {
    let there = Path::new(NOTARY).exists();
    if !there {
        // Past libtest's capture: a skipped test must not look like one that passed.
        let _closed = writeln!(std::io::stderr(), "SKIPPED: the notary client is not installed");
    }
    there
}

/// Runs the client with the trust directory `trust` against `server`.
fn run(server: &Server, trust: &Path, command: &[&str]) -> Output {
    Command::new(NOTARY)
        .env_clear()
        .env("HOME", trust)
        .envs(["ROOT", "TARGETS", "SNAPSHOT"].map(|role| (format!("NOTARY_{role}_PASSPHRASE"), "passphrase")))
        .args(["-s", &server.url(), "-d"])
        .arg(trust)
        .args(command)
        .output()
        .unwrap()
}

/// A client that never saw the repository reads `files`.
fn notary(gun: &str, files: &Files, command: &[&str]) -> Output {
    run(&Server::start(gun, files), tempfile::tempdir().unwrap().path(), command)
}

fn lists(gun: &str, files: &Files) -> String {
    let output = notary(gun, files, &["list", gun]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The client's complaint.
fn refuses(gun: &str, files: &Files) -> String {
    let output = notary(gun, files, &["list", gun]);
    assert!(!output.status.success(), "accepted: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn shows(listing: &str, tag: &str, digest: Sha256) -> bool {
    listing.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(tag) && words.next() == Some(digest.to_string().as_str())
    })
}

#[test]
fn the_notary_client_accepts_the_golden_files() {
    if !installed() {
        return;
    }
    let files = checked_in();
    let listing = lists(GUN, &files);
    let digest = |manifest| Digest::of(manifest).sha256();
    assert!(shows(&listing, "V1.0", digest(b"2")), "{listing}");
    assert!(shows(&listing, "latest", digest(b"2")), "{listing}");
    assert!(shows(&listing, "v1.0", digest(b"one")), "{listing}");

    let output = notary(GUN, &files, &["lookup", GUN, "v1.0"]);
    let found = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && found.contains(&digest(b"one").to_string()), "{found}");
}

#[test]
fn the_notary_client_accepts_a_repository_name_longer_than_a_common_name_may_be() {
    if !installed() {
        return;
    }
    let gun = format!("registry.example/{}/app", "team-".repeat(20) + "x");
    let listing = lists(&gun, &Collection::new(&gun).files());
    assert!(shows(&listing, "latest", Digest::of(b"2").sha256()), "{listing}");
}

#[test]
fn the_notary_client_refuses_a_changed_byte_in_targets() {
    if !installed() {
        return;
    }
    let mut files = checked_in();
    let digit = files.targets.windows(4).position(|w| w == b"1HNe").unwrap();
    files.targets[digit] = b'2';
    let complaint = refuses(GUN, &files);
    assert!(complaint.contains("checksum"), "under the name of the true file: {complaint}");

    let c = Collection::new(GUN);
    files.snapshot = c.snapshot_file(2, &files.root, &files.targets);
    files.timestamp = c.timestamp_file(2, far(), &files.snapshot);
    let complaint = refuses(GUN, &files);
    assert!(complaint.contains("signature"), "named by a true snapshot: {complaint}");
}

#[test]
fn the_notary_client_refuses_a_wrong_signature() {
    if !installed() {
        return;
    }
    let honest = Collection::new(GUN);
    let thief = Collection { targets: Key::new(66), ..Collection::new(GUN) };
    let mut files = honest.files();
    files.targets = thief.targets_file(2, None, vec![change("latest", b"evil")]);
    files.snapshot = honest.snapshot_file(2, &files.root, &files.targets);
    files.timestamp = honest.timestamp_file(2, far(), &files.snapshot);
    let complaint = refuses(GUN, &files);
    assert!(complaint.contains("signature"), "{complaint}");
}

#[test]
fn the_notary_client_refuses_an_expired_timestamp() {
    if !installed() {
        return;
    }
    let files = checked_in();
    let complaint = refuses(GUN, &Files { timestamp: files.expired.clone(), ..files });
    assert!(complaint.contains("expired"), "{complaint}");
}

#[test]
fn the_notary_client_refuses_the_files_of_another_repository() {
    if !installed() {
        return;
    }
    let complaint = refuses("registry.example:5000/team/other", &checked_in());
    assert!(complaint.contains("certificate"), "{complaint}");
}

#[test]
fn files_that_the_notary_client_made_are_read_and_its_certificate_accepted() {
    if !installed() {
        return;
    }
    let c = Collection::new(GUN);
    let server = Server::with_keys(&c);
    let trust = tempfile::tempdir().unwrap();
    let made = run(&server, trust.path(), &["init", GUN]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |role: &str| {
        let path = trust.path().join(format!("tuf/{GUN}/metadata/{role}.json"));
        SignedFile::parse(&std::fs::read(path).unwrap()).unwrap()
    };
    let root = read("root");
    let view = root.root().unwrap();
    assert_eq!(view.timestamp.spki, c.timestamp.spki);
    assert_eq!(view.timestamp.keyid, key_id(&c.timestamp.spki));
    root.verify(&view.root.spki, &view.root.keyid).unwrap();
    certificate::check(&view.certificate, &c.gun, &view.root.spki).unwrap();
    let targets = read("targets");
    targets.verify(&view.targets.spki, &view.targets.keyid).unwrap();
    assert!(targets.targets().unwrap().is_empty());
}

#[test]
fn a_notary_client_that_knows_the_collection_follows_it_forward_and_never_back() {
    if !installed() {
        return;
    }
    let c = Collection::new(GUN);
    let old = c.files();
    let targets = c.targets_file(3, Some(&old.targets), vec![change("next", b"three")]);
    let snapshot = c.snapshot_file(3, &old.root, &targets);
    let timestamp = c.timestamp_file(3, far(), &snapshot);
    let new = Files { targets, snapshot, timestamp, ..c.files() };
    let trust = tempfile::tempdir().unwrap();
    let list = |files| run(&Server::start(GUN, files), trust.path(), &["list", GUN]);
    assert!(list(&old).status.success());
    let output = list(&new);
    let listing = String::from_utf8(output.stdout).unwrap();
    assert!(shows(&listing, "next", Digest::of(b"three").sha256()), "{listing}");
    assert!(shows(&listing, "v1.0", Digest::of(b"one").sha256()), "{listing}");
    let back = list(&old);
    let complaint = String::from_utf8_lossy(&[back.stdout, back.stderr].concat()).into_owned();
    assert!(!back.status.success() && complaint.contains("version"), "{complaint}");
}
