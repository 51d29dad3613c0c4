//! Facts under which everything is in order, for each test to spoil one.

use policy::{
    Ask, Attestations, Caller, Decision, Fact, Facts, Manifest, PolicySet, Signed, Signing as Image,
    SigningKey, Sources, Token, Workload,
};
use record::{Ci, Digest, Principal, Purpose, Repository, Sha256, Tag, Time};

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

/// A set of this data alone, under `schema = 1`.
pub(crate) fn with_data(data: &str) -> PolicySet {
    PolicySet::load(sources(&format!("schema = 1\n{data}"), "")).unwrap()
}

pub(crate) fn sources(data: &str, cedar: &str) -> Sources {
    let cedar = vec![("own.cedar".to_owned(), cedar.to_owned())];
    Sources { data: data.to_owned(), cedar, tests: None }
}

pub(crate) fn at(text: &str) -> Time {
    text.parse().unwrap()
}

pub(crate) fn digest(content: &str) -> Digest {
    Digest::of(content.as_bytes())
}

pub(crate) fn principal(text: &str) -> Principal {
    Principal::parse(text).unwrap()
}

pub(crate) fn token() -> Token {
    Token {
        principal: principal("token:abc"),
        scopes_sign: true,
        repositories: vec!["r.example/team/".to_owned()],
        expires: at("2026-12-01T00:00:00.000Z"),
    }
}

/// A job on a protected branch of the repository with the id 42.
pub(crate) fn ci() -> Ci {
    record::canonical::decode(
        concat!(
            r#"{"environment":"production","event":"push","forkOrMergeRequest":false,"hostedRunner":true,"issuer":"github","#,
            r#""ownerId":"7","provider":"github","ref":"refs/heads/main","refProtected":true,"repository":"github.com/acme/api","#,
            r#""repositoryId":"42","workflow":"acme/ci/.github/workflows/release.yml","workflowRef":"refs/heads/main"}"#
        )
        .as_bytes(),
    )
    .unwrap()
}

pub(crate) fn job(ci: Ci) -> Caller {
    let principal = principal(&format!("ci:{}/{}", ci.issuer, ci.repository_id));
    Caller::Workload(Box::new(Workload { principal, ci, expires: at("2026-12-01T00:00:00.000Z") }))
}

pub(crate) fn present() -> Manifest {
    Manifest::Present { media_type: OCI_MANIFEST.to_owned(), size: 1_234 }
}

pub(crate) fn key() -> SigningKey {
    let id = Sha256::of(b"key").to_string().parse().unwrap();
    SigningKey { id, purpose: Purpose::Targets, attested: false, touch_always: false }
}

/// An image about which nothing is known but what every repository needs.
pub(crate) fn image() -> Image {
    Image {
        tag: Tag::parse("v1").unwrap(),
        digest: digest("new"),
        manifest: present(),
        children: Fact::NotLookedAt,
        image_created: Fact::NotLookedAt,
        attestations: Attestations::not_looked_at(),
        tag_previous: Fact::Absent,
        collection_exists: true,
        key: Fact::Found(key()),
        signed_last_hour: Fact::Found(Signed { by_caller: 0, of_repository: 0 }),
        approvals: Vec::new(),
        touched: Fact::Absent,
        break_glass: Fact::Absent,
    }
}

/// The parts of a request to sign, in order unless changed.
pub(crate) struct Signing {
    pub(crate) token: Token,
    /// Instead of the token.
    pub(crate) caller: Option<Caller>,
    pub(crate) repository: &'static str,
    pub(crate) image: Image,
    pub(crate) now: Time,
}

impl Signing {
    pub(crate) fn into(repository: &'static str) -> Self {
        let now = at("2026-11-23T10:00:00.000Z");
        Self { token: token(), caller: None, repository, image: image(), now }
    }

    pub(crate) fn by(caller: Caller, repository: &'static str) -> Self {
        Self { caller: Some(caller), ..Self::into(repository) }
    }

    fn facts_of(&self, ask: Ask) -> Facts {
        let caller = self.caller.clone().unwrap_or_else(|| Caller::Token(self.token.clone()));
        Facts { caller, repository: Repository::parse(self.repository).unwrap(), ask, now: self.now }
    }

    pub(crate) fn facts(&self) -> Facts {
        self.facts_of(Ask::Sign(Box::new(self.image.clone())))
    }

    pub(crate) fn facts_to_enter(&self) -> Facts {
        self.facts_of(Ask::RequestSign(Box::new(self.image.clone())))
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
        caller: Caller::Token(token()),
        repository: Repository::parse(repository).unwrap(),
        ask: Ask::CreateRepository { collection_exists },
        now: at("2026-11-23T10:00:00.000Z"),
    }
}

/// The ids of the rules that failed.
pub(crate) fn failed(decision: &Decision) -> Vec<&str> {
    decision.reasons.iter().map(|reason| reason.rule.as_str()).collect()
}
