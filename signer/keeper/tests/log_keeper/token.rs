//! Tokens, keys and PINs, as an operator and a starting keeper meet them.

use crate::rig::{ORIGIN, Rig, leaves};
use record::Spki;
use rustix::process::Signal;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::{fs::PermissionsExt, net::UnixStream};
use std::process::{Command, Stdio};

const WRONG_PIN: u64 = 0xa0;

fn json(output: &std::process::Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A verifier key of this log's name that the token does not have.
fn another_vkey() -> String {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
    tlog::VerifierKey::new_ed25519(ORIGIN, key.to_bytes()).unwrap().to_string()
}

#[test]
fn a_generated_key_is_announced_with_attributes_that_were_read_back() {
    let Some(rig) = Rig::without_key() else { return };
    let made = json(&rig.generate("0a", "p256", &[]));
    let spki: Spki = serde_json::from_value(made["spki"].clone()).unwrap();
    assert_eq!(made["id"], spki.id().to_string());
    assert_eq!((&made["cka_id"], &made["type"]), (&"0a".into(), &"p256".into()));
    let evidence: Vec<String> = serde_json::from_value(made["evidence"].clone()).unwrap();
    for word in
        ["CKA_SENSITIVE=true", "CKA_EXTRACTABLE=false", "CKA_NEVER_EXTRACTABLE=true", "CKA_LOCAL=true"]
    {
        assert!(evidence.contains(&word.to_owned()), "{evidence:?}");
    }
    assert!(evidence.is_sorted() && evidence.len() == 8);
    let again = rig.generate("0a", "ed25519", &[]);
    assert_eq!(again.status.code(), Some(78), "the id is taken");
    let listed = json(&rig.admin(&["key", "list", "--token-label", "log"]).output().unwrap());
    let keys = &listed["keys"];
    assert_eq!((keys.as_array().unwrap().len(), &listed["schema"]), (1, &"chancery.keeper.keys/v1".into()));
    assert_eq!((&keys[0]["spki"], &keys[0]["label"]), (&made["spki"], &"k".into()));
}

#[test]
fn a_p256_log_key_is_printed_as_a_verifier_key_of_its_type_and_signs_notes() {
    let Some(rig) = Rig::with_key("p256") else { return };
    assert!(matches!(rig.key().key(), tlog::LogKey::P256(_)), "{}", rig.vkey);
    let keeper = rig.start();
    let (mut daemon, welcome) = keeper.welcome();
    daemon.append(welcome.epoch, 0, &leaves(3));
    let notes = [daemon.note(), daemon.note()];
    for note in &notes {
        assert_eq!(tlog::Checkpoint::open(note, &rig.key()).unwrap().size, 3);
        assert!(tlog::Checkpoint::open(note, &another_vkey().parse().unwrap()).is_err());
    }
    // What the token signed is the SHA-256 of the note's text, and nothing else.
    let text = notes[0].split_once("\n\n").unwrap().0.to_owned() + "\n";
    let digest = record::Sha256::of(text.as_bytes());
    let signed = rig.entries().into_iter().filter_map(|entry| match entry {
        hsm_sim::Entry::Signature { input, .. } => Some(input),
        hsm_sim::Entry::Login { .. } => None,
    });
    assert_eq!(signed.collect::<Vec<_>>(), vec![Some(digest.as_bytes().to_vec()); 2]);
}

#[test]
fn a_log_key_is_of_a_kind_that_signs_notes_and_in_no_charter() {
    let Some(rig) = Rig::without_key() else { return };
    for kind in ["p384", "rsa2048"] {
        let refused = rig.generate("01", kind, &["--origin", ORIGIN]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(78), "{said}");
        assert!(said.contains("a log key is an Ed25519 key, or a P-256 key"), "{said}");
    }
    let grant =
        ["--origin", ORIGIN, "--charter", "c", "--purpose", "targets", "--repository", "r.example/a/"];
    let refused = rig.generate("01", "p256", &grant);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("signs notes and nothing else"), "{said}");
    let listed = json(&rig.admin(&["key", "list", "--token-label", "log"]).output().unwrap());
    assert_eq!(listed["keys"], serde_json::json!([]), "nothing was generated");
}

#[test]
fn a_token_is_initialised_once_and_its_pin_works() {
    let Some(rig) = Rig::without_key() else { return };
    let so_pin = rig.token.so_pin_file().display().to_string();
    let init =
        || rig.admin(&["token", "init", "--label", "second", "--so-pin-file", &so_pin]).output().unwrap();
    let made = json(&init());
    assert_eq!(made["label"], "second");
    assert!(!made["serial"].as_str().unwrap().is_empty());
    let again = init();
    assert_eq!(again.status.code(), Some(70), "a token is never initialised again");
    let listed = json(&rig.admin(&["key", "list", "--token-label", "second"]).output().unwrap());
    assert_eq!(listed["keys"], serde_json::json!([]));
}

#[test]
fn a_wrong_pin_is_tried_exactly_once_and_stops_the_supervisor() {
    let Some(rig) = Rig::new() else { return };
    rig.spoil_pin();
    let (code, said) = rig.start_in_vain();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("the PIN was refused") && !said.contains("not the pin"), "{said}");
    assert_eq!(rig.logins(), [WRONG_PIN]);
}

