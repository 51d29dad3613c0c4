//! Approving or rejecting one change.

use crate::card::{CardArgs, PinArgs, sign};
use crate::files::{fault, is_new, print, read, tell, write};
use crate::show;
use keeper::exit::Fatal;
use people::{Approval, Decision, PAYLOAD_TYPE, Proof, Statement, pae};
use std::path::Path;

/// Shows a statement, has it signed, and writes the approval, or the rejection.
pub(crate) fn approve(
    file: &Path,
    reject: bool,
    expected_code: Option<&str>,
    out: &Path,
    card: &CardArgs,
    pin: PinArgs,
) -> Result<(), Fatal> {
    is_new(out)?;
    let (decision, verb) =
        if reject { (Decision::Reject, "reject it") } else { (Decision::Approve, "approve it") };
    let statement = Statement::parse(&read(file)?)
        .and_then(|said| said.deciding(decision))
        .map_err(|e| fault(file, e))?;
    tell(&show::statement(&statement).join("\n"))?;
    same_code(file, &statement, expected_code)?;
    let key = card.key()?;
    let signature = sign(&key, pin, &pae(PAYLOAD_TYPE, statement.bytes()), verb)?;
    let approval = Approval::new(statement, key.spki.id(), Proof::Piv(signature));
    write(out, &approval.encode().map_err(|e| fault(out, e))?)?;
    print(&format!(
        "{} with key {} in {}",
        if reject { "rejected" } else { "approved" },
        approval.key(),
        out.display()
    ))
}

fn same_code(file: &Path, statement: &Statement, expected: Option<&str>) -> Result<(), Fatal> {
    let digits = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let code = show::code(statement);
    match expected {
        Some(expected) if digits(expected) != digits(&code) => Err(fault(
            file,
            format!(
                "has the code {code}, not {expected}: the other screen shows another change; sign nothing"
            ),
        )),
        _ => Ok(()),
    }
}
