//! A claim map as its file is written, and the checks by which it becomes one.

use super::{AudienceForm, CiMap, Claim, ClaimMap, Kind, MapError, SingleUse, Split, Template, Test};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    provider: String,
    #[serde(default)]
    shared_issuers: Vec<String>,
    #[serde(default)]
    audience: AudienceForm,
    single_use: SingleUse,
    lifetime_s: u32,
    claims: BTreeMap<String, ClaimForm>,
    #[serde(default)]
    refuse: Vec<ConditionForm>,
    ci: CiForm,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimForm {
    at: Option<Vec<String>>,
    #[serde(rename = "type")]
    kinds: Option<OneOrMore<Kind>>,
    #[serde(default)]
    optional: bool,
    split: Option<Split>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CiForm {
    repository: TextForm,
    repository_id: TextForm,
    owner_id: Option<TextForm>,
    #[serde(rename = "ref")]
    reference: Option<TextForm>,
    ref_protected: FlagForm,
    commit: Option<TextForm>,
    workflow: Option<TextForm>,
    workflow_ref: Option<TextForm>,
    event: Option<TextForm>,
    environment: Option<TextForm>,
    hosted_runner: FlagForm,
    fork_or_merge_request: FlagForm,
    run: Option<TextForm>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TextForm {
    First(OneOrMore<String>),
    By(ByForm),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByForm {
    by: String,
    of: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum FlagForm {
    Always(bool),
    Of(OfForm),
    Any(AnyForm),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfForm {
    claim: String,
    #[serde(rename = "true")]
    yes: Vec<String>,
    #[serde(rename = "false")]
    no: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyForm {
    any: Vec<ConditionForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionForm {
    claim: String,
    is: Option<Vec<String>>,
    is_not: Option<Vec<String>>,
    contains: Option<String>,
    differs_from: Option<String>,
}

impl File {
    pub(super) fn checked(self) -> Result<ClaimMap, MapError> {
        let claims = self.claims.into_iter().map(|(name, form)| (name.clone(), form.claim(name)));
        let map = ClaimMap {
            provider: self.provider,
            shared_issuers: self.shared_issuers,
            audience: self.audience,
            single_use: self.single_use,
            lifetime_s: self.lifetime_s,
            claims: claims.collect(),
            refuse: self.refuse.into_iter().map(ConditionForm::condition).collect::<Result<_, _>>()?,
            ci: self.ci.map()?,
        };
        if map.claims.values().any(|claim| claim.at == ["sub"]) {
            return Err(MapError::Subject);
        }
        let names = map.names()?;
        match map.used().into_iter().find(|name| !names.contains(name)) {
            Some(name) => Err(MapError::UnknownName(name.to_owned())),
            None => Ok(map),
        }
    }
}

impl ClaimForm {
    fn claim(self, name: String) -> Claim {
        let kinds = match self.kinds {
            None => vec![Kind::String],
            Some(OneOrMore::One(kind)) => vec![kind],
            Some(OneOrMore::More(kinds)) => kinds,
        };
        Claim { at: self.at.unwrap_or_else(|| vec![name]), kinds, optional: self.optional, split: self.split }
    }
}

impl CiForm {
    fn map(self) -> Result<CiMap, MapError> {
        let text = |form: Option<TextForm>| form.map(TextForm::text).transpose();
        Ok(CiMap {
            repository: self.repository.text()?,
            repository_id: self.repository_id.text()?,
            owner_id: text(self.owner_id)?,
            reference: text(self.reference)?,
            ref_protected: self.ref_protected.flag()?,
            commit: text(self.commit)?,
            workflow: text(self.workflow)?,
            workflow_ref: text(self.workflow_ref)?,
            event: text(self.event)?,
            environment: text(self.environment)?,
            hosted_runner: self.hosted_runner.flag()?,
            fork_or_merge_request: self.fork_or_merge_request.flag()?,
            run: text(self.run)?,
        })
    }
}

fn template(text: &str) -> Result<Template, MapError> {
    Template::parse(text).ok_or_else(|| MapError::Template(text.to_owned()))
}

impl TextForm {
    fn text(self) -> Result<super::Text, MapError> {
        Ok(match self {
            Self::First(OneOrMore::One(text)) => super::Text::First(vec![template(&text)?]),
            Self::First(OneOrMore::More(texts)) => {
                super::Text::First(texts.iter().map(|text| template(text)).collect::<Result<_, _>>()?)
            }
            Self::By(ByForm { by, of }) => {
                let of = of.into_iter().map(|(value, text)| Ok((value, template(&text)?)));
                super::Text::By(by, of.collect::<Result<_, _>>()?)
            }
        })
    }
}

impl FlagForm {
    fn flag(self) -> Result<super::Flag, MapError> {
        match self {
            Self::Always(always) => Ok(super::Flag::Always(always)),
            Self::Of(OfForm { claim, yes, no }) => {
                match yes.iter().find(|value| no.as_ref().is_some_and(|no| no.contains(value))) {
                    Some(both) => Err(MapError::BothWays(both.clone())),
                    None => Ok(super::Flag::Of { claim, yes, no }),
                }
            }
            Self::Any(AnyForm { any }) => {
                let conditions = any.into_iter().map(ConditionForm::condition);
                Ok(super::Flag::Any(conditions.collect::<Result<_, _>>()?))
            }
        }
    }
}

impl ConditionForm {
    fn condition(self) -> Result<super::Condition, MapError> {
        let test = match (self.is, self.is_not, self.contains, self.differs_from) {
            (Some(values), None, None, None) => Test::Is(values),
            (None, Some(values), None, None) => Test::IsNot(values),
            (None, None, Some(text), None) => Test::Contains(text),
            (None, None, None, Some(other)) => Test::DiffersFrom(other),
            _ => return Err(MapError::Condition(self.claim)),
        };
        Ok(super::Condition { claim: self.claim, test })
    }
}
