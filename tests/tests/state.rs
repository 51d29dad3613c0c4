//! State that is missing, damaged, older than another part's, or lost: what starts, what refuses, and what is rebuilt.

use record::{Digest, Event, Leaf};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tests::{DAEMON, Instance, LOG_KEEPER, Output, Settings, binary, dump, have, wait_for};

/// The database; the log keeper's spool; the signing keeper's journal: folders of `chancery dev`.
const DATABASE: &str = "data";
const SPOOL: &str = "log/state";
const JOURNAL: &str = "signing/state";

/// A stopped service that has signed `v1`, then was copied, then has signed `v2` and more.
struct Past {
    service: Instance,
    digest: Digest,
    copies: PathBuf,
}

impl Past {
    /// None where no registry is installed.
    fn new() -> Option<Self> {
        if !have("docker-registry") {
            return None;
        }
        let mut service = Instance::start();
        let digest = service.registry.push("demo/app", "v1", "x");
        assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
        assert_eq!(service.stop(), 0);
        let copies = service.dir().join("copies");
        for part in [DATABASE, SPOOL, JOURNAL] {
            copy(&service.dir().join(part), &copies.join(part));
        }
        service.resume(&Settings::default());
        for tag in ["v2", "v3"] {
            assert_eq!(service.sign("demo/app", &digest, tag).code, 0);
        }
        Some(Self { service, digest, copies })
    }

    /// Puts the copy of these parts in place of what is there.
    fn restore(&self, parts: &[&str]) {
        for part in parts {
            let place = self.service.dir().join(part);
            fs::remove_dir_all(&place).unwrap();
            copy(&self.copies.join(part), &place);
        }
    }

    fn database(&self) -> PathBuf {
        self.service.dir().join("data/chancery.db")
    }

