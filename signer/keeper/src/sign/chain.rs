//! Which content stands at which version: one link for every collection (repository) and role.
//!
//! A link moves when a signature is reserved, not when it is made: a key may have been used as soon as its item is
//! durable, so a version that was handed to a key once is never free for other content. What was reserved but not yet
//! seen in the log is *unconfirmed*, and only then may the next targets build on the newest confirmed content below it, and
//! files above name that.

use record::{Purpose, Repository, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most links a keeper carries: 50 000 collections of four roles; a full journal snapshot stays under 64 MiB.
pub(super) const MAX_LINKS: usize = 200_000;

/// The newest version reserved for one collection and role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    /// TUF version.
    pub(super) version: u64,
    /// SHA-256 of its signed bytes.
    pub(super) payload: Sha256,
    /// The newest confirmed content below this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) base: Option<Base>,
    /// What that was when this version was reserved: files above may name it while this one is unconfirmed. It stays
    /// though a version between the two is confirmed late, on which this one does not build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) below: Option<Base>,
    /// Whether a signature over this version was seen outside: in the log, or in a file that names it.
    pub(super) confirmed: bool,
    /// The version at which this link stood when its keeper began to follow another log: what it and those below it were
    /// made from stands in no leaf of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) carried: Option<u64>,
}

/// Confirmed content below a link's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Base {
    /// TUF version.
    pub(super) version: u64,
    /// SHA-256 of its signed bytes.
    pub(super) payload: Sha256,
}

/// One version of one role's metadata in one collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// The collection.
    pub(super) repository: Repository,
    /// The role.
    pub(super) role: Purpose,
    /// TUF version.
    pub(super) version: u64,
    /// SHA-256 of its signed bytes.
    pub(super) payload: Sha256,
}

/// A step that the chain does not allow.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChainError {
    /// Not the next version, and not the newest one again.
    #[error("version {asked} of {role} in {repository}: the newest version reserved is {newest}")]
    Version { repository: Repository, role: Purpose, asked: u64, newest: u64 },
    /// The newest version with other content.
    #[error("version {version} of {role} in {repository} was reserved for other content")]
    Content { repository: Repository, role: Purpose, version: u64 },
    /// Targets that build on something else than the newest content.
    #[error("targets version {version} of {repository} do not build on the newest content")]
    Prev { repository: Repository, version: u64 },
    /// A first version that names a version before it.
    #[error("the first targets of {repository} name a version before them")]
    FirstHasPrev { repository: Repository },
    /// A version that was reserved under this log.
    #[error("version {version} of {role} in {repository} is not of the former log: only its intent shows it")]
    NotCarried { repository: Repository, role: Purpose, version: u64 },
    /// No room for another collection.
    #[error("the journal already carries {MAX_LINKS} links, the most a keeper takes: use another keeper")]
    Full,
}

/// All links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chain {
    links: BTreeMap<Repository, BTreeMap<Purpose, Link>>,
    count: usize,
}

impl Chain {
    /// The newest link of a collection's role.
    pub(super) fn link(&self, repository: &Repository, role: Purpose) -> Option<&Link> {
        self.links.get(repository)?.get(&role)
    }

    /// Every link, for the journal's snapshot.
    pub(super) fn links(&self) -> impl Iterator<Item = (&Repository, Purpose, &Link)> {
        self.links.iter().flat_map(|(repository, roles)| roles.iter().map(move |(p, l)| (repository, *p, l)))
    }

    /// Puts back a link that [`Self::links`] gave.
    pub(super) fn restore(&mut self, repository: Repository, role: Purpose, link: Link) {
        if self.links.entry(repository).or_default().insert(role, link).is_none() {
            self.count += 1;
        }
    }

    /// Whether `step` may be reserved: the next version, or the newest one with the same content.
    // INVARIANT(chain): no two contents per collection, role and version. INVARIANT(forward-only): no version falls.
    pub(super) fn allows(&self, step: &Step) -> Result<(), ChainError> {
        let Step { repository, role, version, payload } = step;
        let newest = self.link(repository, *role).copied();
        let (at, same) = newest.map_or((0, false), |l| (l.version, l.payload == *payload));
        if newest.is_none() && self.count >= MAX_LINKS {
            Err(ChainError::Full)
        } else if at.checked_add(1) == Some(*version) || (newest.is_some() && at == *version && same) {
            Ok(())
        } else if newest.is_some() && at == *version {
            Err(ChainError::Content { repository: repository.clone(), role: *role, version: *version })
        } else {
            let (repository, role) = (repository.clone(), *role);
            Err(ChainError::Version { repository, role, asked: *version, newest: at })
        }
    }

