//! Where results and progress go: results to standard output, in text or JSON; everything else to standard error.
//!
//! Texts from servers and logs are shown with control characters replaced, so that they cannot drive a terminal.

use crate::{args::Format, exit::Exit, failure::Failure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

/// What a command can give as its result: a JSON object that names its schema. A list is a member of one, so that members
/// can be added.
pub(crate) trait Answer: Serialize {
    /// The `schema` member.
    const SCHEMA: &'static str;
}

/// The two streams of one command.
pub(crate) struct Output {
    format: Format,
    stdout: Box<dyn Write>,
    stderr: Box<dyn Write>,
    is_terminal: bool,
    spinner: Option<ProgressBar>,
    last_progress: String,
}

#[derive(Serialize)]
struct Document<'a, T> {
    schema: &'a str,
    #[serde(flatten)]
    value: &'a T,
}

impl Output {
    /// The process's own streams. On a terminal, progress is one line that changes; elsewhere one line a change.
    pub(crate) fn terminal(format: Format) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let (stdout, stderr) = (Box::new(io::stdout()), Box::new(io::stderr()));
        Self { format, stdout, stderr, is_terminal, spinner: None, last_progress: String::new() }
    }

    /// Streams that a test reads.
    #[cfg(test)]
    pub(crate) fn to(format: Format, stdout: Box<dyn Write>, stderr: Box<dyn Write>) -> Self {
        Self { format, stdout, stderr, is_terminal: false, spinner: None, last_progress: String::new() }
    }

    /// One result: `text` as it is, or `value` as one line of JSON with its `schema`.
    pub(crate) fn result<T: Answer>(&mut self, value: &T, text: &str) -> Result<(), Failure> {
        self.clear();
        let line = match self.format {
            Format::Text => clean(text.trim_end_matches('\n')),
            Format::Json => serde_json::to_string(&Document { schema: T::SCHEMA, value })
                .map_err(|e| Failure::new(Exit::Internal, "cannot write the result as JSON").why(e))?,
        };
        written(writeln!(self.stdout, "{line}").and_then(|()| self.stdout.flush()))
    }

    /// One step of progress; a step that says the same as the last is not repeated.
    pub(crate) fn progress(&mut self, line: &str) {
        let line = clean(line);
        if line == self.last_progress {
            return;
        }
        if self.is_terminal {
            self.spinner.get_or_insert_with(spinner).set_message(line.clone());
        } else {
            self.note(&line);
        }
        self.last_progress = line;
    }

    /// One line that stays on standard error.
    pub(crate) fn note(&mut self, line: &str) {
        self.clear();
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(self.stderr, "{}", clean(line));
    }

    /// The last word of a command that failed.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        if failure.exit == Exit::Ok {
            return;
        }
        let text = match self.format {
            Format::Text => failure.to_string(),
            Format::Json => serde_json::to_string(&Document { schema: "chancery.error/v1", value: failure })
                .unwrap_or_else(|_| failure.to_string()),
        };
        self.note(text.trim_end_matches('\n'));
    }

    fn clear(&mut self) {
        if let Some(bar) = self.spinner.take() {
            bar.finish_and_clear();
        }
        self.last_progress.clear();
    }
}

/// A line to standard error from a thread that has no [`Output`]. Blocks while nobody reads it.
pub(crate) fn note(line: &str) {
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(io::stderr(), "{}", clean(line));
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {wide_msg}");
    let bar = ProgressBar::new_spinner();
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Writing to a reader that went away (`| head`) is no error, but it ends the command.
fn written(end: io::Result<()>) -> Result<(), Failure> {
    match end {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Failure::reader_left()),
        Err(e) => Err(Failure::new(Exit::Internal, "cannot write the result to standard output").why(e)),
    }
}

/// The text with control and direction-changing characters replaced; line feeds stay.
fn clean(text: &str) -> String {
    let hostile = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if hostile(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// The one document that a command writes for this result with `-o json`.
    pub(crate) fn document<T: Answer>(value: &T) -> serde_json::Value {
        let (mut output, out, _) = output(Format::Json);
        output.result(value, "").map_err(|f| f.to_string()).unwrap();
        serde_json::from_str(&out.text()).unwrap()
    }

    #[derive(Clone, Default)]
    pub(crate) struct Shared(Arc<Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Shared {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn output(format: Format) -> (Output, Shared, Shared) {
        let (out, err) = (Shared::default(), Shared::default());
        (Output::to(format, Box::new(out.clone()), Box::new(err.clone())), out, err)
    }

    #[derive(Serialize)]
    struct Thing {
        n: u8,
    }
    impl Answer for Thing {
        const SCHEMA: &'static str = "chancery.thing/v1";
    }

    #[test]
    fn results_go_to_standard_output_and_progress_does_not() {
        let (mut output, out, err) = output(Format::Text);
        output.progress("ready");
        output.progress("ready");
        output.progress("signing");
        output.result(&Thing { n: 1 }, "one\n").unwrap();
        assert_eq!(out.text(), "one\n");
        assert_eq!(err.text(), "ready\nsigning\n");
    }

    #[test]
    fn json_results_name_their_schema() {
        let (mut output, out, _) = output(Format::Json);
        output.result(&Thing { n: 1 }, "one").unwrap();
        assert_eq!(out.text(), "{\"schema\":\"chancery.thing/v1\",\"n\":1}\n");
    }

    #[test]
    fn json_errors_stay_on_standard_error() {
        let (mut output, out, err) = output(Format::Json);
        output.failure(&Failure::new(Exit::Conflict, "held").next("stop the other"));
        assert_eq!(out.text(), "");
        let json: serde_json::Value = serde_json::from_str(&err.text()).unwrap();
        assert_eq!(
            (json["schema"].as_str(), json["code"].as_str()),
            (Some("chancery.error/v1"), Some("conflict"))
        );
    }

    #[test]
    fn texts_from_elsewhere_cannot_drive_a_terminal() {
        let (mut output, out, err) = output(Format::Text);
        output.result(&Thing { n: 1 }, "a\u{1b}[2Jb\u{202e}c").unwrap();
        output.note("x\u{7}y");
        assert_eq!(out.text(), "a\u{fffd}[2Jb\u{fffd}c\n");
        assert_eq!(err.text(), "x\u{fffd}y\n");
    }

    #[test]
    fn a_reader_that_went_away_ends_the_command_quietly() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let err = Shared::default();
        let mut output = Output::to(Format::Text, Box::new(Closed), Box::new(err.clone()));
        let failure = output.result(&Thing { n: 1 }, "one").unwrap_err();
        output.failure(&failure);
        assert_eq!((failure.exit, err.text().as_str()), (Exit::Ok, ""));
    }
}
