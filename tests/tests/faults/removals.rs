//! Rows: the token is out, back, or another one.

use super::row::{Row, TARGETS};
use super::scene::{insert, reinsert, shown};
use hsm_sim::{Insertion, Rule, Token};

pub(super) fn removals(rows: &mut Vec<Row>) {
    rows.push(
        Row::new("the token was out and is back, before anybody asks", vec![], "signed 1").after(reinsert),
    );
    rows.push(
        Row::new("the token is out", vec![], "signed 1")
            .after(|scene| scene.keeper.faults.remove_token().unwrap())
            .until(insert),
    );
    rows.push(
        Row::new("the token is out and comes back in another slot", vec![], "signed 1")
            .after(|scene| scene.keeper.faults.remove_token().unwrap())
            .until(|scene| scene.keeper.faults.insert_token(Insertion::default().new_slot()).unwrap()),
    );
    for (what, rule, log) in [
        ("the token is pulled at C_SignInit", Rule::remove_token("C_SignInit"), "signed 1"),
        (
            "the token is pulled at C_Sign, before the key",
            Rule::remove_token("C_Sign"),
            "unknown 0, signed 1",
        ),
        (
            "the token is pulled at C_Sign, after the key",
            Rule::remove_token("C_Sign").after(),
            "unknown 1, signed 1",
        ),
    ] {
        rows.push(Row::new(what, vec![rule.key(TARGETS).times(1)], log).until(insert));
    }
    rows.push(
        Row::new("another token with this label and these keys is inserted", vec![], "signed 1")
            .after(|scene| {
                scene.keeper.faults.remove_token().unwrap();
                scene.keeper.faults.insert_token(Insertion::default().serial("another")).unwrap();
            })
            .check(|scene, before| assert_eq!(scene.keeper.logins().len(), before.logins, "no PIN for it"))
            .until(reinsert),
    );
    rows.push(
        Row::new("a token with another label is inserted", vec![], "signed 1")
            .after(|scene| {
                scene.keeper.faults.remove_token().unwrap();
                scene.keeper.faults.insert_token(Insertion::default().label("another")).unwrap();
            })
            .check(|scene, before| assert_eq!(scene.keeper.logins().len(), before.logins, "no PIN for it"))
            .until(reinsert),
    );
    rows.push(
        Row::new("the token is out when the keeper starts", vec![], "")
            .after(|scene| {
                scene.keeper.faults.remove_token().unwrap();
                scene.keeper.kill();
            })
            .exits(&[137, 70])
            .answers(9, insert),
    );
    rows.push(
        Row::new("two sessions are all that the token allows", vec![], "signed 1")
            .after(|scene| shown(scene, Token::default().max_sessions(2))),
    );
    rows.push(
        Row::new("CKA_EC_POINT is the bare point", vec![], "signed 1")
            .after(|scene| shown(scene, Token::default().raw_ec_point())),
    );
}
