//! The policy in force, and how the next one takes its place: on SIGHUP, as a whole, and only if it is good.
//!
//! Promises: a folder that cannot be read, does not validate or fails its own tests changes nothing but the alarms of
//! `/readyz`; the log knows of a change before anything is decided by it. It does not know what policies say.

use crate::{audit::Log, health::Health, publish::Publisher};
use policy::{PolicyError, PolicySet, Sources};
use record::{Clock, Event, Leaf, Nonce, PolicyStamp};
use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The part of the daemon whose alarms these are.
const PART: &str = "policy";

/// The policy that decides now.
#[derive(Debug)]
pub(crate) struct InForce {
    folder: PathBuf,
    set: RwLock<Arc<PolicySet>>,
}

impl InForce {
    /// This set, which was read from this folder.
    pub(crate) fn new(folder: PathBuf, set: Arc<PolicySet>) -> Self {
        Self { folder, set: RwLock::new(set) }
    }

    /// The set. Whoever decides more than once for one signature keeps it meanwhile.
    pub(crate) fn current(&self) -> Arc<PolicySet> {
        self.set.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, set: PolicySet) {
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
    }

    /// What the folder holds now. Read and checked on a thread that may be slow.
    async fn read(&self) -> Result<PolicySet, ReloadError> {
        let folder = self.folder.clone();
        let read = move || PolicySet::load(Sources::read(&folder)?);
        let read = tokio::task::spawn_blocking(read).await;
        Ok(read.map_err(|_| ReloadError::Interrupted)??)
    }
}

/// Why the policy stays as it was.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error("it is refused")]
    Policy(#[from] PolicyError),
    #[error("the change could not be written into the log: {0}")]
    Log(String),
    #[error("reading it was interrupted")]
    Interrupted,
}

/// What a reload needs.
pub(crate) struct Reload {
    pub in_force: Arc<InForce>,
    pub log: Log,
    pub health: Arc<Health>,
    pub publisher: Arc<Publisher>,
    pub clock: Arc<dyn Clock>,
}

/// Takes the signal, which would end the process otherwise.
pub(crate) fn hangups() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}

impl Reload {
    /// Looks at the folder at every SIGHUP, for ever.
    pub(crate) async fn run(self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            match self.reload().await {
                Ok(()) => self.health.set_alarms(PART, Vec::new()),
                Err(error) => self.refuse(&error),
            }
        }
    }

    async fn reload(&self) -> Result<(), ReloadError> {
        let set = self.in_force.read().await?;
        let (old, new) = (self.in_force.current().stamp(), set.stamp());
        if old != new {
            self.write_change(old, new).await?;
        }
        tell_warnings(&set, self.clock.as_ref());
        self.in_force.replace(set);
        tracing::info!(set = %new.set, changed = old != new, "the policy folder was read again");
        // What was blocked by the old policy need not wait for its next look.
        if let Err(error) = self.publisher.start().await {
            tracing::warn!(error = %error.full(), "repositories will see the new policy at their next look");
        }
        Ok(())
    }

    async fn write_change(&self, old: PolicyStamp, new: PolicyStamp) -> Result<(), ReloadError> {
        let nonce = Nonce::random().map_err(|e| ReloadError::Log(e.to_string()))?;
        let event = Event::PolicyChanged { time: self.clock.now(), nonce, old, new };
        self.log.append(Leaf::Event(event)).await.map_err(|e| ReloadError::Log(e.to_string()))?;
        Ok(())
    }

    fn refuse(&self, error: &ReloadError) {
        let (folder, set) = (self.in_force.folder.display(), self.in_force.current().stamp().set);
        let why = api::chain_text(error);
        tracing::error!(why, %folder, "the policy folder is not taken; the policy in force stays");
        let alarm = format!(
            "the policy in {folder} is not taken: {why}; {set} stays in force; correct it, send SIGHUP again"
        );
        self.health.set_alarms(PART, vec![alarm]);
    }
}

/// What loads and should be looked at again: for the operator's log.
pub(crate) fn tell_warnings(set: &PolicySet, clock: &dyn Clock) {
    for warning in set.lint(clock.now()) {
        tracing::warn!(code = warning.code, message = warning.message, "policy");
    }
}
