//! K9: that the people whom a key's rule names have approved what it is to sign.
//!
//! It promises that nothing which the daemon says counts: the statements are found by the hashes that the logged intent names,
//! each must name the very change, and who has signed it is counted by this keeper's own roster and clock. It does not know
//! why people approve, nor what the policy said.

use super::refusal::{Code, Refused, chain_of};
use super::state::State;
use people::{Approval, Change, Decision, Rule, Signing, Statement, counted};
use record::wire::Blob;
use record::{Action, Intent, Requested, Sha256, Time};
use std::collections::BTreeMap;

/// What of an intent needs people: what will be signed, and the request behind it.
struct Asked<'a> {
    /// For the sentence.
    what: String,
    requested: Option<&'a Requested>,
    subject: Sha256,
    /// The change as its statement has to say it, but for what only the registry knows.
    change: AskedChange<'a>,
}

enum AskedChange<'a> {
    Image(&'a record::Change),
    Bytes,
}

/// Approvals by the statement that they are about: an approval and a rejection of one change stand together.
type Shown = BTreeMap<Sha256, (Statement, Vec<Approval>)>;

/// Whether everything in the intent for which `rule` asks people has been approved by them.
// INVARIANT(people): no signature of a key with a rule without its quorum for each change, by the roster in force here.
pub(super) fn approved(
    intent: &Intent,
    approvals: &[Blob],
    rule: &Rule,
    state: &State,
    now: Time,
) -> Result<(), Refused> {
    let asked = asked(intent)?;
    // A renewal: the same tags, and a later expiry.
    if asked.is_empty() {
        return Ok(());
    }
    let roster = state.roster.as_ref().map(|held| &held.roster).ok_or_else(|| {
        refused("this keeper has no roster yet: give it version 1, whose SHA-256 the charter pins".into())
    })?;
    let shown = shown(approvals)?;
    for one in &asked {
        let about = |why: String| refused(format!("{} of {}: {why}", one.what, intent.repository));
        let (statement, approvals) = one.statement(&shown).map_err(about)?;
        one.named_in(statement, intent).map_err(about)?;
        counted(statement, approvals, roster, rule, now).map_err(|e| about(e.to_string()))?;
    }
    Ok(())
}

fn refused(why: String) -> Refused {
    Refused::new(Code::People, why)
}

fn asked(intent: &Intent) -> Result<Vec<Asked<'_>>, Refused> {
    match &intent.action {
        Action::Targets { changes, .. } => Ok(changes.iter().map(Asked::image).collect()),
        Action::Root { .. } => Ok(vec![Asked::bytes("the root", intent)]),
        Action::RootCertificate { .. } => Ok(vec![Asked::bytes("the root key's certificate", intent)]),
        Action::Snapshot { .. } | Action::Timestamp { .. } => {
            Err(refused("nobody can approve this kind of file, and the key has a rule".into()))
        }
    }
}

/// The approvals that were shown. One that cannot be read is a fault of whoever carried it, and is named.
fn shown(approvals: &[Blob]) -> Result<Shown, Refused> {
    let mut shown = Shown::new();
    for (number, bytes) in (1..).zip(approvals) {
        let unread = |why: String| refused(format!("approval {number} of {}: {why}", approvals.len()));
        let approval = Approval::parse(&bytes.0).map_err(|e| unread(chain_of(&e)))?;
        let about = approval.statement().deciding(Decision::Approve).map_err(|e| unread(chain_of(&e)))?;
        shown.entry(about.sha256()).or_insert_with(|| (about, vec![])).1.push(approval);
    }
    Ok(shown)
}

impl<'a> Asked<'a> {
    fn image(change: &'a record::Change) -> Self {
        Self {
            what: format!("tag {}", change.tag),
            requested: Some(&change.requested),
            subject: change.digest.sha256(),
            change: AskedChange::Image(change),
        }
    }

    fn bytes(what: &str, intent: &'a Intent) -> Self {
        Self {
            what: what.into(),
            requested: intent.requested.as_ref(),
            subject: intent.payload,
            change: AskedChange::Bytes,
        }
    }

    /// The statement that the intent names for this, with what people have said of it.
    fn statement<'s>(&self, shown: &'s Shown) -> Result<(&'s Statement, &'s [Approval]), String> {
        let named = self.requested.and_then(|requested| requested.statement);
        let named = named.ok_or("the intent names no statement, and the key's rule asks for people")?;
        let found =
            shown.get(&named).ok_or_else(|| format!("no approval of its statement {named} was shown"))?;
        Ok((&found.0, &found.1))
    }

    /// Whether the statement is about this, in this intent.
    fn named_in(&self, statement: &Statement, intent: &Intent) -> Result<(), String> {
        let said = statement.content();
        let signing = Signing { format: intent.format, key: intent.key };
        let requested = self.requested.is_some_and(|r| r.request == said.request && r.by == said.requester);
        let same_change = match (&self.change, &said.change) {
            (AskedChange::Image(asked), Change::Image { tag, size, media_type, .. }) => {
                asked.tag == *tag && asked.size == *size && asked.media_type == *media_type
            }
            (AskedChange::Bytes, Change::Bytes {}) => true,
            _ => false,
        };
        let parts = [
            (said.log == intent.log, "log"),
            (said.repository == intent.repository, "repository"),
            (said.subject == self.subject, "digest"),
            (same_change, "change"),
            (said.signatures.contains(&signing), "format or key"),
            (requested, "request or requester"),
        ];
        match parts.iter().find(|(same, _)| !same) {
            None => Ok(()),
            Some((_, part)) => Err(format!("its statement {} names another {part}", statement.sha256())),
        }
    }
}
