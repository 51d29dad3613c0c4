//! What an auditor finds out about a running service's log, most of it from published files and the log's key alone.

use hsm_sim::Rule;
use record::{Completion, Leaf, PayloadDigest, Sha256};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tests::{Instance, Output, binary, commands, have, second, wait_for};

/// An auditor's desk: a folder of published files, a memory, and no server.
struct Desk {
    dir: tempfile::TempDir,
    vkey: String,
}

impl Desk {
    fn of(service: &Instance) -> Self {
        let desk =
            Self { dir: tempfile::tempdir().unwrap(), vkey: service.env()["CHANCERY_LOG_VKEY"].clone() };
        service.fetch_log(&desk.log());
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// `chancery log ...` with the log's key and nothing else of the service.
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary("chancery"));
        command.arg("log").args(args).args(["-o", "json", "--vkey", &self.vkey]);
        for name in ["CHANCERY_URL", "CHANCERY_TOKEN", "CHANCERY_CACERT", "CHANCERY_LOG_VKEY"] {
            command.env_remove(name);
        }
        Output::of(command.env("XDG_STATE_HOME", self.path("state")))
    }

    fn answer(&self, args: &[&str]) -> Value {
        let said = self.run(args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        serde_json::from_str(&said.stdout).unwrap()
    }

    fn found(&self, args: &[&str]) -> Vec<Value> {
        let log = self.log();
        let answer = self.answer(&[&["search", text(&log)], args].concat());
        answer["hits"].as_array().unwrap().clone()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn an_auditor_answers_every_question_from_published_files_and_the_logs_key() {
    if !have("docker-registry") {
        return;
    }
    let service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "hello");
    let early = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
    fs::write(early.path(), service.http("", "/v1/log/checkpoint", &[]).1).unwrap();
    let (answer, request) = service.sign_within("demo/app", &digest, "v2", "60s");
    assert_eq!(answer.code, 0, "{answer:?}");
    let request = request.unwrap();
    assert_eq!(service.sign("nowhere/app", &digest, "v1").code, 3);
    wait_for("the whole log to be published", || {
        (service.history().leaves().len() as u64 == service.committed()).then_some(())
    });
    let desk = Desk::of(&service);
    let log = desk.log();

    let verified = desk.answer(&["verify", text(&log), "--checkpoint", text(early.path())]);
    assert_eq!((&verified["extends"], &verified["findings_total"]), (&1.into(), &0.into()), "{verified}");
    let signed = verified["signed"].as_u64().unwrap();
    assert_eq!(signed as usize, service.signed().len(), "the log and the tokens' journal");

    let repository = service.repository("demo/app");
    let of_tag = desk.found(&["--repository", &repository, "--tag", "v2"]);
    let [decision, of_tag] = of_tag.as_slice() else { panic!("a decision and its intent: {of_tag:?}") };
    assert_eq!((&decision["kind"], &decision["asked"]), (&"allowed".into(), &of_tag["asked"]));
    assert_eq!((&of_tag["end"], &of_tag["purpose"]), (&"signed".into(), &"targets".into()));
    assert_eq!(of_tag["asked"][0]["request"], request.as_str());
    assert_eq!(desk.found(&["--digest", &digest.to_string(), "--decision", "allowed"]).len(), 2);
    let denied = desk.found(&["--decision", "denied"]);
    assert_eq!((denied.len(), &denied[0]["kind"]), (1, &"denied".into()));
    assert_eq!(desk.found(&["--end", "signed"]).len() as u64, signed);
    assert!(desk.found(&["--before", "2020-01-01"]).is_empty());

    let file = desk.path("evidence.json");
    let written = desk.answer(&["prove", &request, text(&log), "--out", text(&file)]);
    assert_eq!(written["entries"].as_array().unwrap().len(), 3, "{written}");
    let shown = desk.answer(&["verify-bundle", text(&file)]);
    assert_eq!((&shown["index"], &shown["end"]), (&of_tag["index"], &"signed".into()));
    let evidence = shown["signature"]["evidence"].as_array().unwrap();
    assert!(evidence.contains(&"CKA_NEVER_EXTRACTABLE=true".into()), "{evidence:?}");
    let altered =
        fs::read_to_string(&file).unwrap().replace("\\\"tag\\\":\\\"v2\\\"", "\\\"tag\\\":\\\"v3\\\"");
    assert_ne!(altered, fs::read_to_string(&file).unwrap());
    fs::write(&file, altered).unwrap();
    assert_eq!(desk.run(&["verify-bundle", text(&file)]).code, 10);

    let out = desk.path("export");
    let exported = desk.answer(&["export", text(&log), "--out", text(&out)]);
    assert_eq!(exported["manifest"]["until"], verified["size"]);
    assert_eq!(desk.answer(&["verify-export", text(&out)]), exported);
    let table = fs::read_to_string(out.join("decisions.csv")).unwrap();
    assert_eq!(table.lines().filter(|row| row.contains(",v2,")).count(), 1, "{table}");
    fs::write(out.join("decisions.csv"), table.replace(",v2,", ",v3,")).unwrap();
    assert_eq!(desk.run(&["verify-export", text(&out)]).code, 10);
}

#[test]
fn a_monitor_is_silent_about_a_good_log_and_loud_about_another_one() {
    if !have("docker-registry") {
        return;
    }
    let service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "hello");
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
    let watch = |args: &[&str]| {
        service.chancery_as(
            "CHANCERY_AUDITOR_TOKEN",
            &[&["log", "watch", "--once", "-o", "json"], args].concat(),
        )
    };
    let silent = watch(&[]);
    assert_eq!((silent.code, silent.stdout.as_str()), (0, ""), "{silent:?}");
    let alarms = watch(&["--stall", "0s"]);
    assert_eq!(alarms.code, 10, "{alarms:?}");
    let alarm: Value = serde_json::from_str(&alarms.stdout).unwrap();
    assert_eq!((&alarm["schema"], &alarm["alarm"]), (&"chancery.log-alarm/v1".into(), &"stalled".into()));
    let runs = tempfile::NamedTempFile::new().unwrap();
    let repository = service.repository("demo/app");
    fs::write(
        runs.path(),
        format!("{{\"run\":\"1\",\"repository\":{repository:?},\"digest\":\"{digest}\"}}\n"),
    )
    .unwrap();
    let explained = watch(&["--runs", text(runs.path()), "--runs-within", "0s"]);
    assert_eq!((explained.code, explained.stdout.as_str()), (0, ""), "{explained:?}");
    fs::write(runs.path(), "").unwrap();
    let waits = watch(&["--runs", text(runs.path())]);
    assert_eq!((waits.code, waits.stdout.as_str()), (0, ""), "the export may lag: {waits:?}");
    let unexplained = watch(&["--runs", text(runs.path()), "--runs-within", "0s"]);
    assert_eq!(unexplained.code, 10, "{unexplained:?}");
    let alarms: Vec<Value> =
        unexplained.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_tag = alarms.iter().find(|alarm| alarm["tag"] == "v1").unwrap();
    assert_eq!((&of_tag["alarm"], &of_tag["digest"]), (&"unexplained".into(), &digest.to_string().into()));
    assert_eq!(of_tag["repository"], repository.as_str());
    assert!(
        of_tag["request"].is_string() && of_tag["by"].is_string() && of_tag["index"].is_u64(),
        "{of_tag}"
    );
    assert!(alarms.iter().any(|alarm| alarm["tag"].is_null()), "the root: {alarms:?}");
    let witnessed = tempfile::NamedTempFile::new().unwrap();
    let key = "w1.example.com/witness+ce26d45a+BGa+fjMsekUzMr2dCn99sFX1xe8aBq2mbZizn7aBDEc6";
    fs::write(witnessed.path(), format!("witness one {key}\nquorum one\n")).unwrap();
    let unwitnessed = watch(&["--policy", text(witnessed.path())]);
    assert_eq!(unwitnessed.code, 10, "{unwitnessed:?}");
    assert!(
        unwitnessed.stdout.contains("not-verified") && unwitnessed.stdout.contains("quorum"),
        "{unwitnessed:?}"
    );
}

