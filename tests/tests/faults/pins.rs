//! Rows: logins and PINs.

use super::row::{Row, TARGETS, once};
use super::scene::{Scene, reinsert, restart, shown, start_in_vain, unblocked};
use hsm_sim::{PinFlag, Rule, Token};
use std::fs;

/// `CKR_PIN_INCORRECT`.
const PIN_INCORRECT: u64 = 0xa0;

pub(super) fn pins(rows: &mut Vec<Row>) {
    rows.push(Row::new(
        "C_SignInit: CKR_USER_NOT_LOGGED_IN",
        vec![once("C_SignInit", "CKR_USER_NOT_LOGGED_IN")],
        "signed 1",
    ));
    for (what, function) in
        [("the login is lost at C_SignInit", "C_SignInit"), ("the login is lost at C_Sign", "C_Sign")]
    {
        rows.push(Row::new(what, vec![Rule::drop_login(function).key(TARGETS).times(1)], "signed 1").check(
            |scene, before| assert_eq!(scene.keeper.logins()[before.logins..], [0], "one login more"),
        ));
    }
    rows.push(
        Row::new(
            "C_SignInit: CKR_USER_NOT_LOGGED_IN, also after a login",
            vec![Rule::answer("C_SignInit", "CKR_USER_NOT_LOGGED_IN").key(TARGETS)],
            "failed (token-login) 0, failed (token-quarantined) 0, failed (token-quarantined) 0",
        )
        .exits(&[0])
        .answers(8, restart),
    );
    rows.push(
        Row::new(
            "the login is lost, and the PIN was wrong once since",
            vec![Rule::drop_login("C_Sign").key(TARGETS).times(1)],
            "signed 1",
        )
        .after(|scene| {
            scene.keeper.faults.set_token(Token::default().pin_flags(&[PinFlag::CountLow])).unwrap();
        }),
    );
    rows.push(
        Row::new(
            "the login is lost, and one PIN try is left",
            vec![Rule::drop_login("C_Sign").key(TARGETS).times(1)],
            "failed (token-pin) 0, signed 1",
        )
        .after(|scene| {
            let last = Token::default().pin_flags(&[PinFlag::CountLow, PinFlag::FinalTry]);
            scene.keeper.faults.set_token(last).unwrap();
        })
        .check(|scene, before| assert_eq!(scene.keeper.logins().len(), before.logins, "the last try is kept"))
        .exits(&[78])
        .until(unblocked),
    );
    for (what, rv) in [
        ("the login is lost, and C_Login says CKR_PIN_LOCKED", "CKR_PIN_LOCKED"),
        ("the login is lost, and C_Login says CKR_PIN_EXPIRED", "CKR_PIN_EXPIRED"),
    ] {
        let rules =
            vec![Rule::drop_login("C_Sign").key(TARGETS).times(1), Rule::answer("C_Login", rv).times(1)];
        rows.push(Row::new(what, rules, "failed (token-pin) 0, signed 1").exits(&[78]).until(restart));
    }
    rows.push(
        Row::new(
            "C_SignInit: CKR_PIN_EXPIRED",
            vec![once("C_SignInit", "CKR_PIN_EXPIRED")],
            "failed (token-pin) 0, signed 1",
        )
        .exits(&[78])
        .until(restart),
    );
    rows.push(
        Row::new("the token comes back with another PIN", vec![], "failed (token-pin) 0, signed 1")
            .after(|scene| {
                scene.keeper.faults.set_token(Token::default().pin_tries(3)).unwrap();
                scene.keeper.faults.set_pin_tries_left(3).unwrap();
                scene.change_pin();
                reinsert(scene);
            })
            .check(|scene, before| {
                assert_eq!(scene.keeper.logins()[before.logins..], [PIN_INCORRECT], "tried once");
                assert_eq!(scene.keeper.faults.pin_tries_left().unwrap(), Some(2));
            })
            .exits(&[78])
            .until(|scene| {
                fs::write(scene.keeper.token.pin_file(), &scene.pin).unwrap();
                unblocked(scene);
            }),
    );
    rows.push(
        Row::new("the keeper starts with a wrong PIN", vec![], "")
            .after(|scene| {
                scene.keeper.faults.set_token(Token::default().pin_tries(3)).unwrap();
                scene.keeper.faults.set_pin_tries_left(3).unwrap();
                fs::write(scene.keeper.token.pin_file(), "not the pin").unwrap();
                start_in_vain(scene);
            })
            .check(|scene, before| {
                assert_eq!(scene.keeper.logins()[before.logins..], [PIN_INCORRECT], "tried once");
                assert_eq!(scene.keeper.faults.pin_tries_left().unwrap(), Some(2));
            })
            .exits(&[0, 78])
            .answers(9, |scene| {
                fs::write(scene.keeper.token.pin_file(), &scene.pin).unwrap();
                unblocked(scene);
            }),
    );
    for (what, flags) in [
        ("the keeper starts and one PIN try is left", &[PinFlag::CountLow, PinFlag::FinalTry][..]),
        ("the keeper starts and the PIN is locked", &[PinFlag::Locked][..]),
    ] {
        let token = if flags.len() == 2 { last_try } else { locked };
        rows.push(
            Row::new(what, vec![], "")
                .after(token)
                .check(|scene, before| assert_eq!(scene.keeper.logins().len(), before.logins, "not tried"))
                .exits(&[0, 78])
                .answers(9, unblocked),
        );
    }
    rows.push(
        Row::new("the key wants its PIN for each signature", vec![], "signed 1")
            .after(|scene| shown(scene, Token::default().always_authenticate_for(TARGETS))),
    );
    rows.push(
        Row::new(
            "the key wants its PIN for each signature, and refuses it",
            // The first login of the row is the application's.
            vec![Rule::answer("C_Login", "CKR_PIN_INCORRECT").nth(2)],
            "failed (token-pin) 0, signed 1",
        )
        .after(|scene| shown(scene, Token::default().always_authenticate_for(TARGETS)))
        .exits(&[78])
        .until(restart),
    );
}

pub(super) fn last_try(scene: &mut Scene) {
    let token = Token::default().pin_flags(&[PinFlag::CountLow, PinFlag::FinalTry]);
    scene.keeper.faults.set_token(token).unwrap();
    start_in_vain(scene);
}

pub(super) fn locked(scene: &mut Scene) {
    scene.keeper.faults.set_token(Token::default().pin_flags(&[PinFlag::Locked])).unwrap();
    start_in_vain(scene);
}
