//! Faults that the rules inject, in front of a real token: what the caller gets, and what the key made.

use crate::{
    bench::{Bench, assert_failure_says, assert_success},
    obedient::Obedient,
};
use hsm_sim::{Happened, Rule};
use std::{
    fs,
    time::{Duration, Instant},
};

#[test]
fn a_call_that_hangs_before_the_key_has_made_no_signature_until_it_is_released() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    let hang = bench.faults.add(Rule::hang("C_Sign").times(1)).unwrap();
    child.tell(0, "both 7");
    bench.faults.wait_fired(&hang, 1).unwrap();
    assert_eq!(bench.faults.held(&hang).unwrap(), 1);
    assert_eq!(bench.made(), [""; 0]);

    bench.faults.release(&hang).unwrap();
    let signed = child.answer(0);
    assert_eq!(bench.made(), [signed.strip_prefix("0x0 ").unwrap()]);
    assert_eq!(bench.faults.held(&hang).unwrap(), 0);
}

#[test]
fn a_call_that_hangs_after_the_key_has_its_signature_in_the_journal() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    let hang = bench.faults.add(Rule::hang("C_Sign").after()).unwrap();
    child.tell(0, "both 7");
    bench.faults.wait_fired(&hang, 1).unwrap();
    let made = bench.made();
    assert_eq!(made.len(), 1);

    bench.faults.release(&hang).unwrap();
    assert_eq!(child.answer(0), format!("0x0 {}", made[0]));
    assert_eq!(bench.made(), made);
}

#[test]
fn a_killed_process_that_hung_before_the_key_left_no_signature_and_its_successor_signs() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    let hang = bench.faults.add(Rule::hang("C_Sign").times(1)).unwrap();
    child.tell(0, "both 7");
    bench.faults.wait_fired(&hang, 1).unwrap();
    child.kill();
    assert_eq!(bench.made(), [""; 0]);

    let mut child = Obedient::ready(&bench);
    assert!(child.ask(0, "both 7").starts_with("0x0 "), "the counter is that of all processes");
    assert_eq!(bench.faults.fired(&hang).unwrap(), 1);
}

#[test]
fn a_hanging_call_blocks_no_other_session() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    child.join(1);
    let hangs = [Rule::hang("C_Sign"), Rule::hang("C_Sign").after()]
        .map(|rule| bench.faults.add(rule.times(1)).unwrap());
    child.tell(0, "both 1");
    bench.faults.wait_fired(&hangs[0], 1).unwrap();
    child.tell(1, "both 2");
    bench.faults.wait_fired(&hangs[1], 1).unwrap();
    for worker in 2..6 {
        child.join(worker);
        assert!(child.ask(worker, "both 3").starts_with("0x0 "));
    }
    bench.faults.clear().unwrap();
    for worker in 0..2 {
        assert!(child.answer(worker).starts_with("0x0 "));
    }
    assert_eq!(bench.made().len(), 6);
}

#[test]
fn an_error_before_the_key_makes_no_signature_and_leaves_the_session_usable() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    for function in ["C_SignInit", "C_Sign"] {
        let rule = bench.faults.add(Rule::answer(function, "CKR_DEVICE_ERROR").times(1)).unwrap();
        assert_eq!(child.ask(0, "both 1"), "0x30", "{function}");
        assert_eq!(child.ask(0, "sign 1"), "0x91", "the operation ended");
        bench.faults.release(&rule).unwrap();
    }
    assert_eq!(bench.made(), [""; 0]);
    assert!(child.ask(0, "both 1").starts_with("0x0 "));
    assert_eq!(bench.made().len(), 1);
}

#[test]
fn an_error_after_the_key_withholds_a_signature_that_was_made() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    bench.faults.add(Rule::answer("C_Sign", "0x80000123").after().times(1)).unwrap();
    assert_eq!(child.ask(0, "both 1"), "0x80000123");
    assert_eq!(bench.made().len(), 1);
    assert!(child.ask(0, "both 1").starts_with("0x0 "));
    assert_eq!(bench.made().len(), 2);
}

