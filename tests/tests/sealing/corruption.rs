//! A bit that flips: at rest or while the service runs, in a leaf, a hash of the tree, a payload, a page, the spool, a
//! journal. It is named, nothing is signed once it is known, and nothing starts before it is mended.

use super::scene::Scene;
use record::{Clock, SystemClock};
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};
use tests::{Member, Output, binary, wait_for};

/// An early leaf's bytes, and the hash of another one.
const LEAF_5: &str = "SELECT bytes FROM leaf WHERE idx = 5";
const HASH_7: &str = "SELECT hash FROM leaf WHERE idx = 7";
/// The same of leaves that nobody reads but who wants them: no reader has their page in its memory.
const LEAF_100: &str = "SELECT bytes FROM leaf WHERE idx = 100";
const HASH_150: &str = "SELECT hash FROM leaf WHERE idx = 150";
/// The first targets file, as it was signed.
const OLD_TARGETS: &str = "SELECT blob.bytes FROM blob, file WHERE blob.sha256 = file.sha256 AND role = 'targets' ORDER BY version LIMIT 1";
/// Bytes of a page of the database.
const PAGE: usize = 4096;

/// A flipped byte; [`Self::mend`] flips it back.
struct Damage {
    file: PathBuf,
    offsets: Vec<u64>,
}

impl Damage {
    /// Some way into these bytes, wherever they stand in the file: a page may still have what was moved to another one.
    fn within(file: &Path, bytes: &[u8]) -> Self {
        let part = &bytes[..bytes.len().min(PAGE / 8)];
        let into = part.len() * 2 / 3;
        let found = places(&fs::read(file).unwrap(), &part[into..]);
        assert!(!found.is_empty(), "they do not stand in {}", file.display());
        Self::at(file, found.into_iter().map(|place| place as u64).collect())
    }

    fn at(file: &Path, offsets: Vec<u64>) -> Self {
        let damage = Self { file: file.to_owned(), offsets };
        damage.flip();
        damage
    }

    fn mend(self) {
        self.flip();
    }

    fn flip(&self) {
        let file = fs::OpenOptions::new().read(true).write(true).open(&self.file).unwrap();
        for offset in &self.offsets {
            let mut byte = [0];
            file.read_exact_at(&mut byte, *offset).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], *offset).unwrap();
        }
    }
}

fn places(whole: &[u8], part: &[u8]) -> Vec<usize> {
    let found = whole.windows(part.len()).enumerate().filter(|(_, window)| *window == part);
    found.map(|(place, _)| place).collect()
}

/// One value of the database.
fn value(scene: &Scene, sql: &'static str) -> Vec<u8> {
    let file = database(scene);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let read = async {
        let mut connection = SqliteConnectOptions::new().filename(file).read_only(true).connect().await?;
        let value: Vec<u8> = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        connection.close().await.map(|()| value)
    };
    let read: Result<Vec<u8>, sqlx::Error> = runtime.block_on(read);
    read.unwrap()
}

fn database(scene: &Scene) -> PathBuf {
    scene.parts.data().join("chancery.db")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The daemon stops in good order: all is in the database's one file.
fn stop(scene: &mut Scene) {
    assert_eq!(scene.parts.stop(Member::Daemon), 0);
    assert!(!scene.parts.data().join("chancery.db-wal").exists());
}

/// As after a crash: the next start reads everything first.
fn crashed(scene: &Scene) {
    let mut mark = b"{\"state\":\"running\"}".to_vec();
    mark.resize(4095, b' ');
    mark.push(b'\n');
    fs::write(scene.parts.data().join("seal"), mark).unwrap();
}

fn refused(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.code, code, "{output:?}");
    for word in words {
        assert!(output.stderr.contains(word), "no {word:?} in {output:?}");
    }
}

/// Sealed by what is called so, without a signature since; the check finds it, too, and calls it so; mended, all goes on.
fn is_found(scene: &mut Scene, damage: Damage, sealed: &str, checked: &str) {
    wait_for("the seal", || scene.service().log_of("chanceryd").contains("SEALED").then_some(()));
    let signed = scene.service().signed();
    scene.is_sealed(sealed);
    assert_eq!(scene.service().signed(), signed);
    assert_eq!(scene.parts.stop(Member::Daemon), 0);
    refused(&scene.parts.unseal(), 78, &[checked, "the seal stays"]);
    damage.mend();
    scene.unseal(sealed);
    fs::write(scene.service().dir().join("logs/chanceryd.log"), "").unwrap();
    let tag = scene.tag();
    scene.gets(&tag);
}

#[test]
fn a_bit_that_flips_while_the_service_runs_is_found_at_the_next_read_and_named() {
    let Some(mut scene) = Scene::set() else { return };
    // More leaves than a tile has, and than a start looks at.
    let expires = SystemClock.now().plus_s(3600);
    let body =
        serde_json::json!({ "scopes": ["audit"], "repositories": [], "expires": expires, "note": "a leaf" });
    let body = body.to_string();
    for _ in 0..260 {
        let args = ["-H", "Content-Type: application/json", "-d", &body];
        let (status, answer) = scene.service().http("CHANCERY_ADMIN_TOKEN", "/v1/tokens", &args);
        assert_eq!(status, 201, "{answer}");
    }
    let gun = scene.service().repository("demo/app");
    let old = value(&scene, "SELECT sha256 FROM file WHERE role = 'targets' ORDER BY version LIMIT 1");
    let stored = "the stored bytes";
    let targets = format!("/v2/{gun}/_trust/tuf/targets.{}.json", hex(&old));
    let rows: [(&str, &str, &str, &str, &str); 3] = [
        (LEAF_100, "CHANCERY_AUDITOR_TOKEN", "/v1/log/tile/entries/000", "leaf 100", "leaf 100"),
        (HASH_150, "", "/v1/log/tile/0/000", "tile 0/0", "leaf 150"),
        (OLD_TARGETS, "", &targets, stored, stored),
    ];
    for (sql, token, path, sealed, checked) in rows {
        let bytes = value(&scene, sql);
        stop(&mut scene);
        scene.parts.start(Member::Daemon);
        scene.service().wait_until_ready();
        let damage = Damage::within(&database(&scene), &bytes);
        let (status, answer) = scene.service().http(token, path, &[]);
        assert!(status >= 500, "{path}: {status} {answer}");
        is_found(&mut scene, damage, sealed, checked);
    }
    scene.is_whole();
}

