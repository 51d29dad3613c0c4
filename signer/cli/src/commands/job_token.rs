//! The token that proves which CI job this is, for who has no API token.

use super::{request::Retry, sign::SUBMIT};
use crate::{args::SignArgs, connect::Connection, exit::Exit, failure::Failure, output::Output};
use api::{Client, Secret, Session, chain_text};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tokio::time::Instant;

/// The longest token that servers take.
const MAX_BYTES: u64 = 16 * 1024;

/// Where it comes from.
enum JobToken {
    /// A file, as Kubernetes and others write it.
    File(PathBuf),
    /// `CHANCERY_OIDC_TOKEN`, as GitLab and others set a variable.
    Variable(String),
    /// The runner of a job of GitHub Actions, which makes one for each audience that it is asked for.
    Actions { url: String, token: String },
}

/// A client for who signs: with the API token that was given, or with a session for the CI job's token.
///
/// Options go before variables, and a job's token that was given before an API token. GitHub's runner is asked only where
/// nothing else was given.
pub(super) async fn client(
    args: &SignArgs,
    connection: &Connection,
    output: &mut Output,
) -> Result<Client, Failure> {
    let Some(job) = find(args, connection)? else { return connection.client() };
    let client = connection.anonymous()?;
    let audience = args.oidc_audience.as_deref().unwrap_or(client.base());
    let session = exchange(&job, audience, &client, output).await?;
    Ok(client.with_token(Secret::new(&session.bearer)?))
}

fn find(args: &SignArgs, connection: &Connection) -> Result<Option<JobToken>, Failure> {
    if let Some(path) = &args.oidc_token_file {
        if connection.has_token_file() {
            let both = Failure::new(Exit::Usage, "both --token-file and --oidc-token-file are given");
            return Err(both.next("give the one that this job has"));
        }
        return Ok(Some(JobToken::File(path.clone())));
    }
    if connection.has_token_file() {
        return Ok(None);
    }
    if let Some(token) = variable("CHANCERY_OIDC_TOKEN") {
        return Ok(Some(JobToken::Variable(token)));
    }
    if connection.has_token() {
        return Ok(None);
    }
    let actions = variable("ACTIONS_ID_TOKEN_REQUEST_URL").zip(variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN"));
    Ok(actions.map(|(url, token)| JobToken::Actions { url, token }))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.trim().is_empty())
}

/// Exchanges the token. A server that is away for a moment is asked again; if it had taken the token already, it says so.
async fn exchange(
    job: &JobToken,
    audience: &str,
    client: &Client,
    output: &mut Output,
) -> Result<Session, Failure> {
    let (mut retry, deadline) = (Retry::new(), Instant::now() + SUBMIT);
    loop {
        match client.exchange(&job.token(audience).await?).await {
            Ok(session) => return Ok(session),
            Err(error) if error.is_temporary() => retry.pause(error, deadline, output).await?,
            Err(error) => {
                let failure = Failure::from(error);
                return Err(if failure.exit == Exit::Auth { failure.next(AUTH_NEXT) } else { failure });
            }
        }
    }
}

const AUTH_NEXT: &str =
    "compare [[issuer]] of the server's configuration with what this job's provider puts into its tokens";

impl JobToken {
    async fn token(&self, audience: &str) -> Result<String, Failure> {
        match self {
            Self::File(path) => read(path),
            Self::Variable(text) => Ok(text.trim().to_owned()),
            Self::Actions { url, token } => {
                api::actions_id_token(url, token, audience).await.map_err(|error| {
                    Failure::new(Exit::Auth, "the runner of GitHub Actions gave no token for this job")
                        .why(chain_text(&error))
                        .next("give the job `permissions: id-token: write`, or set CHANCERY_TOKEN")
                })
            }
        }
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let bad = |why: String| {
        Failure::new(Exit::Auth, format!("cannot read the job's token in {}", path.display()))
            .why(why)
            .next("give a file that holds one OIDC token and nothing else")
    };
    let length = fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
    if length > MAX_BYTES {
        return Err(bad(format!("it has {length} bytes, more than any token")));
    }
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|e| bad(e.to_string()))
}
