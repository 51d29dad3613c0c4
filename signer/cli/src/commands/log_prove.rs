//! `chancery log prove` and `log verify-bundle`: evidence for one entry, made and verified.

use super::{
    log::{
        alone_note, answered, blocking, compare_alone, follow, memory_note, source, trust, witnesses_text,
    },
    log_sigstore::write_client_files,
};
use crate::{
    args::{ClientFileArgs, LogProveArgs, LogVerifyBundleArgs},
    audit::{
        Accepted, AuditError, Inclusion, LogSource, Prover, Trust,
        evidence::{self, Collected, MAX_EVIDENCE_LEN, Role, Shown, Wanted},
        opened_checkpoint, replace,
    },
    connect::Connection,
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use serde::Serialize;
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};
use tlog::{Hash, LogProof, Note};

#[derive(Serialize)]
pub(super) struct ProofResult {
    #[serde(flatten)]
    pub(super) inclusion: Inclusion,
    pub(super) checkpoint: String,
}

impl Answer for ProofResult {
    const SCHEMA: &'static str = "chancery.log-proof/v1";
}

/// What was written.
#[derive(Serialize)]
pub(super) struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<PathBuf>,
    /// For stock clients.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) client_files: Vec<PathBuf>,
    pub(super) size: u64,
    pub(super) entries: Vec<Part>,
    /// Other intents of the same request, which have evidence of their own.
    pub(super) other_intents: Vec<u64>,
}

/// An entry in the file.
#[derive(Serialize)]
pub(super) struct Part {
    pub(super) role: Role,
    pub(super) index: u64,
}

impl Answer for Written {
    const SCHEMA: &'static str = "chancery.evidence-file/v1";
}

impl Answer for Shown {
    const SCHEMA: &'static str = "chancery.evidence-verification/v1";
}

pub(super) async fn run(
    args: LogProveArgs,
    connection: &Connection,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let trust = trust(&args.key)?;
    let source = source(args.source.as_deref(), connection)?;
    match args.what {
        what if !args.tlog_proof => {
            write(source, trust, what, Files { evidence: args.out, clients: args.client_files }, output).await
        }
        Wanted::Index(index) => prove_one(source, trust, index, output).await,
        Wanted::Request(_) => {
            Err(Failure::new(Exit::Usage, "a tlog-proof is of one entry, not of a request")
                .next("find the entry with chancery log search --request ID"))
        }
    }
}

/// What is to be written.
struct Files {
    evidence: Option<PathBuf>,
    clients: ClientFileArgs,
}

async fn write(
    source: LogSource,
    trust: Trust,
    what: Wanted,
    files: Files,
    output: &mut Output,
) -> Result<Exit, Failure> {
    output.progress("reading and hashing the whole log");
    let (written, memory, findings) = blocking(move || {
        let Collected { evidence, other_intents, findings } = evidence::collect(&source, &trust, &what)?;
        let bytes = evidence.encode()?;
        // What is handed out has been verified as its reader will.
        let shown = evidence::verify(&bytes, &trust)?;
        let memory = follow(&source, &trust, evidence.checkpoint())?;
        if let Some(out) = &files.evidence {
            replace(out, &bytes)
                .map_err(|e| Failure::new(Exit::State, format!("cannot write {}", out.display())).why(e))?;
        }
        let client_files = write_client_files(&files.clients, &source, &trust, &evidence)?;
        let entries = evidence.entries.iter().map(|e| Part { role: e.role, index: e.index }).collect();
        let written =
            Written { file: files.evidence, client_files, size: shown.size, entries, other_intents };
        Ok((written, memory, findings))
    })
    .await?;
    if let Some(note) = memory_note(memory, written.size) {
        output.note(&note);
    }
    if !written.other_intents.is_empty() {
        output.note(&format!("the request has other intents too: entries {:?}", written.other_intents));
    }
    let parts: Vec<_> =
        written.entries.iter().map(|part| format!("{:?} {}", part.role, part.index)).collect();
    let evidence =
        written.file.iter().map(|file| format!("{}: {}", file.display(), parts.join(", ").to_lowercase()));
    let clients = written.client_files.iter().map(|file| format!("{}", file.display()));
    output.result(&written, &evidence.chain(clients).collect::<Vec<_>>().join("\n"))?;
    answered(findings)
}

async fn prove_one(
    source: LogSource,
    trust: Trust,
    index: u64,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let (proof, text, memory) = blocking(move || {
        let Accepted { note, checkpoint, .. } = opened_checkpoint(&source, &trust)?;
        let memory = follow(&source, &trust, &note)?;
        let inclusion = Prover::new(&source, &checkpoint).inclusion(index)?;
        let text = tlog_proof(&inclusion, &note)?.to_string();
        Ok((ProofResult { inclusion, checkpoint: note }, text, memory))
    })
    .await?;
    if let Some(note) = memory_note(memory, proof.inclusion.size) {
        output.note(&note);
    }
    output.note(&format!("leaf hash {}", proof.inclusion.leaf_hash));
    output.result(&proof, &text)?;
    Ok(Exit::Ok)
}

