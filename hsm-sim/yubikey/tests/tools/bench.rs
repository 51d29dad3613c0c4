//! A card in a reader of a pcscd, in a folder, for one test.

use hsm_sim_yubikey::{Builder, Entry, Pcscd, Profile, SOCKET_VARIABLE, VirtualYubiKey, YubiKeyJournal};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

pub(crate) const SERIAL: u32 = 5_740_001;
const MODULES: &str = "/usr/lib/x86_64-linux-gnu";

pub(crate) struct Bench {
    pub(crate) card: VirtualYubiKey,
    pub(crate) pcscd: Pcscd,
    dir: tempfile::TempDir,
}

impl Bench {
    /// `None`, with the reason printed, if this machine lacks something.
    pub(crate) fn set_up(tools: &[&str], profile: Profile) -> Option<Self> {
        Self::with(tools, |builder| builder.profile(profile))
    }

    pub(crate) fn with(tools: &[&str], build: impl FnOnce(Builder) -> Builder) -> Option<Self> {
        if let Some(why) = Pcscd::missing().or_else(|| missing(tools)) {
            hsm_sim::skip(&why);
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let pcscd = Pcscd::start(dir.path(), 1).unwrap();
        let card = build(VirtualYubiKey::builder().serial(SERIAL).reader(pcscd.vpcd(0).unwrap()))
            .journal(&dir.path().join("journal"))
            .apdu_log(&dir.path().join("apdus"))
            .insert()
            .unwrap();
        Some(Self { card, pcscd, dir })
    }

    /// A program that will find the card.
    pub(crate) fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env(SOCKET_VARIABLE, self.pcscd.socket()).current_dir(self.dir.path());
        command
    }

    /// Runs it, and wants success.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.tool(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", said(&output));
        said(&output)
    }

    /// Runs it, and wants failure.
    pub(crate) fn fail(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.tool(program).args(arguments).output().unwrap();
        assert!(!output.status.success(), "{program} {arguments:?}: {}", said(&output));
        said(&output)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.file(name), bytes).unwrap();
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        YubiKeyJournal::read(&self.file("journal")).unwrap()
    }

    /// Makes a key with `yubico-piv-tool`; `{slot}.pub` is its public key.
    pub(crate) fn generate(&self, slot: &str, algorithm: &str) {
        let public = format!("{slot}.pub");
        self.run("yubico-piv-tool", &["-rYubico", "-agenerate", "-s", slot, "-A", algorithm, "-o", &public]);
    }

    /// Puts a certificate of the slot's key on the card; OpenSC shows no key without. A passing CA signs it.
    pub(crate) fn certify(&self, slot: &str) {
        let (public, certificate) = (format!("{slot}.pub"), format!("{slot}.pem"));
        let subject = format!("/CN=slot {slot}");
        self.run(
            "openssl",
            &[
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
                "-subj", "/CN=ca",
            ],
        );
        self.run("openssl", &["req", "-new", "-key", "ca.key", "-subj", &subject, "-out", "request"]);
        self.run(
            "openssl",
            &[
                "x509",
                "-req",
                "-in",
                "request",
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-force_pubkey",
                &public,
                "-out",
                &certificate,
            ],
        );
        self.run("yubico-piv-tool", &["-rYubico", "-aimport-certificate", "-s", slot, "-i", &certificate]);
    }
}

/// The path of a PKCS#11 module.
pub(crate) fn module(name: &str) -> String {
    format!("{MODULES}/{name}")
}

pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// Programs are looked for on `PATH`, files where they are named.
fn missing(tools: &[&str]) -> Option<String> {
    let absent: Vec<&str> = tools.iter().copied().filter(|tool| !exists(tool)).collect();
    let text = || {
        format!(
            "not here: {}; Debian's packages yubico-piv-tool, ykcs11, opensc and openssl have them",
            absent.join(", ")
        )
    };
    (!absent.is_empty()).then(text)
}

fn exists(tool: &str) -> bool {
    if tool.ends_with(".so") {
        return Path::new(&module(tool)).exists();
    }
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(tool).exists()))
}
