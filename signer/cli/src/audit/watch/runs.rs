//! What a CI system says of itself: the runs that asked for a signature, one JSON object a line.
//!
//! Promises: a file is read again when it has changed, and what was read before counts until the new one was read whole. A
//! line says no more than that a run asked: it is not signed, so the file must come from where the log's operators cannot
//! write.

use crate::audit::facts::Asked;
use record::{Digest, Repository, Tag, Time};
use serde::Deserialize;
use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
    time::SystemTime,
};

/// Largest file: a million runs.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Longest line.
const MAX_LINE: usize = 4096;
/// Runs in all files.
const MAX_RUNS: usize = 1_000_000;
/// How far a CI's clock may be ahead of the daemon's: what signing keepers allow.
const MAX_SKEW_MS: i64 = 300_000;

/// The runs of all files.
#[derive(Debug)]
pub(crate) struct Runs {
    files: Vec<RunsFile>,
    /// How long after its time a run explains what is signed, in milliseconds.
    for_ms: i64,
}

/// One file.
#[derive(Debug)]
struct RunsFile {
    path: PathBuf,
    /// What it was when it was last read: its time and length.
    read: Option<(SystemTime, u64)>,
    lines: Lines,
}

/// What runs asked for.
#[derive(Debug, Default)]
struct Lines {
    /// How many runs there are.
    runs: usize,
    asked: HashMap<(Repository, Digest, Option<Tag>), Times>,
    repositories: HashMap<Repository, Times>,
}

/// When the runs asked that asked for the same.
#[derive(Debug, Default)]
struct Times {
    /// A run does not say when.
    any: bool,
    /// In milliseconds since 1970.
    at: BTreeSet<i64>,
}

/// One line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    /// Whatever names it in the CI system.
    run: String,
    repository: Repository,
    digest: Digest,
    /// Absent where a run may set any tag.
    #[serde(default)]
    tag: Option<Tag>,
    /// When it asked, or began; it explains no intent from before, nor from long after. Without it, it explains its digest
    /// at any time.
    #[serde(default)]
    at: Option<Time>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunsError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is none.
    #[error("{} line {line}: {why}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A limit.
    #[error("{}: more than {what}; export a shorter period and give its beginning with --runs-since", path.display())]
    TooMuch {
        /// The file.
        path: PathBuf,
        /// The limit.
        what: String,
    },
}

impl Runs {
    /// Nothing is read yet. A run explains what is signed within so many milliseconds after its time.
    pub(crate) fn of(paths: Vec<PathBuf>, for_ms: i64) -> Self {
        let file = |path| RunsFile { path, read: None, lines: Lines::default() };
        Self { files: paths.into_iter().map(file).collect(), for_ms }
    }

    /// Reads the files that have changed.
    pub(crate) fn refresh(&mut self) -> Result<(), RunsError> {
        for at in 0..self.files.len() {
            let others = self.files.iter().enumerate().filter(|(n, _)| *n != at);
            let room = MAX_RUNS.saturating_sub(others.map(|(_, file)| file.lines.runs).sum());
            if let Some(file) = self.files.get_mut(at) {
                file.refresh(room)?;
            }
        }
        Ok(())
    }

    /// Whether a run asked for this, not later than the intent was made, and not long before.
    pub(super) fn explain(&self, repository: &Repository, asked: &Asked, time: Time) -> bool {
        let from = time.unix_ms().saturating_sub(self.for_ms);
        let until = time.unix_ms().saturating_add(MAX_SKEW_MS);
        let by_then = |times: &Times| times.any || times.at.range(from..=until).next().is_some();
        let explains = |lines: &Lines| match asked.digest {
            // A collection's root is for whatever is signed in it.
            None => lines.repositories.get(repository).is_some_and(by_then),
            Some(digest) => [asked.tag.clone(), None]
                .into_iter()
                .any(|tag| lines.asked.get(&(repository.clone(), digest, tag)).is_some_and(by_then)),
        };
        self.files.iter().any(|file| explains(&file.lines))
    }
}

