//! One frame of a daemon, decided: follow the log, settle, void, check the items, in this order.
//!
//! Pure: it takes the state, the results and the time, and gives back what must be written, what will be answered, and
//! which items may go to the token once it is written.

use super::refusal::{Code, Refused};
use super::results::Results;
use super::settle;
use super::state::{Change, Contradiction, Draft, Reserve, State};
use super::validate::{self, Checked, Followed, Rules};
use record::wire::{Batch, Item, MAX_APPROVALS, MAX_ITEMS, Refusal, Reserved};

/// What becomes of a frame.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Nothing was done.
    Refused(Refused),
    /// The note is older than what was seen, or its proof starts elsewhere. Nothing was done.
    Behind,
    /// The note does not extend what was seen: to be written before it is answered.
    Fork,
    /// A fork was seen before. Nothing was done.
    Forked,
    /// The frame was carried out in memory.
    Done(Work),
}

/// A frame that was carried out in memory, and has no effect outside until `reserve` is durable.
#[derive(Debug)]
pub(super) struct Work {
    /// What to write; nothing when nothing changed.
    pub(super) reserve: Option<Reserve>,
    /// What to answer; the journal fills in its generation.
    pub(super) answer: Reserved,
    /// What to hand to the token, after the answer.
    pub(super) accepted: Vec<Checked>,
}

/// Decides a frame. After a [`Contradiction`] the state is not to be used any more.
pub(super) fn decide(
    batch: &Batch,
    rules: &Rules<'_>,
    state: &mut State,
    results: &mut Results,
) -> Result<Verdict, Contradiction> {
    if let Err(refused) = within_limits(batch) {
        return Ok(Verdict::Refused(refused));
    }
    // INVARIANT(no-reset): after a fork nothing is done until an operator has looked.
    if state.forked {
        return Ok(Verdict::Forked);
    }
    let followed = match validate::follow(batch, rules.charter, &state.seen) {
        Ok(Followed::Behind) => return Ok(Verdict::Behind),
        Ok(Followed::Fork) => return Ok(Verdict::Fork),
        Ok(followed) => followed,
        Err(refused) => return Ok(Verdict::Refused(refused)),
    };
    carry_out(batch, followed, rules, state, results).map(Verdict::Done)
}

fn carry_out(
    batch: &Batch,
    followed: Followed,
    rules: &Rules<'_>,
    state: &mut State,
    results: &mut Results,
) -> Result<Work, Contradiction> {
    let mut frame = Frame {
        rules,
        results,
        draft: Draft::new(state, rules.now),
        settled: vec![],
        unsettled: vec![],
        refused: vec![],
        accepted: vec![],
    };
    if let Followed::Newer(seen) = followed {
        frame.draft.change(Change::Followed(seen))?;
    }
    batch.settle.iter().try_for_each(|s| frame.settle(s))?;
    batch.void.iter().try_for_each(|index| frame.void(*index))?;
    batch.sign.iter().try_for_each(|item| frame.sign(item))?;
    Ok(frame.close())
}

fn within_limits(batch: &Batch) -> Result<(), Refused> {
    let approvals = batch.sign.iter().map(|item| item.approvals.len()).max().unwrap_or(0);
    if approvals > MAX_APPROVALS {
        let why = format!("{approvals} approvals of one item: the limit is {MAX_APPROVALS}");
        return Err(Refused::new(Code::Frame, why));
    }
    let longest = batch.settle.len().max(batch.void.len()).max(batch.sign.len()).max(batch.consistency.len());
    if longest <= MAX_ITEMS {
        Ok(())
    } else {
        Err(Refused::new(Code::Frame, format!("a list of {longest} in one frame: the limit is {MAX_ITEMS}")))
    }
}

struct Frame<'a> {
    rules: &'a Rules<'a>,
    results: &'a mut Results,
    draft: Draft<'a>,
    settled: Vec<u64>,
    unsettled: Vec<Refusal>,
    refused: Vec<Refusal>,
    accepted: Vec<Checked>,
}

impl Frame<'_> {
    fn settle(&mut self, settle: &record::wire::Settle) -> Result<(), Contradiction> {
        match settle::close(settle, self.rules.charter, self.draft.state(), self.results) {
            Ok(change) => {
                self.draft.change(change)?;
                self.results.forget(settle.index);
                self.settled.push(settle.index);
            }
            Err(refused) => self.unsettled.push(refused.of(settle.index)),
        }
        Ok(())
    }

    fn void(&mut self, index: u64) -> Result<(), Contradiction> {
        let state = self.draft.state();
        let refused = if state.open.contains_key(&index) {
            Refused::new(Code::Unsettled, "it was reserved: only its own result closes it")
        } else if index >= state.seen.size {
            Refused::new(Code::Proof, "the log that was seen has no such leaf")
        } else if state.is_used(index) {
            return Ok(());
        } else if let Err(full) = validate::room(state) {
            full
        } else {
            return self.draft.change(Change::Spent { index });
        };
        self.refused.push(refused.of(index));
        Ok(())
    }

    fn sign(&mut self, item: &Item) -> Result<(), Contradiction> {
        match validate::check(item, self.rules, self.draft.state(), self.results) {
            Ok(checked) => self.accept(checked),
            Err(refused) => self.refuse(item.index, refused),
        }
    }

    fn accept(&mut self, checked: Checked) -> Result<(), Contradiction> {
        for child in checked.children() {
            let link = self.draft.state().chain.link(&child.repository, child.role);
            let newest = link.map_or(0, |l| l.version);
            if child.version > newest {
                self.draft.change(Change::Taken(child.clone()))?;
            } else if child.version == newest && link.is_some_and(|l| !l.confirmed) {
                self.draft.change(Change::Confirmed(child.clone()))?;
            }
        }
        self.draft.change(Change::Opened { index: checked.index(), item: checked.item().clone() })?;
        self.results.begin(checked.index());
        self.accepted.push(checked);
        Ok(())
    }

    fn refuse(&mut self, index: u64, refused: Refused) -> Result<(), Contradiction> {
        tracing::warn!(index, code = refused.code.word(), detail = refused.detail, "refused");
        if refused.code.spends() && !self.draft.state().is_used(index) {
            self.draft.change(Change::Spent { index })?;
        }
        self.refused.push(refused.of(index));
        Ok(())
    }

    fn close(self) -> Work {
        let answer = Reserved {
            seen: self.draft.state().seen.size,
            settled: self.settled,
            unsettled: self.unsettled,
            refused: self.refused,
            accepted: self.accepted.iter().map(Checked::index).collect(),
            generation: 0,
        };
        Work { reserve: self.draft.close(), answer, accepted: self.accepted }
    }
}

#[cfg(test)]
mod tests;
