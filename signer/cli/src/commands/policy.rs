//! `chancery policy`: the code that decides in the daemon, over a folder and facts from files. Nothing is sent anywhere.

mod facts;
mod shown;

use crate::{
    args::{FolderArgs, PolicyCommand, PolicyDiffArgs, PolicyExplainArgs, PolicyReplayArgs, PolicyTestArgs},
    exit::Exit,
    failure::Failure,
    output::Output,
};
use policy::{Case, Outcome, PolicyError, PolicySet, Sources};
use record::{Clock, SystemClock};
use shown::{Change, Checked, Diff, Explained, Linted, Replay, Tested};
use std::path::Path;

pub(super) fn run(command: &PolicyCommand, output: &mut Output) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::Check(args) => check(args, output),
        PolicyCommand::Test(args) => test(args, output),
        PolicyCommand::Diff(args) => diff(args, output),
        PolicyCommand::Explain(args) => explain(args, output),
        PolicyCommand::Replay(args) => replay(args, output),
        PolicyCommand::Lint(args) => lint(args, output),
    }
}

fn check(args: &FolderArgs, output: &mut Output) -> Result<Exit, Failure> {
    let set = load(&args.folder, PolicySet::load)?;
    let checked = Checked {
        stamp: set.stamp(),
        engine: PolicySet::engine(),
        cases: set.cases().len(),
        warnings: set.lint(SystemClock.now()),
    };
    output.result(&checked, &checked.to_string())?;
    Ok(Exit::Ok)
}

fn lint(args: &FolderArgs, output: &mut Output) -> Result<Exit, Failure> {
    let linted = Linted { warnings: load(&args.folder, PolicySet::load_untested)?.lint(SystemClock.now()) };
    output.result(&linted, &linted.to_string())?;
    Ok(Exit::Ok)
}

fn test(args: &PolicyTestArgs, output: &mut Output) -> Result<Exit, Failure> {
    let set = load(&args.policy.folder, PolicySet::load_untested)?;
    let mut cases = set.cases().to_vec();
    for file in &args.files {
        cases.extend(facts::cases(file)?);
    }
    let results = set.run(&cases);
    let failed = results.iter().filter(|result| !result.passed).count();
    let tested = Tested { passed: results.len() - failed, failed, results };
    output.result(&tested, &tested.to_string())?;
    if failed == 0 {
        return Ok(Exit::Ok);
    }
    Err(Failure::new(Exit::State, format!("{failed} of {} cases fail", tested.results.len())).next(
        "correct the policy, or what the case expects; a daemon does not take a folder whose own tests fail",
    ))
}

fn diff(args: &PolicyDiffArgs, output: &mut Output) -> Result<Exit, Failure> {
    let (old, new) = (load(&args.old, PolicySet::load_untested)?, load(&args.new, PolicySet::load_untested)?);
    let mut cases: Vec<Case> = old.cases().to_vec();
    cases.extend(new.cases().iter().filter(|case| !old.cases().contains(case)).cloned());
    for file in &args.files {
        cases.extend(facts::cases_or_decisions(file)?);
    }
    let change = |case: &Case| {
        let (before, after) = (old.decide(&case.facts), new.decide(&case.facts));
        Change::between(&case.name, &before, &after)
    };
    let changes: Vec<Change> = cases.iter().filter_map(change).collect();
    let diff = Diff { old: old.stamp(), new: new.stamp(), cases: cases.len(), changes };
    output.result(&diff, &diff.to_string())?;
    match diff.changes.len() {
        n if n > 0 && args.same => {
            Err(Failure::new(Exit::Conflict, format!("{n} of {} cases are decided differently", diff.cases)))
        }
        _ => Ok(Exit::Ok),
    }
}

fn explain(args: &PolicyExplainArgs, output: &mut Output) -> Result<Exit, Failure> {
    let set = load(&args.policy.folder, PolicySet::load_untested)?;
    let facts = match (&args.facts, &args.case) {
        (Some(file), _) => facts::read(file, "the facts of a request")?,
        (None, name) => case_of(&set, name.as_deref().unwrap_or_default())?.facts,
    };
    let explained = Explained { explanation: set.explain(&facts), all: args.all };
    output.result(&explained, &explained.to_string())?;
    if let Some(file) = &args.record {
        facts::write_new(file, &set.decide_to_record(facts).1)?;
    }
    Ok(match explained.explanation.decision.outcome {
        Outcome::Allowed => Exit::Ok,
        Outcome::Waiting => Exit::Waiting,
        Outcome::Denied => Exit::Denied,
    })
}

fn case_of(set: &PolicySet, name: &str) -> Result<Case, Failure> {
    set.cases().iter().find(|case| case.name == name).cloned().ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("tests.toml has no case {name:?}"))
            .next("chancery policy test lists the names of all cases")
    })
}

fn replay(args: &PolicyReplayArgs, output: &mut Output) -> Result<Exit, Failure> {
    let set = load(&args.policy.folder, PolicySet::load_untested)?;
    let decided = facts::decision(&args.decision, &set)?;
    let replay = Replay { replayed: set.replay(&decided), decided };
    output.result(&replay, &replay.to_string())?;
    let (same, ours) = (&replay.replayed, replay.replayed.decision.stamp.set);
    if !same.same_policy {
        let what = format!("the policy {} has decided, and this folder is {ours}", replay.decided.stamp.set);
        return Err(Failure::new(Exit::Verification, what)
            .next("give the folder as it was then, from where you keep its history"));
    }
    if !same.same_decision {
        let failure =
            Failure::new(Exit::Verification, "the same policy decides otherwise than was written down");
        return Err(match same.same_engine {
            true => failure.why("the same engine: what was written down is not what was decided"),
            false => failure.why(format!(
                "another engine, {}; this is {}",
                replay.decided.engine,
                PolicySet::engine()
            )),
        });
    }
    Ok(Exit::Ok)
}

fn load(
    folder: &Path,
    how: impl Fn(Sources) -> Result<PolicySet, PolicyError>,
) -> Result<PolicySet, Failure> {
    Sources::read(folder).and_then(how).map_err(|error| {
        Failure::new(Exit::State, format!("the policy in {} is refused", folder.display()))
            .why(api::chain_text(&error))
            .next(
                "a daemon that has a policy keeps it, and one that starts does not start; correct the folder",
            )
    })
}

#[cfg(test)]
pub(super) mod tests;
