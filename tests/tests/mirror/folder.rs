//! Mirrors in folders.

use super::site::Site;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use tests::{DAEMON, Instance, Settings, wait_for};
use tlog::{TILE_WIDTH, TilePath, Tiles};

/// Everything that a host's backup has of a service.
const STATE: [&str; 3] = ["data", "log/state", "signing/state"];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Every file and folder below a folder.
fn all(folder: &Path) -> Vec<PathBuf> {
    let inside = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    inside
        .flat_map(|path| if path.is_dir() { [all(&path), vec![path]].concat() } else { vec![path] })
        .collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_mirror_with_entries_verifies_at_every_moment_while_the_service_signs_on() {
    let Some(mut site) = Site::with_folder(true) else { return };
    site.is_followed();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let tags = (2..200).map(|n| format!("v{n}")).take_while(|_| !done.load(Ordering::SeqCst));
            tags.for_each(|tag| site.sign(&tag));
        });
        let mut sizes = BTreeSet::new();
        wait_for("the mirror to grow while the service signs", || {
            sizes.insert(site.verifies_now());
            (sizes.len() > 3).then_some(())
        });
        done.store(true, Ordering::SeqCst);
    });
    site.service.kill(DAEMON);
    site.verifies_now();
    site.service.wait_until_ready();
    site.sign("after");
    assert_eq!(site.service.stop(), 0);
    site.service.resume(&Settings::default());
    site.sign("later");
    let followed = site.is_followed();
    site.verifies_now();
    site.has_no_alarm();
    for path in all(&site.mirror()) {
        assert_eq!(mode(&path), if path.is_dir() { 0o750 } else { 0o640 }, "{}", path.display());
    }
    let partial = TilePath::entries(followed.size / TILE_WIDTH, followed.size % TILE_WIDTH).unwrap();
    assert!(site.mirror().join(partial.to_string()).exists(), "the partial tile of the published size");
}

#[test]
fn a_mirror_for_everybody_proves_each_entry_and_has_none() {
    let Some(site) = Site::with_folder(false) else { return };
    site.is_followed();
    let history = site.service.history();
    wait_for("all of the history to be mirrored", || {
        (site.checkpoint()?.size >= history.leaves().len() as u64).then_some(())
    });
    let checkpoint = site.checkpoint().unwrap();
    let size = checkpoint.size;
    let mut tiles = Tiles::new();
    for path in tlog::tile_paths(size) {
        let file = site.mirror().join(path.to_string());
        let Some(id) = path.tile() else {
            assert!(!file.exists(), "{}", file.display());
            continue;
        };
        tiles.insert(id, tlog::decode_tile(&fs::read(file).unwrap()).unwrap());
    }
    for (index, leaf) in history.leaves().iter().enumerate() {
        let (index, hash) = (index as u64, tlog::leaf_hash(&leaf.encode().unwrap()));
        let proof = tlog::inclusion_proof(index, size, &tiles).unwrap();
        tlog::verify_inclusion(&hash, index, size, &proof, &checkpoint.root).unwrap();
    }
    for path in all(&site.mirror()) {
        assert_eq!(mode(&path), if path.is_dir() { 0o755 } else { 0o644 }, "{}", path.display());
    }
}

#[test]
fn a_host_that_was_put_back_to_an_older_copy_of_itself_is_found_out_by_its_mirror() {
    let Some(mut site) = Site::with_folder(true) else { return };
    assert_eq!(site.service.stop(), 0);
    let copies = site.dir.path().join("copies");
    STATE.iter().for_each(|part| copy(&site.service.dir().join(part), &copies.join(part)));
    site.service.resume(&Settings::default());
    site.sign("v2");
    let ahead = site.is_followed();
    assert_eq!(site.service.stop(), 0);
    for part in STATE {
        let place = site.service.dir().join(part);
        fs::remove_dir_all(&place).unwrap();
        copy(&copies.join(part), &place);
    }
    let before = fs::read(site.mirror().join("checkpoint")).unwrap();
    let said = site.service.resume_in_vain();
    for words in ["chanceryd ended (exit status: 78)", "rolled back", &ahead.size.to_string(), "file://"] {
        assert!(said.contains(words), "no {words:?} in: {said}");
    }
    // A mirror that is away at the start is compared when it is back.
    let away = site.dir.path().join("away");
    fs::rename(site.mirror(), &away).unwrap();
    site.service.resume(&Settings::default());
    site.has_alarm("mirror file://");
    fs::rename(&away, site.mirror()).unwrap();
    let sealed = wait_for("the daemon to be sealed", || {
        let (status, body) = site.service.http("", "/readyz", &[]);
        (status == 503).then_some(body)
    });
    assert!(sealed.contains("sealed") && sealed.contains("rolled back"), "{sealed}");
    assert_eq!(fs::read(site.mirror().join("checkpoint")).unwrap(), before);
}

