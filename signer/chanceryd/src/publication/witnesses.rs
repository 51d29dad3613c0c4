//! All witnesses of the log: who of them has cosigned the newest note, who is lost since when, and who is asked again when.

use super::{
    chronicle::Chronicle,
    witness::{Fault, Question, Witness, contradiction},
};
use crate::{
    audit::{Log, Noted},
    config::{MaxUnwitnessed, WithoutQuorum, WitnessConfig},
    fatal::Fatal,
    store::Writer,
};
use futures_util::future::join_all;
use record::{Clock, Event, FailureCode, MAX_CLAIMED, Nonce, Time};
use std::{path::Path, sync::Arc, time::Duration};
use tlog::{Checkpoint, MAX_POLICY_LEN, Note, NoteSignature, VerifierKey, WitnessPolicy};
use tokio::time::Instant;

/// Pause before a witness is asked again that gave no cosignature: first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// A cosignature over the newest note is asked for again when it is so old, so that a log at rest shows that it still is
/// what its witnesses see.
const REFRESH: Duration = Duration::from_secs(3600);
/// Failures in a row that make a witness lost: one may be a restart.
const LOST_AFTER: u32 = 2;
/// Entries of the log about one witness in [`WINDOW`]: one that comes and goes all the time must not fill it.
const TOLD: u32 = 10;
/// See [`TOLD`].
const WINDOW: Duration = Duration::from_secs(600);
/// The longest name of a witness: it stands in entries of the log.
const MAX_NAME: usize = 128;

/// The witnesses that are asked, and what the policy wants of them.
pub(crate) struct Witnesses {
    policy: WitnessPolicy,
    config: WitnessConfig,
    members: Vec<Member>,
    log: Option<Followed>,
    /// The text of the note that was shown last.
    shown: String,
}

/// The log that is witnessed, once it is open.
struct Followed {
    log: Log,
    key: VerifierKey,
    chronicle: Chronicle,
    clock: Arc<dyn Clock>,
}

/// A witness, and how it stands.
struct Member {
    witness: Witness,
    /// The note's text that it cosigned last, its line, and when.
    cosigned: Option<(String, NoteSignature, Instant)>,
    failures: u32,
    pause: Duration,
    /// Not asked before.
    rest: Instant,
    standing: Standing,
    told: Told,
}

/// How a witness stands with this log.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Well,
    Lost { since: Time, code: &'static str, says: String },
    Conflict { since: Time, claimed: u64, size: u64, says: String },
}

/// What the log says of a witness.
struct Told {
    kind: Kind,
    since: Time,
    window: Instant,
    count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Well,
    Lost,
    Conflict,
}

/// A note that was shown to the witnesses.
pub(super) struct Shown {
    /// With every cosignature that there is.
    pub(super) noted: Noted,
    /// The policy's quorum is reached.
    pub(super) is_witnessed: bool,
    /// One sentence for each witness that is not well.
    pub(super) alarms: Vec<String>,
}

impl Witnesses {
    /// Reads the policy. It must be of this log, and the witnesses that can be asked must be able to reach its quorum.
    pub(crate) fn open(config: &WitnessConfig, key: &VerifierKey) -> Result<Self, Fatal> {
        let bad = |why: String| Fatal::Config { path: config.policy.clone(), why };
        let policy = read_policy(&config.policy).map_err(bad)?;
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
        Ok(Self { policy, config: config.clone(), members, log: None, shown: String::new() })
    }

    /// Holds the log that was opened against what each witness has seen of it (protocol section 8, R3): a checkpoint of our
    /// own key that is larger, or another, means that an older copy of everything was restored. A witness that does not
    /// answer now is compared when it does.
    pub(crate) async fn compare(
        &mut self,
        writer: &mut Writer,
        key: &VerifierKey,
        database: &Path,
    ) -> Result<(), Fatal> {
        let asked = self.members.iter_mut().map(|member| member.witness.latest(key));
        let answers = join_all(asked).await;
        for (member, answer) in self.members.iter().zip(answers) {
            let name = &member.witness.name;
            match answer {
                Ok(None) => tracing::info!(witness = name, "this witness shows no checkpoint of the log yet"),
                Ok(Some(shown)) => hold_against(writer, name, &shown, database).await?,
                Err(error) => {
                    tracing::warn!(witness = name, %error, "a witness is not there yet; what it has seen is compared when it is");
                }
            }
        }
        Ok(())
    }

