//! Why policies are refused.

use super::MAX_OPERATOR_POLICIES;
use crate::nesting::TooComplex;

/// Why policies are refused.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// Not Cedar; the source says where.
    #[error("{file} is not a set of Cedar policies")]
    Parse {
        /// The file.
        file: String,
        /// What Cedar says.
        source: Box<cedar_policy::ParseErrors>,
    },
    /// The embedded schema does not parse: the program is broken.
    #[error("the built-in Cedar schema is not valid: this build of the program is broken")]
    Schema(#[source] Box<cedar_policy::CedarSchemaError>),
    /// A policy without `@id`.
    #[error(
        "{file}: policy number {number} has no @id(\"...\"): denials and the log name every policy by its id"
    )]
    NoId {
        /// The file.
        file: String,
        /// Which policy of the file, from 1.
        number: usize,
    },
    /// An `@id` outside the grammar, or with our prefix.
    #[error("{file}: @id({id:?}) {why}")]
    Id {
        /// The file.
        file: String,
        /// The id.
        id: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two policies of one id.
    #[error("@id({id:?}) stands in {first} and again in {second}: give each policy its own id")]
    DuplicateId {
        /// The id.
        id: String,
        /// The file of the first.
        first: String,
        /// The file of the second.
        second: String,
    },
    /// An annotation without meaning, or with a value that has none.
    #[error("{file}: policy {id:?}: {what}")]
    Annotation {
        /// The file.
        file: String,
        /// The policy.
        id: String,
        /// What is wrong.
        what: String,
    },
    /// A template: nothing ever links one, so it would never decide.
    #[error(
        "{file}: a policy with ?principal or ?resource is a template and would never decide; write the names out"
    )]
    Template {
        /// The file.
        file: String,
    },
    /// Arithmetic, which can overflow; Cedar skips a policy whose evaluation fails.
    #[error(
        "{file}: policy {id:?} uses the operator '{operator}': a number that overflows makes the policy fail when it is \
         needed; compare with a constant instead"
    )]
    Arithmetic {
        /// The file.
        file: String,
        /// The policy.
        id: String,
        /// The operator.
        operator: &'static str,
    },
    /// The policy names something that does not exist, so that part of it could never match.
    #[error("{file}: policy {id:?} names {entity}, {why}{hint}")]
    Entity {
        /// The file.
        file: String,
        /// The policy.
        id: String,
        /// The name.
        entity: String,
        /// Why it cannot exist.
        why: &'static str,
        /// The nearest name that exists, if one is near.
        hint: String,
    },
    /// The strict validator refuses the policy, or warns of it.
    #[error("{file}: policy {id:?} does not pass Cedar's strict validation: {detail}")]
    Invalid {
        /// The file.
        file: String,
        /// The policy.
        id: String,
        /// What the validator says.
        detail: String,
    },
    /// A policy that is too long or nests too deeply to be walked safely.
    #[error("{file}: {policy} {what}: split it, or move data into repositories.toml")]
    TooComplex {
        /// The file.
        file: String,
        /// Which policy, as well as it is known.
        policy: String,
        /// Which limit it exceeds.
        what: TooComplex,
    },
    /// An exemption from a rule that has none.
    #[error("repositories.toml: exemption from {rule:?}: this {why}{hint}")]
    Exempted {
        /// The rule that it names.
        rule: String,
        /// Why there can be none.
        why: &'static str,
        /// The nearest rule, if one is near.
        hint: String,
    },
    /// Too many policies.
    #[error(
        "{0} operator policies, the limit is {MAX_OPERATOR_POLICIES}: use the options of repositories.toml for data"
    )]
    TooMany(usize),
    /// Cedar's own bookkeeping refuses a policy.
    #[error("{file}: policy {id:?} cannot be added to the set: {detail}")]
    Merge {
        /// The file.
        file: String,
        /// The policy.
        id: String,
        /// What Cedar says.
        detail: String,
    },
}