    /// Whether targets may build on `prev`: the newest content, or the confirmed content below it (none below a first
    /// version) while the newest is unconfirmed. A repeat of the newest version has the same bytes, whatever it names.
    pub(super) fn builds_on(&self, step: &Step, prev: Option<Sha256>) -> Result<(), ChainError> {
        let repository = step.repository.clone();
        if step.version <= 1 {
            return if prev.is_none() { Ok(()) } else { Err(ChainError::FirstHasPrev { repository }) };
        }
        let link = self.link(&step.repository, step.role);
        let allowed = link.is_some_and(|l| {
            let repeat = l.version == step.version && l.payload == step.payload;
            repeat || prev == Some(l.payload) || (!l.confirmed && prev == l.base.map(|b| b.payload))
        });
        if allowed { Ok(()) } else { Err(ChainError::Prev { repository, version: step.version }) }
    }

    /// Whether a file above may name `step` as its newest: it is, or it is the confirmed content that lay below when the
    /// newest was reserved, while that is unconfirmed. Nobody was ever shown an unconfirmed version by this keeper's files: it
    /// confirms what it lets them name. And what was named stays: the newest builds on it, or on more.
    pub(super) fn stands(&self, step: &Step) -> Result<(), ChainError> {
        let Step { repository, role, version, payload } = step;
        let named = Some(Base { version: *version, payload: *payload });
        let newest = self.link(repository, *role);
        if newest.is_some_and(|l| named == Some(l.as_base()) || (!l.confirmed && named == l.below)) {
            return Ok(());
        }
        let (repository, role, newest) = (repository.clone(), *role, newest.map_or(0, |l| l.version));
        Err(ChainError::Version { repository, role, asked: *version, newest })
    }

    /// Whether `step` stands, as above, and comes from the former log: only then need this log have no intent of it.
    pub(super) fn stands_from_former_log(&self, step: &Step) -> Result<(), ChainError> {
        self.stands(step)?;
        let carried = self.link(&step.repository, step.role).and_then(|l| l.carried);
        if carried.is_some_and(|carried| step.version <= carried) {
            return Ok(());
        }
        let Step { repository, role, version, .. } = step.clone();
        Err(ChainError::NotCarried { repository, role, version })
    }

    /// Notes that another log is followed from now on.
    pub(super) fn carry_over(&mut self) {
        self.links.values_mut().flat_map(BTreeMap::values_mut).for_each(|l| l.carried = Some(l.version));
    }

    /// Takes `step` as the newest version, unconfirmed.
    pub(super) fn reserve(&mut self, step: &Step) -> Result<(), ChainError> {
        self.allows(step)?;
        let old = self.link(&step.repository, step.role).copied();
        if old.is_some_and(|l| l.version == step.version) {
            return Ok(());
        }
        let base = old.and_then(|l| if l.confirmed { Some(l.as_base()) } else { l.base });
        let carried = old.and_then(|l| l.carried);
        let (version, payload) = (step.version, step.payload);
        let link = Link { version, payload, base, below: base, confirmed: false, carried };
        self.restore(step.repository.clone(), step.role, link);
        Ok(())
    }

    /// Notes that a signature over `step` exists outside.
    pub(super) fn confirm(&mut self, step: &Step) {
        let role = self.links.get_mut(&step.repository).and_then(|roles| roles.get_mut(&step.role));
        let Some(link) = role else { return };
        if link.version == step.version && link.payload == step.payload {
            link.confirmed = true;
        } else if step.version < link.version && link.base.is_none_or(|b| b.version < step.version) {
            link.base = Some(Base { version: step.version, payload: step.payload });
        }
    }
}

