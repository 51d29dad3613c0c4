//! Faults under four threads that sign through the `cryptoki` crate, which knows nothing of them.

use crate::{
    bench::{Bench, assert_success, hex},
    processes::{Here, child, wait_until_logged_in},
};
use cryptoki::mechanism::Mechanism;
use hsm_sim::{Insertion, Rule, Token};
use std::{
    collections::HashSet,
    process::{Child, Output},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

const THREADS: u8 = 4;
const ROUNDS: u8 = 40;
const REMOVALS: u8 = 15;
/// What a child writes before each signature that it received.
const RECEIVED: &str = "received ";

#[test]
fn four_threads_get_exactly_the_signatures_that_no_rule_withheld() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    let error = || Rule::answer("C_Sign", "CKR_DEVICE_ERROR");
    let before = bench.faults.add(error().probability(0.2, 1)).unwrap();
    let after = bench.faults.add(error().after().probability(0.2, 2)).unwrap();
    let hang = bench.faults.add(Rule::hang("C_Sign").nth(30)).unwrap();
    let mut child = child(&bench, "hammer::child_signs_in_rounds", 0);
    wait_until_logged_in(&mut child);
    drop(child.stdin.take());
    bench.faults.wait_fired(&hang, 1).unwrap();
    bench.faults.release(&hang).unwrap();
    let received = received(&ended(child));

    let made = bench.made();
    let fired = |rule| usize::try_from(bench.faults.fired(rule).unwrap()).unwrap();
    let calls = usize::from(THREADS) * usize::from(ROUNDS);
    assert_eq!(made.len(), calls - fired(&before), "no signature before the key");
    assert_eq!(received.len(), made.len() - fired(&after), "each one after it");
    assert!(fired(&before) > 0 && fired(&after) > 0);
    assert!(received.is_subset(&made.into_iter().collect()));
}

#[test]
fn a_token_that_comes_and_goes_under_four_threads_breaks_nothing() {
    let Some(bench) = Bench::with_faults(&[]) else { return };
    bench.faults.set_token(Token::default().protected_authentication_path(bench.token.pin_file())).unwrap();
    let mut child = child(&bench, "hammer::child_signs_until_told", 0);
    wait_until_logged_in(&mut child);
    for _ in 0..REMOVALS {
        let removal = bench.faults.add(Rule::remove_token("C_Sign").nth(7).after()).unwrap();
        bench.faults.wait_fired(&removal, 1).unwrap();
        bench.faults.insert_token(Insertion::default()).unwrap();
    }
    drop(child.stdin.take());
    let received = received(&ended(child));
    assert!(!received.is_empty());
    assert!(received.is_subset(&bench.made().into_iter().collect()));
}

#[test]
#[ignore = "a child of another test"]
fn child_signs_in_rounds() {
    let here = Here::logged_in();
    here.go_on_when_told();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let module = &here.module;
            scope.spawn(move || {
                let (mut session, mut key) = module.session();
                for n in 0..ROUNDS {
                    match session.sign(&Mechanism::Ecdsa, key, &[[thread, n]; 16].concat()) {
                        Ok(signature) => println!("{RECEIVED}{}", hex(&signature)),
                        // As a careful program does: no session outlives an error.
                        Err(_) => (session, key) = module.session(),
                    }
                }
            });
        }
    });
}

#[test]
#[ignore = "a child of another test"]
fn child_signs_until_told() {
    let here = Here::logged_in();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (module, over) = (&here.module, &over);
            scope.spawn(move || {
                for n in 0..u64::MAX {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let input = [n.to_be_bytes(), [thread; 8], [0; 8], [0; 8]].concat();
                    if let Some(signature) = module.try_to_sign(&input) {
                        println!("{RECEIVED}{}", hex(&signature));
                    }
                }
            });
        }
        here.go_on_when_told();
        over.store(true, Ordering::Relaxed);
    });
}

fn ended(child: Child) -> Output {
    let ended = child.wait_with_output().unwrap();
    assert_success(&ended);
    ended
}

/// Lines of several threads do not mix: `println!` locks.
fn received(ended: &Output) -> HashSet<String> {
    let said = String::from_utf8_lossy(&ended.stdout);
    said.lines().filter_map(|line| line.split_once(RECEIVED)).map(|(_, hex)| hex.to_owned()).collect()
}
