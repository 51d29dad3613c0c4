//! The programs that tests lean on, and how to say that one is absent.

use std::{env, fmt::Display, io::Write, path::Path};

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
            "not on PATH: {}; Debian's packages softhsm2, opensc and openssl have them",
            absent.join(", ")
        )
    })
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