#[test]
fn an_export_is_held_against_what_this_machine_has_seen() {
    if !have("docker-registry") {
        return;
    }
    let service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "hello");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("export");
    let log = |args: &[&str]| {
        let said = service.chancery_as("CHANCERY_AUDITOR_TOKEN", &[&["log"], args].concat());
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        said.stderr
    };
    log(&["export", "--out", text(&out)]);
    let same = log(&["verify-export", text(&out)]);
    assert!(!same.contains("were seen on this machine"), "{same}");
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
    // What was signed is published a little later.
    wait_for("a larger checkpoint to be seen, and said", || {
        log(&["checkpoint"]);
        log(&["verify-export", text(&out)]).contains("were seen on this machine").then_some(())
    });
}

#[test]
fn both_verifiers_refuse_a_log_with_one_altered_byte_in_any_file() {
    if !have("docker-registry") {
        return;
    }
    let service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "hello");
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
    let desk = Desk::of(&service);
    let (log, state) = (desk.log(), desk.path("state"));
    second::agreed(&log, &desk.vkey, &state);
    for path in files(&log) {
        let whole = fs::read(&path).unwrap();
        for at in [0, whole.len() / 3, whole.len() - 1] {
            let mut altered = whole.clone();
            altered[at] ^= 1;
            fs::write(&path, altered).unwrap();
            let (first, second) = second::verdicts(&log, &desk.vkey, &state);
            let codes = [Some(first.code), second.as_ref().map(|said| said.code)];
            assert!(
                codes.iter().flatten().all(|code| *code == 10),
                "{} byte {at}: {first:?} {second:?}",
                path.display()
            );
        }
        fs::write(&path, whole).unwrap();
    }
    second::agreed(&log, &desk.vkey, &state);
}

