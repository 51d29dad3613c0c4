//! `[[repository]]`: one repository, or all below a prefix, with its options.

use super::{
    DataError, KeyRules, Teams, WorkloadRules,
    calendar::{OfficeHours, RawOfficeHours},
    check,
    quorum::{Quorum, RawGroup},
    validity::{RawValidity, Validity},
};
use crate::{facts::Method, glob::Glob};
use record::Repository;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Most media types of one repository: they are all named in a denial.
pub const MAX_MEDIA_TYPES: usize = check::MAX_LIST;

/// What an image is unless the operator says otherwise: manifest and index, by OCI and by Docker.
const IMAGE_MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// The options of one entry. An entry stands for itself: nothing is inherited from a shorter prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryRules {
    /// The entry's name: a repository, or a prefix that ends in '/'.
    pub name: String,
    /// Whether a tag that is signed for one digest can never be signed for another.
    pub immutable_tags: bool,
    /// Whether the first request to sign also makes the collection.
    pub create_on_first_sign: bool,
    /// Media types of manifests that may be signed; never empty.
    pub media_types: Vec<String>,
    /// Whether nothing may be signed or created for now.
    pub frozen: bool,
    /// Teams whose tokens, machines and people may sign, sorted; empty: every token whose scope covers the repository.
    pub signers: Vec<String>,
    /// Names of the CI jobs' identities that may sign, sorted.
    pub workloads: Vec<String>,
    /// Names of the keys that may sign, sorted; empty: any.
    pub keys: Vec<String>,
    /// Whether only keys sign that are attested to be in hardware.
    pub attested_key: bool,
    /// Whether each signature needs somebody's touch.
    pub touch: bool,
    /// Tags that need the approvals; none given: all.
    pub protected_tags: Option<Vec<Glob>>,
    /// Who must have approved a protected tag.
    pub approvals: Option<Quorum>,
    /// How approvals may be signed, sorted; never empty.
    pub approval_methods: Vec<Method>,
    /// Who must have approved an emergency; none given: there are no emergencies here.
    pub break_glass: Option<Quorum>,
    /// When images are signed.
    pub office_hours: Option<OfficeHours>,
    /// How much is signed in an hour.
    pub rate: Rate,
    /// What must be known of an image.
    pub require: Require,
    /// How long what is signed stays valid.
    pub validity: Validity,
}

impl RepositoryRules {
    /// Whether signing under this tag needs the approvals.
    pub(crate) fn protects(&self, tag: &str) -> bool {
        self.protected_tags.as_ref().is_none_or(|globs| globs.iter().any(|glob| glob.covers(tag)))
    }
}

/// Limits of signatures in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// That one caller asks for, in all repositories.
    pub caller: Option<u32>,
    /// In this repository.
    pub repository: Option<u32>,
}

