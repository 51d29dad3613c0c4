//! Tokens as data files describe them: claims of each provider as it sends them, accepted and refused; and the attacks of
//! `tests/attacks/` that are about a token.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use identity::{Issuer, Jwks, Refused, Token, Verified};
use oidc_sim::{Case, Keys, Row};
use record::Time;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};

const URL: &str = "https://gitlab.example.com";
const AUDIENCE: &str = "https://sign.example.com";
const NOW: i64 = 1_790_000_000;

fn now() -> Time {
    Time::from_unix_ms(NOW * 1000).unwrap()
}

fn issuer(provider: &str, more: &str) -> Issuer {
    let text = format!(
        "name = \"forge\"\nprovider = {provider:?}\nissuer = {URL:?}\naudience = {AUDIENCE:?}\n\
         algorithms = [\"RS256\", \"ES256\"]\n{more}"
    );
    Issuer::new(toml::from_str(&text).unwrap(), None).unwrap()
}

fn published(keys: &Keys) -> Jwks {
    Jwks::parse(json!({"keys": keys.public()}).to_string().as_bytes()).unwrap()
}

fn verify(issuer: &Issuer, token: &str, keys: &Jwks) -> Result<Verified, Refused> {
    issuer.verify(&Token::parse(token)?, keys, now())
}

fn check(row: &str, case: &Case, issuer: &Issuer, keys: &Keys) {
    let token = case.mint(URL, AUDIENCE, keys, NOW);
    let found = verify(issuer, &token, &published(keys));
    let name = format!("{row}: {}", case.name);
    match (&case.refused, found) {
        (Some(code), Err(refused)) => assert_eq!(refused.code(), code, "{name}: {refused}"),
        (Some(code), Ok(verified)) => panic!("{name}: not refused as {code}: {verified:?}"),
        (None, Err(refused)) => panic!("{name}: {} ({refused})", refused.code()),
        (None, Ok(verified)) => {
            let ci = serde_json::to_value(verified.ci()).unwrap();
            let expected = case.ci.as_ref().or(case.principal.as_ref());
            assert!(expected.is_some(), "{name} expects nothing");
            let members: Value = serde_json::from_str(case.ci.as_deref().unwrap_or("{}")).unwrap();
            for (member, value) in members.as_object().unwrap() {
                assert_eq!(ci.get(member).unwrap_or(&Value::Null), value, "{name}: {member}");
            }
            let principal = case.principal.as_deref();
            assert!(principal.is_none_or(|p| p == verified.principal().as_str()), "{name}: {verified:?}");
        }
    }
}

fn rows(folder: &str) -> Vec<Row> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "toml")).map(|path| Row::read(&path)).collect()
}

#[test]
fn the_claims_of_every_provider_make_the_record_that_its_file_says_or_are_refused() {
    let keys = Keys::new();
    let rows = rows("tests/providers");
    let read: BTreeSet<&str> = rows.iter().map(|row| row.row.as_str()).collect();
    assert_eq!(read, identity::built_in_providers().collect(), "a file for each provider");
    for row in &rows {
        let issuer = issuer(&row.row, "");
        row.case.iter().for_each(|case| check(&row.row, case, &issuer, &keys));
    }
}

#[test]
fn every_attack_by_a_token_is_refused_or_told_apart() {
    let keys = Keys::new();
    let rows = rows("../../tests/attacks");
    let read: BTreeSet<&str> = rows.iter().map(|row| row.row.as_str()).collect();
    for row in ["C2", "C4", "C5", "C7"] {
        assert!(read.contains(row), "{row} is in {read:?}");
    }
    let issuer = issuer("github", "owners = [\"65\"]");
    for row in rows.iter().filter(|row| ["C2", "C4", "C5", "C7"].contains(&row.row.as_str())) {
        row.case.iter().for_each(|case| check(&row.row, case, &issuer, &keys));
    }
}

