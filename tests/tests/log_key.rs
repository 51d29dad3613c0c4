//! A log whose key is on P-256, for tokens that have no Ed25519: every reader takes it, and nobody gets one unasked.

use std::{fs, path::Path, process::Command};
use tests::{Instance, LOG_KEEPER, Output, Settings, binary, have, wait_for};

#[test]
fn a_log_with_a_p256_key_signs_is_verified_proven_and_watched_as_any_other() {
    if !have("docker-registry") {
        return;
    }
    let settings = Settings { options: vec!["--log-key".into(), "p256".into()], ..Settings::default() };
    let mut service = Instance::with(&settings);
    let vkey = service.env()["CHANCERY_LOG_VKEY"].clone();
    // The base64 of type 0x02 and the first bytes of an SPKI.
    assert!(vkey.starts_with("log.chancery.test+") && vkey.contains("+AjBZMBMG"), "{vkey}");
    let digest = service.registry.push("demo/app", "v1", "x");
    let (signed, request) = service.sign_within("demo/app", &digest, "v1", "60s");
    assert_eq!(signed.code, 0, "{signed:?}");

    // Both verifiers, on the published files; evidence for one signature, verified with the key alone.
    service.verify_log();
    let desk = tempfile::tempdir().unwrap();
    let (file, log) = (desk.path().join("evidence.json"), desk.path().join("log"));
    service.fetch_log(&log);
    let proven = service.chancery(&["log", "prove", &request.unwrap(), text(&log), "--out", text(&file)]);
    assert_eq!(proven.code, 0, "{proven:?}");
    let offline = |key: &str| {
        let mut command = Command::new(binary("chancery"));
        command.args(["log", "verify-bundle", "-o", "json", "--vkey", key, text(&file)]);
        for name in ["CHANCERY_URL", "CHANCERY_TOKEN", "CHANCERY_CACERT", "CHANCERY_LOG_VKEY"] {
            command.env_remove(name);
        }
        Output::of(command.env("XDG_STATE_HOME", desk.path().join("state")))
    };
    let verified = offline(&vkey);
    assert_eq!(verified.code, 0, "{verified:?}");
    assert!(verified.stdout.contains("\"end\":\"signed\""), "{verified:?}");
    // The key of a published log, of the same type: it has signed nothing here.
    let stranger = "rekor.sigstore.dev+c0d23d6a+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNhtmPtrWm3U1eQXBogSMdGvXwBcK5AW5i0hrZLOC96l+smGNM7nwZ4QvFK/4sueRoVj//QP22Ni4Qt9DPfkWLc=";
    assert_eq!(offline(stranger).code, 10);
    let watched = service.chancery_as("CHANCERY_AUDITOR_TOKEN", &["log", "watch", "--once", "-o", "json"]);
    assert_eq!(watched.code, 0, "{watched:?}");

    // Keepers and daemon that are started again hold to the key, and go on.
    service.kill(LOG_KEEPER);
    let again = service.sign("demo/app", &digest, "v2");
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(service.stop(), 0);

    // A log keeps its key: one that public witnesses refuse is begun only if that is asked for.
    let dev = service.dir();
    let keepers: Vec<_> =
        ["log", "signing"].into_iter().map(|role| keeper(&service, &dev.join(role))).collect();
    let data = desk.path().join("data");
    let config = fs::read_to_string(dev.join("chanceryd.toml")).unwrap();
    let config = config.replace(text(&dev.join("data")), text(&data));
    fs::write(desk.path().join("chanceryd.toml"), config).unwrap();
    let init = |more: &[&str]| {
        let mut command = Command::new(binary("chanceryd"));
        let token = desk.path().join("admin.token");
        command.args(["init", "--config", text(&desk.path().join("chanceryd.toml"))]);
        Output::of(command.args(["--admin-token-file", text(&token)]).args(more))
    };
    let refused = init(&[]);
    assert_eq!(refused.code, 78, "{refused:?}");
    for word in ["[log] vkey", "public witnesses", "--type ed25519", "--no-public-witnesses"] {
        assert!(refused.stderr.contains(word), "no {word:?}: {refused:?}");
    }
    assert!(!data.exists() && !desk.path().join("admin.token").exists(), "a refusal leaves nothing");
    // Told so, init goes on, and finds that this spool holds a log already.
    let told = init(&["--no-public-witnesses"]);
    assert!(told.code == 78 && told.stderr.contains("leaves already"), "{told:?}");
    drop(keepers);
}

/// A keeper of a stopped instance, by itself, until it is dropped.
fn keeper(service: &Instance, folder: &Path) -> Killed {
    let config = folder.join("keeper.toml");
    let socket = folder.join("keeper.sock");
    let _gone = fs::remove_file(&socket);
    let mut command = service.keeper_command(&["serve", "--config", text(&config)]);
    let quiet = std::process::Stdio::null();
    let child = command.env("SOFTHSM2_CONF", folder.join("softhsm2.conf")).stderr(quiet).spawn().unwrap();
    wait_for("a keeper to listen", || socket.exists().then_some(()));
    Killed(child)
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
