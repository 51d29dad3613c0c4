//! The touch that a request waits for, as people read it.

use super::Fail;
use crate::{service::Service, store::RequestRow};
use record::{Action, Change, Intent, Leaf, Time};
use serde::{Deserialize, Deserializer};

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
    for (keeper, touch) in service.touches.awaited() {
        let leaf = service.store.leaf(touch.index).await?;
        let Some(Ok(Leaf::Intent(intent))) = leaf.as_deref().map(Leaf::decode) else { continue };
        if intent.keeper != keeper || touch.deadline < service.clock.now() {
            continue;
        }
        if let Some(what) = what(&intent, touch.index, row) {
            let device = format!("YubiKey {}", touch.serial);
            return Ok(Some(api::Touch { device, slot: touch.slot, until: touch.deadline, what }));
        }
    }
    Ok(None)
}

/// What the touch is for, if this request waits for it: for its own change, or for a file that its whole repository needs.
fn what(intent: &Intent, index: u64, row: &RequestRow) -> Option<String> {
    if intent.repository != row.repository {
        return None;
    }
    let repository = &intent.repository;
    match &intent.action {
        Action::RootCertificate { .. } => Some(format!("certify the root key of {repository}")),
        Action::Root { version, .. } => Some(format!("root {version} of {repository}")),
        Action::Targets { changes, .. } if row.intent == Some(index) => Some(release(intent, changes, row)),
        Action::Targets { .. } => None,
        Action::Snapshot { version, .. } => Some(format!("snapshot {version} of {repository}")),
        Action::Timestamp { version, .. } => Some(format!("timestamp {version} of {repository}")),
    }
}

fn release(intent: &Intent, changes: &[Change], row: &RequestRow) -> String {
    let others = changes.iter().filter(|change| change.tag != row.tag).count();
    let more = if others == 0 { String::new() } else { format!(" and {others} more") };
    format!("release {}:{} {}{more}", intent.repository, row.tag, row.digest)
}
