//! The control folder (`HSM_SIM_CONTROL`): which faults to inject, and what they did so far.
//!
//! `rules.jsonl` says what happens to calls, `token.json` how the token looks; whoever runs the test replaces them in
//! one step (write another file, rename it). `state.json` and `faults.jsonl` are the module's own.
//!
//! Promises: each call obeys the files as they are when it comes; a file that cannot be understood fails every call.
//! Counters are those of all processes together. The folder's lock is held for the moment of a decision, never while a
//! call is held. It does not know: C.

mod ckr;
mod error;
mod log;
mod rules;
mod state;
mod token;
mod trigger;
mod watched;

pub(crate) use error::ControlError;
pub(crate) use rules::{Action, Call, When};
pub(crate) use token::{PinFlag, Token};

use log::{Event, Line, Log};
use rules::Rule;
use state::State;
use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};
use watched::Watched;

/// Nobody tells a held call that its rule is gone: it looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Longer than any test: a call that is still held then was forgotten.
const MAX_HANG: Duration = Duration::from_secs(600);

/// The control folder, open.
pub(crate) struct Control {
    folder: PathBuf,
    loaded: Instant,
    log: Log,
    door: Mutex<Door>,
}

/// What only one call at a time may look at.
struct Door {
    lock: File,
    rules: Watched<Vec<Rule>>,
    token: Watched<Token>,
}

/// The token at one moment.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) token: Token,
    pub(crate) removed: bool,
    pub(crate) removals: u64,
    /// If tries are counted.
    pub(crate) pin_tries_left: Option<u32>,
}

/// A rule that struck a call.
#[derive(Debug)]
pub(crate) struct Fired {
    pub(crate) id: String,
    pub(crate) action: Action,
    pub(crate) poison: bool,
    n: u64,
}

impl Control {
    /// Opens the folder, which must be there.
    pub(crate) fn open(folder: &Path) -> Result<Self, ControlError> {
        if !folder.is_absolute() {
            return Err(ControlError::Relative { path: folder.to_owned() });
        }
        let path = folder.join("lock");
        let lock = OpenOptions::new().append(true).create(true).open(&path);
        let lock = lock.map_err(ControlError::file("open the lock", path))?;
        let rules = Watched::new(folder.join("rules.jsonl"), Vec::new(), rules::parse);
        let token = Watched::new(folder.join("token.json"), Token::default(), token::parse);
        Ok(Self {
            log: Log::open(folder)?,
            folder: folder.to_owned(),
            loaded: Instant::now(),
            door: Mutex::new(Door { lock, rules, token }),
        })
    }

    /// The rules that strike this call, in their order, up to the one that ends it.
    pub(crate) fn strike(&self, call: &Call, when: When) -> Result<Vec<Fired>, ControlError> {
        self.locked(|door| {
            let rules = door.rules.current()?;
            if !rules.iter().any(|rule| rule.is_about(call, when)) {
                return Ok(Vec::new());
            }
            let mut state = State::read(&self.folder)?;
            let fired = state.strike(rules, call, when, self.loaded.elapsed());
            state.write(&self.folder)?;
            Ok(fired)
        })
    }

    /// Tells that the rule does its work at this call now.
    pub(crate) fn tell(&self, fired: &Fired, call: &Call) -> Result<(), ControlError> {
        self.log.append(&fired.line(Event::Fired, call))
    }

    /// Holds the call until the rule is gone.
    pub(crate) fn hold(&self, fired: &Fired, call: &Call) -> Result<(), ControlError> {
        let since = Instant::now();
        while self.has_rule(&fired.id)? {
            if since.elapsed() > MAX_HANG {
                return Err(ControlError::HungTooLong { id: fired.id.clone(), limit_s: MAX_HANG.as_secs() });
            }
            thread::sleep(LOOK_EVERY);
        }
        self.log.append(&fired.line(Event::Released, call))
    }

    fn has_rule(&self, id: &str) -> Result<bool, ControlError> {
        self.locked(|door| Ok(door.rules.current()?.iter().any(|rule| rule.id == id)))
    }

