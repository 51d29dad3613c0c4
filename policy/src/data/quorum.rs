//! Quorums: how many people of which groups must have approved, one person for one place.

use super::{DataError, Teams, check};
use crate::facts::is_person;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Most groups of one quorum.
const MAX_GROUPS: usize = 8;
/// Most people of one group.
const MAX_COUNT: i64 = 16;

/// A quorum of several groups: never empty, no count is zero, and there are people enough to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum(Vec<Group>);

/// So many people of one team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The team.
    pub team: String,
    /// How many of its people.
    pub count: usize,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGroup {
    group: String,
    count: i64,
}

impl Quorum {
    /// The groups, as they are written.
    pub fn groups(&self) -> &[Group] {
        &self.0
    }

    /// How many people it takes.
    pub fn people(&self) -> usize {
        self.0.iter().map(|group| group.count).sum()
    }

    /// What is missing when these have approved: for each group that is not complete, how many. A person fills one place,
    /// also one who is in several groups.
    pub(crate) fn missing(&self, approved: &BTreeSet<&str>, teams: &Teams) -> Vec<Group> {
        let places: Vec<&Group> =
            self.0.iter().flat_map(|group| std::iter::repeat_n(group, group.count)).collect();
        let in_team = |team: &str, person: &str| teams.get(team).is_some_and(|t| t.contains(person));
        // Bipartite matching by augmenting paths (Kuhn): each place looks for a person, who may be moved to another place.
        let mut place_of: BTreeMap<&str, usize> = BTreeMap::new();
        let mut empty: BTreeMap<&str, usize> = BTreeMap::new();
        for (place, group) in places.iter().enumerate() {
            let fits = |place: usize, person: &str| {
                places.get(place).is_some_and(|group| in_team(&group.team, person))
            };
            if !seat(place, approved, &fits, &mut place_of, &mut BTreeSet::new()) {
                *empty.entry(group.team.as_str()).or_default() += 1;
            }
        }
        let missing = |(team, count): (&str, usize)| Group { team: team.to_owned(), count };
        empty.into_iter().map(missing).collect()
    }

    pub(super) fn check(place: &str, raw: Vec<RawGroup>, teams: &Teams) -> Result<Self, DataError> {
        let refused = |what: String| Err(DataError::Quorum { place: place.to_owned(), what });
        check::limit(place, "groups", raw.len(), MAX_GROUPS)?;
        if raw.is_empty() {
            return refused("an empty list asks nobody; name a group, or leave the key out".to_owned());
        }
        let names = raw.iter().map(|group| group.group.clone()).collect();
        check::defined(place, "team", names, teams)?;
        let mut groups = Vec::new();
        for RawGroup { group, count } in raw {
            match usize::try_from(count) {
                Ok(count) if (1..=MAX_COUNT as usize).contains(&count) => {
                    groups.push(Group { team: group, count })
                }
                _ => {
                    return refused(format!(
                        "count = {count} of group {group:?}: write 1 to {MAX_COUNT}; zero would ask nobody"
                    ));
                }
            }
        }
        let quorum = Self(groups);
        let members = quorum.0.iter().filter_map(|group| teams.get(&group.team)).flatten();
        let people = members.map(String::as_str).filter(|member| is_person(member));
        match quorum.missing(&people.collect(), teams).first() {
            None => Ok(quorum),
            Some(Group { team, count }) => refused(format!(
                "nobody could ever reach it: {count} more of group {team:?} would be needed than there are people \
                 (members person:...) in it, each counted once"
            )),
        }
    }
}

/// Finds somebody for a place, moving others if that helps. Depth is bounded by the number of places.
fn seat<'a>(
    place: usize,
    people: &BTreeSet<&'a str>,
    fits: &impl Fn(usize, &str) -> bool,
    place_of: &mut BTreeMap<&'a str, usize>,
    tried: &mut BTreeSet<&'a str>,
) -> bool {
    for person in people {
        if fits(place, person) && tried.insert(person) {
            let free = match place_of.get(person).copied() {
                None => true,
                Some(other) => seat(other, people, fits, place_of, tried),
            };
            if free {
                place_of.insert(person, place);
                return true;
            }
        }
    }
    false
}
