//! A signing keeper with its key on a YubiKey: the real binary, a real pcscd, a virtual card. What the keeper says is held
//! against the card's own journal, which no bug of the keeper can forge.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable,
    reason = "test code, where a panic is a failed test"
)]

mod admin;
mod bench;
mod log_key;
#[path = "../support/place.rs"]
#[allow(dead_code, reason = "what SoftHSM's tests need")]
mod place;
mod refused;
#[path = "../support/rig.rs"]
#[allow(dead_code, reason = "what SoftHSM's tests need")]
mod rig;
mod touched;
#[path = "../support/traced.rs"]
#[allow(dead_code, reason = "what other tests need")]
mod traced;
#[path = "../support/world.rs"]
#[allow(dead_code, reason = "what other tests need")]
mod world;

use bench::{Bench, SERIAL, Setup, ended, failure};
use hsm_sim_yubikey::{PinPolicy, SOCKET_VARIABLE, Slot, Sw, TouchPolicy, VirtualYubiKey, YubiKeyJournal};
use record::wire::SignResult;

/// Longer than from one look of the keeper at its card to the next.
const AWAY: std::time::Duration = std::time::Duration::from_millis(2_500);

#[test]
fn a_key_that_wants_its_pin_always_once_or_never_signs_and_is_described() {
    for (pin, word) in [(PinPolicy::Always, "always"), (PinPolicy::Once, "once"), (PinPolicy::Never, "never")]
    {
        let Some(mut bench) = Bench::new(&Setup { pin, ..Setup::untouched() }) else { return };
        let keeper = bench.start();
        let mut daemon = keeper.connect();
        let evidence = daemon.welcome.keys[0].evidence.clone();
        assert_eq!(
            evidence,
            [
                "PIV_ATTESTED=true".to_owned(),
                "PIV_FIRMWARE=5.7.4".into(),
                "PIV_GENERATED=true".into(),
                format!("PIV_PIN={word}"),
                format!("PIV_SERIAL={SERIAL}"),
                "PIV_TOUCH=never".into(),
            ]
        );
        let mut signed = vec![];
        for name in ["one", "two", "three"] {
            let made = bench.ask(&mut daemon, name);
            let (index, _) = daemon.signature();
            assert_eq!(index, made.index);
            signed.push(made.intent.payload);
        }
        assert_eq!(bench.signed(), signed);
        assert_eq!(bench.attestations(), 1);
        // One at the start, and then as the policy says; a card that has the PIN is not given it again.
        assert_eq!(bench.verifies(), if pin == PinPolicy::Always { 4 } else { 1 }, "{word}");
        assert_eq!(bench.pin_tries_left(), 3);
    }
}

#[test]
fn a_card_that_is_pulled_out_and_comes_back_is_used_again_without_a_restart() {
    let Some(mut bench) = Bench::new(&Setup::untouched()) else { return };
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    bench.ask(&mut daemon, "before");
    daemon.signature();
    bench.card.remove().unwrap();
    let made = bench.ask(&mut daemon, "away");
    std::thread::sleep(AWAY);
    assert_eq!(bench.signed().len(), 1);
    bench.card.insert().unwrap();
    assert!(matches!(ended(&mut daemon, made.index), SignResult::Signed { .. }), "it has waited");
    assert_eq!(bench.signed().len(), 2);
    assert_eq!(bench.signed()[1], made.intent.payload);
}

#[test]
fn another_card_in_the_reader_is_not_used() {
    let Some(mut bench) = Bench::new(&Setup::untouched()) else { return };
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    bench.card.remove().unwrap();
    let journal = bench.path("other");
    let other = VirtualYubiKey::builder()
        .serial(SERIAL + 1)
        .reader(bench.pcscd.vpcd(0).unwrap())
        .key(Slot::SIGNATURE, PinPolicy::Always, TouchPolicy::Never)
        .journal(&journal)
        .insert()
        .unwrap();
    let made = bench.ask(&mut daemon, "other");
    std::thread::sleep(AWAY);
    assert_eq!(YubiKeyJournal::read(&journal).unwrap(), []);
    assert_eq!(bench.signed(), []);
    drop(other);
    bench.card.insert().unwrap();
    assert!(matches!(ended(&mut daemon, made.index), SignResult::Signed { .. }), "it has waited");
    assert_eq!(bench.signed().len(), 1);
}

#[test]
fn another_key_in_the_slot_of_the_same_card_is_not_used() {
    let Some(mut bench) = Bench::new(&Setup::untouched()) else { return };
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    bench.card.remove().unwrap();
    let journal = bench.path("other");
    let _remade = VirtualYubiKey::builder()
        .serial(SERIAL)
        .reader(bench.pcscd.vpcd(0).unwrap())
        .key(Slot::SIGNATURE, PinPolicy::Always, TouchPolicy::Never)
        .journal(&journal)
        .insert()
        .unwrap();
    let made = bench.ask(&mut daemon, "remade");
    assert_eq!(failure(ended(&mut daemon, made.index)), "token-changed");
    assert_eq!((bench.signed(), YubiKeyJournal::read(&journal).unwrap()), (vec![], vec![]));
}

/// Runs one of the ignored tests below as another program beside the keeper.
fn other_program(bench: &Bench, test: &str) {
    let mut other = std::process::Command::new(std::env::current_exe().unwrap());
    other.args([test, "--exact", "--ignored"]).env(SOCKET_VARIABLE, bench.pcscd.socket());
    assert!(other.status().unwrap().success());
}

