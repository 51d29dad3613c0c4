//! `rules.jsonl`: one rule a line, parsed as a whole. A rule that means nothing makes the file mean nothing.

use super::{
    ckr::CkrText,
    error::{ControlError, RuleError},
    trigger::Trigger,
};
use crate::overrides;
use cryptoki_sys::CK_RV;
use serde::Deserialize;
use std::{cell::Cell, collections::HashSet, path::Path, time::Duration};

/// Each call looks at all of them.
const MAX_RULES: usize = 256;
/// A call that is delayed longer is better told to hang.
const MAX_DELAY_MS: u64 = 600_000;

/// When one of these is called, `function` is a signing operation's.
const SIGNING: [&str; 4] = ["C_SignInit", "C_Sign", "C_SignUpdate", "C_SignFinal"];
const ENDS_IN_A_SIGNATURE: [&str; 2] = ["C_Sign", "C_SignFinal"];
const EVERY: &str = "*";

/// One rule: which calls, which of them, and what happens to them.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: String,
    pub(crate) function: String,
    pub(crate) when: When,
    pub(crate) session: Option<u64>,
    pub(crate) key: Option<String>,
    pub(crate) length_query: bool,
    pub(crate) trigger: Trigger,
    pub(crate) action: Action,
    pub(crate) poison: bool,
}

/// On which side of the real call a rule strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum When {
    /// The real function is not called.
    Before,
    /// The real function did its work; of a signature, the journal has it.
    After,
}

/// What happens to the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Delay(Duration),
    Hang,
    Return(CK_RV),
    Abort,
    RemoveToken,
    DropLogin,
    FlipBit(u64),
    OlderSignature,
}

/// What a call is, as far as rules ask.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) function: &'static str,
    pub(crate) session: Option<u64>,
    /// The first argument is a slot.
    pub(crate) on_slot: bool,
    /// The `CKA_ID` in hex, if the call is about a signing key.
    pub(crate) key: Option<String>,
    pub(crate) length_query: bool,
    /// There is an older signature of this key to return.
    pub(crate) has_older: bool,
    /// The token's removals when the call came.
    pub(crate) removals: Cell<Option<u64>>,
}

impl Call {
    /// A call without a session.
    pub(crate) fn of(function: &'static str) -> Self {
        Self {
            function,
            session: None,
            on_slot: false,
            key: None,
            length_query: false,
            has_older: false,
            removals: Cell::default(),
        }
    }

    /// A call that asks the token in a slot.
    pub(crate) fn on_slot(function: &'static str) -> Self {
        Self { on_slot: true, ..Self::of(function) }
    }

    /// A call in a session.
    pub(crate) fn in_session(function: &'static str, session: u64) -> Self {
        Self { session: Some(session), ..Self::of(function) }
    }
}

impl Rule {
    /// Whether the rule is about this call.
    pub(crate) fn is_about(&self, call: &Call, when: When) -> bool {
        self.when == when
            && (self.function == EVERY || self.function == call.function)
            && self.session.is_none_or(|session| call.session == Some(session))
            && self.key.as_ref().is_none_or(|key| call.key.as_ref() == Some(key))
            && self.length_query == call.length_query
            && (self.action != Action::OlderSignature || call.has_older)
            && (self.action != Action::DropLogin || call.session.is_some())
    }
}

impl Action {
    /// Whether the call ends with it, so that later rules do not see it.
    pub(crate) fn ends_the_call(self) -> bool {
        matches!(self, Self::Return(_) | Self::Abort | Self::RemoveToken | Self::DropLogin)
    }

    fn alters_the_signature(self) -> bool {
        matches!(self, Self::FlipBit(_) | Self::OlderSignature)
    }
}

