//! What a command says when it ends badly: what happened, why, and what to do next.

use crate::exit::Exit;
use api::{ClientError, Problem, chain_text};
use record::Reason;
use serde::Serialize;
use std::fmt;

/// The end of a command, ready to be shown. An [`Exit::Ok`] here means that there is nothing to say: the reader of
/// standard output went away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    #[serde(skip)]
    pub(crate) exit: Exit,
    pub(crate) code: String,
    pub(crate) what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            code: exit.word().to_owned(),
            what: what.into(),
            why: None,
            reasons: Vec::new(),
            entry: None,
            call: None,
            next: None,
        }
    }

    pub(crate) fn reader_left() -> Self {
        Self::new(Exit::Ok, "")
    }

    #[must_use]
    pub(crate) fn why(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    #[must_use]
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// A problem document in its own words; `exit` is what it means to the command at hand.
    pub(crate) fn problem(exit: Exit, problem: &Problem) -> Self {
        Self {
            code: problem.code.clone(),
            why: None,
            reasons: problem.reasons.clone(),
            entry: problem.entry,
            call: problem.call.clone(),
            next: problem_next(exit, problem),
            ..Self::new(exit, problem.to_string())
        }
    }
}

/// The next step that the remedies of a denial leave: the worst reason decides, since all must go away.
fn denial_next(reasons: &[Reason]) -> Option<&'static str> {
    let has = |word: &str| reasons.iter().any(|r| r.remedy == word);
    if has("final") {
        Some("ask for something else: waiting or asking again gives the same answer")
    } else if has("act") {
        Some("do what the rules above say, then ask again")
    } else if !reasons.is_empty() && reasons.iter().all(|r| r.remedy == "retry") {
        Some("ask again later: nothing in the request itself is wrong")
    } else {
        None
    }
}

/// The next step that a problem's kind suggests; its `detail` may say more.
fn problem_next(exit: Exit, problem: &Problem) -> Option<String> {
    let text = match exit {
        Exit::Denied => return denial_next(&problem.reasons).map(str::to_owned),
        Exit::Auth => {
            "check the token (CHANCERY_TOKEN or --token-file); chancery doctor shows what it may do"
        }
        Exit::Temporary => "try again; chancery doctor shows what is missing",
        Exit::Conflict if problem.code.starts_with("idempotency") => {
            "this idempotency key was used for another request: choose a new one"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = Exit::from_code(error.exit_code());
        let next = match &error {
            ClientError::Problem(problem) => return Self::problem(exit, problem),
            ClientError::Connect { .. } | ClientError::Timeout { .. } | ClientError::Broken { .. } => {
                "check --url and that the server runs; chancery doctor tells more"
            }
            ClientError::Tls { .. } => "name the server's CA with --cacert or CHANCERY_CACERT",
            ClientError::CaFile { .. } => "give a PEM file with --cacert or CHANCERY_CACERT",
            ClientError::Url { .. } => "give --url or CHANCERY_URL, such as https://chancery.example.com",
            ClientError::Token => "put the whole token into CHANCERY_TOKEN or the file of --token-file",
            ClientError::Status { .. } => "check that --url names a Chancery server and not a proxy's page",
            ClientError::Shape { .. } => "compare chancery version with the server's",
            ClientError::TooLarge { .. } | ClientError::Random => {
                "report this with the command that shows it"
            }
        };
        let failure = Self::new(exit, error.to_string()).next(next);
        match std::error::Error::source(&error) {
            Some(source) => failure.why(chain_text(source)),
            None => failure,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error[{}]: {}", self.code, self.what)?;
        if let Some(why) = &self.why {
            writeln!(f, "  why    {}", why.replace('\n', "\n         "))?;
        }
        for reason in &self.reasons {
            writeln!(f, "  rule   {}: {} (remedy: {})", reason.rule, reason.message, reason.remedy)?;
        }
        if let Some(entry) = self.entry {
            writeln!(f, "  entry  {entry} of the log holds this decision")?;
        }
        if let Some(call) = &self.call {
            writeln!(f, "  call   {call}")?;
        }
        if let Some(next) = &self.next {
            writeln!(f, "  next   {}", next.replace('\n', "\n         "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> Problem {
        let reason = |rule: &str, remedy: &str, message: &str| Reason {
            rule: rule.into(),
            remedy: remedy.into(),
            message: message.into(),
        };
        Problem {
            kind: "urn:chancery:problem:denied".into(),
            code: "denied".into(),
            title: "Denied".into(),
            status: 403,
            detail: "r.example/a, tag v1".into(),
            call: Some("c-1".into()),
            request: None,
            entry: Some(1907),
            reasons: vec![
                reason("builtin/tag-immutable", "final", "the tag is signed for sha256:9c1f"),
                reason("builtin/frozen", "retry", "the repository is frozen"),
            ],
            retryable: false,
        }
    }

    #[test]
    fn a_denial_shows_what_every_rule_and_what_next() {
        let failure = Failure::from(ClientError::Problem(Box::new(denied())));
        assert_eq!(failure.exit, Exit::Denied);
        assert_eq!(
            failure.to_string(),
            "error[denied]: Denied: r.example/a, tag v1\n\
             \x20 rule   builtin/tag-immutable: the tag is signed for sha256:9c1f (remedy: final)\n\
             \x20 rule   builtin/frozen: the repository is frozen (remedy: retry)\n\
             \x20 entry  1907 of the log holds this decision\n\
             \x20 call   c-1\n\
             \x20 next   ask for something else: waiting or asking again gives the same answer\n"
        );
    }

    #[test]
    fn the_next_step_of_a_denial_is_what_its_worst_reason_leaves() {
        let next = |remedies: &[&str]| {
            let reason = |remedy: &&str| Reason {
                rule: "a".into(),
                remedy: (*remedy).into(),
                message: "push the image".into(),
            };
            denial_next(&remedies.iter().map(reason).collect::<Vec<_>>()).unwrap_or_default()
        };
        assert!(next(&["act"]).contains("do what the rules above say"));
        assert!(next(&["retry", "act"]).contains("do what the rules above say"));
        assert!(next(&["act", "final"]).contains("ask for something else"));
        assert!(next(&["retry"]).contains("later"));
        assert_eq!((next(&[]), next(&["retry", "approval"])), ("", ""), "no advice where none is known");
    }

    #[test]
    fn an_error_of_the_client_says_what_next() {
        let failure = Failure::from(ClientError::Timeout { url: "https://h".into() });
        assert_eq!(failure.exit, Exit::Temporary);
        let text = failure.to_string();
        assert!(text.starts_with("error[temporary]: https://h did not answer in time\n"), "{text}");
        assert!(text.contains("\n  next   "), "{text}");
    }

    #[test]
    fn the_lines_of_a_long_reason_stand_below_each_other() {
        let text = Failure::new(Exit::State, "it ended").why("first\n  next: second").to_string();
        assert_eq!(text, "error[state]: it ended\n  why    first\n           next: second\n");
    }

    #[test]
    fn a_failure_as_json_has_the_same_parts() {
        let json = serde_json::to_value(Failure::from(ClientError::Problem(Box::new(denied())))).unwrap();
        assert_eq!(json["code"], "denied");
        assert_eq!(json["reasons"][1]["rule"], "builtin/frozen");
        assert_eq!(json["entry"], 1907);
    }
}
