//! A service whose processes the test holds, and what must be true whenever it is sealed, and after.

use record::{Clock, Digest, OutcomeKind, SystemClock};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tests::{Call, End, Fault, Held, Instance, Member, Output, Strace, Told, WRITES, have, wait_for};

/// The errors that a disk gives.
pub(super) const ERRNOS: [&str; 4] = ["EIO", "ENOSPC", "EDQUOT", "EROFS"];

/// How long after a fault a caller waits at most for the answer that nothing can be signed.
pub(super) const TOLD: Duration = Duration::from_secs(1);

/// Requests of which the one with the fewest calls is taken: what every request makes.
const RECORDED: usize = 3;

/// Requests in which a fault may fail to come.
const TRIES: usize = 5;

/// The service and an image.
pub(super) struct Scene {
    pub(super) parts: Held,
    pub(super) digest: Digest,
    tags: usize,
}

/// What a caller got, and when.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    /// Seconds since 1970.
    pub(super) at: f64,
    pub(super) took: Duration,
}

impl Scene {
    /// None where a program is missing.
    pub(super) fn set() -> Option<Self> {
        if !have("docker-registry") || !have("strace") {
            return None;
        }
        let service = Instance::start();
        let digest = service.registry.push("demo/app", "v1", "x");
        let first = service.sign("demo/app", &digest, "first");
        assert_eq!(first.code, 0, "{first:?}");
        Some(Self { parts: Held::of(service), digest, tags: 0 })
    }

    pub(super) fn service(&self) -> &Instance {
        &self.parts.service
    }

    /// A tag that was not used yet.
    pub(super) fn tag(&mut self) -> String {
        self.tags += 1;
        format!("t{}", self.tags)
    }

    /// `POST /v1/requests` that waits for its end; the tag is its idempotency key too.
    pub(super) fn ask(&self, tag: &str) -> Answer {
        let image = format!("{}@{}", self.service().repository("demo/app"), self.digest);
        let body = serde_json::json!({ "image": image, "tag": tag }).to_string();
        let key = format!("Idempotency-Key: {tag}");
        let args = ["-H", "Content-Type: application/json", "-H", &key, "-d", &body];
        let begun = Instant::now();
        let (status, body) = self.service().http("CHANCERY_TOKEN", "/v1/requests?wait=30", &args);
        let at = now();
        let body = serde_json::from_str(&body).unwrap_or(Value::Null);
        Answer { status, body, at, took: begun.elapsed() }
    }

    /// What a process does with its files for one request.
    pub(super) fn calls_of_a_request(&mut self, of: Member, files: &[PathBuf]) -> Vec<Call> {
        let record = |_| {
            let tag = self.tag();
            let trace = Strace::attach(self.parts.pid(of), files, &self.trace_file(), None);
            assert_eq!(self.ask(&tag).status, 201);
            trace.calls()
        };
        (0..RECORDED).map(record).min_by_key(Vec::len).unwrap()
    }

    /// A keeper has ended after a fault (seconds since 1970): no key was used after it, callers are refused in time, reads
    /// go on, and the daemon's own state is whole. How long after the fault the first caller was refused, and the tags of
    /// those who were accepted before him.
    pub(super) fn is_without(&mut self, keeper: Member, fault: f64, what: &str) -> (f64, Vec<String>) {
        // Before anything new is asked for, of which the log key would sign. A file's time is rounded down.
        let last = self.last_signature();
        assert!(last <= fault, "{what}: a key was used {} s after it", last - fault);
        let (refused, accepted) = self.first_refused();
        let told = refused.at - fault;
        assert!(told < TOLD.as_secs_f64(), "{what}: told after {told} s: {refused:?}");
        let code = match keeper {
            Member::SigningKeeper => "token-unavailable",
            Member::LogKeeper | Member::Daemon => "audit-unavailable",
        };
        assert_eq!(refused.body["code"], code, "{what}: {refused:?}");
        assert_eq!(self.parts.ended(keeper), 74, "{what}");
        let said = self.service().log_of(keeper.name());
        assert!(said.contains("cannot be written; check the disk"), "{what}: {said}");
        let signed = self.service().signed();
        self.reads_go_on();
        let (again, _) = self.first_refused();
        assert_eq!(again.body["code"], code, "{what}: {again:?}");
        assert_eq!(self.service().signed(), signed, "{what}: a key was used");
        assert_eq!(self.alarms(), 0, "{what}: the daemon's own state is whole");
        (told, accepted)
    }

