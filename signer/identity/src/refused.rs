//! Why a token is refused.

/// Why a token is refused. `Display` is what the caller may read: it says what he can mend, and for everything about keys and
/// signatures one sentence. [`Refused::code`] is for logs, metrics and tests.
///
/// A retry with the same token never helps, but for [`Refused::UnknownKey`] after the keys were fetched anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Longer than [`MAX_TOKEN_BYTES`](crate::MAX_TOKEN_BYTES).
    #[error("the token is longer than 16 KiB")]
    TooLong,
    /// Not three parts of base64url whose first two are JSON objects.
    #[error("this is no signed JSON Web Token in its compact form")]
    Malformed,
    /// A member of header or claims stands there twice.
    #[error("a member stands twice in the token")]
    Duplicate,
    /// The header has a member that changes what the signature is over, or where its key comes from.
    #[error("the token's header has a member that is not accepted")]
    Header,
    /// The algorithm is none that the operator has allowed for this issuer.
    #[error("the token's signature cannot be verified")]
    Algorithm,
    /// The header names no key.
    #[error("the token's signature cannot be verified")]
    NoKeyId,
    /// The issuer has no key of this name, as far as is known.
    #[error("the token's signature cannot be verified")]
    UnknownKey,
    /// The key of this name is of another kind, or not for this algorithm.
    #[error("the token's signature cannot be verified")]
    WrongKey,
    /// The signature is not the key's.
    #[error("the token's signature cannot be verified")]
    Signature,
    /// `iss` is absent, no text, or not the issuer's.
    #[error("the token's issuer is not accepted here")]
    Issuer,
    /// `aud` is not the one text that is configured.
    #[error(
        "the token is not for this service: ask for one whose only audience is the one that its operator has configured"
    )]
    Audience,
    /// `exp`, `iat` or `nbf` is no whole number.
    #[error("the token's {0} is no whole number of seconds")]
    TimeType(&'static str),
    /// `exp` or `iat` is absent.
    #[error("the token has no {0}")]
    NoTime(&'static str),
    /// `exp` is past.
    #[error("the token has ended: ask for a new one right before it is needed")]
    Expired,
    /// `nbf` is still to come.
    #[error("the token is not valid yet: is a clock wrong?")]
    NotYet,
    /// `iat` is still to come.
    #[error("the token was issued in the future: is a clock wrong?")]
    IssuedInFuture,
    /// It lives longer than the operator allows, from `iat` or from now.
    #[error("the token lives longer than is accepted here: ask for a shorter one")]
    Lifetime,
    /// It was issued longer ago than the operator allows.
    #[error("the token was issued too long ago: ask for a new one right before it is needed")]
    Age,
    /// `jti` is absent, no text, empty or too long, and this provider gives one.
    #[error("the token has no usable jti, so it could be used twice")]
    TokenId,
    /// The owner of the repository is none of those that are configured.
    #[error("jobs of this owner are not accepted here")]
    Owner,
    /// A claim that the map needs is absent.
    #[error("the token has no claim {0}")]
    ClaimMissing(String),
    /// A claim has another JSON type than the map says.
    #[error("the token's claim {0} is not of the expected type")]
    ClaimType(String),
    /// A claim has a value that the map does not know or refuses.
    #[error("the token's claim {0} has a value that is not accepted")]
    ClaimValue(String),
    /// A text that was made of claims does not fit a record: too long, empty, or with control characters.
    #[error("the token's claims make no usable {0}")]
    Text(&'static str),
}

impl Refused {
    /// A stable word for each.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::Malformed => "malformed",
            Self::Duplicate => "duplicate-member",
            Self::Header => "header",
            Self::Algorithm => "algorithm",
            Self::NoKeyId => "no-kid",
            Self::UnknownKey => "unknown-kid",
            Self::WrongKey => "wrong-key",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::TimeType(_) => "time-type",
            Self::NoTime(_) => "no-time",
            Self::Expired => "expired",
            Self::NotYet => "not-yet",
            Self::IssuedInFuture => "issued-in-future",
            Self::Lifetime => "lifetime",
            Self::Age => "age",
            Self::TokenId => "jti",
            Self::Owner => "owner",
            Self::ClaimMissing(_) => "claim-missing",
            Self::ClaimType(_) => "claim-type",
            Self::ClaimValue(_) => "claim-value",
            Self::Text(_) => "text",
        }
    }
}
