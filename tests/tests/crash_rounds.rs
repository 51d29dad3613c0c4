//! The short form of `make crash`: each of its three runs, with fewer rounds. What a round does and what is compared after
//! it stands in `tests::crash`.

use tests::{
    crash::{self, Figures},
    have,
};

/// Rounds of each run.
const ROUNDS: u64 = 50;

fn good(figures: &Figures) {
    print!("{figures}");
    assert!(figures.is_good(), "{figures}");
    assert!(figures.rounds >= ROUNDS && figures.acknowledged > 0, "{figures}");
}

/// Another seed in each run of the suite; `make crash` takes one as an argument.
fn seed() -> u64 {
    u64::from(std::process::id())
}

#[test]
fn kills_at_random_moments_lose_nothing() {
    if have("docker-registry") {
        good(&crash::kills(ROUNDS, seed()));
    }
}

#[test]
fn kills_at_calls_of_one_request_lose_nothing() {
    if have("docker-registry") && have("strace") {
        good(&crash::syscalls(Some(ROUNDS), seed()));
    }
}

#[test]
fn power_cuts_lose_nothing() {
    if !have("docker-registry") {
        return;
    }
    if let Some(why) = crash::no_power_cuts() {
        hsm_sim::skip(format_args!("{why}"));
        return;
    }
    good(&crash::power(ROUNDS, seed()));
}
