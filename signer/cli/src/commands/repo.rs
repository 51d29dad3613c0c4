//! `chancery repo`: a repository's trust collection, and what clients pin.

use crate::{
    args::RepoCommand,
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use api::{Client, NewRepository, RepositoryInfo};

impl Answer for RepositoryInfo {
    const SCHEMA: &'static str = "chancery.repository/v1";
}

pub(super) async fn run(command: RepoCommand, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let info = match command {
        RepoCommand::Create { repository } => {
            output.progress(&format!("{repository}: making the root key's certificate and the first root"));
            client.create_repository(&NewRepository { repository }).await?
        }
        RepoCommand::Show { repository } => client.repository(&repository).await?,
    };
    output.result(&info, &text(&info))?;
    Ok(Exit::Ok)
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
