//! Tokens that are removed, count PINs, and look otherwise than the real one.

use crate::{
    bench::{Bench, assert_failure_says, assert_success, said},
    obedient::Obedient,
};
use cryptoki_sys::{CKA_ALWAYS_AUTHENTICATE, CKA_EC_POINT, CKA_ID};
use hsm_sim::{Entry, Insertion, PinFlag, Rule, Token};
use std::fs;

const LOW: u64 = 0x10000;
const FINAL: u64 = 0x20000;
const LOCKED: u64 = 0x40000;
const TO_BE_CHANGED: u64 = 0x80000;
const PIN_PAD: u64 = 0x100;

#[test]
fn a_removed_token_is_gone_for_every_call_and_its_sessions_are_gone_for_ever() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    let slots = child.ask(0, "slots");
    assert_eq!(child.ask(0, "init"), "0x0");
    bench.faults.remove_token().unwrap();
    for (command, answer) in
        [("slots", "0x0 []"), ("session", "0x32"), ("both 1", "0x32"), ("sign 1", "0x32"), ("close", "0x32")]
    {
        assert_eq!(child.ask(0, command), answer, "{command}");
    }
    assert!(child.ask(0, "token").starts_with("0xe0 "));
    assert_eq!(child.ask(0, "open"), "0xe0");

    bench.faults.insert_token(Insertion::default()).unwrap();
    assert_eq!(child.ask(0, "slots"), slots);
    for command in ["session", "both 1", "sign 1"] {
        assert_eq!(child.ask(0, command), "0xb3", "{command}");
    }
    assert_eq!((child.ask(0, "open"), child.ask(0, "key")), ("0x0".into(), "none".into()), "logged out");
    sign_again(&mut child, &bench);
    assert_eq!(bench.made().len(), 1);
}

#[test]
fn a_removal_that_nobody_saw_ends_the_sessions_too() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    bench.faults.remove_token().unwrap();
    bench.faults.insert_token(Insertion::default()).unwrap();
    assert_eq!(child.ask(0, "both 1"), "0xb3");
    assert_eq!(child.ask(0, "open"), "0x0");
    sign_again(&mut child, &bench);
}

#[test]
fn a_token_comes_back_in_another_slot_or_as_another_token() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    let before = child.ask(0, "slots");
    bench.faults.remove_token().unwrap();
    bench.faults.insert_token(Insertion::default().new_slot().serial("other")).unwrap();
    let after = child.ask(0, "slots");
    assert_ne!(before, after);
    assert!(child.ask(0, "token").starts_with("0x3 "), "the old slot is no more");
    assert_eq!(child.ask(0, "open"), "0x3");
    let slots: Vec<_> = after.trim_start_matches("0x0 ").trim_matches(['[', ']']).split(", ").collect();
    let tokens: Vec<_> = slots.iter().map(|slot| child.ask(0, &format!("token {slot}"))).collect();
    assert!(tokens.iter().all(|token| token.starts_with("0x0 ") && token.ends_with(" other")), "{tokens:?}");

    let opened = slots.iter().find(|slot| child.ask(0, &format!("open {slot}")) == "0x0");
    assert!(opened.is_some(), "{slots:?}");
    sign_again(&mut child, &bench);

    let listed = bench.tool(bench.journaled.module()).arg("-L").output().unwrap();
    assert_success(&listed);
    let said = said(&listed);
    assert!(said.lines().any(|line| line.contains("serial num") && line.ends_with(": other")), "{said}");
}

#[test]
fn a_rule_takes_the_token_before_the_key_or_with_a_signature_that_was_made() {
    for (rule, made) in [(Rule::remove_token("C_Sign"), 0), (Rule::remove_token("C_Sign").after(), 1)] {
        let Some(bench) = Bench::with_faults(&[]) else { return };
        let mut child = Obedient::ready(&bench);
        let rule = bench.faults.add(rule.times(1)).unwrap();
        assert_eq!(child.ask(0, "both 1"), "0x32");
        assert_eq!(bench.made().len(), made);
        assert_eq!(child.ask(0, "slots"), "0x0 []");
        bench.faults.release(&rule).unwrap();
        assert_eq!(child.ask(0, "session"), "0xb3");
        assert_eq!(child.ask(0, "open"), "0x0");
        sign_again(&mut child, &bench);
        assert_eq!(bench.made().len(), made + 1);
    }
}

