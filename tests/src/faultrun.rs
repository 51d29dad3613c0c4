//! Signatures under random faults: clients that ask on, an operator that mends what only a person may, and at the end
//! the token's journal against the log.

use crate::{End, History, Instance, OwnKeeper, Wanted, wait_for};
use api::{Client, IdempotencyKey, NewRequest, RequestState, Secret, Trust};
use hsm_sim::{Happened, Insertion, Rule};
use record::{Digest, OutcomeKind, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Repositories, each with one client that asks as soon as it has its answer.
const CLIENTS: usize = 16;
/// Short: each hang costs as much.
const DEADLINE_MS: u64 = 1_000;
/// The exit code of a request that has ended without its signature.
const ENDED: u8 = 8;
/// How often the operator looks.
const LOOK: Duration = Duration::from_millis(100);
/// How long a token that was pulled is out.
const OUT: Duration = Duration::from_millis(300);

/// What a run showed.
#[derive(Debug)]
pub struct Figures {
    /// Repeats the run's choices.
    pub seed: u64,
    /// How long it took.
    pub took: Duration,
    /// Requests by how they ended.
    pub requests: BTreeMap<&'static str, u64>,
    /// Calls that were struck, by what happened to them.
    pub faults: BTreeMap<String, u64>,
    /// Ends of the keeper's process, by exit code.
    pub exits: BTreeMap<i32, u64>,
    /// Starts by the operator.
    pub operator: u64,
    /// Signatures in the token's journal.
    pub journal: u64,
    /// Completions in the log.
    pub completions: u64,
    /// Outcomes `unknown` whose key had signed.
    pub unknown_signed: u64,
    /// Outcomes `unknown` whose key had not.
    pub unknown_unsigned: u64,
    /// Outcomes `failed`.
    pub failed: u64,
    /// Outcomes `void`.
    pub void: u64,
    /// Moments at which every signature in the journal had its intent under the newest note.
    pub samples: u64,
    /// What the log does not explain; empty, or something is wrong.
    pub exceptions: Vec<String>,
}

/// What can happen to a call, and with which chance in ten thousand.
fn faults() -> Vec<(&'static str, u32, Rule)> {
    let init = |rv| Rule::answer("C_SignInit", rv);
    let sign = |rv| Rule::answer("C_Sign", rv);
    vec![
        ("C_SignInit CKR_SESSION_HANDLE_INVALID", 30, init("CKR_SESSION_HANDLE_INVALID")),
        ("C_SignInit CKR_OPERATION_ACTIVE", 10, init("CKR_OPERATION_ACTIVE")),
        ("C_SignInit CKR_KEY_HANDLE_INVALID", 30, init("CKR_KEY_HANDLE_INVALID")),
        ("C_SignInit CKR_USER_NOT_LOGGED_IN", 20, init("CKR_USER_NOT_LOGGED_IN")),
        ("C_SignInit CKR_DEVICE_ERROR", 10, init("CKR_DEVICE_ERROR")),
        ("C_SignInit CKR_DEVICE_MEMORY", 30, init("CKR_DEVICE_MEMORY")),
        ("C_SignInit CKR_FUNCTION_FAILED", 30, init("CKR_FUNCTION_FAILED")),
        ("C_SignInit CKR_MECHANISM_INVALID", 2, init("CKR_MECHANISM_INVALID")),
        ("C_SignInit hangs", 2, Rule::hang("C_SignInit")),
        ("C_Sign CKR_OPERATION_NOT_INITIALIZED", 20, sign("CKR_OPERATION_NOT_INITIALIZED")),
        ("C_Sign CKR_DATA_LEN_RANGE", 10, sign("CKR_DATA_LEN_RANGE")),
        ("C_Sign CKR_SESSION_CLOSED", 20, sign("CKR_SESSION_CLOSED")),
        ("C_Sign CKR_SESSION_CLOSED after the key", 20, sign("CKR_SESSION_CLOSED").after()),
        ("C_Sign CKR_DEVICE_ERROR", 10, sign("CKR_DEVICE_ERROR")),
        ("C_Sign CKR_DEVICE_ERROR after the key", 10, sign("CKR_DEVICE_ERROR").after()),
        ("C_Sign CKR_GENERAL_ERROR after the key", 10, sign("CKR_GENERAL_ERROR").after()),
        ("C_Sign CKR_FUNCTION_FAILED after the key", 20, sign("CKR_FUNCTION_FAILED").after()),
        ("C_Sign CKR_FUNCTION_FAILED, and stays active", 10, sign("CKR_FUNCTION_FAILED").poison()),
        ("C_Sign is slow", 60, Rule::delay("C_Sign", Duration::from_millis(100))),
        ("C_Sign hangs before the key", 4, Rule::hang("C_Sign")),
        ("C_Sign hangs after the key", 4, Rule::hang("C_Sign").after()),
        ("C_Sign aborts before the key", 4, Rule::abort("C_Sign")),
        ("C_Sign aborts after the key", 4, Rule::abort("C_Sign").after()),
        ("C_Sign: the login is lost", 20, Rule::drop_login("C_Sign")),
        ("C_Sign: the token is pulled before the key", 4, Rule::remove_token("C_Sign")),
        ("C_Sign: the token is pulled after the key", 4, Rule::remove_token("C_Sign").after()),
        ("C_Sign: a bit is flipped", 2, Rule::flip_bit("C_Sign", 300)),
        ("C_Sign: an older signature", 2, Rule::older_signature("C_Sign")),
        ("C_OpenSession CKR_SESSION_COUNT", 200, Rule::answer("C_OpenSession", "CKR_SESSION_COUNT")),
        ("C_OpenSession CKR_DEVICE_ERROR", 50, Rule::answer("C_OpenSession", "CKR_DEVICE_ERROR")),
        ("C_FindObjects CKR_GENERAL_ERROR", 20, Rule::answer("C_FindObjects", "CKR_GENERAL_ERROR")),
        ("C_GetTokenInfo CKR_DEVICE_ERROR", 100, Rule::answer("C_GetTokenInfo", "CKR_DEVICE_ERROR")),
        ("C_Initialize CKR_GENERAL_ERROR", 100, Rule::answer("C_Initialize", "CKR_GENERAL_ERROR")),
        ("C_Login CKR_PIN_INCORRECT", 50, Rule::answer("C_Login", "CKR_PIN_INCORRECT")),
    ]
}

/// Has at least so many signatures made while faults strike, each `weight` times as often as usual.
pub fn random_faults(signatures: u64, seed: u64, weight: u32) -> Figures {
    let begun = Instant::now();
    let mut service = Instance::start();
    let wanted = Wanted { name: "hsm", prefix: "demo/hsm/", call_deadline_ms: DEADLINE_MS };
    let mut keeper = OwnKeeper::join(&mut service, wanted);
    let digest = service.registry.push(&repository(0), "x", "x");
    for number in 1..CLIENTS {
        assert_eq!(service.registry.push(&repository(number), "x", "x"), digest, "equal images");
    }
    let (done, clients) = (AtomicBool::new(false), AtomicU64::new(CLIENTS as u64));
    let mut operator = Operator::new(&mut keeper, seed, weight);
    let mut samples = Vec::new();
    let requests = thread::scope(|scope| {
        let asking: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (service, done, clients) = (&service, &done, &clients);
                scope.spawn(move || {
                    let ended = ask(service, &digest, number, done);
                    clients.fetch_sub(1, Ordering::Relaxed);
                    ended
                })
            })
            .collect();
        for look in 0_u64.. {
            if clients.load(Ordering::Relaxed) == 0 {
                break;
            }
            operator.look();
            if look.is_multiple_of(4) {
                samples.extend(Sample::take(&service, operator.keeper));
            }
            // The journal has logins too, and is long to read.
            let enough = |keeper: &OwnKeeper| keeper.signed().len() as u64 >= signatures;
            if operator.keeper.journaled() as u64 >= signatures && enough(operator.keeper) {
                done.store(true, Ordering::Relaxed);
            }
            thread::sleep(LOOK);
        }
        let mut requests = BTreeMap::new();
        for ended in asking.into_iter().flat_map(|client| client.join().unwrap()) {
            *requests.entry(ended).or_insert(0) += 1;
        }
        requests
    });
    let (faults, operator) = operator.end();
    let history = settled(&service, &digest);
    let mut figures = Figures {
        seed,
        took: begun.elapsed(),
        requests,
        faults,
        exits: counted(keeper.exits()),
        operator,
        journal: 0,
        completions: 0,
        unknown_signed: 0,
        unknown_unsigned: 0,
        failed: 0,
        void: 0,
        samples: samples.len() as u64,
        exceptions: Vec::new(),
    };
    figures.compare(&history, &keeper);
    figures.check_order(&history, &keeper, &samples);
    service.verify_log();
    figures
}