#[test]
fn what_is_no_checkpoint_of_this_log_stays_as_it_is_and_is_told() {
    let Some(site) = Site::start(|dir| {
        let foreign = dir.join("mirror");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("checkpoint"), "other.example\n1\nAAAA\n").unwrap();
        format!("[[mirror]]\nto = \"file://{}\"\nentries = true\nevery_s = 1", foreign.display())
    }) else {
        return;
    };
    let says = site.has_alarm("no checkpoint of");
    assert!(says.contains("entries behind since"), "{says}");
    site.sign("v2");
    let doctor = site.service.chancery_as("CHANCERY_AUDITOR_TOKEN", &["doctor"]);
    assert!(doctor.stdout.contains("warn  mirror") && doctor.code == 0, "{doctor:?}");
    assert_eq!(all(&site.mirror()), [site.mirror().join("checkpoint")]);
    fs::remove_file(site.mirror().join("checkpoint")).unwrap();
    site.is_followed();
    site.has_no_alarm();
    site.verifies_now();
}

/// A small file system of its own, for as long as this lives.
struct Disk(PathBuf);

impl Disk {
    /// None where this user may mount nothing, which is said.
    fn mount(at: PathBuf, bytes: u64) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).output();
        if mounted.is_ok_and(|done| done.status.success()) {
            return Some(Self(at));
        }
        hsm_sim::skip("no permission to mount a tmpfs");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_mirror_whose_disk_is_full_holds_up_nothing_and_catches_up() {
    let mut disk = None;
    let site = Site::start(|dir| {
        disk = Disk::mount(dir.join("mirror"), 1024 * 1024);
        format!("[[mirror]]\nto = \"file://{}/mirror\"\nentries = true\nevery_s = 1", dir.display())
    });
    let (Some(site), Some(_disk)) = (site, disk) else { return };
    let whole = site.is_followed();
    let filler = site.mirror().join("filler");
    // Ends where the disk does.
    let _full = fs::write(&filler, vec![0; 1024 * 1024]);
    site.sign("v2");
    let says = site.has_alarm("No space left");
    assert!(says.contains("entries behind since"), "{says}");
    site.sign("v3");
    assert!(site.verifies_now() >= whole.size);
    fs::remove_file(&filler).unwrap();
    site.is_followed();
    site.has_no_alarm();
    site.verifies_now();
}

#[test]
fn a_configuration_of_mirrors_that_cannot_be_right_is_refused_with_the_members_name() {
    let Some(mut site) = Site::with_folder(false) else { return };
    assert_eq!(site.service.stop(), 0);
    let config = site.service.dir().join("chanceryd.toml");
    let good = fs::read_to_string(&config).unwrap();
    let secret = site.dir.path().join("s3.toml");
    fs::write(&secret, "access_key_id = \"AK\"\nsecret_access_key = \"s3cret\"\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let bucket = format!(
        "[[mirror]]\nto = \"s3://logs\"\nentries = true\nregion = \"x\"\nendpoint = \"https://127.0.0.1:1\"\ncredentials_file = {secret:?}"
    );
    let refused = |service: &Instance, table: &str, words: &[&str]| {
        fs::write(&config, format!("{good}\n{table}\n")).unwrap();
        let said = service.resume_in_vain();
        for word in words.iter().chain(&["exit status: 78"]) {
            assert!(said.contains(word), "no {word:?} in: {said}");
        }
        assert!(!said.contains("s3cret"), "{said}");
    };
    refused(&site.service, &bucket, &["credentials_file", "chmod 0600", "s3.toml"]);
    refused(&site.service, "[[mirror]]\nto = \"file:///x\"\n", &["chanceryd.toml", "entries"]);
    refused(&site.service, "[[mirror]]\nto = \"file:///x\"\nentries = true\nmode = 1\n", &["mode"]);
    fs::write(&config, good).unwrap();
    site.service.resume(&Settings::default());
}
