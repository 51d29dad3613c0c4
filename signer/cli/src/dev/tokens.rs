//! The API tokens of an instance, in `DIR/env`: made at the first start, renewed at a later one before they end.

use super::layout::{Layout, Settings, write_private};
use crate::{audit::replace, exit::Exit, failure::Failure};
use api::{Client, ClientError, NewToken, Scope, Secret, TokenInfo};
use record::{Clock, SystemClock, Time};
use std::{collections::BTreeMap, fs, io};

/// Life of the tokens that are made here; the service allows 90 days.
const LIFE_S: i64 = 89 * 86_400;
/// A token that ends within this time is renewed: whoever starts an instance uses it for a while.
const RENEW_S: i64 = 7 * 86_400;

const CI: &str = "CHANCERY_TOKEN";
const AUDITOR: &str = "CHANCERY_AUDITOR_TOKEN";
const ADMIN: &str = "CHANCERY_ADMIN_TOKEN";

/// Whether the instance's own administrator's token is there and the service takes it.
pub(super) async fn admin_is_accepted(layout: &Layout, client: &Client) -> Result<bool, Failure> {
    match read_admin(layout)? {
        Some(admin) => accepted(client, &admin).await,
        None => Ok(false),
    }
}

/// Makes the tokens that are missing, refused or about to end, and writes what a shell needs to use the instance. Gives
/// the variables of the new ones.
pub(super) async fn keep(
    layout: &Layout,
    settings: &Settings,
    client: &Client,
) -> Result<Vec<&'static str>, Failure> {
    let now = SystemClock.now();
    let admin = read_admin(layout)?
        .ok_or_else(|| Failure::new(Exit::State, format!("{} is missing", layout.admin_token().display())))?;
    let client = client.with_token(Secret::new(&admin)?);
    let known = client.tokens().await?.tokens;
    let before = read_env(layout)?;
    // The administrator's token has a file of its own, which decides.
    let mut held = before.clone();
    held.insert(ADMIN, admin.clone());
    for (name, scope) in [(CI, Scope::Sign), (AUDITOR, Scope::Audit), (ADMIN, Scope::Admin)] {
        let lives = match held.get(name) {
            Some(bearer) => lasts(bearer, &known, now) && accepted(&client, bearer).await?,
            None => false,
        };
        if !lives {
            held.insert(name, made(&client, scope, settings, now).await?);
        }
    }
    if let Some(new) = held.get(ADMIN).filter(|held| **held != admin) {
        write(&layout.admin_token(), &format!("{new}\n"))?;
    }
    let changed = changed(&before, &held);
    if !changed.is_empty() {
        write(&layout.env_file(), &env_text(layout, settings, &held)?)?;
    }
    Ok(changed)
}

/// The variables whose tokens are other ones than those in `DIR/env`.
fn changed(
    before: &BTreeMap<&'static str, String>,
    held: &BTreeMap<&'static str, String>,
) -> Vec<&'static str> {
    held.iter().filter(|(name, token)| before.get(*name) != Some(token)).map(|(name, _)| *name).collect()
}

fn lasts(bearer: &str, known: &[TokenInfo], now: Time) -> bool {
    let id = Secret::new(bearer).ok().and_then(|secret| secret.token_id());
    known.iter().any(|t| Some(&t.id) == id.as_ref() && !t.revoked && t.expires > now.plus_s(RENEW_S))
}

