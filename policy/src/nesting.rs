//! How deep a policy's text may nest, looked at before the text is parsed.
//!
//! Cedar's parser walks by recursion without a bound: some two hundred brackets end the whole process on a thread's
//! usual stack of 2 MiB, and its validator lets an expression pass that is too deep for it. Both stay out of reach.

/// Longest policy in bytes, without comments and strings: bounds every kind of nesting that needs no bracket.
pub const MAX_POLICY_BYTES: usize = 4 * 1024;
/// Most brackets of any kind inside each other.
pub const MAX_BRACKETS: usize = 32;
/// Most operators inside each other, as a chain of `&&` or of `else if`.
pub const MAX_OPERATORS: usize = 200;

/// Which limit a text exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooComplex {
    /// [`MAX_POLICY_BYTES`].
    #[error("is longer than {MAX_POLICY_BYTES} bytes without comments and strings")]
    Long,
    /// [`MAX_BRACKETS`].
    #[error("has more than {MAX_BRACKETS} brackets inside each other")]
    Brackets,
    /// [`MAX_OPERATORS`].
    #[error("has more than {MAX_OPERATORS} operators inside each other")]
    Operators,
}

/// Looks at a file of policies. Text that is no Cedar passes too: the parser will say so.
pub(crate) fn check_text(text: &str) -> Result<(), TooComplex> {
    let mut length = 0;
    let mut depth = 0_usize;
    for c in code(text) {
        length += c.len_utf8();
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            // Cedar has semicolons at the end of a policy only.
            ';' => (length, depth) = (0, 0),
            _ => {}
        }
        if depth > MAX_BRACKETS {
            return Err(TooComplex::Brackets);
        }
        if length > MAX_POLICY_BYTES {
            return Err(TooComplex::Long);
        }
    }
    Ok(())
}

/// The characters of a text outside of strings and comments.
fn code(text: &str) -> impl Iterator<Item = char> {
    let mut rest = text.chars().peekable();
    std::iter::from_fn(move || {
        loop {
            match rest.next()? {
                '"' => skip_string(&mut rest),
                '/' if rest.peek() == Some(&'/') => while rest.next_if(|c| !is_line_end(*c)).is_some() {},
                c => return Some(c),
            }
        }
    })
}

fn skip_string(rest: &mut impl Iterator<Item = char>) {
    while let Some(c) = rest.next() {
        match c {
            '\\' => drop(rest.next()),
            '"' => return,
            _ => {}
        }
    }
}

fn is_line_end(c: char) -> bool {
    c == '\n' || c == '\r'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_do_not_count_and_cannot_hide_code() {
        let seen = |text: &str| code(text).collect::<String>();
        assert_eq!(
            seen(
                r#"a "(" b // ( "
c "\"(" d / e"#
            ),
            "a  b \nc  d / e"
        );
        assert_eq!(seen("// x\r("), "\r(");
        assert_eq!(seen(r#""\\" ("#), " (");
        assert_eq!(seen("\"open ("), "");
    }

    #[test]
    fn limits_count_for_each_policy_by_itself() {
        assert_eq!(check_text(&"(".repeat(MAX_BRACKETS)), Ok(()));
        assert_eq!(check_text(&"(".repeat(MAX_BRACKETS + 1)), Err(TooComplex::Brackets));
        assert_eq!(check_text(&"a".repeat(MAX_POLICY_BYTES + 1)), Err(TooComplex::Long));
        assert_eq!(check_text(&format!("{};", "a".repeat(MAX_POLICY_BYTES - 1)).repeat(3)), Ok(()));
        assert_eq!(check_text(&format!("//{}", "(".repeat(MAX_POLICY_BYTES))), Ok(()));
    }
}