/// All rules of the file at `path`, whose text this is.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Vec<Rule>, ControlError> {
    let mut ids = HashSet::new();
    let written = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let rules = written
        .map(|(index, line)| {
            let bad = |source| ControlError::Rule { path: path.to_owned(), line: index + 1, source };
            let rule = parse_line(line).map_err(bad)?;
            if !ids.insert(rule.id.clone()) {
                return Err(bad(RuleError::Twice { id: rule.id }));
            }
            Ok(rule)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if rules.len() > MAX_RULES {
        return Err(ControlError::TooManyRules { path: path.to_owned(), limit: MAX_RULES });
    }
    Ok(rules)
}

/// The spelling of a rule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    on: String,
    when: Option<When>,
    session: Option<u64>,
    key: Option<String>,
    #[serde(default)]
    length_query: bool,
    nth: Option<u64>,
    every: Option<u64>,
    probability: Option<f64>,
    #[serde(default)]
    seed: u64,
    from_ms: Option<u64>,
    until_ms: Option<u64>,
    times: Option<u64>,
    #[serde(rename = "do")]
    action: ActionText,
    #[serde(default)]
    poison: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ActionText {
    DelayMs(u64),
    Hang,
    Return(CkrText),
    Abort,
    RemoveToken,
    DropLogin,
    FlipBit(u64),
    OlderSignature,
}

fn parse_line(line: &str) -> Result<Rule, RuleError> {
    let line: Line = serde_json::from_str(line)?;
    let action = line.action.action()?;
    let usual = if action.alters_the_signature() { When::After } else { When::Before };
    let rule = Rule {
        trigger: Trigger {
            nth: line.nth,
            every: line.every,
            probability: line.probability,
            seed: line.seed,
            from: line.from_ms.map(Duration::from_millis),
            until: line.until_ms.map(Duration::from_millis),
            times: line.times,
        },
        id: line.id,
        function: line.on,
        when: line.when.unwrap_or(usual),
        session: line.session,
        key: line.key,
        length_query: line.length_query,
        action,
        poison: line.poison,
    };
    check(&rule)?;
    Ok(rule)
}

impl ActionText {
    fn action(self) -> Result<Action, RuleError> {
        Ok(match self {
            Self::DelayMs(ms) if ms > MAX_DELAY_MS => {
                return Err(RuleError::Range { member: "delay_ms", range: "at most 600000" });
            }
            Self::DelayMs(ms) => Action::Delay(Duration::from_millis(ms)),
            Self::Hang => Action::Hang,
            Self::Return(text) => Action::Return(text.value()?),
            Self::Abort => Action::Abort,
            Self::RemoveToken => Action::RemoveToken,
            Self::DropLogin => Action::DropLogin,
            Self::FlipBit(bit) => Action::FlipBit(bit),
            Self::OlderSignature => Action::OlderSignature,
        })
    }
}

/// A combination that could never strike, or would strike otherwise than it reads, is refused.
fn check(rule: &Rule) -> Result<(), RuleError> {
    let name = rule.function.as_str();
    let every = name == EVERY;
    if !every && !overrides::takes_faults(name) {
        return Err(RuleError::Function { name: name.to_owned() });
    }
    if let Some(key) = rule.key.as_ref().filter(|key| !is_hex(key)) {
        return Err(RuleError::Key { key: key.clone() });
    }
    if rule.key.is_some() && !every && !SIGNING.contains(&name) {
        return Err(RuleError::NoKey { name: name.to_owned() });
    }
    let ends_in_a_signature = ENDS_IN_A_SIGNATURE.contains(&name);
    if rule.action.alters_the_signature() && !(ends_in_a_signature && rule.when == When::After) {
        return Err(RuleError::NoSignature);
    }
    if rule.length_query && !(ends_in_a_signature && rule.when == When::Before) {
        return Err(RuleError::LengthQuery);
    }
    if rule.poison && !may_poison(rule) {
        return Err(RuleError::Poison);
    }
    let has_session = every || overrides::has_session(name);
    if rule.action == Action::DropLogin && !(has_session && rule.when == When::Before) {
        return Err(RuleError::DropLogin);
    }
    rule.trigger.check()
}

/// There must be an operation that could stay active: none before it begins, none after the signature is made.
fn may_poison(rule: &Rule) -> bool {
    let name = rule.function.as_str();
    let active = match rule.when {
        When::Before => name != "C_SignInit",
        When::After => !ENDS_IN_A_SIGNATURE.contains(&name),
    };
    active && SIGNING.contains(&name) && matches!(rule.action, Action::Return(_))
}

fn is_hex(text: &str) -> bool {
    text.len().is_multiple_of(2) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::{Action, When, parse};
    use std::path::Path;

    #[test]
    fn a_rule_is_read_with_its_defaults() {
        let text = "\n{\"id\":\"a\",\"on\":\"C_Sign\",\"do\":\"hang\"}\n\
                    {\"id\":\"b\",\"on\":\"C_Sign\",\"do\":{\"flip_bit\":9}}\n";
        let rules = parse(Path::new("/r"), text).unwrap();
        let [hang, flip] = rules.as_slice() else { panic!("{rules:?}") };
        assert_eq!((hang.when, hang.action), (When::Before, Action::Hang));
        assert_eq!((flip.when, flip.action), (When::After, Action::FlipBit(9)));
    }

    #[test]
    fn a_rule_that_could_not_do_what_it_says_is_refused_with_its_line() {
        for bad in [
            r#"{"id":"a","on":"C_Sign"}"#,
            r#"{"id":"a","on":"C_Sign","do":"hang","more":1}"#,
            r#"{"id":"a","on":"C_Sing","do":"hang"}"#,
            r#"{"id":"a","on":"C_SignRecover","do":"explode"}"#,
            r#"{"id":"a","on":"C_Sign","do":{"return":"CKR_NO"}}"#,
            r#"{"id":"a","on":"C_Sign","do":{"delay_ms":600001}}"#,
            r#"{"id":"a","on":"C_Sign","do":"older_signature","when":"before"}"#,
            r#"{"id":"a","on":"C_Login","do":{"flip_bit":0}}"#,
            r#"{"id":"a","on":"C_Login","do":"hang","key":"a1"}"#,
            r#"{"id":"a","on":"C_Sign","do":"hang","key":"A1"}"#,
            r#"{"id":"a","on":"C_Login","do":"hang","length_query":true}"#,
            r#"{"id":"a","on":"C_Sign","do":"hang","poison":true}"#,
            r#"{"id":"a","on":"C_Sign","do":{"return":5},"when":"after","poison":true}"#,
            r#"{"id":"a","on":"C_SignInit","do":{"return":5},"poison":true}"#,
            r#"{"id":"a","on":"C_GetSlotList","do":"drop_login"}"#,
            r#"{"id":"a","on":"C_Sign","do":"hang","nth":0}"#,
            r#"{"id":"a","on":"C_Sign","do":"hang","probability":1.5}"#,
            r#"{"id":"a","on":"C_Sign","do":"hang","from_ms":5,"until_ms":5}"#,
            r#"{"id":"good","on":"C_Sign","do":"hang"}"#,
        ] {
            let text = format!("{{\"id\":\"good\",\"on\":\"*\",\"do\":\"hang\"}}\n{bad}\n");
            let said = parse(Path::new("/r"), &text).unwrap_err().to_string();
            assert!(said.contains("/r: line 2"), "{bad}: {said}");
        }
    }

    #[test]
    fn every_rule_of_the_readme_is_one() {
        let rules: String = include_str!("../../README.md")
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("{\"id\""))
            .flat_map(|line| [line, "\n"])
            .collect();
        assert!(parse(Path::new("/README.md"), &rules).unwrap().len() > 15);
    }

    #[test]
    fn rules_are_bounded() {
        let line = |n| format!("{{\"id\":\"{n}\",\"on\":\"*\",\"do\":\"abort\"}}\n");
        let text = (0..256).map(line).collect::<String>();
        assert_eq!(parse(Path::new("/r"), &text).unwrap().len(), 256);
        assert!(parse(Path::new("/r"), &[text, line(256)].concat()).is_err());
    }
}