    /// The service goes on, and nothing that was signed is lost.
    fn goes_on(&self) {
        let seen = self.service.trust_file("demo/app", "targets.json");
        for tag in ["v1", "v2", "v3"] {
            assert!(seen.contains(&format!("\"{tag}\":")), "{tag}: {seen}");
        }
        let signed = self.service.sign("demo/app", &self.digest, "later");
        assert_eq!(signed.code, 0, "{signed:?}");
        self.service.verify_log();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// `chanceryd serve` ended with 78, and `chancery dev` shows why and names the file.
fn refuses_with_78(said: &str, process: &str, words: &[&str]) {
    assert!(said.contains(&format!("{process} ended (exit status: 78)")), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

#[test]
fn missing_and_truncated_state_is_refused_with_78_and_the_files_name_and_never_begun_anew() {
    let Some(mut past) = Past::new() else { return };
    assert_eq!(past.service.stop(), 0);
    let spool = only_file(&past.service.dir().join(SPOOL).join("spool"), ".seg");
    let journal = only_file(&past.service.dir().join(JOURNAL), "journal");
    for (process, file) in
        [("chanceryd", past.database()), ("log-keeper", spool), ("signing-keeper", journal)]
    {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let whole = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        refuses_with_78(&past.service.resume_in_vain(), process, &[&name]);
        assert!(!file.exists(), "{name} was made anew");
        fs::write(&file, &whole[..16]).unwrap();
        refuses_with_78(&past.service.resume_in_vain(), process, &[&name]);
        fs::write(&file, b"").unwrap();
        refuses_with_78(&past.service.resume_in_vain(), process, &[&name]);
        fs::write(&file, whole).unwrap();
    }
    past.service.resume(&Settings::default());
    past.goes_on();
}

/// The one file of a folder whose name has this word in it, or the newest of them.
fn only_file(folder: &Path, word: &str) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.is_file() && f.file_name().unwrap().to_str().unwrap().contains(word));
    files.sort();
    files.pop().unwrap_or_else(|| panic!("no {word} in {}", folder.display()))
}

#[test]
fn an_older_database_is_refilled_from_the_spool_and_the_log_says_so() {
    let Some(mut past) = Past::new() else { return };
    assert_eq!(past.service.stop(), 0);
    past.restore(&[DATABASE]);
    past.service.resume(&Settings::default());
    past.goes_on();
    let told = |leaf: &Leaf| matches!(leaf, Leaf::Event(Event::StoreRolledBack { .. }));
    assert_eq!(past.service.history().leaves().iter().filter(|l| told(l)).count(), 1);
}

#[test]
fn a_database_older_than_a_fail_over_explains_needs_an_operator_and_a_lost_one_is_rebuilt_to_the_same_files()
{
    let Some(mut past) = Past::new() else { return };
    let before = past.service.trust_file("demo/app", "targets.json");
    assert_eq!(past.service.stop(), 0);
    let rows = of_the_log(&past.service);
    let config = past.service.dir().join("chanceryd.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n[limits]\nrefill_leaves = 1\n")).unwrap();
    past.restore(&[DATABASE]);
    let said = past.service.resume_in_vain();
    refuses_with_78(
        &said,
        "chanceryd",
        &["chancery.db", "leaves and the log keeper's spool", "chanceryd rebuild"],
    );

    fs::remove_dir_all(past.service.dir().join(DATABASE)).unwrap();
    rebuild(&past.service, &config);
    let rebuilt = of_the_log(&past.service);
    let lost: Vec<_> = rows.difference(&rebuilt).collect();
    assert!(lost.is_empty() && rows.len() > 50, "{lost:#?} of {} rows", rows.len());
    past.service.resume(&Settings::default());
    assert_eq!(past.service.trust_file("demo/app", "targets.json"), before);
    past.goes_on();
}

/// The rows that are functions of the log alone.
fn of_the_log(service: &Instance) -> BTreeSet<String> {
    let others = ["head: ", "generation: ", "request: ", "session: ", "used_token: ", "poll_token: "];
    let rows = dump(&service.dir().join(DATABASE));
    rows.into_iter().filter(|row| !others.iter().any(|table| row.starts_with(table))).collect()
}

/// `chanceryd rebuild` with the log keeper running.
fn rebuild(service: &Instance, config: &Path) {
    let keeper = service.dir().join("log/keeper.toml");
    let mut keeper = service.keeper_command(&["serve", "--config", keeper.to_str().unwrap()]);
    let mut keeper = keeper.stderr(Stdio::null()).spawn().unwrap();
    let rebuilt = wait_for("the log keeper to serve, and the database to be rebuilt", || {
        let done = Output::of(Command::new(binary("chanceryd")).args(["rebuild", "--config"]).arg(config));
        (done.code != 69).then_some(done)
    });
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    assert_eq!(rebuilt.code, 0, "{rebuilt:?}");
}

#[test]
fn a_database_and_a_spool_older_than_what_a_keeper_has_seen_are_refused() {
    let Some(mut past) = Past::new() else { return };
    assert_eq!(past.service.stop(), 0);
    past.restore(&[DATABASE, SPOOL]);
    let said = past.service.resume_in_vain();
    refuses_with_78(&said, "chanceryd", &["chancery.db", "keeper signing has seen"]);
}

#[test]
fn an_older_spool_gets_from_the_database_what_it_lacks() {
    let Some(mut past) = Past::new() else { return };
    // Each start takes a lease: the copy's epochs are long gone.
    for _ in 0..3 {
        assert_eq!(past.service.stop(), 0);
        past.service.resume(&Settings::default());
    }
    assert_eq!(past.service.stop(), 0);
    past.restore(&[SPOOL]);
    past.service.resume(&Settings::default());
    past.goes_on();
    let told = |leaf: &Leaf| matches!(leaf, Leaf::Event(Event::SpoolRolledBack { .. }));
    assert_eq!(past.service.history().leaves().iter().filter(|l| told(l)).count(), 1);
}

#[test]
fn a_keeper_with_an_older_journal_ends_with_78_and_uses_no_key() {
    let Some(mut past) = Past::new() else { return };
    assert_eq!(past.service.stop(), 0);
    let signed = past.service.signed();
    past.restore(&[JOURNAL]);
    let said = past.service.resume_in_vain();
    refuses_with_78(&said, "signing-keeper", &["signing/state/journal", "older"]);
    assert_eq!(past.service.signed(), signed, "a key was used");
}

#[test]
fn a_second_daemon_and_a_second_log_keeper_on_one_state_are_refused() {
    let Some(past) = Past::new() else { return };
    let service = &past.service;
    let config = service.dir().join("chanceryd.toml").display().to_string();
    let daemon = service.chancery(&["serve", "--config", &config]);
    assert_eq!(daemon.code, 75, "{daemon:?}");
    let config = service.dir().join("log/keeper.toml").display().to_string();
    let keeper = Output::of(&mut service.keeper_command(&["serve", "--config", &config]));
    assert_eq!(keeper.code, 75, "{keeper:?}");
    service.pid(DAEMON);
    service.pid(LOG_KEEPER);
    past.goes_on();
}
