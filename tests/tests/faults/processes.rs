//! Rows: a module that hangs or ends the process, and one that fails at the start.

use super::row::{Row, TARGETS, once};
use super::scene::DEADLINE_MS;
use hsm_sim::Rule;
use std::time::Duration;

pub(super) fn processes(rows: &mut Vec<Row>) {
    for (what, rule, log) in [
        ("C_SignInit hangs", Rule::hang("C_SignInit"), "unknown 0, signed 1"),
        ("C_Sign hangs before the key", Rule::hang("C_Sign"), "unknown 0, signed 1"),
        ("C_Sign hangs after the key", Rule::hang("C_Sign").after(), "unknown 1, signed 1"),
    ] {
        rows.push(Row::new(what, vec![rule.key(TARGETS).times(1)], log).exits(&[75]));
    }
    rows.push(
        Row::new(
            "C_OpenSession hangs after a lost session",
            vec![once("C_SignInit", "CKR_SESSION_CLOSED"), Rule::hang("C_OpenSession").times(1)],
            "unknown 0, signed 1",
        )
        .exits(&[75]),
    );
    rows.push(
        Row::new(
            "C_Initialize hangs after a device error",
            vec![once("C_SignInit", "CKR_DEVICE_ERROR"), Rule::hang("C_Initialize").times(1)],
            "unknown 0, signed 1",
        )
        .exits(&[75]),
    );
    rows.push(Row::new(
        "C_Sign takes a third of its deadline",
        vec![Rule::delay("C_Sign", Duration::from_millis(DEADLINE_MS / 3)).key(TARGETS).times(1)],
        "signed 1",
    ));
    for (what, rule, log) in [
        ("the module aborts in C_SignInit", Rule::abort("C_SignInit"), "unknown 0, signed 1"),
        ("the module aborts in C_Sign before the key", Rule::abort("C_Sign"), "unknown 0, signed 1"),
        ("the module aborts in C_Sign after the key", Rule::abort("C_Sign").after(), "unknown 1, signed 1"),
    ] {
        rows.push(Row::new(what, vec![rule.key(TARGETS).times(1)], log).exits(&[134]));
    }
    for (what, function, rv, times) in [
        ("at the start C_GetTokenInfo says CKR_DEVICE_ERROR", "C_GetTokenInfo", "CKR_DEVICE_ERROR", 1),
        ("at the start C_Initialize says CKR_GENERAL_ERROR", "C_Initialize", "CKR_GENERAL_ERROR", 1),
        ("at the start C_OpenSession says CKR_SESSION_COUNT", "C_OpenSession", "CKR_SESSION_COUNT", 1),
        ("at the start C_Login says CKR_DEVICE_ERROR", "C_Login", "CKR_DEVICE_ERROR", 1),
    ] {
        rows.push(
            Row::new(what, vec![Rule::answer(function, rv).times(times)], "signed 1")
                .after(|scene| scene.keeper.kill())
                .exits(&[137, 70]),
        );
    }
    rows.push(
        Row::new(
            "the module cannot lock, so that one thread may use it",
            vec![Rule::answer("C_Initialize", "CKR_CANT_LOCK").times(1)],
            "signed 1",
        )
        .after(|scene| scene.keeper.kill())
        .exits(&[137]),
    );
}
