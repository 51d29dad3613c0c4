//! One loop per repository: whatever is missing between what was approved and what clients see is made by ordinary
//! intents: for each targets file the snapshot and the timestamp above it, before the next one. Publishing, renewal,
//! coalescing and recovery are this one loop.

use crate::{
    audit::Log,
    auth::{Proof, Tokens},
    facts::{Asked, FactFinder},
    health::Health,
    in_force::InForce,
    keys::KeyDirectory,
    refusals::Roll,
    sign::{self, Allowed, Approved, Authenticated, Draft, NextTargets, Pipeline, SignError},
    signer::{AskError, Signer},
    store::{Collection, FileRow, Role, Store, StoreError, Waiting},
};
use policy::{Ask, Manifest, PolicySet, RepositoryRules};
use record::{
    Action, Clock, KeeperName, MAX_CHANGES, Nonce, Purpose, Repository, RoleKeys, Time,
    wire::{Blob, Child, Extra},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

/// Pause after a step that failed: first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));
/// How long a repository sleeps at the most before it looks at its files again.
const LOOK: Duration = Duration::from_secs(3600);
/// Bytes of changes in one targets intent: the leaf stays under 64 KiB with everything around them.
const MAX_CHANGES_BYTES: usize = 56 * 1024;
/// How much earlier than its neighbours' a collection's files may expire.
const MAX_SPREAD_S: i64 = 86_400;
/// Answers to `create` that may wait for one repository.
const QUEUE: usize = 16;
/// A keeper's word for a version out of order (K8).
const CHAIN: &str = "chain";

/// What the loops share.
pub(crate) struct Workshop {
    pub store: Store,
    pub log: Log,
    pub policy: Arc<InForce>,
    pub keys: Arc<KeyDirectory>,
    pub tokens: Arc<Tokens>,
    pub signers: Arc<BTreeMap<KeeperName, Signer>>,
    pub health: Arc<Health>,
    pub clock: Arc<dyn Clock>,
}

/// The loops by repository.
pub(crate) struct Publisher {
    workshop: Arc<Workshop>,
    loops: Mutex<HashMap<Repository, Running>>,
}

/// A loop from outside.
#[derive(Clone)]
struct Running {
    calls: mpsc::Sender<Call>,
    looks: watch::Receiver<Option<String>>,
}

/// What a loop is told.
enum Call {
    /// Look again.
    Wake,
    /// Make the collection.
    Create { approved: Box<Approved>, reply: oneshot::Sender<Result<(), String>> },
}

impl Publisher {
    /// Loops for nothing yet.
    pub(crate) fn new(workshop: Arc<Workshop>) -> Arc<Self> {
        Arc::new(Self { workshop, loops: Mutex::default() })
    }

    /// Starts a loop for each collection and each repository with waiting requests.
    pub(crate) async fn start(&self) -> Result<(), StoreError> {
        let mut all = self.workshop.store.collections().await?;
        all.extend(self.workshop.store.repositories_waiting().await?);
        all.iter().collect::<BTreeSet<_>>().into_iter().for_each(|r| self.wake(r));
        Ok(())
    }

    /// Changes after every step of a repository's loop: what stood in its way, if something did.
    pub(crate) fn watch(&self, repository: &Repository) -> watch::Receiver<Option<String>> {
        self.running(repository).looks
    }

    /// Has a repository looked at now.
    pub(crate) fn wake(&self, repository: &Repository) {
        // A full queue holds a wake already.
        let _full = self.running(repository).calls.try_send(Call::Wake);
    }

    /// Makes a collection; answers when clients can see it.
    pub(crate) async fn create(&self, approved: Approved) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let calls = self.running(approved.repository()).calls;
        let call = Call::Create { approved: Box::new(approved), reply };
        calls.try_send(call).map_err(|_| "too many calls for this repository at once".to_owned())?;
        answer.await.map_err(|_| "the daemon is stopping".to_owned())?
    }

    fn running(&self, repository: &Repository) -> Running {
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let (calls, called) = mpsc::channel(QUEUE);
            let (told, looks) = watch::channel(None);
            let (repository, workshop) = (repository.clone(), self.workshop.clone());
            tokio::spawn(Loop::new(repository, workshop, told).run(called));
            Running { calls, looks }
        };
        loops.entry(repository.clone()).or_insert_with(start).clone()
    }
}