#[test]
fn a_token_is_accepted_at_the_edges_of_its_time_and_not_beyond_them() {
    let keys = Keys::new();
    let published = published(&keys);
    let issuer = issuer("github", "max_lifetime_s = 300\nmax_age_s = 60");
    let at = |issued: i64, lives: i64| {
        let times = [("iat", issued), ("nbf", issued), ("exp", issued + lives)];
        let times = times.map(|(name, seconds)| (name.to_owned(), seconds)).into();
        let case = Case { times, ..Case::default() };
        verify(&issuer, &case.mint(URL, AUDIENCE, &keys, NOW), &published).map(drop)
    };
    assert_eq!(at(30, 300), Ok(()));
    assert_eq!(at(31, 300), Err(Refused::NotYet));
    assert_eq!(at(-90, 300), Ok(()));
    assert_eq!(at(-91, 300), Err(Refused::Age));
    assert_eq!(at(0, 301), Err(Refused::Lifetime));
    assert_eq!(at(-79, 50), Ok(()));
    assert_eq!(at(-80, 50), Err(Refused::Expired));
}

#[test]
fn a_token_is_known_again_by_its_jti_or_by_what_was_signed_and_never_by_its_signature() {
    let keys = Keys::new();
    let published = published(&keys);
    let token = |provider: &str, claims: Option<&str>| {
        let case = Case {
            provider: Some(provider.into()),
            by: oidc_sim::By::P256,
            claims: claims.map(str::to_owned),
            ..Case::default()
        };
        case.mint(URL, AUDIENCE, &keys, NOW)
    };
    let id = |provider: &str, token: &str| {
        let verified = verify(&issuer(provider, ""), token, &published).unwrap();
        assert_eq!(verified.issued(), now());
        assert_eq!(verified.forgotten(), now().plus_s(330));
        verified.token_id().to_owned()
    };
    assert_eq!(id("github", &token("github", Some(r#"{"jti": "the one"}"#))), "the one");
    // The same claims signed again: another signature, the same token.
    let (first, second) = (token("buildkite", None), token("buildkite", None));
    assert_ne!(first, second);
    assert_eq!(id("buildkite", &first), id("buildkite", &second));
    assert_ne!(id("buildkite", &first), id("buildkite", &token("buildkite", Some(r#"{"build_number": 2}"#))));
}

#[test]
fn a_key_that_the_issuer_does_not_have_is_asked_for_only_by_a_token_that_all_else_speaks_for() {
    let keys = Keys::new();
    let published = published(&keys);
    let stranger = Case { by: oidc_sim::By::Stranger, ..Case::default() };
    let issuer = issuer("github", "owners = [\"65\"]");
    let refused =
        |case: &Case| verify(&issuer, &case.mint(URL, AUDIENCE, &keys, NOW), &published).unwrap_err();
    assert_eq!(refused(&stranger), Refused::UnknownKey);
    for row in rows("../../tests/attacks") {
        for case in
            row.case.iter().filter(|case| ["C4", "C5"].contains(&row.row.as_str()) && case.refused.is_some())
        {
            let code = case.refused.as_deref().unwrap();
            // What is known only of verified claims is not asked before.
            if !["owner", "jti"].contains(&code) {
                let case = Case { by: oidc_sim::By::Stranger, ..case.clone() };
                assert_eq!(refused(&case).code(), code, "{}", case.name);
            }
        }
    }
}

#[test]
fn an_operator_gives_a_claim_map_for_a_provider_of_his_own() {
    let keys = Keys::new();
    let map = "provider = \"forge\"\nsingle_use = \"jti\"\nlifetime_s = 300\n[claims]\nid = { at = [\"build\", \"id\"], type = \"integer\" }\n\
               [ci]\nrepository = \"{issuer_host}/{id}\"\nrepositoryId = \"{id}\"\nrefProtected = false\nhostedRunner = true\n\
               forkOrMergeRequest = false\n";
    let text = format!(
        "name = \"own\"\nprovider = \"forge\"\nissuer = {URL:?}\naudience = {AUDIENCE:?}\nclaims = \"forge.toml\"\n"
    );
    let issuer = Issuer::new(toml::from_str(&text).unwrap(), Some(map)).unwrap();
    let case = Case { claims: Some(r#"{"build": {"id": 7}}"#.into()), ..Case::default() };
    let verified = verify(&issuer, &case.mint(URL, AUDIENCE, &keys, NOW), &published(&keys)).unwrap();
    assert_eq!(verified.principal().as_str(), "ci:own/7");
    assert_eq!(verified.ci().repository.as_str(), "gitlab.example.com/7");
    assert!(Issuer::new(toml::from_str(&text).unwrap(), None).is_err(), "no map of this name is built in");
}