#[test]
fn a_pin_that_was_changed_meanwhile_is_tried_once_and_then_never_again() {
    let Some(mut bench) = Bench::new(&Setup::untouched()) else { return };
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    other_program(&bench, "another_program_changes_the_pin");
    let before = bench.verifies();
    for name in ["one", "two"] {
        let made = bench.ask(&mut daemon, name);
        assert_eq!(failure(ended(&mut daemon, made.index)), "token-pin", "{name}");
    }
    assert_eq!((bench.verifies() - before, bench.pin_tries_left()), (1, 2));
    assert_eq!(bench.signed(), []);
}

#[test]
fn a_pin_that_others_have_brought_to_its_last_try_is_not_tried_until_somebody_gave_it_right() {
    let Some(mut bench) = Bench::new(&Setup::untouched()) else { return };
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    other_program(&bench, "another_program_tries_wrong_pins");
    let before = bench.verifies();
    let made = bench.ask(&mut daemon, "one");
    assert_eq!(failure(ended(&mut daemon, made.index)), "token-pin");
    assert_eq!((bench.verifies(), bench.pin_tries_left()), (before, 1));
    other_program(&bench, "another_program_gives_the_pin");
    bench.ask(&mut daemon, "two");
    daemon.signature();
    assert_eq!((bench.signed().len(), bench.pin_tries_left()), (1, 3));
}

/// The card as another program opens it; it leaves without a reset.
fn as_another_program(act: impl FnOnce(&mut yubikey::YubiKey)) {
    let mut card = yubikey::YubiKey::open_by_serial(yubikey::Serial(SERIAL)).unwrap();
    act(&mut card);
    card.disconnect(pcsc::Disposition::LeaveCard).map_err(|(_, e)| e).unwrap();
}

#[test]
#[ignore = "run by another test"]
fn another_program_changes_the_pin() {
    as_another_program(|card| card.change_pin(b"123456", b"654321").unwrap());
}

#[test]
#[ignore = "run by another test"]
fn another_program_tries_wrong_pins() {
    as_another_program(|card| {
        for _ in 0..2 {
            assert!(matches!(card.verify_pin(b"000000"), Err(yubikey::Error::WrongPin { .. })));
        }
    });
}

#[test]
#[ignore = "run by another test"]
fn another_program_gives_the_pin() {
    as_another_program(|card| card.verify_pin(b"123456").unwrap());
}

#[test]
fn a_card_that_another_program_has_reset_is_asked_again_and_given_its_pin_again() {
    let Some(mut bench) = Bench::new(&Setup { pin: PinPolicy::Once, ..Setup::untouched() }) else { return };
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    bench.ask(&mut daemon, "before");
    daemon.signature();
    other_program(&bench, "another_program_resets_every_card");
    bench.ask(&mut daemon, "after");
    daemon.signature();
    assert_eq!((bench.signed().len(), bench.verifies()), (2, 2));
}

#[test]
#[ignore = "run by another test"]
fn another_program_resets_every_card() {
    let context = pcsc::Context::establish(pcsc::Scope::User).unwrap();
    for reader in context.list_readers_owned().unwrap() {
        if let Ok(card) = context.connect(&reader, pcsc::ShareMode::Shared, pcsc::Protocols::T1) {
            card.disconnect(pcsc::Disposition::ResetCard).map_err(|(_, e)| e).unwrap();
        }
    }
}

#[test]
fn a_card_that_vanishes_between_signature_and_reply_makes_the_item_lost_and_never_signed_again() {
    let Some(mut bench) = Bench::new(&Setup::untouched()) else { return };
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    bench.card.remove_during_next_op(None, false);
    let made = bench.ask(&mut daemon, "lost");
    assert_eq!(ended(&mut daemon, made.index), SignResult::Lost {});
    assert_eq!(
        bench.signed(),
        [made.intent.payload],
        "there is a signature, and the keeper does not have it"
    );
    bench.card.insert().unwrap();
    let again = bench.ask_until_signed(&mut daemon);
    assert_eq!(bench.signed(), [made.intent.payload, again.intent.payload]);
}

#[test]
fn a_status_word_that_says_nothing_makes_the_item_lost() {
    let Some(mut bench) = Bench::new(&Setup::untouched()) else { return };
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    bench.card.next_sw(Sw(0x6f00), Some(0x87));
    let made = bench.ask(&mut daemon, "strange");
    assert_eq!(ended(&mut daemon, made.index), SignResult::Lost {});
    assert_eq!(bench.signed(), []);
    bench.ask_until_signed(&mut daemon);
    assert_eq!(bench.signed().len(), 1);
}

#[test]
fn the_pin_is_in_no_log_however_much_is_logged() {
    let Some(mut bench) = Bench::new(&Setup::untouched()) else { return };
    let mut command = bench.command("serve");
    command.env("CHANCERY_LOG", "trace");
    let mut keeper = place::Running::start(command, bench.path("socket"));
    let mut daemon = keeper.connect();
    bench.ask(&mut daemon, "quiet");
    daemon.signature();
    keeper.signal(rustix::process::Signal::TERM);
    let (_, said) = keeper.ended();
    for secret in ["123456", "49, 50, 51", "313233"] {
        assert!(!said.contains(secret), "{said}");
    }
}
