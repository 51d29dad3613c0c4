//! What the tables have in common: the log's word beside the token's, and their place in a document.

use record::{Action, OutcomeKind, Sha256, Tag};
use std::{collections::BTreeMap, env, fs, path::Path};
use tests::{End, Instance, Told, wait_for};

/// How the intents for each tag ended, each with the signatures that the token has made for its payload.
pub(super) fn ends(service: &Instance, made: Vec<Sha256>) -> BTreeMap<Tag, Vec<String>> {
    let size = service.committed();
    let history = wait_for("the published log to have caught up", || {
        let history = service.history();
        (history.leaves().len() as u64 >= size).then_some(history)
    });
    let mut counts: BTreeMap<Sha256, usize> = BTreeMap::new();
    made.into_iter().for_each(|payload| *counts.entry(payload).or_insert(0) += 1);
    let mut ends: BTreeMap<Tag, Vec<String>> = BTreeMap::new();
    for Told { intent, end, code, .. } in history.intents() {
        let signatures = counts.get(&intent.payload).copied().unwrap_or(0);
        let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
        let end = match end {
            End::Open => "open",
            End::Signed => "signed",
            End::Without(OutcomeKind::Unknown) => "unknown",
            End::Without(OutcomeKind::Failed) => "failed",
            End::Without(OutcomeKind::Void) => "void",
        };
        if let Action::Targets { changes, .. } = intent.action {
            for change in changes {
                ends.entry(change.tag).or_default().push(format!("{end}{code} {signatures}"));
            }
        }
    }
    ends
}

/// Puts a table between its two marks in the document that `CHANCERY_FAULT_TABLE` names, if it names one.
pub(super) fn into_document(mark: &str, table: &str) {
    let Ok(path) = env::var("CHANCERY_FAULT_TABLE") else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path);
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
    let (head, rest) = text.split_once(&begin).expect("a mark where the table begins");
    let (_, tail) = rest.split_once(&end).expect("a mark where it ends");
    fs::write(path, format!("{head}{begin}{table}{end}{tail}")).unwrap();
}
