//! The test's hand on a token that fails: which faults strike, and what they did so far.
//!
//! Promises: a change is in force from the next call on, in every process that has the token; waiting is for a state
//! and bounded. It does not know: whether a rule's call will ever be made.

mod log;
mod rule;
mod state;
mod token;

pub use log::{FaultEvent, Happened};
pub use rule::Rule;
pub use token::{Insertion, PinFlag, Token};

use crate::Error;
use serde::Serialize;
use std::{
    fmt,
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use token::Shown;

/// Longer than any call takes on a busy machine.
const MAX_WAIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(2);
const RULES: &str = "rules.jsonl";
const TOKEN: &str = "token.json";

/// A control folder. Dropping it changes nothing: the folder is the caller's.
///
/// ```no_run
/// # fn main() -> Result<(), hsm_sim::Error> {
/// # let (dir, journal) = (std::path::Path::new("/tmp/token"), std::path::Path::new("/tmp/journal"));
/// # let token = hsm_sim::SoftHsm::create(dir, "token")?;
/// let faults = hsm_sim::Faults::create(&dir.join("control"))?;
/// let journaled = token.journaled_with(journal, &faults)?;
/// // Start a process with `journaled.module()` and `journaled.env()`, then:
/// let hang = faults.add(hsm_sim::Rule::hang("C_Sign").after().times(1))?;
/// // Let it sign.
/// faults.wait_fired(&hang, 1)?;
/// // The signature is in the journal, and the process does not have it.
/// faults.release(&hang)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Faults {
    folder: PathBuf,
    rules: Mutex<Rules>,
    shown: Mutex<Shown>,
}

/// Names a rule that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleId(String);

#[derive(Debug, Default)]
struct Rules {
    added: u64,
    in_force: Vec<(RuleId, Rule)>,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    #[serde(flatten)]
    rule: &'a Rule,
}

