//! Keys that want a touch: one touch, one signature, and no touch, no signature, with certainty.

use crate::bench::{Bench, PATIENCE, SERIAL, Setup, TOUCH_WAIT, ended, failure, touch};
use hsm_sim_yubikey::TouchMode;
use record::wire::SignResult;
use record::{Clock, SystemClock};

#[test]
fn a_touch_that_is_given_at_once_signs() {
    let Some(mut bench) = Bench::new(&Setup::usual()) else { return };
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    assert!(daemon.welcome.keys[0].evidence.contains(&"PIV_TOUCH=always".to_owned()));
    let made = bench.ask(&mut daemon, "one");
    let told = touch(&mut daemon);
    assert_eq!((told.index, told.serial, told.slot.to_string()), (made.index, SERIAL, "9c".into()));
    let (index, _) = daemon.signature();
    assert_eq!(index, made.index);
    assert_eq!(bench.signed(), [made.intent.payload]);
}

#[test]
fn a_touch_that_is_awaited_is_told_with_its_deadline_and_signs_when_it_is_given() {
    let Some(mut bench) = Bench::with(&Setup::usual(), |card| card.touch(TouchMode::Manual)) else { return };
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    let made = bench.ask(&mut daemon, "one");
    let told = touch(&mut daemon);
    let left = told.deadline.unix_ms() - SystemClock.now().unix_ms();
    assert!(left <= TOUCH_WAIT.as_millis() as i64, "{left}");
    assert_eq!(bench.signed(), [], "not before the touch");
    // A daemon that comes only now is told as well.
    let mut late = keeper.connect();
    assert_eq!(touch(&mut late), told);
    bench.card.touch(PATIENCE).unwrap();
    let (index, signature) = daemon.signature();
    assert_eq!(late.signature(), (index, signature));
    assert_eq!(bench.signed(), [made.intent.payload]);
}

#[test]
fn a_touch_that_does_not_come_is_a_certain_failure_and_the_next_request_succeeds() {
    let Some(mut bench) = Bench::with(&Setup::usual(), |card| card.touch(TouchMode::Timeout)) else { return };
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    let made = bench.ask(&mut daemon, "one");
    assert_eq!(failure(ended(&mut daemon, made.index)), "touch-timeout");
    assert_eq!((bench.signed(), bench.pin_tries_left()), (vec![], 3));
    bench.card.touch_policy(TouchMode::Auto);
    let made = bench.ask(&mut daemon, "two");
    assert!(matches!(ended(&mut daemon, made.index), SignResult::Signed { .. }));
    assert_eq!(bench.signed(), [made.intent.payload]);
}

#[test]
fn a_touch_that_is_denied_is_a_certain_failure_and_no_wrong_pin() {
    let Some(mut bench) = Bench::with(&Setup::usual(), |card| card.touch(TouchMode::Deny)) else { return };
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    let made = bench.ask(&mut daemon, "one");
    assert_eq!(failure(ended(&mut daemon, made.index)), "touch-denied");
    assert_eq!((bench.signed(), bench.pin_tries_left()), (vec![], 3));
    assert_eq!(bench.verifies(), 2, "one at the start, one for the signature, and none as an answer to 6982");
}

#[test]
fn a_touch_that_is_given_too_late_makes_nothing() {
    let Some(mut bench) = Bench::with(&Setup::usual(), |card| card.touch(TouchMode::Manual)) else { return };
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    let made = bench.ask(&mut daemon, "one");
    assert_eq!(failure(ended(&mut daemon, made.index)), "touch-timeout");
    assert!(bench.card.touch(std::time::Duration::from_millis(50)).is_err(), "nobody waits for it");
    assert_eq!(bench.signed(), []);
    // Nor does the late finger count for the next request.
    let next = bench.ask(&mut daemon, "two");
    touch(&mut daemon);
    bench.card.await_touch(PATIENCE).unwrap();
    assert_eq!(bench.signed(), []);
    bench.card.touch(PATIENCE).unwrap();
    assert!(matches!(ended(&mut daemon, next.index), SignResult::Signed { .. }));
    assert_eq!(bench.signed(), [next.intent.payload]);
}

#[test]
fn a_card_that_is_pulled_out_while_it_waits_makes_the_item_lost_and_signs_nothing() {
    let Some(mut bench) = Bench::with(&Setup::usual(), |card| card.touch(TouchMode::Manual)) else { return };
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    let made = bench.ask(&mut daemon, "one");
    touch(&mut daemon);
    bench.card.await_touch(PATIENCE).unwrap();
    bench.card.remove().unwrap();
    // The keeper cannot see that nobody had touched it yet.
    assert_eq!(ended(&mut daemon, made.index), SignResult::Lost {});
    assert_eq!(bench.signed(), []);
    bench.card.touch_policy(TouchMode::Auto);
    bench.card.insert().unwrap();
    let made = bench.ask_until_signed(&mut daemon);
    assert_eq!(bench.signed(), [made.intent.payload]);
}

#[test]
fn two_requests_and_one_touch_are_one_signature() {
    let Some(mut bench) = Bench::with(&Setup::usual(), |card| card.touch(TouchMode::Manual)) else { return };
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    let first = bench.ask(&mut daemon, "one");
    assert_eq!(touch(&mut daemon).index, first.index);
    let second = bench.ask(&mut daemon, "two");
    bench.card.touch(PATIENCE).unwrap();
    assert!(matches!(ended(&mut daemon, first.index), SignResult::Signed { .. }));
    assert_eq!(touch(&mut daemon).index, second.index, "its turn comes only now");
    assert_eq!(failure(ended(&mut daemon, second.index)), "touch-timeout");
    assert_eq!(bench.signed(), [first.intent.payload]);
    assert_eq!(bench.card.dump()["touches_awaited"], 2);
}
