//! Who asks: API tokens. The secret is 256 random bits; the database and the log hold only its SHA-256.

use crate::store::TokenRow;
use api::Scope;
use policy::Caller;
use record::{Nonce, Principal, Sha256, Time, TokenId};
use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

/// How every bearer token begins: registered prefixes let secret scanners find leaked ones.
const PREFIX: &str = "chy_";

/// Proof that a caller holds the secret of a live token; only this module makes one.
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

/// Why a caller is nobody. The text never says which part of a credential was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// No bearer token.
    #[error("send an API token in the header `Authorization: Bearer chy_...`")]
    Missing,
    /// Not a live token of this service.
    #[error("this API token is not known, has ended, or was revoked: ask an administrator for a new one")]
    Invalid,
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

    /// Checks the value of an `Authorization` header.
    pub(crate) fn authenticate(&self, header: Option<&str>, now: Time) -> Result<Proof, AuthError> {
        let bearer = header.and_then(|h| h.strip_prefix("Bearer ")).ok_or(AuthError::Missing)?;
        let (id, secret) =
            bearer.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or(AuthError::Invalid)?;
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
    let secret = format!("{}{}", random()?, random()?);
    let hash = Sha256::of(secret.as_bytes());
    Ok((id.clone(), format!("{PREFIX}{id}_{secret}"), hash))
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
        let header = format!("Bearer {bearer}");
        assert!(live.authenticate(Some(&header), before).unwrap().has(Scope::Sign));
        assert_eq!(live.authenticate(Some(&header), after).unwrap_err(), AuthError::Invalid);
        assert_eq!(
            live.authenticate(Some(&header[..header.len() - 1]), before).unwrap_err(),
            AuthError::Invalid
        );
        assert_eq!(live.authenticate(Some("Bearer chy_x_y"), before).unwrap_err(), AuthError::Invalid);
        assert_eq!(live.authenticate(Some("Basic abc"), before).unwrap_err(), AuthError::Missing);
        assert_eq!(live.authenticate(None, before).unwrap_err(), AuthError::Missing);
        let (revoked, bearer) = tokens(true);
        assert!(revoked.authenticate(Some(&format!("Bearer {bearer}")), before).is_err());
    }
}