async fn accepted(client: &Client, bearer: &str) -> Result<bool, Failure> {
    let Ok(secret) = Secret::new(bearer) else { return Ok(false) };
    match client.with_token(secret).keys().await {
        Ok(_) => Ok(true),
        Err(ClientError::Problem(problem)) if problem.status == 401 => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn made(client: &Client, scope: Scope, settings: &Settings, now: Time) -> Result<String, Failure> {
    let (repositories, name) = match scope {
        Scope::Sign => (settings.repositories.clone(), "CI"),
        Scope::Audit => (vec![], "auditor"),
        Scope::Admin => (vec![], "administrator"),
    };
    let note = format!("{name}, made by chancery dev");
    let new = NewToken { scopes: vec![scope], repositories, expires: now.plus_s(LIFE_S), note };
    Ok(client.create_token(&new).await?.bearer)
}

fn read_admin(layout: &Layout) -> Result<Option<String>, Failure> {
    Ok(read(&layout.admin_token())?.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
}

/// The tokens in `DIR/env`, as [`env_text`] wrote them.
fn read_env(layout: &Layout) -> Result<BTreeMap<&'static str, String>, Failure> {
    let text = read(&layout.env_file())?.unwrap_or_default();
    let value = |name: &'static str| {
        let line =
            text.lines().find_map(|l| l.strip_prefix("export ")?.strip_prefix(name)?.strip_prefix('='));
        line.map(|word| (name, word.trim_matches('\'').to_owned()))
    };
    Ok([CI, AUDITOR, ADMIN].into_iter().filter_map(value).collect())
}

fn read(path: &std::path::Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::new(Exit::State, format!("cannot read {}", path.display())).why(e)),
    }
}

fn write(path: &std::path::Path, text: &str) -> Result<(), Failure> {
    if !path.exists() {
        return write_private(path, text.as_bytes());
    }
    replace(path, text.as_bytes())
        .map_err(|e| Failure::new(Exit::State, format!("cannot write {}", path.display())).why(e))
}

fn env_text(
    layout: &Layout,
    settings: &Settings,
    held: &BTreeMap<&'static str, String>,
) -> Result<String, Failure> {
    let vkey = read(&layout.pubkeys().join("log.vkey"))?.unwrap_or_default();
    let token = |name| held.get(name).cloned().unwrap_or_default();
    let exports = [
        ("CHANCERY_URL", settings.url()),
        ("CHANCERY_CACERT", layout.ca().display().to_string()),
        (CI, token(CI)),
        (AUDITOR, token(AUDITOR)),
        (ADMIN, token(ADMIN)),
        ("CHANCERY_DCT_SERVER", settings.url()),
        ("CHANCERY_PUBKEYS", layout.pubkeys().display().to_string()),
        ("CHANCERY_LOG_VKEY", vkey.trim().to_owned()),
    ];
    Ok(exports.iter().map(|(name, value)| format!("export {name}={}\n", quote(value))).collect())
}

/// A word that a POSIX shell reads back as it was.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_quoted_words_back_as_they_were() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's $(x)"), r"'it'\''s $(x)'");
    }

    #[test]
    fn a_token_lasts_if_it_is_known_lives_and_ends_after_a_week() {
        let now = Time::from_unix_ms(1_790_000_000_000).unwrap();
        let known = |seconds: i64, revoked: bool| {
            [TokenInfo {
                id: "abc123".parse().unwrap(),
                scopes: vec![Scope::Sign],
                repositories: vec![],
                expires: now.plus_s(seconds),
                note: String::new(),
                revoked,
            }]
        };
        assert!(lasts("chy_abc123_0", &known(RENEW_S + 1, false), now));
        assert!(!lasts("chy_abc123_0", &known(RENEW_S, false), now), "it ends within a week");
        assert!(!lasts("chy_abc123_0", &known(RENEW_S + 1, true), now), "it was revoked");
        assert!(!lasts("chy_def456_0", &known(RENEW_S + 1, false), now), "nobody knows it");
        assert!(!lasts("", &known(RENEW_S + 1, false), now));
    }

    #[test]
    fn the_tokens_in_the_env_file_are_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        assert_eq!(read_env(&layout).unwrap(), BTreeMap::new());
        fs::write(layout.env_file(), format!("export {CI}={}\nexport X='y'\n", quote("chy_a_b"))).unwrap();
        assert_eq!(read_env(&layout).unwrap(), BTreeMap::from([(CI, "chy_a_b".to_owned())]));
    }

    #[test]
    fn a_token_that_was_made_elsewhere_is_written_into_the_env_file_too() {
        let before = BTreeMap::from([(CI, "chy_a_b".to_owned()), (ADMIN, "chy_old_0".to_owned())]);
        let mut held = before.clone();
        assert!(changed(&before, &held).is_empty());
        held.insert(ADMIN, "chy_new_0".to_owned());
        assert_eq!(changed(&before, &held), [ADMIN]);
        assert_eq!(changed(&BTreeMap::new(), &held), [ADMIN, CI]);
    }
}
