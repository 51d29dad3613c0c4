//! Keys over their life, as a keeper's operator sees it: the how-to page run as it is written, so that a command that does
//! not work any more fails here; and a key that is retired at a bad moment.

use hsm_sim::Rule;
use record::{Event, Leaf};
use std::{fs, process::Command};
use tests::{End, Instance, Output, SIGNING_KEEPER, binary, commands, have, wait_for};

/// What the page's reader has and a test has not: a service manager. `chancery dev` starts a keeper again that ended.
const SERVICE_MANAGER: &str = r#"
keeper() { pgrep -f "chancery-keeper serve --config $PWD/keeper.toml"; }
systemctl() {
    old=$(keeper)
    kill "$old"
    while [ "$(keeper)" = "$old" ]; do sleep 0.05; done
    until chancery token health > /dev/null 2>&1; do sleep 0.1; done
}
"#;

#[test]
fn every_command_of_the_page_about_keys_does_what_the_page_says() {
    if !have("docker-registry") || !have("pgrep") || !have("awk") {
        return;
    }
    let service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "x");
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
    let old: Vec<String> = ids(&service.chancery(&["key", "list"]));
    let script = commands("how-to/keys.md").replace("registry.example/team/", &service.repository("demo/"));
    assert!(script.matches("chancery").count() > 15, "{script}");
    let ran = run(&service, &script);
    assert_eq!(ran.code, 0, "{ran:?}");
    // What the log and the daemon say afterwards: the old keys are gone, the new ones sign.
    let new = ids(&service.chancery(&["key", "list"]));
    assert!(new.len() == 4 && new.iter().all(|id| !old.contains(id)), "{old:?} {new:?}");
    let charter = fs::read_to_string(service.dir().join("signing/charter.toml")).unwrap();
    assert_eq!(charter.matches("\nretired = ").count(), old.len() + 1, "{charter}");
    let digest = service.registry.push("demo/later", "v1", "y");
    let signed = service.sign("demo/later", &digest, "v1");
    assert_eq!(signed.code, 0, "{signed:?}");
    service.verify_log();
    // Each start that showed other keys is an entry, and the last one has the new keys only.
    let history = service.history();
    let presented = history.leaves().iter().filter_map(|leaf| match leaf {
        Leaf::Event(Event::Keeper { keeper, .. }) => Some(keeper.keys.len()),
        _ => None,
    });
    assert_eq!(presented.collect::<Vec<_>>(), [5, 4, 4], "one generated, it retired, all replaced");
    assert!(service.logins().iter().all(|rv| *rv == 0), "no wrong PIN was tried: {:?}", service.logins());
}

#[test]
fn an_intent_that_a_retired_key_left_open_is_closed_and_who_asks_next_hears_of_the_key() {
    if !have("docker-registry") {
        return;
    }
    let service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "x");
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
    let listed = service.chancery(&["key", "list"]).stdout;
    let line = listed.lines().find(|line| line.contains("  targets  ")).unwrap();
    let key = line.split(' ').next().unwrap();
    // `chancery dev` gives the targets key this CKA_ID.
    let hang = service.faults.add(Rule::hang("C_Sign").key(&[2])).unwrap();
    service.post("CHANCERY_TOKEN", "k", "demo/app", &digest, "v2");
    service.faults.wait_fired(&hang, 1).unwrap();
    let charter = service.dir().join("signing/charter.toml").display().to_string();
    let retired =
        Output::of(&mut service.keeper_command(&["admin", "key", "retire", key, "--charter", &charter]));
    assert_eq!(retired.code, 0, "{retired:?}");
    service.kill(SIGNING_KEEPER);
    service.faults.clear().unwrap();
    let history = wait_for("the open intent to end", || {
        let history = service.history();
        history.intents().iter().all(|told| told.end != End::Open).then_some(history)
    });
    assert_eq!(history.intents().last().unwrap().end, End::Without(record::OutcomeKind::Unknown));
    let refused = service.sign("demo/app", &digest, "v3");
    assert_eq!(refused.code, 9, "{refused:?}");
    assert!(refused.stderr.contains(key) && refused.stderr.contains("it is retired"), "{refused:?}");
    assert!(!service.chancery(&["key", "list"]).stdout.contains(key));
}

fn ids(listed: &Output) -> Vec<String> {
    assert_eq!(listed.code, 0, "{listed:?}");
    listed.stdout.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// Runs the script where a keeper's operator would stand.
fn run(service: &Instance, script: &str) -> Output {
    let keeper = service.keeper_command(&[]);
    let environment = keeper.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let env = service.env();
    let folder = service.dir().join("signing");
    let programs = binary("chancery").parent().unwrap().to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c"]).arg(format!("{SERVICE_MANAGER}{script}")).current_dir(&folder);
    bash.envs(environment).envs(&env).env("PATH", path).env("SOFTHSM2_CONF", folder.join("softhsm2.conf"));
    bash.env("MODULE", hsm_sim::forwarder().unwrap()).env("LABEL", "chancery-signing");
    bash.env("CHANCERY_TOKEN", &env["CHANCERY_AUDITOR_TOKEN"])
        .env("HOME", &folder)
        .env("XDG_STATE_HOME", &folder);
    Output::of(&mut bash)
}