#[test]
fn a_token_that_goes_while_a_call_hangs_takes_its_answer_along_even_if_it_is_back_by_then() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    for (is_back, made) in [(false, [0, 1]), (true, [1, 2])] {
        for (rule, made) in [Rule::hang("C_Sign"), Rule::hang("C_Sign").after()].into_iter().zip(made) {
            let hang = bench.faults.add(rule).unwrap();
            child.tell(0, "both 1");
            bench.faults.wait_fired(&hang, 1).unwrap();
            bench.faults.remove_token().unwrap();
            if is_back {
                bench.faults.insert_token(Insertion::default()).unwrap();
            }
            bench.faults.release(&hang).unwrap();
            assert_eq!(child.answer(0), "0x32");
            assert_eq!(bench.made().len(), made);
            bench.faults.insert_token(Insertion::default()).unwrap();
            log_in_again(&mut child, &bench);
        }
    }
}

#[test]
fn a_dropped_login_is_dropped_in_the_real_token() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    bench.faults.add(Rule::drop_login("C_Sign").times(1)).unwrap();
    assert_eq!(child.ask(0, "both 1"), "0x101");
    assert_eq!(child.ask(0, "key"), "none");
    assert_eq!(bench.made(), [""; 0]);
    sign_again(&mut child, &bench);
}

#[test]
fn wrong_pins_are_counted_over_processes_until_the_pin_is_locked() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    bench.faults.set_token(Token::default().pin_tries(3)).unwrap();
    let mut child = opened(&bench);
    assert_eq!(flags(&mut child), 0);
    assert_eq!(child.ask(0, "login 8642097531"), "0xa0");
    assert_eq!(flags(&mut child), LOW);
    assert_eq!(child.ask(0, &format!("login {}", bench.pin())), "0x0");
    assert_eq!((flags(&mut child), bench.faults.pin_tries_left().unwrap()), (0, Some(3)));

    let mut child = opened(&bench);
    assert_eq!(child.ask(0, "login 8642097531"), "0xa0");
    assert_eq!(child.ask(0, "login 8642097531"), "0xa0");
    assert_eq!(flags(&mut child), LOW | FINAL);
    let mut child = opened(&bench);
    assert_eq!(flags(&mut child), LOW | FINAL);
    assert_eq!(child.ask(0, "login 8642097531"), "0xa0");
    assert_eq!((flags(&mut child), bench.faults.pin_tries_left().unwrap()), (LOW | LOCKED, Some(0)));
    assert_eq!(child.ask(0, &format!("login {}", bench.pin())), "0xa4");
    assert!(matches!(bench.entries().last(), Some(Entry::Login { rv: 0xa4, .. })));

    bench.faults.set_pin_tries_left(1).unwrap();
    assert_eq!(flags(&mut child), LOW | FINAL);
    assert_eq!(child.ask(0, &format!("login {}", bench.pin())), "0x0");
    assert_eq!(bench.faults.pin_tries_left().unwrap(), Some(3));
}

#[test]
fn a_login_that_the_token_did_not_look_at_uses_up_no_try() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    bench.faults.set_token(Token::default().pin_tries(3)).unwrap();
    let mut child = Obedient::ready(&bench);
    assert_eq!(child.ask(0, "login 8642097531"), "0x100", "already logged in");
    assert_eq!(bench.faults.pin_tries_left().unwrap(), Some(3));
}

#[test]
fn the_flags_of_the_pin_can_be_set_outright() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::start(&bench);
    let flags_set = [PinFlag::FinalTry, PinFlag::ToBeChanged];
    bench.faults.set_token(Token::default().pin_tries(3).pin_flags(&flags_set)).unwrap();
    assert_eq!(flags(&mut child), FINAL | TO_BE_CHANGED);
}

#[test]
fn a_pin_pad_takes_the_pin_that_the_caller_does_not_give() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    bench.faults.set_token(Token::default().protected_authentication_path(bench.token.pin_file())).unwrap();
    let mut child = opened(&bench);
    assert_eq!(flags(&mut child), PIN_PAD);
    assert_eq!(child.ask(0, "login"), "0x0");
    assert_eq!(child.ask(0, "key"), "0x0");
}

