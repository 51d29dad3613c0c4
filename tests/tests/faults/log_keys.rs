//! Rows: the log's own key.

use super::row::Row;
use hsm_sim::{Insertion, Rule};

pub(super) fn log_keys(rows: &mut Vec<Row>) {
    rows.push(Row::new("the log key: C_Sign says CKR_DEVICE_ERROR", vec![], "signed 1").after(|scene| {
        scene.service.faults.add(Rule::answer("C_Sign", "CKR_DEVICE_ERROR").key(&[1]).times(2)).unwrap();
    }));
    rows.push(Row::new("the log key: C_SignInit says CKR_KEY_HANDLE_INVALID", vec![], "signed 1").after(
        |scene| {
            let rule = Rule::answer("C_SignInit", "CKR_KEY_HANDLE_INVALID").key(&[1]).times(1);
            scene.service.faults.add(rule).unwrap();
        },
    ));
    rows.push(
        Row::new("the log key's token is out", vec![], "signed 1")
            .after(|scene| scene.service.faults.remove_token().unwrap())
            .until(|scene| scene.service.faults.insert_token(Insertion::default()).unwrap()),
    );
}
