//! Kill -9 of daemon, log keeper and signing keeper, one, two or all, at random moments under clients.

use super::{
    draws::Draws,
    figures::Figures,
    service::Part,
    trial::{Trial, play},
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Clients that ask all the time.
pub(crate) const CLIENTS: usize = 8;
/// The last kill of a round is at most this long after its work began: a request takes about as long.
const WINDOW_US: u64 = 300_000;

/// Kills so often, and compares everything after each time.
pub fn kills(rounds: u64, seed: u64) -> Figures {
    let mut figures = Figures::new("kills", seed);
    let mut draws = Draws::new(seed);
    let begin = || Trial::begin(CLIENTS, |_| None);
    play(&mut figures, rounds, begin, |trial, figures| round(trial, &mut draws, figures));
    figures
}

fn round(trial: &mut Trial, draws: &mut Draws, figures: &mut Figures) -> Result<(), String> {
    let victims = victims(draws);
    let begun = Instant::now();
    trial.work();
    for (parts, at) in &victims {
        thread::sleep(at.saturating_sub(begun.elapsed()));
        if parts.contains(&Part::Daemon) {
            trial.look();
        }
        trial.service.kill(parts);
        trial.died(parts);
        parts.iter().for_each(|part| trial.service.raise(*part));
        figures.killed(parts);
    }
    let raised = Instant::now();
    trial.service.wait_until_ready()?;
    figures.recoveries.push(raised.elapsed());
    trial.settle()?;
    trial.check(figures);
    Ok(())
}

/// Who is killed together, and when, in the order of time: in half of the rounds all at one moment, as when a host falls,
/// otherwise each at its own.
fn victims(draws: &mut Draws) -> Vec<(Vec<Part>, Duration)> {
    let set = 1 + draws.below(7);
    let chosen = (0..).zip(Part::ALL).filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, part)| part);
    let mut moment = || Duration::from_micros(draws.below(WINDOW_US));
    let mut alone: Vec<(Vec<Part>, Duration)> = chosen.map(|part| (vec![part], moment())).collect();
    if draws.below(2) == 0 {
        let at = alone[0].1;
        return vec![(alone.into_iter().flat_map(|(parts, _)| parts).collect(), at)];
    }
    alone.sort_by_key(|(_, at)| *at);
    alone
}
