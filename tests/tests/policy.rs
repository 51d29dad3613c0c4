//! The policy folder of a daemon that serves: read again on SIGHUP, taken as a whole or not at all.

use record::{Event, Leaf, PolicyStamp};
use serde_json::Value;
use std::{fs, path::PathBuf};
use tests::{Instance, have, wait_for};

/// A service, and its policy folder.
struct Scene {
    service: Instance,
    file: PathBuf,
    first: String,
}

impl Scene {
    fn start() -> Self {
        let service = Instance::start();
        let file = service.dir().join("policy/repositories.toml");
        let first = fs::read_to_string(&file).unwrap();
        Self { service, file, first }
    }

    fn alarms(&self) -> Vec<String> {
        let (status, body) = self.service.http("", "/readyz", &[]);
        assert_eq!(status, 200, "a policy that is not taken stops nothing: {body}");
        let readiness: Value = serde_json::from_str(&body).unwrap();
        serde_json::from_value(readiness["alarms"].clone()).unwrap_or_default()
    }

    /// Writes this text, has it read, and waits for the alarm that says why it is not taken.
    fn refused(&self, text: &str, why: &str) {
        fs::write(&self.file, text).unwrap();
        self.service.hang_up();
        let alarm = wait_for("the alarm of a policy that is not taken", || {
            self.alarms().into_iter().find(|alarm| alarm.contains(why))
        });
        assert!(
            alarm.contains("stays in force")
                && alarm.contains(&self.file.parent().unwrap().display().to_string()),
            "{alarm}"
        );
    }

    /// Writes this text, and waits until the log has the change.
    fn taken(&self, text: &str, changes: usize) {
        fs::write(&self.file, text).unwrap();
        self.service.hang_up();
        wait_for("the change of policy in the published log", || {
            (self.changes().len() == changes).then_some(())
        });
        wait_for("the end of the alarms", || self.alarms().is_empty().then_some(()));
    }

    /// Every change of policy in the log: what decided before, and after.
    fn changes(&self) -> Vec<(PolicyStamp, PolicyStamp)> {
        let change = |leaf: &Leaf| match leaf {
            Leaf::Event(Event::PolicyChanged { old, new, .. }) => Some((*old, *new)),
            _ => None,
        };
        self.service.history().leaves().iter().filter_map(change).collect()
    }

    fn stamp_at_start(&self) -> PolicyStamp {
        let started = |leaf: &Leaf| match leaf {
            Leaf::Event(Event::Started { policy, .. }) => Some(*policy),
            _ => None,
        };
        self.service.history().leaves().iter().find_map(started).unwrap()
    }
}

#[test]
fn a_policy_is_read_again_as_a_whole_and_a_bad_one_changes_nothing_but_the_alarms() {
    if !have("docker-registry") {
        return;
    }
    let scene = Scene::start();
    let service = &scene.service;
    let digest = service.registry.push("demo/app", "v1", "hello");
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);

    let frozen = format!("{}frozen = true\n", scene.first);
    scene.refused(&format!("{}frozn = true\n", scene.first), "did you mean \"frozen\"?");
    let tests = scene.file.with_file_name("tests.toml");
    fs::write(&tests, "schema = 1\n[[case]]\nname = \"a\"\nexpect = \"denied\"\nrules = []\n").unwrap();
    scene.refused(&frozen, "these are not the facts of a request");
    assert_eq!(service.sign("demo/app", &digest, "v2").code, 0, "the first policy still decides");
    assert_eq!(scene.changes(), []);

    fs::remove_file(&tests).unwrap();
    scene.taken(&frozen, 1);
    let refused = service.sign("demo/app", &digest, "v3");
    assert!(refused.code == 3 && refused.stderr.contains("builtin/repository-frozen"), "{refused:?}");
    scene.taken(&scene.first, 2);
    assert_eq!(service.sign("demo/app", &digest, "v3").code, 0);

    let changes = scene.changes();
    let start = scene.stamp_at_start();
    assert_eq!(changes, [(start, changes[0].1), (changes[0].1, start)], "from one to the other and back");
    let denied = service.history().leaves().iter().find_map(|leaf| match leaf {
        Leaf::Denial(denial) => Some(denial.policy),
        _ => None,
    });
    assert_eq!(denied, Some(changes[0].1), "the new policy decided under its own stamp");
    service.verify_log();
}

#[test]
fn requests_of_the_last_hour_count_and_refused_ones_do_not() {
    if !have("docker-registry") {
        return;
    }
    let scene = Scene::start();
    let service = &scene.service;
    let digest = service.registry.push("demo/app", "v1", "hello");
    scene.taken(&format!("{}rate = {{ caller = 2, repository = 9 }}\n", scene.first), 1);
    for tag in ["v1", "v2"] {
        assert_eq!(service.sign("demo/app", &digest, tag).code, 0, "{tag}");
    }
    for tag in ["v3", "v4"] {
        let refused = service.sign("demo/app", &digest, tag);
        assert_eq!(refused.code, 3, "{refused:?}");
        assert!(
            refused.stderr.contains("may have 2 signatures an hour for")
                && refused.stderr.contains("and had 2"),
            "{refused:?}"
        );
    }
}
