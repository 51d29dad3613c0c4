//! One service with its clients and an auditor, and everything that was seen of it: what all the runs do rounds on.

use super::{
    clients::{Clients, ENDLESS},
    copy::Auditor,
    cuts::{Bound, Cut, Cuts, starts},
    disk::Disk,
    figures::Figures,
    oracle::{Account, Evidence, Violation, judge},
    service::{Part, Service},
};
use crate::{Output, have, instance::runtime, journal::TokenKeys, second, wait_for};
use api::{Client, Secret, Trust};
use record::{ImageRef, Tag};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};
use tlog::VerifierKey;

/// Repositories; several clients share one, so that some requests go into one targets file.
const REPOSITORIES: usize = 4;
/// A log is begun anew after so many rounds: the verifiers read it whole after each.
pub(crate) const ROUNDS_A_LOG: u64 = 50;
/// After every so many rounds the second verifier reads it, too.
const SECOND_EVERY: u64 = 10;
/// The longest that a service and its clients may take to come to rest.
const REST: Duration = Duration::from_secs(120);
/// How often a state is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A service under observation.
pub(crate) struct Trial {
    /// Who asks. Dropped first: they ask in vain when the service is gone.
    pub(crate) clients: Clients,
    /// Its processes.
    pub(crate) service: Service,
    /// Those that may sign in the journal.
    keys: TokenKeys,
    auditor: Auditor,
    runtime: tokio::runtime::Runtime,
    cuts: Cuts,
    /// What log and journal held when they were last compared.
    account: Account,
    rounds: u64,
}

impl Trial {
    /// A fresh service that has signed something for each client and is at rest. `prepare` sees its folder before its
    /// processes are raised, and may put its state on a disk.
    pub(crate) fn begin(clients: usize, prepare: impl FnOnce(&Path) -> Option<Disk>) -> Result<Self, String> {
        let mut service = Service::make(prepare);
        let images = images(&service, clients);
        Part::ALL.into_iter().for_each(|part| service.raise(part));
        if let Err(why) = service.wait_until_ready() {
            return Err(kept(&mut service, &why));
        }
        let env = service.instance.env();
        let trust = Trust::CaFile(env["CHANCERY_CACERT"].clone().into());
        let client = |token: &str| {
            let token = Secret::new(&env[token]).unwrap();
            Client::new(&env["CHANCERY_URL"], &trust, Some(token)).unwrap()
        };
        let key = VerifierKey::parse(&env["CHANCERY_LOG_VKEY"]).unwrap();
        let mut trial = Self {
            clients: Clients::start(&client("CHANCERY_TOKEN"), images),
            keys: TokenKeys::of_dev(&service.instance.dir()),
            service,
            auditor: Auditor::new(client("CHANCERY_AUDITOR_TOKEN"), key),
            runtime: runtime(),
            cuts: Cuts::default(),
            account: Account::default(),
            rounds: 0,
        };
        // Roots are made once, and are not what rounds are about.
        trial.ask(clients as u64);
        match trial.settle() {
            Ok(()) => Ok(trial),
            Err(why) => Err(kept(&mut trial.service, &why)),
        }
    }

    /// Lets the clients ask without end.
    pub(crate) fn work(&self) {
        self.clients.open(ENDLESS);
    }

    /// How often it was checked.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Lets the clients begin so many requests, and waits until they have.
    pub(crate) fn ask(&self, requests: u64) {
        let begun = self.clients.begun() + requests;
        self.clients.open(requests);
        wait_for("requests to be begun", || (self.clients.begun() >= begun).then_some(()));
    }

    /// Keeps the checkpoint that is served now; there is none while the daemon does not answer.
    pub(crate) fn look(&mut self) {
        let _away = self.runtime.block_on(self.auditor.look());
    }

