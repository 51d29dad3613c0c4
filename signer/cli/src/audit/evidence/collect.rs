//! What belongs to one entry or request, taken out of a whole verified log.

use super::{Collected, Evidence, Proven, Role, SCHEMA, Wanted};
use crate::audit::{
    AuditError, LogSource, Prover, Trust,
    ends::Step,
    facts::Facts,
    matching::End,
    walk::{Walked, walk},
};
use record::Leaf;
use std::collections::BTreeMap;
use tlog::{TILE_WIDTH, leaf_hash};

/// Verifies the whole log and takes out of it what belongs to one entry or request.
pub(crate) fn collect(source: &LogSource, trust: &Trust, wanted: &Wanted) -> Result<Collected, AuditError> {
    let mut picker = Picker { wanted, open: BTreeMap::new(), picks: BTreeMap::new(), other: None };
    let Walked { accepted, mut ends } = walk(source, trust, |index, _, step| picker.step(index, &step))?;
    let size = accepted.checkpoint.size;
    let (roles, other_intents) = picker.roles().ok_or_else(|| match wanted {
        Wanted::Index(index) => AuditError::NoEntry { index: *index, size },
        Wanted::Request(request) => AuditError::NoRequest { request: request.to_string(), size },
    })?;
    let mut prover = Prover::new(source, &accepted.checkpoint);
    let entries =
        roles.into_iter().map(|(index, role)| proven(&mut prover, index, role)).collect::<Result<_, _>>()?;
    let (schema, log) = (SCHEMA.to_owned(), trust.key.to_string());
    let evidence = Evidence { schema, log, checkpoint: accepted.note, entries };
    Ok(Collected { evidence, other_intents, findings: ends.findings().total })
}

fn proven(prover: &mut Prover<'_>, index: u64, role: Role) -> Result<Proven, AuditError> {
    let position = usize::try_from(index % TILE_WIDTH).unwrap_or(usize::MAX);
    let bytes = prover.entries(index / TILE_WIDTH)?.into_iter().nth(position);
    let bytes = bytes.ok_or_else(|| AuditError::Log(format!("the bundle of entry {index} is too short")))?;
    let proof = prover.inclusion_of(index, leaf_hash(&bytes))?.hashes;
    let leaf = String::from_utf8(bytes).map_err(|_| {
        AuditError::Log(format!("entry {index} is no text, and so no entry of a Chancery log"))
    })?;
    Ok(Proven { role, index, leaf, proof })
}

/// What a walk picks out.
struct Picker<'a> {
    wanted: &'a Wanted,
    /// Where the key of each open intent was presented.
    open: BTreeMap<u64, Option<u64>>,
    /// The intents that are wanted.
    picks: BTreeMap<u64, Pick>,
    /// Another entry that is wanted.
    other: Option<u64>,
}

#[derive(Clone, Copy)]
struct Pick {
    presented_at: Option<u64>,
    ended: Option<(u64, End)>,
}

impl Picker<'_> {
    fn step(&mut self, index: u64, step: &Step) {
        let is_wanted = match (self.wanted, &step.leaf) {
            (Wanted::Index(wanted), _) => *wanted == index,
            (Wanted::Request(request), Some(leaf)) => {
                Facts::of(leaf).asked.iter().any(|asked| asked.request.as_ref() == Some(request))
            }
            (Wanted::Request(_), None) => false,
        };
        if let Some(Leaf::Intent(_)) = &step.leaf {
            self.open.insert(index, step.presented_at);
            if is_wanted {
                self.picks.insert(index, Pick { presented_at: step.presented_at, ended: None });
            }
        } else if let Some(closed) = step.closed {
            let presented_at = self.open.remove(&closed.intent).flatten();
            if is_wanted || self.picks.contains_key(&closed.intent) {
                self.picks.insert(closed.intent, Pick { presented_at, ended: Some((index, closed.end)) });
            }
        } else if is_wanted {
            self.other = Some(index);
        }
    }

    /// The entries of the newest wanted intent that was signed, or else of the newest one; and the other intents.
    fn roles(self) -> Option<(BTreeMap<u64, Role>, Vec<u64>)> {
        let signed = |pick: &Pick| pick.ended.is_some_and(|(_, end)| end == End::Signed);
        let chosen = self.picks.iter().rev().find(|(_, pick)| signed(pick)).or(self.picks.iter().next_back());
        let mut roles = BTreeMap::new();
        let others = match chosen {
            Some((intent, pick)) => {
                roles.extend(pick.presented_at.map(|at| (at, Role::Keeper)));
                roles.insert(*intent, Role::Intent);
                roles.extend(pick.ended.map(|(at, _)| (at, Role::End)));
                self.picks.keys().filter(|index| *index != intent).copied().collect()
            }
            None => {
                roles.insert(self.other?, Role::Entry);
                Vec::new()
            }
        };
        roles.insert(0, Role::Genesis);
        Some((roles, others))
    }
}
