//! The decision: may this caller sign this digest under this tag here; may it make this repository's collection.
//!
//! The operator writes data (`repositories.toml`) and, if wanted, Cedar policies and tests (`tests.toml`); data and policies
//! are merged with guardrails that are part of the program and that nothing can lift. See `example/repositories.toml` and the
//! Cedar schema beside the guardrails in `src/cedar`.
//!
//! ```text
//! Facts + entry of repositories.toml -> Standing (bindings, quorums, ages) -> Cedar question -> rules -> Decision
//! ```
//! Promises: default deny; whatever cannot be evaluated denies; a denial says everything that is missing, with a remedy
//! for each; the same facts under the same [`record::PolicyStamp`] always give the same decision.
//! It does not know: networks, tokens, the log, the clock. The caller establishes every fact.

mod attributes;
mod cases;
mod data;
mod decide;
mod decision;
mod explain;
mod facts;
mod glob;
mod lint;
mod message;
mod nearest;
mod nesting;
mod replay;
mod request;
mod rules;
mod sources;
mod standing;

pub use cases::{Case, CaseError, CaseResult, MAX_CASES};
pub use data::{
    DataError, Exemption, Freeze, Group, KeyRules, MAX_FEW, MAX_MEDIA_TYPES, MAX_MEMBERS, MAX_REPOSITORIES,
    MAX_TEAMS, MAX_WORKLOADS, OfficeHours, Quorum, Rate, RepositoryRules, Require, Validity, ValidityError,
    WorkloadRules,
};
pub use decide::{PolicyError, PolicySet};
pub use decision::{Decision, Outcome};
pub use explain::{Explanation, Said, Verdict};
pub use facts::{
    Approval, Ask, Attestations, BreakGlass, Caller, Children, Fact, Facts, Justification,
    JustificationError, MAX_APPROVALS, MAX_JUSTIFICATION, Machine, Manifest, Method, Person, Provenance,
    Scan, Signed, Signing, SigningKey, Token, Workload,
};
pub use glob::Glob;
pub use lint::Warning;
pub use message::MAX_MESSAGE;
pub use nesting::{MAX_BRACKETS, MAX_OPERATORS, MAX_POLICY_BYTES, TooComplex};
pub use replay::{Decided, Replayed};
pub use rules::{MAX_OPERATOR_POLICIES, RuleError};
pub use sources::{
    MAX_DATA_BYTES, MAX_POLICY_FILE_BYTES, MAX_POLICY_FILES, MAX_TESTS_BYTES, SourceError, Sources,
};