fn tlog_proof(inclusion: &Inclusion, note: &str) -> Result<LogProof, AuditError> {
    let hashes = inclusion.hashes.iter().map(|hash| Hash::from_base64(hash)).collect::<Result<_, _>>();
    let hashes = hashes.map_err(|e| AuditError::Log(e.to_string()))?;
    let checkpoint = Note::parse(note).map_err(|e| AuditError::Log(e.to_string()))?;
    Ok(LogProof { extra: None, index: inclusion.index, hashes, checkpoint })
}

pub(super) async fn verify_bundle(args: LogVerifyBundleArgs, output: &mut Output) -> Result<Exit, Failure> {
    let trust = trust(&args.key)?;
    let (shown, memory) = blocking(move || {
        let shown = evidence::verify(&read(&args.file)?, &trust)?;
        let memory = compare_alone(&shown.checkpoint, &trust)?;
        Ok((shown, memory))
    })
    .await?;
    if let Some(note) = alone_note(memory, shown.size) {
        output.note(&note);
    }
    output.result(&shown, &text(&shown))?;
    Ok(Exit::Ok)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let bad = |why: String| {
        Failure::new(Exit::NotFound, format!("cannot read the evidence {}", path.display())).why(why)
    };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_EVIDENCE_LEN + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > MAX_EVIDENCE_LEN => {
            Err(bad(format!("it is longer than {MAX_EVIDENCE_LEN} bytes")))
        }
        Ok(_) => Ok(bytes),
        Err(e) => Err(bad(e.to_string())),
    }
}

fn text(shown: &Shown) -> String {
    let (about, facts) = (&shown.about, &shown.about.facts);
    let mut lines = vec![
        format!("log         {}", shown.origin),
        format!("checkpoint  {} entries, root {}: signed by the log's key", shown.size, shown.root),
        format!("witnesses   {}", witnesses_text(shown.witnesses.as_deref())),
        format!("entry       {} ({}): under this root", about.index, about.kind),
    ];
    let mut line = |name: &str, value: Option<String>| lines.extend(value.map(|v| format!("{name:<12}{v}")));
    line("time", facts.time.map(|t| t.to_string()));
    line("decision", facts.decision.map(|d| d.as_str().to_owned()));
    line("repository", facts.repository.as_ref().map(ToString::to_string));
    for asked in &facts.asked {
        let tag = asked.tag.as_ref().map(|t| format!("{t} ")).unwrap_or_default();
        let digest = asked.digest.map(|d| format!("{d} ")).unwrap_or_default();
        let by = asked.by.as_ref().map(|by| format!("by {by} ")).unwrap_or_default();
        line("asked", Some(format!("{tag}{digest}{by}rules {}", asked.rules.join(" "))));
    }
    line("purpose", facts.purpose.map(|p| p.to_string()));
    line("keeper", facts.keeper.as_ref().map(ToString::to_string));
    line("key", facts.key.map(|k| k.to_string()));
    line(
        "end",
        about.ended.map(|ended| {
            let at = ended.index.map(|index| format!(", entry {index}")).unwrap_or_default();
            format!("{}{at}", ended.end.as_str())
        }),
    );
    if let Some(signature) = &about.signature {
        line("payload", Some(format!("sha256 {}: the signature verifies", signature.payload)));
        line(
            "attested",
            Some(format!("entry {}: {}", signature.presented_at, signature.evidence.join(", "))),
        );
    }
    about.not_proven.iter().for_each(|what| line("not proven", Some((*what).to_owned())));
    lines.join("\n")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::audit::synthetic::Log;

    pub(in crate::commands) fn shown() -> Shown {
        let log = Log::with_requests(1);
        let published = log.published(log.size());
        let collected = evidence::collect(&published.source(), &log.trust(), &Wanted::Index(1)).unwrap();
        evidence::verify(&collected.evidence.encode().unwrap(), &log.trust()).unwrap()
    }

    #[test]
    fn a_proof_file_is_one_that_tlog_reads_and_ends_with_the_checkpoint_as_it_was_signed() {
        let log = Log::with_requests(3);
        let published = log.published(log.size());
        let Accepted { note, checkpoint, .. } = opened_checkpoint(&published.source(), &log.trust()).unwrap();
        let inclusion = Prover::new(&published.source(), &checkpoint).inclusion(2).unwrap();
        let text = tlog_proof(&inclusion, &note).unwrap().to_string();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 2\n"), "{text}");
        assert!(text.ends_with(&format!("=\n\n{note}")), "{text}");
        let leaf = tlog::leaf_hash(log.entries().nth(2).unwrap());
        assert!(LogProof::parse(&text).unwrap().verify(&leaf, &log.vkey(), None).is_ok());
    }

    #[test]
    fn the_text_says_what_is_proven_and_what_is_not() {
        let text = text(&shown());
        for line in [
            "entry       1 (intent): under this root",
            "decision    allowed",
            "end         signed, entry 2",
            "attested    entry 0: CKA_LOCAL=true",
            "not proven  that no earlier intent",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
