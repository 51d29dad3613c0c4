//! `[[exemption]]`: one rule that does not hold for one repository for some time, and who answers for it.

use super::{DataError, Teams, check};
use record::{Principal, Repository, Time};
use serde::Deserialize;

/// An exemption. Which rules can have one, the rules say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exemption {
    /// The rule's id.
    pub rule: String,
    /// The one repository.
    pub repository: Repository,
    /// `person:<name>` or `team:<name>`.
    pub owner: Principal,
    /// The first moment at which it holds no more.
    pub until: Time,
    /// Why there is one.
    pub reason: String,
}

impl Exemption {
    /// Whether it lets a rule's word not count now.
    pub(crate) fn holds(&self, rule: &str, repository: &Repository, now: Time) -> bool {
        self.rule == rule && self.repository == *repository && now < self.until
    }
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExemption {
    rule: String,
    repository: String,
    owner: String,
    until: toml::value::Datetime,
    reason: String,
}

impl RawExemption {
    pub(super) fn check(self, teams: &Teams) -> Result<Exemption, DataError> {
        let place = format!("exemption from {:?}", self.rule);
        let owner = Principal::parse(&self.owner).ok().filter(|owner| {
            ["person", "team"].contains(&owner.as_str().split_once(':').map_or("", |(kind, _)| kind))
        });
        let owner = owner.ok_or_else(|| {
            check::bad(
                &place,
                &self.owner,
                "is no owner: write person:<name> or team:<name>, who answers for it",
            )
        })?;
        if let Some(team) = self.owner.strip_prefix("team:") {
            check::defined(&place, "team", vec![team.to_owned()], teams)?;
        }
        check::words(&place, &self.reason)?;
        Ok(Exemption {
            repository: Repository::parse(&self.repository).map_err(DataError::Name)?,
            until: check::time(&place, &self.until)?,
            owner,
            rule: self.rule,
            reason: self.reason,
        })
    }
}
