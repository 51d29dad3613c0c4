//! A service with mirrors, and what its readers see.

use record::Digest;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};
use tests::{Instance, Settings, have, second, wait_for};
use tlog::{Checkpoint, VerifierKey};

/// A service that has signed once, and a folder beside it.
pub(crate) struct Site {
    pub(crate) service: Instance,
    pub(crate) digest: Digest,
    pub(crate) dir: tempfile::TempDir,
}

impl Site {
    /// `mirrors` gives the tables for the configuration. None where no registry is installed.
    pub(crate) fn start(mirrors: impl FnOnce(&Path) -> String) -> Option<Self> {
        if !have("docker-registry") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut service = Instance::start();
        let digest = service.registry.push("demo/app", "v1", "x");
        assert_eq!(service.stop(), 0);
        let config = service.dir().join("chanceryd.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{text}\n{}\n", mirrors(dir.path()))).unwrap();
        service.resume(&Settings::default());
        let site = Self { service, digest, dir };
        site.sign("v1");
        Some(site)
    }

    /// A service with one mirror in a folder.
    pub(crate) fn with_folder(entries: bool) -> Option<Self> {
        Self::start(|dir| {
            fs::create_dir(dir.join("mirror")).unwrap();
            format!("[[mirror]]\nto = \"file://{}/mirror\"\nentries = {entries}\nevery_s = 1", dir.display())
        })
    }

    pub(crate) fn mirror(&self) -> PathBuf {
        self.dir.path().join("mirror")
    }

    pub(crate) fn vkey(&self) -> VerifierKey {
        self.service.env()["CHANCERY_LOG_VKEY"].parse().unwrap()
    }

    /// Signing never waits for a mirror.
    pub(crate) fn sign(&self, tag: &str) {
        let signed = self.service.sign("demo/app", &self.digest, tag);
        assert_eq!(signed.code, 0, "{signed:?}");
    }

    /// The checkpoint in a mirror's folder, if there is one.
    pub(crate) fn checkpoint(&self) -> Option<Checkpoint> {
        let note = fs::read_to_string(self.mirror().join("checkpoint")).ok()?;
        Some(Checkpoint::open(&note, &self.vkey()).unwrap())
    }

    /// Waits until the mirror has everything that is signed now.
    pub(crate) fn is_followed(&self) -> Checkpoint {
        let size = self.service.noted().unwrap();
        wait_for("the mirror to follow", || self.checkpoint().filter(|c| c.size >= size))
    }

    /// Both verifiers accept the mirror's files as they are.
    pub(crate) fn verifies(&self, mirror: &Path) {
        second::agreed(mirror, &self.vkey().to_string(), &self.dir.path().join("state"));
    }

    /// Reads the mirror as others do while the daemon writes it, the checkpoint first, and has both verifiers look at that.
    pub(crate) fn verifies_now(&self) -> u64 {
        let copy = tempfile::tempdir().unwrap();
        let take = |path: &str| {
            let bytes = fs::read(self.mirror().join(path)).ok()?;
            let to = copy.path().join(path);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(&to, &bytes).unwrap();
            Some(bytes)
        };
        let note = String::from_utf8(take("checkpoint").unwrap()).unwrap();
        let size = Checkpoint::open(&note, &self.vkey()).unwrap().size;
        for path in tlog::tile_paths(size) {
            // A partial tile goes when the full one is there.
            let found = take(&path.to_string()).or_else(|| take(&path.full().to_string()));
            assert!(found.is_some(), "{path} of {size} entries is missing");
        }
        self.verifies(copy.path());
        size
    }

    /// What `/readyz` wants somebody to look at; it is ready all the same.
    pub(crate) fn alarms(&self) -> String {
        let (status, body) = self.service.http("", "/readyz", &[]);
        assert_eq!(status, 200, "{body}");
        let readiness: Value = serde_json::from_str(&body).unwrap();
        readiness["alarms"].as_array().map_or_else(String::new, |alarms| format!("{alarms:?}"))
    }

    /// Waits for an alarm with these words.
    pub(crate) fn has_alarm(&self, words: &str) -> String {
        wait_for(&format!("an alarm with {words:?}"), || {
            Some(self.alarms()).filter(|says| says.contains(words))
        })
    }

    pub(crate) fn has_no_alarm(&self) {
        wait_for("no alarm", || self.alarms().is_empty().then_some(()));
    }
}
