//! The touch that a request waits for, as people read it.

use super::{App, CallerProof, Fail, requests::MAX_WAIT_S};
use crate::{service::Service, store::RequestRow};
use api::AwaitedTouch;
use axum::{
    Json,
    extract::{Query, State},
};
use record::{Action, Change, Intent, Leaf, Repository, Time};
use serde::{Deserialize, Deserializer};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What is asked of a repository's touches.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    name: String,
    wait: Option<u64>,
    touch: Option<Known>,
}

/// What a caller who waits knows of touches, from the query: `touch=none`, or the `until` of the last one it was shown.
/// Only such a call ends when another touch is awaited; a caller that does not know of touches waits on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known(Option<Time>);

impl Known {
    /// Whether this touch is news.
    pub(super) fn differs(self, touch: &api::Touch) -> bool {
        self.0 != Some(touch.until)
    }
}

impl<'de> Deserialize<'de> for Known {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        if text == "none" {
            return Ok(Self(None));
        }
        text.parse().map(|time| Self(Some(time))).map_err(serde::de::Error::custom)
    }
}

/// The touch that this request waits for now.
pub(super) async fn awaited(service: &Service, row: &RequestRow) -> Result<Option<api::Touch>, Fail> {
    find(service, &row.repository, Some(row)).await
}

/// `GET /v1/repositories/touch?name=GUN&wait=SECONDS&touch=KNOWN`: the touch that the repository's own files wait for, as
/// soon as there is one that the caller does not know of.
pub(super) async fn of_repository(
    State(service): State<App>,
    _caller: CallerProof,
    Query(asked): Query<Asked>,
) -> Result<Json<AwaitedTouch>, Fail> {
    let repository = Repository::parse(&asked.name).map_err(|e| Fail::bad(&e.to_string()))?;
    let until = Instant::now() + Duration::from_secs(asked.wait.unwrap_or(0).min(MAX_WAIT_S));
    let mut touches = service.touches.watch();
    loop {
        touches.borrow_and_update();
        let touch = find(&service, &repository, None).await?;
        let news = touch.as_ref().is_some_and(|touch| asked.touch.is_none_or(|known| known.differs(touch)));
        if news || timeout_at(until, touches.changed()).await.is_err() {
            return Ok(Json(AwaitedTouch { touch }));
        }
    }
}

/// The touch that a repository's files wait for now, and that this request waits for if it is about one.
async fn find(
    service: &Service,
    repository: &Repository,
    row: Option<&RequestRow>,
) -> Result<Option<api::Touch>, Fail> {
    for (keeper, touch) in service.touches.awaited() {
        let leaf = service.store.leaf(touch.index).await?;
        let Some(Ok(Leaf::Intent(intent))) = leaf.as_deref().map(Leaf::decode) else { continue };
        if intent.keeper != keeper || touch.deadline < service.clock.now() {
            continue;
        }
        if let Some(what) = what(&intent, touch.index, repository, row) {
            let device = format!("YubiKey {}", touch.serial);
            return Ok(Some(api::Touch { device, slot: touch.slot, until: touch.deadline, what }));
        }
    }
    Ok(None)
}

/// What the touch is for, if it is for a file that the whole repository needs, or for this request's own change.
fn what(intent: &Intent, index: u64, repository: &Repository, row: Option<&RequestRow>) -> Option<String> {
    if intent.repository != *repository {
        return None;
    }
    match &intent.action {
        Action::RootCertificate { .. } => Some(format!("certify the root key of {repository}")),
        Action::Root { version, .. } => Some(format!("root {version} of {repository}")),
        Action::Targets { changes, .. } => {
            row.filter(|row| row.intent == Some(index)).map(|row| release(intent, changes, row))
        }
        Action::Snapshot { version, .. } => Some(format!("snapshot {version} of {repository}")),
        Action::Timestamp { version, .. } => Some(format!("timestamp {version} of {repository}")),
    }
}

fn release(intent: &Intent, changes: &[Change], row: &RequestRow) -> String {
    let others = changes.iter().filter(|change| change.tag != row.tag).count();
    let more = if others == 0 { String::new() } else { format!(" and {others} more") };
    format!("release {}:{} {}{more}", intent.repository, row.tag, row.digest)
}