impl RunsFile {
    fn refresh(&mut self, room: usize) -> Result<(), RunsError> {
        let failed = |source| RunsError::Read { path: self.path.clone(), source };
        let file = File::open(&self.path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let now = (metadata.modified().map_err(failed)?, metadata.len());
        if self.read == Some(now) {
            return Ok(());
        }
        if metadata.len() > MAX_BYTES {
            return Err(self.too_much(format!("{MAX_BYTES} bytes")));
        }
        self.lines = self.lines(file.take(MAX_BYTES), room)?;
        self.read = Some(now);
        Ok(())
    }

    fn lines(&self, file: impl Read, room: usize) -> Result<Lines, RunsError> {
        let (mut file, mut lines) = (BufReader::new(file), Lines::default());
        for line in 1.. {
            let mut text = Vec::new();
            let failed = |source| RunsError::Read { path: self.path.clone(), source };
            let most = MAX_LINE as u64 + 1;
            if file.by_ref().take(most).read_until(b'\n', &mut text).map_err(failed)? == 0 {
                break;
            }
            let is_whole = text.last() == Some(&b'\n');
            let run = match Run::parse(text.trim_ascii()) {
                Ok(run) => run,
                // The export is being written: the rest comes with the next look.
                Err(_) if !is_whole && text.len() <= MAX_LINE => break,
                Err(why) => return Err(RunsError::Line { path: self.path.clone(), line, why }),
            };
            if lines.runs >= room {
                return Err(self.too_much(format!("{MAX_RUNS} runs in all files")));
            }
            if let Some(run) = run {
                lines.add(run);
            }
        }
        Ok(lines)
    }

    fn too_much(&self, what: String) -> RunsError {
        RunsError::TooMuch { path: self.path.clone(), what }
    }
}

impl Run {
    /// A run; `None` for an empty line.
    fn parse(line: &[u8]) -> Result<Option<Self>, String> {
        if line.len() > MAX_LINE {
            return Err(format!("more than {MAX_LINE} bytes"));
        }
        if line.is_empty() {
            return Ok(None);
        }
        let run: Self = serde_json::from_slice(line).map_err(|e| e.to_string())?;
        if run.run.is_empty() {
            Err("run is empty: it names the run in the CI system".into())
        } else {
            Ok(Some(run))
        }
    }
}

impl Lines {
    fn add(&mut self, run: Run) {
        let Run { repository, digest, tag, at, .. } = run;
        self.runs += 1;
        self.repositories.entry(repository.clone()).or_default().add(at);
        self.asked.entry((repository, digest, tag)).or_default().add(at);
    }
}

impl Times {
    fn add(&mut self, at: Option<Time>) {
        match at {
            Some(at) => {
                self.at.insert(at.unix_ms());
            }
            None => self.any = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::synthetic::time;
    use std::fs;

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    fn line(n: u8, more: &str) -> String {
        format!("{{\"run\":\"ci/{n}\",\"repository\":\"r.example/a\",\"digest\":\"{}\"{more}}}\n", digest(n))
    }

    fn asked(n: u8, tag: &str) -> Asked {
        Asked { digest: Some(digest(n)), tag: Some(tag.parse().unwrap()), ..Asked::default() }
    }

    fn runs(text: &str) -> (tempfile::NamedTempFile, Runs) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let runs = Runs::of(vec![file.path().to_owned()], 3_600_000);
        (file, runs)
    }

    #[test]
    fn a_run_explains_its_digest_under_its_tag_and_the_root_of_its_repository() {
        let repository: Repository = "r.example/a".parse().unwrap();
        let (_file, mut runs) = runs(
            &[
                line(1, ",\"tag\":\"v1\""),
                line(2, ""),
                line(3, &format!(",\"tag\":\"v3\",\"at\":\"{}\"", time(1000))),
                "\n".into(),
            ]
            .concat(),
        );
        runs.refresh().unwrap();
        let explains = |asked: &Asked, now| runs.explain(&repository, asked, time(now));
        assert!(explains(&asked(1, "v1"), 0) && !explains(&asked(1, "v2"), 0));
        assert!(explains(&asked(2, "v1"), 0) && explains(&asked(2, "v2"), 0));
        assert!(!explains(&asked(4, "v1"), 0));
        assert!(
            explains(&asked(3, "v3"), 700) && !explains(&asked(3, "v3"), 699),
            "before the run, but for its clock"
        );
        assert!(explains(&asked(3, "v3"), 4600) && !explains(&asked(3, "v3"), 4601), "long after the run");
        assert!(explains(&Asked::default(), 0));
        assert!(!runs.explain(&"r.example/b".parse().unwrap(), &Asked::default(), time(0)));
    }

    #[test]
    fn an_image_that_is_signed_again_is_explained_by_a_run_of_that_time_only() {
        let repository: Repository = "r.example/a".parse().unwrap();
        let at = |s| line(1, &format!(",\"at\":\"{}\"", time(s)));
        let explained = |lines: &[String], now| {
            let (_file, mut runs) = runs(&lines.concat());
            runs.refresh().unwrap();
            let root = runs.explain(&repository, &Asked::default(), time(now));
            assert_eq!(runs.explain(&repository, &asked(1, "v1"), time(now)), root);
            root
        };
        assert!(explained(&[at(1000)], 1001) && !explained(&[at(1000)], 90_000));
        assert!(explained(&[at(1000), at(89_000)], 90_000) && explained(&[at(89_000), at(1000)], 1001));
        assert!(!explained(&[at(1000), at(89_000)], 40_000));
        assert!(explained(&[at(1000), line(1, "")], 90_000), "a line without a time");
    }

    #[test]
    fn a_file_is_read_again_when_it_has_changed_and_a_bad_one_does_not_forget_what_was_read() {
        let repository: Repository = "r.example/a".parse().unwrap();
        let (file, mut runs) = runs(&line(1, ""));
        runs.refresh().unwrap();
        let explains = |runs: &Runs, n| runs.explain(&repository, &asked(n, "v1"), time(0));
        let half = line(2, "");
        fs::write(file.path(), format!("{}{}", line(1, ""), &half[..half.len() / 2])).unwrap();
        runs.refresh().unwrap();
        assert!(explains(&runs, 1) && !explains(&runs, 2), "a line that is being written");
        fs::write(file.path(), [line(1, ""), line(2, "")].concat()).unwrap();
        runs.refresh().unwrap();
        assert!(explains(&runs, 2));
        for bad in [
            line(3, ",\"more\":1"),
            line(3, ",\"tag\":\"\""),
            line(3, "").replace("ci/3", ""),
            line(3, "").replace("sha256:", "sha1:"),
            format!("{}\n", "x".repeat(MAX_LINE)),
            "x".repeat(MAX_LINE + 1),
        ] {
            fs::write(file.path(), format!("\n{bad}")).unwrap();
            let said = runs.refresh().unwrap_err().to_string();
            assert!(said.contains("line 2"), "{said}");
            assert!(explains(&runs, 1) && explains(&runs, 2));
        }
        fs::remove_file(file.path()).unwrap();
        assert!(matches!(runs.refresh(), Err(RunsError::Read { .. })));
    }
}
