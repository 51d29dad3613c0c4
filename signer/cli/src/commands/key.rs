//! `chancery key`: the signing keys as their keepers present them.

use crate::{
    args::KeyCommand,
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use api::{Client, KeyInfo, Keys};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Shown<'a> {
    #[serde(flatten)]
    pub(super) key: &'a KeyInfo,
    pub(super) pem: String,
}

impl Answer for Keys {
    const SCHEMA: &'static str = "chancery.keys/v1";
}

impl Answer for Shown<'_> {
    const SCHEMA: &'static str = "chancery.key/v1";
}

pub(super) async fn run(command: KeyCommand, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let keys = client.keys().await?;
    match command {
        KeyCommand::List => output.result(&keys, &list(&keys))?,
        KeyCommand::Show { id } => {
            let key = keys.keys.iter().find(|k| k.id == id).ok_or_else(|| {
                Failure::new(Exit::NotFound, format!("no keeper presents a key {id}"))
                    .next("chancery key list shows all keys")
            })?;
            let pem = key.record.spki.to_pem();
            let text = text(key, &pem);
            output.result(&Shown { key, pem }, &text)?;
        }
    }
    Ok(Exit::Ok)
}

fn list(keys: &Keys) -> String {
    let line = |k: &KeyInfo| {
        let state = if k.available { "available" } else { "away" };
        let (purpose, entry) = (k.record.purpose, k.entry);
        let repositories = k.record.repositories.join(" ");
        format!("{}  {purpose:<9}  {state:<9}  {}  entry {entry}  {repositories}", k.id, k.keeper)
    };
    keys.keys.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn text(key: &KeyInfo, pem: &str) -> String {
    let state = match &key.problem {
        None => "available".to_owned(),
        Some(why) => format!("away: {why}"),
    };
    format!(
        "key           {}\npurpose       {}\nkeeper        {}\nstate         {state}\nin the log    entry {} has its keeper's word for this\n\
         repositories  {}\nevidence      {}\n{pem}",
        key.id,
        key.record.purpose,
        key.keeper,
        key.entry,
        key.record.repositories.join(" "),
        key.record.evidence.join(" "),
    )
}
