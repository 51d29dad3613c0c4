//! Rosters that must not come into force, and one that must not be forgotten.

use super::cast::{first, first_content, group, id, name, next, piv};
use super::people::{approve, ask, give, guarded, takes, unsigned};
use super::place::said;
use super::rig::{Daemon, Rig};
use super::world::{ORIGIN, World};
use super::{refused, repository};
use ::people::{Roster, RosterContent, SignedRoster};
use record::wire::{Blob, FromSigner, ToSigner};
use record::{Purpose, Sha256};

fn does_not_take(daemon: &mut Daemon, roster: &SignedRoster, why: &str) {
    match give(daemon, roster) {
        FromSigner::Refused { code, detail } => {
            assert_eq!(code.as_str(), "people");
            assert!(detail.contains(why), "{why}: {detail}");
        }
        other => panic!("{why}: {other:?}"),
    }
}

#[test]
fn a_keeper_without_a_roster_signs_nothing_under_a_rule_and_takes_only_the_pinned_one() {
    let Some(mut rig) = guarded() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    assert_eq!(daemon.welcome.roster, None);
    let (mut made, said) = ask(&mut rig.world, &repository(0), |_| ());
    approve(&mut made, &said, &["alice", "bob"]);
    refused(&rig, &mut daemon, &made, "people", "no roster");
    // The daemon's own people.
    let mut content = first_content();
    content.people[3].keys.push(piv("mallory"));
    does_not_take(&mut daemon, &unsigned(Roster::new(content).unwrap()), "the pin is for version 1");
    let second = next(&first(), &["alice", "bob"], |_| ());
    does_not_take(&mut daemon, &second, "the pin is for version 1");
    does_not_take(&mut daemon, &SignedRoster::new(first(), vec![(id("alice"), vec![0])]), "no signatures");
    assert!(matches!(
        daemon.say(&ToSigner::Roster { signed: Blob(b"{}".to_vec()) }),
        FromSigner::Refused { .. }
    ));
    takes(&mut daemon, &unsigned(first()));
    let (mut made, said) = ask(&mut rig.world, &repository(1), |_| ());
    approve(&mut made, &said, &["alice", "bob"]);
    daemon.through(&mut rig.world, &made);
}

#[test]
fn a_person_who_was_removed_does_not_count_and_no_older_roster_brings_them_back() {
    let Some(mut rig) = guarded() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    takes(&mut daemon, &unsigned(first()));
    let without_bob = |c: &mut RosterContent| {
        c.people.remove(1);
        for members in c.groups.iter_mut().map(|g| &mut g.members) {
            members.retain(|m| *m != name("bob"));
        }
    };
    // Too few, the wrong people, and a daemon's own hand.
    does_not_take(&mut daemon, &next(&first(), &["alice"], without_bob), "1 of 2");
    does_not_take(&mut daemon, &next(&first(), &["alice", "dave"], without_bob), "1 of 2");
    let more = |c: &mut RosterContent| c.groups[2] = group("release", &["alice", "bob", "dave"]);
    does_not_take(&mut daemon, &next(&first(), &["mallory", "alice"], more), "no PIV key");
    // An approver's key never signs for the service.
    let targets = rig.world.spki[&Purpose::Targets].clone();
    let with_targets_key = |c: &mut RosterContent| c.people[3].keys[0].spki = targets;
    does_not_take(&mut daemon, &next(&first(), &["alice", "bob"], with_targets_key), "is a signing key");
    let second = next(&first(), &["alice", "bob"], without_bob);
    takes(&mut daemon, &second);
    takes(&mut daemon, &second);
    does_not_take(&mut daemon, &unsigned(first()), "version 3 is what follows");
    let (mut made, said) = ask(&mut rig.world, &repository(0), |_| ());
    approve(&mut made, &said, &["alice", "bob"]);
    refused(&rig, &mut daemon, &made, "people", "bob is gone");
    keeper.kill();
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    assert_eq!(daemon.welcome.roster.map(|r| r.version), Some(2), "durable");
    does_not_take(&mut daemon, &unsigned(first()), "version 3 is what follows");
    let (mut made, said) = ask(&mut rig.world, &repository(1), |_| ());
    approve(&mut made, &said, &["alice", "bob"]);
    refused(&rig, &mut daemon, &made, "people", "bob is gone after a restart too");
    approve(&mut made, &said, &["alice", "carol"]);
    refused(&rig, &mut daemon, &made, "used", "and the index is spent");
    let (mut made, said) = ask(&mut rig.world, &repository(2), |_| ());
    approve(&mut made, &said, &["alice", "carol"]);
    daemon.through(&mut rig.world, &made);
    assert_eq!(rig.signed(), [made.intent.payload]);
}

