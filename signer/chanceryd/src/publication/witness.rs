//! One witness over HTTP (C2SP tlog-witness): it is asked to cosign a checkpoint, and what it has seen is read.
//!
//! Promises: only the configured host is contacted, and no redirect followed; an answer has a limit and a deadline; a
//! cosignature is given on only if it verifies with the configured key. What a witness says without a signature of the
//! log's key is never more than an alarm.

use crate::{audit::Log, config::is_this_machine};
use record::Sha256;
use reqwest::{StatusCode, Url, header};
use std::time::Duration;
use tlog::{
    AddCheckpoint, Checkpoint, CosignerKey, Hash, MAX_NOTE_LEN, Note, NoteSignature, PolicyWitness,
    VerifierKey, WitnessError, accepted_cosignatures, decode_size,
};

/// How often a witness is asked with another old size, which it named itself, before it is given up for now.
const TRIES: u32 = 3;
/// Pause before the second try; it doubles.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest answer 409: a number of 63 bits and a newline.
const MAX_SIZE_LEN: usize = 24;
/// `Content-Type` of an answer 409.
const SIZE_TYPE: &str = "text/x.tlog.size";

/// A witness with a URL.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) name: String,
    pub(super) key: CosignerKey,
    /// Ends with a slash.
    prefix: Url,
    http: reqwest::Client,
    deadline: Duration,
    /// The size that it is believed to have seen last. Not kept on disk: a wrong one costs one more question.
    seen: u64,
}

/// A checkpoint that shall be cosigned, and the log that it is of.
pub(super) struct Question<'a> {
    pub(super) note: &'a Note,
    pub(super) size: u64,
    pub(super) key: &'a VerifierKey,
    pub(super) log: &'a Log,
}

/// Why a witness gave no cosignature. Only [`Fault::Fork`] is proven.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// No connection, or it broke.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// The deadline passed.
    #[error("it gave no answer in {0:?}")]
    Slow(Duration),
    /// A status that is none of the protocol's, or 400, 403, 404, which an honest witness that knows this log never gives.
    #[error("it answers with HTTP status {0}{hint}", hint = hint(*.0))]
    Status(u16),
    /// More bytes than the protocol needs.
    #[error("its answer is longer than {0} bytes")]
    TooLong(usize),
    /// No message of the protocol.
    #[error("its answer is none of the protocol: {0}")]
    Answer(String),
    /// No cosignature, or one that does not verify.
    #[error("its cosignature is not accepted: {}", api::chain_text(.0))]
    Cosignature(#[source] WitnessError),
    /// It went on naming other sizes.
    #[error("it names another size at each of {TRIES} tries")]
    Unsettled,
    /// It says that it has cosigned more than this log has, or something else, and shows nothing signed that says so.
    #[error(
        "it claims to have cosigned {claimed} entries of this log, which do not go with the {size} here, and shows no \
         checkpoint that proves it"
    )]
    Claim {
        /// The size that it claims.
        claimed: u64,
        /// The size that it was asked for.
        size: u64,
    },
    /// It has cosigned a newer note of this log, which somebody else has shown it. The next question is answered.
    #[error("it has cosigned a newer checkpoint of this log")]
    Ahead,
    /// Not the witness's fault.
    #[error("no proof could be made for it: {0}")]
    Proof(String),
    /// A checkpoint of this log's own key that contradicts this log.
    #[error("{0}")]
    Fork(String),
}

/// What an operator should look at first.
fn hint(status: u16) -> &'static str {
    match status {
        403 => " (it trusts another key for this log)",
        404 => " (it does not know this log, or the URL in the policy is not its prefix)",
        _ => "",
    }
}

impl Fault {
    /// The word in the log.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Slow(_) => "slow",
            Self::Status(403) => "unknown-key",
            Self::Status(404) => "unknown-log",
            Self::Status(_) => "status",
            Self::TooLong(_) | Self::Answer(_) | Self::Unsettled => "bad-answer",
            Self::Cosignature(_) => "bad-cosignature",
            Self::Claim { .. } => "claim",
            Self::Ahead => "ahead",
            Self::Proof(_) => "no-proof",
            Self::Fork(_) => "fork",
        }
    }
}

/// What `add-checkpoint` was answered with, before anything in it is believed.
enum Answer {
    /// 200, with signature lines.
    Cosigned(String),
    /// 409, with the size that it has seen last.
    At(u64),
    /// 422, or 409 without a size: it holds the proof, or the root, to be wrong.
    Disputed,
}

/// What came of asking.
enum Asked {
    /// Its signature line.
    Cosigned(NoteSignature),
    /// It stands elsewhere: it claims to have cosigned so many entries.
    Disputed(u64),
}

