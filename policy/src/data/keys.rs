//! Finds unknown keys before serde does, to say which known key is near. Wrong types are left to serde.

use super::{DataError, validity::RawValidity};
use crate::nearest;
use toml::{Table, Value};

/// The keys of one kind of entry, and its sub-tables (or lists of them) with theirs.
struct Shape {
    list: &'static str,
    keys: &'static [&'static str],
    tables: &'static [(&'static str, &'static [&'static str])],
}

const QUORUM: &[&str] = &["group", "count"];

const SHAPES: [Shape; 6] = [
    Shape {
        list: "repository",
        keys: &[
            "name",
            "immutable_tags",
            "create_on_first_sign",
            "media_types",
            "frozen",
            "signers",
            "workloads",
            "keys",
            "attested_key",
            "touch",
            "protected_tags",
            "approvals",
            "approval_methods",
            "break_glass",
            "office_hours",
            "rate",
            "require",
            "validity",
        ],
        tables: &[
            ("validity", &RawValidity::KEYS),
            ("approvals", QUORUM),
            ("break_glass", &["approvals"]),
            ("office_hours", &["days", "from", "until"]),
            ("rate", &["caller", "repository"]),
            (
                "require",
                &[
                    "index_children",
                    "provenance",
                    "slsa_level",
                    "builders",
                    "sources",
                    "sbom",
                    "scan_max_age",
                    "image_max_age",
                ],
            ),
        ],
    },
    Shape { list: "team", keys: &["name", "members"], tables: &[] },
    Shape {
        list: "workload",
        keys: &[
            "name",
            "issuer",
            "repository_id",
            "owner_id",
            "refs",
            "ref_protected",
            "workflows",
            "workflow_refs",
            "environments",
            "events",
            "hosted_runner",
        ],
        tables: &[],
    },
    Shape { list: "key", keys: &["name", "id", "not_after"], tables: &[] },
    Shape { list: "freeze", keys: &["name", "from", "until", "repositories"], tables: &[] },
    Shape { list: "exemption", keys: &["rule", "repository", "owner", "until", "reason"], tables: &[] },
];

/// Every key of the file is one that is known.
pub(super) fn check(text: &str) -> Result<(), DataError> {
    let file: Table = toml::from_str(text).map_err(|e| DataError::Toml(Box::new(e)))?;
    let lists: Vec<&str> = std::iter::once("schema").chain(SHAPES.iter().map(|shape| shape.list)).collect();
    known(&file, "the file", &lists)?;
    SHAPES.iter().try_for_each(|shape| {
        entries_of(&file, shape.list).try_for_each(|(place, entry)| shape.check(entry, &place))
    })
}

impl Shape {
    fn check(&self, entry: &Table, place: &str) -> Result<(), DataError> {
        known(entry, place, self.keys)?;
        for (key, keys) in self.tables {
            for table in entry.get(*key).into_iter().flat_map(tables) {
                known(table, &format!("{place}, {key}"), keys)?;
                for below in table.get("approvals").into_iter().flat_map(tables) {
                    known(below, &format!("{place}, {key}, approvals"), QUORUM)?;
                }
            }
        }
        Ok(())
    }
}

/// A table, or the tables of a list.
fn tables(value: &Value) -> Vec<&Table> {
    match value {
        Value::Table(table) => vec![table],
        Value::Array(list) => list.iter().filter_map(Value::as_table).collect(),
        _ => Vec::new(),
    }
}

fn entries_of<'a>(file: &'a Table, kind: &'a str) -> impl Iterator<Item = (String, &'a Table)> {
    let list = file.get(kind).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_table).enumerate().map(move |(index, entry)| {
        let name = ["name", "rule"].iter().find_map(|key| entry.get(*key)?.as_str());
        (format!("{kind} number {} ({})", index + 1, name.unwrap_or("without a name")), entry)
    })
}

fn known(table: &Table, place: &str, known: &[&str]) -> Result<(), DataError> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(DataError::UnknownKey {
            place: place.to_owned(),
            key: key.clone(),
            hint: nearest::hint(key, known.iter().copied()),
        }),
    }
}
