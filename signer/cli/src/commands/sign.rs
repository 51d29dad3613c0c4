//! `chancery sign`: asks for a signature and waits until clients see it.

use super::request::{Retry, end, show, wait};
use crate::{args::SignArgs, exit::Exit, failure::Failure, output::Output};
use api::{Client, IdempotencyKey, NewRequest, Request, Secret};
use std::time::Duration;
use tokio::time::Instant;

/// The wait when the command line names none: a CI step wants the signature, not a promise of one.
const WAIT: Duration = Duration::from_secs(600);
/// How long a server that is away is asked again before the request has arrived: long enough for its restart, short
/// enough to notice a wrong address.
pub(super) const SUBMIT: Duration = Duration::from_secs(30);

pub(super) async fn run(args: SignArgs, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let key = match args.idempotency_key {
        Some(key) => key,
        None => IdempotencyKey::random()?,
    };
    let new = NewRequest { image: args.image, tag: args.tag };
    let now = Instant::now();
    let span = if args.no_wait { Duration::ZERO } else { args.wait.map_or(WAIT, |w| w.0) };
    let mut request = submit(&new, &key, client, now + span.min(SUBMIT), output).await?;
    // A session ends before some requests do. The bearer is no result: what is printed ends up in the logs of CI jobs.
    let client = match request.poll.take() {
        Some(poll) => &client.with_token(Secret::new(&poll)?),
        None => client,
    };
    if args.no_wait && !request.state.is_final() {
        show(&request, output)?;
        return Ok(Exit::Ok);
    }
    end(&wait(request, client, now + span, output).await?, output)
}

/// Sends the request until it has arrived; the key makes one request of all tries.
async fn submit(
    new: &NewRequest,
    key: &IdempotencyKey,
    client: &Client,
    deadline: Instant,
    output: &mut Output,
) -> Result<Request, Failure> {
    let mut retry = Retry::new();
    loop {
        match client.sign(new, key).await {
            Ok(request) => return Ok(request),
            Err(error) if error.is_temporary() => {
                retry.pause(error, deadline, output).await.map_err(|f| {
                    f.next(format!(
                        "try again with --idempotency-key {}; chancery doctor tells more",
                        key.as_str()
                    ))
                })?
            }
            Err(error) => return Err(error.into()),
        }
    }
}