    /// Gives the log that is witnessed from now on.
    pub(super) fn follow(&mut self, log: Log, key: VerifierKey, chronicle: Chronicle, clock: Arc<dyn Clock>) {
        self.log = Some(Followed { log, key, chronicle, clock });
    }

    pub(super) fn without_quorum(&self) -> WithoutQuorum {
        self.config.without_quorum
    }

    pub(super) fn max_unwitnessed(&self) -> Option<MaxUnwitnessed> {
        self.config.max_unwitnessed
    }

    /// Asks every witness whose turn it is for its cosignature, all at once. An error is a fork of this log.
    pub(super) async fn show(&mut self, noted: Noted) -> Result<Shown, String> {
        let note = Note::parse(&noted.note).map_err(|e| e.to_string())?;
        self.shown = note.text().to_owned();
        let Some(followed) = &self.log else { return Err("the witnesses were given no log".into()) };
        let question = Question { note: &note, size: noted.size, key: &followed.key, log: &followed.log };
        let now = Instant::now();
        let due = self.members.iter_mut().filter(|m| m.due(note.text()).is_some_and(|at| at <= now));
        let asked = due.map(async |member| {
            let answer = member.witness.cosign(&question).await;
            (member, answer)
        });
        let answers = join_all(asked).await;
        let mut fork = None;
        for (member, answer) in answers {
            match answer {
                Ok(line) => member.cosigned(note.text(), line),
                Err(Fault::Fork(why)) => fork = Some(why),
                Err(fault) => member.failed(&fault, followed.clock.now()),
            }
            member.tell(&followed.chronicle, followed.clock.now());
        }
        if let Some(why) = fork {
            return Err(why);
        }
        Ok(self.judge(noted, note))
    }

    /// The note with all that is there, and what is missing.
    fn judge(&self, noted: Noted, note: Note) -> Shown {
        let line = |member: &Member| {
            member.cosigned.as_ref().filter(|(text, ..)| text == note.text()).map(|(_, line, _)| line.clone())
        };
        let lines: Vec<_> = self.members.iter().filter_map(line).collect();
        let is_witnessed = self.policy.is_reached_by(|w| {
            self.members.iter().any(|member| member.witness.key == w.key && line(member).is_some())
        });
        let alarms = self.members.iter().filter_map(Member::alarm).collect();
        let noted = match note.with_signatures(lines) {
            Ok(note) => Noted { note: note.to_string().into(), ..noted },
            Err(error) => {
                // One line a witness and 63 witnesses at most: the note has room.
                tracing::error!(%error, "cosignatures do not fit into the note");
                return Shown { noted, is_witnessed: false, alarms };
            }
        };
        Shown { noted, is_witnessed, alarms }
    }

    /// When the next witness is to be asked, about the note that was shown last.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.members.iter().filter_map(|member| member.due(&self.shown)).min()
    }
}

impl Member {
    fn new(witness: Witness) -> Self {
        let now = Instant::now();
        let never = Time::from_unix_ms(0).unwrap_or_else(|_| record::SystemClock.now());
        let told = Told { kind: Kind::Well, since: never, window: now, count: 0 };
        Self {
            witness,
            cosigned: None,
            failures: 0,
            pause: BACKOFF.0,
            rest: now,
            standing: Standing::Well,
            told,
        }
    }

    /// When it is to be asked about this text; none before the first note.
    fn due(&self, text: &str) -> Option<Instant> {
        if text.is_empty() {
            return None;
        }
        let fresh =
            self.cosigned.as_ref().filter(|(cosigned, ..)| cosigned == text).map(|(.., at)| *at + REFRESH);
        Some(fresh.map_or(self.rest, |fresh| fresh.max(self.rest)))
    }

