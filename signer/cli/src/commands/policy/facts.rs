//! Facts, cases and decisions from files.

use crate::{exit::Exit, failure::Failure};
use policy::{Case, Decided, Outcome, PolicySet};
use record::{Evidence, Leaf};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

/// Largest file of facts or cases in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// One JSON document of this kind; `-` is standard input.
pub(super) fn read<T: DeserializeOwned>(file: &Path, what: &str) -> Result<T, Failure> {
    parse(&text(file)?, file, what)
}

fn parse<T: DeserializeOwned>(text: &str, file: &Path, what: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::new(Exit::Usage, format!("{} is not {what}", file.display()))
            .why(error)
            .next("chancery policy explain --case NAME --record FILE writes an example")
    })
}

/// A decision that was written down: as `explain --record` writes it, or as the log has it, in a line of `chancery log show -o json`.
pub(super) fn decision(file: &Path, set: &PolicySet) -> Result<Decided, Failure> {
    let text = text(file)?;
    let Ok(line) = serde_json::from_str::<Line>(&text) else {
        return parse(&text, file, "a decision with its facts");
    };
    let no_decision = |why: String| {
        Failure::new(Exit::Usage, format!("{} is no entry of a decision", file.display()))
            .why(why)
            .next("chancery log search --request ID lists the entries of a request")
    };
    match Leaf::decode(line.leaf.get().as_bytes()) {
        Ok(Leaf::Allowance(said)) => {
            let Evidence { facts, engine } = said.evidence;
            let facts = serde_json::from_value(facts).map_err(|e| no_decision(e.to_string()))?;
            Ok(Decided { facts, outcome: Outcome::Allowed, rules: said.rules, stamp: said.policy, engine })
        }
        Ok(Leaf::Denial(said)) => {
            let missing = || no_decision("it has no facts: this was not refused by policy".into());
            let Evidence { facts, engine } = said.evidence.ok_or_else(missing)?;
            let facts = serde_json::from_value(facts).map_err(|e| no_decision(e.to_string()))?;
            // The log does not tell what waits from what is denied: both are refused.
            let outcome = match set.decide(&facts).outcome {
                Outcome::Waiting => Outcome::Waiting,
                Outcome::Denied | Outcome::Allowed => Outcome::Denied,
            };
            let mut rules: Vec<String> = said.reasons.into_iter().map(|reason| reason.rule).collect();
            rules.sort();
            Ok(Decided { facts, outcome, rules, stamp: said.policy, engine })
        }
        Ok(other) => Err(no_decision(format!("it is of kind {}", other.kind()))),
        Err(e) => Err(no_decision(e.to_string())),
    }
}

/// What of a line of `chancery log show -o json` is read here.
#[derive(Deserialize)]
struct Line {
    leaf: Box<RawValue>,
}

/// The cases of a file in the form of `tests.toml`.
pub(super) fn cases(file: &Path) -> Result<Vec<Case>, Failure> {
    Case::parse_all(&text(file)?).map_err(|error| {
        Failure::new(Exit::State, format!("{} is no file of cases", file.display()))
            .why(api::chain_text(&error))
    })
}

/// The same, or one decision that was written down, if the file's name ends in `.json`.
pub(super) fn cases_or_decisions(file: &Path) -> Result<Vec<Case>, Failure> {
    if file.extension().is_none_or(|extension| extension != "json") {
        return cases(file);
    }
    let Decided { facts, outcome, rules, .. } = read(file, "a decision with its facts")?;
    Ok(vec![Case { name: file.display().to_string(), facts, expect: outcome, rules }])
}

/// Writes canonical JSON to a file that is not there yet.
pub(super) fn write_new<T: Serialize>(file: &Path, value: &T) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(Exit::State, format!("cannot write {}", file.display()))
            .why(why)
            .next("name a file that does not exist")
    };
    let mut bytes = record::canonical::encode(value).map_err(|e| failed(&e))?;
    bytes.push(b'\n');
    let mut new = fs::OpenOptions::new().write(true).create_new(true).open(file).map_err(|e| failed(&e))?;
    new.write_all(&bytes).map_err(|e| failed(&e))
}

fn text(file: &Path) -> Result<String, Failure> {
    let failed =
        |error: io::Error| Failure::new(Exit::NotFound, format!("cannot read {}", file.display())).why(error);
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin().take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    } else {
        File::open(file).map_err(failed)?.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    }
    if text.len() as u64 > MAX_FILE {
        return Err(Failure::new(Exit::Usage, format!("{} has more than {MAX_FILE} bytes", file.display())));
    }
    Ok(text)
}
