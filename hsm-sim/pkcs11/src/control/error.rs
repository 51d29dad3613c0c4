//! What makes the control folder unusable. Every call fails then: a fault that silently stays away would pass a test.

use std::{io, path::PathBuf};

/// A control folder that cannot be obeyed. No call passes until it is mended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("{}: the control folder's path must be absolute; set HSM_SIM_CONTROL so", path.display())]
    Relative { path: PathBuf },
    #[error("{}: cannot {action}; is the control folder still there?", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: more than {limit} bytes; remove rules, or begin with an empty control folder", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{}: more than {limit} rules; remove those that are over", path.display())]
    TooManyRules { path: PathBuf, limit: usize },
    #[error("{}: line {line} is no rule; mend it, replacing the file in one step", path.display())]
    Rule { path: PathBuf, line: usize, source: RuleError },
    #[error("{}: not what is expected there; mend it, replacing the file in one step", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{}: {why}; mend it, replacing the file in one step", path.display())]
    Token { path: PathBuf, why: &'static str },
    #[error("rule {id}: held the call for {limit_s} s; release hanging calls sooner")]
    HungTooLong { id: String, limit_s: u64 },
    #[error("a call panicked while it held the control folder")]
    Poisoned,
}

impl ControlError {
    /// For `map_err`: what was tried on which path.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

/// A line of the rules file that means nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuleError {
    #[error("it cannot be read")]
    Json(#[from] serde_json::Error),
    #[error("the id {id:?} stands twice; ids name the counters, so each rule has its own")]
    Twice { id: String },
    #[error("{name:?} is no function that takes faults; write its PKCS#11 2.40 name, or \"*\"")]
    Function { name: String },
    #[error("{name:?} is no return value; write a CKR_ name, or a number")]
    Return { name: String },
    #[error("{key:?} is no key; write the CKA_ID in lower-case hex")]
    Key { key: String },
    #[error("a key is known only to C_SignInit, C_Sign, C_SignUpdate and C_SignFinal, not to {name}")]
    NoKey { name: String },
    #[error(
        "only C_Sign and C_SignFinal make a signature that could be altered, and only \"when\": \"after\""
    )]
    NoSignature,
    #[error(
        "\"poison\" keeps a signing operation active: it goes with \"return\", where there is one to keep"
    )]
    Poison,
    #[error("\"length_query\" is for C_Sign and C_SignFinal with \"when\": \"before\" only")]
    LengthQuery,
    #[error("\"drop_login\" needs a function that has a session, and \"when\": \"before\"")]
    DropLogin,
    #[error("{member} must be {range}")]
    Range { member: &'static str, range: &'static str },
}
