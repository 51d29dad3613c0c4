//! What a denial says: a rule's message with the facts of the request in place of the words in braces.
//!
//! Promises: one line, at most [`MAX_MESSAGE`] bytes, free of control characters, whatever a registry or a policy
//! wrote. That bounds a denial's leaf in the log, and keeps a terminal or a log reader safe.

use crate::standing::Standing;

mod words;

pub(crate) use words::WORDS;

/// Longest message in bytes: with as many rules as a policy set can have, a denial still fits one leaf of the log.
pub const MAX_MESSAGE: usize = 400;
/// The first word in braces that has no meaning.
pub(crate) fn unknown_word(template: &str) -> Option<&str> {
    pieces(template).find_map(|piece| match piece {
        Piece::Word(word) if !WORDS.contains(&word) => Some(word),
        _ => None,
    })
}

/// The message for these facts.
pub(crate) fn render(template: &str, standing: &Standing<'_>) -> String {
    let text: String = pieces(template)
        .map(|piece| match piece {
            Piece::Text(text) => text.to_owned(),
            Piece::Word(word) => words::value(word, standing).unwrap_or_else(|| "none".to_owned()),
        })
        .collect();
    one_line(&text)
}

/// Makes any text fit to stand in a denial.
pub(crate) fn one_line(text: &str) -> String {
    let plain = |c: char| match c {
        '"' => '\'',
        '\\' => '/',
        c if c.is_control() => ' ',
        c => c,
    };
    let mut line: String = text.chars().map(plain).collect();
    if line.len() > MAX_MESSAGE {
        line.truncate(line.floor_char_boundary(MAX_MESSAGE - "…".len()));
        line.push('…');
    }
    line
}

enum Piece<'a> {
    Text(&'a str),
    Word(&'a str),
}

/// Splits at braces; a brace without its partner is text.
fn pieces(template: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some((word, behind)) = rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            rest = behind;
            return Some(Piece::Word(word));
        }
        let until = rest.char_indices().skip(1).find(|(_, c)| *c == '{').map_or(rest.len(), |(at, _)| at);
        let (text, behind) = rest.split_at(until);
        rest = behind;
        Some(Piece::Text(text))
    })
}
