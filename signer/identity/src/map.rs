//! Claim maps: for a kind of provider, which claims a token must have, and how they make a [`record::Ci`]. They are data, one
//! TOML file each; `docs/ci-identities.md` describes the form.

mod form;

use crate::template::Template;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The maps that come with the service.
const BUILT_IN: [(&str, &str); 6] = [
    ("buildkite", include_str!("../maps/buildkite.toml")),
    ("circleci", include_str!("../maps/circleci.toml")),
    ("github", include_str!("../maps/github.toml")),
    ("gitlab", include_str!("../maps/gitlab.toml")),
    ("jenkins", include_str!("../maps/jenkins.toml")),
    ("kubernetes", include_str!("../maps/kubernetes.toml")),
];

/// A name that every template may use besides claims: host and port of the configured issuer.
pub(crate) const ISSUER_HOST: &str = "issuer_host";

/// Largest file of an operator.
const MAX_BYTES: usize = 64 * 1024;

/// Why a map is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The file is no TOML of this form; the text names the place.
    #[error("{0}")]
    Form(String),
    /// A template has a brace without its partner.
    #[error("the template {0:?} has a brace without its partner")]
    Template(String),
    /// A name is used and not among `[claims]`.
    #[error("{0:?} is no name of [claims]")]
    UnknownName(String),
    /// A name is given twice.
    #[error("[claims] gives the name {0:?} twice")]
    NameTwice(String),
    /// `sub` is a text that people and providers change: it is not read.
    #[error(
        "the claim sub must not be read: providers change its form, and people may choose what stands in it"
    )]
    Subject,
    /// A condition has not exactly one of `is`, `is_not`, `contains` and `differs_from`.
    #[error("a condition on {0:?} needs exactly one of is, is_not, contains and differs_from")]
    Condition(String),
    /// A value stands for both yes and no.
    #[error("the value {0:?} stands under both true and false")]
    BothWays(String),
    /// There is no such map.
    #[error("there is no claim map for {0:?}: built in are {names}; give your own with `claims = FILE`", names = built_in_names())]
    NotBuiltIn(String),
    /// The map is for another provider than the issuer.
    #[error("the claim map is for the provider {0:?}")]
    OtherProvider(String),
}

/// Names of the providers whose maps come with the service.
pub fn built_in_providers() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

fn built_in_names() -> String {
    built_in_providers().collect::<Vec<_>>().join(", ")
}

/// A map that is whole: every name that it uses is one of its claims.
#[derive(Debug, Clone)]
pub struct ClaimMap {
    pub(crate) provider: String,
    pub(crate) shared_issuers: Vec<String>,
    pub(crate) audience: AudienceForm,
    pub(crate) single_use: SingleUse,
    pub(crate) lifetime_s: u32,
    pub(crate) claims: BTreeMap<String, Claim>,
    pub(crate) refuse: Vec<Condition>,
    pub(crate) ci: CiMap,
}

/// How a provider writes an audience (RFC 7519, 4.1.3, allows both).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AudienceForm {
    /// As a text.
    #[default]
    Text,
    /// As a list with one item, as Kubernetes always does.
    ListOfOne,
}

/// By what a token is known that was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SingleUse {
    /// Its `jti`, which must be there.
    Jti,
    /// The hash of what its signature is over: this provider gives no `jti`.
    Token,
}

/// Where a claim stands, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The members that lead to it.
    pub(crate) at: Vec<String>,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) optional: bool,
    pub(crate) split: Option<Split>,
}

/// JSON types that a claim may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    String,
    Integer,
    Boolean,
}

/// Two names for the two sides of a text's only separator.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Split {
    pub(crate) at: char,
    pub(crate) into: [String; 2],
}

/// How each member of a [`record::Ci`] is made.
#[derive(Debug, Clone)]
pub(crate) struct CiMap {
    pub(crate) repository: Text,
    pub(crate) repository_id: Text,
    pub(crate) owner_id: Option<Text>,
    pub(crate) reference: Option<Text>,
    pub(crate) ref_protected: Flag,
    pub(crate) commit: Option<Text>,
    pub(crate) workflow: Option<Text>,
    pub(crate) workflow_ref: Option<Text>,
    pub(crate) event: Option<Text>,
    pub(crate) environment: Option<Text>,
    pub(crate) hosted_runner: Flag,
    pub(crate) fork_or_merge_request: Flag,
    pub(crate) run: Option<Text>,
}

/// How a text is made.
#[derive(Debug, Clone)]
pub(crate) enum Text {
    /// The first template whose claims are all there.
    First(Vec<Template>),
    /// The template that stands for a claim's value; any other value refuses the token.
    By(String, BTreeMap<String, Template>),
}

/// How a yes or no is made.
#[derive(Debug, Clone)]
pub(crate) enum Flag {
    /// It is always this.
    Always(bool),
    /// Yes for these values of a claim, no for those; any other value refuses the token, unless none is listed for no.
    Of { claim: String, yes: Vec<String>, no: Option<Vec<String>> },
    /// Yes if one of these holds.
    Any(Vec<Condition>),
}

/// Something that holds of a claim or does not. It does not hold of an optional claim that is absent.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) claim: String,
    pub(crate) test: Test,
}

