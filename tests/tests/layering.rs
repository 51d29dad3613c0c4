//! Dependencies point one way. An arrow that is not in this table fails the build of everybody.

use std::{collections::BTreeMap, fs, path::Path};

/// crate -> (folder, crates of this workspace that it may depend on)
const ARROWS: &[(&str, &str, &[&str])] = &[
    ("record", "signer/record", &[]),
    ("tlog", "signer/tlog", &[]),
    ("formats", "signer/formats", &["record"]),
    ("policy", "policy", &["record"]),
    ("api", "signer/api", &["record"]),
    ("keeper", "signer/keeper", &["record", "tlog", "formats"]),
    ("chanceryd", "signer/chanceryd", &["record", "tlog", "formats", "api", "policy"]),
    ("cli", "signer/cli", &["record", "tlog", "formats", "api", "policy"]),
    ("hsm-sim", "hsm-sim", &["hsm-sim-pkcs11"]),
    ("hsm-sim-pkcs11", "hsm-sim/pkcs11", &[]),
    ("hsm-sim-yubikey", "hsm-sim/yubikey", &[]),
];

/// What a reviewer of the key processes does not want to find in them.
const NOT_IN_THE_KEEPER: &[&str] =
    &["tokio", "cedar-policy", "sqlx", "hyper", "axum", "reqwest", "rustls", "policy", "chanceryd"];
/// What the pure crates do not know.
const NOT_IN_PURE_CRATES: &[&str] = &["tokio", "sqlx", "reqwest", "rustix", "cryptoki"];

fn dependencies(folder: &str) -> BTreeMap<String, toml::Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = root.join(folder).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let manifest: toml::Table = text.parse().unwrap();
    let table = manifest.get("dependencies").and_then(|d| d.as_table()).cloned().unwrap_or_default();
    table.into_iter().collect()
}

#[test]
fn every_arrow_between_crates_is_in_the_table() {
    let ours: Vec<&str> = ARROWS.iter().map(|(name, ..)| *name).collect();
    for (name, folder, allowed) in ARROWS {
        for dependency in dependencies(folder).keys().filter(|d| ours.contains(&d.as_str())) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn every_member_of_the_workspace_is_in_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    for member in members.iter().filter_map(|m| m.as_str()).filter(|m| *m != "tests") {
        assert!(
            ARROWS.iter().any(|(_, folder, _)| *folder == member),
            "{member} is not in the table of arrows"
        );
    }
}

#[test]
fn the_key_processes_hold_no_network_stack_and_no_policy_engine() {
    for dependency in dependencies("signer/keeper").keys() {
        assert!(!NOT_IN_THE_KEEPER.contains(&dependency.as_str()), "keeper must not depend on {dependency}");
    }
}

#[test]
fn the_pure_crates_know_no_runtime_no_file_and_no_device() {
    for folder in ["signer/record", "signer/tlog", "signer/formats", "policy"] {
        for dependency in dependencies(folder).keys() {
            assert!(
                !NOT_IN_PURE_CRATES.contains(&dependency.as_str()),
                "{folder} must not depend on {dependency}"
            );
        }
    }
}
