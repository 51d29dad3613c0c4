//! The Cedar policies: the built-in guardrails and the operator's files, merged into one strictly validated set.
//!
//! Promises: every policy has a unique `@id`; the prefix `builtin/` is ours; nothing that the strict validator or a
//! check of this module complains about, warnings included, is ever loaded. It does not know the facts of a request.

use crate::{
    message, nearest,
    nesting::{self, MAX_OPERATORS, TooComplex},
    repositories::{Repositories, is_token},
};
use cedar_policy::{Effect, EntityUid, Policy, PolicyId, Schema, ValidationMode, Validator};
use record::Repository;
use std::collections::BTreeMap;

/// Most policies of an operator: a denial names every one that failed and must fit one leaf of the log.
pub const MAX_OPERATOR_POLICIES: usize = 64;
/// Longest `@id`.
const MAX_ID: usize = 64;
/// What begins the ids of the guardrails.
pub(crate) const BUILTIN_PREFIX: &str = "builtin/";
/// The text of the guardrails.
pub(crate) const BUILTIN: &str = include_str!("cedar/builtin.cedar");
/// The text of the schema.
pub(crate) const SCHEMA: &str = include_str!("cedar/schema.cedarschema");

/// Annotations that mean something.
const ANNOTATIONS: [&str; 3] = ["id", "remedy", "message"];
/// What can still make the same request succeed: nothing (`final`), time alone (`retry`), or that somebody first does what
/// the message says (`act`).
const REMEDIES: [&str; 3] = ["final", "retry", "act"];

/// Why policies are refused.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// Not Cedar; the source says where.
    #[error("{file} is not a set of Cedar policies")]
    Parse {
        /// The file.
        file: String,
        /// What Cedar says.
        source: Box<cedar_policy::ParseErrors>,
    },
    /// The embedded schema does not parse: the program is broken.
    #[error("the built-in Cedar schema is not valid: this build of the program is broken")]
    Schema(#[source] Box<cedar_policy::CedarSchemaError>),
    /// A policy without `@id`.
    #[error(
        "{file}: policy number {number} has no @id(\"...\"): denials and the log name every policy by its id"
    )]
    NoId {
        /// The file.
        file: String,
        /// Which policy of the file, from 1.
        number: usize,
    },
    /// An `@id` outside the grammar, or with our prefix.
    #[error("{file}: @id({id:?}) {why}")]
    Id {
        /// The file.
        file: String,
        /// The id.
        id: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two policies of one id.
    #[error("@id({id:?}) stands in {first} and again in {second}: give each policy its own id")]
    DuplicateId {
        /// The id.
        id: String,
        /// The file of the first.
        first: String,
        /// The file of the second.
        second: String,
    },
    /// An annotation without meaning, or with a value that has none.
    #[error("{file}: policy {id:?}: {what}")]
    Annotation {
        /// The file.
        file: String,
        /// The policy.
        id: String,
        /// What is wrong.
        what: String,
    },
    /// A template: nothing ever links one, so it would never decide.
    #[error(
        "{file}: a policy with ?principal or ?resource is a template and would never decide; write the names out"
    )]
    Template {
        /// The file.
        file: String,
    },
    /// Arithmetic, which can overflow; Cedar skips a policy whose evaluation fails.
    #[error(
        "{file}: policy {id:?} uses the operator '{operator}': a number that overflows makes the policy fail when it is \
         needed; compare with a constant instead"
    )]
    Arithmetic {
        /// The file.
        file: String,
        /// The policy.
        id: String,
        /// The operator.
        operator: &'static str,
    },
    /// The policy names something that does not exist, so that part of it could never match.
    #[error("{file}: policy {id:?} names {entity}, {why}{hint}")]
    Entity {
        /// The file.
        file: String,
        /// The policy.
        id: String,
        /// The name.
        entity: String,
        /// Why it cannot exist.
        why: &'static str,
        /// The nearest name that exists, if one is near.
        hint: String,
    },
    /// The strict validator refuses the policy, or warns of it.
    #[error("{file}: policy {id:?} does not pass Cedar's strict validation: {detail}")]
    Invalid {
        /// The file.
        file: String,
        /// The policy.
        id: String,
        /// What the validator says.
        detail: String,
    },
    /// A policy that is too long or nests too deeply to be walked safely.
    #[error("{file}: {policy} {what}: split it, or move data into repositories.toml")]
    TooComplex {
        /// The file.
        file: String,
        /// Which policy, as well as it is known.
        policy: String,
        /// Which limit it exceeds.
        what: TooComplex,
    },
    /// Too many policies.
    #[error(
        "{0} operator policies, the limit is {MAX_OPERATOR_POLICIES}: use the options of repositories.toml for data"
    )]
    TooMany(usize),
    /// Cedar's own bookkeeping refuses a policy.
    #[error("{file}: policy {id:?} cannot be added to the set: {detail}")]
    Merge {
        /// The file.
        file: String,
        /// The policy.
        id: String,
        /// What Cedar says.
        detail: String,
    },
}

