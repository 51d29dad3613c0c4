//! Documents with one thing in them altered.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

/// The document with the member at this JSON pointer altered.
pub(crate) fn with(document: &Value, pointer: &str, alter: impl FnOnce(&mut Value)) -> Value {
    let mut altered = document.clone();
    alter(altered.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer} in {document}")));
    assert_ne!(altered, *document, "{pointer} is as it was");
    altered
}

/// Flips one bit in the middle of base64 bytes.
pub(crate) fn flip(value: &mut Value) {
    edit(value, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
}

/// Edits the bytes that a member holds in base64.
pub(crate) fn edit(value: &mut Value, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
    edit(&mut bytes);
    *value = STANDARD.encode(bytes).into();
}

/// Edits a text.
pub(crate) fn edit_text(value: &mut Value, edit: impl FnOnce(&str) -> String) {
    *value = edit(value.as_str().unwrap()).into();
}

/// A checkpoint with another line in this place, its signature as it was.
pub(crate) fn other_line(note: &str, number: usize, line: &str) -> String {
    let mut lines: Vec<&str> = note.split('\n').collect();
    lines[number] = line;
    lines.join("\n")
}

/// A checkpoint with one bit of its first signature flipped, behind the key's id.
pub(crate) fn other_signature(note: &str) -> String {
    let (text, signatures) = note.split_once("\n\n").unwrap();
    let (name, signature) = signatures.lines().next().unwrap().rsplit_once(' ').unwrap();
    let mut bytes = STANDARD.decode(signature).unwrap();
    bytes[20] ^= 1;
    format!("{text}\n\n{name} {}\n", STANDARD.encode(bytes))
}
