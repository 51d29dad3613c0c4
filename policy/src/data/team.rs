//! `[[team]]`: tokens, CI jobs, machines and people under one name.

use super::{DataError, check};
use crate::facts::is_member;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most members of one team.
pub const MAX_MEMBERS: usize = 1_000;

/// Name to members.
pub(crate) type Teams = BTreeMap<String, BTreeSet<String>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTeam {
    name: String,
    members: Vec<String>,
}

pub(super) fn check(raw: Vec<RawTeam>) -> Result<Teams, DataError> {
    let mut teams = Teams::new();
    for RawTeam { name, members } in raw {
        check::name("team", &name)?;
        let place = format!("team {name:?}");
        check::limit(&place, "members", members.len(), MAX_MEMBERS)?;
        if let Some(bad) = members.iter().find(|member| !is_member(member)) {
            let why = "is no member: write token:<id>, person:<name>, machine:<id> or ci:<issuer>/<id>";
            return Err(check::bad(&place, bad, why));
        }
        if teams.insert(name.clone(), check::unique("member", members)?).is_some() {
            return Err(DataError::Duplicate { what: "team", name });
        }
    }
    Ok(teams)
}

pub(super) fn memberships(teams: &Teams) -> HashMap<String, Vec<String>> {
    let mut of: HashMap<String, Vec<String>> = HashMap::new();
    for (team, members) in teams {
        for member in members {
            of.entry(member.clone()).or_default().push(team.clone());
        }
    }
    of
}
