//! All witnesses of the log, and what its policy wants of them.

use super::{
    chronicle::Chronicle,
    member::Member,
    witness::{Question, Witness, contradiction},
};
use crate::{
    audit::{Log, Noted},
    config::{MaxUnwitnessed, WithoutQuorum, WitnessConfig},
    fatal::Fatal,
    opening::unreadable,
    store::Store,
};
use api::KeptHead;
use futures_util::future::join_all;
use record::{Clock, Sha256};
use std::{path::Path, sync::Arc};
use tlog::{Checkpoint, MAX_POLICY_LEN, Note, VerifierKey, WitnessPolicy};
use tokio::time::Instant;

/// The longest name of a witness: it stands in entries of the log.
const MAX_NAME: usize = 128;

/// The witnesses that are asked, and what the policy wants of them.
pub(crate) struct Witnesses {
    policy: WitnessPolicy,
    /// SHA-256 of the policy's file.
    policy_digest: Sha256,
    config: WitnessConfig,
    members: Vec<Member>,
    /// The text of the note that was shown last; none before the first.
    shown: Option<String>,
}

/// The log that is witnessed.
pub(super) struct Witnessed {
    pub(super) log: Log,
    pub(super) key: VerifierKey,
    pub(super) chronicle: Chronicle,
    pub(super) clock: Arc<dyn Clock>,
}

/// A note that was shown to the witnesses.
pub(super) struct Shown {
    /// With every cosignature that there is.
    pub(super) noted: Noted,
    /// The policy's quorum is reached.
    pub(super) is_witnessed: bool,
    /// One sentence for each witness that is not well.
    pub(super) alarms: Vec<String>,
    /// What the witnesses elsewhere keep of the log.
    pub(super) heads: Vec<KeptHead>,
}

impl Witnesses {
    /// Reads the policy. It must be of this log, and the witnesses that can be asked must be able to reach its quorum.
    pub(crate) fn open(config: &WitnessConfig, key: &VerifierKey) -> Result<Self, Fatal> {
        let bad = |why: String| Fatal::Config { path: config.policy.clone(), why };
        let (policy, policy_digest) = read_policy(&config.policy).map_err(bad)?;
        check(&policy, config, key).map_err(bad)?;
        let http = client(config)?;
        let mut members = Vec::new();
        for witness in policy.witnesses() {
            match &witness.url {
                None => tracing::warn!(
                    witness = witness.name,
                    "this witness has no URL in the policy and is never asked"
                ),
                Some(url) => {
                    let asked = Witness::new(witness, url, http.clone(), config.timeout());
                    members.push(Member::new(asked.map_err(bad)?));
                }
            }
        }
        Ok(Self { policy, policy_digest, config: config.clone(), members, shown: None })
    }

    /// Holds the log that was opened against what each witness has seen of it (protocol section 8, R3): a checkpoint of our
    /// own key that is larger, or another, means that an older copy of everything was restored. A witness that does not
    /// answer now is compared when it does; gives these.
    pub(crate) async fn compare(
        &mut self,
        store: &Store,
        size: u64,
        key: &VerifierKey,
        database: &Path,
    ) -> Result<Vec<String>, Fatal> {
        let mut unread = Vec::new();
        let asked = self.members.iter_mut().map(|member| member.witness.latest(key));
        let answers = join_all(asked).await;
        for (member, answer) in self.members.iter().zip(answers) {
            let name = &member.witness.name;
            match answer {
                Ok(None) => tracing::info!(witness = name, "this witness shows no checkpoint of the log yet"),
                Ok(Some(shown)) => hold_against((store, size), name, &shown, database).await?,
                Err(error) => {
                    tracing::warn!(witness = name, %error, "a witness is not there yet; what it has seen is compared when it is");
                    unread.push(format!("witness {name}"));
                }
            }
        }
        Ok(unread)
    }

    /// SHA-256 of the file that the policy was read from.
    pub(crate) fn policy_digest(&self) -> Sha256 {
        self.policy_digest
    }

    pub(super) fn without_quorum(&self) -> WithoutQuorum {
        self.config.without_quorum
    }

    pub(super) fn max_unwitnessed(&self) -> Option<MaxUnwitnessed> {
        self.config.max_unwitnessed
    }

