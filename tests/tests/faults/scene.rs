//! A service with a keeper that fails, and what is done to it between the request and its end.

use super::row::{Before, Row};
use super::table::ends;
use super::tag;
use hsm_sim::{Insertion, Token};
use record::{Digest, Tag};
use std::{collections::BTreeMap, fs, process::Command};
use tests::{Instance, OwnKeeper, Wanted, wait_for};

/// Long enough for a signature on a busy machine, short enough to wait for in a test.
pub(super) const DEADLINE_MS: u64 = 3_000;

/// A service, the keeper that fails, and an image.
pub(super) struct Scene {
    pub(super) service: Instance,
    pub(super) keeper: OwnKeeper,
    pub(super) digest: Digest,
    pub(super) pin: String,
}

impl Scene {
    pub(super) fn set() -> Self {
        let mut service = Instance::start();
        let wanted = Wanted { name: "hsm", prefix: "demo/hsm/", call_deadline_ms: DEADLINE_MS };
        let keeper = OwnKeeper::join(&mut service, wanted);
        let digest = service.registry.push("demo/hsm/app", "v1", "x");
        let pin = fs::read_to_string(keeper.token.pin_file()).unwrap();
        let scene = Self { service, keeper, digest, pin };
        let first = scene.service.sign("demo/hsm/app", &scene.digest, "first");
        assert_eq!(first.code, 0, "{first:?}");
        assert!(!scene.keeper.signed().is_empty(), "this keeper has signed");
        scene
    }

    /// After a row that broke its promise, so that the others can be played.
    pub(super) fn restore(&mut self) {
        self.service.faults.clear().unwrap();
        fs::write(self.keeper.token.pin_file(), &self.pin).unwrap();
        insert(self);
        unblocked(self);
        self.service.wait_until_ready();
    }

    pub(super) fn change_pin(&mut self) {
        let new = format!("{}9", self.pin.trim());
        let mut command = Command::new("pkcs11-tool");
        command.arg("--module").arg(self.keeper.token.module()).envs(self.keeper.token.env());
        command.args(["--token-label", self.keeper.token.label(), "--login", "--pin", self.pin.trim()]);
        let changed = command.args(["--change-pin", "--new-pin", &new]).output().unwrap();
        assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
        self.pin = new;
    }

    /// Plays a row; panics unless it goes as promised. What the log says is looked at when all rows are played.
    pub(super) fn play(&mut self, number: usize, row: &Row) {
        let before = Before { exits: self.keeper.exits().len(), logins: self.keeper.logins().len() };
        (row.before)(self);
        for rule in &row.rules {
            self.keeper.faults.add(rule.clone()).unwrap();
        }
        let tag = tag(number).to_string();
        let wait = if matches!(row.answer, 7 | 9) { "2s" } else { "60s" };
        let (answer, id) = self.service.sign_within("demo/hsm/app", &self.digest, &tag, wait);
        let said = || format!("{tag}, {}: {answer:?}\n{}", row.what, self.keeper.said());
        assert_eq!(answer.code, row.answer, "{}", said());
        (row.check)(self, &before);
        (row.mend)(self);
        if let Some(id) = id.filter(|_| row.answer == 7) {
            wait_for("the request to be published", || {
                (self.service.state(&id) == "published").then_some(())
            });
        }
        let next = self.service.sign("demo/hsm/app", &self.digest, &format!("{tag}-next"));
        assert_eq!(next.code, 0, "{tag}, {}, next: {next:?}", row.what);
        self.service.faults.clear().unwrap();
        self.keeper.faults.clear().unwrap();
        self.keeper.faults.set_token(Token::default()).unwrap();
        let exits = self.keeper.exits()[before.exits..].to_vec();
        assert!(exits.starts_with(row.exits), "{tag}, {}: {exits:?}", row.what);
        let extra = exits.iter().skip(row.exits.len()).find(|e| Some(*e) != row.exits.last());
        assert_eq!(extra, None, "{tag}, {}: {exits:?}", row.what);
    }

    /// How the intents for each tag ended, each with the signatures for its payload.
    pub(super) fn told(&self) -> BTreeMap<Tag, Vec<String>> {
        ends(&self.service, self.keeper.signed())
    }
}

/// What an operator does when the token is in order again and its keeper does not run, or uses no key any more.
pub(super) fn restart(scene: &mut Scene) {
    scene.keeper.faults.clear().unwrap();
    scene.keeper.start();
}

pub(super) fn clear(scene: &mut Scene) {
    scene.keeper.faults.clear().unwrap();
}

pub(super) fn reinsert(scene: &mut Scene) {
    scene.keeper.faults.remove_token().unwrap();
    scene.keeper.faults.insert_token(Insertion::default()).unwrap();
}

pub(super) fn insert(scene: &mut Scene) {
    scene.keeper.faults.insert_token(Insertion::default()).unwrap();
}

/// The token behind other properties, as after an exchange of its module's configuration.
pub(super) fn shown(scene: &mut Scene, token: Token) {
    scene.keeper.faults.set_token(token).unwrap();
    reinsert(scene);
}

/// Starts the keeper anew, with the rules of the row in force; those that a person must look at end for good.
pub(super) fn start_in_vain(scene: &mut Scene) {
    let before = scene.keeper.exits().len();
    scene.keeper.start();
    wait_for("the keeper to give up", || {
        (scene.keeper.exits()[before..].contains(&78) && !scene.keeper.runs()).then_some(())
    });
}

/// The security officer has given all tries back, and the operator starts the keeper.
pub(super) fn unblocked(scene: &mut Scene) {
    scene.keeper.faults.set_token(Token::default()).unwrap();
    restart(scene);
}
