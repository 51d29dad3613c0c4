//! Whether each intent names the decisions behind it: the `allowed` entries directly before it, in its own commit.

use record::{
    Action, Allowance, Digest, Intent, MAX_BEFORE, PolicyStamp, Repository, Requested, Sha256, Tag,
};
use std::collections::VecDeque;

/// The decisions that the next intents may name.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    near: VecDeque<(u64, Sha256, Allowance)>,
}

/// What an intent says of one request, and its decision has to say too.
struct Told<'a> {
    requested: &'a Requested,
    repository: &'a Repository,
    policy: Option<PolicyStamp>,
    /// Of a change to a tag.
    image: Option<(&'a Tag, Digest)>,
}

impl Decisions {
    /// Takes an `allowed` entry with the bytes that it has.
    pub(crate) fn allowance(&mut self, index: u64, bytes: &[u8], allowance: &Allowance) {
        self.forget(index);
        self.near.push_back((index, Sha256::of(bytes), allowance.clone()));
    }

    /// What is wrong with the decisions that an intent names, if anything.
    pub(crate) fn intent(&mut self, index: u64, intent: &Intent) -> Result<(), &'static str> {
        self.forget(index);
        let told = |requested, image| Told {
            requested,
            repository: &intent.repository,
            policy: intent.policy,
            image,
        };
        let changes = match &intent.action {
            Action::Targets { changes, .. } => changes.as_slice(),
            _ => &[],
        };
        let of_changes = changes.iter().map(|c| told(&c.requested, Some((&c.tag, c.digest))));
        let mut all = intent.requested.iter().map(|requested| told(requested, None)).chain(of_changes);
        all.try_for_each(|told| self.named(&told))
    }

    fn named(&self, told: &Told<'_>) -> Result<(), &'static str> {
        let Some(named) = told.requested.decision else { return Ok(()) };
        let found = self.near.iter().find(|(_, sha256, _)| *sha256 == named).map(|(.., allowance)| allowance);
        let found = found.ok_or("an intent that names a decision which does not stand directly before it")?;
        let same = found.request == told.requested.request
            && found.by == told.requested.by
            && found.rules == told.requested.rules
            && found.repository == *told.repository
            && told.policy == Some(found.policy)
            && told
                .image
                .is_none_or(|(tag, digest)| found.tag.as_ref() == Some(tag) && found.digest == Some(digest));
        if same { Ok(()) } else { Err("an intent that names the decision about another request") }
    }

    fn forget(&mut self, index: u64) {
        while self.near.front().is_some_and(|(at, ..)| at + MAX_BEFORE < index) {
            self.near.pop_front();
        }
    }
}
