//! What is known of an image: its manifest, its children, and what others have signed about it.

use super::Fact;
use record::Time;
use serde::{Deserialize, Serialize};

/// What the registry says about a digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Manifest {
    /// It returned bytes that hash to the digest.
    Present {
        /// The manifest's media type.
        media_type: String,
        /// Its size in bytes.
        size: u64,
    },
    /// It says that there is no such manifest.
    Absent,
    /// It could not be asked, or gave an answer that says neither.
    Unreachable,
}

/// The manifests that an index names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Children {
    /// How many the index names.
    pub named: u32,
    /// How many of them the registry does not have, or has with other bytes.
    pub missing: u32,
}

/// What others have signed about an image. A statement counts only if its signature was verified with a configured key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attestations {
    /// How it was built (SLSA provenance).
    pub provenance: Fact<Provenance>,
    /// When the newest bill of materials was made.
    pub sbom: Fact<Time>,
    /// The newest scan for vulnerabilities.
    pub scan: Fact<Scan>,
}

impl Attestations {
    /// Nobody has looked for any.
    pub fn not_looked_at() -> Self {
        Self { provenance: Fact::NotLookedAt, sbom: Fact::NotLookedAt, scan: Fact::NotLookedAt }
    }
}

/// SLSA provenance: an in-toto statement in a DSSE envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Whether its signature verifies with a configured key.
    pub verified: bool,
    /// Whether one of its subjects is the digest that shall be signed.
    pub subject_equal: bool,
    /// Who built, `runDetails.builder.id`.
    pub builder: String,
    /// What was built, as `github.com/acme/api`.
    pub source: String,
    /// The level of the SLSA build track that the configuration grants this builder.
    pub slsa_level: u8,
}

/// A scan for vulnerabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scan {
    /// Whether it found nothing that its rules do not accept.
    pub passed: bool,
    /// When it was made.
    pub at: Time,
}
