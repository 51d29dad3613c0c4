//! Power cuts under clients: the state of all three processes on a disk that keeps only what was synced.
//!
//! The token and its journal are hardware, and lie elsewhere. At a random moment all processes are stopped between two
//! instructions; the disk is what it is then; they are killed, and raised on that disk. So every answer that a client ever
//! got, every signature in the journal and every checkpoint that was served came before the cut.

use super::{
    disk::{self, Disk},
    draws::Draws,
    figures::Figures,
    kills::CLIENTS,
    service::Part,
    trial::{Trial, play},
};
use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// A cut comes at most this long after the work of its round began.
const WINDOW_US: u64 = 400_000;

/// Where the state of the processes lies in the folder of `chancery dev`, and on the disk.
const STATES: [(&str, &str); 3] = [("data", "data"), ("log/state", "log"), ("signing/state", "signing")];

/// Why the power cannot be cut on this machine, if that is so. The rig is tried: panics unless what was synced is there after
/// a cut, and what was not is lost.
pub fn no_power_cuts() -> Option<String> {
    disk::missing()
}

/// Cuts the power so often, and compares everything after each time.
pub fn power(rounds: u64, seed: u64) -> Figures {
    let mut figures = Figures::new("power", seed);
    let mut draws = Draws::new(seed);
    let begin = || Trial::begin(CLIENTS, |dir| Some(on_a_disk(dir)));
    play(&mut figures, rounds, begin, |trial, figures| round(trial, &mut draws, figures));
    figures
}

fn round(trial: &mut Trial, draws: &mut Draws, figures: &mut Figures) -> Result<(), String> {
    trial.work();
    thread::sleep(Duration::from_micros(draws.below(WINDOW_US)));
    trial.look();
    trial.service.freeze(&Part::ALL);
    let mut disk = trial.service.disk.take().expect("the state lies on a disk");
    let cut = disk.cut(|| trial.service.kill(&Part::ALL));
    trial.service.disk = Some(disk);
    cut?;
    trial.died(&Part::ALL);
    figures.killed(&Part::ALL);
    let raised = Instant::now();
    Part::ALL.into_iter().for_each(|part| trial.service.raise(part));
    trial.service.wait_until_ready()?;
    figures.recoveries.push(raised.elapsed());
    trial.settle()?;
    trial.check(figures);
    Ok(())
}

/// Moves the state of the processes to a new disk, and tells their configurations.
fn on_a_disk(dir: &Path) -> Disk {
    let place = dir.join("disk");
    let disk = Disk::make(&dir.join("images"), &place).expect("power cuts were tried before");
    for (old, new) in STATES {
        let moved = Command::new("cp").arg("-a").arg(dir.join(old)).arg(place.join(new)).status().unwrap();
        assert!(moved.success());
        fs::remove_dir_all(dir.join(old)).unwrap();
    }
    let rewrite = |file: &str, old: &str, new: &str| {
        let file = dir.join(file);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(old), "{old}: {text}");
        fs::write(&file, text.replace(old, new)).unwrap();
    };
    let data = |folder: &Path| format!("data = \"{}\"", folder.display());
    rewrite("chanceryd.toml", &data(&dir.join("data")), &data(&place.join("data")));
    for keeper in ["log", "signing"] {
        let state = format!("state = \"../disk/{keeper}\"");
        rewrite(&format!("{keeper}/keeper.toml"), "state = \"state\"", &state);
    }
    disk.sync();
    disk
}