impl Witness {
    /// A witness of a policy that has this URL.
    pub(super) fn new(
        witness: &PolicyWitness,
        url: &str,
        http: reqwest::Client,
        deadline: Duration,
    ) -> Result<Self, String> {
        let prefix = parse_prefix(url)?;
        let (name, key) = (witness.name.clone(), witness.key.clone());
        Ok(Self { name, key, prefix, http, deadline, seen: 0 })
    }

    /// Whether it is on another machine than this, by its URL.
    pub(super) fn is_elsewhere(&self) -> bool {
        !is_this_machine(&self.prefix)
    }

    /// Has a checkpoint cosigned: one line of its key, which verifies.
    pub(super) async fn cosign(&mut self, question: &Question<'_>) -> Result<NoteSignature, Fault> {
        let deadline = self.deadline;
        match tokio::time::timeout(deadline, self.ask(question))
            .await
            .unwrap_or(Err(Fault::Slow(deadline)))?
        {
            Asked::Cosigned(line) => Ok(line),
            // With a deadline of its own: a witness that is slow to disagree must not hide that it can prove a fork.
            Asked::Disputed(claimed) => Err(self.dispute(question, claimed).await),
        }
    }

    async fn ask(&mut self, question: &Question<'_>) -> Result<Asked, Fault> {
        let size = question.size;
        let mut pause = PAUSE;
        // A larger one was true of a log that is gone, or of a note that is not published: 409 says which.
        self.seen = if self.seen > size { 0 } else { self.seen };
        for _ in 0..TRIES {
            match self.submit(question).await? {
                Answer::Cosigned(lines) => {
                    let lines = accepted_cosignatures(question.note, &self.key, &lines)
                        .map_err(Fault::Cosignature)?;
                    self.seen = size;
                    let none = || Fault::Answer("no line".into());
                    // Several lines of one key say no more than one.
                    return lines.into_iter().next().map(Asked::Cosigned).ok_or_else(none);
                }
                Answer::At(at) if at > size => return Ok(Asked::Disputed(at)),
                Answer::At(at) if at != self.seen => self.seen = at,
                Answer::At(at) => return Ok(Asked::Disputed(at)),
                Answer::Disputed => return Ok(Asked::Disputed(self.seen)),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(Fault::Unsettled)
    }

    async fn submit(&self, question: &Question<'_>) -> Result<Answer, Fault> {
        let proof = proof(question.log, self.seen, question.size).await?;
        let body = AddCheckpoint { old: self.seen, proof, checkpoint: question.note.clone() };
        let sent = self.http.post(self.url("add-checkpoint")?).body(body.to_string()).send();
        let answer = sent.await.map_err(|e| unreachable(&e))?;
        match answer.status() {
            StatusCode::OK => Ok(Answer::Cosigned(text(answer, MAX_NOTE_LEN).await?)),
            StatusCode::UNPROCESSABLE_ENTITY => Ok(Answer::Disputed),
            StatusCode::CONFLICT => {
                let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
                // Without a size, it is how an older form of the protocol says that the roots differ.
                if kind.is_none_or(|kind| kind.split(';').next() != Some(SIZE_TYPE)) {
                    return Ok(Answer::Disputed);
                }
                let size = decode_size(&text(answer, MAX_SIZE_LEN).await?);
                size.map(Answer::At).map_err(|e| Fault::Answer(e.to_string()))
            }
            other => Err(Fault::Status(other.as_u16())),
        }
    }

    /// What it means that a witness stands elsewhere: only a checkpoint that this log's key signed can tell.
    async fn dispute(&mut self, question: &Question<'_>, claimed: u64) -> Fault {
        let shown = match self.latest(question.key).await {
            Ok(Some(shown)) => shown,
            Ok(None) => return Fault::Claim { claimed, size: question.size },
            Err(why) => {
                tracing::debug!(witness = self.name, %why, "what a witness claims is not shown by it");
                return Fault::Claim { claimed, size: question.size };
            }
        };
        // Newer notes than the one in question may have been shown to it by others.
        let ours = question.log.noted_size();
        let root = match shown.size <= ours {
            true => match question.log.root_at(shown.size).await {
                Ok(root) => Some(root),
                Err(e) => {
                    question.log.judge(&e);
                    return Fault::Proof(e.full());
                }
            },
            false => None,
        };
        match contradiction(&self.name, &shown, ours, root) {
            Some(why) => Fault::Fork(why),
            None if shown.size > question.size => Fault::Ahead,
            None => Fault::Claim { claimed, size: question.size },
        }
    }

    /// The checkpoint of this log that it has cosigned last, if it has one and shows it. The log's key has signed it.
    pub(super) async fn latest(&mut self, key: &VerifierKey) -> Result<Option<Checkpoint>, Fault> {
        let deadline = self.deadline;
        tokio::time::timeout(deadline, self.fetch(key)).await.unwrap_or(Err(Fault::Slow(deadline)))
    }

    async fn fetch(&mut self, key: &VerifierKey) -> Result<Option<Checkpoint>, Fault> {
        let path = format!("{}/checkpoint", Sha256::of(key.name().as_bytes()));
        let answer = self.http.get(self.url(&path)?).send().await.map_err(|e| unreachable(&e))?;
        match answer.status() {
            StatusCode::OK => {}
            // It has seen nothing, or shows nothing.
            StatusCode::NOT_FOUND => return Ok(None),
            other => return Err(Fault::Status(other.as_u16())),
        }
        let note = text(answer, MAX_NOTE_LEN).await?;
        let checkpoint = Checkpoint::open(&note, key).map_err(|e| Fault::Answer(api::chain_text(&e)))?;
        self.seen = checkpoint.size;
        Ok(Some(checkpoint))
    }

    fn url(&self, path: &str) -> Result<Url, Fault> {
        self.prefix.join(path).map_err(|e| Fault::Unreachable(e.to_string()))
    }
}

/// What a checkpoint of our own key, which others keep, says against a log of `size` entries; `root` is its root at the
/// checkpoint's size, if it has so many.
pub(super) fn contradiction(
    witness: &str,
    shown: &Checkpoint,
    size: u64,
    root: Option<Hash>,
) -> Option<String> {
    let theirs = format!(
        "witness {witness} has a checkpoint of {} entries with root {}, signed by this log's key",
        shown.size,
        shown.root.to_base64()
    );
    match root {
        None => Some(format!(
            "FORK: {theirs}, and the log here has {size} entries: it was restored from an older copy"
        )),
        Some(root) if root != shown.root => Some(format!(
            "FORK: {theirs}, and the log here has root {} at this size, of {size} entries",
            root.to_base64()
        )),
        Some(_) => None,
    }
}

async fn proof(log: &Log, old: u64, size: u64) -> Result<Vec<Hash>, Fault> {
    if old == 0 || old == size {
        return Ok(Vec::new());
    }
    let proof = log.consistency_of_sizes(old, size).await.map_err(|e| {
        log.judge(&e);
        Fault::Proof(e.full())
    })?;
    Ok(proof.iter().map(|hash| Hash(*hash.as_bytes())).collect())
}

/// The body of an answer, as text of at most `most` bytes.
async fn text(mut answer: reqwest::Response, most: usize) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| unreachable(&e))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > most {
            return Err(Fault::TooLong(most));
        }
    }
    String::from_utf8(bytes).map_err(|_| Fault::Answer("not UTF-8".into()))
}