#[test]
fn a_poisoned_error_leaves_the_operation_active() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    bench.faults.add(Rule::answer("C_Sign", "CKR_DEVICE_ERROR").poison().times(1)).unwrap();
    assert_eq!(child.ask(0, "both 1"), "0x30");
    assert_eq!(child.ask(0, "init"), "0x90");
    child.join(1);
    assert_eq!(child.ask(0, "close"), "0x0");
    assert!(child.ask(1, "both 2").starts_with("0x0 "));
    assert_eq!(bench.made().len(), 1);
}

#[test]
fn an_abort_ends_the_process_before_or_after_the_key() {
    for (rule, made) in [(Rule::abort("C_Sign"), 0), (Rule::abort("C_Sign").after(), 1)] {
        let Some(bench) = Bench::with_faults(&[]) else { return };
        let mut child = Obedient::ready(&bench);
        bench.faults.add(rule).unwrap();
        child.tell(0, "both 1");
        assert!(!child.ended().success());
        assert_eq!(bench.made().len(), made);
    }
}

#[test]
fn a_delay_is_over_by_itself() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    let delay = bench.faults.add(Rule::delay("C_Sign", Duration::from_millis(30))).unwrap();
    let since = Instant::now();
    assert!(child.ask(0, "both 1").starts_with("0x0 "));
    assert!(since.elapsed() >= Duration::from_millis(30));
    assert_eq!(bench.faults.fired(&delay).unwrap(), 1);
}

#[test]
fn an_altered_signature_is_not_the_one_in_the_journal() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    let flip = bench.faults.add(Rule::flip_bit("C_Sign", 0)).unwrap();
    let flipped = child.ask(0, "both 1");
    let (flipped, made) = (flipped.strip_prefix("0x0 ").unwrap(), bench.made());
    let first = |hex: &str| u8::from_str_radix(&hex[..2], 16).unwrap();
    assert_eq!(first(flipped) ^ 1, first(&made[0]));
    assert_eq!(flipped[2..], made[0][2..]);

    bench.faults.release(&flip).unwrap();
    bench.faults.add(Rule::older_signature("C_Sign").key(&[0xa1])).unwrap();
    assert_eq!(child.ask(0, "both 2"), format!("0x0 {}", made[0]));
    let both = bench.made();
    assert_eq!((both.len(), &both[0]), (2, &made[0]));
    assert_ne!(both[1], made[0]);
}

#[test]
fn conditions_and_filters_choose_the_calls() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    bench.faults.add(Rule::answer("C_Sign", "CKR_DEVICE_ERROR").every(2).times(2)).unwrap();
    bench.faults.add(Rule::answer("C_Sign", "CKR_DATA_INVALID").key(&[0xb2])).unwrap();
    bench.faults.add(Rule::answer("C_Sign", "CKR_DATA_INVALID").session(u64::MAX)).unwrap();
    bench.faults.add(Rule::answer("C_Sign", "CKR_DATA_INVALID").from(Duration::from_secs(3600))).unwrap();
    let answers = [1, 2, 3, 4, 5, 6].map(|n| child.ask(0, &format!("both {n}"))[..4].to_owned());
    assert_eq!(answers, ["0x0 ", "0x30", "0x0 ", "0x30", "0x0 ", "0x0 "]);
    let struck: Vec<_> = bench.faults.log().unwrap().into_iter().map(|event| event.n).collect();
    assert_eq!(struck, [1, 2]);
    assert_eq!(bench.made().len(), 4);
}

#[test]
fn a_length_query_is_struck_only_by_a_rule_for_it() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    bench.faults.add(Rule::answer("C_Sign", "CKR_DEVICE_ERROR").times(1)).unwrap();
    assert_eq!((child.ask(0, "init"), child.ask(0, "length")), ("0x0".into(), "0x40".into()));
    assert_eq!(child.ask(0, "sign 1"), "0x30");
    let rule = Rule::answer("C_Sign", "CKR_DEVICE_MEMORY").on_length_query();
    let rule = bench.faults.add(rule).unwrap();
    assert!(child.ask(0, "both 1").starts_with("0x0 "));
    assert_eq!(bench.faults.fired(&rule).unwrap(), 0);
}

