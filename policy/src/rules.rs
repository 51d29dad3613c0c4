//! The Cedar policies: the built-in guardrails and the operator's files, merged into one strictly validated set.
//!
//! Promises: every policy has a unique `@id`; the prefix `builtin/` is ours; nothing that the strict validator or a
//! check of this module complains about, warnings included, is ever loaded. It does not know the facts of a request.

mod error;
mod inspection;

pub use error::RuleError;

use crate::{
    data::Data,
    facts::is_token,
    message, nearest,
    nesting::{self, TooComplex},
};
use cedar_policy::{Effect, EntityUid, Policy, PolicyId, Schema, ValidationMode, Validator};
use inspection::{Finding, inspect};
use record::{Principal, Repository};
use std::collections::BTreeMap;

/// Most policies of an operator: a denial names every one that failed and must fit one leaf of the log.
pub const MAX_OPERATOR_POLICIES: usize = 64;
/// Longest `@id`.
const MAX_ID: usize = 64;
/// What begins the ids of the guardrails.
pub(crate) const BUILTIN_PREFIX: &str = "builtin/";
/// What errors call the guardrails' file.
const BUILTIN_FILE: &str = "built-in policies";
/// The text of the guardrails.
pub(crate) const BUILTIN: &str = include_str!("cedar/builtin.cedar");
/// The text of the schema.
pub(crate) const SCHEMA: &str = include_str!("cedar/schema.cedarschema");

/// Annotations that mean something in an operator's policies; the guardrails have `@exemptible` besides.
const ANNOTATIONS: [&str; 5] = ["id", "remedy", "message", "otherwise", "mode"];
/// What can still make the same request succeed; [`record::Reason::remedy`] says what each means.
const REMEDIES: [&str; 6] = ["final", "retry", "act", "approval", "touch", BREAK_GLASS];
/// The remedy of rules that an emergency lifts.
const BREAK_GLASS: &str = "break-glass";

/// What a rule says when it denies, and whether it may be passed over.
#[derive(Debug)]
pub(crate) struct Note {
    remedy: String,
    otherwise: String,
    pub(crate) message: String,
    /// It is evaluated and told, and denies nothing.
    pub(crate) observe: bool,
    /// An exemption may let it not count.
    pub(crate) exemptible: bool,
}

impl Note {
    /// What can still make the request succeed, in a repository that has emergencies or none.
    pub(crate) fn remedy(&self, emergencies: bool) -> &str {
        if self.remedy == BREAK_GLASS && !emergencies { &self.otherwise } else { &self.remedy }
    }
}

/// The merged, validated policies. Permits and forbids are two sets, since each is asked by itself: which permits hold is
/// known even where a forbid denies, and a forbid that is only observed, or exempted, stays out of the decision.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) schema: Schema,
    pub(crate) permits: cedar_policy::PolicySet,
    pub(crate) forbids: cedar_policy::PolicySet,
    notes: BTreeMap<String, Note>,
}

impl Rules {
    pub(crate) fn load(operator: &[(String, String)], data: &Data) -> Result<Self, RuleError> {
        let mut found = read_file(BUILTIN_FILE, BUILTIN)?;
        let ours = found.len();
        for (file, text) in operator {
            found.extend(read_file(file, text)?);
        }
        let theirs = found.get(ours..).unwrap_or_default();
        if theirs.len() > MAX_OPERATOR_POLICIES {
            return Err(RuleError::TooMany(theirs.len()));
        }
        theirs.iter().try_for_each(|rule| rule.check_operator(data))?;
        let rules = Self::merge(found)?;
        data.exemptions().iter().try_for_each(|exemption| rules.check_exempted(&exemption.rule))?;
        Ok(rules)
    }

    /// What the rule of this id says when it denies.
    pub(crate) fn note(&self, id: &str) -> Option<&Note> {
        self.notes.get(id)
    }

    /// All rules: id, and whether it permits.
    pub(crate) fn ids(&self) -> Vec<(String, bool)> {
        let permits = self.permits.policies().map(|p| (p.id().to_string(), true));
        let mut all: Vec<_> =
            permits.chain(self.forbids.policies().map(|p| (p.id().to_string(), false))).collect();
        all.sort();
        all
    }

    /// Ids of the entities that rules name.
    pub(crate) fn literals(&self) -> impl Iterator<Item = String> {
        let all = self.permits.policies().chain(self.forbids.policies());
        all.flat_map(Policy::entity_literals).map(|uid| uid.id().unescaped().to_owned())
    }

    fn check_exempted(&self, id: &str) -> Result<(), RuleError> {
        let known = || self.notes.iter().filter(|(_, note)| note.exemptible).map(|(id, _)| id.as_str());
        match self.notes.get(id) {
            Some(note) if note.exemptible => Ok(()),
            Some(_) => Err(RuleError::Exempted {
                rule: id.to_owned(),
                why: "is not a rule that can have one",
                hint: String::new(),
            }),
            None => {
                let hint = nearest::hint(id, known());
                Err(RuleError::Exempted { rule: id.to_owned(), why: "is no rule of this policy set", hint })
            }
        }
    }