    /// Asks for one tag after the other until a caller is refused: that answer, and the tags that were accepted.
    fn first_refused(&mut self) -> (Answer, Vec<String>) {
        let mut accepted = Vec::new();
        let refused = wait_for("a caller to be refused", || {
            let (tag, begun) = (self.tag(), Instant::now());
            let (status, body) = self.service().post("CHANCERY_TOKEN", &tag, "demo/app", &self.digest, &tag);
            let answer = Answer { status, body, at: now(), took: begun.elapsed() };
            match status {
                503 => return Some(answer),
                202 => accepted.push(tag),
                _ => panic!("{answer:?}"),
            }
            None
        });
        (refused, accepted)
    }

    /// A keeper that ended needs no more than a start, and whoever was accepted gets the signature.
    pub(super) fn gets_back<'a>(&mut self, keeper: Member, tags: impl Iterator<Item = &'a String>) {
        self.parts.start(keeper);
        self.service().wait_until_ready();
        tags.for_each(|tag| self.gets(tag));
    }

    /// New requests are refused at once, and reads go on.
    pub(super) fn is_sealed(&mut self, why: &str) {
        let tag = self.tag();
        let refused = self.ask(&tag);
        refused.is_audit_unavailable();
        assert!(refused.took < TOLD, "{refused:?}");
        assert!(refused.body["detail"].as_str().unwrap().contains(why), "no {why:?} in {refused:?}");
        self.reads_go_on();
        let (status, body) = self.service().http("", "/readyz", &[]);
        assert!(status == 503 && body.contains("sealed: "), "{status} {body}");
    }

    /// What verifying needs, but for tiles.
    pub(super) fn reads_go_on(&self) {
        let gun = self.service().repository("demo/app");
        for path in [
            "/v1/log/checkpoint".to_owned(),
            format!("/v2/{gun}/_trust/tuf/timestamp.json"),
            format!("/v2/{gun}/_trust/tuf/targets.json"),
            "/healthz".to_owned(),
        ] {
            let (status, body) = self.service().http("", &path, &[]);
            assert_eq!(status, 200, "{path}: {body}");
        }
    }

    /// The tree is read, where it is not the tree that is damaged.
    pub(super) fn tiles_go_on(&self) {
        let (status, _) = self.service().http("", "/v1/log/tile/0/000.p/1", &[]);
        assert_eq!(status, 200);
    }

    /// The alarm was raised once since `before` of them.
    pub(super) fn one_alarm(&self, before: usize) {
        assert_eq!(self.alarms(), before + 1, "{}", self.service().log_of("chanceryd"));
    }

    pub(super) fn alarms(&self) -> usize {
        self.service().log_of("chanceryd").matches("SEALED").count()
    }

    /// A start is refused, the full check finds everything whole, and the service goes on.
    pub(super) fn unseal(&mut self, why: &str) {
        let refused = self.parts.serve_in_vain();
        assert_eq!(refused.code, 78, "{refused:?}");
        for word in ["sealed since", why, "chancery unseal"] {
            assert!(refused.stderr.contains(word), "no {word:?} in {refused:?}");
        }
        self.unsealed();
        self.parts.start(Member::Daemon);
        self.service().wait_until_ready();
    }

    /// The full check finds everything whole.
    pub(super) fn unsealed(&self) -> Output {
        let done = self.parts.unseal();
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.stderr.contains("is whole"), "{done:?}");
        done
    }

    /// The retry of a caller gets its signature.
    pub(super) fn gets(&self, tag: &str) {
        let answer = wait_for("the retry to get its signature", || {
            let answer = self.ask(tag);
            (answer.status != 503 && answer.status != 202).then_some(answer)
        });
        assert_eq!(answer.status, 201, "{answer:?}");
        let targets = self.service().trust_file("demo/app", "targets.json");
        assert!(targets.contains(&format!("\"{tag}\":")), "{tag}: {targets}");
    }

    /// The log verifies; every signature of the token has its intent, and each intent one end.
    pub(super) fn is_whole(&self) {
        self.service().verify_log();
        let (mut signed, mut unknown) = (BTreeMap::new(), BTreeMap::new());
        for Told { intent, end, .. } in self.service().history().intents() {
            let sure: &mut usize = signed.entry(intent.payload).or_default();
            let perhaps: &mut usize = unknown.entry(intent.payload).or_default();
            match end {
                End::Signed => *sure += 1,
                End::Without(OutcomeKind::Unknown) => *perhaps += 1,
                End::Without(_) | End::Open => {}
            }
        }
        let mut made: BTreeMap<_, usize> = BTreeMap::new();
        self.service().signed().into_iter().for_each(|payload| *made.entry(payload).or_default() += 1);
        for (payload, count) in made {
            let least = signed.get(&payload).unwrap_or_else(|| panic!("no intent announced {payload}"));
            assert!((*least..=least + unknown[&payload]).contains(&count), "{payload}: {count} signatures");
        }
    }

    /// When an image key or the log key last signed something, in seconds since 1970.
    pub(super) fn last_signature(&self) -> f64 {
        seconds(&self.service().journal())
    }

    pub(super) fn trace_file(&self) -> PathBuf {
        self.service().dir().join("trace")
    }
}

