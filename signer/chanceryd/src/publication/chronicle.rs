//! What becomes of witnesses, as entries of the log.

use crate::{audit::Log, health::Health};
use record::{Event, Leaf};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// Entries that wait to be written: more than the changes of all witnesses in one round of any sane policy.
const QUEUE: usize = 64;
/// Pause before an entry is tried again that could not be written.
const PAUSE: Duration = Duration::from_secs(5);

/// Where events are handed over; writing them never holds up publishing, which the note over them is waiting for.
#[derive(Debug)]
pub(super) struct Chronicle(mpsc::Sender<Event>);

impl Chronicle {
    /// Starts the task that writes.
    pub(super) fn start(log: Log, health: Arc<Health>) -> Self {
        let (send, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write(queue, log, health));
        Self(send)
    }

    /// Hands an event over; false if there is no room, or nobody writes any more.
    pub(super) fn tell(&self, event: Event) -> bool {
        self.0.try_send(event).is_ok()
    }
}

/// Writes each event, and tries again until it stands or the daemon is sealed.
async fn write(mut queue: mpsc::Receiver<Event>, log: Log, health: Arc<Health>) {
    while let Some(event) = queue.recv().await {
        while let Err(error) = log.append(Leaf::Event(event.clone())).await {
            tracing::warn!(%error, "what became of a witness could not be written into the log");
            if health.sealed().is_some() || log.is_closed() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