#[test]
fn a_broken_rules_file_fails_every_call_until_it_is_mended() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    let path = bench.faults.folder().join("rules.jsonl");
    fs::write(&path, "{\"id\":\"a\",\"on\":\"C_Sing\",\"do\":\"hang\"}\n").unwrap();
    assert_eq!(child.ask(0, "session"), "0x5");
    assert_eq!(child.ask(0, "both 1"), "0x5");
    let tool = bench.tool(bench.journaled.module()).arg("-L").output().unwrap();
    assert_failure_says(&tool, &["rules.jsonl: line 1 is no rule", "C_Sing"]);
    fs::remove_file(&path).unwrap();
    assert_eq!(child.ask(0, "session"), "0x0");
    assert!(child.ask(0, "both 1").starts_with("0x0 "));
}

#[test]
fn every_event_is_told_with_its_process_and_function() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    let hang = bench.faults.add(Rule::hang("*").times(1)).unwrap();
    child.tell(0, "session");
    bench.faults.wait_fired(&hang, 1).unwrap();
    bench.faults.release(&hang).unwrap();
    assert_eq!(child.answer(0), "0x0");
    let events = bench.faults.log().unwrap();
    let told: Vec<_> = events.iter().map(|event| (event.function.as_str(), event.happened)).collect();
    assert_eq!(told, [("C_GetSessionInfo", Happened::Fired), ("C_GetSessionInfo", Happened::Released)]);
    assert!(events.iter().all(|event| event.session.is_some() && event.rule == hang.to_string()));
}

#[test]
fn pkcs11_tool_meets_a_rule_that_was_written_by_hand() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let input = bench.written("digest", &[7; 32]);
    let rules = bench.faults.folder().join("rules.jsonl");
    let sign = || bench.sign(&mut bench.tool(bench.journaled.module()), "a1", "ECDSA", &input);
    for (when, made) in [("before", 0), ("after", 1)] {
        let rule = r#"{"id":"WHEN","on":"C_Sign","do":{"return":"CKR_DEVICE_ERROR"},"when":"WHEN"}"#;
        fs::write(&rules, rule.replace("WHEN", when)).unwrap();
        // pkcs11-tool tries again in parts, which ECDSA on this token has not: so this module ended the operation.
        assert_failure_says(&sign(), &["C_SignUpdate", "CKR_OPERATION_NOT_INITIALIZED"]);
        assert_eq!(bench.made().len(), made, "{when}");
    }
    let struck: Vec<_> = bench.faults.log().unwrap().into_iter().map(|event| event.rule).collect();
    assert_eq!(struck, ["before", "after"]);
    fs::remove_file(&rules).unwrap();
    assert_success(&sign());
    assert_eq!(bench.made().len(), 2);
}

#[test]
fn an_operation_in_parts_fails_at_each_part_without_a_signature_before_the_last_one() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    bench.key_pair("b2", "RSA:2048");
    let input = bench.written("message", &[0x5a; 5000]);
    let sign = || bench.sign(&mut bench.tool(bench.journaled.module()), "b2", "SHA256-RSA-PKCS", &input);
    let error = |function| Rule::answer(function, "CKR_DEVICE_ERROR");
    for (rule, made) in [
        (error("C_SignInit").after(), 0),
        (error("C_SignUpdate"), 0),
        (error("C_SignUpdate").after(), 0),
        (error("C_SignFinal"), 0),
        (error("C_SignFinal").after(), 1),
    ] {
        let rule = bench.faults.add(rule).unwrap();
        assert_failure_says(&sign(), &["CKR_DEVICE_ERROR"]);
        assert_eq!(bench.made().len(), made, "{rule}");
        bench.faults.release(&rule).unwrap();
    }
    assert_success(&sign());
    assert_eq!(bench.made().len(), 2);
}
