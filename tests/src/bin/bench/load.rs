//! Requests from clients that each ask again as soon as they have their answer.

use anyhow::Result;
use api::{Client, IdempotencyKey, NewRequest, Secret, Trust};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tests::Instance;

/// Repositories that the requests are spread over.
pub(crate) const REPOSITORIES: usize = 20;

/// What a number of requests took.
pub(crate) struct Load {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Each request's time until clients could see its tag, shortest first.
    waits: Vec<Duration>,
}

impl Load {
    /// The wait that this share of the requests did not exceed, in milliseconds.
    pub(crate) fn wait_ms(&self, share: f64) -> f64 {
        self.waits[((self.waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0
    }
}

/// Pushes one image to every repository, and signs its first tag in each: collections are made before anything is
/// measured.
pub(crate) fn prepare(service: &Instance) -> Result<record::Digest> {
    let digest = service.registry.push("demo/app0", "x", "bench");
    for r in 1..REPOSITORIES {
        anyhow::ensure!(
            service.registry.push(&format!("demo/app{r}"), "x", "bench") == digest,
            "equal images, equal digests"
        );
    }
    for r in 0..REPOSITORIES {
        let made = service.sign(&format!("demo/app{r}"), &digest, "first");
        anyhow::ensure!(made.code == 0, "{made:?}");
    }
    Ok(digest)
}

/// So many requests by so many clients.
pub(crate) fn load(
    service: &Instance,
    digest: &record::Digest,
    clients: usize,
    total: usize,
) -> Result<Load> {
    let start = Instant::now();
    let mut waits = ask(service, digest, clients, total)?;
    let rate = total as f64 / start.elapsed().as_secs_f64();
    waits.sort_unstable();
    Ok(Load { rate, waits })
}

/// Makes the requests; how long each took until clients could see its tag.
fn ask(service: &Instance, digest: &record::Digest, clients: usize, total: usize) -> Result<Vec<Duration>> {
    let env = service.env();
    let client = Client::new(
        &env["CHANCERY_URL"],
        &Trust::CaFile(env["CHANCERY_CACERT"].clone().into()),
        Some(Secret::new(&env["CHANCERY_TOKEN"])?),
    )?;
    let next = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let one = |_| {
            let (client, next) = (client.clone(), next.clone());
            let names: Vec<String> =
                (0..REPOSITORIES).map(|r| service.repository(&format!("demo/app{r}"))).collect();
            let digest = *digest;
            tokio::spawn(async move {
                let mut waits = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= total {
                        return anyhow::Ok(waits);
                    }
                    let image = format!("{}@{digest}", names[n % REPOSITORIES]).parse()?;
                    let tag = format!("c{clients}-{n}").parse()?;
                    let start = Instant::now();
                    let mut request =
                        client.sign(&NewRequest { image, tag }, &IdempotencyKey::random()?).await?;
                    while !request.state.is_final() {
                        request = client.request(&request.id, 30).await?;
                    }
                    anyhow::ensure!(request.state == api::RequestState::Published, "{request:?}");
                    waits.push(start.elapsed());
                }
            })
        };
        let tasks: Vec<_> = (0..clients).map(one).collect();
        let mut waits = Vec::new();
        for task in tasks {
            waits.extend(task.await??);
        }
        Ok(waits)
    })
}

/// Leaves in the log; while only requests are made, each signature is an intent and a completion.
pub(crate) fn log_size(service: &Instance) -> Result<u64> {
    let env = service.env();
    let client =
        Client::new(&env["CHANCERY_URL"], &Trust::CaFile(env["CHANCERY_CACERT"].clone().into()), None)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(client.readyz())?.readiness.log_size)
}