/// What must be known of an image before it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Require {
    /// Every manifest that an index names is in the registry.
    pub index_children: bool,
    /// Provenance that verifies and is about this digest.
    pub provenance: bool,
    /// The least SLSA build level of the provenance.
    pub slsa_level: i64,
    /// Builders that may have made it; none given: any whose key is configured.
    pub builders: Option<Vec<String>>,
    /// Source repositories that it may come from; none given: any.
    pub sources: Option<Vec<String>>,
    /// A bill of materials.
    pub sbom: bool,
    /// A scan that passed, not older than so many seconds.
    pub scan_max_age_s: Option<i64>,
    /// An image not older than so many seconds.
    pub image_max_age_s: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRepository {
    name: String,
    #[serde(default)]
    immutable_tags: bool,
    #[serde(default)]
    create_on_first_sign: bool,
    media_types: Option<Vec<String>>,
    #[serde(default)]
    frozen: bool,
    #[serde(default)]
    signers: Vec<String>,
    workloads: Option<Vec<String>>,
    keys: Option<Vec<String>>,
    #[serde(default)]
    attested_key: bool,
    #[serde(default)]
    touch: bool,
    protected_tags: Option<Vec<String>>,
    approvals: Option<Vec<RawGroup>>,
    approval_methods: Option<Vec<Method>>,
    break_glass: Option<RawBreakGlass>,
    office_hours: Option<RawOfficeHours>,
    #[serde(default)]
    rate: Rate,
    #[serde(default)]
    require: RawRequire,
    #[serde(default)]
    validity: RawValidity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBreakGlass {
    approvals: Vec<RawGroup>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawRequire {
    #[serde(default)]
    index_children: bool,
    #[serde(default)]
    provenance: bool,
    slsa_level: Option<i64>,
    builders: Option<Vec<String>>,
    sources: Option<Vec<String>>,
    #[serde(default)]
    sbom: bool,
    scan_max_age: Option<String>,
    image_max_age: Option<String>,
}

impl RawRepository {
    pub(super) fn check(
        self,
        teams: &Teams,
        workloads: &BTreeMap<String, WorkloadRules>,
        keys: &BTreeMap<String, KeyRules>,
    ) -> Result<RepositoryRules, DataError> {
        check_name(&self.name)?;
        let place = |key: &str| format!("repository {:?}, {key}", self.name);
        let listed = |key: &str, names| check::nonempty(&place(key), names).map(Option::unwrap_or_default);
        let quorum = |key: &str, groups| Quorum::check(&place(key), groups, teams);
        let validity = self.validity.check();
        Ok(RepositoryRules {
            signers: check::defined(&place("signers"), "team", self.signers, teams)?,
            workloads: check::defined(
                &place("workloads"),
                "workload",
                listed("workloads", self.workloads)?,
                workloads,
            )?,
            keys: check::defined(&place("keys"), "key", listed("keys", self.keys)?, keys)?,
            media_types: check_media_types(&place("media_types"), self.media_types)?,
            protected_tags: check::globs(&place("protected_tags"), self.protected_tags)?,
            approvals: self.approvals.map(|groups| quorum("approvals", groups)).transpose()?,
            approval_methods: check_methods(&place("approval_methods"), self.approval_methods)?,
            break_glass: self.break_glass.map(|b| quorum("break_glass", b.approvals)).transpose()?,
            office_hours: self.office_hours.map(|hours| hours.check(&place("office_hours"))).transpose()?,
            rate: check_rate(&place("rate"), self.rate)?,
            require: self.require.check(&place("require"))?,
            validity: validity
                .map_err(|error| DataError::Validity { repository: self.name.clone(), error })?,
            immutable_tags: self.immutable_tags,
            create_on_first_sign: self.create_on_first_sign,
            frozen: self.frozen,
            attested_key: self.attested_key,
            touch: self.touch,
            name: self.name,
        })
    }
}

impl RawRequire {
    fn check(self, place: &str) -> Result<Require, DataError> {
        let slsa_level = self.slsa_level.unwrap_or(0);
        if self.slsa_level.is_some_and(|level| !(1..=3).contains(&level)) {
            return Err(check::bad(
                place,
                &slsa_level.to_string(),
                "is no level of the SLSA build track: write 1, 2 or 3",
            ));
        }
        let builders = check::nonempty(place, self.builders)?;
        let sources = check::nonempty(place, self.sources)?;
        Ok(Require {
            provenance: self.provenance || slsa_level > 0 || builders.is_some() || sources.is_some(),
            index_children: self.index_children,
            sbom: self.sbom,
            scan_max_age_s: check::seconds(place, self.scan_max_age.as_deref())?,
            image_max_age_s: check::seconds(place, self.image_max_age.as_deref())?,
            slsa_level,
            builders,
            sources,
        })
    }
}

/// A prefix is valid if a repository could begin with it; so there is none that covers every registry.
pub(super) fn check_name(name: &str) -> Result<(), DataError> {
    let example = if name.ends_with('/') { format!("{name}x") } else { name.to_owned() };
    Repository::parse(&example).map(|_| ()).map_err(DataError::Name)
}

fn check_rate(place: &str, rate: Rate) -> Result<Rate, DataError> {
    let zero = [rate.caller, rate.repository].contains(&Some(0));
    if zero {
        Err(check::bad(place, "0", "would never sign; write frozen = true if that is what you want"))
    } else {
        Ok(rate)
    }
}

fn check_methods(place: &str, given: Option<Vec<Method>>) -> Result<Vec<Method>, DataError> {
    let mut methods = given.unwrap_or_else(|| vec![Method::Piv]);
    methods.sort_unstable();
    methods.dedup();
    if methods.is_empty() {
        return Err(check::bad(
            place,
            "[]",
            "is an empty list: no approval would count; leave the key out for \"piv\"",
        ));
    }
    Ok(methods)
}

fn check_media_types(place: &str, given: Option<Vec<String>>) -> Result<Vec<String>, DataError> {
    let Some(given) = given else { return Ok(IMAGE_MEDIA_TYPES.map(str::to_owned).to_vec()) };
    check::limit(place, "media types", given.len(), MAX_MEDIA_TYPES)?;
    if given.is_empty() {
        let why = "is empty: nothing could be signed; write frozen = true if that is what you want";
        return Err(check::bad(place, "", why));
    }
    if let Some(bad) = given.iter().find(|text| !is_media_type(text)) {
        return Err(check::bad(
            place,
            bad,
            "is no media type: write type/subtype in lower case, without parameters",
        ));
    }
    Ok(check::unique("media type", given)?.into_iter().collect())
}

/// RFC 6838, section 4.2, in the lower-case spelling that registries use: at most 127 characters on each side.
fn is_media_type(text: &str) -> bool {
    let name = |part: &str| {
        part.len() <= 127
            && part.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$&-^_.+".contains(&b))
    };
    text.split_once('/').is_some_and(|(kind, subtype)| name(kind) && name(subtype))
}
