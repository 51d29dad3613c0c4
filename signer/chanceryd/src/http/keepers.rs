//! The keepers and their keys, as they are now: what an operator looks at when signatures do not come.
//!
//! Promises: every fault of a keeper comes with its remedy. Nothing here changes a keeper, a token or a key: that is done
//! on the keeper's own host only.

use super::{App, CallerProof, Fail};
use crate::{
    health::{Health, Standing, Trouble},
    scrub::{Read, Rounds},
};
use api::{
    KeeperFault, KeeperInfo, KeeperState, KeeperTrouble, Keepers, KeyInfo, Keys, PastTrouble, Scope, Scrub,
    ScrubProgress, ScrubRound,
};
use axum::{Json, extract::State};
use record::{KeeperName, KeyRecord};

/// `GET /v1/keys`.
pub(super) async fn keys(State(service): State<App>, _caller: CallerProof) -> Json<Keys> {
    let entries = service.keys.entries();
    let info = |(keeper, record): (KeeperName, KeyRecord)| {
        let problem = service.health.key_problem(&keeper, &record.spki.id());
        KeyInfo {
            id: record.spki.id(),
            available: problem.is_none(),
            problem,
            entry: entries.get(&keeper).map_or(0, |(entry, _)| *entry),
            keeper,
            record,
        }
    };
    Json(Keys { keys: service.keys.all().into_iter().map(info).collect() })
}

/// `GET /v1/keepers`.
pub(super) async fn list(State(service): State<App>, caller: CallerProof) -> Result<Json<Keepers>, Fail> {
    caller.demand_one_of(&[Scope::Audit, Scope::Admin])?;
    let entries = service.keys.entries();
    let mut keepers = Vec::new();
    for (name, standing) in service.health.keepers() {
        let presented = entries.get(&name);
        keepers.push(KeeperInfo {
            open_intents: service.store.open_intents(name.as_str()).await?.len() as u64,
            keys: presented.map_or(0, |(_, keys)| *keys as u64),
            entry: presented.map(|(entry, _)| *entry),
            seen: standing.seen,
            state: state(standing),
            name,
        });
    }
    Ok(Json(Keepers {
        log_size: service.log.noted_size(),
        sealed: service.health.sealed(),
        log: state(service.health.log()),
        keepers,
        scrub: scrub(&service.health),
        alarms: service.health.alarms(),
    }))
}

fn scrub(health: &Health) -> Scrub {
    let Rounds { running, last } = health.scrub();
    Scrub {
        running: running.map(|(read, of)| ScrubProgress { leaves: read.leaves, of }),
        last: last.map(|(read, time)| {
            let Read { leaves, nodes, blobs, bytes } = read;
            ScrubRound { time, leaves, nodes, blobs, bytes }
        }),
    }
}

fn state(standing: Standing) -> KeeperState {
    let trouble = |trouble: Trouble| KeeperTrouble {
        code: trouble.fault,
        says: trouble.why,
        remedy: remedy(trouble.fault).to_owned(),
    };
    KeeperState {
        reachable: standing.trouble.is_none(),
        since: standing.since,
        trouble: standing.worst().map(trouble),
        last: standing.last.map(|(time, trouble)| PastTrouble { time, says: trouble.why }),
    }
}

/// What an operator does about it, on the keeper's host.
fn remedy(fault: KeeperFault) -> &'static str {
    match fault {
        KeeperFault::NotConnected => {
            "wait a moment; if it stays so, look at the keeper: chancery-keeper doctor --config FILE on its host"
        }
        KeeperFault::Unreachable => {
            "on the keeper's host: its own log says why it ended, and chancery-keeper doctor --config FILE what is missing"
        }
        KeeperFault::Fork => {
            "find out which log is the true one before anything else: compare checkpoints that others have seen, keep both \
             databases; then restore the true one, and only then chancery-keeper admin clear-fork on the keeper's host"
        }
        KeeperFault::OlderJournal => {
            "restore the newest copy of the keeper's state folder; if there is none, it must never sign again, since it could \
             sign twice: take it out of chanceryd.toml, stop the daemon, and run chancery keeper retire --config FILE NAME"
        }
        KeeperFault::Mismatch => {
            "the socket in chanceryd.toml leads to another keeper or another log's: correct [[keeper]] name and socket"
        }
        KeeperFault::NotConfigured => {
            "put it back into chanceryd.toml and restart the daemon until its intents have ended; if the keeper is lost for \
             ever, stop the daemon and run chancery keeper retire --config FILE NAME"
        }
        KeeperFault::Token => {
            "look at the hardware: is it connected, and is it the right one? chancery-keeper doctor --config FILE on the \
             keeper's host says what is missing; a token that is back is used again within seconds"
        }
        KeeperFault::Unusable => {
            "read the keeper's log and the daemon's; chancery-keeper doctor --config FILE on its host"
        }
    }
}