    fn merge(found: Vec<Rule>) -> Result<Self, RuleError> {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|e| RuleError::Schema(Box::new(e)))?;
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        let (mut permits, mut forbids) = (cedar_policy::PolicySet::new(), cedar_policy::PolicySet::new());
        let mut notes = BTreeMap::new();
        for rule in found {
            if let Some(first) = files.insert(rule.id.clone(), rule.file.clone()) {
                return Err(RuleError::DuplicateId { id: rule.id, first, second: rule.file });
            }
            notes.insert(rule.id.clone(), rule.note()?);
            let set = match rule.policy.effect() {
                Effect::Permit => &mut permits,
                Effect::Forbid => &mut forbids,
            };
            set.add(rule.policy).map_err(|e| RuleError::Merge {
                file: rule.file,
                id: rule.id,
                detail: e.to_string(),
            })?;
        }
        validate(&schema, &permits, &files)?;
        validate(&schema, &forbids, &files)?;
        Ok(Self { schema, permits, forbids, notes })
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
    fn check_operator(&self, data: &Data) -> Result<(), RuleError> {
        self.check_id()?;
        self.check_expression()?;
        self.policy.entity_literals().iter().try_for_each(|uid| self.check_entity(uid, data))
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
    fn check_entity(&self, uid: &EntityUid, data: &Data) -> Result<(), RuleError> {
        let id = uid.id().unescaped();
        let teams = || data.teams().keys().map(String::as_str);
        let (why, hint) = match uid.type_name().to_string().as_str() {
            "Sign::Team" if !teams().any(|team| team == id) => {
                ("a team that repositories.toml does not define", nearest::hint(id, teams()))
            }
            "Sign::Token" if !is_token(id) => ("but a token is written \"token:<id>\"", String::new()),
            "Sign::Workload" if !is_of_kind(id, "ci:") => {
                ("but a CI job is written \"ci:<issuer>/<immutable id>\"", String::new())
            }
            "Sign::Machine" if !is_of_kind(id, "machine:") => {
                ("but a machine is written \"machine:<SPIFFE id or SHA-256>\"", String::new())
            }
            "Sign::Person" if !is_of_kind(id, "person:") => {
                ("but a person is written \"person:<name>\"", String::new())
            }
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
        let ours = self.file == BUILTIN_FILE;
        let known = |key: &str| ANNOTATIONS.contains(&key) || (ours && key == "exemptible");
        if let Some((key, _)) = self.policy.annotations().find(|(key, _)| !known(key)) {
            return bad(format!("unknown annotation @{key}{}", nearest::hint(key, ANNOTATIONS)));
        }
        let remedy = self.policy.annotation("remedy").unwrap_or("final");
        let otherwise = self.policy.annotation("otherwise").unwrap_or("final");
        if let Some(word) = [remedy, otherwise].into_iter().find(|word| !REMEDIES.contains(word)) {
            return bad(format!("@remedy({word:?}) is none of {REMEDIES:?}"));
        }
        if otherwise == BREAK_GLASS
            || (remedy != BREAK_GLASS && self.policy.annotation("otherwise").is_some())
        {
            return bad(
                "@otherwise is the remedy of a @remedy(\"break-glass\") where there are no emergencies"
                    .to_owned(),
            );
        }
        if remedy == BREAK_GLASS && !self.policy.to_string().contains("breakGlass") {
            return bad("an emergency is its remedy, and it does not ask for context.breakGlass".to_owned());
        }
        let message = self.policy.annotation("message").unwrap_or("{repository}: this rule forbids it");
        if let Some(word) = message::unknown_word(message) {
            let hint = nearest::hint(word, message::WORDS.iter().copied());
            return bad(format!("@message has {{{word}}}, which is no fact of a request{hint}"));
        }
        let mode = self.policy.annotation("mode").unwrap_or("enforce");
        if mode != "enforce" && mode != "observe" {
            return bad(format!("@mode({mode:?}) is none of \"enforce\" and \"observe\""));
        }
        if self.policy.effect() == Effect::Permit && self.policy.annotations().count() > 1 {
            return bad("a permit never denies: it can have no annotation but @id".to_owned());
        }
        Ok(Note {
            remedy: remedy.to_owned(),
            otherwise: otherwise.to_owned(),
            message: message.to_owned(),
            observe: mode == "observe",
            exemptible: !ours || self.policy.annotation("exemptible") == Some("yes"),
        })
    }
}

fn is_of_kind(principal: &str, kind: &str) -> bool {
    principal.starts_with(kind) && Principal::parse(principal).is_ok()
}

fn is_prefix(text: &str) -> bool {
    text.ends_with('/') && Repository::parse(&format!("{text}x")).is_ok()
}
