//! A CI job as every provider's token is brought to: one record, by which policy decides and which the log keeps.
//!
//! Promises: every text has a limit and no control characters, so a record fits into a leaf and into one line. It does
//! not know tokens, issuers' keys or claim names: those are read where tokens are verified.

use crate::GrammarError;
use serde::{Deserialize, Serialize};

/// Longest text of one member, in bytes: GitHub's longest reference to a workflow stays below a third of it.
pub const MAX_CI_TEXT: usize = 1024;

/// Who a CI job is, by what its provider has signed. Matched by immutable ids, never by a token's `sub`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ci {
    /// The kind of provider whose claims were read: `github`, `gitlab`, `buildkite`, `kubernetes`, `circleci`, `jenkins`.
    pub provider: CiText,
    /// The operator's name for the issuer; part of the principal.
    pub issuer: CiText,
    /// The source repository as people write it, such as `github.com/acme/api`. It can be renamed, and its old name taken.
    pub repository: CiText,
    /// The id that the provider never gives again: of the repository, project, pipeline or service account.
    pub repository_id: CiText,
    /// The id of the repository's owner, where the provider tells one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<CiText>,
    /// The git reference that runs, in full: `refs/heads/main`, `refs/tags/v1`. Absent where jobs have none.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<CiText>,
    /// Whether the provider says that not everybody who can push can move that reference.
    pub ref_protected: bool,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CiText>,
    /// The workflow file that really runs, without its reference: `acme/ci/.github/workflows/release.yml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<CiText>,
    /// The reference at which that file was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_ref: Option<CiText>,
    /// What started the job, in the provider's word: `push`, `merge_request_event`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<CiText>,
    /// The deployment environment whose protection the job has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<CiText>,
    /// Whether the provider's own machine runs the job.
    pub hosted_runner: bool,
    /// Whether the job belongs to a fork or to a merge request, so that strangers may have written what runs.
    pub fork_or_merge_request: bool,
    /// The run, to be found again: an id, or a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<CiText>,
}

/// A text of a [`Ci`]: 1 to [`MAX_CI_TEXT`] bytes of UTF-8 without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CiText(String);
crate::string_newtype!(CiText);

impl CiText {
    /// Takes a text as it stands.
    pub fn parse(text: &str) -> Result<Self, GrammarError> {
        if (1..=MAX_CI_TEXT).contains(&text.len()) && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(GrammarError::new("text of a CI job", text, "1 to 1024 bytes without control characters"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical;

    const JOB: &str = concat!(
        r#"{"commit":"c0ffee","event":"push","forkOrMergeRequest":false,"hostedRunner":true,"issuer":"github","#,
        r#""provider":"github","ref":"refs/heads/main","refProtected":true,"repository":"github.com/acme/api","repositoryId":"42"}"#
    );

    #[test]
    fn a_record_has_one_spelling_and_no_room_for_anything_else() {
        let job: Ci = canonical::decode(JOB.as_bytes()).unwrap();
        assert_eq!((job.repository_id.as_str(), job.ref_protected, job.owner_id), ("42", true, None));
        let more = JOB.replace(r#""provider""#, r#""admin":true,"provider""#);
        let lie = JOB.replace(r#""refProtected":true"#, r#""refProtected":"true""#);
        for bad in [more, lie, JOB.replace("\"42\"", "\"\""), JOB.replace("c0ffee", "c0\\nffee")] {
            assert!(canonical::decode::<Ci>(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(
            CiText::parse(&"x".repeat(MAX_CI_TEXT)).is_ok()
                && CiText::parse(&"x".repeat(MAX_CI_TEXT + 1)).is_err()
        );
    }
}
