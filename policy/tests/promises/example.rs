//! The example is a policy that loads, passes its own tests, and shows every option.

use crate::facts::at;
use policy::{PolicySet, Sources, Validity};
use record::Repository;
use std::path::Path;

fn sources() -> Sources {
    Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("example")).unwrap()
}

#[test]
fn the_example_loads_passes_its_own_tests_and_has_nothing_to_look_at_again() {
    let policy = PolicySet::load(sources()).unwrap();
    assert_eq!(policy.cases().len(), 4);
    assert_eq!(policy.lint(at("2026-11-23T10:00:00.000Z")), []);
    let entry = |name: &str| policy.repository(&Repository::parse(name).unwrap()).cloned().unwrap();
    let api = entry("registry.example.com/payments/api");
    assert!(api.immutable_tags && !api.create_on_first_sign && api.signers == ["release"]);
    assert_eq!(api.validity, Validity::default(), "the example shows the defaults");
    let sandbox = entry("registry.example.com/sandbox/x/y");
    assert!(sandbox.create_on_first_sign && sandbox.signers.is_empty() && sandbox.media_types.len() == 4);
}

/// Every word in quotes of the program's own table of keys.
#[test]
fn the_example_shows_every_key_that_the_file_can_have() {
    let table = include_str!("../../src/data/keys.rs");
    let shapes = table.split("/// Every key of the file").next().unwrap();
    let keys: Vec<&str> = shapes.split('"').skip(1).step_by(2).collect();
    assert!(keys.len() > 50, "{keys:?}");
    let text = sources().data;
    for key in keys.iter().copied().chain(["root", "root_certificate", "targets", "snapshot", "timestamp"]) {
        let shown = [format!("{key} ="), format!("[[{key}]]"), format!("[repository.{key}]")];
        assert!(shown.iter().any(|shown| text.contains(shown)), "{key}");
    }
}
