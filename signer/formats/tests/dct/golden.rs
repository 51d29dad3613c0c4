//! The golden files: what one fixed collection's bytes are. `cargo test -p formats -- --ignored` writes them anew; a
//! changed file means that clients see other bytes, and keepers of different versions no longer agree.

use crate::collection::{Collection, Files, GUN};
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn named(files: Files) -> [(&'static str, Vec<u8>); 7] {
    [
        ("root-certificate.der", files.certificate),
        ("root.json", files.root),
        ("targets-1.json", files.first),
        ("targets-2.json", files.targets),
        ("snapshot.json", files.snapshot),
        ("timestamp.json", files.timestamp),
        ("timestamp-expired.json", files.expired),
    ]
}

/// The files as they are checked in.
pub(crate) fn checked_in() -> Files {
    let read = |name| std::fs::read(folder().join(name)).unwrap();
    Files {
        certificate: read("root-certificate.der"),
        root: read("root.json"),
        first: read("targets-1.json"),
        targets: read("targets-2.json"),
        snapshot: read("snapshot.json"),
        timestamp: read("timestamp.json"),
        expired: read("timestamp-expired.json"),
    }
}

#[test]
fn the_builders_give_the_golden_files_byte_for_byte() {
    for ((name, made), (_, kept)) in named(Collection::new(GUN).files()).into_iter().zip(named(checked_in()))
    {
        assert!(made == kept, "{name} differs:\n{}", String::from_utf8_lossy(&made));
    }
}

#[test]
#[ignore = "writes the golden files"]
fn write_the_golden_files() {
    for (name, bytes) in named(Collection::new(GUN).files()) {
        std::fs::write(folder().join(name), bytes).unwrap();
    }
}
