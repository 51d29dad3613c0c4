//! A log key on a YubiKey: Ed25519, without a touch.

use crate::bench::{Bench, SERIAL, Setup, pem};
use crate::world::ORIGIN;
use hsm_sim_yubikey::{PinPolicy, Profile, Slot, TouchPolicy};
use record::wire::{Blob, FromLog, PROTO, ToLog, read_message, write_message};
use record::{Clock, Event, Leaf, Nonce, SystemClock};
use tlog::{Checkpoint, VerifierKey};

/// A card with an Ed25519 key in 9a, and a log keeper's configuration for it.
fn bench(touch: TouchPolicy) -> Option<(Bench, VerifierKey)> {
    let with_key =
        |card: hsm_sim_yubikey::Builder| card.ed25519_key(Slot::AUTHENTICATION, PinPolicy::Once, touch);
    let bench = Bench::with(&Setup::untouched(), with_key)?;
    let spki = bench.card.public_key(Slot::AUTHENTICATION).unwrap();
    let vkey = VerifierKey::new_ed25519(ORIGIN, spki[12..].try_into().unwrap()).unwrap();
    let chain: String =
        Profile::V5_7_4.attestation_intermediates().iter().map(|certificate| pem(certificate)).collect();
    bench.write("chain.pem", &chain);
    bench.write(
        "keeper.toml",
        &format!(
            "role = 'log'\norigin = '{ORIGIN}'\nstate = 'log'\nsocket = 'socket'\n[key]\nslot = '9a'\nvkey = '{vkey}'\n\
             [token]\npin_file = 'pin'\npiv = {{ serial = {SERIAL}, attestation_chain = ['chain.pem'], attestation_roots = ['root.pem'] }}\n"
        ),
    );
    let init = bench.command("init").output().unwrap();
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
    Some((bench, vkey))
}

#[test]
fn a_log_key_on_a_card_signs_notes_that_verify() {
    let Some((bench, vkey)) = bench(TouchPolicy::Never) else { return };
    let keeper = bench.start();
    let mut stream = keeper.raw();
    let mut ask = |message: &ToLog| {
        write_message(&mut stream, message).unwrap();
        read_message::<FromLog>(&mut stream).unwrap().unwrap()
    };
    let FromLog::Welcome { epoch, .. } = ask(&ToLog::Hello { proto: PROTO, daemon: "t".into(), epoch: 0 })
    else {
        panic!("no welcome")
    };
    let event = Event::Stopped { time: SystemClock.now(), nonce: Nonce::random().unwrap() };
    let leaf = Blob(Leaf::Event(event).encode().unwrap());
    ask(&ToLog::Append { epoch, base: 0, leaves: vec![leaf] });
    let FromLog::Noted { note } = ask(&ToLog::Note {}) else { panic!("no note") };
    assert_eq!(Checkpoint::open(&note, &vkey).unwrap().size, 1);
}

#[test]
fn a_log_key_that_wants_touches_is_refused() {
    let Some((bench, _)) = bench(TouchPolicy::Always) else { return };
    let (code, said) = bench.start_in_vain();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("wants a touch"), "{said}");
}
