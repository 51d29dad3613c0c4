//! Older copies put in place of newer state, and copies that run beside the original: for each the outcome that the
//! protocol states, fifty times.
//!
//! One service is copied fifty times while it works: between requests, and in the middle of them file by file, which is
//! the classic mistake with a database that is in use. Then single processes are started on the copies, only as far as
//! their outcome shows.

use record::{Digest, Event, Leaf};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};
use tests::{Instance, Output, Part, Parts, Settings, checkpoint, copy, dump, have, wait_for};

/// Copies of each kind: the first few decide most of it, the rest is for moments that are rare.
const COPIES: usize = 50;

/// A service that was copied while it worked, and now is stopped.
struct Past {
    service: Arc<Instance>,
    digest: Digest,
    copies: Vec<Copied>,
    /// A request that every copy has, which was made with the idempotency key `known`.
    known: String,
}

/// All state of one moment.
struct Copied {
    folder: PathBuf,
    /// Whether nothing was being written.
    quiet: bool,
}

impl Past {
    /// None where no registry is installed.
    fn new() -> Option<Self> {
        if !have("docker-registry") || !have("curl") {
            return None;
        }
        let service = Arc::new(Instance::start());
        let digest = service.registry.push("demo/app", "v1", "x");
        let (_, known) = service.post("CHANCERY_TOKEN", "known", "demo/app", &digest, "known");
        let known = known["id"].as_str().unwrap().to_owned();
        let mut past = Self { service, digest, copies: Vec::new(), known };
        assert_eq!(past.ask("first").join().unwrap().code, 0);
        let mut asked: Vec<JoinHandle<Output>> = Vec::new();
        for n in 0..COPIES {
            let quiet = n % 5 == 0;
            if quiet || asked.len() > 2 {
                asked.drain(..).for_each(|client| assert_eq!(client.join().unwrap().code, 0));
            }
            if !quiet {
                let before = past.service.committed();
                asked.push(past.ask(&format!("t{n}")));
                wait_for("a commit", || (past.service.committed() > before).then_some(()));
            }
            past.copy(n, quiet);
        }
        asked.drain(..).for_each(|client| assert_eq!(client.join().unwrap().code, 0));
        for n in (0..COPIES).step_by(5) {
            assert_eq!(past.ask(&format!("t{n}")).join().unwrap().code, 0);
        }
        let Some(service) = Arc::get_mut(&mut past.service) else { panic!("every client has ended") };
        assert_eq!(service.stop(), 0);
        Some(past)
    }

    fn ask(&self, tag: &str) -> JoinHandle<Output> {
        let (service, digest, tag) = (self.service.clone(), self.digest, tag.to_owned());
        thread::spawn(move || service.sign("demo/app", &digest, &tag))
    }

    fn copy(&mut self, n: usize, quiet: bool) {
        let folder = self.service.dir().join(format!("copies/{n}"));
        for part in Part::ALL {
            copy(&self.service.dir().join(part.state()), &folder.join(part.state()));
        }
        // No journal was moved into the database in between: the copy is of one moment, as a file system's snapshot is.
        checkpoint(&folder.join(Part::Daemon.state()));
        self.copies.push(Copied { folder, quiet });
    }

    /// Every tag is still signed, and a retry of what every copy knows gets its signature without a key.
    fn lost_nothing(&self) {
        let seen = self.service.trust_file("demo/app", "targets.json");
        let tags = (0..COPIES).map(|n| format!("t{n}")).chain(["first".into()]);
        let lost: Vec<_> = tags.filter(|tag| !seen.contains(&format!("\"{tag}\":"))).collect();
        assert!(lost.is_empty(), "{lost:?}");
        let signed = self.service.signed().len();
        let (_, again) = self.service.post("CHANCERY_TOKEN", "known", "demo/app", &self.digest, "known");
        assert_eq!(
            (&again["id"], &again["state"]),
            (&self.known.as_str().into(), &"published".into()),
            "{again}"
        );
        assert_eq!(self.service.signed().len(), signed, "a key was used");
    }
}

#[test]
fn older_copies_end_as_the_protocol_says() {
    let Some(past) = Past::new() else { return };
    let parts = Parts::of(&past.service);
    older_databases_are_refilled_and_nothing_is_lost(&past, &parts);
    let newest = past.service.dir().join("copies/newest");
    for part in Part::ALL {
        copy(&parts.state(part), &newest.join(part.state()));
    }
    an_older_database_and_spool_are_refused_with_both_heads(&past, &parts);
    everything_restored_is_told_by_whoever_kept_a_head(&past, &parts);
    parts.restore(&newest, &Part::ALL);
    let Past { service, digest, .. } = past;
    let Some(mut service) = Arc::into_inner(service) else { panic!("nobody else has it") };
    service.resume(&Settings::default());
    assert_eq!(service.sign("demo/app", &digest, "at last").code, 2, "a tag without spaces");
    assert_eq!(service.sign("demo/app", &digest, "at-last").code, 0);
    service.verify_log();
}

