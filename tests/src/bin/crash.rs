//! Crashes in rounds, and the account of them: `crash kills|syscalls|power|all [ROUNDS] [SEED]`.
//!
//! `syscalls` takes the rounds as a limit; without one, and in `all`, it kills at every call.

use std::{process::ExitCode, thread};
use tests::{
    crash::{self, Figures},
    have,
};

const USAGE: &str = "crash kills|syscalls|power|all [ROUNDS] [SEED]";
const ROUNDS: u64 = 1000;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let which = args.next().expect(USAGE);
    let mut number = || args.next().map(|text| text.parse::<u64>().expect(USAGE));
    let rounds = number();
    let seed = number().unwrap_or_else(|| u64::from(std::process::id()));
    if !have("docker-registry") || !have("softhsm2-util") {
        return ExitCode::SUCCESS;
    }
    let run = |name: &str| match name {
        "kills" => Some(crash::kills(rounds.unwrap_or(ROUNDS), seed)),
        "syscalls" => have("strace").then(|| crash::syscalls(rounds.filter(|_| which != "all"), seed)),
        "power" => match crash::no_power_cuts() {
            None => Some(crash::power(rounds.unwrap_or(ROUNDS), seed)),
            Some(why) => {
                hsm_sim::skip(format_args!("{why}"));
                None
            }
        },
        _ => panic!("{USAGE}"),
    };
    // Most of a round is waiting: two at a time cost little more than one.
    let lanes: &[&[&str]] = match which.as_str() {
        "all" => &[&["kills", "syscalls"], &["power"]],
        one => &[&[one]],
    };
    let run_all = |names: &[&str]| names.iter().filter_map(|name| run(name)).collect::<Vec<Figures>>();
    let shown: Vec<Figures> = thread::scope(|scope| {
        let lanes: Vec<_> = lanes.iter().map(|names| scope.spawn(|| run_all(names))).collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("a run ends with figures")).collect()
    });
    shown.iter().for_each(|figures| println!("{figures}"));
    if shown.iter().all(Figures::is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
