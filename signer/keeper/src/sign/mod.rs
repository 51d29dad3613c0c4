//! The signing role: a validating signer.
//!
//! It signs only what stands in a checkpoint that the log's key has signed, only bytes that it built itself from the
//! logged intent, each intent at most once, and only inside its charter; and it has written that down before the key is
//! asked. The way of one frame: `batch` decides (with `validate`, `settle`, `chain`, over `state`), `journal` writes,
//! the answer goes out, `queue` asks the token, `results` keeps the word until the log has it.
//! Where a key has a rule, it also counts who has approved (`people`), by a roster that it holds itself (`roster`).
//! It does not know: policy, networks, or why something is to be signed.

mod another_log;
mod batch;
mod chain;
pub(crate) mod charter;
mod journal;
mod keeper;
mod look;
mod people;
mod queue;
mod refusal;
mod results;
mod roster;
mod settle;
#[cfg(test)]
mod software;
mod state;
mod validate;
#[cfg(test)]
#[path = "../../tests/support/world.rs"]
mod world;

pub use another_log::follow_log;
pub use roster::roster;

use crate::config::SignConfig;
use crate::exit::Fatal;
use crate::server::{Server, Stop};
use crate::token::{self, Key, PublicKey, Token};
use charter::{Charter, CharterKey};
use journal::{Journal, Owner};
use keeper::Keeper;
use queue::News;
use record::{Clock, KeyId, KeyRecord, SystemClock};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Creates the state of a signing keeper that has seen nothing. Refuses when there is one.
pub fn init(config: &SignConfig) -> Result<(), Fatal> {
    let charter = Charter::read(&config.charter, &config.name)?;
    let journal = Journal::create(&config.state, owner(&charter), SystemClock.now())?;
    tracing::info!(journal = %journal.path().display(), "created");
    Ok(())
}

/// Serves until the process is asked to end.
pub fn serve(config: SignConfig) -> Result<(), Fatal> {
    let stop = Stop::on_signal()?;
    let charter = Charter::read(&config.charter, &config.name)?;
    let (journal, state) = Journal::open(&config.state, owner(&charter))?;
    roster::fits(&charter, &state, &config.charter)?;
    // The end of the process waits for it: a module that is cut off in its login may leave the token broken, as SoftHSM does.
    let opening = stop.begin();
    let token = token::open(&config.token)?;
    let keys = keys_in(token.as_ref(), &charter, &config.charter)?;
    drop(opening);
    let records = describe(&charter, &keys);
    let server = Server::bind(&config.listen)?;
    tracing::info!(keeper = %config.name, origin = %charter.origin, seen = state.seen.size, open = state.open.len(), "signing keeper");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (queue, jobs) = queue::queue();
    let keeper =
        Arc::new(Keeper::new(charter, records, journal, state, Arc::clone(&clock), queue, stop.clone()));
    let ends = Arc::clone(&keeper);
    let tell = move |index, news| match news {
        News::Touch(wait) => ends.touch(index, wait),
        News::Ended(result) => ends.end(index, result),
    };
    look::start(Arc::clone(&token), &keys, Arc::clone(&keeper), stop.clone())?;
    let workers = queue::Workers { token, keys, clock, stop: stop.clone(), tell };
    workers.start(jobs)?;
    server.serve(&stop, move |connection| keeper.converse(connection))
}

/// The charter's keys that may sign, found in the token; a key that is missing or not the pinned one ends the start.
fn keys_in(token: &dyn Token, charter: &Charter, file: &Path) -> Result<BTreeMap<KeyId, Key>, Fatal> {
    let wrong = |key: &CharterKey, found: &Key| {
        let (asked, is) = (key.touch.as_str(), found.touch().as_str());
        let why = format!(
            "the key with {} {}: touch is {asked:?}, and the token's policy is {is:?}",
            key.at.member(),
            key.at
        );
        Fatal::Config { file: file.to_owned(), why }
    };
    let find = |(id, key): (&KeyId, &CharterKey)| {
        let found = token.key(&key.at, &PublicKey::P256(key.spki.clone()))?;
        if found.touch() == key.touch { Ok((*id, found)) } else { Err(wrong(key, &found)) }
    };
    charter.keys().map(find).collect()
}

/// The keys as `Welcome` shows them, with the attributes that the token gave.
fn describe(charter: &Charter, keys: &BTreeMap<KeyId, Key>) -> Vec<KeyRecord> {
    let record = |(id, key): (&KeyId, &CharterKey)| KeyRecord {
        spki: key.spki.clone(),
        purpose: key.purpose,
        repositories: key.repositories.clone(),
        evidence: keys.get(id).map(|k| k.evidence().to_vec()).unwrap_or_default(),
    };
    charter.keys().map(record).collect()
}

/// Lets a keeper work again that was shown a fork of its log. For an operator who knows which log is the true one, and
/// who has stopped the keeper; what it has seen stays as it is.
pub fn clear_fork(config: &SignConfig) -> Result<(), Fatal> {
    let charter = Charter::read(&config.charter, &config.name)?;
    let (mut journal, state) = Journal::open(&config.state, owner(&charter))?;
    if !state.forked {
        tracing::info!(journal = %journal.path().display(), "no fork is noted: nothing was done");
        return Ok(());
    }
    journal.clear_fork(SystemClock.now())?;
    tracing::warn!(seen = state.seen.size, root = %state.seen.root, "the fork is cleared");
    Ok(())
}

fn owner(charter: &Charter) -> Owner {
    Owner { keeper: charter.keeper.clone(), origin: charter.origin.clone() }
}
