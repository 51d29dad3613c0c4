//! One rule, in the forwarder's spelling: `hsm-sim/pkcs11/README.md` is the reference.

use serde::Serialize;
use std::time::Duration;

/// Which calls, which of them, and what happens to them. Without a condition it is every call; more conditions must
/// hold all together.
///
/// ```
/// use hsm_sim::Rule;
/// let rule = Rule::hang("C_Sign").after().nth(2).times(1);
/// ```
#[derive(Debug, Clone, Serialize)]
#[must_use = "a rule does nothing until it is added"]
pub struct Rule {
    on: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<When>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    length_query: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    nth: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until_ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
    #[serde(rename = "do")]
    action: Action,
    #[serde(skip_serializing_if = "is_false")]
    poison: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum When {
    Before,
    After,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    DelayMs(u128),
    Hang,
    Return(String),
    Abort,
    RemoveToken,
    DropLogin,
    FlipBit(u64),
    OlderSignature,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde wants")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Rule {
    /// Holds the call until [`crate::Faults::release`], then lets it go on.
    pub fn hang(function: &'static str) -> Self {
        Self::new(function, Action::Hang)
    }

    /// Delays the call, by at most 10 minutes.
    pub fn delay(function: &'static str, time: Duration) -> Self {
        Self::new(function, Action::DelayMs(time.as_millis()))
    }

    /// Answers with a `CKR_` name, or a number as `"0x.."`.
    pub fn answer(function: &'static str, rv: &str) -> Self {
        Self::new(function, Action::Return(rv.to_owned()))
    }

    /// Ends the process by `abort()`.
    pub fn abort(function: &'static str) -> Self {
        Self::new(function, Action::Abort)
    }

    /// Takes the token away, until the rule is released.
    pub fn remove_token(function: &'static str) -> Self {
        Self::new(function, Action::RemoveToken)
    }

    /// Logs the token out, and answers `CKR_USER_NOT_LOGGED_IN`.
    pub fn drop_login(function: &'static str) -> Self {
        Self::new(function, Action::DropLogin)
    }

    /// Flips a bit of the signature that the caller gets.
    pub fn flip_bit(function: &'static str, bit: u64) -> Self {
        Self::new(function, Action::FlipBit(bit))
    }

    /// Gives the caller the signature that the same key made before, in the same process.
    pub fn older_signature(function: &'static str) -> Self {
        Self::new(function, Action::OlderSignature)
    }

    /// Before the real function, which is not called if the rule gives an answer. This is usual.
    pub fn before(self) -> Self {
        Self { when: Some(When::Before), ..self }
    }

    /// After the real function did its work. Of a signature, the journal has it, and the caller has nothing yet.
    pub fn after(self) -> Self {
        Self { when: Some(When::After), ..self }
    }

    /// Only the call of this number, from 1.
    pub fn nth(self, n: u64) -> Self {
        Self { nth: Some(n), ..self }
    }

    /// Each such call: with 3 the third, the sixth, and so on.
    pub fn every(self, k: u64) -> Self {
        Self { every: Some(k), ..self }
    }

    /// With this chance, from 0 to 1; a seed chooses the same calls in every run.
    pub fn probability(self, chance: f64, seed: u64) -> Self {
        Self { probability: Some(chance), seed: Some(seed), ..self }
    }

    /// Not before the process has the module loaded for so long.
    pub fn from(self, time: Duration) -> Self {
        Self { from_ms: Some(time.as_millis()), ..self }
    }

    /// Not any more when the process has the module loaded for so long.
    pub fn until(self, time: Duration) -> Self {
        Self { until_ms: Some(time.as_millis()), ..self }
    }

    /// At most so often, over all processes.
    pub fn times(self, n: u64) -> Self {
        Self { times: Some(n), ..self }
    }

    /// Only in this session.
    pub fn session(self, handle: u64) -> Self {
        Self { session: Some(handle), ..self }
    }

    /// Only signing operations of the key with this `CKA_ID`.
    pub fn key(self, id: &[u8]) -> Self {
        Self { key: Some(id.iter().map(|byte| format!("{byte:02x}")).collect()), ..self }
    }

    /// Strikes the calls that only ask for the signature's length, and no others; other rules do not see them.
    pub fn on_length_query(self) -> Self {
        Self { length_query: true, ..self }
    }

    /// The answer leaves the signing operation active, as some modules do against the standard.
    pub fn poison(self) -> Self {
        Self { poison: true, ..self }
    }

    pub(super) fn removes_the_token(&self) -> bool {
        matches!(self.action, Action::RemoveToken)
    }

    pub(super) fn function(&self) -> &'static str {
        self.on
    }

    fn new(on: &'static str, action: Action) -> Self {
        Self {
            on,
            when: None,
            session: None,
            key: None,
            length_query: false,
            nth: None,
            every: None,
            probability: None,
            seed: None,
            from_ms: None,
            until_ms: None,
            times: None,
            action,
            poison: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rule;
    use std::time::Duration;

    #[test]
    fn a_rule_is_spelled_as_the_forwarder_reads_it() {
        for (rule, text) in [
            (Rule::hang("C_Sign"), r#"{"on":"C_Sign","do":"hang"}"#),
            (
                Rule::delay("*", Duration::from_secs(1)).after().times(2),
                r#"{"on":"*","when":"after","times":2,"do":{"delay_ms":1000}}"#,
            ),
            (
                Rule::answer("C_Sign", "CKR_DEVICE_ERROR").key(&[0xa1]).poison(),
                r#"{"on":"C_Sign","key":"a1","do":{"return":"CKR_DEVICE_ERROR"},"poison":true}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&rule).unwrap(), text);
        }
    }
}
