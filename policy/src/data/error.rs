//! Why `repositories.toml` is refused.

use super::validity::ValidityError;
use record::GrammarError;

/// Why `repositories.toml` is refused.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Not TOML, or a value of the wrong type; the source names line and column.
    #[error("repositories.toml is not TOML of this file's shape")]
    Toml(#[source] Box<toml::de::Error>),
    /// Another version of the file's shape.
    #[error("repositories.toml: schema = {0} is not known to this program; write schema = 1")]
    Schema(i64),
    /// A key that has no meaning.
    #[error("repositories.toml: {place}: unknown key {key:?}{hint}")]
    UnknownKey {
        /// Where it stands.
        place: String,
        /// What was written.
        key: String,
        /// The nearest known key, if one is near.
        hint: String,
    },
    /// A repository or prefix by no grammar.
    #[error("repositories.toml: no name of a repository, nor a prefix of names that ends in '/'")]
    Name(#[source] GrammarError),
    /// Two entries of one name.
    #[error(
        "repositories.toml: {what} {name:?} stands there twice: which one counts would be a guess; remove one"
    )]
    Duplicate {
        /// `repository`, `team`, `member`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A value outside its grammar.
    #[error("repositories.toml: {place}: {value:?} {why}")]
    Value {
        /// Where it stands.
        place: String,
        /// What was written.
        value: String,
        /// What is accepted.
        why: &'static str,
    },
    /// An entry names something that the file does not define.
    #[error("repositories.toml: {place}: no {what} is named {name:?}{hint}")]
    Undefined {
        /// The entry.
        place: String,
        /// `team`, `workload`, `key`.
        what: &'static str,
        /// What it names.
        name: String,
        /// The nearest one, if one is near.
        hint: String,
    },
    /// A quorum that says nothing, or that nobody can ever reach.
    #[error("repositories.toml: {place}: {what}")]
    Quorum {
        /// Which rule.
        place: String,
        /// What is wrong, and what to write instead.
        what: String,
    },
    /// A bad duration.
    #[error("repositories.toml: repository {repository:?}: {error}")]
    Validity {
        /// The entry.
        repository: String,
        /// What is wrong.
        error: ValidityError,
    },
    /// More than a limit allows.
    #[error("repositories.toml: {place}: {found} {what}, the limit is {limit}")]
    TooMany {
        /// Where.
        place: String,
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
}
