//! What a decision of policy costs: with the example that is shipped, and with a thousand repositories beside it.

use anyhow::{Context, Result};
use policy::{Facts, PolicySet, Sources};
use std::{
    fmt::Write,
    path::Path,
    time::{Duration, Instant},
};

/// Repositories beside the example's.
const MORE: usize = 1_000;
/// Decisions of each kind.
const DECISIONS: usize = 2_000;

/// One row for each of the two sets.
pub(crate) fn decisions() -> Result<()> {
    println!("policy                     load ms  decision p50 us  p99 us");
    let example = Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/example"))?;
    let mut large = example.clone();
    for n in 0..MORE {
        write!(
            large.data,
            "\n[[repository]]\nname = \"registry.example.com/more/app{n}\"\nimmutable_tags = true\n"
        )?;
    }
    row("the example", example)?;
    row("and 1 000 repositories", large)
}

fn row(name: &str, sources: Sources) -> Result<()> {
    let start = Instant::now();
    let set = PolicySet::load(sources)?;
    let load_ms = start.elapsed().as_secs_f64() * 1000.0;
    let facts: &Facts = &set.cases().first().context("the example has cases")?.facts;
    let decide = |_| {
        let start = Instant::now();
        let decision = set.decide(facts);
        (start.elapsed(), decision.allowed())
    };
    let mut times: Vec<(Duration, bool)> = (0..DECISIONS).map(decide).collect();
    anyhow::ensure!(times.iter().all(|(_, allowed)| *allowed), "the first case of the example is allowed");
    times.sort();
    let us =
        |share: usize| times.get(DECISIONS * share / 100).map_or(0.0, |(time, _)| time.as_secs_f64() * 1e6);
    println!("{name:<25}  {load_ms:>7.1}  {:>15.0}  {:>6.0}", us(50), us(99));
    Ok(())
}
