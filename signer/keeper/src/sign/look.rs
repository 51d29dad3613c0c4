//! A glance at the token every few seconds, so that those who ask how a keeper is need not ask for a signature first.
//!
//! It changes nothing for intents: they are accepted and fail as they would without it.

use super::keeper::Keeper;
use crate::exit::Fatal;
use crate::server::Stop;
use crate::token::{Key, KeyRef, Problem, Token};
use record::KeyId;
use record::wire::TokenProblem;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Time from one glance to the next: short for a person at the host, long for a token that others use too.
const EVERY: Duration = Duration::from_secs(2);

/// Looks until the process ends.
pub(super) fn start(
    token: Arc<dyn Token>,
    keys: &BTreeMap<KeyId, Key>,
    keeper: Arc<Keeper>,
    stop: Stop,
) -> Result<(), Fatal> {
    let names: BTreeMap<KeyRef, KeyId> = keys.iter().map(|(id, key)| (key.id().clone(), *id)).collect();
    let run = move || {
        while stop.pause(EVERY) {
            // The end of the process waits for it, so that no library is cut off in a call.
            let _work = stop.begin();
            if let Some(problems) = token.look() {
                keeper.looked(problems.into_iter().map(|problem| told(problem, &names)).collect());
            }
        }
    };
    let spawned = std::thread::Builder::new().name("look".into()).spawn(run);
    spawned
        .map(drop)
        .map_err(|source| Fatal::Process { what: "the look at the token cannot be started", source })
}

fn told(problem: Problem, names: &BTreeMap<KeyRef, KeyId>) -> TokenProblem {
    let key = problem.key.and_then(|at| names.get(&at).copied());
    let (code, detail) = problem.error.into_parts();
    TokenProblem { key, code, detail }
}
