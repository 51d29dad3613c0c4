//! The fault table: whatever a token does, what the caller is told, what the log says, how many signatures the token's
//! own journal has, and that the next request is signed without a restart of the daemon.
//!
//! The keeper of the rows is one of the test's own, behind the fault-injecting module, beside that of `chancery dev`.
//! `CHANCERY_FAULT_TABLE=docs/hardware.md cargo test -p tests --test faults` writes the table into that file.

mod keepers;
mod log_keys;
mod pins;
mod processes;
mod removals;
mod row;
mod scene;
mod signatures;
mod table;
mod touches;

use record::Tag;
use row::{Row, line};
use scene::Scene;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};
use table::into_document;
use tests::{have, random_faults};

/// Services side by side: most of a row's time is waiting.
const SCENES: usize = 3;

#[test]
fn whatever_a_token_does_the_log_says_how_it_ended_and_the_next_request_is_signed() {
    if !have("docker-registry") || !have("pkcs11-tool") {
        return;
    }
    let mut rows = Vec::new();
    let parts =
        [signatures::signatures, processes::processes, removals::removals, pins::pins, log_keys::log_keys];
    for part in parts {
        part(&mut rows);
    }
    assert!(rows.len() >= 40, "{}", rows.len());
    let next = AtomicUsize::new(0);
    let played: Vec<Played> = thread::scope(|scope| {
        let scenes: Vec<_> = (0..SCENES).map(|_| scope.spawn(|| play_on(&rows, &next))).collect();
        scenes.into_iter().flat_map(|scene| scene.join().unwrap()).collect()
    });
    let played: BTreeMap<usize, Played> = played.into_iter().map(|p| (p.row, p)).collect();
    let mut table =
        "| row | what happens | answer | intents, and the signatures of each | keeper's exits | next request |\n\
         |---|---|---|---|---|---|\n"
            .to_owned();
    // Rows that break their promise are named all together.
    let mut broken = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let (played, number) = (&played[&number], number + 1);
        if !played.as_promised {
            broken.push(format!("row {number}: {}: see above", row.what));
        } else if played.log != row.log {
            let log = format!("the log says {:?}, promised is {:?}", played.log, row.log);
            broken.push(format!("row {number}: {}: {log}", row.what));
        }
        writeln!(table, "{}", line(number, row)).unwrap();
    }
    print!("{table}");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    into_document("faults", &table);
}

/// A row that was played.
struct Played {
    row: usize,
    as_promised: bool,
    /// What the log says at the end.
    log: String,
}

/// Plays the next rows that nobody has played, on a service of its own.
fn play_on(rows: &[Row], next: &AtomicUsize) -> Vec<Played> {
    let mut scene = Scene::set();
    let mut played = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(row) = rows.get(number) else { break };
        let as_promised = catch_unwind(AssertUnwindSafe(|| scene.play(number, row))).is_ok();
        if !as_promised {
            scene.restore();
        }
        played.push(Played { row: number, as_promised, log: String::new() });
    }
    let told = scene.told();
    for row in &mut played {
        row.log = told.get(&tag(row.row)).map(|words| words.join(", ")).unwrap_or_default();
    }
    scene.service.verify_log();
    played
}

fn tag(row: usize) -> Tag {
    format!("row{}", row + 1).parse().unwrap()
}

/// The seed of this is fixed: what it finds can be looked at again.
#[test]
fn under_random_faults_the_log_accounts_for_every_signature_of_the_token() {
    if !have("docker-registry") {
        return;
    }
    let figures = random_faults(300, 1, 4);
    println!("{figures}");
    assert!(figures.exceptions.is_empty(), "{figures}");
    assert!(figures.unknown_signed > 0 && figures.completions > 200, "{figures}");
}
