//! `chancery backup`: verification here, where no database is; creating and restoring are the daemon's program's.

use super::{
    daemon,
    log::{blocking, judged, memory_note, report_text, trust},
};
use crate::{
    args::{BackupCommand, BackupVerifyArgs},
    audit::backup::{BackupReport, verify},
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};

impl Answer for BackupReport {
    const SCHEMA: &'static str = "chancery.backup-verification/v1";
}

pub(super) async fn run(command: BackupCommand, output: &mut Output) -> Result<Exit, Failure> {
    match command {
        BackupCommand::Create(forward) => Err(daemon::exec(&["backup", "create"], &forward)),
        BackupCommand::Restore(forward) => Err(daemon::exec(&["backup", "restore"], &forward)),
        BackupCommand::Verify(args) => verified(args, output).await,
    }
}

async fn verified(args: BackupVerifyArgs, output: &mut Output) -> Result<Exit, Failure> {
    let trust = trust(&args.key)?;
    output.progress("reading and hashing the whole backup");
    let report = blocking(move || Ok(verify(&args.dir, &trust)?)).await?;
    output.result(&report, &text(&report))?;
    if let Some(note) = memory_note(report.log.memory, report.log.size) {
        output.note(&note);
    }
    judged(&report.log, false)
}

fn text(report: &BackupReport) -> String {
    let lines = [
        format!(
            "backup      {}: number {} into it, made {} by chanceryd {}",
            report.dir.display(),
            report.sequence,
            report.created,
            report.version
        ),
        format!("manifest    sha256 {}", report.manifest_sha256),
        format!("files       {} with {} bytes: all there, none altered", report.files, report.bytes),
        report_text(&report.log),
        format!(
            "payloads    {}, one for each intent: all there, each the one that its intent names",
            report.payloads
        ),
        format!("requests    {} that were accepted", report.requests),
        complete(report),
    ];
    lines.join("\n")
}

/// What a restore gives back, and what nobody has signed.
fn complete(report: &BackupReport) -> String {
    let signed = format!("complete    all {} entries under the checkpoint", report.log.size);
    match report.tail {
        0 => signed,
        tail => format!(
            "{signed}, and {tail} behind it that only the manifest speaks for: no note covers them yet"
        ),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::audit::synthetic::Log;

    /// The report of a small backup.
    pub(in crate::commands) fn verified() -> BackupReport {
        let log = Log::with_requests(3);
        let backed = log.backed_up(log.size() - 1);
        verify(backed.path(), &log.trust()).unwrap()
    }

    #[test]
    fn the_text_tells_what_is_complete_and_what_nobody_has_signed() {
        let report = verified();
        let text = text(&report);
        assert_eq!((report.tail, report.payloads, report.requests), (1, 3, 1), "{text}");
        for said in ["one for each intent", "number 1 into it", "and 1 behind it that only the manifest"] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }
}