impl Faults {
    /// Makes the folder `dir`, or takes an empty one. No fault is in force.
    pub fn create(dir: &Path) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(Error::file("make the control folder", dir))?;
        let folder = dir.canonicalize().map_err(Error::file("resolve the control folder", dir))?;
        match folder_fault(&folder)? {
            Some(why) => Err(Error::ControlFolder { path: folder, why }),
            None => Ok(Self { folder, rules: Mutex::default(), shown: Mutex::default() }),
        }
    }

    /// What `HSM_SIM_CONTROL` names.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts the rule behind those that are in force. Of two that strike a call, the earlier one does so first.
    pub fn add(&self, rule: Rule) -> Result<RuleId, Error> {
        let mut rules = self.rules();
        rules.added += 1;
        let id = RuleId(format!("{}-{}", rules.added, rule.function()));
        rules.in_force.push((id.clone(), rule));
        self.write(&rules)?;
        Ok(id)
    }

    /// Ends the rule: the calls that it holds go on, and a token that it removed is back.
    pub fn release(&self, rule: &RuleId) -> Result<(), Error> {
        let mut rules = self.rules();
        rules.in_force.retain(|(id, _)| id != rule);
        self.write(&rules)
    }

    /// Ends all rules.
    pub fn clear(&self) -> Result<(), Error> {
        let mut rules = self.rules();
        rules.in_force.clear();
        self.write(&rules)
    }

    /// How the token looks from now on, in place of what was said before. It stays in or out of its slot.
    pub fn set_token(&self, token: Token) -> Result<(), Error> {
        self.show(|shown| shown.token = token)
    }

    /// Takes the token out of its slot, until [`Faults::insert_token`].
    pub fn remove_token(&self) -> Result<(), Error> {
        self.show(Shown::remove)
    }

    /// Puts a token back, whoever took it: [`Faults::remove_token`] or a rule. All sessions of before are over.
    pub fn insert_token(&self, insertion: Insertion) -> Result<(), Error> {
        self.show(|shown| shown.insert(insertion))?;
        let mut rules = self.rules();
        rules.in_force.retain(|(_, rule)| !rule.removes_the_token());
        self.write(&rules)
    }

    /// The tries that the user PIN has left; `None` if [`Token::pin_tries`] did not say that they are counted.
    pub fn pin_tries_left(&self) -> Result<Option<u32>, Error> {
        let Some(tries) = self.shown().token.tries() else { return Ok(None) };
        Ok(Some(tries.saturating_sub(state::wrong_pins(&self.folder)?)))
    }

    /// Sets the tries that the user PIN has left, at most those that [`Token::pin_tries`] gave it; none if it gave
    /// none. All tries are an operator's unblocking, 0 is a locked PIN.
    pub fn set_pin_tries_left(&self, left: u32) -> Result<(), Error> {
        let tries = self.shown().token.tries().unwrap_or_default();
        state::set_wrong_pins(&self.folder, tries.saturating_sub(left))
    }

    /// Everything that the rules did, in order.
    pub fn log(&self) -> Result<Vec<FaultEvent>, Error> {
        log::read(&self.folder)
    }

    /// How often the rule struck a call.
    pub fn fired(&self, rule: &RuleId) -> Result<u64, Error> {
        self.count(rule, Happened::Fired)
    }

    /// How many calls the rule holds now. Calls of processes that were killed meanwhile count.
    pub fn held(&self, rule: &RuleId) -> Result<u64, Error> {
        Ok(self.fired(rule)?.saturating_sub(self.count(rule, Happened::Released)?))
    }

    /// Waits until the rule struck `n` calls. A call that it holds is held then; after the real function if the rule
    /// says so. Fails after a minute.
    pub fn wait_fired(&self, rule: &RuleId, n: u64) -> Result<(), Error> {
        let since = Instant::now();
        loop {
            let fired = self.fired(rule)?;
            if fired >= n {
                return Ok(());
            }
            if since.elapsed() > MAX_WAIT {
                let (rule, waited_s) = (rule.to_string(), MAX_WAIT.as_secs());
                return Err(Error::NotFired { rule, fired, wanted: n, waited_s });
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn count(&self, rule: &RuleId, what: Happened) -> Result<u64, Error> {
        let events = self.log()?;
        Ok(events.iter().filter(|event| event.rule == rule.0 && event.happened == what).count() as u64)
    }

    fn show(&self, change: impl FnOnce(&mut Shown)) -> Result<(), Error> {
        let mut shown = self.shown();
        change(&mut shown);
        let path = self.folder.join(TOKEN);
        let text = serde_json::to_string(&*shown);
        let text = text.map_err(|source| Error::ControlLine { path: path.clone(), line: 1, source })?;
        replace(&path, &text)
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic of another thread left whole rules: they change in one step.
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, rules: &Rules) -> Result<(), Error> {
        let line = |(id, rule): &(RuleId, Rule)| serde_json::to_string(&Line { id: &id.0, rule });
        let lines: Result<Vec<_>, _> = rules.in_force.iter().map(line).collect();
        let path = self.folder.join(RULES);
        let lines = lines.map_err(|source| Error::ControlLine { path: path.clone(), line: 0, source })?;
        replace(&path, &lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>())
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn folder_fault(folder: &Path) -> Result<Option<&'static str>, Error> {
    if folder.to_str().is_none() {
        return Ok(Some("is not UTF-8"));
    }
    let mut entries = fs::read_dir(folder).map_err(Error::file("list the control folder", folder))?;
    Ok(entries.next().is_some().then_some("is not empty, and rules of another test may be in it"))
}

/// In one step: a reader has the old text or the new one.
fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let new = path.with_extension("new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, path)).map_err(Error::file("replace the file", path))
}

#[cfg(test)]
mod tests {
    use super::{Faults, Rule};
    use crate::Error;
    use std::{fs, time::Duration};

    #[test]
    fn rules_stand_in_the_file_in_the_order_of_adding_until_they_are_released() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::create(&dir.path().join("control")).unwrap();
        let text = || fs::read_to_string(faults.folder().join("rules.jsonl")).unwrap();
        let hang = faults.add(Rule::hang("C_Sign")).unwrap();
        faults.add(Rule::delay("*", Duration::from_millis(5))).unwrap();
        assert_eq!(
            text(),
            "{\"id\":\"1-C_Sign\",\"on\":\"C_Sign\",\"do\":\"hang\"}\n\
             {\"id\":\"2-*\",\"on\":\"*\",\"do\":{\"delay_ms\":5}}\n"
        );
        faults.release(&hang).unwrap();
        assert!(!text().contains("hang"), "{}", text());
        faults.clear().unwrap();
        assert_eq!(text(), "");
    }

    #[test]
    fn a_folder_with_anything_in_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("rules.jsonl"), "").unwrap();
        assert!(matches!(Faults::create(dir.path()), Err(Error::ControlFolder { .. })));
    }
}