/// What a rule says when it denies.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) remedy: String,
    pub(crate) message: String,
}

/// The merged, validated policies.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) schema: Schema,
    pub(crate) policies: cedar_policy::PolicySet,
    notes: BTreeMap<String, Note>,
}

impl Rules {
    pub(crate) fn load(
        operator: &[(String, String)],
        repositories: &Repositories,
    ) -> Result<Self, RuleError> {
        let mut found = read_file("built-in policies", BUILTIN)?;
        let ours = found.len();
        for (file, text) in operator {
            found.extend(read_file(file, text)?);
        }
        let theirs = found.get(ours..).unwrap_or_default();
        if theirs.len() > MAX_OPERATOR_POLICIES {
            return Err(RuleError::TooMany(theirs.len()));
        }
        theirs.iter().try_for_each(|rule| rule.check_operator(repositories))?;
        Self::merge(found)
    }

    /// What the rule of this id says when it denies.
    pub(crate) fn note(&self, id: &str) -> Option<&Note> {
        self.notes.get(id)
    }

    fn merge(found: Vec<Rule>) -> Result<Self, RuleError> {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|e| RuleError::Schema(Box::new(e)))?;
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        let mut policies = cedar_policy::PolicySet::new();
        let mut notes = BTreeMap::new();
        for rule in found {
            if let Some(first) = files.insert(rule.id.clone(), rule.file.clone()) {
                return Err(RuleError::DuplicateId { id: rule.id, first, second: rule.file });
            }
            notes.insert(rule.id.clone(), rule.note()?);
            policies.add(rule.policy).map_err(|e| RuleError::Merge {
                file: rule.file,
                id: rule.id,
                detail: e.to_string(),
            })?;
        }
        validate(&schema, &policies, &files)?;
        Ok(Self { schema, policies, notes })
    }
}

/// One policy with its id and the file it came from.
struct Rule {
    file: String,
    id: String,
    policy: Policy,
}

fn read_file(file: &str, text: &str) -> Result<Vec<Rule>, RuleError> {
    nesting::check_text(text).map_err(|what| {
        let policy = "one of its policies".to_owned();
        RuleError::TooComplex { file: file.to_owned(), policy, what }
    })?;
    let set: cedar_policy::PolicySet =
        text.parse().map_err(|e| RuleError::Parse { file: file.to_owned(), source: Box::new(e) })?;
    if set.num_of_templates() > 0 {
        return Err(RuleError::Template { file: file.to_owned() });
    }
    let named = set.policies().enumerate().map(|(index, policy)| match policy.annotation("id") {
        None => Err(RuleError::NoId { file: file.to_owned(), number: index + 1 }),
        Some(id) => {
            Ok(Rule { file: file.to_owned(), id: id.to_owned(), policy: policy.new_id(PolicyId::new(id)) })
        }
    });
    named.collect()
}

/// Strict validation; a warning counts, since it means a policy that can never match or does not read as it looks.
fn validate(
    schema: &Schema,
    policies: &cedar_policy::PolicySet,
    files: &BTreeMap<String, String>,
) -> Result<(), RuleError> {
    let result = Validator::new(schema.clone()).validate(policies, ValidationMode::Strict);
    let errors = result.validation_errors().map(|e| (e.policy_id().to_string(), e.to_string()));
    let warnings = result.validation_warnings().map(|w| (w.policy_id().to_string(), w.to_string()));
    match errors.chain(warnings).next() {
        None => Ok(()),
        Some((id, detail)) => {
            let file = files.get(&id).cloned().unwrap_or_default();
            Err(RuleError::Invalid { file, id, detail })
        }
    }
}

impl Rule {
    fn check_operator(&self, repositories: &Repositories) -> Result<(), RuleError> {
        self.check_id()?;
        self.check_expression()?;
        self.policy.entity_literals().iter().try_for_each(|uid| self.check_entity(uid, repositories))
    }

    fn check_id(&self) -> Result<(), RuleError> {
        let bad = |why| Err(RuleError::Id { file: self.file.clone(), id: self.id.clone(), why });
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_./".contains(&b);
        if self.id.starts_with(BUILTIN_PREFIX) {
            return bad("begins with 'builtin/', which only the program's own guardrails may use");
        }
        if self.id.is_empty() || self.id.len() > MAX_ID || !self.id.bytes().all(allowed) {
            return bad("is no id: write 1 to 64 of a-z 0-9 and - _ . /");
        }
        Ok(())
    }

