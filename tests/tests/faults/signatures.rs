//! Rows: what the module says to a signature.

use super::row::{Row, TARGETS, name, once};
use super::scene::{clear, restart};
use hsm_sim::Rule;

pub(super) fn signatures(rows: &mut Vec<Row>) {
    // A stale session: another one. What C_Sign says to have met at its entry was before the key.
    for rv in ["CKR_SESSION_HANDLE_INVALID", "CKR_SESSION_CLOSED", "CKR_OPERATION_ACTIVE"] {
        rows.push(Row::new(name("C_SignInit", rv), vec![once("C_SignInit", rv)], "signed 1"));
    }
    for rv in [
        "CKR_SESSION_HANDLE_INVALID",
        "CKR_OPERATION_NOT_INITIALIZED",
        "CKR_TOKEN_NOT_PRESENT",
        "CKR_CRYPTOKI_NOT_INITIALIZED",
    ] {
        rows.push(Row::new(name("C_Sign", rv), vec![once("C_Sign", rv)], "signed 1"));
    }
    rows.push(Row::new(
        "C_Sign: CKR_SESSION_CLOSED, which may come after the key",
        vec![once("C_Sign", "CKR_SESSION_CLOSED")],
        "unknown 0, signed 1",
    ));
    rows.push(Row::new(
        "C_Sign: CKR_SESSION_CLOSED after the key",
        vec![once("C_Sign", "CKR_SESSION_CLOSED").after()],
        "unknown 1, signed 1",
    ));
    rows.push(Row::new(
        "C_Sign: an error that leaves the operation active in the session",
        vec![once("C_Sign", "CKR_FUNCTION_FAILED").poison()],
        "unknown 0, signed 1",
    ));
    // A stale handle: the key is found anew, else the library is.
    for rv in ["CKR_KEY_HANDLE_INVALID", "CKR_OBJECT_HANDLE_INVALID"] {
        rows.push(Row::new(name("C_SignInit", rv), vec![once("C_SignInit", rv)], "signed 1"));
    }
    rows.push(Row::new(
        "C_Sign: CKR_KEY_HANDLE_INVALID",
        vec![once("C_Sign", "CKR_KEY_HANDLE_INVALID")],
        "signed 1",
    ));
    rows.push(Row::new(
        "C_SignInit: CKR_KEY_HANDLE_INVALID, also in a fresh session",
        vec![Rule::answer("C_SignInit", "CKR_KEY_HANDLE_INVALID").key(TARGETS).times(2)],
        "signed 1",
    ));
    // The library or the token is gone.
    for rv in [
        "CKR_DEVICE_REMOVED",
        "CKR_TOKEN_NOT_PRESENT",
        "CKR_TOKEN_NOT_RECOGNIZED",
        "CKR_SLOT_ID_INVALID",
        "CKR_DEVICE_ERROR",
        "CKR_GENERAL_ERROR",
        "CKR_CRYPTOKI_NOT_INITIALIZED",
    ] {
        rows.push(Row::new(name("C_SignInit", rv), vec![once("C_SignInit", rv)], "signed 1"));
    }
    for rv in ["CKR_DEVICE_ERROR", "CKR_GENERAL_ERROR", "CKR_DEVICE_REMOVED"] {
        rows.push(Row::new(name("C_Sign", rv), vec![once("C_Sign", rv)], "unknown 0, signed 1"));
        let after = once("C_Sign", rv).after();
        rows.push(Row::new(name("C_Sign after the key", rv), vec![after], "unknown 1, signed 1"));
    }
    rows.push(Row::new(
        "C_SignInit: CKR_DEVICE_ERROR, three times",
        vec![Rule::answer("C_SignInit", "CKR_DEVICE_ERROR").key(TARGETS).times(3)],
        "signed 1",
    ));
    rows.push(Row::new(
        "C_FindObjectsInit: CKR_DEVICE_ERROR after a lost session",
        vec![
            once("C_SignInit", "CKR_SESSION_CLOSED"),
            Rule::answer("C_FindObjectsInit", "CKR_DEVICE_ERROR").times(1),
        ],
        "signed 1",
    ));
    // At a limit.
    for (rv, times) in
        [("CKR_DEVICE_MEMORY", 3), ("CKR_HOST_MEMORY", 1), ("CKR_FUNCTION_FAILED", 4), ("0x80000123", 2)]
    {
        let rule = Rule::answer("C_SignInit", rv).key(TARGETS).times(times);
        rows.push(Row::new(name("C_SignInit, up to 4 times", rv), vec![rule], "signed 1"));
    }
    rows.push(Row::new(
        "C_OpenSession: CKR_SESSION_COUNT after a lost session",
        vec![
            once("C_SignInit", "CKR_SESSION_CLOSED"),
            Rule::answer("C_OpenSession", "CKR_SESSION_COUNT").times(2),
        ],
        "signed 1",
    ));
    rows.push(Row::new(
        "C_OpenSession: CKR_SESSION_READ_ONLY after a lost session",
        vec![
            once("C_SignInit", "CKR_SESSION_CLOSED"),
            Rule::answer("C_OpenSession", "CKR_SESSION_READ_ONLY").times(1),
        ],
        "signed 1",
    ));
    rows.push(
        Row::new(
            "C_SignInit: CKR_FUNCTION_FAILED, for as long as the client waits",
            vec![Rule::answer("C_SignInit", "CKR_FUNCTION_FAILED").key(TARGETS)],
            "signed 1",
        )
        .until(clear),
    );
    for rv in ["CKR_FUNCTION_FAILED", "CKR_DEVICE_MEMORY"] {
        let after = once("C_Sign", rv).after();
        rows.push(Row::new(name("C_Sign after the key", rv), vec![after], "unknown 1, signed 1"));
    }
    // Asking the same again cannot help, and another request can.
    rows.push(Row::new(
        "C_SignInit: CKR_ARGUMENTS_BAD",
        vec![once("C_SignInit", "CKR_ARGUMENTS_BAD")],
        "failed (token-refused) 0, signed 1",
    ));
    rows.push(Row::new(
        "C_Sign: CKR_DATA_LEN_RANGE",
        vec![once("C_Sign", "CKR_DATA_LEN_RANGE")],
        "failed (token-refused) 0, signed 1",
    ));
    rows.push(Row::new(
        "C_Sign: CKR_BUFFER_TOO_SMALL",
        vec![once("C_Sign", "CKR_BUFFER_TOO_SMALL")],
        "unknown 0, signed 1",
    ));
    // Nobody asks this key again before a person has looked.
    for rv in ["CKR_MECHANISM_INVALID", "CKR_KEY_FUNCTION_NOT_PERMITTED", "CKR_ACTION_PROHIBITED"] {
        rows.push(
            Row::new(
                name("C_SignInit", rv),
                vec![once("C_SignInit", rv)],
                "failed (token-refused) 0, failed (token-quarantined) 0, failed (token-quarantined) 0",
            )
            .exits(&[0])
            .answers(8, restart),
        );
    }
    for (what, rule) in [
        ("a bit of the signature is flipped", Rule::flip_bit("C_Sign", 77)),
        ("an older signature is given", Rule::older_signature("C_Sign")),
    ] {
        rows.push(
            Row::new(
                what,
                vec![rule.key(TARGETS).times(1)],
                "unknown 1, failed (token-quarantined) 0, failed (token-quarantined) 0",
            )
            .exits(&[0])
            .answers(8, restart),
        );
    }
}