#[derive(Debug, Clone)]
pub(crate) enum Test {
    Is(Vec<String>),
    IsNot(Vec<String>),
    Contains(String),
    DiffersFrom(String),
}

impl ClaimMap {
    /// Reads and checks the text of a map.
    pub fn parse(text: &str) -> Result<Self, MapError> {
        if text.len() > MAX_BYTES {
            return Err(MapError::Form(format!("longer than {MAX_BYTES} bytes")));
        }
        let file: form::File = toml::from_str(text).map_err(|e| MapError::Form(e.to_string()))?;
        file.checked()
    }

    /// The map that comes with the service for this provider.
    pub fn built_in(provider: &str) -> Result<Self, MapError> {
        let found = BUILT_IN.iter().find(|(name, _)| *name == provider);
        let (_, text) = found.ok_or_else(|| MapError::NotBuiltIn(provider.to_owned()))?;
        Self::parse(text)
    }

    /// The provider that it is for.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// Every name that it may use.
    fn names(&self) -> Result<BTreeSet<&str>, MapError> {
        let split = self.claims.values().filter_map(|c| c.split.as_ref()).flat_map(|s| &s.into);
        let mut names = BTreeSet::from([ISSUER_HOST]);
        for name in self.claims.keys().chain(split) {
            if !names.insert(name) {
                return Err(MapError::NameTwice(name.clone()));
            }
        }
        Ok(names)
    }

    fn used(&self) -> Vec<&str> {
        let CiMap { ref_protected, hosted_runner, fork_or_merge_request, .. } = &self.ci;
        let texts = self.ci.texts().flat_map(Text::names);
        let flags = [ref_protected, hosted_runner, fork_or_merge_request].into_iter().flat_map(Flag::names);
        texts.chain(flags).chain(self.refuse.iter().flat_map(Condition::names)).collect()
    }
}

impl CiMap {
    fn texts(&self) -> impl Iterator<Item = &Text> {
        let optional = [
            &self.owner_id,
            &self.reference,
            &self.commit,
            &self.workflow,
            &self.workflow_ref,
            &self.event,
            &self.environment,
            &self.run,
        ];
        [&self.repository, &self.repository_id].into_iter().chain(optional.into_iter().flatten())
    }
}

impl Text {
    fn names(&self) -> Vec<&str> {
        match self {
            Self::First(templates) => templates.iter().flat_map(Template::names).collect(),
            Self::By(claim, of) => of.values().flat_map(Template::names).chain([claim.as_str()]).collect(),
        }
    }
}

impl Flag {
    fn names(&self) -> Vec<&str> {
        match self {
            Self::Always(_) => Vec::new(),
            Self::Of { claim, .. } => vec![claim],
            Self::Any(conditions) => conditions.iter().flat_map(Condition::names).collect(),
        }
    }
}

impl Condition {
    fn names(&self) -> Vec<&str> {
        match &self.test {
            Test::DiffersFrom(other) => vec![&self.claim, other],
            Test::Is(_) | Test::IsNot(_) | Test::Contains(_) => vec![&self.claim],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = r#"
provider = "own"
single_use = "token"
lifetime_s = 300
[claims]
project = {}
[ci]
repository = "{issuer_host}/{project}"
repositoryId = "{project}"
refProtected = false
hostedRunner = false
forkOrMergeRequest = false
"#;

    #[test]
    fn every_map_that_comes_with_the_service_is_whole() {
        for name in built_in_providers() {
            assert_eq!(ClaimMap::built_in(name).unwrap().provider(), name);
        }
        let unknown = ClaimMap::built_in("travis").unwrap_err();
        assert!(unknown.to_string().contains("github, gitlab"), "{unknown}");
    }

    #[test]
    fn a_map_that_says_what_nobody_would_do_is_refused() {
        assert!(ClaimMap::parse(MAP).is_ok());
        let with = |from: &str, to: &str| {
            assert!(MAP.contains(from), "{from}");
            ClaimMap::parse(&MAP.replace(from, to)).unwrap_err()
        };
        assert_eq!(with("{project}\"", "{pipeline}\""), MapError::UnknownName("pipeline".into()));
        assert_eq!(with("{issuer_host}/", "{"), MapError::Template("{{project}".into()));
        assert_eq!(with("= {}", "= { at = [\"sub\"] }"), MapError::Subject);
        let split = "= { split = { at = \"@\", into = [\"project\", \"x\"] } }";
        assert_eq!(with("= {}", split), MapError::NameTwice("project".into()));
        let both = "hostedRunner = { claim = \"project\", true = [\"a\"], false = [\"a\"] }";
        assert_eq!(with("hostedRunner = false", both), MapError::BothWays("a".into()));
        let two = "hostedRunner = { any = [{ claim = \"project\", is = [\"a\"], contains = \"a\" }] }";
        assert_eq!(with("hostedRunner = false", two), MapError::Condition("project".into()));
        for unknown in ["[ci]\nadmin = true", "[ci]\nevent = { by = \"project\", of = {}, else = \"x\" }"] {
            assert!(matches!(with("[ci]", unknown), MapError::Form(_)), "{unknown}");
        }
        assert!(matches!(with("= {}", "= { type = \"text\" }"), MapError::Form(_)));
        assert!(matches!(with("refProtected = false\n", ""), MapError::Form(_)));
    }
}