impl Link {
    fn as_base(self) -> Base {
        Base { version: self.version, payload: self.payload }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step(version: u64, content: &str) -> Step {
        Step {
            repository: Repository::parse("r.example/team/app").unwrap(),
            role: Purpose::Targets,
            version,
            payload: Sha256::of(content.as_bytes()),
        }
    }

    fn of(content: &str) -> Option<Sha256> {
        Some(Sha256::of(content.as_bytes()))
    }

    #[test]
    fn a_collection_begins_at_version_one_without_a_version_before() {
        let chain = Chain::default();
        assert!(chain.allows(&step(1, "a")).is_ok() && chain.builds_on(&step(1, "a"), None).is_ok());
        assert!(chain.allows(&step(0, "a")).is_err() && chain.allows(&step(2, "a")).is_err());
        assert!(matches!(chain.builds_on(&step(1, "a"), of("x")), Err(ChainError::FirstHasPrev { .. })));
    }

    #[test]
    fn versions_grow_by_one_and_repeat_only_with_the_same_content() {
        let mut chain = Chain::default();
        chain.reserve(&step(1, "a")).unwrap();
        assert!(chain.allows(&step(1, "a")).is_ok());
        assert!(matches!(chain.allows(&step(1, "b")), Err(ChainError::Content { .. })));
        assert!(matches!(chain.allows(&step(3, "c")), Err(ChainError::Version { newest: 1, .. })));
        chain.reserve(&step(2, "b")).unwrap();
        assert!(matches!(chain.allows(&step(1, "a")), Err(ChainError::Version { newest: 2, .. })));
    }

    #[test]
    fn files_above_name_the_newest_version_or_what_was_confirmed_below_one_that_nobody_has_seen() {
        let mut chain = Chain::default();
        assert!(matches!(chain.stands(&step(1, "a")), Err(ChainError::Version { newest: 0, .. })));
        chain.reserve(&step(1, "a")).unwrap();
        assert!(chain.stands(&step(1, "a")).is_ok() && chain.stands(&step(1, "b")).is_err());
        chain.confirm(&step(1, "a"));
        // Two versions that were never seen signed do not hold up the one below them.
        for (version, content) in [(2, "b"), (3, "c")] {
            chain.reserve(&step(version, content)).unwrap();
            assert!(chain.stands(&step(1, "a")).is_ok() && chain.stands(&step(version, content)).is_ok());
        }
        assert!(chain.stands(&step(2, "b")).is_err(), "neither the newest nor confirmed");
        // What was named once is never named by an older one again.
        chain.confirm(&step(3, "c"));
        assert!(matches!(chain.stands(&step(1, "a")), Err(ChainError::Version { asked: 1, newest: 3, .. })));
    }

    #[test]
    fn a_version_confirmed_late_is_never_shown_under_one_that_leaves_it_out() {
        let mut chain = Chain::default();
        chain.reserve(&step(1, "a")).unwrap();
        chain.confirm(&step(1, "a"));
        chain.reserve(&step(2, "b")).unwrap();
        // 3 may build on 1, since 2 may never have been signed; then the log has 2 after all.
        assert!(chain.builds_on(&step(3, "a-and-c"), of("a")).is_ok());
        chain.reserve(&step(3, "a-and-c")).unwrap();
        chain.confirm(&step(2, "b"));
        assert!(chain.stands(&step(2, "b")).is_err(), "clients would lose what they have seen, with 3");
        assert!(chain.stands(&step(1, "a")).is_ok() && chain.stands(&step(3, "a-and-c")).is_ok());
        assert!(chain.builds_on(&step(4, "d"), of("b")).is_ok());
    }

    #[test]
    fn confirmed_content_can_not_be_left_out_of_the_next_version() {
        let mut chain = Chain::default();
        chain.reserve(&step(1, "a")).unwrap();
        chain.confirm(&step(1, "a"));
        chain.reserve(&step(2, "b")).unwrap();
        assert!(chain.builds_on(&step(3, "c"), of("a")).is_ok(), "2 may never have been signed");
        assert!(chain.builds_on(&step(3, "c"), of("b")).is_ok());
        chain.confirm(&step(2, "b"));
        assert!(chain.builds_on(&step(3, "c"), of("a")).is_err());
        assert!(chain.builds_on(&step(3, "c"), of("b")).is_ok());
        assert!(chain.builds_on(&step(3, "c"), None).is_err());
    }

    #[test]
    fn versions_lost_in_a_row_build_on_the_newest_confirmed_one() {
        let mut chain = Chain::default();
        chain.reserve(&step(1, "a")).unwrap();
        chain.confirm(&step(1, "a"));
        chain.reserve(&step(2, "b")).unwrap();
        chain.reserve(&step(3, "c")).unwrap();
        assert!(chain.builds_on(&step(4, "d"), of("a")).is_ok());
        assert!(chain.builds_on(&step(4, "d"), of("b")).is_err(), "never confirmed, no longer the newest");
        chain.confirm(&step(2, "b"));
        assert!(chain.builds_on(&step(4, "d"), of("b")).is_ok(), "confirmed late");
        assert!(chain.builds_on(&step(4, "d"), of("a")).is_err());
    }

    proptest! {
        /// INVARIANT(chain)
        #[test]
        fn chain(moves in proptest::collection::vec((0u64..6, 0u8..3, any::<bool>()), 0..60)) {
            let mut chain = Chain::default();
            let mut taken: BTreeMap<u64, Sha256> = BTreeMap::new();
            let mut newest = 0;
            for (version, content, confirm) in moves {
                let step = step(version, &content.to_string());
                if chain.reserve(&step).is_ok() {
                    prop_assert!(version >= newest && version <= newest + 1);
                    newest = version;
                    prop_assert_eq!(*taken.entry(version).or_insert(step.payload), step.payload);
                    if confirm { chain.confirm(&step); }
                }
                let link = chain.link(&step.repository, step.role).copied();
                prop_assert_eq!(link.map_or(0, |l| l.version), newest);
                prop_assert!(link.and_then(|l| l.base).is_none_or(|b| b.version < newest));
            }
        }
    }
}