fn repository(number: usize) -> String {
    format!("demo/hsm/app{number}")
}

/// One client: asks for one tag after the other, and asks again where it is told to.
fn ask(service: &Instance, digest: &Digest, number: usize, done: &AtomicBool) -> Vec<&'static str> {
    let env = service.env();
    let trust = Trust::CaFile(env["CHANCERY_CACERT"].clone().into());
    let token = Secret::new(&env["CHANCERY_TOKEN"]).unwrap();
    let client = Client::new(&env["CHANCERY_URL"], &trust, Some(token)).unwrap();
    let image = format!("{}@{digest}", service.repository(&repository(number)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut ended = Vec::new();
        while !done.load(Ordering::Relaxed) {
            let tag = format!("t{}", ended.len()).parse().unwrap();
            let new = NewRequest { image: image.parse().unwrap(), tag };
            ended.push(one(&client, &new).await);
        }
        ended
    })
}

async fn one(client: &Client, new: &NewRequest) -> &'static str {
    let key = IdempotencyKey::random().unwrap();
    let mut known = None;
    loop {
        let told = match &known {
            None => client.sign(new, &key).await,
            Some(id) => client.request(id, 30).await,
        };
        match told {
            Ok(request) if request.state == RequestState::Published => return "published",
            Ok(request) if request.state.is_final() => return "failed",
            Ok(request) => known = Some(request.id),
            Err(error) if error.is_temporary() => tokio::time::sleep(LOOK).await,
            // It ended before its first answer.
            Err(error) if error.exit_code() == ENDED => return "failed",
            Err(error) => panic!("{error}"),
        }
    }
}

