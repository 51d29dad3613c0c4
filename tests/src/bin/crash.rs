//! Crashes in rounds, and the account of them: `crash kills|syscalls|power|all [ROUNDS] [SEED]`.
//!
//! `syscalls` takes the rounds as a limit; without one, and in `all`, it kills at every call.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    thread,
};
use tests::{
    crash::{self, Figures},
    have,
};

const USAGE: &str = "crash kills|syscalls|power|all [ROUNDS] [SEED]";
const ROUNDS: u64 = 1000;
/// Set for a process that mounts for itself alone.
const ALONE: &str = "CRASH_MOUNTS_ALONE";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let which = args.next().expect(USAGE);
    let mut number = || args.next().map(|text| text.parse::<u64>().expect(USAGE));
    let rounds = number();
    let seed = number().unwrap_or_else(|| u64::from(std::process::id()));
    mount_alone();
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
    let shown = |name: &str| {
        let figures: Option<Figures> = run(name);
        figures.iter().for_each(|figures| println!("{figures}"));
        figures.is_none_or(|figures| figures.is_good())
    };
    // Most of a round is waiting: two at a time cost little more than one.
    let lanes: &[&[&str]] = match which.as_str() {
        "all" => &[&["kills", "syscalls"], &["power"]],
        one => &[&[one]],
    };
    let good = thread::scope(|scope| {
        let lanes: Vec<_> = lanes
            .iter()
            .map(|names| scope.spawn(|| names.iter().filter(|name| !shown(name)).count()))
            .collect();
        lanes.into_iter().all(|lane| lane.join().expect("a run ends with figures") == 0)
    });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Begins anew in a mount namespace of its own, if that can be had: what is mounted there goes with us, whatever ends us.
fn mount_alone() {
    if std::env::var_os(ALONE).is_some() || !rustix::process::geteuid().is_root() {
        return;
    }
    let may = Command::new("unshare").args(["--mount", "true"]).output();
    if may.is_ok_and(|output| output.status.success()) {
        let mut alone = Command::new("unshare");
        alone.arg("--mount").args(std::env::args_os()).env(ALONE, "1");
        panic!("unshare cannot be run: {}", alone.exec());
    }
}
