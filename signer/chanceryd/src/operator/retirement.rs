//! A signing keeper that never comes back. What it leaves open is closed by the operator, since nobody else can say how it
//! ended.

use super::{Unserved, new_leaf};
use crate::{
    config::Config,
    fatal::Fatal,
    opening::unreadable,
    store::{NewLeaf, Store},
};
use record::{Clock, FailureCode, KeeperName, Leaf, Outcome, OutcomeKind, SystemClock};

/// The code of an outcome that is the operator's word and not the keeper's.
const RETIRED: &str = "keeper-retired";

/// Closes every open intent of a signing keeper as `unknown`: its journal is lost, and a signature may exist. The daemon is
/// stopped, the log keeper runs, and the configuration has the keeper no more: one that can still answer says itself how
/// its intents ended. May be run again.
// INVARIANT(keepers-word): only where no keeper of that name can speak any more, as an operator says.
pub async fn retire_keeper(config: &Config, keeper: &KeeperName) -> Result<(), Fatal> {
    let refused = |why: String, next: &str| Fatal::State {
        path: format!("keeper {keeper}").into(),
        why,
        next: next.into(),
    };
    if config.keepers.iter().any(|configured| configured.name == *keeper) {
        return Err(refused(
            "the configuration still has it".into(),
            "if its state folder or a newest copy of it is left, start the keeper: it knows how its intents ended. If it is lost \
             for ever, take its [[keeper]] out of the configuration (a replacement gets another name), and try again",
        ));
    }
    let path = Store::path_in(&config.data);
    let mut log = Unserved::open(config).await?;
    let store = &log.opened.store;
    let known = store.keepers().await.map_err(|e| unreadable(&path, &e))?;
    if !known.iter().any(|(record, _)| record.name == *keeper) {
        let names: Vec<_> = known.iter().map(|(record, _)| record.name.as_str()).collect();
        let why = format!("the log knows no keeper of this name, but {}", names.join(", "));
        return Err(refused(why, "name a keeper as `chancery log show` has it in its keeper entries"));
    }
    let open = store.open_intents(keeper.as_str()).await.map_err(|e| unreadable(&path, &e))?;
    let code =
        FailureCode::parse(RETIRED).map_err(|e| refused(e.to_string(), "this is a fault of this program"))?;
    let end = |intent: &u64| {
        new_leaf(
            Leaf::Outcome(Outcome {
                intent: *intent,
                outcome: OutcomeKind::Unknown,
                time: SystemClock.now(),
                keeper: keeper.clone(),
                code: Some(code.clone()),
            }),
            &path,
        )
    };
    let ends: Vec<NewLeaf> = open.iter().map(end).collect::<Result<_, _>>()?;
    let leaves = log.append(&ends).await?;
    for intent in &open {
        tracing::info!(intent, "closed as unknown: a signature over its bytes may exist");
    }
    tracing::info!(
        %keeper,
        closed = open.len(),
        leaves,
        "the keeper is retired; start the daemon, and never let a keeper of this name sign again"
    );
    log.close().await
}