#[test]
fn a_bit_that_flipped_before_a_start_is_found_by_the_start_or_by_the_scrub_that_follows() {
    let Some(mut scene) = Scene::set() else { return };
    // The start reads the last leaves and the edge of the tree.
    for (sql, word) in [(LEAF_5, "leaf 5"), (HASH_7, "is not the root of the stored hashes")] {
        let bytes = value(&scene, sql);
        stop(&mut scene);
        let damage = Damage::within(&database(&scene), &bytes);
        refused(&scene.parts.serve_in_vain(), 78, &["chancery.db", word]);
        refused(&scene.parts.unseal(), 78, &["leaf"]);
        damage.mend();
        scene.unsealed();
        scene.parts.start(Member::Daemon);
        scene.service().wait_until_ready();
    }
    // Nobody asks for this payload: only the scrub reads it.
    let payload =
        value(&scene, "SELECT bytes FROM blob, file WHERE blob.sha256 = file.payload AND role = 'root'");
    stop(&mut scene);
    let damage = Damage::within(&database(&scene), &payload);
    crashed(&scene);
    scene.parts.start(Member::Daemon);
    is_found(&mut scene, damage, "the stored bytes", "the stored bytes");
    scene.is_whole();
}

#[test]
fn a_damaged_page_starts_nothing_that_signs_and_a_rebuild_from_the_spool_and_a_check_lead_back() {
    let Some(mut scene) = Scene::set() else { return };
    let tag = scene.tag();
    scene.gets(&tag);
    stop(&mut scene);
    let file = database(&scene);
    let whole = fs::read(&file).unwrap();
    let interior: Vec<usize> =
        (1..whole.len() / PAGE).filter(|page| matches!(whole[page * PAGE], 2 | 5)).collect();
    assert!(!interior.is_empty(), "a database without an interior page");
    for page in &interior {
        let signed = scene.service().signed();
        let damage = Damage::at(&file, vec![(page * PAGE) as u64]);
        crashed(&scene);
        scene.parts.start(Member::Daemon);
        wait_for("the start to be refused, or the scrub to seal", || {
            let sealed = scene.service().http("", "/readyz", &[]).1.contains("sealed: ");
            (scene.parts.has_ended(Member::Daemon) || sealed).then_some(())
        });
        scene.parts.stop(Member::Daemon);
        assert_eq!(scene.service().signed(), signed, "page {page}: a key was used");
        refused(&scene.parts.unseal(), 78, &["chancery.db", "rebuild"]);
        damage.mend();
        scene.unsealed();
    }
    // The remedy of a database that cannot be mended.
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    refused(&scene.parts.unseal(), 78, &["chanceryd rebuild"]);
    for suffix in ["", "-wal", "-shm"] {
        let _absent = fs::remove_file(format!("{}{suffix}", file.display()));
    }
    let config = scene.service().dir().join("chanceryd.toml");
    let rebuilt = Output::of(Command::new(binary("chanceryd")).args(["rebuild", "--config"]).arg(config));
    assert_eq!(rebuilt.code, 0, "{rebuilt:?}");
    scene.unsealed();
    scene.parts.start(Member::Daemon);
    scene.service().wait_until_ready();
    let tag = scene.tag();
    scene.gets(&tag);
    scene.is_whole();
}

#[test]
fn a_damaged_spool_is_found_by_the_check_and_by_the_keepers_start_and_an_older_copy_is_filled_from_the_database()
 {
    let Some(mut scene) = Scene::set() else { return };
    stop(&mut scene);
    assert_eq!(scene.parts.stop(Member::LogKeeper), 0);
    let state = scene.service().dir().join("log/state");
    let copy = state.with_extension("copy");
    assert!(Command::new("cp").arg("-a").args([&state, &copy]).status().unwrap().success());
    let segment = fs::read_dir(state.join("spool")).unwrap().next().unwrap().unwrap().path();
    scene.parts.start(Member::LogKeeper);
    scene.parts.start(Member::Daemon);
    scene.service().wait_until_ready();
    let tag = scene.tag();
    scene.gets(&tag);
    let leaf = value(&scene, LEAF_5);
    // While it runs nobody reads it; the full check does.
    let damage = Damage::within(&segment, &leaf);
    stop(&mut scene);
    refused(&scene.parts.unseal(), 78, &["the log keeper", "newest copy of the keeper's state folder"]);
    // The keeper has ended at what it found, and does not start again.
    assert_eq!(scene.parts.ended(Member::LogKeeper), 78);
    assert!(
        scene.service().log_of("log-keeper").contains(".seg"),
        "{}",
        scene.service().log_of("log-keeper")
    );
    drop(damage);
    fs::remove_dir_all(&state).unwrap();
    fs::rename(&copy, &state).unwrap();
    scene.parts.start(Member::LogKeeper);
    scene.unsealed();
    scene.parts.start(Member::Daemon);
    scene.service().wait_until_ready();
    let tag = scene.tag();
    scene.gets(&tag);
    scene.is_whole();
}
