//! What a process said last: the reason of its end, out of its log.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// Most characters of a process's words in an error: a long reason with its next step, and not a whole log.
const MAX_WORDS: usize = 1500;
/// Most bytes of a log that are read for them, from its end.
const MAX_READ: u64 = 256 * 1024;

/// The end of a log file's text that begins at `from`; empty if it cannot be read.
pub(super) fn text_from(path: &Path, from: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(MAX_READ))))?;
        let mut bytes = Vec::new();
        file.take(MAX_READ).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// The text from the last line that is an error on, whose message may have several lines; without one, the last line.
pub(super) fn last_words(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let error = lines.iter().rposition(|line| line.contains("ERROR"));
    let from = error.unwrap_or(lines.len().saturating_sub(1));
    let mut words = lines.get(from..).unwrap_or_default().join("\n");
    if let Some((cut, _)) = words.char_indices().nth(MAX_WORDS) {
        words.truncate(cut);
        words.push('…');
    }
    if words.is_empty() { "it said nothing".to_owned() } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_shown_with_all_its_lines() {
        let log =
            "t ERROR a: first\nt  INFO b: x\nt ERROR c: /d/chancery.db: truncated\n  next: restore it\n";
        assert_eq!(last_words(log), "t ERROR c: /d/chancery.db: truncated\n  next: restore it");
        assert_eq!(last_words("{\"level\":\"ERROR\",\"n\":1}\n"), "{\"level\":\"ERROR\",\"n\":1}");
    }

    #[test]
    fn without_an_error_the_last_line_is_shown() {
        assert_eq!(last_words("t INFO a: one\nt WARN b: two\n"), "t WARN b: two");
        assert_eq!(last_words(""), "it said nothing");
    }

    #[test]
    fn long_words_are_cut_at_their_end() {
        let words = last_words(&format!("t ERROR begins {}", "ä".repeat(9000)));
        assert!(words.starts_with("t ERROR begins ä") && words.ends_with('…'));
        assert_eq!(words.chars().count(), MAX_WORDS + 1);
    }

    #[test]
    fn only_the_lines_of_this_run_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        std::fs::write(&path, "old\nnew\n").unwrap();
        assert_eq!(text_from(&path, 4), "new\n");
        assert_eq!(text_from(&path, 99), "");
        assert_eq!(text_from(&dir.path().join("none"), 0), "");
    }
}