/// Who puts tokens back, and starts the keeper where its supervisor does not or where it has given up a key.
struct Operator<'a> {
    keeper: &'a mut OwnKeeper,
    /// What the rules do, by their ids, also of those that have ended.
    names: BTreeMap<String, &'static str>,
    /// The rules that pull tokens: putting one back ends them.
    pulls: Vec<(&'static str, f64, Rule)>,
    seed: u64,
    removed: u64,
    read: usize,
    starts: u64,
}

impl<'a> Operator<'a> {
    fn new(keeper: &'a mut OwnKeeper, seed: u64, weight: u32) -> Self {
        let chances =
            faults().into_iter().map(|(what, c, rule)| (what, f64::from(c * weight) / 10_000.0, rule));
        let (pulls, others): (Vec<_>, Vec<_>) = chances.partition(|(what, ..)| what.contains("pulled"));
        let (names, removed, read, starts) = (BTreeMap::new(), 0, 0, 0);
        let mut operator = Self { keeper, names, pulls, seed, removed, read, starts };
        operator.add(&others);
        operator.add(&operator.pulls.clone());
        operator
    }

    /// Puts rules in force, each with draws of its own.
    fn add(&mut self, rules: &[(&'static str, f64, Rule)]) {
        for (what, chance, rule) in rules {
            self.seed = self.seed.wrapping_add(1);
            let id = self.keeper.faults.add(rule.clone().probability(*chance, self.seed)).unwrap();
            self.names.insert(id.to_string(), what);
        }
    }

    fn look(&mut self) {
        self.put_back();
        let said = self.keeper.said();
        let gave_up = said[self.read..].contains("the key is not asked any more");
        if gave_up || !self.keeper.runs() && self.keeper.exits().last() == Some(&78) {
            self.keeper.start();
            self.starts += 1;
            self.read = self.keeper.said().len();
        }
    }

    /// A token that a rule has pulled comes back, in another slot each second time.
    fn put_back(&mut self) {
        let log = self.keeper.faults.log().unwrap();
        let pulled = |rule: &String| self.names[rule].contains("pulled");
        let removed = log.iter().filter(|e| e.happened == Happened::Fired && pulled(&e.rule)).count() as u64;
        if removed == self.removed {
            return;
        }
        thread::sleep(OUT);
        let insertion = Insertion::default();
        let insertion = if removed.is_multiple_of(2) { insertion.new_slot() } else { insertion };
        self.keeper.faults.insert_token(insertion).unwrap();
        self.removed = removed;
        self.add(&self.pulls.clone());
    }

    /// No more faults: what struck, and how often the keeper was started by hand.
    fn end(mut self) -> (BTreeMap<String, u64>, u64) {
        self.put_back();
        self.keeper.faults.clear().unwrap();
        self.look();
        let mut struck = BTreeMap::new();
        for event in self.keeper.faults.log().unwrap() {
            if event.happened == Happened::Fired {
                *struck.entry(self.names[&event.rule].to_owned()).or_insert(0) += 1;
            }
        }
        (struck, self.starts)
    }
}

/// After one request more in each repository, which nothing disturbs: the log, when every intent in it has its end.
fn settled(service: &Instance, digest: &Digest) -> History {
    for number in 0..CLIENTS {
        let last = service.sign(&repository(number), digest, "last");
        assert_eq!(last.code, 0, "the next good request: {last:?}");
    }
    let size = service.committed();
    wait_for("every intent to have its end", || {
        let history = service.history();
        let whole = history.leaves().len() as u64 >= size;
        (whole && history.intents().iter().all(|told| told.end != End::Open)).then_some(history)
    })
}

fn counted<T: Ord>(all: impl IntoIterator<Item = T>) -> BTreeMap<T, u64> {
    let mut counts = BTreeMap::new();
    all.into_iter().for_each(|one| *counts.entry(one).or_insert(0) += 1);
    counts
}

impl Figures {
    /// Each payload has as many signatures as completions, and at most one more for each `unknown`.
    fn compare(&mut self, history: &History, keeper: &OwnKeeper) {
        let made = counted(keeper.signed());
        let (mut completed, mut unknown) = (BTreeMap::<Sha256, u64>::new(), BTreeMap::<Sha256, u64>::new());
        let mut announced = BTreeSet::new();
        for told in history.intents().iter().filter(|told| told.intent.keeper.as_str() == "hsm") {
            let payload = told.intent.payload;
            announced.insert(payload);
            match told.end {
                End::Signed => *completed.entry(payload).or_default() += 1,
                End::Without(OutcomeKind::Unknown) => *unknown.entry(payload).or_default() += 1,
                End::Without(OutcomeKind::Failed) => self.failed += 1,
                End::Without(OutcomeKind::Void) => self.void += 1,
                End::Open => self.exceptions.push(format!("intent {} is open", told.index)),
            }
        }
        self.journal = made.values().sum();
        self.completions = completed.values().sum();
        for payload in made.keys().filter(|payload| !announced.contains(*payload)) {
            self.exceptions.push(format!("the token signed {payload}, which no intent announced"));
        }
        for payload in announced {
            let count = |of: &BTreeMap<Sha256, u64>| of.get(&payload).copied().unwrap_or(0);
            let (made, completed, unknown) = (count(&made), count(&completed), count(&unknown));
            if !(completed..=completed + unknown).contains(&made) {
                let told = format!("{completed} completed and {unknown} unknown");
                self.exceptions.push(format!("the token signed {payload} {made} times, the log says {told}"));
            }
            self.unknown_signed += made.saturating_sub(completed);
            self.unknown_unsigned += (completed + unknown).saturating_sub(made);
        }
    }
}

/// The journal and the log at one moment of the run.
struct Sample {
    /// Entries in the journal.
    journaled: usize,
    /// Leaves under the newest note, a moment later.
    noted: u64,
}

impl Sample {
    fn take(service: &Instance, keeper: &OwnKeeper) -> Option<Self> {
        let journaled = keeper.journaled();
        Some(Self { journaled, noted: service.noted()? })
    }
}

impl Figures {
    /// At no moment had the token signed what was not in the log yet.
    fn check_order(&mut self, history: &History, keeper: &OwnKeeper, samples: &[Sample]) {
        let mut first = BTreeMap::new();
        for told in history.intents() {
            first.entry(told.intent.payload).or_insert(told.index);
        }
        // Of each entry the first moment counts at which it was there.
        let mut samples = samples.iter().peekable();
        for (place, payload) in keeper.entries().into_iter().enumerate() {
            while samples.next_if(|sample| sample.journaled <= place).is_some() {}
            let (Some(payload), Some(Sample { noted, .. })) = (payload, samples.peek()) else { continue };
            if first.get(&payload).is_none_or(|index| index >= noted) {
                let told = format!("the log had {noted} leaves and no intent for it");
                self.exceptions.push(format!("{payload} was signed when {told}"));
            }
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:.0} s", self.seed, self.took.as_secs_f64())?;
        writeln!(f, "requests: {:?}", self.requests)?;
        writeln!(f, "faults: {}", self.faults.values().sum::<u64>())?;
        self.faults.iter().try_for_each(|(what, times)| writeln!(f, "  {times:>5}  {what}"))?;
        writeln!(f, "keeper's ends by exit code: {:?}; started by hand: {}", self.exits, self.operator)?;
        writeln!(f, "signatures in the token's journal: {}", self.journal)?;
        writeln!(f, "completions in the log: {}", self.completions)?;
        writeln!(
            f,
            "outcomes unknown: {} that were signed, {} that were not",
            self.unknown_signed, self.unknown_unsigned
        )?;
        writeln!(f, "outcomes failed: {}, void: {}", self.failed, self.void)?;
        writeln!(f, "moments at which every signature had its intent in the log: {}", self.samples)?;
        writeln!(f, "exceptions: {}", self.exceptions.len())?;
        self.exceptions.iter().try_for_each(|what| writeln!(f, "  {what}"))
    }
}