impl Answer {
    pub(super) fn is_audit_unavailable(&self) {
        assert_eq!(self.status, 503, "{self:?}");
        assert_eq!(self.body["code"], "audit-unavailable", "{self:?}");
    }
}

/// When a file was last written, in seconds since 1970.
pub(super) fn seconds(file: &Path) -> f64 {
    let written = std::fs::metadata(file).unwrap().modified().unwrap();
    written.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

fn now() -> f64 {
    SystemClock.now().unix_ms() as f64 / 1000.0
}

/// How many of a process's writes meet every error; none for the short form.
fn wanted() -> Option<usize> {
    let wanted = std::env::var("CHANCERY_DISK_FAULTS").ok()?;
    Some(if wanted == "all" { usize::MAX } else { wanted.parse().expect("`all` or a number") })
}

/// Faults on the calls that one request makes: on each sync, and on so many of the writes.
pub(super) fn faults(calls: &[Call], writes: usize) -> Vec<Fault> {
    let mut errnos = ERRNOS.into_iter().cycle();
    let mut faults = Vec::new();
    for name in WRITES {
        let count = calls.iter().filter(|call| call.name == *name).count();
        let most = if name.ends_with("sync") { count } else { wanted().unwrap_or(writes) };
        let step = count.div_ceil(most.max(1)).max(1);
        for n in (1..=count).step_by(step) {
            let of = if wanted().is_some() { &ERRNOS[..] } else { &[errnos.next().unwrap()] };
            faults.extend(of.iter().map(|errno| Fault { call: name, errno, n }));
        }
    }
    faults
}

/// Plays one fault after the other with `one`, which gives nothing if the call did not come: then it is tried again. Each
/// must come some time, and after all of them the log is whole.
pub(super) fn play_all<T>(
    scene: &mut Scene,
    faults: &[Fault],
    mut one: impl FnMut(&mut Scene, Fault) -> Option<T>,
) -> Vec<T> {
    let (mut played, mut missed) = (Vec::new(), Vec::new());
    for (done, fault) in faults.iter().enumerate() {
        if done % 100 == 99 {
            println!("{} faults", done + 1);
        }
        match (0..TRIES).find_map(|_| one(scene, *fault)) {
            Some(what) => played.push(what),
            None => missed.push(*fault),
        }
    }
    scene.is_whole();
    println!("{} of {} faults were played", played.len(), faults.len());
    assert!(missed.is_empty(), "in {TRIES} requests each these did not come: {missed:?}");
    played
}
