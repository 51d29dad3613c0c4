//! What documents say, as lines for people. Every word comes from the bytes that are signed.

use crate::files::{fault, print, read};
use keeper::exit::Fatal;
use people::{Approval, Change, Content, Decision, Method, Proof, Roster, SignedRoster, Statement};
use record::Sha256;
use std::path::Path;

/// Shows a document; of a roster with another one before it, what differs.
pub(crate) fn run(file: &Path, before: Option<&Path>) -> Result<(), Fatal> {
    let bytes = read(file)?;
    if let Ok(signed) = SignedRoster::parse(&bytes) {
        let lines = match before {
            None => roster(signed.offered()),
            Some(before) => differences(self::signed_roster(before)?.offered(), signed.offered()),
        };
        return print(&lines.join("\n"));
    }
    if let Ok(approval) = Approval::parse(&bytes) {
        let how = match approval.proof() {
            Proof::Piv(_) => "PIV",
            Proof::Webauthn(..) => "WebAuthn",
        };
        let signer = format!("signed by {how} with key {}: not verified here", approval.key());
        return print(&format!("{}\n{signer}", statement(approval.statement()).join("\n")));
    }
    match Statement::parse(&bytes) {
        Ok(said) => print(&statement(&said).join("\n")),
        Err(error) => {
            Err(fault(file, format!("is no signed roster, no approval, and no statement: {error}")))
        }
    }
}

/// A signed roster in a file.
pub(crate) fn signed_roster(file: &Path) -> Result<SignedRoster, Fatal> {
    SignedRoster::parse(&read(file)?).map_err(|e| fault(file, e))
}

/// Everything that a statement says.
pub(crate) fn statement(statement: &Statement) -> Vec<String> {
    let said = statement.content();
    let decision = match said.decision {
        Decision::Approve => "APPROVE",
        Decision::Reject => "REJECT",
    };
    let mut lines = vec![
        line(decision, &format!("code {}", code(statement))),
        line("repository", said.repository.as_str()),
    ];
    lines.extend(change(said));
    lines.extend(said.signatures.iter().map(|s| {
        let format = serde_json::to_value(s.format).ok();
        let format = format.as_ref().and_then(|f| f.as_str()).unwrap_or("?").to_owned();
        line("signed as", &format!("{format} by key {}", groups(&s.key.sha256())))
    }));
    lines.push(line("asked by", said.requester.as_str()));
    lines.push(line("request", said.request.as_str()));
    lines.push(line("log", said.log.as_str()));
    lines.push(line("policy", &format!("set {} schema {}", said.policy.set, said.policy.schema)));
    lines.push(line("counts", &format!("from {} until {}", said.not_before, said.expires)));
    if let Some(reason) = &said.break_glass {
        // Quoted with escapes: a reason can hold characters that turn the rest of a line around.
        lines.push(line("BREAK GLASS", &format!("{reason:?}")));
    }
    lines
}

/// The code of the change, whatever this statement says of it.
pub(crate) fn code(statement: &Statement) -> String {
    statement.deciding(Decision::Approve).map(|s| s.code()).unwrap_or_default()
}

fn change(said: &Content) -> Vec<String> {
    match &said.change {
        Change::Image { tag, size, media_type, children } => {
            let mut lines = vec![
                line("tag", tag.as_str()),
                line("image", &groups(&said.subject)),
                line("manifest", &format!("{media_type}, {size} bytes")),
            ];
            lines.extend(children.iter().map(|child| line("names", &groups(&child.sha256()))));
            lines
        }
        Change::Bytes {} => vec![line("bytes", &groups(&said.subject))],
    }
}

fn line(name: &str, value: &str) -> String {
    format!("{name:<13}{value}")
}

/// A hash in groups of four, to be compared by eye.
fn groups(hash: &Sha256) -> String {
    let digits: Vec<char> = hash.to_string().chars().collect();
    let groups: Vec<String> = digits.chunks(4).map(|four| four.iter().collect()).collect();
    groups.join(" ")
}

/// Everything that a roster says, a line for each key and each group, so that two rosters differ in lines.
pub(crate) fn roster(roster: &Roster) -> Vec<String> {
    let content = roster.content();
    let mut lines =
        vec![line("ROSTER", &format!("version {}, SHA-256 {}", content.version, roster.sha256()))];
    lines.extend(content.previous.map(|previous| line("follows", &previous.to_string())));
    for person in &content.people {
        for key in &person.keys {
            let how = match &key.method {
                Method::Piv { serial, slot, attestation } => {
                    format!("PIV {serial} slot {slot}, attestation {attestation}")
                }
                Method::Webauthn { rp_id, origin, .. } => format!("WebAuthn {rp_id} at {origin}"),
            };
            let id = groups(&key.spki.id().sha256());
            lines.push(line("person", &format!("{}: key {id}, {how}, since {}", person.name, key.added)));
        }
        let as_others =
            person.principals.iter().map(|p| line("person", &format!("{} asks as {p}", person.name)));
        lines.extend(as_others);
    }
    for group in &content.groups {
        let members = group.members.iter().map(|member| format!("{} has {member}", group.name));
        lines.extend(members.map(|text| line("group", &text)));
    }
    lines.push(line("changed by", &format!("{} of {}", content.changes.count, content.changes.group)));
    lines
}

/// The lines that only one of two rosters has: `-` before, `+` after.
pub(crate) fn differences(before: &Roster, after: &Roster) -> Vec<String> {
    let (old, new) = (roster(before), roster(after));
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
    gone.chain(come).collect()
}
