//! The second verifier, in Python: it shares nothing with the service but the formats, and must agree with it.

use crate::Output;
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// What both verifiers report of a log, and must report alike.
const SHARED: [&str; 9] =
    ["origin", "size", "root", "signed", "failed", "unknown", "void", "open_total", "findings_total"];

/// What the two verifiers say of a published log in a folder: `chancery log verify -o json`, then the second one. The
/// second one is absent where there is no Python, which is said.
pub fn verdicts(folder: &Path, vkey: &str, state: &Path) -> (Output, Option<Output>) {
    let mut first = Command::new(crate::binary("chancery"));
    first.args(["log", "verify", "-o", "json", "--vkey", vkey]).arg(folder).env("XDG_STATE_HOME", state);
    let mut second = Command::new("python3");
    second.arg(script()).arg(folder).arg(vkey);
    (Output::of(&mut first), crate::have("python3").then(|| Output::of(&mut second)))
}

/// Panics unless both verifiers accept the log, and report the same of it.
pub fn agreed(folder: &Path, vkey: &str, state: &Path) -> Output {
    let (first, second) = verdicts(folder, vkey, state);
    assert_eq!(first.code, 0, "{first:?}");
    if let Some(second) = second {
        assert_eq!(second.code, 0, "{second:?}");
        let [ours, theirs] =
            [&first, &second].map(|said| serde_json::from_str::<Value>(&said.stdout).unwrap());
        for member in SHARED {
            assert!(!ours[member].is_null() && ours[member] == theirs[member], "{member}: {ours} {theirs}");
        }
    }
    first
}

/// The second verifier.
pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("verifier/verify_log.py")
}
