//! The generator of large logs, small: what it makes is a log like any other.

use tests::{Instance, Output, Settings, grow_command, have};

/// More than eight full tiles, and not a whole number of them.
const SIZE: u64 = 2_100;

#[test]
fn a_log_that_was_grown_is_accepted_by_both_verifiers_and_goes_on() {
    if !have("docker-registry") || !have("softhsm2-util") {
        return;
    }
    let settings = Settings { plain_token: true, ..Settings::default() };
    let mut service = Instance::with(&settings);
    assert_eq!(service.stop(), 0);
    let begun = service.committed();
    let grown = Output::of(&mut grow_command(&service.dir(), SIZE));
    assert_eq!(grown.code, 0, "{grown:?}");
    assert!(begun < SIZE && service.committed() > SIZE, "the refill stands in the log, too");
    service.resume(&settings);
    let digest = service.registry.push("demo/app", "x", "grown");
    let signed = service.sign("demo/app", &digest, "v1");
    assert_eq!(signed.code, 0, "{signed:?}");
    let verified = service.verify_log();
    let report: serde_json::Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_eq!((report["open_total"].as_u64(), report["failed"].as_u64()), (Some(0), Some(0)), "{report}");
    assert!(report["signed"].as_u64().unwrap() > SIZE / 3, "{report}");
    let again = Output::of(&mut grow_command(&service.dir(), SIZE));
    assert_ne!(again.code, 0, "a log that is served is not grown: {again:?}");
}