    fn cosigned(&mut self, text: &str, line: NoteSignature) {
        if self.standing != Standing::Well {
            tracing::info!(witness = self.witness.name, "a witness is back");
        }
        self.cosigned = Some((text.to_owned(), line, Instant::now()));
        (self.failures, self.pause, self.standing) = (0, BACKOFF.0, Standing::Well);
    }

    fn failed(&mut self, fault: &Fault, now: Time) {
        self.rest = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(BACKOFF.1);
        if matches!(fault, Fault::Ahead) {
            return;
        }
        self.failures += 1;
        let says = fault.to_string();
        let since = self.standing.since().unwrap_or(now);
        let standing = match *fault {
            Fault::Claim { claimed, size } => Standing::Conflict { since, claimed, size, says },
            _ if self.failures < LOST_AFTER => return,
            _ => Standing::Lost { since, code: fault.code(), says },
        };
        if standing.kind() != self.standing.kind() {
            tracing::error!(witness = self.witness.name, why = %fault, "ALARM: a witness does not cosign the log");
        }
        self.standing = standing;
    }

    /// Has the log say how it stands now, if it says something else.
    fn tell(&mut self, chronicle: &Chronicle, now: Time) {
        if self.standing.kind() == self.told.kind || !self.told.has_room() {
            return;
        }
        let Ok(nonce) = Nonce::random() else { return };
        let event = self.standing.event(now, nonce, &self.witness.name, self.told.since);
        if event.is_some_and(|event| chronicle.tell(event)) {
            self.told.kind = self.standing.kind();
            self.told.since = self.standing.since().unwrap_or(now);
            self.told.count += 1;
        }
    }

    fn alarm(&self) -> Option<String> {
        let (since, says) = match &self.standing {
            Standing::Well => return None,
            Standing::Lost { since, says, .. } | Standing::Conflict { since, says, .. } => (since, says),
        };
        Some(format!("witness {}: {says} (since {since})", self.witness.name))
    }
}

impl Standing {
    fn kind(&self) -> Kind {
        match self {
            Self::Well => Kind::Well,
            Self::Lost { .. } => Kind::Lost,
            Self::Conflict { .. } => Kind::Conflict,
        }
    }

    fn since(&self) -> Option<Time> {
        match self {
            Self::Well => None,
            Self::Lost { since, .. } | Self::Conflict { since, .. } => Some(*since),
        }
    }

    /// The event that says so of a witness, of which the log has said something else since `before`.
    fn event(&self, time: Time, nonce: Nonce, witness: &str, before: Time) -> Option<Event> {
        let witness = witness.to_owned();
        Some(match *self {
            Self::Well => Event::WitnessBack { time, nonce, witness, since: before },
            Self::Lost { code, .. } => {
                Event::WitnessLost { time, nonce, witness, code: FailureCode::parse(code).ok()? }
            }
            Self::Conflict { claimed, size, .. } => {
                Event::WitnessConflict { time, nonce, witness, claimed: claimed.min(MAX_CLAIMED), size }
            }
        })
    }
}

impl Told {
    fn has_room(&mut self) -> bool {
        if self.window.elapsed() >= WINDOW {
            (self.window, self.count) = (Instant::now(), 0);
        }
        self.count < TOLD
    }
}

async fn hold_against(
    writer: &mut Writer,
    witness: &str,
    shown: &Checkpoint,
    database: &Path,
) -> Result<(), Fatal> {
    let size = writer.head().size;
    let state = |why: String| {
        Fatal::State {
        path: database.to_owned(),
        why,
        next: "restore the newest database, spool and journals; a log that its witnesses have seen larger is never gone on \
               with, and nothing here was changed"
            .into(),
    }
    };
    let root = match shown.size <= size {
        true => Some(writer.root_at(shown.size).await.map_err(|e| state(e.full()))?),
        false => None,
    };
    contradiction(witness, shown, size, root).map_or(Ok(()), |why| Err(state(why)))
}

fn read_policy(path: &Path) -> Result<WitnessPolicy, String> {
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > MAX_POLICY_LEN as u64 {
        return Err(format!("{size} bytes: the limit is {MAX_POLICY_LEN}"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    WitnessPolicy::parse(&text).map_err(|e| api::chain_text(&e))
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
