//! `chancery repo`: a repository's trust collection, and what clients pin.

use super::request::touch_line;
use crate::{
    args::RepoCommand,
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use api::{AwaitedTouch, Client, ClientError, LONG_POLL_MAX_S, NewRepository, RepositoryInfo, Touch};
use record::{Clock, Repository, SystemClock, Time};
use std::time::Duration;
use tokio::time::sleep;

/// Pause after a server did not say which touch it waits for.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Answer for RepositoryInfo {
    const SCHEMA: &'static str = "chancery.repository/v1";
}

pub(super) async fn run(command: RepoCommand, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let info = match command {
        RepoCommand::Create { repository } => {
            output.progress(&format!("{repository}: making the root key's certificate and the first root"));
            create(repository, client, output).await?
        }
        RepoCommand::Show { repository } => client.repository(&repository).await?,
    };
    output.result(&info, &text(&info))?;
    Ok(Exit::Ok)
}

/// Makes a collection, and says meanwhile which touches it waits for.
async fn create(
    repository: Repository,
    client: &Client,
    output: &mut Output,
) -> Result<RepositoryInfo, ClientError> {
    let new = NewRepository { repository: repository.clone() };
    let made = client.create_repository(&new);
    tokio::pin!(made);
    let mut known = None;
    loop {
        tokio::select! {
            made = &mut made => return made,
            touch = next_touch(&repository, client, known) => {
                output.note(&touch_line(&touch, SystemClock.now()));
                known = Some(touch.until);
            }
        }
    }
}

/// The next touch, whenever that is. A server that does not say now is asked again: what it was asked for, it says itself.
async fn next_touch(repository: &Repository, client: &Client, known: Option<Time>) -> Touch {
    loop {
        match client.awaited_touch(repository, LONG_POLL_MAX_S, known).await {
            Ok(AwaitedTouch { touch: Some(touch) }) if Some(touch.until) != known => return touch,
            Ok(_) => {}
            Err(_) => sleep(ASK_AGAIN).await,
        }
    }
}

fn text(info: &RepositoryInfo) -> String {
    let v = info.versions;
    let mut text = format!(
        "repository  {}\nroot        sha256:{}\npin         {}  (key id of the root certificate, for trust_pinning)\n\
         versions    root {}, targets {}, snapshot {}, timestamp {}",
        info.repository,
        info.root_sha256,
        info.root_certificate_id,
        v.root,
        v.targets,
        v.snapshot,
        v.timestamp
    );
    if let Some(expires) = info.timestamp_expires {
        text.push_str(&format!("\nfresh until {expires}"));
    }
    text
}