    fn check_expression(&self) -> Result<(), RuleError> {
        let json = self.policy.to_json().map_err(|e| RuleError::Merge {
            file: self.file.clone(),
            id: self.id.clone(),
            detail: e.to_string(),
        })?;
        let (file, id) = (self.file.clone(), self.id.clone());
        match inspect(&json) {
            None => Ok(()),
            Some(Finding::Arithmetic(operator)) => Err(RuleError::Arithmetic { file, id, operator }),
            Some(Finding::TooDeep) => {
                let policy = format!("policy {id:?}");
                Err(RuleError::TooComplex { file, policy, what: TooComplex::Operators })
            }
        }
    }

    /// A misspelt name is not ill-typed, so the validator lets it pass; in a forbid it would silently forbid nothing.
    fn check_entity(&self, uid: &EntityUid, repositories: &Repositories) -> Result<(), RuleError> {
        let id = uid.id().unescaped();
        let teams = || repositories.teams().iter().map(String::as_str);
        let (why, hint) = match uid.type_name().to_string().as_str() {
            "Sign::Team" if !teams().any(|team| team == id) => {
                ("a team that repositories.toml does not define", nearest::hint(id, teams()))
            }
            "Sign::Token" if !is_token(id) => ("but a token is written \"token:<id>\"", String::new()),
            "Sign::Repository" if Repository::parse(id).is_err() => {
                ("but a repository is written \"host/path\" in lower case", String::new())
            }
            "Sign::Namespace" if !is_prefix(id) => {
                ("but a namespace is the beginning of a repository's name and ends in '/'", String::new())
            }
            _ => return Ok(()),
        };
        let (file, entity) = (self.file.clone(), uid.to_string());
        Err(RuleError::Entity { file, id: self.id.clone(), entity, why, hint })
    }

    fn note(&self) -> Result<Note, RuleError> {
        let bad = |what| Err(RuleError::Annotation { file: self.file.clone(), id: self.id.clone(), what });
        if let Some((key, _)) = self.policy.annotations().find(|(key, _)| !ANNOTATIONS.contains(key)) {
            return bad(format!("unknown annotation @{key}{}", nearest::hint(key, ANNOTATIONS)));
        }
        let remedy = self.policy.annotation("remedy").unwrap_or("final");
        if !REMEDIES.contains(&remedy) {
            return bad(format!("@remedy({remedy:?}) is none of \"final\", \"retry\" and \"act\""));
        }
        let message = self.policy.annotation("message").unwrap_or("{repository}: this rule forbids it");
        if let Some(word) = message::unknown_word(message) {
            let hint = nearest::hint(word, message::WORDS);
            return bad(format!("@message has {{{word}}}, which is no fact of a request{hint}"));
        }
        if self.policy.effect() == Effect::Permit && self.policy.annotations().count() > 1 {
            return bad("a permit never denies: it can have neither @remedy nor @message".to_owned());
        }
        Ok(Note { remedy: remedy.to_owned(), message: message.to_owned() })
    }
}

fn is_prefix(text: &str) -> bool {
    text.ends_with('/') && Repository::parse(&format!("{text}x")).is_ok()
}

/// What makes an expression unfit.
enum Finding {
    Arithmetic(&'static str),
    TooDeep,
}

/// Looks for arithmetic and for depth in a policy's JSON form, in which an operator is the single key of an object
/// around its operands: two levels an operator. Keys of record literals and literal values are the operator's own texts
/// and are not looked at as operators.
fn inspect(policy: &serde_json::Value) -> Option<Finding> {
    use serde_json::Value;
    let mut waiting: Vec<(usize, &Value)> =
        policy.get("conditions").map(|body| (0, body)).into_iter().collect();
    while let Some((depth, value)) = waiting.pop() {
        if depth > 2 * MAX_OPERATORS {
            return Some(Finding::TooDeep);
        }
        let deeper = |inner| (depth + 1, inner);
        match value {
            Value::Array(items) => waiting.extend(items.iter().map(deeper)),
            Value::Object(members) => {
                for (key, inner) in members {
                    match (key.as_str(), inner) {
                        ("+", _) => return Some(Finding::Arithmetic("+")),
                        ("-" | "neg", _) => return Some(Finding::Arithmetic("-")),
                        ("*", _) => return Some(Finding::Arithmetic("*")),
                        ("Value", _) => {}
                        ("Record", Value::Object(fields)) => waiting.extend(fields.values().map(deeper)),
                        _ => waiting.push(deeper(inner)),
                    }
                }
            }
            _ => {}
        }
    }
    None
}
