//! A SoftHSM token behind the forwarder, with the keys that a test asks for.

use hsm_sim::{Entry, Faults, Journal, Journaled, SoftHsm};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// Starts a program that can write no file beyond 200 bytes: a journal takes the line of a login, and a part of the
/// line of a signature.
pub(crate) const SMALL_FILES_ONLY: [&str; 4] =
    ["sh", "-c", "trap '' XFSZ; exec prlimit --fsize=200 \"$@\"", "sh"];

/// A token and its journal; `dir` holds both, and what the tools write.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
    pub(crate) token: SoftHsm,
    pub(crate) journaled: Journaled,
    pub(crate) journal: PathBuf,
    /// In force only in a bench that was set up with them.
    pub(crate) faults: Faults,
}

impl Bench {
    /// `None` if a program is absent; the reason is printed.
    pub(crate) fn set_up(tools: &[&str]) -> Option<Self> {
        Self::set_up_as(tools, |token, journal, _| token.journaled(journal))
    }

    /// The same with a control folder, and with the key `a1`.
    pub(crate) fn with_faults(tools: &[&str]) -> Option<Self> {
        let bench = Self::set_up_as(tools, |token, journal, faults| token.journaled_with(journal, faults))?;
        bench.key_pair("a1", "EC:prime256v1");
        Some(bench)
    }

    fn set_up_as(
        tools: &[&str],
        journaled: impl FnOnce(&SoftHsm, &Path, &Faults) -> Result<Journaled, hsm_sim::Error>,
    ) -> Option<Self> {
        if let Some(why) = hsm_sim::missing(&[&["softhsm2-util", "pkcs11-tool"], tools].concat()) {
            hsm_sim::skip(why);
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("journal");
        let token = SoftHsm::create(&dir.path().join("token"), "bench").unwrap();
        let faults = Faults::create(&dir.path().join("control")).unwrap();
        let journaled = journaled(&token, &journal, &faults).unwrap();
        Some(Self { dir, token, journaled, journal, faults })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn written(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn pin(&self) -> String {
        fs::read_to_string(self.token.pin_file()).unwrap()
    }

    /// Makes a key pair behind the forwarder's back.
    pub(crate) fn key_pair(&self, id: &str, kind: &str) {
        let made = self
            .tool(self.token.module())
            .args(["--login", "--pin", &self.pin(), "--keypairgen", "--key-type", kind, "--id", id])
            .output()
            .unwrap();
        assert_success(&made);
    }

    /// The public key as DER `SubjectPublicKeyInfo`, in a file.
    pub(crate) fn public_key(&self, id: &str) -> PathBuf {
        let path = self.file(&format!("{id}.der"));
        let read = self
            .tool(self.token.module())
            .args(["--read-object", "--type", "pubkey", "--id", id, "--output-file"])
            .arg(&path)
            .output()
            .unwrap();
        assert_success(&read);
        path
    }

    /// `pkcs11-tool` on this token, through `module`.
    pub(crate) fn tool(&self, module: &Path) -> Command {
        self.tool_under(&["pkcs11-tool"], module)
    }

    /// The same, started by another program.
    pub(crate) fn tool_under(&self, program: &[&str], module: &Path) -> Command {
        let [first, rest @ ..] = program else { panic!("a program has a name") };
        let mut command = Command::new(first);
        command.args(rest).arg("--module").arg(module).args(["--token-label", self.token.label()]);
        command.envs(self.journaled.env()).stdin(Stdio::null());
        command
    }

    /// Signs a file through the forwarder, into the file `signature`.
    pub(crate) fn sign(&self, command: &mut Command, id: &str, mechanism: &str, input: &Path) -> Output {
        command
            .args(["--login", "--pin", &self.pin(), "--sign", "--id", id, "--mechanism", mechanism])
            .arg("--input-file")
            .arg(input)
            .arg("--output-file")
            .arg(self.file("signature"))
            .output()
            .unwrap()
    }

    /// The signatures that the key made.
    pub(crate) fn made(&self) -> Vec<String> {
        self.entries().iter().filter_map(Entry::signature).map(hex).collect()
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        Journal::read(&self.journal).unwrap()
    }
}

/// Both outputs: the tools write errors to either.
pub(crate) fn said(ended: &Output) -> String {
    [&ended.stdout, &ended.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

pub(crate) fn assert_success(ended: &Output) {
    assert!(ended.status.success(), "{}: {}", ended.status, said(ended));
}

pub(crate) fn assert_failure_says(ended: &Output, texts: &[&str]) {
    assert!(!ended.status.success(), "succeeded: {}", said(ended));
    for text in texts {
        assert!(said(ended).contains(text), "no {text:?} in: {}", said(ended));
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
