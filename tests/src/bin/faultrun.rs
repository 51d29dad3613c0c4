//! Many signatures under random faults, and the account of them: `faultrun [SIGNATURES] [SEED]`.

use std::process::ExitCode;
use tests::{have, random_faults};

const SIGNATURES: u64 = 10_000;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse().expect("faultrun [SIGNATURES] [SEED]"));
    let signatures = args.next().unwrap_or(SIGNATURES);
    let seed = args.next().unwrap_or_else(|| u64::from(std::process::id()));
    if !have("docker-registry") || !have("softhsm2-util") {
        return ExitCode::SUCCESS;
    }
    let figures = random_faults(signatures, seed, 1);
    print!("{figures}");
    if figures.exceptions.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