struct Loop {
    repository: Repository,
    workshop: Arc<Workshop>,
    told: watch::Sender<Option<String>>,
    /// Changes in the next targets version at most: fewer after a version that could not be built.
    most: usize,
    /// The last snapshot or timestamp that was asked for was not made.
    above_failed: bool,
    /// The version that a role's keeper called out of order last, as long as it has reserved none since. Not kept over a restart:
    /// by then the keeper may have been given the right journal.
    out_of_order: BTreeMap<Role, u64>,
}

/// What one look at a repository led to.
enum Step {
    /// Something changed: look again.
    Again,
    /// Nothing to do until then.
    Idle(Duration),
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("{}", .0.full())]
    Store(#[from] StoreError),
    #[error("{0}")]
    Blocked(String),
}

impl StepError {
    /// For those who wait; what the database says is for its operator.
    fn told(&self) -> String {
        match self {
            Self::Store(_) | Self::Sign(SignError::Store(_)) => {
                "the database does not answer as it must".into()
            }
            Self::Sign(_) | Self::Blocked(_) => self.to_string(),
        }
    }
}

impl Loop {
    fn new(repository: Repository, workshop: Arc<Workshop>, told: watch::Sender<Option<String>>) -> Self {
        let (most, above_failed, out_of_order) = (MAX_CHANGES, false, BTreeMap::new());
        Self { repository, workshop, told, most, above_failed, out_of_order }
    }

    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        let mut creating: Vec<oneshot::Sender<Result<(), String>>> = Vec::new();
        let mut approved: Option<Approved> = None;
        let mut pause = BACKOFF.0;
        loop {
            let step = self.step(&mut approved).await;
            self.told.send_replace(step.as_ref().err().map(StepError::told));
            let wait = match step {
                Ok(Step::Again) => {
                    pause = BACKOFF.0;
                    continue;
                }
                Ok(Step::Idle(wait)) => {
                    creating.drain(..).for_each(|reply| tell(reply, Ok(())));
                    pause = BACKOFF.0;
                    wait
                }
                Err(e) => {
                    self.judge(&e);
                    creating.drain(..).for_each(|reply| tell(reply, Err(e.to_string())));
                    let now = pause;
                    pause = (pause * 2).min(BACKOFF.1);
                    now
                }
            };
            match timeout(wait, calls.recv()).await {
                Ok(None) => return,
                Ok(Some(Call::Create { approved: new, reply })) => {
                    approved = Some(*new);
                    creating.push(reply);
                }
                Ok(Some(Call::Wake)) | Err(_) => {}
            }
        }
    }

    fn judge(&self, error: &StepError) {
        if let StepError::Store(e) | StepError::Sign(SignError::Store(e)) = error {
            self.workshop.log.judge(e);
        }
        if self.workshop.health.sealed().is_some() {
            return; // Told once, by the seal.
        }
        tracing::warn!(repository = %self.repository, error = %error, "a step of publishing was not done and is tried again");
    }

    /// Makes the next thing that is missing.
    async fn step(&mut self, create: &mut Option<Approved>) -> Result<Step, StepError> {
        let w = self.workshop.clone();
        if let Some(why) = w.health.sealed() {
            return Err(StepError::Blocked(format!("sealed: {why}")));
        }
        if w.store.has_open_intent(&self.repository).await? {
            return Err(StepError::Blocked(
                "an intent of an earlier connection waits for its keeper's word".into(),
            ));
        }
        let collection = w.store.collection(&self.repository).await?;
        // One policy for the whole step: what is signed together stands under one stamp.
        let policy = w.policy.current();
        let rules = policy.repository(&self.repository);
        let rules =
            rules.ok_or_else(|| StepError::Blocked("policy no longer knows this repository".into()))?;
        let Some(root) = collection.newest(Role::Root) else {
            let (approved, _) = self.redecide(&policy).await?;
            return self.make_root(rules, &collection, create, &approved).await;
        };
        *create = None;
        let roles = w.store.roles(root).await?;
        // What is signed is published first: it never waits for a signature that may not come. Nor do the changes that
        // wait: after a failure above it is their turn.
        let above = match self.snapshot(rules, &collection, &roles, root).await? {
            None => self.timestamp(rules, &collection, &roles).await?,
            snapshot => snapshot,
        };
        if above.is_none() || std::mem::take(&mut self.above_failed) {
            let (approved, retries) = self.redecide(&policy).await?;
            let asked = approved.len();
            if let Some(targets) = self.targets(rules, &collection, &roles, approved, retries).await? {
                return match self.sign(targets).await {
                    Err(StepError::Sign(SignError::Build(why))) if asked > 0 => {
                        self.change_less(&policy, asked, why).await
                    }
                    done => {
                        self.most = MAX_CHANGES;
                        done.map(|()| Step::Again)
                    }
                };
            }
        }
        let Some(above) = above else { return Ok(Step::Idle(self.until_renewal(&collection))) };
        let done = self.sign(above).await;
        self.above_failed = done.is_err();
        done.map(|()| Step::Again)
    }

    /// A version with these changes cannot be built: half of them perhaps can. One that cannot alone is refused, in
    /// the log, since it never will.
    async fn change_less(
        &mut self,
        policy: &PolicySet,
        changes: usize,
        why: formats::BuildError,
    ) -> Result<Step, StepError> {
        self.most = (changes / 2).max(1);
        if changes == 1 {
            let w = &self.workshop;
            for waiting in w.store.waiting(&self.repository, 1).await? {
                sign::refuse(&w.log, waiting, policy.stamp(), &why, w.clock.now()).await?;
            }
        }
        Ok(Step::Again)
    }

    async fn sign(&mut self, draft: Draft) -> Result<(), StepError> {
        let w = &self.workshop;
        let pipeline = Pipeline { log: &w.log, keys: &w.keys, clock: w.clock.as_ref(), signers: &w.signers };
        let (role, version) = (draft.role(), draft.version());
        let done = sign::sign(&pipeline, draft).await;
        match (&done, version) {
            (Err(SignError::Ask(AskError::Refused { code, .. })), Some(version))
                if code.as_str() == CHAIN =>
            {
                self.out_of_order.insert(role, version);
            }
            // It has reserved the version.
            (Ok(()) | Err(SignError::Failed(_) | SignError::Unknown | SignError::BadSignature), Some(_)) => {
                self.out_of_order.remove(&role);
            }
            _ => {}
        }
        Ok(done?)
    }

    fn next_version(&self, collection: &Collection, role: Role) -> Result<u64, StepError> {
        let refused = self.out_of_order.get(&role).copied();
        collection.next(role, refused).ok_or_else(|| {
            StepError::Blocked(format!(
                "its keeper calls every {role} version that can follow out of order, down to {}: its journal, or the database \
                 that this log took over, is not the newest one. Restore the newest journal and start the daemon anew, or give \
                 the collection a new name",
                refused.unwrap_or_default()
            ))
        })
    }

    /// Decides again about everything that waits, with fresh facts: tags move and tokens end while requests wait.
    /// Also gives the last intent that one of them had before.
    async fn redecide(&self, policy: &PolicySet) -> Result<(Vec<Approved>, Option<u64>), StepError> {
        let (mut approved, mut retries) = (Vec::new(), None);
        let (mut tags, mut bytes) = (BTreeSet::new(), 0);
        for waiting in self.workshop.store.waiting(&self.repository, self.most).await? {
            // One change a tag: the next one for the same tag is judged against this one's result.
            let before = waiting.retries;
            if tags.insert(waiting.image.tag.clone())
                && let Some(one) = self.decide_again(policy, waiting).await?
            {
                bytes += one.change_bytes();
                if bytes > MAX_CHANGES_BYTES && !approved.is_empty() {
                    break;
                }
                approved.push(one);
                retries = retries.max(before);
            }
        }
        Ok((approved, retries))
    }

    async fn decide_again(
        &self,
        policy: &PolicySet,
        waiting: Waiting,
    ) -> Result<Option<Approved>, StepError> {
        let w = &self.workshop;
        let now = w.clock.now();
        let image = waiting.image;
        let asked = Asked {
            id: &waiting.id,
            by: &waiting.by,
            repository: &self.repository,
            tag: image.tag,
            digest: image.digest,
            manifest: Manifest::Present { media_type: image.media_type, size: image.size },
            now,
        };
        let signing = FactFinder { store: &w.store, keys: &w.keys, policy }.signing(asked).await?;
        let proof = waiting.caller.map(Proof::of_waiting).or_else(|| w.tokens.still(&waiting.by, now));
        let who = Authenticated::new(proof.unwrap_or_else(|| Proof::ended(waiting.by, now)));
        let (ask, roll) = (Ask::Sign(Box::new(signing)), Roll::ending(&w.log));
        let decided =
            Allowed::decide(&who, waiting.id, self.repository.clone(), ask, policy, &roll, now).await?;
        Ok(decided.ok().map(Approved::without_people))
    }

    async fn make_root(
        &mut self,
        rules: &RepositoryRules,
        collection: &Collection,
        create: &mut Option<Approved>,
        waiting: &[Approved],
    ) -> Result<Step, StepError> {
        let Some(approved) = create.as_ref().or_else(|| waiting.first()) else { return Ok(Step::Idle(LOOK)) };
        let w = self.workshop.clone();
        let now = w.clock.now().whole_seconds();
        let missing = |p: Purpose| StepError::Blocked(format!("no keeper has a {p} key for this repository"));
        let roles = w.keys.roles_for(&self.repository).map_err(missing)?;
        let asked = w.store.asked_root(&self.repository).await?;
        let draft = match (asked, collection.certificate) {
            (Some(root), _) => Draft::root(approved, root.roles, root.certificate.0, root.expires),
            (None, None) => {
                let serial = Nonce::random().map_err(|e| StepError::Blocked(e.to_string()))?;
                Draft::root_certificate(
                    approved,
                    roles.root,
                    serial,
                    now,
                    now.plus_s(rules.validity.root_certificate_s),
                )
            }
            (None, Some(sha256)) => {
                let expires = now.plus_s(rules.validity.root_s);
                Draft::root(approved, roles, self.blob(&sha256).await?, expires)
            }
        };
        self.sign(draft).await?;
        Ok(Step::Again)
    }

    async fn targets(
        &self,
        rules: &RepositoryRules,
        collection: &Collection,
        roles: &RoleKeys,
        approved: Vec<Approved>,
        retries: Option<u64>,
    ) -> Result<Option<Draft>, StepError> {
        let newest = collection.newest(Role::Targets);
        if approved.is_empty() && !self.is_due(collection, Role::Targets) {
            return Ok(None);
        }
        let prev = match newest {
            Some(file) => Some((file.payload, self.blob(&file.file.sha256).await?)),
            None => None,
        };
        let next = NextTargets {
            version: self.next_version(collection, Role::Targets)?,
            expires: self.expiry(rules.validity.targets_s),
            prev,
            approved,
            retries,
        };
        Ok(Some(Draft::targets(&self.repository, roles.targets, next)))
    }

    async fn snapshot(
        &self,
        rules: &RepositoryRules,
        collection: &Collection,
        roles: &RoleKeys,
        root: &FileRow,
    ) -> Result<Option<Draft>, StepError> {
        let Some(targets) = collection.newest(Role::Targets) else { return Ok(None) };
        let current = collection.newest(Role::Snapshot).is_some_and(|s| s.below == Some(targets.file.sha256));
        if current && !self.is_due(collection, Role::Snapshot) {
            return Ok(None);
        }
        let version = self.next_version(collection, Role::Snapshot)?;
        let expires = self.expiry(rules.validity.snapshot_s);
        let action = Action::Snapshot { version, expires, root: root.file, targets: targets.file };
        let extra = Extra::Snapshot { root: self.child(root).await?, targets: self.child(targets).await? };
        Ok(Some(Draft::service(&self.repository, roles.snapshot, action, extra)))
    }

    async fn timestamp(
        &self,
        rules: &RepositoryRules,
        collection: &Collection,
        roles: &RoleKeys,
    ) -> Result<Option<Draft>, StepError> {
        let Some(snapshot) = collection.newest(Role::Snapshot) else { return Ok(None) };
        let current =
            collection.newest(Role::Timestamp).is_some_and(|t| t.below == Some(snapshot.file.sha256));
        if current && !self.is_due(collection, Role::Timestamp) {
            return Ok(None);
        }
        let version = self.next_version(collection, Role::Timestamp)?;
        let expires = self.expiry(rules.validity.timestamp_s);
        let action = Action::Timestamp { version, expires, snapshot: snapshot.file };
        let extra = Extra::Timestamp { snapshot: self.child(snapshot).await? };
        Ok(Some(Draft::service(&self.repository, roles.timestamp, action, extra)))
    }

    /// Whether a role's file must be made anew though nothing below it changed: there is none, or it is past half of its
    /// life.
    fn is_due(&self, collection: &Collection, role: Role) -> bool {
        let Some(file) = collection.newest(role) else { return true };
        self.workshop.clock.now() >= half_life(file)
    }

    fn until_renewal(&self, collection: &Collection) -> Duration {
        let now = self.workshop.clock.now().unix_ms();
        let roles = [Role::Targets, Role::Snapshot, Role::Timestamp];
        let next =
            roles.into_iter().filter_map(|r| collection.newest(r)).map(|f| half_life(f).unix_ms()).min();
        let wait = next.map_or(LOOK, |at| Duration::from_millis(u64::try_from(at - now).unwrap_or(0)));
        wait.min(LOOK)
    }

    /// Now and the validity, less a little that is the repository's own: collections made in one second are not
    /// renewed in one second, and equal changes in two of them give different bytes.
    fn expiry(&self, validity_s: i64) -> Time {
        let most = (validity_s / 64).min(MAX_SPREAD_S);
        let [a, b, c, d, ..] = *record::Sha256::of(self.repository.as_str().as_bytes()).as_bytes();
        let spread = i64::from(u32::from_be_bytes([a, b, c, d])) % (most + 1);
        self.workshop.clock.now().whole_seconds().plus_s(validity_s - spread)
    }

    async fn child(&self, file: &FileRow) -> Result<Child, StepError> {
        let leaf = self.workshop.store.leaf(file.intent).await?;
        let leaf =
            leaf.ok_or_else(|| StoreError::Contradiction(format!("leaf {} is missing", file.intent)))?;
        let bytes = self.blob(&file.file.sha256).await?;
        Ok(Child { file: Blob(bytes), index: file.intent, leaf: Blob(leaf), inclusion: Vec::new() })
    }

    async fn blob(&self, sha256: &record::Sha256) -> Result<Vec<u8>, StepError> {
        let bytes = self.workshop.store.blob(sha256).await?;
        Ok(bytes.ok_or_else(|| StoreError::Contradiction(format!("bytes {sha256} are not stored")))?)
    }
}

fn half_life(file: &FileRow) -> Time {
    file.created.plus_ms((file.expires.unix_ms() - file.created.unix_ms()) / 2)
}

fn tell(reply: oneshot::Sender<Result<(), String>>, result: Result<(), String>) {
    let _gone = reply.send(result);
}
