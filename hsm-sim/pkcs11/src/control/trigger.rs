//! Which of the calls that a rule is about it strikes: all of its conditions must hold.

use super::{error::RuleError, state::Count};
use std::time::Duration;

/// The conditions of a rule; an absent one always holds.
#[derive(Debug, Default)]
pub(crate) struct Trigger {
    /// Only this call, from 1.
    pub(crate) nth: Option<u64>,
    /// Each such call: with 3 the third, the sixth, and so on.
    pub(crate) every: Option<u64>,
    /// With this chance, from 0 to 1, drawn from `seed` and the call's number: the same calls in every run.
    pub(crate) probability: Option<f64>,
    pub(crate) seed: u64,
    /// Not before the module is loaded for so long.
    pub(crate) from: Option<Duration>,
    /// Not any more when the module is loaded for so long.
    pub(crate) until: Option<Duration>,
    /// At most so often.
    pub(crate) times: Option<u64>,
}

impl Trigger {
    /// Whether the rule strikes the call that is number `count.seen`, in a process that loaded the module this long ago.
    pub(crate) fn strikes(&self, count: Count, loaded_for: Duration) -> bool {
        self.nth.is_none_or(|nth| count.seen == nth)
            && self.every.is_none_or(|every| count.seen.is_multiple_of(every))
            && self.probability.is_none_or(|chance| draw(self.seed, count.seen) < chance)
            && self.from.is_none_or(|from| loaded_for >= from)
            && self.until.is_none_or(|until| loaded_for < until)
            && self.times.is_none_or(|times| count.fired < times)
    }

    /// Refuses numbers with which the rule could not strike at all.
    pub(crate) fn check(&self) -> Result<(), RuleError> {
        for (member, value) in [("nth", self.nth), ("every", self.every), ("times", self.times)] {
            if value == Some(0) {
                return Err(RuleError::Range { member, range: "at least 1" });
            }
        }
        if self.probability.is_some_and(|chance| !(0.0..=1.0).contains(&chance)) {
            return Err(RuleError::Range { member: "probability", range: "from 0 to 1" });
        }
        if self.until.is_some_and(|until| until <= self.from.unwrap_or_default()) {
            return Err(RuleError::Range { member: "until_ms", range: "later than from_ms" });
        }
        Ok(())
    }
}

/// A number from 0 to 1 that looks random: `SplitMix64` (Steele, Lea, Flood 2014).
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
fn draw(seed: u64, n: u64) -> f64 {
    let mut mixed = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::{Count, Trigger};
    use std::time::Duration;

    /// The calls among the first `calls` that are struck.
    fn struck(trigger: &Trigger, calls: u64) -> Vec<u64> {
        let mut fired = 0;
        (1..=calls)
            .filter(|seen| {
                let strikes = trigger.strikes(Count { seen: *seen, fired }, Duration::ZERO);
                fired += u64::from(strikes);
                strikes
            })
            .collect()
    }

    #[test]
    fn conditions_choose_calls_by_number() {
        assert_eq!(struck(&Trigger::default(), 3), [1, 2, 3]);
        assert_eq!(struck(&Trigger { nth: Some(2), ..Trigger::default() }, 5), [2]);
        assert_eq!(struck(&Trigger { every: Some(2), ..Trigger::default() }, 5), [2, 4]);
        assert_eq!(struck(&Trigger { every: Some(2), times: Some(1), ..Trigger::default() }, 5), [2]);
    }

    #[test]
    fn a_seed_chooses_the_same_calls_in_every_run() {
        let trigger = |seed| Trigger { probability: Some(0.25), seed, ..Trigger::default() };
        let calls = struck(&trigger(1), 4000);
        assert_eq!(calls, struck(&trigger(1), 4000));
        assert_ne!(calls, struck(&trigger(2), 4000));
        assert!((800..1200).contains(&calls.len()), "{}", calls.len());
        for (chance, struck_calls) in [(0.0, 0), (1.0, 100)] {
            let trigger = Trigger { probability: Some(chance), ..Trigger::default() };
            assert_eq!(struck(&trigger, 100).len(), struck_calls);
        }
    }

    #[test]
    fn a_window_counts_from_the_load_of_the_module() {
        let ms = Duration::from_millis;
        let trigger = Trigger { from: Some(ms(10)), until: Some(ms(20)), ..Trigger::default() };
        let strikes = |at| trigger.strikes(Count { seen: 1, fired: 0 }, ms(at));
        assert_eq!([9, 10, 19, 20].map(strikes), [false, true, true, false]);
    }
}
