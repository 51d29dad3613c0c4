//! Charters of a keeper that shares the work with that of `chancery dev`: each names the other's keys.

use crate::Instance;
use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use record::{Purpose, Spki};
use serde::Deserialize;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The days that `chancery dev` gives each role, and so does every charter of these tests.
pub(crate) const DAYS: u32 = 3660;

/// What is read of the charter of `chancery dev`.
#[derive(Deserialize)]
struct DevCharter {
    origin: String,
    log_vkey: String,
    key: Vec<DevKey>,
}

#[derive(Deserialize)]
struct DevKey {
    spki: Spki,
    purpose: Purpose,
}

/// A charter without keys of its own, which knows those of `chancery dev` as others' for the repositories below `prefix`.
pub(crate) fn without_keys(service: &Instance, keeper: &str, prefix: &str) -> String {
    let text = fs::read_to_string(dev(service)).unwrap();
    let charter: DevCharter = toml::from_str(&text).unwrap();
    let mut own = format!(
        "schema = 1\nkeeper = \"{keeper}\"\norigin = \"{}\"\nlog_vkey = \"{}\"\n",
        charter.origin, charter.log_vkey
    );
    for key in &charter.key {
        own += &format!("\n[[other_key]]\n{}", known(&key.spki, key.purpose, prefix));
    }
    own
}

/// Tells the keeper of `chancery dev` of keys that are another's.
pub(crate) fn tell_dev(service: &Instance, prefix: &str, keys: &[(Purpose, Spki)]) {
    let text: String = keys
        .iter()
        .map(|(purpose, spki)| format!("\n[[other_key]]\n{}", known(spki, *purpose, prefix)))
        .collect();
    append(&dev(service), &text);
}

/// Tells the daemon of a keeper.
pub(crate) fn tell_daemon(service: &Instance, keeper: &str, socket: &Path) {
    let text = format!("\n[[keeper]]\nname = \"{keeper}\"\nsocket = \"{}\"\n", socket.display());
    append(&service.dir().join("chanceryd.toml"), &text);
}

/// What every entry of a key says.
pub(crate) fn known(spki: &Spki, purpose: Purpose, prefix: &str) -> String {
    format!(
        "spki = \"{}\"\npurpose = \"{purpose}\"\nrepositories = [\"{prefix}\"]\n",
        BASE64.encode(spki.der())
    )
}

/// DER as PEM of a certificate.
pub(crate) fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64.encode(der))
}

/// Writes a file that only its owner can read.
pub(crate) fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn append(path: &Path, text: &str) {
    let old = fs::read_to_string(path).unwrap();
    write(path, &(old + text));
}

fn dev(service: &Instance) -> PathBuf {
    service.dir().join("signing/charter.toml")
}
