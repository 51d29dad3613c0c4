//! Patterns of tags and git references: `*` stands for any characters but '/', and for none.
//!
//! Promises: a pattern covers the whole text; time grows with the product of both lengths at the worst, without recursion.

/// Longest pattern in bytes.
const MAX_PATTERN: usize = 256;

/// A pattern, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Takes 1 to 256 printable ASCII characters; `**` is refused, since it reads as if it crossed a '/'.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let plain = (1..=MAX_PATTERN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        (plain && !text.contains("**")).then(|| Self(text.to_owned()))
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern covers all of `text`.
    pub fn covers(&self, text: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.as_bytes(), text.as_bytes());
        // Where to go on if the newest `*` must stand for one byte more: what is behind it, and the text from there.
        let mut retry: Option<(&[u8], &[u8])> = None;
        loop {
            match (pattern.split_first(), rest.split_first()) {
                (None, None) => return true,
                (Some((b'*', behind)), _) => {
                    retry = Some((behind, rest));
                    pattern = behind;
                }
                (Some((p, behind)), Some((r, after))) if p == r => (pattern, rest) = (behind, after),
                _ => match retry.and_then(|(behind, from)| Some((behind, from.split_first()?))) {
                    Some((behind, (skipped, from))) if *skipped != b'/' => {
                        retry = Some((behind, from));
                        (pattern, rest) = (behind, from);
                    }
                    _ => return false,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, text: &str) -> bool {
        Glob::parse(pattern).unwrap().covers(text)
    }

    #[test]
    fn a_star_stands_for_anything_but_a_slash() {
        for (pattern, text) in [
            ("v*", "v1.2"),
            ("v*", "v"),
            ("*", ""),
            ("*", "x"),
            ("a*b*c", "a1b2b3c"),
            ("refs/tags/v*", "refs/tags/v1"),
            ("refs/*/v*", "refs/tags/v1"),
            ("latest", "latest"),
            ("*-rc*", "v1-rc1-rc2"),
            ("*a*/b", "xay/b"),
        ] {
            assert!(covers(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("v*", "1v"),
            ("v*", ""),
            ("latest", "latest2"),
            ("refs/tags/*", "refs/tags/a/b"),
            ("*", "a/b"),
            ("team/*", "team"),
            ("team/*", "teamx/a"),
            ("team/*", "team/a/b"),
            ("a*b", "a/b"),
            ("*/b", "a/c/b"),
            ("a*c*", "ab"),
        ] {
            assert!(!covers(pattern, text), "{pattern} {text}");
        }
        assert!(
            Glob::parse("").is_none() && Glob::parse("refs/**").is_none() && Glob::parse("a b").is_none()
        );
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_the_product_of_the_lengths() {
        let pattern = format!("{}b", "a*".repeat(100));
        assert!(!covers(&pattern, &"a".repeat(100_000)));
    }
}
