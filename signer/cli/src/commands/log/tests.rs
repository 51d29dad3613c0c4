use super::*;
use crate::audit::synthetic::Log;

#[test]
fn a_verifier_key_is_checked_before_anything_is_read() {
    let log = Log::new();
    let args = |vkey: &str| LogKey { vkey: Some(vkey.into()), vkey_file: None, policy: None };
    assert_eq!(trust(&args(&log.vkey().to_string())).unwrap().key, log.vkey());
    assert_eq!(trust(&args("log+00000000+AQ==")).unwrap_err().exit, Exit::Usage);
}

#[test]
fn a_policy_names_the_log_or_must_fit_its_key() {
    let log = Log::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let with = |text: &str, vkey: Option<String>| {
        fs::write(file.path(), text).unwrap();
        trust(&LogKey { vkey, vkey_file: None, policy: Some(file.path().to_owned()) })
    };
    let own = format!("log {}\nquorum none\n", log.vkey());
    let other = "log example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k\nquorum none\n";
    assert_eq!(with(&own, None).unwrap().key, log.vkey());
    assert_eq!(with("quorum none\n", Some(log.vkey().to_string())).unwrap().key, log.vkey());
    assert_eq!(with(other, Some(log.vkey().to_string())).unwrap_err().exit, Exit::Usage);
    assert_eq!(with("quorum none\n", None).unwrap_err().exit, Exit::Usage);
    assert_eq!(with("quorum nobody\n", None).unwrap_err().exit, Exit::Usage);
}

#[tokio::test]
async fn an_answer_out_of_a_log_that_breaks_its_rules_is_given_and_fails() {
    use clap::Parser;
    let (mut log, out) = (Log::with_requests(2), tempfile::tempdir().unwrap());
    let path = |name: String| out.path().join(name).display().to_string();
    for (round, expected) in [(0, Exit::Ok), (1, Exit::Verification)] {
        let published = log.published(log.size());
        let LogSource::Dir(dir) = published.source() else { panic!() };
        let (dir, vkey) = (dir.display().to_string(), log.vkey().to_string());
        let (file, export) = (path(format!("{round}.json")), path(format!("export{round}")));
        for command in [
            vec!["search", &dir],
            vec!["prove", "1", &dir, "--out", &file],
            vec!["export", &dir, "--out", &export],
        ] {
            let words = ["chancery", "log"].into_iter().chain(command.iter().copied());
            let cli = crate::args::Cli::try_parse_from(words.chain(["--vkey", &vkey])).unwrap();
            let connection = Connection::new(&cli.globals);
            let sink = || Box::new(std::io::sink());
            let mut output = Output::to(cli.globals.output, sink(), sink());
            let end = crate::commands::run(cli.command, &connection, &mut output).await;
            let exit = end.unwrap_or_else(|failure| {
                assert!(failure.to_string().contains("chancery log verify"), "{failure}");
                failure.exit
            });
            assert_eq!(exit, expected, "{command:?}");
        }
        assert!(Path::new(&file).exists() && Path::new(&export).join("manifest.json").exists());
        log.push(crate::audit::synthetic::completion(99));
    }
}

#[test]
fn open_intents_are_listed_and_no_open_refuses_them() {
    let mut log = Log::with_requests(2);
    let whole = verify(&log.published(log.size()).source(), &log.trust(), None, &[]).unwrap();
    assert_eq!(judged(&whole, true).unwrap(), Exit::Ok);
    log.push(crate::audit::synthetic::intent(9, 9));
    let report = verify(&log.published(log.size()).source(), &log.trust(), None, &[]).unwrap();
    assert!(report_text(&report).contains("\nopen        entry 5: "));
    assert_eq!(judged(&report, false).unwrap(), Exit::Ok);
    assert_eq!(judged(&report, true).unwrap_err().exit, Exit::Verification);
}

#[test]
fn an_older_folder_says_both_sizes_and_accuses_nobody() {
    let older = Memory { seen_before: Some(30), older: true };
    let note = memory_note(older, 10).unwrap();
    assert!(note.contains("has 10 entries, and 30 were seen"), "{note}");
    assert_eq!(memory_note(Memory { older: false, ..older }, 40), None);
    assert_eq!(memory_text(older, 10), "older than the 30 entries seen before: not compared");
    let followed = Memory { older: false, ..older };
    assert_eq!(memory_text(followed, 40), "extends the 30 entries seen before");
    assert_eq!(memory_text(followed, 10), "the 30 entries seen before extend it");
}

#[test]
fn the_report_names_what_is_wrong() {
    let mut log = Log::with_requests(2);
    log.push(crate::audit::synthetic::completion(77));
    log.push(crate::audit::synthetic::intent(9, 9));
    let published = log.published(log.size());
    let text = report_text(&verify(&published.source(), &log.trust(), None, &[]).unwrap());
    assert!(text.contains("WRONG       entry 5: a signature by key "), "{text}");
    assert!(text.contains("open        entry 6: targets of r.example/a by keeper signing"), "{text}");
    assert!(text.contains("intents     2 signed, 0 failed, 0 unknown, 0 void, 1 open"), "{text}");
}