/// Ways to tear a copy of a database apart: which file is copied before the journal is moved into the database.
#[derive(Debug, Clone, Copy)]
enum Torn {
    Database,
    Journal,
}

#[test]
fn a_torn_copy_of_a_database_in_use_is_refused_or_refilled_and_never_served_as_it_is() {
    if !have("docker-registry") || !have("curl") {
        return;
    }
    let mut service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "x");
    let copies = service.dir().join("copies");
    let mut torn = Vec::new();
    for n in 0..16 {
        let sign = |more: &str| assert_eq!(service.sign("demo/app", &digest, &format!("t{n}{more}")).code, 0);
        sign("a");
        let (data, to) = (service.dir().join("data"), copies.join(format!("{n}")));
        fs::create_dir_all(&to).unwrap();
        let file = |name: &str| fs::copy(data.join(name), to.join(name)).unwrap();
        let (kind, first, second) = match n % 2 {
            0 => (Torn::Database, "chancery.db", "chancery.db-wal"),
            _ => (Torn::Journal, "chancery.db-wal", "chancery.db"),
        };
        file(first);
        sign("b");
        checkpoint(&data);
        sign("c");
        file(second);
        torn.push((kind, to));
    }
    assert_eq!(service.stop(), 0);
    let parts = Parts::of(&service);
    let whole = rebuilt(&parts);
    let (_log, _signing) = (parts.start(Part::LogKeeper), parts.start(Part::SigningKeeper));
    for (kind, folder) in torn {
        let data = parts.state(Part::Daemon);
        fs::remove_dir_all(&data).unwrap();
        copy(&folder, &data);
        let mut daemon = parts.start(Part::Daemon);
        match parts.settled(&mut daemon) {
            Some(code) => {
                assert_eq!(code, 78, "{kind:?}: {}", daemon.said());
                assert!(daemon.said().contains("chancery.db"), "{}", daemon.said());
            }
            None => {
                assert_eq!(daemon.stop(), 0);
                let rows = log_rows(&data);
                let lost: Vec<_> = whole.iter().filter(|row| rows.binary_search(row).is_err()).collect();
                assert!(
                    lost.is_empty(),
                    "{kind:?}: {} of {} rows lost or altered: {lost:?}",
                    lost.len(),
                    whole.len()
                );
            }
        }
    }
}

/// What the log alone gives, in a database made from the spool.
fn rebuilt(parts: &Parts) -> Vec<String> {
    let _log = parts.start(Part::LogKeeper);
    fs::remove_dir_all(parts.state(Part::Daemon)).unwrap();
    let rebuilt = Output::of(&mut parts.command(Part::Daemon, &["rebuild"]));
    assert_eq!(rebuilt.code, 0, "{rebuilt:?}");
    let mut rows = log_rows(&parts.state(Part::Daemon));
    // The newest leaf tells of the rebuilding, and is nowhere else yet.
    let index =
        |row: &String| row.strip_prefix("leaf: idx=").and_then(|r| r.split(' ').next()?.parse::<u64>().ok());
    let newest = rows.iter().filter_map(index).max();
    rows.retain(|row| index(row).is_none() || index(row) != newest);
    rows
}

/// The rows that are functions of the log, and stay as they are while it grows.
fn log_rows(data: &Path) -> Vec<String> {
    let kinds = ["leaf: ", "node: ", "blob: ", "file: ", "certificate: ", "tag: ", "token: "];
    let mut rows = dump(data);
    rows.retain(|row| kinds.iter().any(|kind| row.starts_with(kind)));
    rows.sort();
    rows
}

