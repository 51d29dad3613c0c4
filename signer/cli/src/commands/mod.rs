//! One file a noun. Each command asks, shows one result, and says how it ended.

mod backup;
pub(crate) mod daemon;
mod doctor;
mod doctor_head;
mod doctor_keeper;
mod health;
mod job_token;
mod key;
mod log;
mod log_export;
mod log_fetch;
mod log_prove;
mod log_search;
mod log_show;
mod log_sigstore;
mod log_watch;
pub(crate) mod log_witness;
mod policy;
mod repo;
mod request;
mod sign;
mod token;
mod version;

use crate::{
    args::{Command, KeeperCommand},
    connect::Connection,
    exit::Exit,
    failure::Failure,
    output::Output,
};

/// Runs a command that ends by itself. The foreground ones are started by the caller.
pub(crate) async fn run(
    command: Command,
    connection: &Connection,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match command {
        Command::Dev(args) => crate::dev::run(args, output).await,
        Command::Init(forward) => Err(daemon::exec(&["init"], &forward)),
        Command::Serve(forward) => Err(daemon::exec(&["serve"], &forward)),
        Command::Unseal(forward) => Err(daemon::exec(&["unseal"], &forward)),
        Command::Keeper(KeeperCommand::Retire(forward)) => Err(daemon::exec(&["keeper-retire"], &forward)),
        Command::Sign(args) => {
            let client = job_token::client(&args, connection, output).await?;
            sign::run(args, &client, output).await
        }
        Command::Request(command) => request::run(command, &connection.client()?, output).await,
        Command::Repo(command) => repo::run(command, &connection.client()?, output).await,
        Command::Log(command) => log::run(command, connection, output).await,
        Command::Backup(command) => backup::run(command, output).await,
        Command::Token(command) => token::run(command, &connection.client()?, output).await,
        Command::Policy(command) => policy::run(&command, output),
        Command::Key(command) => key::run(command, &connection.client()?, output).await,
        Command::Doctor { keepers } => doctor::run(connection, &keepers, output).await,
        Command::Version => version::run(output),
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        audit::{Inclusion, synthetic::Log, verify},
        output::{Answer, tests::document},
    };
    use api::{CreatedToken, KeyInfo, Keys, RepositoryInfo, Request, TokenInfo, Tokens};
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn read<T: DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn shown<T: Answer>(value: &T) -> (&'static str, Value) {
        (T::SCHEMA, document(value))
    }

    #[test]
    fn every_result_is_one_json_object_that_names_its_schema() {
        let log = Log::with_requests(1);
        let report = verify(&log.published(log.size()).source(), &log.trust(), None, &[]).unwrap();
        let inclusion = || Inclusion { index: 0, size: 1, leaf_hash: String::new(), hashes: vec![] };
        let token = json!({
            "id": "abc123", "scopes": ["sign"], "repositories": ["r.example/"], "expires": "2026-11-23T10:20:30.000Z",
            "note": "", "revoked": false,
        });
        let spki = {
            let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
            record::Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap()
        };
        let key: KeyInfo = read(json!({
            "id": spki.id(), "keeper": "signing", "available": true, "entry": 3,
            "key": { "spki": spki, "purpose": "targets", "repositories": ["r.example/"], "evidence": [] },
        }));
        let info: TokenInfo = read(token.clone());
        let (checked, linted, tested, diff, explained, replay) = super::policy::tests::documents();
        let documents = [
            shown(&checked),
            shown(&linted),
            shown(&tested),
            shown(&diff),
            shown(&explained),
            shown(&replay),
            shown(&super::doctor::Diagnosis {
                checks: vec![super::doctor::Check::good("server", "answers")],
            }),
            shown(&super::key::Shown { key: &key, pem: spki.to_pem() }),
            shown(&Keys { keys: vec![key.clone()] }),
            shown(&super::health::tests::keepers(None)),
            shown(&report),
            shown(&super::log::CheckpointResult {
                origin: String::new(),
                size: 1,
                root: String::new(),
                seen_before: None,
                note: String::new(),
            }),
            shown(&super::log_export::tests::exported()),
            shown(&super::log_prove::Written {
                file: Some("x".into()),
                client_files: vec![],
                size: 1,
                entries: vec![super::log_prove::Part {
                    role: crate::audit::evidence::Role::Genesis,
                    index: 0,
                }],
                other_intents: vec![],
            }),
            shown(&super::log_prove::tests::shown()),
            shown(&super::log_sigstore::TrustedRootResult {
                trusted_root: formats::sigstore::TrustedRoot::of_log(&log.vkey(), Some(&spki)),
            }),
            shown(&super::backup::tests::verified()),
            shown(&super::log_search::tests::found()),
            shown(&super::log_watch::tests::alarm(crate::audit::watch::Kind::Fork)),
            shown(&super::log_prove::ProofResult { inclusion: inclusion(), checkpoint: String::new() }),
            shown(&super::log_fetch::Fetched {
                dir: "x".into(),
                origin: String::new(),
                size: 1,
                files: 1,
                downloaded: 1,
            }),
            shown(&super::log_show::entry(0, b"{\"a\":1}", true)),
            shown(&super::log_show::entry(1, b"\xff no JSON", false)),
            shown(&read::<RepositoryInfo>(json!({
                "repository": "r.example/a", "root_sha256": "0".repeat(64), "root_certificate_id": "x",
                "versions": { "root": 1, "targets": 1, "snapshot": 1, "timestamp": 1 },
            }))),
            shown(&read::<Request>(json!({
                "id": "0190a7d2-0000-7000-8000-000000000000", "state": "ready", "repository": "r.example/a",
                "digest": format!("sha256:{}", "ab".repeat(32)), "tag": "v1", "by": "token:abc",
                "created": "2026-11-23T10:20:30.000Z", "log": {},
            }))),
            shown(&read::<CreatedToken>(json!({ "token": token.clone(), "bearer": "chy_abc123_0" }))),
            shown(&info),
            shown(&Tokens { tokens: vec![info.clone()] }),
            shown(&super::token::Revoked { id: &info.id, revoked: true }),
            shown(&super::log_witness::Made { vkey: String::new() }),
            shown(&super::log_witness::Added { log: String::new() }),
            shown(&super::log_witness::Serving { listen: String::new(), vkey: String::new(), logs: vec![] }),
            shown(&super::version::Version { version: "1" }),
        ];
        for (schema, document) in documents {
            assert_eq!(document["schema"], schema, "{document}");
            assert!(document.as_object().unwrap().len() > 1, "{document}");
        }
    }
}
