//! Enrolment of a token: its module, label and serial number as the `[token]` table of a keeper's configuration.
//!
//! It promises: no PIN is tried; the table is one that a keeper can start with, as far as that shows without a login;
//! of a configuration only the lines that name the token and its PIN change.

use super::charter::string;
use super::edit::Editing;
use super::report::{Document, print};
use super::token::{About, refuse_pin};
use super::{Format, TokenArgs};
use crate::config::{Config, PinSource, TokenConfig};
use crate::exit::Fatal;
use crate::token::Pin;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Members of the table that this command writes, for either kind of token.
const OWN: [&str; 7] = ["module", "label", "serial", "piv", "pin_file", "pin_credential", "pin_fd"];

/// Where the keeper shall have the PIN from.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub struct PinArgs {
    /// File with the user's PIN (mode 0600).
    #[arg(long, value_name = "FILE")]
    pin_file: Option<PathBuf>,
    /// Credential of the keeper's systemd unit.
    #[arg(long, value_name = "NAME")]
    pin_credential: Option<String>,
    /// Descriptor that the keeper is started with.
    #[arg(long, value_name = "NUMBER")]
    pin_fd: Option<u32>,
}

/// A token that is pinned.
#[derive(Serialize)]
pub(super) struct Enrolled<T> {
    pub(super) token: T,
    /// The `[token]` table.
    pub(super) table: String,
    /// The configuration that has it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) written: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) warning: Option<String>,
}

impl<T: Serialize> Document for Enrolled<T> {
    const SCHEMA: &'static str = "chancery.keeper.enrolled/v1";

    fn text(&self) -> String {
        let warning = self.warning.as_ref().map_or(String::new(), |w| format!("\nwarning: {w}"));
        match &self.written {
            None => format!("{}{warning}", self.table),
            Some(file) => format!(
                "{}{warning}\n\n{file} has it now. No PIN was tried: chancery-keeper doctor --config {file} --login does that",
                self.table
            ),
        }
    }
}

/// Prints the `[token]` table for a token, and writes it into the configuration `write_to`, if that is given.
pub fn run(
    token: &TokenArgs,
    pin: &PinArgs,
    write_to: Option<&Path>,
    format: Option<Format>,
) -> Result<(), Fatal> {
    let pin = pin.source(&token.token_label)?;
    let present = token.find()?;
    let warning = refuse_pin(&present.info, &token.token_label)?;
    let about = About::of(&present.info);
    let module = absolute(&token.module)?;
    let lines = lines(&module, &about, &pin);
    if let Some(file) = write_to {
        let wanted = Wanted { module: &module, about: &about, pin: &pin };
        write(file, &lines, |token| wanted.is(token))?;
    }
    let table = format!("[token]\n{lines}");
    let written = write_to.map(|file| file.display().to_string());
    print(format, &Enrolled { token: about, table, written, warning })
}

impl PinArgs {
    /// A file is read, to find out whether the keeper could; what it holds is forgotten.
    pub(super) fn source(&self, label: &str) -> Result<PinSource, Fatal> {
        match (&self.pin_file, &self.pin_credential, self.pin_fd) {
            (Some(file), None, None) => {
                Pin::from_file(file)?;
                Ok(PinSource::File(absolute(file)?))
            }
            (None, Some(name), None) => Ok(PinSource::Credential(name.clone())),
            (None, None, Some(fd)) => Ok(PinSource::Fd(fd)),
            _ => Err(Fatal::Pin { token: label.to_owned(), why: "say where it comes from, once".into() }),
        }
    }
}

pub(super) fn absolute(path: &Path) -> Result<PathBuf, Fatal> {
    std::path::absolute(path).map_err(|e| Fatal::Config { file: path.to_owned(), why: e.to_string() })
}

fn lines(module: &Path, about: &About, pin: &PinSource) -> String {
    format!(
        "module = {}\nlabel = {}\nserial = {}\n{}",
        string(&module.to_string_lossy()),
        string(&about.label),
        string(&about.serial),
        pin_line(pin)
    )
}

pub(super) fn pin_line(pin: &PinSource) -> String {
    match pin {
        PinSource::File(file) => format!("pin_file = {}\n", string(&file.to_string_lossy())),
        PinSource::Credential(name) => format!("pin_credential = {}\n", string(name)),
        PinSource::Fd(fd) => format!("pin_fd = {fd}\n"),
    }
}

/// What the configuration must say afterwards.
struct Wanted<'a> {
    module: &'a Path,
    about: &'a About,
    pin: &'a PinSource,
}

impl Wanted<'_> {
    fn is(&self, token: &TokenConfig) -> bool {
        let TokenConfig::Pkcs11(token) = token else { return false };
        token.module == self.module
            && token.label == self.about.label
            && token.serial.as_ref() == Some(&self.about.serial)
            && token.pin == *self.pin
    }
}

/// Puts the lines into the configuration's table, if its token then is what `is` says.
pub(super) fn write(file: &Path, lines: &str, is: impl Fn(&TokenConfig) -> bool) -> Result<(), Fatal> {
    let editing = Editing::open(file)?;
    let text = with_table(editing.text(), lines);
    // A file that could not be parsed before is not made better here: its own error is the one to show.
    let config = Config::parse(file, &text)?;
    if !is(config.token()) {
        let why =
            format!("is written in a way that this command cannot change: put in by hand\n[token]\n{lines}");
        return Err(Fatal::Config { file: file.to_owned(), why });
    }
    editing.replace(&text)
}

/// The text with these lines in its `[token]` table, in place of those with the same members.
fn with_table(text: &str, lines: &str) -> String {
    let header = |line: &str| line.split('#').next().unwrap_or_default().trim() == "[token]";
    let mut changed = String::new();
    let (mut inside, mut found) = (false, false);
    for line in text.lines() {
        inside = header(line) || (inside && !line.trim_start().starts_with('['));
        let member = line.split('=').next().unwrap_or_default().trim();
        if inside && OWN.contains(&member) {
            continue;
        }
        changed.push_str(line);
        changed.push('\n');
        if header(line) {
            changed.push_str(lines);
            found = true;
        }
    }
    if !found {
        changed.push_str("\n[token]\n");
        changed.push_str(lines);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_changes_in_its_own_members_only_and_appears_where_there_is_none() {
        let text = "role = 'sign' # x\n[token] # the old one\nmodule = 'm'\n# many\nsessions = 2\nserial = 's'\n[key]\nlabel = 'k'\n";
        assert_eq!(
            with_table(text, "module = \"n\"\n"),
            "role = 'sign' # x\n[token] # the old one\nmodule = \"n\"\n# many\nsessions = 2\n[key]\nlabel = 'k'\n"
        );
        assert_eq!(with_table("a = 1", "module = \"n\"\n"), "a = 1\n\n[token]\nmodule = \"n\"\n");
    }
}
