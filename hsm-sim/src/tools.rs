//! The programs that tests lean on, and how to say that one is absent.

use crate::Error;
use std::{
    env,
    fmt::Display,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What a failed program said last; more would bury the error.
const MAX_SAID_CHARS: usize = 400;

/// Says on standard error that a test is skipped and why, where `make test` counts it. libtest swallows what a passing
/// test prints with `println!`; a skipped test must not look like one that passed.
pub fn skip(why: impl Display) {
    // A closed standard error leaves nobody to tell.
    let _closed = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Names the programs among `tools` that are not on `PATH`; `None` if all are there.
///
/// ```
/// if let Some(why) = hsm_sim::missing(&["softhsm2-util", "pkcs11-tool"]) {
///     return hsm_sim::skip(why);
/// }
/// ```
pub fn missing(tools: &[&str]) -> Option<String> {
    let absent: Vec<&str> = tools.iter().copied().filter(|tool| !on_path(tool)).collect();
    (!absent.is_empty()).then(|| {
        format!(
            "not on PATH: {}; Debian's packages softhsm2, opensc, openssl and yubico-piv-tool have them",
            absent.join(", ")
        )
    })
}

/// Where `tests/modules.sh` and `tests/interop.sh` put what Debian's own installation does not bring.
pub fn cached(file: &str) -> PathBuf {
    let folder = env::var_os("CHANCERY_TOOLS").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache/chancery-tools"),
        PathBuf::from,
    );
    folder.join(file)
}

/// The version that these scripts note beside what they put there.
pub fn cached_version(folder: &str) -> Result<String, Error> {
    let file = cached(folder).join("version");
    let text = fs::read_to_string(&file).map_err(Error::file("read the version", &file))?;
    Ok(text.trim().to_owned())
}

/// Where Debian puts libraries of this architecture, below `lib`.
pub(crate) fn multiarch() -> String {
    format!("{}-linux-gnu", env::consts::ARCH)
}

/// A library as Debian installs it.
pub(crate) fn system_library(name: &str) -> PathBuf {
    Path::new("/usr/lib").join(multiarch()).join(name)
}

/// Runs the program to its end, and wants success: what it wrote to standard output.
pub(crate) fn run(command: &mut Command) -> Result<String, Error> {
    let tool =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let ended = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::ToolMissing { tool: tool.clone(), source })?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let begin = said.trim().char_indices().rev().take(MAX_SAID_CHARS).last().map_or(0, |(at, _)| at);
    let said = said.trim().get(begin..).unwrap_or_default().to_owned();
    Err(Error::ToolFailed { tool, status: ended.status, said })
}

fn on_path(tool: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| is_executable(&folder.join(tool))))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn a_tool_that_is_there_is_not_missed() {
        assert_eq!(missing(&["sh"]), None);
    }

    #[test]
    fn every_absent_tool_is_named_at_once() {
        let text = missing(&["sh", "no-such-tool-a", "no-such-tool-b"]).unwrap();
        assert!(text.contains("no-such-tool-a, no-such-tool-b"), "{text}");
        assert!(!text.contains("sh,"), "{text}");
    }
}