#[test]
fn every_command_of_the_page_about_audits_does_what_the_page_says() {
    if !have("docker-registry") || !have("python3") || !have("awk") {
        return;
    }
    let service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "hello");
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let script = commands("how-to/audit.md").replace("registry.example/team/", &service.repository("demo/"));
    assert!(script.matches("chancery log ").count() > 10, "{script}");
    let (desk, env) = (tempfile::tempdir().unwrap(), service.env());
    let programs = binary("chancery").parent().unwrap().display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &script]).current_dir(desk.path()).envs(&env);
    bash.env("CHANCERY_TOKEN", &env["CHANCERY_AUDITOR_TOKEN"]).env("PATH", path).env("SOURCE", &source);
    let ran = Output::of(bash.env("HOME", desk.path()).env("XDG_STATE_HOME", desk.path()));
    assert_eq!(ran.code, 0, "{ran:?}");
    for said in
        ["intents     5 signed", "end         signed, entry ", "all of them, as the checkpoint has them"]
    {
        assert!(ran.stdout.contains(said), "{said}: {ran:?}");
    }
}

#[test]
fn the_second_verifier_reads_a_server_too() {
    if !have("docker-registry") || !have("python3") {
        return;
    }
    let service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "hello");
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
    let env = service.env();
    let checkpoint = tempfile::NamedTempFile::new().unwrap();
    fs::write(checkpoint.path(), service.http("", "/v1/log/checkpoint", &[]).1).unwrap();
    let mut python = Command::new("python3");
    python
        .arg(second::script())
        .args([&env["CHANCERY_URL"], &env["CHANCERY_LOG_VKEY"]])
        .arg(checkpoint.path());
    python
        .env("CHANCERY_TOKEN", &env["CHANCERY_AUDITOR_TOKEN"])
        .env("CHANCERY_CACERT", &env["CHANCERY_CACERT"]);
    let said = Output::of(&mut python);
    assert_eq!(said.code, 0, "{said:?}");
    let other = fs::read_to_string(checkpoint.path()).unwrap().replacen("\n", "\nx", 1);
    fs::write(checkpoint.path(), other).unwrap();
    let said = Output::of(&mut python);
    assert_eq!(said.code, 10, "{said:?}");
}

#[test]
fn timestamps_and_signed_bytes_are_auditors_and_one_entry_gets_one_timestamp() {
    if !have("docker-registry") {
        return;
    }
    let service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "hello");
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
    let history = service.history();
    let signed: Vec<(usize, Completion)> = (history.leaves().iter().enumerate())
        .filter_map(|(at, leaf)| if let Leaf::Completion(c) = leaf { Some((at, c.clone())) } else { None })
        .collect();
    let (index, completion) = signed.last().unwrap();
    let PayloadDigest::Sha256(digest_of_payload) = completion.digest() else {
        panic!("a P-256 key signs SHA-256")
    };
    let (set, payload) = (format!("/v1/log/set/{index}"), format!("/v1/log/payload/{digest_of_payload}"));
    for path in [&set, &payload] {
        assert_eq!(
            (service.http("", path, &[]).0, service.http("CHANCERY_TOKEN", path, &[]).0),
            (401, 403),
            "{path}"
        );
    }
    let auditor = |service: &Instance, path: &str| service.http("CHANCERY_AUDITOR_TOKEN", path, &[]);
    let (status, bytes) = auditor(&service, &payload);
    assert_eq!((status, Sha256::of(bytes.as_bytes())), (200, digest_of_payload));
    let (status, first) = auditor(&service, &set);
    assert_eq!(status, 200, "{first}");
    assert_eq!((auditor(&service, &set), service.entry_timestamps()), ((200, first.clone()), 1));
    let stamp: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(stamp["Payload"]["logIndex"], *index);
    for (path, status) in [
        ("/v1/log/set/0".to_owned(), 404),
        (format!("/v1/log/set/{}", u64::MAX), 404),
        ("/v1/log/set/x".to_owned(), 400),
        (format!("/v1/log/payload/{}", "0".repeat(64)), 404),
    ] {
        assert_eq!(auditor(&service, &path).0, status, "{path}");
    }
    // Nobody waits for what the token cannot do now, and nothing is broken by it.
    service.faults.add(Rule::answer("C_SignInit", "CKR_FUNCTION_FAILED").key(&[0x10])).unwrap();
    let (other, _) = signed.first().unwrap();
    let (status, problem) = auditor(&service, &format!("/v1/log/set/{other}"));
    assert!(status == 503 && problem.contains("\"retryable\":true"), "{status} {problem}");
    service.faults.clear().unwrap();
    service.wait_until_ready();
    assert_eq!(auditor(&service, &format!("/v1/log/set/{other}")).0, 200);
    // A log keeper that comes again without its SET key: what that key said is not given any more, and everything else works.
    let keeper = service.dir().join("log/keeper.toml");
    let config = fs::read_to_string(&keeper).unwrap();
    fs::write(&keeper, config.split("[set_key]").next().unwrap()).unwrap();
    service.kill(&["serve", "log/keeper.toml"]);
    let problem = wait_for("the log keeper without its SET key", || {
        let (status, problem) = auditor(&service, &set);
        (status == 501).then_some(problem)
    });
    assert!(problem.contains("no-set-key"), "{problem}");
    service.wait_until_ready();
    assert_eq!(service.sign("demo/app", &digest, "v2").code, 0);
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
