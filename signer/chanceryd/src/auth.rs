//! Who asks: API tokens, and CI jobs by the session that they got for a token of their issuer. A secret is 256 random bits;
//! database and log hold only its SHA-256.

use crate::{
    machines::Machine,
    store::{SessionRow, TokenRow},
};
use api::Scope;
use policy::Caller;
use record::{Nonce, Principal, Sha256, Time, TokenId};
use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

/// How every bearer token begins: registered prefixes let secret scanners find leaked ones.
const PREFIX: &str = "chy_";

/// How the bearer of a CI job's session goes on. An API token's id has twelve hex digits, so it is never taken for one.
const SESSION: &str = "session_";
/// How the bearer that reads one request goes on.
const POLL: &str = "poll_";

/// How long a request of a CI job may wait, in seconds: a day, which is what people have to approve it.
const JOB_WAITS_S: i64 = 24 * 60 * 60;

/// Proof that a caller holds the secret of a live token or session; only this module makes one.
#[derive(Debug)]
pub struct Proof {
    caller: Caller,
    scopes: Vec<String>,
}

impl Proof {
    /// A caller whose token has ended since it asked: policy sees it without any right.
    pub(crate) fn ended(principal: Principal, now: Time) -> Self {
        let token = policy::Token { principal, scopes_sign: false, repositories: Vec::new(), expires: now };
        Self { caller: Caller::Token(token), scopes: Vec::new() }
    }

    /// A machine whose certificate was judged now: it may ask for signatures, if policy says so, and nothing else.
    pub(crate) fn of_machine(machine: Machine) -> Self {
        let Machine { principal, not_after } = machine;
        let caller = Caller::Machine(policy::Machine { principal, expires: not_after });
        Self { caller, scopes: Vec::new() }
    }

    /// Who made a request that waits, as it was kept with the request.
    pub(crate) fn of_waiting(caller: Caller) -> Self {
        Self { caller, scopes: Vec::new() }
    }

    /// What is kept of the caller with a request that waits; nothing of an API token, which is looked at again. A job has
    /// proven itself when it asked: its session ends long before everybody has looked at what it asks for.
    pub(crate) fn kept(&self, now: Time) -> Option<Caller> {
        match self.caller.clone() {
            Caller::Token(_) => None,
            Caller::Workload(mut job) => {
                job.expires = now.plus_s(JOB_WAITS_S);
                Some(Caller::Workload(job))
            }
            other @ (Caller::Machine(_) | Caller::Person(_)) => Some(other),
        }
    }

    /// What policy needs to know of the caller.
    pub(crate) fn into_caller(self) -> Caller {
        self.caller
    }

    /// Who it is.
    pub(crate) fn principal(&self) -> &Principal {
        self.caller.principal()
    }

    /// Whether the token has a scope.
    pub(crate) fn has(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|s| s == scope.as_str())
    }
}

/// What policy is told of a CI job: the one place that knows both.
fn caller_of(job: SessionRow) -> Caller {
    let SessionRow { principal, ci, expires } = job;
    Caller::Workload(Box::new(policy::Workload { principal, ci, expires }))
}

/// Why a caller is nobody. The text never says which part of a credential was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// No bearer token.
    #[error(
        "send an API token, or what a CI job's token was exchanged for, in the header `Authorization: Bearer chy_...`"
    )]
    Missing,
    /// Not a live token of this service.
    #[error("this API token is not known, has ended, or was revoked: ask an administrator for a new one")]
    Invalid,
    /// Not a live session of this service.
    #[error("this session is not known or has ended: exchange a new token of the CI job")]
    Ended,
}

/// What a bearer says to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Bearer<'a> {
    /// An API token.
    Token(&'a str),
    /// A CI job's session, by the hash of its secret.
    Session(Sha256),
    /// What reads one request, by the hash of its secret.
    Poll(Sha256),
}

impl<'a> Bearer<'a> {
    /// Reads an `Authorization` header.
    pub(crate) fn parse(header: Option<&'a str>) -> Result<Self, AuthError> {
        let bearer = header.and_then(|h| h.strip_prefix("Bearer ")).ok_or(AuthError::Missing)?;
        let rest = bearer.strip_prefix(PREFIX).ok_or(AuthError::Invalid)?;
        let hash = |secret: &str| Sha256::of(secret.as_bytes());
        Ok(match (rest.strip_prefix(SESSION), rest.strip_prefix(POLL)) {
            (Some(secret), _) => Self::Session(hash(secret)),
            (_, Some(secret)) => Self::Poll(hash(secret)),
            _ => Self::Token(rest),
        })
    }
}

impl Proof {
    /// A CI job that holds the secret of this session.
    pub(crate) fn of_session(job: SessionRow) -> Self {
        Self { caller: caller_of(job), scopes: Vec::new() }
    }
}

/// All tokens, in memory; the log is their source.
#[derive(Debug, Default)]
pub(crate) struct Tokens(RwLock<HashMap<TokenId, TokenRow>>);

