//! The decision: may this caller sign this digest under this tag here; may it make this repository's collection.
//!
//! The operator writes data (`repositories.toml`) and, if wanted, Cedar policies; both are merged with guardrails that
//! are part of the program and that nothing can lift. See `example/repositories.toml` and the Cedar schema beside the
//! guardrails in `src/cedar`.
//!
//! Promises: default deny; whatever cannot be evaluated denies; a denial says everything that is missing, with a remedy
//! for each; the same facts under the same [`record::PolicyStamp`] always give the same decision.
//! It does not know: networks, tokens, the log, the clock. The caller establishes every fact.

mod decide;
mod facts;
mod message;
mod nearest;
mod nesting;
mod repositories;
mod request;
mod rules;
mod sources;
mod validity;

pub use decide::{PolicyError, PolicySet};
pub use facts::{Ask, Caller, Decision, Facts, Manifest};
pub use message::MAX_MESSAGE;
pub use nesting::{MAX_BRACKETS, MAX_OPERATORS, MAX_POLICY_BYTES, TooComplex};
pub use repositories::{
    DataError, MAX_MEDIA_TYPES, MAX_MEMBERS, MAX_REPOSITORIES, MAX_SIGNERS, MAX_TEAMS, RepositoryRules,
};
pub use rules::{MAX_OPERATOR_POLICIES, RuleError};
pub use sources::{MAX_DATA_BYTES, MAX_POLICY_FILE_BYTES, MAX_POLICY_FILES, SourceError, Sources};
pub use validity::{Validity, ValidityError};
