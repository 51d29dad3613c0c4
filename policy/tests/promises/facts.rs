//! Facts under which everything is in order, for each test to spoil one.

use policy::{Ask, Caller, Decision, Facts, Manifest, PolicySet, Sources};
use record::{Digest, Principal, Repository, Tag, Time};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A repository of every kind that the tests need.
pub(crate) const DATA: &str = r#"
schema = 1
[[repository]]
name = "r.example/team/"
create_on_first_sign = true
[[repository]]
name = "r.example/team/strict"
immutable_tags = true
signers = ["release"]
[[repository]]
name = "r.example/team/frozen"
frozen = true
[[team]]
name = "release"
members = ["token:abc"]
[[team]]
name = "contractors"
members = ["token:ext"]
"#;

pub(crate) fn policy() -> PolicySet {
    with_cedar("")
}

pub(crate) fn with_cedar(cedar: &str) -> PolicySet {
    PolicySet::load(sources(DATA, cedar)).unwrap()
}

pub(crate) fn sources(data: &str, cedar: &str) -> Sources {
    Sources { data: data.to_owned(), cedar: vec![("own.cedar".to_owned(), cedar.to_owned())] }
}

pub(crate) fn at(text: &str) -> Time {
    text.parse().unwrap()
}

pub(crate) fn digest(content: &str) -> Digest {
    Digest::of(content.as_bytes())
}

pub(crate) fn caller() -> Caller {
    Caller {
        principal: Principal::parse("token:abc").unwrap(),
        scopes_sign: true,
        repositories: vec!["r.example/team/".to_owned()],
        expires: at("2026-12-01T00:00:00.000Z"),
    }
}

pub(crate) fn present() -> Manifest {
    Manifest::Present { media_type: OCI_MANIFEST.to_owned(), size: 1_234 }
}

/// The parts of a request to sign, in order unless changed.
pub(crate) struct Signing {
    pub(crate) caller: Caller,
    pub(crate) repository: &'static str,
    pub(crate) manifest: Manifest,
    pub(crate) tag_previous: Option<Digest>,
    pub(crate) collection_exists: bool,
    pub(crate) now: Time,
}

impl Signing {
    pub(crate) fn into(repository: &'static str) -> Self {
        Self {
            caller: caller(),
            repository,
            manifest: present(),
            tag_previous: None,
            collection_exists: true,
            now: at("2026-11-23T10:00:00.000Z"),
        }
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            caller: self.caller.clone(),
            repository: Repository::parse(self.repository).unwrap(),
            ask: Ask::Sign {
                tag: Tag::parse("v1").unwrap(),
                digest: digest("new"),
                manifest: self.manifest.clone(),
                tag_previous: self.tag_previous,
                collection_exists: self.collection_exists,
            },
            now: self.now,
        }
    }

    pub(crate) fn decided_by(&self, policy: &PolicySet) -> Decision {
        policy.decide(&self.facts())
    }

    pub(crate) fn decided(&self) -> Decision {
        self.decided_by(&policy())
    }
}

pub(crate) fn creating(repository: &str, collection_exists: bool) -> Facts {
    Facts {
        caller: caller(),
        repository: Repository::parse(repository).unwrap(),
        ask: Ask::CreateRepository { collection_exists },
        now: at("2026-11-23T10:00:00.000Z"),
    }
}

/// The ids of the rules that failed.
pub(crate) fn failed(decision: &Decision) -> Vec<&str> {
    decision.reasons.iter().map(|reason| reason.rule.as_str()).collect()
}