impl Tokens {
    /// Takes the tokens that the log gives.
    pub(crate) fn replace(&self, rows: Vec<TokenRow>) {
        let rows = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    /// Checks an API token, without its prefix.
    pub(crate) fn authenticate(&self, token: &str, now: Time) -> Result<Proof, AuthError> {
        let (id, secret) = token.split_once('_').ok_or(AuthError::Invalid)?;
        let id = TokenId::parse(id).map_err(|_| AuthError::Invalid)?;
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let row = rows.get(&id).ok_or(AuthError::Invalid)?;
        // What is compared are hashes of 256-bit secrets: how long the comparison takes tells nothing of use.
        if row.secret_sha256 != Sha256::of(secret.as_bytes()) {
            return Err(AuthError::Invalid);
        }
        proof(row, now)
    }

    /// The caller behind a request that waits, as its token stands now.
    pub(crate) fn still(&self, principal: &Principal, now: Time) -> Option<Proof> {
        let id = principal.as_str().strip_prefix("token:").and_then(|id| TokenId::parse(id).ok())?;
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rows.get(&id).and_then(|row| proof(row, now).ok())
    }
}

fn proof(row: &TokenRow, now: Time) -> Result<Proof, AuthError> {
    if row.revoked || now >= row.expires {
        return Err(AuthError::Invalid);
    }
    let principal = Principal::parse(&format!("token:{}", row.id)).map_err(|_| AuthError::Invalid)?;
    let scopes_sign = row.scopes.iter().any(|s| s == Scope::Sign.as_str());
    let repositories = row.repositories.clone();
    let token = policy::Token { principal, scopes_sign, repositories, expires: row.expires };
    Ok(Proof { caller: Caller::Token(token), scopes: row.scopes.clone() })
}

/// A new token: its public id, the bearer text, and the hash that is kept.
pub(crate) fn new_token() -> Result<(TokenId, String, Sha256), String> {
    let random = || Nonce::random().map_err(|e| e.to_string());
    let id = random()?;
    let id = TokenId::parse(id.as_str().get(..12).unwrap_or_default()).map_err(|e| e.to_string())?;
    let (secret, hash) = new_secret()?;
    Ok((id.clone(), format!("{PREFIX}{id}_{secret}"), hash))
}

/// The bearer text of a new session, and the hash that is kept.
pub(crate) fn new_session() -> Result<(String, Sha256), String> {
    new_secret().map(|(secret, hash)| (format!("{PREFIX}{SESSION}{secret}"), hash))
}

/// The bearer text that reads one request, and the hash that is kept.
pub(crate) fn new_poll_token() -> Result<(String, Sha256), String> {
    new_secret().map(|(secret, hash)| (format!("{PREFIX}{POLL}{secret}"), hash))
}

fn new_secret() -> Result<(String, Sha256), String> {
    let random = || Nonce::random().map_err(|e| e.to_string());
    let secret = format!("{}{}", random()?, random()?);
    let hash = Sha256::of(secret.as_bytes());
    Ok((secret, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(revoked: bool) -> (Tokens, String) {
        let (id, bearer, secret_sha256) = new_token().unwrap();
        let row = TokenRow {
            id,
            secret_sha256,
            scopes: vec!["sign".into()],
            repositories: vec!["r.example/a/".into()],
            expires: Time::from_unix_ms(1_000).unwrap(),
            note: String::new(),
            revoked,
        };
        let tokens = Tokens::default();
        tokens.replace(vec![row]);
        (tokens, bearer)
    }

    #[test]
    fn only_the_whole_secret_of_a_live_token_is_accepted() {
        let (before, after) = (Time::from_unix_ms(999).unwrap(), Time::from_unix_ms(1_000).unwrap());
        let (live, bearer) = tokens(false);
        let check = |tokens: &Tokens, header: Option<&str>, now| match Bearer::parse(header)? {
            Bearer::Token(token) => tokens.authenticate(token, now),
            other => panic!("{other:?}"),
        };
        let header = format!("Bearer {bearer}");
        assert!(check(&live, Some(&header), before).unwrap().has(Scope::Sign));
        let refused = |header: Option<&str>, now| check(&live, header, now).unwrap_err();
        assert_eq!(refused(Some(&header), after), AuthError::Invalid);
        assert_eq!(refused(Some(&header[..header.len() - 1]), before), AuthError::Invalid);
        assert_eq!(refused(Some("Bearer chy_x_y"), before), AuthError::Invalid);
        assert_eq!(refused(Some("Bearer x"), before), AuthError::Invalid);
        assert_eq!(refused(Some("Basic abc"), before), AuthError::Missing);
        assert_eq!(refused(None, before), AuthError::Missing);
        let (revoked, bearer) = tokens(true);
        assert!(check(&revoked, Some(&format!("Bearer {bearer}")), before).is_err());
    }

    #[test]
    fn every_bearer_is_told_from_the_others_and_kept_as_a_hash() {
        for _ in 0..100 {
            let (_, token, _) = new_token().unwrap();
            let ((session, session_hash), (poll, poll_hash)) =
                (new_session().unwrap(), new_poll_token().unwrap());
            let [token, session, poll] = [token, session, poll].map(|bearer| format!("Bearer {bearer}"));
            assert!(matches!(Bearer::parse(Some(&token)), Ok(Bearer::Token(_))), "{token}");
            assert_eq!(Bearer::parse(Some(&session)), Ok(Bearer::Session(session_hash)));
            assert_eq!(Bearer::parse(Some(&poll)), Ok(Bearer::Poll(poll_hash)));
        }
    }
}