    /// The token as it is now. Each call asks first, and what gone rules left is forgotten here.
    pub(crate) fn view(&self) -> Result<View, ControlError> {
        self.locked(|door| {
            let token = door.token.current()?.clone();
            let mut state = State::read(&self.folder)?;
            if state.forget_rules_but(door.rules.current()?) {
                state.write(&self.folder)?;
            }
            Ok(View {
                removed: token.removed || state.removed_by.is_some(),
                removals: token.removals.wrapping_add(state.removals),
                pin_tries_left: token.pin_tries.map(|tries| tries.saturating_sub(state.wrong_pins)),
                token,
            })
        })
    }

    /// Uses up one try of the PIN, before the PIN is looked at. False if there is none left.
    pub(crate) fn take_pin_try(&self) -> Result<bool, ControlError> {
        let tries = self.locked(|door| Ok(door.token.current()?.pin_tries))?.unwrap_or(u32::MAX);
        self.change(|state| {
            let left = state.wrong_pins < tries;
            state.wrong_pins += u32::from(left);
            left
        })
    }

    /// The try went to nobody: the token did not look at the PIN.
    pub(crate) fn give_back_pin_try(&self) -> Result<(), ControlError> {
        self.change(|state| state.wrong_pins = state.wrong_pins.saturating_sub(1))
    }

    /// The PIN was right, or is a new one.
    pub(crate) fn reset_pin_tries(&self) -> Result<(), ControlError> {
        self.change(|state| state.wrong_pins = 0)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, ControlError> {
        self.locked(|_| {
            let mut state = State::read(&self.folder)?;
            let value = change(&mut state);
            state.write(&self.folder)?;
            Ok(value)
        })
    }

    /// Alone among the threads and processes that use the folder.
    fn locked<T>(&self, work: impl FnOnce(&mut Door) -> Result<T, ControlError>) -> Result<T, ControlError> {
        let mut door: MutexGuard<'_, Door> = self.door.lock().map_err(|_| ControlError::Poisoned)?;
        let failed = |action| ControlError::file(action, self.folder.join("lock"));
        door.lock.lock().map_err(failed("take the lock"))?;
        let done = work(&mut door);
        door.lock.unlock().map_err(failed("release the lock"))?;
        done
    }
}

impl State {
    /// A rule that comes back under its old id begins anew, and a token is back when the rule that took it is gone.
    /// Returns whether there was such a rule.
    fn forget_rules_but(&mut self, rules: &[Rule]) -> bool {
        let is_there = |id: &String| rules.iter().any(|rule| rule.id == *id);
        let before = (self.rules.len(), self.removed_by.is_some());
        self.rules.retain(|id, _| is_there(id));
        self.removed_by.take_if(|id| !is_there(id));
        before != (self.rules.len(), self.removed_by.is_some())
    }

    fn remove_token(&mut self, by: &str) {
        if self.removed_by.as_deref() != Some(by) {
            self.removals = self.removals.wrapping_add(1);
            self.removed_by = Some(by.to_owned());
        }
    }

    fn strike(&mut self, rules: &[Rule], call: &Call, when: When, loaded_for: Duration) -> Vec<Fired> {
        let mut fired = Vec::new();
        for rule in rules.iter().filter(|rule| rule.is_about(call, when)) {
            let count = self.rules.entry(rule.id.clone()).or_default();
            count.seen += 1;
            if !rule.trigger.strikes(*count, loaded_for) {
                continue;
            }
            count.fired += 1;
            let n = count.fired;
            if rule.action == Action::RemoveToken {
                self.remove_token(&rule.id);
            }
            fired.push(Fired { id: rule.id.clone(), action: rule.action, poison: rule.poison, n });
            if rule.action.ends_the_call() {
                break;
            }
        }
        fired
    }
}

impl Fired {
    fn line<'a>(&'a self, event: Event, call: &'a Call) -> Line<'a> {
        Line { rule: &self.id, event, function: call.function, session: call.session, n: self.n }
    }
}

#[cfg(test)]
mod tests {
    use super::{Call, Control, ControlError, When};
    use std::{fs, path::Path, thread};

    /// As two processes have it.
    fn two(folder: &Path) -> [Control; 2] {
        [(); 2].map(|()| Control::open(folder).unwrap())
    }