fn unreachable(error: &reqwest::Error) -> Fault {
    Fault::Unreachable(api::chain_text(error))
}

/// A URL under which a witness takes checkpoints: `https`, or `http` on this host, where nobody is in between.
fn parse_prefix(url: &str) -> Result<Url, String> {
    let mut prefix = Url::parse(url).map_err(|e| format!("{url:?} is no URL: {e}"))?;
    if prefix.scheme() != "https" && !(prefix.scheme() == "http" && is_this_machine(&prefix)) {
        return Err(format!("{url:?}: a witness is at https, or at http on this host"));
    }
    let is_bare = prefix.username().is_empty() && prefix.password().is_none();
    if !is_bare || prefix.query().is_some() || prefix.fragment().is_some() {
        return Err(format!("{url:?}: a witness's prefix has no user, query or fragment"));
    }
    if !prefix.path().ends_with('/') {
        let path = format!("{}/", prefix.path());
        prefix.set_path(&path);
    }
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_at_https_or_on_this_host() {
        for (url, prefix) in [
            ("https://w.example", "https://w.example/"),
            ("https://w.example/a/b", "https://w.example/a/b/"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/"),
            ("http://localhost:8080", "http://localhost:8080/"),
            ("http://[::1]:8080", "http://[::1]:8080/"),
        ] {
            assert_eq!(parse_prefix(url).unwrap().as_str(), prefix);
        }
        for bad in [
            "w.example",
            "http://w.example/",
            "http://127.0.0.1.example/",
            "ftp://localhost/",
            "https://a:b@w.example/",
            "https://w.example/?a",
            "https://w.example/#a",
        ] {
            assert!(parse_prefix(bad).is_err(), "{bad}");
        }
    }
}