/// A library whose exit handler never returns, as a vendor's may do while a call is inside it.
const HANGS_AT_EXIT: &str =
    "#include <unistd.h>\n__attribute__((destructor)) static void hang(void) { for (;;) pause(); }\n";

#[test]
fn the_exit_code_is_told_also_where_a_librarys_exit_handler_hangs() {
    let Some(rig) = Rig::new() else { return };
    if let Some(missing) = hsm_sim::missing(&["cc"]) {
        return hsm_sim::skip(missing);
    }
    let (source, library) = (rig.path("hang.c"), rig.path("hang.so"));
    std::fs::write(&source, HANGS_AT_EXIT).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(built.unwrap().success());
    rig.spoil_pin();
    let ended = rig.command("serve").env("LD_PRELOAD", &library).output().unwrap();
    assert_eq!(ended.status.code(), Some(78), "{}", ended.status);
    assert_eq!(rig.logins(), [WRONG_PIN]);
}

#[test]
fn a_pin_file_that_others_can_read_is_not_read() {
    let Some(rig) = Rig::new() else { return };
    std::fs::set_permissions(rig.token.pin_file(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = rig.start_in_vain();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("0644") && said.contains("pin"), "{said}");
}

#[test]
fn a_pin_comes_through_an_inherited_descriptor_of_any_kind_and_from_no_other() {
    let Some(rig) = Rig::new() else { return };
    let pin = std::fs::read(rig.token.pin_file()).unwrap();
    rig.configure_token("pin_fd = 9");
    let serve = rig.command("serve");
    // A socket has no name under which it could be opened anew.
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(&pin).unwrap();
    drop(ours);
    let (read, mut write) = std::io::pipe().unwrap();
    write.write_all(&pin).unwrap();
    drop(write);
    for input in [Stdio::from(OwnedFd::from(theirs)), Stdio::from(read)] {
        let mut handed = Command::new("sh");
        handed
            .args(["-c", "exec \"$@\" 9<&0 </dev/null", "sh"])
            .arg(serve.get_program())
            .args(serve.get_args());
        handed.envs(serve.get_envs().filter_map(|(key, value)| Some((key, value?)))).stdin(input);
        let mut keeper = rig.start_as(handed);
        keeper.welcome();
        assert_eq!(keeper.signal(Signal::TERM), Some(0));
    }
    // 0 to 2 are always handed over; what the keeper opens itself comes behind them.
    for fd in 3..10 {
        rig.configure_token(&format!("pin_fd = {fd}"));
        let (code, said) = rig.start_in_vain();
        assert!(
            code == 78 && said.contains("was handed over") && said.contains(&format!("fd/{fd}")),
            "{said}"
        );
    }
    assert_eq!(rig.logins(), [0, 0], "and no PIN was tried that was none");
}

#[test]
fn a_pin_comes_from_a_credential_of_the_service_manager() {
    let Some(rig) = Rig::new() else { return };
    rig.configure_token("pin_credential = 'log.pin'");
    let (code, said) = rig.start_in_vain();
    assert!(code == 78 && said.contains("CREDENTIALS_DIRECTORY"), "{said}");
    let folder = rig.path("credentials");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(rig.token.pin_file(), folder.join("log.pin")).unwrap();
    let mut serve = rig.command("serve");
    serve.env("CREDENTIALS_DIRECTORY", &folder);
    rig.start_as(serve).welcome();
    assert_eq!(rig.logins(), [0]);
}

#[test]
fn a_key_that_could_leave_its_token_is_refused_by_name() {
    let Some(mut rig) = Rig::without_key() else { return };
    if let Some(missing) = hsm_sim::missing(&["pkcs11-tool"]) {
        return hsm_sim::skip(missing);
    }
    let pin = std::fs::read_to_string(rig.token.pin_file()).unwrap();
    let made = Command::new("pkcs11-tool")
        .args([
            "--token-label",
            "log",
            "--login",
            "--pin",
            &pin,
            "--keypairgen",
            "--key-type",
            "EC:edwards25519",
        ])
        .args(["--id", "01", "--label", "loose", "--extractable", "--module"])
        .arg(rig.token.module())
        .envs(rig.token.env())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let listed = json(&rig.admin(&["key", "list", "--token-label", "log"]).output().unwrap());
    assert!(
        listed["keys"][0]["refused"].as_str().unwrap().contains("CKA_EXTRACTABLE is true and must be false"),
        "{listed}"
    );
    rig.vkey = another_vkey();
    rig.configure("");
    assert!(rig.command("init").output().unwrap().status.success());
    let (code, said) = rig.start_in_vain();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("CKA_ID 01") && said.contains("CKA_EXTRACTABLE is true"), "{said}");
}

#[test]
fn another_key_than_the_pinned_one_and_another_token_are_refused() {
    let Some(mut rig) = Rig::new() else { return };
    rig.configure("serial = 'ffffffff'");
    let (code, said) = rig.start_in_vain();
    assert!(code == 70 && said.contains("no such token is present"), "{code} {said}");
    rig.vkey = another_vkey();
    rig.configure("");
    let (code, said) = rig.start_in_vain();
    assert!(code == 78 && said.contains("not the pinned one"), "{code} {said}");
}
