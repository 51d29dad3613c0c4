//! What a leaf says about who, what and when: what a search looks at and an export shows.

use super::matching::End;
use record::{
    Action, Digest, Event, Intent, KeeperName, KeyId, Leaf, Principal, Purpose, Repository, RequestId,
    Requested, Tag, Time,
};
use serde::Serialize;

/// The facts of one leaf. What a kind of leaf does not say is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Facts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repository: Option<Repository>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keeper: Option<KeeperName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<KeyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) purpose: Option<Purpose>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decision: Option<Decision>,
    /// What was asked for, and by whom.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) asked: Vec<Asked>,
}

/// One thing that somebody asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Asked {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tag: Option<Tag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<Principal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<RequestId>,
    /// The rules that allowed or refused it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rules: Vec<String>,
}

/// What the policy said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Decision {
    /// An intent: it was allowed
    Allowed,
    /// A refused request
    Denied,
}

impl Decision {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }
}

impl Facts {
    pub(crate) fn of(leaf: &Leaf) -> Self {
        let time = leaf.time();
        match leaf {
            Leaf::Intent(intent) => Self { time, ..Self::of_intent(intent) },
            Leaf::Denial(denial) => Self {
                time,
                repository: Some(denial.repository.clone()),
                decision: Some(Decision::Denied),
                asked: vec![Asked {
                    tag: denial.tag.clone(),
                    digest: denial.digest,
                    by: Some(denial.by.clone()),
                    request: Some(denial.request.clone()),
                    rules: denial.reasons.iter().map(|reason| reason.rule.clone()).collect(),
                }],
                ..Self::default()
            },
            Leaf::Allowance(allowance) => Self {
                time,
                repository: Some(allowance.repository.clone()),
                asked: vec![Asked {
                    tag: allowance.tag.clone(),
                    digest: allowance.digest,
                    by: Some(allowance.by.clone()),
                    request: Some(allowance.request.clone()),
                    rules: allowance.rules.clone(),
                }],
                ..Self::default()
            },
            Leaf::Completion(completion) => Self { key: Some(completion.key()), ..Self::default() },
            Leaf::Outcome(outcome) => Self { time, keeper: Some(outcome.keeper.clone()), ..Self::default() },
            Leaf::Event(Event::Keeper { keeper, .. }) => {
                Self { time, keeper: Some(keeper.name.clone()), ..Self::default() }
            }
            Leaf::Event(Event::TokenCreated { by, .. } | Event::TokenRevoked { by, .. }) => {
                let asked = vec![Asked { by: Some(by.clone()), ..Asked::default() }];
                Self { time, asked, ..Self::default() }
            }
            Leaf::Event(Event::Adopted(adopted)) => Self {
                time,
                repository: Some(adopted.repository.clone()),
                key: Some(adopted.key),
                purpose: Some(adopted.role),
                ..Self::default()
            },
            Leaf::Event(Event::AdoptedReservation(reservation)) => Self {
                time,
                repository: Some(reservation.repository.clone()),
                purpose: Some(reservation.role),
                ..Self::default()
            },
            Leaf::Genesis(_) | Leaf::Event(_) => Self { time, ..Self::default() },
        }
    }

    fn of_intent(intent: &Intent) -> Self {
        let changes = match &intent.action {
            Action::Targets { changes, .. } => changes.as_slice(),
            _ => &[],
        };
        let of_change = |change: &record::Change| Asked {
            tag: Some(change.tag.clone()),
            digest: Some(change.digest),
            ..Asked::by(&change.requested)
        };
        let asked = intent.requested.iter().map(Asked::by).chain(changes.iter().map(of_change));
        Self {
            repository: Some(intent.repository.clone()),
            keeper: Some(intent.keeper.clone()),
            key: Some(intent.key),
            purpose: Some(intent.purpose),
            decision: Some(Decision::Allowed),
            asked: asked.collect(),
            ..Self::default()
        }
    }
}

impl Asked {
    fn by(requested: &Requested) -> Self {
        Self {
            by: Some(requested.by.clone()),
            request: Some(requested.request.clone()),
            rules: requested.rules.clone(),
            ..Self::default()
        }
    }
}

/// How an entry's intent ended, and which entry says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Ended {
    pub(crate) end: End,
    #[serde(rename = "end_index", skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<u64>,
}
