//! Clients that have images signed all the time, ask again while the service is away, and remember what they were told.

use super::oracle::Acknowledged;
use api::{Client, ClientError, IdempotencyKey, NewRequest, Request, RequestState};
use record::{ImageRef, RequestId, Tag};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Pause before a client asks again.
const AGAIN: Duration = Duration::from_millis(20);
/// Pause of a client that may not ask.
const IDLE: Duration = Duration::from_millis(2);
/// Longest long poll, in seconds.
const POLL_S: u64 = 30;
/// The exit code of a request that has ended without its signature.
const ENDED: u8 = 8;
/// As many requests as a client wants to make.
pub(crate) const ENDLESS: u64 = u64::MAX / 2;

/// Clients on a thread of their own. Dropping them ends them.
pub(crate) struct Clients {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Requests that may still be begun.
    tickets: AtomicU64,
    /// Clients with a request under way.
    busy: AtomicU64,
    /// Requests that were begun: each asks for a tag of its own.
    begun: AtomicU64,
    done: AtomicBool,
    told: Mutex<Told>,
}

/// What clients were told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// Signed and published.
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// Requests that ended without a signature.
    pub(crate) failed: u64,
    /// Answers that no client should get.
    pub(crate) faults: Vec<String>,
}

impl Clients {
    /// One client for each image; none asks before [`Self::open`].
    pub(crate) fn start(client: &Client, images: Vec<ImageRef>) -> Self {
        let shared = Arc::new(Shared::default());
        let (ours, client) = (shared.clone(), client.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let asking: Vec<_> = images
                    .into_iter()
                    .map(|image| tokio::spawn(ask_on(client.clone(), image, ours.clone())))
                    .collect();
                for client in asking {
                    client.await.unwrap();
                }
            });
        });
        Self { shared, thread: Some(thread) }
    }

    /// Lets them begin so many requests.
    pub(crate) fn open(&self, requests: u64) {
        self.shared.tickets.store(requests, Ordering::SeqCst);
    }

    /// They begin no more requests.
    pub(crate) fn close(&self) {
        self.open(0);
    }

    /// Whether none has a request under way and none may begin one.
    pub(crate) fn are_idle(&self) -> bool {
        self.shared.tickets.load(Ordering::SeqCst) == 0 && self.shared.busy.load(Ordering::SeqCst) == 0
    }

    /// Requests that were begun.
    pub(crate) fn begun(&self) -> u64 {
        self.shared.begun.load(Ordering::SeqCst)
    }

    /// What they were told so far.
    pub(crate) fn told(&self) -> Told {
        self.shared.told().clone()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("a client panicked");
        }
    }
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for one request, if one may be begun; the client is busy from here on.
    fn take_ticket(&self) -> Option<u64> {
        // Busy first: who sees no ticket left and nobody busy may rely on it.
        self.busy.fetch_add(1, Ordering::SeqCst);
        let taken = self.tickets.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if taken.is_err() {
            self.busy.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        Some(self.begun.fetch_add(1, Ordering::SeqCst))
    }
}

async fn ask_on(client: Client, image: ImageRef, shared: Arc<Shared>) {
    while !shared.done.load(Ordering::SeqCst) {
        let Some(number) = shared.take_ticket() else {
            tokio::time::sleep(IDLE).await;
            continue;
        };
        let tag: Tag = format!("t{number}").parse().unwrap();
        let new = NewRequest { image: image.clone(), tag: tag.clone() };
        match one(&client, &new, &shared.done).await {
            Ok(End::Published { intent, completion }) => {
                shared.told().acknowledged.push(Acknowledged { tag, intent, completion });
            }
            Ok(End::Without) => shared.told().failed += 1,
            Ok(End::Left) => {}
            Err(fault) => shared.told().faults.push(format!("the client of {tag} was told: {fault}")),
        }
        shared.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How a request ended for its client.
enum End {
    /// With a signature that clients see.
    Published { intent: u64, completion: u64 },
    /// Without one.
    Without,
    /// The run was done before.
    Left,
}

/// A request from its first asking to its end; an error is an answer that no client should get.
async fn one(client: &Client, new: &NewRequest, done: &AtomicBool) -> Result<End, String> {
    let key = IdempotencyKey::random().unwrap();
    let mut known: Option<RequestId> = None;
    while !done.load(Ordering::SeqCst) {
        let told = match &known {
            None => client.sign(new, &key).await,
            Some(id) => client.request(id, POLL_S).await,
        };
        match told {
            Ok(request) if request.state == RequestState::Published => return published(&request),
            Ok(request) if request.state.is_final() => return Ok(End::Without),
            Ok(request) => known = Some(request.id),
            Err(error) if error.is_temporary() => tokio::time::sleep(AGAIN).await,
            // It ended before its first answer.
            Err(error @ ClientError::Problem(_)) if error.exit_code() == ENDED => return Ok(End::Without),
            Err(error) => {
                let before = if known.is_some() { " of a request that was accepted" } else { "" };
                return Err(format!("{}{before}", api::chain_text(&error)));
            }
        }
    }
    Ok(End::Left)
}

fn published(request: &Request) -> Result<End, String> {
    let places = request.log.intent.zip(request.log.completion);
    let (intent, completion) = places.ok_or("it is published, and nothing of it is in the log")?;
    Ok(End::Published { intent, completion })
}
