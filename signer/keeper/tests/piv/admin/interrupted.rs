//! A setup that is interrupted at each of its steps, before the card did it and after: the same command goes on, and uses up
//! no tries.

use super::{Desk, GRANT, SETUP};
use crate::bench::ended;
use hsm_sim_yubikey::{Profile, Sw};
use record::wire::SignResult;

/// The steps in their order: the instruction in which the card is pulled out, and what it is.
const STEPS: [(u8, &str); 8] = [
    (0x24, "the PIN is changed"),
    (0x24, "the PUK is changed"),
    (0x87, "the factory's management key is used"),
    (0xff, "the management key is changed"),
    (0x47, "the key is made"),
    (0xf9, "the key is attested"),
    (0x20, "the PIN is given"),
    (0x87, "the test signature is made"),
];

#[test]
fn a_setup_that_ends_before_any_of_its_steps_goes_on_with_the_same_command_and_uses_up_no_tries() {
    interrupted_everywhere(Profile::V5_7_4, false);
}

#[test]
fn a_setup_that_ends_after_any_of_its_steps_goes_on_with_the_same_command_and_uses_up_no_tries() {
    interrupted_everywhere(Profile::V5_7_4, true);
}

#[test]
fn the_same_holds_for_an_old_card_before_its_steps() {
    interrupted_everywhere(Profile::V5_4_3, false);
}

#[test]
fn the_same_holds_for_an_old_card_after_its_steps() {
    interrupted_everywhere(Profile::V5_4_3, true);
}

fn interrupted_everywhere(profile: Profile, after: bool) {
    let Some(desk) = Desk::with(profile, |card| card) else { return };
    let words = format!("{SETUP} {GRANT}");
    for (instruction, step) in STEPS {
        let begun = desk.run_until(&words, instruction, !after);
        assert_ne!(begun.code, 0, "{step}: {begun:?}");
        assert_eq!(begun.out, "", "{step}");
        assert!(begun.err.contains("again"), "{step}: what to do is not said: {begun:?}");
        desk.card.insert().unwrap();
        assert_eq!(desk.tries_left(), (3, 3), "{step}");
        assert!(!desk.read("charter.toml").contains("[[key]]"), "{step}");
    }
    let done = desk.run(&words).json();
    assert_eq!(done["steps"]["key"], "kept");
    assert_eq!(desk.tries_left(), (3, 3));
    // Each change was made once by the card: what came before the interruption was not sent, or not done, and what came
    // after it was known to be done.
    let (changes, keys) = (desk.count("0024"), desk.count("0047009c"));
    assert_eq!((changes, keys), (2, 1), "{:?}", desk.apdus());
    desk.f9_is_untouched();
    desk.run("admin token enrol --piv-serial SERIAL TRUST --pin-file PIN --config CONFIG --write").json();
    let mut bench = desk.keeper(&done["spki"]);
    let keeper = bench.start();
    let mut daemon = keeper.connect();
    let made = bench.ask(&mut daemon, "app");
    assert!(matches!(ended(&mut daemon, made.index), SignResult::Signed { .. }));
}

impl Desk {
    /// Runs a command, and pulls the card out in the next command with this instruction.
    fn run_until(&self, words: &str, instruction: u8, before: bool) -> super::Answer {
        self.card.remove_during_next_op(Some(instruction), before);
        self.run(words)
    }
}

#[test]
fn a_card_from_another_hand_that_is_interrupted_later_does_not_get_its_old_secrets_tried_again() {
    let Some(desk) = Desk::new() else { return };
    desk.run(SETUP).json();
    let mut words = SETUP.replace("--slot 9c", "--slot 9a");
    for (name, option) in
        [("pin", "pin-file"), ("puk", "puk-file"), ("management-key", "management-key-file")]
    {
        let old = desk.path(&format!("old-{name}"));
        std::fs::rename(desk.path(name), &old).unwrap();
        words += &format!(" --{option} {}", old.display());
    }
    desk.card.next_sw(Sw(0x6f00), Some(0x47));
    desk.run(&words).refused(70, &["its key was made", "same command again"]);
    let changes = desk.count("0024");
    let done = desk.run(&words).json();
    assert_eq!((&done["steps"]["pin"], &done["steps"]["key"]), (&"kept".into(), &"generated".into()));
    assert_eq!((desk.count("0024"), desk.tries_left()), (changes, (3, 3)));
}

#[test]
fn a_step_that_the_card_refuses_is_named_and_done_by_the_same_command_later() {
    for (instruction, words) in
        [(0x24, "its PIN was changed"), (0xff, "its management key was changed"), (0x47, "its key was made")]
    {
        let Some(desk) = Desk::new() else { return };
        desk.card.next_sw(Sw(0x6f00), Some(instruction));
        desk.run(SETUP).refused(70, &["YubiKey 5740001", words, "same command again"]);
        let done = desk.run(SETUP).json();
        assert_eq!((&done["steps"]["key"], desk.tries_left()), (&"generated".into(), (3, 3)));
    }
}
