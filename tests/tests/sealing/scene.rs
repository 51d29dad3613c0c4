//! A service whose processes the test holds, and what must be true whenever it is sealed, and after.

use record::{Clock, Digest, OutcomeKind, SystemClock};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};
use tests::{Call, End, Fault, Held, Instance, Member, Output, Told, WRITES, have, wait_for};

/// The errors that a disk gives.
pub(super) const ERRNOS: [&str; 4] = ["EIO", "ENOSPC", "EDQUOT", "EROFS"];

/// How long a caller waits for the answer that nothing can be signed.
pub(super) const TOLD: Duration = Duration::from_secs(1);

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
        let at = SystemClock.now().unix_ms() as f64 / 1000.0;
        let body = serde_json::from_str(&body).unwrap_or(Value::Null);
        Answer { status, body, at, took: begun.elapsed() }
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
        let changed = std::fs::metadata(self.service().journal()).unwrap().modified().unwrap();
        changed.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
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
