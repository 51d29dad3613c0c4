//! `chancery log export` and `log verify-export`: a stretch of the log for other tools.

use super::log::{
    alone_note, answered, blocking, compare_alone, follow, memory_note, source, trust, witnesses_text,
};
use crate::{
    args::{LogExportArgs, LogVerifyExportArgs},
    audit::export::{Exported, Exporter, ManifestSignature, Range, export, verify},
    connect::Connection,
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
    witness::WitnessKey,
};
use record::{Clock, SystemClock};
use std::path::Path;

impl Answer for Exported {
    const SCHEMA: &'static str = "chancery.log-export/v1";
}

pub(super) async fn run(
    args: LogExportArgs,
    connection: &Connection,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let trust = trust(&args.key)?;
    let source = source(args.source.as_deref(), connection)?;
    let range = Range {
        from: args.from,
        until: args.until,
        since: args.since.map(|moment| moment.0),
        before: args.before.map(|moment| moment.0),
    };
    // Before anything is read: a key that cannot be used must not cost an hour.
    let key = args.sign_key.as_deref().map(signing_key).transpose()?;
    output.progress("reading and hashing the whole log");
    let (exported, memory, findings) = blocking(move || {
        let time_s = SystemClock.now().unix_s().unsigned_abs();
        let exporter = key.as_ref().map(|key| Exporter { key, time_s });
        let (exported, findings) = export(&source, &trust, &range, &args.out, exporter.as_ref())?;
        let memory = follow(&source, &trust, &exported.note)?;
        Ok((exported, memory, findings))
    })
    .await?;
    if let Some(note) = memory_note(memory, exported.size) {
        output.note(&note);
    }
    output.result(&exported, &text(&exported))?;
    answered(findings)
}

pub(super) async fn verify_export(args: LogVerifyExportArgs, output: &mut Output) -> Result<Exit, Failure> {
    let trust = trust(&args.key)?;
    let (exported, memory) = blocking(move || {
        let exported = verify(&args.dir, &trust, args.signer.as_ref())?;
        let memory = compare_alone(&exported.checkpoint, &trust)?;
        Ok((exported, memory))
    })
    .await?;
    if let Some(note) = alone_note(memory, exported.size) {
        output.note(&note);
    }
    output.result(&exported, &text(&exported))?;
    Ok(Exit::Ok)
}

fn signing_key(path: &Path) -> Result<WitnessKey, Failure> {
    WitnessKey::open(path).map_err(|fault| {
        Failure::new(Exit::State, "the export cannot be signed with this key")
            .why(fault)
            .next("chancery log witness init --state DIR --name NAME makes one: give DIR/key")
    })
}

fn text(exported: &Exported) -> String {
    let manifest = &exported.manifest;
    let mut lines = vec![
        format!("log         {}", exported.origin),
        format!("checkpoint  {} entries: signed by the log's key", exported.size),
        format!("witnesses   {}", witnesses_text(exported.witnesses.as_deref())),
        format!(
            "entries     from {} to before {}: all of them, as the checkpoint has them",
            manifest.from, manifest.until
        ),
        format!("manifest    {}", signature_text(&exported.signature)),
    ];
    let dir = exported.dir.display();
    lines.extend(
        manifest
            .files
            .iter()
            .map(|f| format!("file        {dir}/{}  {} bytes  sha256 {}", f.name, f.bytes, f.sha256)),
    );
    lines.join("\n")
}

fn signature_text(signature: &ManifestSignature) -> String {
    match signature {
        ManifestSignature::Absent => "not signed by who made the export".to_owned(),
        ManifestSignature::NotChecked => "its signature was not checked: --signer VKEY does that".to_owned(),
        ManifestSignature::Verified { signer, time } => format!("signed by {signer} at {time}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::audit::synthetic::Log;

    pub(in crate::commands) fn exported() -> Exported {
        let (log, out) = (Log::with_requests(1), tempfile::tempdir().unwrap());
        export(
            &log.published(log.size()).source(),
            &log.trust(),
            &Range::default(),
            &out.path().join("x"),
            None,
        )
        .unwrap()
        .0
    }

    #[test]
    fn the_text_names_every_file() {
        let text = text(&exported());
        for name in ["entries.jsonl", "decisions.csv", "checkpoint"] {
            assert!(text.contains(&format!("/{name}  ")), "{text}");
        }
    }
}