#[test]
fn a_token_has_only_so_many_sessions() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    bench.faults.set_token(Token::default().max_sessions(2)).unwrap();
    let mut child = Obedient::ready(&bench);
    child.join(1);
    assert_eq!(child.ask(2, "open"), "0xb1");
    assert!(child.ask(0, "token").starts_with("0x0 0x0 2 "));
    assert!(child.ask(1, "both 1").starts_with("0x0 "), "an operation is no session of the caller's");
    assert_eq!((child.ask(1, "close"), child.ask(2, "open")), ("0x0".into(), "0x0".into()));
}

#[test]
fn a_key_that_always_authenticates_signs_once_for_each_login() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    bench.faults.set_token(Token::default().always_authenticate_for(&[0xa1]).pin_tries(3)).unwrap();
    let mut child = Obedient::ready(&bench);
    assert_eq!(child.ask(0, &format!("private {CKA_ALWAYS_AUTHENTICATE}")), "0x0 1 01");
    assert_eq!(child.ask(0, &format!("private {CKA_ID}")), "0x0 1 a1");
    assert_eq!(child.ask(0, "both 1"), "0x101");
    assert_eq!(child.ask(0, "sign 1"), "0x91", "the operation ended");
    let right = format!("context {}", bench.pin());
    assert_eq!(child.ask(0, &right), "0x91", "there is no operation");

    assert_eq!((child.ask(0, "init"), child.ask(0, "context 8642097531")), ("0x0".into(), "0xa0".into()));
    assert_eq!(bench.faults.pin_tries_left().unwrap(), Some(2));
    assert_eq!(child.ask(0, "sign 1"), "0x101");
    assert_eq!(bench.made(), [""; 0]);
    assert_eq!((child.ask(0, "init"), child.ask(0, &right)), ("0x0".into(), "0x0".into()));
    assert_eq!(child.ask(0, "length"), "0x40");
    assert!(child.ask(0, "sign 1").starts_with("0x0 "));
    assert_eq!(child.ask(0, "both 1"), "0x101");
    assert_eq!(bench.made().len(), 1);
}

#[test]
fn an_ec_point_is_bare_and_fits_where_a_bare_one_fits() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let mut child = Obedient::ready(&bench);
    let ask = |child: &mut Obedient, room: &str| child.ask(0, &format!("public {CKA_EC_POINT} {room}"));
    let wrapped = ask(&mut child, "67");
    let point = wrapped.strip_prefix("0x0 67 0441").unwrap();
    bench.faults.set_token(Token::default().raw_ec_point()).unwrap();
    assert_eq!(ask(&mut child, "65"), format!("0x0 65 {point}"));
    assert_eq!(ask(&mut child, "none"), "0x0 65");
    let small = ask(&mut child, "64");
    assert!(small.starts_with(&format!("0x150 {} ", u64::MAX)), "{small}");
}

#[test]
fn a_token_file_that_means_nothing_fails_every_call() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    fs::write(bench.faults.folder().join("token.json"), r#"{"present":false}"#).unwrap();
    let tried = bench.tool(bench.journaled.module()).arg("-L").output().unwrap();
    assert_failure_says(&tried, &["token.json", "present"]);
}

/// A child with a session, not logged in.
fn opened(bench: &Bench) -> Obedient {
    let mut child = Obedient::start(bench);
    assert_eq!(child.ask(0, "open"), "0x0");
    child
}

/// The token's flags.
fn flags(child: &mut Obedient) -> u64 {
    let token = child.ask(0, "token");
    let flags = token.split(' ').nth(1).and_then(|flags| flags.strip_prefix("0x"));
    u64::from_str_radix(flags.unwrap(), 16).unwrap()
}

fn log_in_again(child: &mut Obedient, bench: &Bench) {
    assert_eq!(child.ask(0, "open"), "0x0");
    log_in(child, bench);
}

/// In a session that is open.
fn sign_again(child: &mut Obedient, bench: &Bench) {
    log_in(child, bench);
    assert!(child.ask(0, "both 9").starts_with("0x0 "));
}

fn log_in(child: &mut Obedient, bench: &Bench) {
    let login = format!("login {}", bench.pin());
    for command in [login.as_str(), "key"] {
        assert_eq!(child.ask(0, command), "0x0", "{command}");
    }
}