/// `admin roster` with these files: its document, or its exit code and why it refuses.
fn roster(rig: &Rig, files: &[&str]) -> Result<serde_json::Value, (i32, String)> {
    let mut command = rig.command("admin roster");
    let ended = command.args(files.iter().map(|file| rig.path(file))).output().unwrap();
    match ended.status.code().unwrap() {
        0 => Ok(serde_json::from_slice(&ended.stdout).unwrap()),
        code => Err((code, said(&ended))),
    }
}

fn write(rig: &Rig, file: &str, roster: &SignedRoster) {
    rig.write(file, std::str::from_utf8(&roster.encode().unwrap()).unwrap());
}

#[test]
fn doctor_shows_each_rule_and_warns_where_one_person_is_enough() {
    let Some(rig) = guarded() else { return };
    let checks = || {
        let said = rig.command("doctor").output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
        let checks = said["checks"].as_array().unwrap().clone();
        let of_rules =
            |check: &serde_json::Value| check["what"].as_str().unwrap().starts_with("approval of key");
        checks
            .into_iter()
            .filter(of_rules)
            .map(|c| (c["state"].clone(), c["says"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(checks(), vec![("ok".into(), "2 of release by piv".into()); 2]);
    rig.write("charter.toml", &rig.world.charter().replace("count = 2", "count = 1"));
    let one = "1 of release by piv: one person is enough";
    assert_eq!(checks(), vec![("warning".into(), one.into()); 2]);
}

#[test]
fn an_operator_gives_a_stopped_keeper_its_rosters_and_no_charter_or_log_takes_them_away() {
    let Some(mut rig) = guarded() else { return };
    write(&rig, "one", &unsigned(first()));
    write(&rig, "two", &next(&first(), &["alice", "bob"], |_| ()));
    write(&rig, "forged", &next(&first(), &["alice"], |_| ()));
    let none = roster(&rig, &[]).unwrap();
    assert_eq!((&none["changed"], &none["version"]), (&false.into(), &serde_json::Value::Null));
    assert_eq!(none["rules"][0]["rule"], "2 of release by piv");
    for (files, why) in [
        (["two", "one"], "pin is for version 1"),
        (["one", "forged"], "1 of 2"),
        (["one", "no"], "cannot be read"),
    ] {
        let (code, said) = roster(&rig, &files).unwrap_err();
        assert_eq!(code, 78);
        assert!(said.contains(why), "{why}: {said}");
    }
    // The first has stayed in force, and is not taken again.
    let taken = roster(&rig, &["one", "two"]).unwrap();
    assert_eq!((&taken["changed"], &taken["version"]), (&true.into(), &2.into()));
    assert_eq!(roster(&rig, &["two"]).unwrap()["changed"], false);
    assert_eq!(roster(&rig, &["one"]).unwrap_err().0, 78, "no way back");

    let keeper = rig.start();
    assert_eq!(roster(&rig, &["two"]).unwrap_err().0, 75, "while it runs");
    assert_eq!(keeper.connect().welcome.roster.map(|r| r.version), Some(2));
    keeper.kill();
    let good = rig.world.charter();
    let (pin, other) = (first().sha256().to_string(), Sha256::of(b"another roster").to_string());
    let alice = serde_json::to_string(&piv("alice").spki).unwrap();
    let with_alice = format!(
        "{good}\n[[other_key]]\nspki = {alice}\npurpose = \"root\"\nrepositories = [\"r.example/x/\"]\n"
    );
    for (charter, why) in [(good.replace(&pin, &other), "roster_sha256"), (with_alice, "signing key")] {
        rig.write("charter.toml", &charter);
        let (code, said) = rig.start_in_vain();
        assert_eq!(code, 78, "{said}");
        assert!(said.contains(why), "{why}: {said}");
    }
    let mut new = World::of_log("log-2.example.com", rig.world.spki.clone(), rig.world.now);
    (new.first_roster, new.rules) = (rig.world.first_roster, rig.world.rules.clone());
    rig.world = new;
    rig.write("charter.toml", &rig.world.charter());
    let followed = rig.command("admin follow-log").args(["--former-origin", ORIGIN]).output().unwrap();
    assert!(followed.status.success(), "{}", said(&followed));
    assert_eq!(rig.start().connect().welcome.roster.map(|r| r.version), Some(2), "in the next log too");
}
