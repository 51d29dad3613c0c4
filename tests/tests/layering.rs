//! Dependencies point one way. An arrow that is not in this table fails the build of everybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// crate -> crates of this workspace that it may depend on, other than in its tests
const ARROWS: &[(&str, &[&str])] = &[
    ("record", &[]),
    ("people", &["record"]),
    ("tlog", &[]),
    ("formats", &["record", "tlog"]),
    ("backup", &["record", "tlog"]),
    ("policy", &["record"]),
    ("api", &["record"]),
    ("identity", &["record"]),
    ("keeper", &["record", "people", "tlog", "formats"]),
    ("desk", &["record", "people", "keeper"]),
    ("chanceryd", &["record", "tlog", "backup", "formats", "api", "policy", "identity"]),
    ("cli", &["record", "tlog", "backup", "formats", "api", "policy"]),
    ("hsm-sim", &["hsm-sim-pkcs11", "hsm-sim-yubikey"]),
    ("hsm-sim-pkcs11", &[]),
    ("hsm-sim-yubikey", &[]),
    ("oidc-sim", &[]),
    ("tests", &["record", "tlog", "formats", "api", "policy", "hsm-sim", "hsm-sim-yubikey", "oidc-sim"]),
];

/// What a reviewer of the key processes does not want to find in them, however deep.
const NOT_IN_THE_KEEPER: &[&str] = &[
    "tokio",
    "cedar-policy",
    "sqlx",
    "hyper",
    "axum",
    "reqwest",
    "rustls",
    "policy",
    "chanceryd",
    "openssl",
    "hsm-sim",
];
/// What an auditor need not build, however deep, to have the command line that verifies the log. The policy engine is not
/// among it: `chancery policy replay` is how an auditor decides again what was decided.
const NOT_IN_THE_COMMAND_LINE: &[&str] = &[
    "cryptoki",
    "cryptoki-sys",
    "pcsc",
    "pcsc-sys",
    "yubikey",
    "axum",
    "axum-server",
    "sqlx",
    "libsqlite3-sys",
    "keeper",
    "chanceryd",
    "hsm-sim",
];
/// What the pure crates do not know, however deep.
const NOT_IN_PURE_CRATES: &[&str] = &["tokio", "sqlx", "reqwest", "rustix", "cryptoki", "hyper", "rustls"];
/// What the pure crates do not use of the standard library.
const NOT_IN_PURE_SOURCES: &[&str] =
    &["std::fs", "std::net", "std::process", "std::thread", "SystemTime", "Instant::now"];
/// The one place that reads the clock.
const CLOCK: &str = "record/src/clock.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Names of packages in cargo's tree: what is linked or built with, tests left out.
fn tree(args: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-e", "no-dev", "--prefix", "none", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|n| !n.is_empty())
        .map(Into::into)
        .collect()
}

/// Nothing below a package, however deep, has one of these names.
fn lacks(package: &str, forbidden: &[&str]) {
    let below = tree(&["-p", package]);
    assert!(below.contains(package), "{below:?}");
    let found: Vec<_> = forbidden.iter().filter(|name| below.contains(**name)).collect();
    assert!(found.is_empty(), "{package} leads to {found:?}");
}

#[test]
fn every_arrow_between_crates_is_in_the_table() {
    let members = tree(&["--workspace", "--depth", "0"]);
    let table: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    assert_eq!(members, table.keys().map(ToString::to_string).collect(), "members, and the table");
    for (name, allowed) in table {
        let mut below = tree(&["-p", name, "--depth", "1"]);
        below.remove(name);
        for dependency in below.intersection(&members) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn the_key_processes_hold_no_network_stack_and_no_policy_engine() {
    lacks("keeper", NOT_IN_THE_KEEPER);
}

#[test]
fn an_auditor_builds_the_command_line_without_devices_databases_and_servers() {
    lacks("cli", NOT_IN_THE_COMMAND_LINE);
}

#[test]
fn the_pure_crates_know_no_runtime_no_file_and_no_device() {
    for name in ["record", "people", "tlog", "formats", "identity"] {
        lacks(name, NOT_IN_PURE_CRATES);
        for file in sources(&root().join("signer").join(name).join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for word in NOT_IN_PURE_SOURCES.iter().filter(|_| !file.ends_with(CLOCK)) {
                assert!(!code.contains(word), "{} uses {word}", file.display());
            }
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    assert!(!files.is_empty(), "no source in {}", folder.display());
    files.into_iter().chain(folders.iter().flat_map(|f| sources(f))).collect()
}
