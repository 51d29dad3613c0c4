//! The grammar of `chancery policy`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Load a policy folder as the daemon would, its own tests included, and show what should be looked at again
    Check(FolderArgs),
    /// Run the tests of a policy folder and of further files, and show how each ends
    Test(PolicyTestArgs),
    /// Show which cases two policy folders decide differently
    Diff(PolicyDiffArgs),
    /// Decide for given facts, with the word of every rule
    ///
    /// Ends with 0 if it is allowed, with 7 if something is missing that can still come, and with 3 if it is denied.
    Explain(PolicyExplainArgs),
    /// Decide again what was decided, and compare
    ///
    /// Ends with 10 if the folder is not the policy that decided, or decides otherwise.
    Replay(PolicyReplayArgs),
    /// Show what loads and should be looked at again: look-alike names, quorums of one, what nothing refers to, what is over
    Lint(FolderArgs),
}

#[derive(Debug, Args)]
pub(crate) struct FolderArgs {
    /// The policy folder: repositories.toml, *.cedar files, tests.toml
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyTestArgs {
    #[command(flatten)]
    pub(crate) policy: FolderArgs,
    /// A file of cases in the form of tests.toml; may be given more than once
    #[arg(long = "cases", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyDiffArgs {
    /// The policy folder of today
    pub(crate) old: PathBuf,
    /// The policy folder to come
    pub(crate) new: PathBuf,
    /// Cases besides those of both folders, or decisions that were written down (*.json); may be given more than once
    #[arg(long = "cases", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// End with 6 if anything is decided differently
    #[arg(long)]
    pub(crate) same: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyExplainArgs {
    #[command(flatten)]
    pub(crate) policy: FolderArgs,
    /// The facts as JSON; - reads standard input
    #[arg(long, value_name = "FILE", required_unless_present = "case")]
    pub(crate) facts: Option<PathBuf>,
    /// The facts of this case of the folder's tests.toml
    #[arg(long, value_name = "NAME", conflicts_with = "facts")]
    pub(crate) case: Option<String>,
    /// Also show the rules that have nothing to say
    #[arg(long)]
    pub(crate) all: bool,
    /// Write the decision with its facts to this new file, for replay and diff
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyReplayArgs {
    #[command(flatten)]
    pub(crate) policy: FolderArgs,
    /// The decision that was written down: by explain --record, or in the log (a line of chancery log show -o json); - reads
    /// standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) decision: PathBuf,
}
