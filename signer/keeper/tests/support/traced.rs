//! A keeper under strace: which system calls it made, in which order, and what it does when one of them fails.

use std::path::Path;
use std::process::Command;

/// A command under strace with these options; the calls go to the file `calls`. The keeper ends with strace, which does
/// not take its children along when it is killed.
pub(crate) fn traced(command: &Command, calls: &Path, options: &[&str]) -> Command {
    let mut traced = Command::new("sh");
    traced.args(["-c", "CHANCERY_PARENT=$$ exec strace \"$@\"", "sh", "-f", "-s", "128", "-o"]).arg(calls);
    traced.args(options).arg(command.get_program()).args(command.get_args());
    traced.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    traced
}

/// The calls of a traced keeper, one a line, in the order in which they began or ended.
pub(crate) struct Calls(Vec<String>);

impl Calls {
    /// Reads what there is by now.
    pub(crate) fn read(calls: &Path) -> Self {
        Self(std::fs::read_to_string(calls).unwrap().lines().map(str::to_owned).collect())
    }

    /// The first line from `from` on that has all these words, and the number of the next one.
    pub(crate) fn after(&self, from: usize, words: &[&str]) -> usize {
        let has = |line: &String| words.iter().all(|word| line.contains(word));
        let found = self.0.iter().skip(from).position(has);
        let found = found.unwrap_or_else(|| panic!("no {words:?} from line {from} on in {:#?}", self.0));
        from + found + 1
    }
}
