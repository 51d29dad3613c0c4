//! An OIDC issuer for tests. It makes tokens that no honest issuer would make, from what data files say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "for tests only"
)]

mod case;
mod key;
mod mint;
mod server;

pub use case::{By, Case, Keys, Row, claims};
pub use key::{Kind, SigningKey};
pub use mint::{Signer, compact};
pub use server::{Answer, DISCOVERY, IssuerServer, KEYS};
