//! `chancery token`: API tokens. A new token's secret is the result of `create`, and is seen nowhere else.

use crate::{
    args::{TokenCommand, TokenCreateArgs},
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use api::{Client, CreatedToken, NewToken, Scope, TokenInfo, Tokens};
use record::{Clock, SystemClock, TokenId};
use serde::Serialize;
use std::{fs::File, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

#[derive(Serialize)]
pub(super) struct Revoked<'a> {
    pub(super) id: &'a TokenId,
    pub(super) revoked: bool,
}

impl Answer for CreatedToken {
    const SCHEMA: &'static str = "chancery.token/v1";
}

impl Answer for TokenInfo {
    const SCHEMA: &'static str = "chancery.token-info/v1";
}

impl Answer for Tokens {
    const SCHEMA: &'static str = "chancery.tokens/v1";
}

impl Answer for Revoked<'_> {
    const SCHEMA: &'static str = "chancery.token-revoked/v1";
}

pub(super) async fn run(
    command: TokenCommand,
    client: &Client,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match command {
        TokenCommand::Create(args) => create(args, client, output).await?,
        TokenCommand::List => {
            let tokens = client.tokens().await?;
            output.result(&tokens, &list(&tokens))?;
        }
        TokenCommand::Health => return super::health::run(client, output).await,
        TokenCommand::Revoke { id } => {
            client.revoke_token(&id).await?;
            let revoked = Revoked { id: &id, revoked: true };
            output.result(&revoked, &format!("revoked {id}"))?;
        }
    }
    Ok(Exit::Ok)
}

async fn create(args: TokenCreateArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    // Opened first: a token whose secret has nowhere to go would be lost.
    let file = args.out.as_deref().map(|path| secret_file(path).map(|f| (f, path))).transpose()?;
    let lifetime = i64::try_from(args.expires.0.as_secs()).unwrap_or(i64::MAX);
    let mut scopes = args.scopes;
    scopes.sort_unstable();
    scopes.dedup();
    let new = NewToken {
        scopes,
        repositories: args.repositories,
        expires: SystemClock.now().plus_s(lifetime),
        note: args.note,
    };
    let created = client.create_token(&new).await;
    match (file, created) {
        (None, Ok(created)) => output.result(&created, &created.bearer),
        (Some((mut file, path)), Ok(created)) => {
            write_secret(&mut file, &created, path)?;
            output.result(&created.token, &line(&created.token))
        }
        (file, Err(error)) => {
            if let Some((_, path)) = file {
                // The empty file is ours; leaving it would only stop the next try.
                let _ = std::fs::remove_file(path);
            }
            Err(error.into())
        }
    }
}

fn secret_file(path: &Path) -> Result<File, Failure> {
    File::options().write(true).create_new(true).mode(0o600).open(path).map_err(|e| {
        Failure::new(Exit::State, format!("cannot make the file {}", path.display()))
            .why(e)
            .next("name a file that does not exist yet")
    })
}

fn write_secret(file: &mut File, created: &CreatedToken, path: &Path) -> Result<(), Failure> {
    let end = writeln!(file, "{}", created.bearer).and_then(|()| file.sync_all());
    end.map_err(|e| {
        Failure::new(Exit::State, format!("token {} was made, but not written", created.token.id))
            .why(format!("{}: {e}", path.display()))
            .next(format!("chancery token revoke {}, then make another", created.token.id))
    })
}

fn list(tokens: &Tokens) -> String {
    tokens.tokens.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn line(token: &TokenInfo) -> String {
    let scopes: Vec<_> = token.scopes.iter().copied().map(Scope::as_str).collect();
    format!(
        "{}  {:<12}  {}  {}{}  {}",
        token.id,
        scopes.join(","),
        token.expires,
        token.repositories.join(" "),
        if token.revoked { "  revoked" } else { "" },
        token.note
    )
}
