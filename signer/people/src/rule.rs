//! The rule of one key: how many of which groups must approve, and by which methods.

use crate::name::Name;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most groups in one rule.
pub const MAX_NEEDS: usize = 8;
/// Most people of one group that a rule can ask for.
pub const MAX_COUNT: u32 = 16;

/// Who must approve: all needs, by different people. Never empty, and no need is of nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule(Vec<Need>);

/// Some people of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// The group in the roster.
    pub group: Name,
    /// How many of its members, 1 to [`MAX_COUNT`].
    pub count: u32,
    /// By which methods; not empty. PIV alone unless said otherwise.
    #[serde(default = "by_piv")]
    pub methods: Vec<MethodKind>,
}

fn by_piv() -> Vec<MethodKind> {
    vec![MethodKind::Piv]
}

/// How an approval was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MethodKind {
    /// By a PIV card, at a program of the person's own.
    Piv,
    /// By WebAuthn, in a page that the daemon serves and could falsify.
    Webauthn,
}

impl fmt::Display for MethodKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Piv => "piv",
            Self::Webauthn => "webauthn",
        })
    }
}

/// Why there is no such rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Without needs, or with too many.
    #[error(
        "a rule names 1 to {MAX_NEEDS} groups, this one names {0}: say \"none\" where nobody is to approve"
    )]
    Needs(usize),
    /// A group twice.
    #[error("group {0} stands in the rule twice")]
    Twice(Name),
    /// A count of zero, or too high.
    #[error(
        "count of group {group} is 1 to {MAX_COUNT}, not {count}: say \"none\" in place of the rule where nobody is to approve"
    )]
    Count {
        /// The group.
        group: Name,
        /// The count.
        count: u32,
    },
    /// No method, or one twice.
    #[error("methods of group {0} are \"piv\", \"webauthn\" or both, each once")]
    Methods(Name),
}

impl Rule {
    /// A rule of these needs.
    pub fn new(needs: Vec<Need>) -> Result<Self, RuleError> {
        if needs.is_empty() || needs.len() > MAX_NEEDS {
            return Err(RuleError::Needs(needs.len()));
        }
        for (at, need) in needs.iter().enumerate() {
            if needs.iter().take(at).any(|earlier| earlier.group == need.group) {
                return Err(RuleError::Twice(need.group.clone()));
            }
            if !(1..=MAX_COUNT).contains(&need.count) {
                return Err(RuleError::Count { group: need.group.clone(), count: need.count });
            }
            let mut methods = need.methods.clone();
            methods.sort_unstable();
            methods.dedup();
            if methods.is_empty() || methods.len() != need.methods.len() {
                return Err(RuleError::Methods(need.group.clone()));
            }
        }
        Ok(Self(needs))
    }

    /// Its needs.
    pub fn needs(&self) -> &[Need] {
        &self.0
    }
}

/// `2 of release by piv, 1 of security by piv or webauthn`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Need { group, count, methods }) in self.0.iter().enumerate() {
            let methods: Vec<String> = methods.iter().map(ToString::to_string).collect();
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{count} of {group} by {}", methods.join(" or "))?;
        }
        Ok(())
    }
}
