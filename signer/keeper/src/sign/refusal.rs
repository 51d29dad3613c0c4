//! The words with which a signing keeper refuses, and what each costs.

use record::FailureCode;
use record::wire::Refusal;

/// Which check refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// K1: the log does not hold these bytes at this index; also a note that is not the log's.
    Proof,
    /// K2: not an intent, or not one for this keeper and a key of its charter.
    Intent,
    /// K2: for a key that is retired.
    Retired,
    /// K3: too old, too new, or the keeper's clock went back; also an item that waited too long for the token.
    Stale,
    /// K4: the index was used before.
    Used,
    /// K4: another open item asks for the same signature.
    Duplicate,
    /// K5: a repository or key outside the charter.
    Scope,
    /// K5: the key's signatures for this hour are used up.
    Rate,
    /// K6: too much that is not settled; also a leaf that does not settle its item.
    Unsettled,
    /// No index more can be remembered.
    Full,
    /// K7: the bytes that the keeper builds are not those that the intent names.
    Bytes,
    /// K8: a version out of order.
    Chain,
    /// K8: an expiry in the past or beyond the charter.
    Validity,
    /// K8: a child file that is not this collection's newest.
    Child,
    /// K9: the people that the key's rule asks for have not approved; also a roster that does not follow.
    People,
    /// A frame beyond the protocol's limits, or out of order.
    Frame,
}

impl Code {
    #[cfg(test)]
    const ALL: [Self; 16] = [
        Self::Proof,
        Self::Intent,
        Self::Retired,
        Self::Stale,
        Self::Used,
        Self::Duplicate,
        Self::Scope,
        Self::Rate,
        Self::Unsettled,
        Self::Full,
        Self::Bytes,
        Self::Chain,
        Self::Validity,
        Self::Child,
        Self::People,
        Self::Frame,
    ];

    /// Whether an item refused with this code has spent its index. The others say nothing about the index: what was
    /// shown is not proven to be the log's, is not this keeper's, or may be asked again when there is room.
    pub(super) fn spends(self) -> bool {
        !matches!(self, Self::Proof | Self::Intent | Self::Unsettled | Self::Full | Self::Frame)
    }

    /// The word on the wire and in the log.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Proof => "proof",
            Self::Intent => "intent",
            Self::Retired => "retired",
            Self::Stale => "stale",
            Self::Used => "used",
            Self::Duplicate => "duplicate",
            Self::Scope => "scope",
            Self::Rate => "rate",
            Self::Unsettled => "unsettled",
            Self::Full => "full",
            Self::Bytes => "bytes",
            Self::Chain => "chain",
            Self::Validity => "validity",
            Self::Child => "child",
            Self::People => "people",
            Self::Frame => "frame",
        }
    }

    /// The word as a value of the wire.
    pub(super) fn failure(self) -> FailureCode {
        crate::code(self.word())
    }
}

/// A refusal of one item.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Which check.
    pub(super) code: Code,
    /// One sentence for the operator.
    pub(super) detail: String,
}

impl Refused {
    /// A refusal with its sentence.
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// The refusal of this index, as it is answered.
    pub(super) fn of(self, index: u64) -> Refusal {
        Refusal { index, code: self.code.failure(), detail: self.detail }
    }
}

/// An error with all its sources in one line, since `Display` does not print them.
pub(super) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_a_word_of_the_log() {
        assert!(Code::ALL.into_iter().all(|code| code.failure().as_str() == code.word()));
    }
}