/// The spool and the keepers are the newest: what the database lacks is read from the spool, and the log says so.
fn older_databases_are_refilled_and_nothing_is_lost(past: &Past, parts: &Parts) {
    let (_log, _signing) = (parts.start(Part::LogKeeper), parts.start(Part::SigningKeeper));
    let signed = past.service.signed().len();
    let (mut refilled, mut damaged) = (0, 0);
    for copied in &past.copies {
        parts.restore(&copied.folder, &[Part::Daemon]);
        let mut daemon = parts.start(Part::Daemon);
        match parts.settled(&mut daemon) {
            None => refilled += 1,
            Some(code) => {
                assert!(
                    code == 78 && !copied.quiet,
                    "{}: {code}: {}",
                    copied.folder.display(),
                    daemon.said()
                );
                assert!(daemon.said().contains("chancery.db"), "{}", daemon.said());
                damaged += 1;
            }
        }
        assert_eq!(past.service.signed().len(), signed, "a key was used");
        if daemon.ended().is_none() {
            assert_eq!(daemon.stop(), 0, "{}", daemon.said());
        }
    }
    eprintln!("database only: {refilled} refilled, {damaged} refused as damaged");
    assert!(refilled >= COPIES - COPIES / 10, "almost all are of one moment");
    if damaged > 0 {
        parts.restore(&past.copies[0].folder, &[Part::Daemon]);
        refilled += 1;
    }
    let mut daemon = parts.start(Part::Daemon);
    assert_eq!(parts.settled(&mut daemon), None, "{}", daemon.said());
    past.lost_nothing();
    let told = |leaf: &&Leaf| matches!(leaf, Leaf::Event(Event::StoreRolledBack { .. }));
    wait_for("each refill to stand in the log", || {
        (past.service.history().leaves().iter().filter(told).count() == refilled).then_some(())
    });
    past.service.verify_log();
    let seen = past.service.chancery(&["log", "checkpoint"]);
    assert_eq!(seen.code, 0, "{seen:?}");
    assert_eq!(daemon.stop(), 0);
}

/// A signing keeper has seen more than both: nothing starts, and no key is used.
fn an_older_database_and_spool_are_refused_with_both_heads(past: &Past, parts: &Parts) {
    let _signing = parts.start(Part::SigningKeeper);
    let signed = past.service.signed().len();
    let (mut behind, mut damaged) = (0, 0);
    for copied in &past.copies {
        parts.restore(&copied.folder, &[Part::Daemon, Part::LogKeeper]);
        let mut log = parts.start(Part::LogKeeper);
        let mut daemon = parts.start(Part::Daemon);
        let code = parts.settled(&mut daemon);
        let said = daemon.said();
        assert_eq!(code, Some(78), "{}: {said}{}", copied.folder.display(), log.said());
        if said.contains("keeper signing has seen ") {
            assert!(said.contains(" leaves of this log, which now has "), "{said}");
            behind += 1;
        } else {
            assert!(said.contains("chancery.db") && !copied.quiet, "{said}");
            damaged += 1;
        }
        log.stop();
    }
    eprintln!("database and spool: {behind} refused for the keeper's head, {damaged} as damaged");
    assert!(behind >= COPIES - COPIES / 10, "almost all are of one moment");
    assert_eq!(past.service.signed().len(), signed, "a key was used");
}

/// Nothing on the host is newer: the service starts, and cannot know. Whoever kept a head elsewhere tells at once.
fn everything_restored_is_told_by_whoever_kept_a_head(past: &Past, parts: &Parts) {
    let (mut told, mut older, mut damaged) = (0, 0, 0);
    for copied in &past.copies {
        parts.restore(&copied.folder, &Part::ALL);
        let (mut log, mut signing) = (parts.start(Part::LogKeeper), parts.start(Part::SigningKeeper));
        let mut daemon = parts.start(Part::Daemon);
        // A keeper that was copied before the database is older than what the database knows of it, and ends.
        let code =
            wait_for("the service to be ready or to end", || match (daemon.ended(), signing.ended()) {
                (Some(code), _) | (_, Some(code)) => Some(Some(code)),
                _ => (past.service.http("", "/readyz", &[]).0 == 200).then_some(None),
            });
        match code {
            None => {
                let seen = past.service.chancery(&["log", "checkpoint"]);
                assert_eq!(seen.code, 10, "{}: {seen:?}", copied.folder.display());
                assert!(seen.stderr.contains("shrank") || seen.stderr.contains("rewritten"), "{seen:?}");
                told += 1;
            }
            Some(code) => {
                let said = format!("{}{}", daemon.said(), signing.said());
                assert!(code == 78 && !copied.quiet, "{}: {code}: {said}", copied.folder.display());
                if said.contains("is older than what this keeper told its daemon") {
                    older += 1;
                } else {
                    assert!(said.contains("chancery.db"), "{}: {said}", copied.folder.display());
                    damaged += 1;
                }
            }
        }
        drop(daemon);
        log.stop();
        signing.stop();
    }
    eprintln!(
        "everything: {told} told by a client that kept a head, {older} refused for an older journal, {damaged} as damaged"
    );
    assert!(told >= COPIES / 2, "in the middle of a request a journal may be older than its database");
}
