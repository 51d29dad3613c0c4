//! How an operator's command says its result: text for people, JSON for programs, on standard output only.
//!
//! It promises one document a command, and that a JSON document names its schema, to which members are only added.
//! Texts of tokens and files are shown without control characters, so that they cannot drive a terminal.

use crate::exit::Fatal;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people; what is meant where standard output is a terminal.
    Text,
    /// One JSON document with a `schema` member; what is meant everywhere else.
    Json,
}

/// A result that can be shown.
pub(crate) trait Document: Serialize {
    /// Its `schema` member.
    const SCHEMA: &'static str;

    /// The same for people.
    fn text(&self) -> String;
}

#[derive(Serialize)]
struct Named<'a, T> {
    schema: &'a str,
    #[serde(flatten)]
    document: &'a T,
}

/// Writes a result.
pub(crate) fn print<T: Document>(format: Option<Format>, document: &T) -> Result<(), Fatal> {
    let mut out = io::stdout().lock();
    let usual = if out.is_terminal() { Format::Text } else { Format::Json };
    let text = match format.unwrap_or(usual) {
        Format::Text => clean(document.text().trim_end()),
        Format::Json => serde_json::to_string_pretty(&Named { schema: T::SCHEMA, document })
            .map_err(|e| unwritten(e.into()))?,
    };
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(unwritten)
}

fn unwritten(source: io::Error) -> Fatal {
    Fatal::Write { path: "standard output".into(), source }
}

/// The text without what could drive a terminal.
pub(crate) fn clean(text: &str) -> String {
    let harmless = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    text.chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Thing {
        n: u8,
    }

    #[test]
    fn a_document_names_its_schema_beside_its_members() {
        let named = Named { schema: "chancery.thing/v1", document: &Thing { n: 1 } };
        assert_eq!(serde_json::to_string(&named).unwrap(), r#"{"schema":"chancery.thing/v1","n":1}"#);
    }

    #[test]
    fn a_tokens_text_cannot_drive_a_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\nc");
    }
}