    /// Takes down what is seen when these processes have just died.
    pub(crate) fn died(&mut self, victims: &[Part]) {
        // The journal first: what is in it later may have a later intent.
        let journaled = journaled(&self.service);
        let bound = if victims.contains(&Part::Daemon) {
            Bound::Started(starts(&self.auditor.log).count())
        } else {
            self.service.readiness().map_or(Bound::Unknown, |state| Bound::Noted(state.log_size))
        };
        let since = victims.contains(&Part::SigningKeeper).then(|| self.auditor.log.size());
        self.cuts.push(Cut { journaled, bound, since });
    }

    /// Lets the clients end what they have begun, and waits until every intent has its end.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        self.clients.close();
        let end = Instant::now() + REST;
        loop {
            self.service.tend()?;
            let why = match self.at_rest() {
                Ok(()) => {
                    self.cuts.settle(self.auditor.log.size());
                    return Ok(());
                }
                Err(why) => why,
            };
            if Instant::now() > end {
                return Err(format!("not at rest within {REST:?}: {why}"));
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until all is at rest, or a process has ended; how it has.
    pub(crate) fn rest_or_end_of(&mut self, part: Part) -> Result<Option<ExitStatus>, String> {
        let end = Instant::now() + REST;
        loop {
            if let Some(status) = self.service.end_of(part) {
                return Ok(Some(status));
            }
            match self.at_rest() {
                Ok(()) => return Ok(None),
                Err(why) if Instant::now() > end => {
                    return Err(format!("not at rest within {REST:?}: {why}"));
                }
                Err(_) => thread::sleep(LOOK),
            }
        }
    }

    /// Copies the log and compares; an error says what is still under way.
    fn at_rest(&mut self) -> Result<(), String> {
        if !self.clients.are_idle() {
            return Err("clients wait for their answers".to_owned());
        }
        let state = self.service.readiness().filter(|state| state.ready).ok_or("the service is not ready")?;
        self.runtime.block_on(self.auditor.copy())?;
        if self.auditor.log.size() < state.log_size {
            return Err(format!("the checkpoint of {} leaves is not published", state.log_size));
        }
        self.account = self.compare()?;
        if self.account.open > 0 { Err(format!("{} intents have no end", self.account.open)) } else { Ok(()) }
    }

    /// What the log, the journal, the clients and the verifiers say, when all is at rest. Call it after [`Self::settle`].
    pub(crate) fn check(&mut self, figures: &mut Figures) {
        self.rounds += 1;
        figures.rounds += 1;
        let mut found = self.account.violations.clone();
        found.extend(self.clients.told().faults.into_iter().map(Violation::Found));
        figures.verified += 1;
        found.extend(self.verify().err().map(Violation::Found));
        if self.rounds.is_multiple_of(SECOND_EVERY) {
            found.extend(self.unpublished().into_iter().map(Violation::Found));
            if have("python3") {
                figures.verified_twice += 1;
                found.extend(self.verify_with_the_second().err().map(Violation::Found));
            }
        }
        figures.found(&found);
    }

    fn compare(&self) -> Result<Account, String> {
        let journal = self.keys.read(&self.service.instance.journal())?;
        let told = self.clients.told();
        Ok(judge(&Evidence {
            log: &self.auditor.log,
            journal: &journal,
            moments: &self.cuts.moments(&self.auditor.log),
            acknowledged: &told.acknowledged,
            checkpoints: &self.auditor.seen,
            deaths: &self.cuts.deaths(&self.auditor.log),
        }))
    }

    /// `chancery log verify` over the whole log, which also remembers the last checkpoint; it must count as we do.
    fn verify(&self) -> Result<(), String> {
        let args = ["log", "verify", "--no-open", "-o", "json"];
        self.agrees(&self.service.instance.chancery_as("CHANCERY_AUDITOR_TOKEN", &args))
    }

    /// The same by the verifier in Python, which reads the server itself.
    fn verify_with_the_second(&self) -> Result<(), String> {
        let env = self.service.instance.env();
        let mut command = Command::new("python3");
        command.arg(second::script()).args([&env["CHANCERY_URL"], &env["CHANCERY_LOG_VKEY"]]);
        command
            .env("CHANCERY_TOKEN", &env["CHANCERY_AUDITOR_TOKEN"])
            .env("CHANCERY_CACERT", &env["CHANCERY_CACERT"]);
        self.agrees(&Output::of(&mut command))
    }

    /// Tags that a client was told are published, and that no targets file has.
    fn unpublished(&self) -> Vec<String> {
        let instance = &self.service.instance;
        let repositories = (0..REPOSITORIES).map(|number| instance.repository(&repository(number)));
        let path = |name: String| format!("/v2/{name}/_trust/tuf/targets.json");
        let files: Vec<String> = repositories.map(|name| instance.http("", &path(name), &[]).1).collect();
        let told = self.clients.told().acknowledged;
        let has = |tag: &Tag| files.iter().any(|file| file.contains(&format!("\"{tag}\":")));
        told.iter()
            .filter(|told| !has(&told.tag))
            .map(|told| format!("{} is not published", told.tag))
            .collect()
    }

    fn agrees(&self, said: &Output) -> Result<(), String> {
        let report: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
        let Account { completions, void, failed, unknown_signed, unknown_unsigned, open, .. } = &self.account;
        let ours = [
            ("size", self.auditor.log.size()),
            ("signed", *completions),
            ("void", *void),
            ("failed", *failed),
            ("unknown", unknown_signed + unknown_unsigned),
            ("open_total", *open),
            ("findings_total", 0),
        ];
        let other = ours.iter().find(|(member, count)| report[member].as_u64() != Some(*count));
        match other {
            None if said.code == 0 => Ok(()),
            _ => Err(format!("a verifier does not agree, at {other:?}: {said:?}")),
        }
    }

    /// Adds up what this service did. Its folder stays if something is wrong.
    pub(crate) fn end(mut self, figures: &mut Figures) {
        let told = self.clients.told();
        figures.add(&self.account, &told, self.clients.begun(), self.auditor.seen.len());
        figures.ended(self.service.ended());
        if !figures.violations.is_empty() {
            figures.kept = Some(self.service.instance.keep());
        }
    }
}

/// Plays rounds, each log's on a fresh service, until there are enough or something is wrong.
pub(crate) fn play(
    figures: &mut Figures,
    rounds: u64,
    begin: impl Fn() -> Result<Trial, String>,
    mut round: impl FnMut(&mut Trial, &mut Figures) -> Result<(), String>,
) {
    while figures.rounds < rounds && figures.is_good() {
        let mut trial = match begin() {
            Ok(trial) => trial,
            Err(why) => return figures.found(&[Violation::Found(why)]),
        };
        for _ in 0..ROUNDS_A_LOG.min(rounds - figures.rounds) {
            if let Err(why) = round(&mut trial, figures) {
                figures.found(&[Violation::Found(why)]);
                figures.found(&trial.account.violations);
            }
            if !figures.is_good() {
                break;
            }
        }
        trial.end(figures);
        figures.progress();
    }
}

/// What went wrong with a service, which is left for people to look at.
fn kept(service: &mut Service, why: &str) -> String {
    format!("at the start: {why}; everything is left in {}", service.instance.keep().display())
}

/// The same small image in some repositories of the registry, one for each client.
fn images(service: &Service, clients: usize) -> Vec<ImageRef> {
    let instance = &service.instance;
    let image = |number: usize| {
        let name = repository(number);
        let digest = instance.registry.push(&name, "x", "x");
        format!("{}@{digest}", instance.repository(&name)).parse().unwrap()
    };
    (0..clients).map(image).collect()
}

fn repository(client: usize) -> String {
    format!("demo/app{}", client % REPOSITORIES)
}

/// Lines of the token's journal; its writer may be writing.
fn journaled(service: &Service) -> usize {
    let bytes = fs::read(service.instance.journal()).unwrap();
    bytes.iter().filter(|byte| **byte == b'\n').count()
}
