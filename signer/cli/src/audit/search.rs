//! A search over a whole verified log: nothing that matches is left out, and nothing is shown that is not in it.

use super::{
    AuditError, LogSource, Trust,
    facts::{Asked, Decision, Ended, Facts},
    matching::End,
    walk::{Walked, walk},
};
use record::{Digest, KeyId, Leaf, Principal, RequestId, Tag, Time};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The most entries of one answer: they are held in memory until the last entry of the log is read.
pub(crate) const MAX_HITS: usize = 10_000;

/// What is looked for: every member that is set must fit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// An exact name, or a prefix that ends in '/'.
    pub(crate) repository: Option<String>,
    pub(crate) tag: Option<Tag>,
    pub(crate) digest: Option<Digest>,
    pub(crate) by: Option<Principal>,
    pub(crate) request: Option<RequestId>,
    pub(crate) key: Option<KeyId>,
    pub(crate) since: Option<Time>,
    pub(crate) before: Option<Time>,
    pub(crate) decision: Option<Decision>,
    pub(crate) end: Option<End>,
    pub(crate) from: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    pub(crate) origin: String,
    /// How many entries were searched.
    pub(crate) size: u64,
    pub(crate) hits: Vec<Hit>,
    /// Where to go on, if there may be more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<u64>,
    /// How much is wrong with the log's entries.
    #[serde(skip)]
    pub(crate) findings: u64,
    #[serde(skip)]
    pub(crate) note: String,
}

/// One entry that fits.
#[derive(Debug, Serialize)]
pub(crate) struct Hit {
    pub(crate) index: u64,
    pub(crate) kind: &'static str,
    #[serde(flatten)]
    pub(crate) facts: Facts,
    #[serde(flatten)]
    pub(crate) ended: Option<Ended>,
    pub(crate) leaf: Box<RawValue>,
}

impl Filter {
    /// Whether this leaf fits, its end apart.
    fn fits(&self, index: u64, facts: &Facts) -> bool {
        let repository = |wanted: &String| {
            facts.repository.as_ref().is_some_and(|r| r.as_str() == wanted || r.is_under(wanted))
        };
        index >= self.from
            && self.repository.as_ref().is_none_or(repository)
            && self.key.is_none_or(|key| facts.key == Some(key))
            && self.since.is_none_or(|since| facts.time.is_some_and(|time| time >= since))
            && self.before.is_none_or(|before| facts.time.is_some_and(|time| time < before))
            && self.decision.is_none_or(|decision| facts.decision == Some(decision))
            && (!self.asks() || facts.asked.iter().any(|asked| self.fits_asked(asked)))
    }

    /// One change must fit as a whole: not the tag of one and the digest of another.
    fn fits_asked(&self, asked: &Asked) -> bool {
        let fits = |wanted: bool, equal: bool| !wanted || equal;
        fits(self.tag.is_some(), self.tag == asked.tag)
            && fits(self.digest.is_some(), self.digest == asked.digest)
            && fits(self.by.is_some(), self.by == asked.by)
            && fits(self.request.is_some(), self.request == asked.request)
    }

    fn asks(&self) -> bool {
        self.tag.is_some() || self.digest.is_some() || self.by.is_some() || self.request.is_some()
    }
}

/// Searches the whole log, which is verified on the way; at most `limit` entries are given, in order.
pub(crate) fn search(
    source: &LogSource,
    trust: &Trust,
    filter: &Filter,
    limit: usize,
) -> Result<Found, AuditError> {
    // Only once the last entry is read is it known how an intent ended.
    let candidates = if filter.end.is_some() { MAX_HITS } else { limit };
    let mut hits: BTreeMap<u64, Hit> = BTreeMap::new();
    let mut next = None;
    let Walked { accepted, mut ends } = walk(source, trust, |index, bytes, step| {
        if let Some(closed) = step.closed
            && let Some(hit) = hits.get_mut(&closed.intent)
        {
            hit.ended = Some(Ended { end: closed.end, index: Some(index) });
        }
        let Some(hit) = step.leaf.and_then(|leaf| hit(index, bytes, &leaf, filter)) else { return };
        if next.is_none() && hits.len() < candidates {
            hits.insert(index, hit);
        } else if next.is_none() {
            next = Some(index);
        }
    })?;
    let fits = |hit: &Hit| filter.end.is_none_or(|end| hit.ended.is_some_and(|ended| ended.end == end));
    let mut hits: Vec<Hit> = hits.into_values().filter(fits).collect();
    if let Some(beyond) = hits.get(limit) {
        next = Some(beyond.index);
        hits.truncate(limit);
    }
    let (origin, size) = (accepted.checkpoint.origin, accepted.checkpoint.size);
    Ok(Found { origin, size, hits, next, findings: ends.findings().total, note: accepted.note })
}

