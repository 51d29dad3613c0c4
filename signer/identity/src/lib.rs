//! Who a CI job is: a token of a configured OIDC issuer, verified with keys that were fetched by others, and its claims
//! brought to one [`record::Ci`] by a claim map, which is data.
//!
//! Promises: nothing of a token is believed before its signature is verified with a key of the issuer that the operator has
//! configured, under an algorithm that the operator has allowed; a claim that is absent, or of another type than the map
//! says, refuses the token; `sub` is never read. Whatever bytes come in, nothing panics. It does not know networks, clocks,
//! files, or which tokens were used before.
//!
//! Where to start reading: [`Issuer::verify`] is the order of the checks.

mod claims;
mod issuer;
mod json;
mod jwk;
mod map;
mod refused;
mod template;
mod token;
mod verify;

pub use issuer::{Algorithm, ConfigError, Issuer, IssuerConfig, IssuerName, KeySource, MAX_LIFETIME_S};
pub use jwk::{Jwks, JwksError, MAX_JWKS_BYTES};
pub use map::{ClaimMap, MapError, built_in_providers};
pub use refused::Refused;
pub use token::{MAX_TOKEN_BYTES, Token};
pub use verify::{LEEWAY_S, Verified};
