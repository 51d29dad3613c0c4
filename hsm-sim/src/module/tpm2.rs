//! tpm2-pkcs11 over swtpm: the TPM is a process, and can be switched off.

use super::{
    Module,
    provisioned::{Device, Place, Raw},
};
use crate::{
    Error,
    tools::{cached, cached_version, multiarch},
};
use hsm_sim_yubikey::free_pair;
use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

const FOLDER: &str = "tpm2-pkcs11";
/// A start takes some 20 ms; this is for a machine under load.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// When the standard input closes, for whatever reason, the TPM ends.
const LAUNCH: &str = "\"$@\" & cat >/dev/null; kill $!; wait";

pub(super) fn library() -> PathBuf {
    libraries().join("pkcs11/libtpm2_pkcs11.so")
}

pub(super) fn version() -> Result<String, Error> {
    cached_version(FOLDER)
}

fn libraries() -> PathBuf {
    cached(FOLDER).join("usr/lib").join(multiarch())
}

pub(super) fn make(dir: &Path, label: &str) -> Result<Raw, Error> {
    let place = Place::make(dir, label)?;
    let (state, store) = (place.dir.join("tpm"), place.dir.join("store"));
    for folder in [&state, &store] {
        fs::create_dir(folder).map_err(Error::file("make the folder", folder))?;
    }
    let tpm = Swtpm { state, log: place.dir.join("swtpm.log"), port: free_pair()?, child: Mutex::default() };
    tpm.start()?;
    let env = vec![
        library_path(),
        ("TPM2_PKCS11_TCTI".to_owned(), format!("swtpm:host=127.0.0.1,port={}", tpm.port)),
        ("TPM2_PKCS11_STORE".to_owned(), store.to_string_lossy().into_owned()),
    ];
    place.initialise(&library(), &env, label)?;
    Ok(place.raw(Module::Tpm2, label, env, Device::Tpm(tpm)))
}

fn library_path() -> (String, String) {
    let libraries = libraries();
    let path = format!("{0}:{0}/swtpm", libraries.display());
    ("LD_LIBRARY_PATH".to_owned(), path)
}

/// A TPM in software. Its state is in files, and survives a stop.
#[derive(Debug)]
pub(super) struct Swtpm {
    state: PathBuf,
    log: PathBuf,
    /// The control channel has the next one: so `tcti-swtpm` expects.
    port: u16,
    child: Mutex<Option<Child>>,
}

impl Swtpm {
    pub(super) fn start(&self) -> Result<(), Error> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let log = File::create(&self.log).map_err(Error::file("write the TPM's log", &self.log))?;
        let channel = |port| format!("type=tcp,bindaddr=127.0.0.1,port={port}");
        let mut shell = Command::new("sh");
        shell.args(["-c", LAUNCH, "sh"]).arg(cached(FOLDER).join("usr/bin/swtpm"));
        shell.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"]);
        shell.arg(format!("dir={}", self.state.display()));
        shell.args(["--server", &channel(self.port), "--ctrl", &channel(self.port + 1)]);
        shell.envs([library_path()]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let started = shell
            .spawn()
            .map_err(|source| Error::ToolMissing { tool: "swtpm through sh".to_owned(), source })?;
        *child = Some(started);
        self.wait(true)
    }

    pub(super) fn stop(&self) -> Result<(), Error> {
        self.end();
        self.wait(false)
    }

    fn end(&self) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            drop(child.stdin.take());
            // It was told to end; if it is gone already there is nothing to wait for.
            let _ = child.wait();
        }
    }

    /// Asks the control channel, which answers whoever else is connected.
    fn wait(&self, running: bool) -> Result<(), Error> {
        let since = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port + 1)).is_ok() != running {
            if since.elapsed() > PATIENCE {
                let what = if running { "start" } else { "end" };
                return Err(Error::NotInTime { device: "swtpm", what, waited_s: PATIENCE.as_secs() });
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.end();
    }
}
