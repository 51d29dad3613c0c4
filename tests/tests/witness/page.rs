//! `docs/how-to/witnesses.md`, as the operators of both sites read it.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
};
use tests::{Instance, Output, Settings, binary, commands, free_port, have, wait_for};

/// A shell and what it has started: dropping it ends both.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

#[test]
fn every_command_of_the_page_about_witnesses_does_what_the_page_says() {
    if !have("docker-registry") {
        return;
    }
    let mut service = Instance::start();
    assert_eq!(service.stop(), 0);
    let (desk, port, env) = (tempfile::tempdir().unwrap(), free_port(), service.env());
    let place = desk.path().display();
    // What one machine has not twice: folders of the system, and a port.
    let script = commands("how-to/witnesses.md")
        .replace("/var/lib/witness", &format!("{place}/witness"))
        .replace("/etc/", &format!("{place}/"))
        .replace(
            "chancery log witness serve",
            &format!("exec chancery log witness serve --listen 127.0.0.1:{port}"),
        );
    let (witness, auditor) = script.split_at(script.find("chancery log verify").unwrap());
    assert_eq!(witness.matches("chancery log witness ").count(), 3, "{witness}");
    let bash = |script: &str| {
        let programs = binary("chancery").parent().unwrap().display().to_string();
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", script]).current_dir(desk.path()).envs(&env);
        bash.env("HOME", desk.path()).env("XDG_STATE_HOME", desk.path());
        bash.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()));
        bash
    };
    let said = fs::File::create(desk.path().join("said")).unwrap();
    let mut witness = bash(witness);
    let witness = witness.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
    let mut witness = Shell(witness.spawn().unwrap());
    wait_for("the witness to serve", || {
        let said = || fs::read_to_string(desk.path().join("said")).unwrap();
        assert_eq!(witness.0.try_wait().unwrap(), None, "{}", said());
        TcpStream::connect(("127.0.0.1", port)).ok()
    });

    // As the page says of the service's side, with one witness.
    let vkey = fs::read_to_string(desk.path().join("witness.vkey")).unwrap();
    let log = &env["CHANCERY_LOG_VKEY"];
    let line = format!("witness north {} http://127.0.0.1:{port}", vkey.trim());
    fs::create_dir(desk.path().join("chancery")).unwrap();
    let policy = desk.path().join("chancery/witnesses.policy");
    fs::write(&policy, format!("log {log}\n{line}\nquorum north\n")).unwrap();
    let config = service.dir().join("chanceryd.toml");
    let text = fs::read_to_string(&config).unwrap();
    let witnesses = format!("[log.witnesses]\npolicy = {policy:?}\nwithout_quorum = \"publish\"\n");
    fs::write(&config, format!("{text}\n{witnesses}")).unwrap();
    service.resume(&Settings::default());
    let auditor = format!("export CHANCERY_TOKEN=$CHANCERY_AUDITOR_TOKEN\n{auditor}");
    let seen = wait_for("the quorum", || Some(Output::of(&mut bash(&auditor))).filter(|seen| seen.code == 0));
    assert!(seen.stdout.contains("witnesses") && seen.stdout.contains("north"), "{seen:?}");
}
