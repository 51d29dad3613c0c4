//! The order in which a token is checked.

use crate::{
    Issuer, Jwks, Refused, Token,
    claims::Place,
    json::{Object, Value},
    map::{AudienceForm, SingleUse},
};
use record::{Ci, Principal, Sha256, Time};

/// How far the clock of an issuer may be from ours, in seconds.
pub const LEEWAY_S: i64 = 30;

/// Longest `jti`.
const MAX_TOKEN_ID: usize = 255;

/// A token that was verified; only [`Issuer::verify`] makes one. It was perhaps used before: that is for the holder of the
/// used ones to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    ci: Ci,
    principal: Principal,
    token_id: String,
    issued: Time,
    expires: Time,
}

impl Verified {
    /// The job.
    pub fn ci(&self) -> &Ci {
        &self.ci
    }

    /// `ci:<issuer>/<immutable id>`.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// By what this token is known among those of its issuer: its `jti`, or `sha256:` and the hash of what its signature is
    /// over. Not of the signature itself: an ECDSA signature has a twin.
    pub fn token_id(&self) -> &str {
        &self.token_id
    }

    /// `iat`.
    pub fn issued(&self) -> Time {
        self.issued
    }

    /// The first moment at which no token of this `exp` is accepted any more: until then its id must be remembered.
    pub fn forgotten(&self) -> Time {
        self.expires.plus_s(LEEWAY_S)
    }
}

impl Issuer {
    /// Checks a token, first what needs no key: so [`Refused::UnknownKey`], which makes the caller ask the issuer for its
    /// keys, is said only of a token that all else speaks for.
    pub fn verify(&self, token: &Token, keys: &Jwks, now: Time) -> Result<Verified, Refused> {
        let algorithm = *self
            .algorithms
            .iter()
            .find(|allowed| allowed.as_str() == token.algorithm())
            .ok_or(Refused::Algorithm)?; //                                          1. an algorithm that is allowed
        let key_id = token.key_id()?; //                                             2. the name of a key
        let claims = token.claims();
        if claims.get("iss") != Some(&Value::String(self.url.clone())) {
            return Err(Refused::Issuer); //                                          3. from this issuer
        }
        // INVARIANT(one-audience): a token with ours among others could be shown to these, or by them to us.
        if claims.get("aud") != Some(&self.expected_audience()) {
            return Err(Refused::Audience); //                                        4. for us
        }
        let (issued, expires) = self.times(claims, now)?; //                         5. now
        let key = keys.find(key_id).ok_or(Refused::UnknownKey)?; //                  6. by a key of the issuer,
        if !key.is_for(algorithm) {
            return Err(Refused::WrongKey); //                                           which is for this algorithm
        }
        if !key.verifies(algorithm, token.signed(), token.signature()) {
            return Err(Refused::Signature); //                                       7. which has signed it
        }
        let place = Place { issuer: self.name.as_str(), host: &self.host };
        let ci = self.map.job(claims, &place)?; //                                   8. about a job
        self.check_owner(&ci)?; //                                                   9. of somebody who is let in
        let principal = format!("ci:{}/{}", self.name, ci.repository_id.as_str());
        let principal = Principal::parse(&principal).map_err(|_| Refused::Text("repositoryId"))?;
        let token_id = self.token_id(token)?; //                                    10. with a name to remember it by
        Ok(Verified { ci, principal, token_id, issued, expires })
    }

    fn expected_audience(&self) -> Value {
        let audience = Value::String(self.audience.clone());
        match self.map.audience {
            AudienceForm::Text => audience,
            AudienceForm::ListOfOne => Value::Array(vec![audience]),
        }
    }

    /// `iat` and `exp`.
    fn times(&self, claims: &Object, now: Time) -> Result<(Time, Time), Refused> {
        let exp = time(claims, "exp")?.ok_or(Refused::NoTime("exp"))?;
        let iat = time(claims, "iat")?.ok_or(Refused::NoTime("iat"))?;
        let nbf = time(claims, "nbf")?;
        let now = now.unix_s();
        if now >= exp.unix_s() + LEEWAY_S {
            return Err(Refused::Expired);
        }
        if nbf.is_some_and(|nbf| now + LEEWAY_S < nbf.unix_s()) {
            return Err(Refused::NotYet);
        }
        if now + LEEWAY_S < iat.unix_s() {
            return Err(Refused::IssuedInFuture);
        }
        if exp.unix_s() - iat.unix_s() > self.max_lifetime_s {
            return Err(Refused::Lifetime);
        }
        if now - iat.unix_s() > self.max_age_s + LEEWAY_S {
            return Err(Refused::Age);
        }
        Ok((iat, exp))
    }

    fn check_owner(&self, ci: &Ci) -> Result<(), Refused> {
        let owner = ci.owner_id.as_ref().map(record::CiText::as_str);
        let known = owner.is_some_and(|owner| self.owners.iter().any(|known| known == owner));
        if self.owners.is_empty() || known { Ok(()) } else { Err(Refused::Owner) }
    }

    fn token_id(&self, token: &Token) -> Result<String, Refused> {
        match (self.map.single_use, token.claims().get("jti")) {
            (SingleUse::Jti, Some(Value::String(jti))) if (1..=MAX_TOKEN_ID).contains(&jti.len()) => {
                Ok(jti.clone())
            }
            (SingleUse::Jti, _) => Err(Refused::TokenId),
            (SingleUse::Token, _) => Ok(format!("sha256:{}", Sha256::of(token.signed()))),
        }
    }
}

/// A NumericDate (RFC 7519, 2) in whole seconds; a claim of another type is not one that is absent.
fn time(claims: &Object, name: &'static str) -> Result<Option<Time>, Refused> {
    let bad = || Refused::TimeType(name);
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Integer(seconds)) => {
            let ms = seconds.checked_mul(1000).ok_or_else(bad)?;
            Time::from_unix_ms(ms).map(Some).map_err(|_| bad())
        }
        Some(_) => Err(bad()),
    }
}
