//! `chancery init`, `serve`, `unseal`, `backup create`, `backup restore`, `log rebuild` and `keeper retire`: this process becomes
//! `chanceryd`, so that a supervisor sees the daemon itself.

use crate::{args::Forward, exit::Exit, failure::Failure};
use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Becomes `chanceryd <verbs> <arguments>`; comes back only with the reason why it could not.
pub(crate) fn exec(verbs: &[&str], forward: &Forward) -> Failure {
    let program = sibling("chanceryd");
    let error = Command::new(&program).args(verbs).args(&forward.args).exec();
    Failure::new(Exit::State, format!("cannot start {}", program.display()))
        .why(error)
        .next("install chanceryd beside chancery, or into a folder of PATH")
}

/// The program beside the running one, or else its bare name, which PATH finds.
pub(crate) fn sibling(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|own| own.parent().map(|dir| dir.join(name)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| Path::new(name).to_owned())
}
