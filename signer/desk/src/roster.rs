//! Making rosters, and bringing each next one into force by its people's signatures.

use crate::card::{CardArgs, PinArgs, sign as touch};
use crate::files::{fault, is_new, print, read, tell, write};
use crate::show::{differences, roster as lines, signed_roster};
use keeper::admin::piv::PersonalKey;
use keeper::exit::Fatal;
use people::{Method, PersonKey, Roster, RosterContent, SignedRoster};
use record::{Clock, Sha256, SystemClock};
use std::path::{Path, PathBuf};

/// Prints a key as rosters have it.
pub(crate) fn key(key: &PersonalKey) -> Result<(), Fatal> {
    let method = Method::Piv { serial: key.serial(), slot: key.slot, attestation: key.attestation };
    let of_roster = PersonKey { spki: key.spki.clone(), added: SystemClock.now(), method };
    let text = serde_json::to_string_pretty(&of_roster);
    print(&text.map_err(|e| Fatal::Write { path: "standard output".into(), source: e.into() })?)
}

/// Makes a roster without signatures.
pub(crate) fn draft(content: &Path, out: &Path) -> Result<(), Fatal> {
    is_new(out)?;
    let said: RosterContent = serde_json::from_slice(&read(content)?).map_err(|e| fault(content, e))?;
    let roster = Roster::new(said).map_err(|e| fault(content, e))?;
    let sha256 = roster.sha256();
    tell(&lines(&roster).join("\n"))?;
    write(out, &SignedRoster::new(roster, vec![]).encode().map_err(|e| fault(out, e))?)?;
    print(&sha256.to_string())
}

/// Shows what a roster changes, and adds a signature to it.
pub(crate) fn sign(
    file: &Path,
    before: &Path,
    out: &Path,
    card: &CardArgs,
    pin: PinArgs,
) -> Result<(), Fatal> {
    is_new(out)?;
    let (signed, current) = (signed_roster(file)?, signed_roster(before)?);
    let (offered, current) = (signed.offered().clone(), current.offered().clone());
    let follows = current.version().checked_add(1) == Some(offered.version())
        && offered.content().previous == Some(current.sha256());
    if !follows {
        let why = format!("does not follow {}: nobody could take it", before.display());
        return Err(fault(file, why));
    }
    tell(&differences(&current, &offered).join("\n"))?;
    let key = card.key()?;
    let id = key.spki.id();
    if !current.key(id).is_some_and(|(_, key)| matches!(key.method, Method::Piv { .. })) {
        return Err(fault(before, format!("has no PIV key {id}: only its own people sign the next version")));
    }
    let signature = touch(&key, pin, &SignedRoster::signed_bytes(&offered), "sign the roster")?;
    let mut signatures = signed.signatures().to_vec();
    signatures.retain(|(signer, _)| *signer != id);
    signatures.push((id, signature));
    let more = SignedRoster::new(offered, signatures);
    write(out, &more.encode().map_err(|e| fault(out, e))?)?;
    match more.after(&current) {
        Ok(_) => {
            print(&format!("{}: enough people of version {} have signed", out.display(), current.version()))
        }
        Err(missing) => print(&format!("{}: {missing}", out.display())),
    }
}

/// Verifies a chain of rosters.
pub(crate) fn verify(pin: Sha256, files: &[PathBuf]) -> Result<u8, Fatal> {
    let mut current: Option<Roster> = None;
    for file in files {
        let signed = signed_roster(file)?;
        let followed = match &current {
            None => signed.first(pin),
            Some(current) => signed.after(current),
        };
        match followed {
            Ok(roster) => current = Some(roster),
            Err(why) => {
                tell(&format!("{}: {why}", file.display()))?;
                return Ok(10);
            }
        }
    }
    let roster = current.ok_or_else(|| fault(Path::new("the command line"), "names no roster"))?;
    print(&lines(&roster).join("\n"))?;
    Ok(0)
}