    /// Asks every witness whose turn it is for its cosignature, all at once. An error is a fork of this log.
    pub(super) async fn show(&mut self, noted: Noted, of: &Witnessed) -> Result<Shown, String> {
        let note =
            Note::parse(&noted.note).map_err(|e| format!("the log's own note: {}", api::chain_text(&e)))?;
        self.shown = Some(note.text().to_owned());
        let question = Question { note: &note, size: noted.size, key: &of.key, log: &of.log };
        let now = Instant::now();
        let due = self.members.iter_mut().filter(|member| member.due(note.text()) <= now);
        let asked = join_all(due.map(|member| member.ask(&question, &of.chronicle, of.clock.now()))).await;
        asked.into_iter().collect::<Result<(), String>>()?;
        Ok(self.judge(noted, note))
    }

    /// The note with all that is there, and what is missing.
    fn judge(&self, noted: Noted, note: Note) -> Shown {
        let text = note.text().to_owned();
        let is_witnessed = self.policy.is_reached_by(|witness| {
            self.members.iter().any(|member| *member.key() == witness.key && member.line(&text).is_some())
        });
        let alarms = self.members.iter().filter_map(Member::alarm).collect();
        let heads = self.members.iter().filter_map(Member::kept).collect();
        let lines = self.members.iter().filter_map(|member| member.line(&text)).cloned();
        match note.with_signatures(lines) {
            Ok(note) => {
                let noted = Noted { note: note.to_string().into(), ..noted };
                Shown { noted, is_witnessed, alarms, heads }
            }
            Err(error) => {
                // A line each of at most 63 witnesses: the note has room.
                tracing::error!(%error, "cosignatures do not fit into the note");
                Shown { noted, is_witnessed: false, alarms, heads }
            }
        }
    }

    /// When the next witness is to be asked about the note that was shown last.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let shown = self.shown.as_ref()?;
        self.members.iter().map(|member| member.due(shown)).min()
    }
}

async fn hold_against(
    (store, size): (&Store, u64),
    witness: &str,
    shown: &Checkpoint,
    database: &Path,
) -> Result<(), Fatal> {
    let state = |why: String| {
        Fatal::State {
        path: database.to_owned(),
        why,
        next: "restore the newest database, spool and journals: a log that its witnesses have seen larger, or another, never \
               goes on"
            .into(),
    }
    };
    let root = match shown.size <= size {
        // A database that cannot be read says nothing about the log: no older copy need be restored.
        true => Some(store.root_at(shown.size).await.map_err(|e| unreadable(database, &e))?),
        false => None,
    };
    contradiction(witness, shown, size, root).map_or(Ok(()), |why| Err(state(why)))
}

fn read_policy(path: &Path) -> Result<(WitnessPolicy, Sha256), String> {
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > MAX_POLICY_LEN as u64 {
        return Err(format!("{size} bytes: the limit is {MAX_POLICY_LEN}"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let policy = WitnessPolicy::parse(&text).map_err(|e| api::chain_text(&e))?;
    Ok((policy, Sha256::of(text.as_bytes())))
}

fn check(policy: &WitnessPolicy, config: &WitnessConfig, key: &VerifierKey) -> Result<(), String> {
    if !policy.logs().iter().any(|log| log.key == *key) {
        return Err(format!("it has no line `log {key}`: it is a policy for other logs"));
    }
    if let Some(long) = policy.witnesses().iter().find(|w| w.name.len() > MAX_NAME) {
        return Err(format!("the name {:?}: a witness's name has at most {MAX_NAME} bytes here", long.name));
    }
    if !policy.is_reached_by(|witness| witness.url.is_some()) {
        return Err(
            "the witnesses that have a URL can never be its quorum: give more of them their URLs".into()
        );
    }
    if config.without_quorum == WithoutQuorum::Wait && policy.is_reached_by(|_| false) {
        return Err(
            "it asks for no witness (`quorum none`), so without_quorum = \"wait\" would wait for nothing"
                .into(),
        );
    }
    Ok(())
}

/// One client for all witnesses: no redirect, no proxy.
fn client(config: &WitnessConfig) -> Result<reqwest::Client, Fatal> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("chanceryd/", env!("CARGO_PKG_VERSION")))
        .timeout(config.timeout())
        .connect_timeout(config.timeout())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    let builder = match &config.ca {
        None => builder,
        Some(path) => {
            let bad = |why: String| Fatal::Config { path: path.clone(), why };
            let pem = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
            let certificates =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| bad(api::chain_text(&e)))?;
            builder.tls_certs_only(certificates)
        }
    };
    builder.build().map_err(|e| Fatal::Unavailable {
        what: "the client of the witnesses".into(),
        why: api::chain_text(&e),
    })
}