fn hit(index: u64, bytes: &[u8], leaf: &Leaf, filter: &Filter) -> Option<Hit> {
    let facts = Facts::of(leaf);
    if !filter.fits(index, &facts) {
        return None;
    }
    let ended = matches!(leaf, Leaf::Intent(_)).then_some(Ended { end: End::Open, index: None });
    let leaf_text = RawValue::from_string(String::from_utf8(bytes.to_vec()).ok()?).ok()?;
    Some(Hit { index, kind: leaf.kind(), facts, ended, leaf: leaf_text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::synthetic::{Log, completion, denial, intent, outcome, time};
    use record::OutcomeKind;

    /// Five intents with the tags v1 to v5: signed, failed, unknown, open, and v1 again, signed; and a denial of v9.
    fn log() -> Log {
        let mut log = Log::new();
        for n in 1..=4 {
            log.push(intent(n, n));
        }
        log.push(completion(1));
        log.push(outcome(2, OutcomeKind::Failed));
        log.push(outcome(3, OutcomeKind::Unknown));
        log.push(denial(8, "v9"));
        log.push(intent(9, 1));
        log.push(completion(1));
        log
    }

    fn found(filter: &Filter, limit: usize) -> (Vec<u64>, Option<u64>) {
        let log = log();
        let published = log.published(log.size());
        let found = search(&published.source(), &log.trust(), filter, limit).unwrap();
        assert_eq!(found.size, 11);
        (found.hits.iter().map(|hit| hit.index).collect(), found.next)
    }

    fn by(filter: Filter) -> Vec<u64> {
        let (hits, next) = found(&filter, 100);
        assert_eq!(next, None);
        hits
    }

    #[test]
    fn every_question_finds_what_fits_it_and_nothing_else() {
        let none = Filter::default;
        assert_eq!(by(none()), (0..11).collect::<Vec<_>>());
        assert_eq!(by(Filter { tag: Some("v1".parse().unwrap()), ..none() }), [1, 9]);
        assert_eq!(by(Filter { digest: Some(Digest::of(&2u64.to_be_bytes())), ..none() }), [2]);
        let other = Some(Digest::of(&2u64.to_be_bytes()));
        assert!(by(Filter { tag: Some("v1".parse().unwrap()), digest: other, ..none() }).is_empty());
        for repository in ["r.example/a", "r.example/"] {
            let filter = Filter { repository: Some(repository.into()), ..none() };
            assert_eq!(by(filter), [1, 2, 3, 4, 8, 9], "{repository}");
        }
        assert!(by(Filter { repository: Some("r.example".into()), ..none() }).is_empty());
        assert_eq!(by(Filter { by: Some("token:ci".parse().unwrap()), ..none() }), [1, 2, 3, 4, 8, 9]);
        assert_eq!(by(Filter { decision: Some(Decision::Denied), ..none() }), [8]);
        assert_eq!(by(Filter { decision: Some(Decision::Allowed), ..none() }), [1, 2, 3, 4, 9]);
        assert_eq!(
            by(Filter { key: Some(crate::audit::synthetic::key()), ..none() }),
            [1, 2, 3, 4, 5, 9, 10]
        );
        assert_eq!(by(Filter { since: Some(time(3)), before: Some(time(8)), ..none() }), [3, 4, 7]);
        assert_eq!(by(Filter { from: 9, ..none() }), [9, 10]);
    }

    #[test]
    fn an_intent_is_found_by_its_end_wherever_that_stands() {
        let ended = |end| by(Filter { end: Some(end), ..Filter::default() });
        assert_eq!(ended(End::Signed), [1, 9]);
        assert_eq!((ended(End::Failed), ended(End::Unknown), ended(End::Open)), (vec![2], vec![3], vec![4]));
        assert!(ended(End::Void).is_empty());
    }

    #[test]
    fn an_answer_that_is_cut_says_where_to_go_on() {
        let tagged = Filter { repository: Some("r.example/a".into()), ..Filter::default() };
        assert_eq!(found(&tagged, 2), (vec![1, 2], Some(3)));
        assert_eq!(found(&Filter { from: 3, ..tagged.clone() }, 9), (vec![3, 4, 8, 9], None));
        assert_eq!(found(&Filter { end: Some(End::Signed), ..tagged }, 1), (vec![1], Some(9)));
    }

    #[test]
    fn what_is_wrong_with_entries_that_nobody_asked_for_is_counted() {
        let mut log = log();
        let findings = |log: &Log| {
            let filter = Filter { from: log.size(), ..Filter::default() };
            search(&log.published(log.size()).source(), &log.trust(), &filter, 9).unwrap().findings
        };
        assert_eq!(findings(&log), 0);
        log.push(completion(99));
        assert_eq!(findings(&log), 1);
    }

    #[test]
    fn a_log_that_was_altered_gives_no_answer() {
        let log = log();
        let published = log.published(log.size());
        let bundle = published.files().into_iter().find(|f| f.to_string_lossy().contains("entries")).unwrap();
        let bytes = std::fs::read(&bundle).unwrap();
        std::fs::write(&bundle, [&bytes[..bytes.len() - 1], b" "].concat()).unwrap();
        assert!(search(&published.source(), &log.trust(), &Filter::default(), 9).is_err());
    }
}