    fn set_rules(folder: &Path, text: &str) {
        let new = folder.join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, folder.join("rules.jsonl")).unwrap();
    }

    /// How many rules strike a call of this function.
    fn struck(control: &Control, function: &'static str) -> usize {
        control.strike(&Call::of(function), When::Before).unwrap().len()
    }

    #[test]
    fn processes_count_together_and_a_rule_that_comes_back_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = two(dir.path());
        let rule = r#"{"id":"a","on":"C_Finalize","do":"hang","nth":2}"#;
        set_rules(dir.path(), rule);
        assert_eq!([struck(&one, "C_Finalize"), struck(&other, "C_Finalize")], [0, 1]);
        assert_eq!([struck(&one, "C_GetInfo"), struck(&one, "C_Finalize")], [0, 0]);
        set_rules(dir.path(), "");
        one.view().unwrap();
        set_rules(dir.path(), rule);
        assert_eq!([struck(&one, "C_Finalize"), struck(&other, "C_Finalize")], [0, 1]);
    }

    #[test]
    fn a_rule_behind_one_that_ends_the_call_does_not_count_it() {
        let dir = tempfile::tempdir().unwrap();
        let [control, _] = two(dir.path());
        set_rules(
            dir.path(),
            "{\"id\":\"a\",\"on\":\"*\",\"do\":{\"return\":5},\"nth\":1}\n\
             {\"id\":\"b\",\"on\":\"*\",\"do\":{\"delay_ms\":0},\"nth\":1}\n",
        );
        for id in ["a", "b"] {
            let fired = control.strike(&Call::of("C_GetInfo"), When::Before).unwrap();
            assert_eq!(fired.iter().map(|fired| fired.id.as_str()).collect::<Vec<_>>(), [id]);
        }
    }

    #[test]
    fn a_call_is_held_until_its_rule_is_gone_and_nobody_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let [control, other] = two(dir.path());
        set_rules(dir.path(), r#"{"id":"a","on":"C_GetInfo","do":"hang"}"#);
        let call = Call::of("C_GetInfo");
        let fired = control.strike(&call, When::Before).unwrap();
        thread::scope(|scope| {
            let holding = &control;
            let held = scope.spawn(move || holding.hold(&fired[0], &call));
            assert_eq!([struck(&control, "C_Finalize"), struck(&other, "C_Finalize")], [0, 0]);
            assert!(!held.is_finished());
            set_rules(dir.path(), "");
            held.join().unwrap().unwrap();
        });
        assert!(fs::read_to_string(dir.path().join("faults.jsonl")).unwrap().contains("released"));
    }

    #[test]
    fn a_token_that_a_rule_took_is_back_when_the_rule_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = two(dir.path());
        set_rules(dir.path(), r#"{"id":"a","on":"C_GetInfo","do":"remove_token"}"#);
        assert!(!one.view().unwrap().removed);
        assert_eq!([struck(&one, "C_GetInfo"), struck(&one, "C_GetInfo")], [1, 1]);
        let view = other.view().unwrap();
        assert_eq!((view.removed, view.removals), (true, 1));
        set_rules(dir.path(), "");
        let view = other.view().unwrap();
        assert_eq!((view.removed, view.removals), (false, 1));
    }

    #[test]
    fn pin_tries_are_those_of_all_processes() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("token.json"), r#"{"pin_tries":2}"#).unwrap();
        let [one, other] = two(dir.path());
        assert!(one.take_pin_try().unwrap() && other.take_pin_try().unwrap());
        assert!(!one.take_pin_try().unwrap());
        assert_eq!(one.view().unwrap().pin_tries_left, Some(0));
        other.give_back_pin_try().unwrap();
        assert_eq!(one.view().unwrap().pin_tries_left, Some(1));
        other.reset_pin_tries().unwrap();
        assert_eq!(one.view().unwrap().pin_tries_left, Some(2));
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let [control, _] = two(dir.path());
        assert!(matches!(Control::open(Path::new("control")), Err(ControlError::Relative { .. })));
        fs::write(dir.path().join("state.json"), "{").unwrap();
        assert!(matches!(control.view(), Err(ControlError::Json { .. })));
        assert!(matches!(Control::open(&dir.path().join("none")), Err(ControlError::File { .. })));
    }
}
