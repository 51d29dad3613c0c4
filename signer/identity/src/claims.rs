//! From claims to one record, as a map says. Only claims whose signature is verified come here.

use crate::{
    Refused,
    json::{Object, Value},
    map::{CiMap, Claim, ClaimMap, Condition, Flag, ISSUER_HOST, Kind, Test, Text},
    template::Texts,
};
use record::{Ci, CiText};

/// What the configuration adds to the claims.
pub(crate) struct Place<'a> {
    /// The operator's name for the issuer.
    pub(crate) issuer: &'a str,
    /// Host and port of the issuer's URL.
    pub(crate) host: &'a str,
}

impl ClaimMap {
    /// The job that the claims are about.
    pub(crate) fn job(&self, claims: &Object, place: &Place<'_>) -> Result<Ci, Refused> {
        let texts = self.texts(claims, place)?;
        if let Some(refused) = self.refuse.iter().find(|condition| condition.holds(&texts)) {
            return Err(Refused::ClaimValue(refused.claim.clone()));
        }
        let CiMap { repository, repository_id, ref_protected, hosted_runner, fork_or_merge_request, .. } =
            &self.ci;
        let optional = |text: &Option<Text>, what| match text {
            Some(text) => text.optional(&texts, what),
            None => Ok(None),
        };
        Ok(Ci {
            provider: fit(&self.provider, "provider")?,
            issuer: fit(place.issuer, "issuer")?,
            repository: repository.required(&texts, "repository")?,
            repository_id: repository_id.required(&texts, "repositoryId")?,
            owner_id: optional(&self.ci.owner_id, "ownerId")?,
            reference: optional(&self.ci.reference, "ref")?,
            ref_protected: ref_protected.value(&texts)?,
            commit: optional(&self.ci.commit, "commit")?,
            workflow: optional(&self.ci.workflow, "workflow")?,
            workflow_ref: optional(&self.ci.workflow_ref, "workflowRef")?,
            event: optional(&self.ci.event, "event")?,
            environment: optional(&self.ci.environment, "environment")?,
            hosted_runner: hosted_runner.value(&texts)?,
            fork_or_merge_request: fork_or_merge_request.value(&texts)?,
            run: optional(&self.ci.run, "run")?,
        })
    }

    /// The claims that the map names, each of its type.
    fn texts(&self, claims: &Object, place: &Place<'_>) -> Result<Texts, Refused> {
        let mut texts = Texts::from([(ISSUER_HOST.to_owned(), place.host.to_owned())]);
        for (name, claim) in &self.claims {
            let Some(text) = claim.read(name, claims)? else { continue };
            if let Some(split) = &claim.split {
                // A second separator would let the one who chooses one side choose where the other begins.
                let (left, right) = text
                    .split_once(split.at)
                    .filter(|(left, right)| {
                        !left.is_empty() && !right.is_empty() && !right.contains(split.at)
                    })
                    .ok_or_else(|| Refused::ClaimValue(name.clone()))?;
                let [first, second] = &split.into;
                texts.insert(first.clone(), left.to_owned());
                texts.insert(second.clone(), right.to_owned());
            }
            texts.insert(name.clone(), text);
        }
        Ok(texts)
    }
}

impl Claim {
    /// The claim as text; none if it may be absent and is absent, null or empty.
    fn read(&self, name: &str, claims: &Object) -> Result<Option<String>, Refused> {
        let text = match self.value(claims) {
            None if self.optional => return Ok(None),
            None => return Err(Refused::ClaimMissing(name.to_owned())),
            Some(Value::Null) if self.optional => return Ok(None),
            Some(Value::String(text)) if self.kinds.contains(&Kind::String) => text.clone(),
            Some(Value::Integer(number)) if self.kinds.contains(&Kind::Integer) => number.to_string(),
            Some(Value::Bool(flag)) if self.kinds.contains(&Kind::Boolean) => flag.to_string(),
            Some(_) => return Err(Refused::ClaimType(name.to_owned())),
        };
        match (text.is_empty(), self.optional) {
            (false, _) => Ok(Some(text)),
            (true, true) => Ok(None),
            (true, false) => Err(Refused::ClaimValue(name.to_owned())),
        }
    }

    fn value<'a>(&self, claims: &'a Object) -> Option<&'a Value> {
        let (last, path) = self.at.split_last()?;
        let inner = path.iter().try_fold(claims, |object, member| match object.get(member) {
            Some(Value::Object(inner)) => Some(inner),
            _ => None,
        });
        inner?.get(last)
    }
}

impl Text {
    /// The text, or the claim that is missing for it.
    fn render(&self, texts: &Texts) -> Result<String, Refused> {
        let missing = |name: &str| Refused::ClaimMissing(name.to_owned());
        match self {
            Self::First(templates) => {
                let mut first_missing = None;
                for template in templates {
                    match template.render(texts) {
                        Ok(text) => return Ok(text),
                        Err(name) => first_missing = first_missing.or(Some(name)),
                    }
                }
                Err(missing(first_missing.unwrap_or_default()))
            }
            Self::By(claim, of) => {
                let value = texts.get(claim).ok_or_else(|| missing(claim))?;
                let template = of.get(value).ok_or_else(|| Refused::ClaimValue(claim.clone()))?;
                template.render(texts).map_err(missing)
            }
        }
    }

    fn required(&self, texts: &Texts, what: &'static str) -> Result<CiText, Refused> {
        fit(&self.render(texts)?, what)
    }

    fn optional(&self, texts: &Texts, what: &'static str) -> Result<Option<CiText>, Refused> {
        match self.render(texts) {
            Ok(text) => fit(&text, what).map(Some),
            Err(Refused::ClaimMissing(_)) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

fn fit(text: &str, what: &'static str) -> Result<CiText, Refused> {
    CiText::parse(text).map_err(|_| Refused::Text(what))
}

impl Flag {
    fn value(&self, texts: &Texts) -> Result<bool, Refused> {
        match self {
            Self::Always(always) => Ok(*always),
            Self::Any(conditions) => Ok(conditions.iter().any(|condition| condition.holds(texts))),
            Self::Of { claim, yes, no } => {
                let value = texts.get(claim).ok_or_else(|| Refused::ClaimMissing(claim.clone()))?;
                match (yes.contains(value), no) {
                    (true, _) => Ok(true),
                    (false, None) => Ok(false),
                    (false, Some(no)) if no.contains(value) => Ok(false),
                    (false, Some(_)) => Err(Refused::ClaimValue(claim.clone())),
                }
            }
        }
    }
}

impl Condition {
    fn holds(&self, texts: &Texts) -> bool {
        let Some(value) = texts.get(&self.claim) else { return false };
        match &self.test {
            Test::Is(values) => values.contains(value),
            Test::IsNot(values) => !values.contains(value),
            Test::Contains(text) => value.contains(text),
            Test::DiffersFrom(other) => texts.get(other) != Some(value),
        }
    }
}
