//! A look into a policy's expression: what the strict validator lets pass and must not be loaded.

use crate::nesting::MAX_OPERATORS;

/// What makes an expression unfit.
pub(super) enum Finding {
    Arithmetic(&'static str),
    TooDeep,
}

/// Looks for arithmetic and for depth in a policy's JSON form, in which an operator is the single key of an object
/// around its operands: two levels an operator. Keys of record literals and literal values are the operator's own texts
/// and are not looked at as operators.
pub(super) fn inspect(policy: &serde_json::Value) -> Option<Finding> {
    use serde_json::Value;
    let mut waiting: Vec<(usize, &Value)> =
        policy.get("conditions").map(|body| (0, body)).into_iter().collect();
    while let Some((depth, value)) = waiting.pop() {
        if depth > 2 * MAX_OPERATORS {
            return Some(Finding::TooDeep);
        }
        let deeper = |inner| (depth + 1, inner);
        match value {
            Value::Array(items) => waiting.extend(items.iter().map(deeper)),
            Value::Object(members) => {
                for (key, inner) in members {
                    match (key.as_str(), inner) {
                        ("+", _) => return Some(Finding::Arithmetic("+")),
                        ("-" | "neg", _) => return Some(Finding::Arithmetic("-")),
                        ("*", _) => return Some(Finding::Arithmetic("*")),
                        ("Value", _) => {}
                        ("Record", Value::Object(fields)) => waiting.extend(fields.values().map(deeper)),
                        _ => waiting.push(deeper(inner)),
                    }
                }
            }
            _ => {}
        }
    }
    None
}
