//! The fault table: whatever a token does, what the caller is told, what the log says, how many signatures the token's
//! own journal has, and that the next request is signed without a restart of the daemon.
//!
//! The keeper of the rows is one of the test's own, behind the fault-injecting module, beside that of `chancery dev`.
//! `CHANCERY_FAULT_TABLE=docs/hardware.md cargo test -p tests --test faults` writes the table into that file.

use hsm_sim::{Insertion, PinFlag, Rule, Token};
use record::{Action, Digest, OutcomeKind, Sha256, Tag};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};
use tests::{End, Instance, OwnKeeper, Told, Wanted, have, random_faults, wait_for};

/// Long enough for a signature on a busy machine, short enough to wait for in a test.
const DEADLINE_MS: u64 = 3_000;
/// Services side by side: most of a row's time is waiting.
const SCENES: usize = 3;
/// The keys in the keeper's token.
const TARGETS: &[u8] = &[2];
/// `CKR_PIN_INCORRECT`.
const PIN_INCORRECT: u64 = 0xa0;

/// One row: what goes wrong, and what is promised then.
struct Row {
    what: &'static str,
    rules: Vec<Rule>,
    /// Done before the request.
    before: fn(&mut Scene),
    /// The exit code of `chancery sign`. 0: published; 7: its wait of 2 s ended first, and the same request is published
    /// once the fault is over; 8: the request has failed, after three tries; 9: no request was made, since the keeper is
    /// not there.
    answer: i32,
    /// What ends the fault.
    mend: fn(&mut Scene),
    /// How the intents of the request end, each with the signatures that the token made for it.
    log: &'static str,
    /// The exit codes of the keeper's processes.
    exits: &'static [i32],
    /// What else must hold while the fault is in force.
    check: fn(&Scene, &Before),
}

/// How things stood before a row.
struct Before {
    exits: usize,
    logins: usize,
}

/// A service, the keeper that fails, and an image.
struct Scene {
    service: Instance,
    keeper: OwnKeeper,
    digest: Digest,
    pin: String,
}

impl Row {
    /// A row in which the request is signed while its client waits, whatever happened.
    fn new(what: &'static str, rules: Vec<Rule>, log: &'static str) -> Self {
        Self { what, rules, before: |_| {}, answer: 0, mend: |_| {}, log, exits: &[], check: |_, _| {} }
    }

    fn after(mut self, before: fn(&mut Scene)) -> Self {
        self.before = before;
        self
    }

    /// The client is still waiting after 2 s, and gets its answer when this was done.
    fn until(self, mend: fn(&mut Scene)) -> Self {
        self.answers(7, mend)
    }

    /// The client gets this answer, and the next one a good one when this was done.
    fn answers(mut self, answer: i32, mend: fn(&mut Scene)) -> Self {
        (self.answer, self.mend) = (answer, mend);
        self
    }

    /// The keeper's processes end so.
    fn exits(mut self, exits: &'static [i32]) -> Self {
        self.exits = exits;
        self
    }

    fn check(mut self, check: fn(&Scene, &Before)) -> Self {
        self.check = check;
        self
    }
}

/// An answer of the module, at one call of the targets key.
fn once(function: &'static str, rv: &str) -> Rule {
    Rule::answer(function, rv).key(TARGETS).times(1)
}

/// What an operator does when the token is in order again and its keeper does not run, or uses no key any more.
fn restart(scene: &mut Scene) {
    scene.keeper.faults.clear().unwrap();
    scene.keeper.start();
}

fn clear(scene: &mut Scene) {
    scene.keeper.faults.clear().unwrap();
}

fn reinsert(scene: &mut Scene) {
    scene.keeper.faults.remove_token().unwrap();
    scene.keeper.faults.insert_token(Insertion::default()).unwrap();
}

fn insert(scene: &mut Scene) {
    scene.keeper.faults.insert_token(Insertion::default()).unwrap();
}

/// The token behind other properties, as after an exchange of its module's configuration.
fn shown(scene: &mut Scene, token: Token) {
    scene.keeper.faults.set_token(token).unwrap();
    reinsert(scene);
}

/// Starts the keeper anew, with the rules of the row in force; those that a person must look at end for good.
fn start_in_vain(scene: &mut Scene) {
    let before = scene.keeper.exits().len();
    scene.keeper.start();
    wait_for("the keeper to give up", || {
        (scene.keeper.exits()[before..].contains(&78) && !scene.keeper.runs()).then_some(())
    });
}

fn signatures(rows: &mut Vec<Row>) {
    // A stale session: another one. What C_Sign says to have met at its entry was before the key.
    for rv in ["CKR_SESSION_HANDLE_INVALID", "CKR_SESSION_CLOSED", "CKR_OPERATION_ACTIVE"] {
        rows.push(Row::new(name("C_SignInit", rv), vec![once("C_SignInit", rv)], "signed 1"));
    }
    for rv in [
        "CKR_SESSION_HANDLE_INVALID",
        "CKR_OPERATION_NOT_INITIALIZED",
        "CKR_TOKEN_NOT_PRESENT",
        "CKR_CRYPTOKI_NOT_INITIALIZED",
    ] {
        rows.push(Row::new(name("C_Sign", rv), vec![once("C_Sign", rv)], "signed 1"));
    }
    rows.push(Row::new(
        "C_Sign: CKR_SESSION_CLOSED, which may come after the key",
        vec![once("C_Sign", "CKR_SESSION_CLOSED")],
        "unknown 0, signed 1",
    ));
    rows.push(Row::new(
        "C_Sign: CKR_SESSION_CLOSED after the key",
        vec![once("C_Sign", "CKR_SESSION_CLOSED").after()],
        "unknown 1, signed 1",
    ));
    rows.push(Row::new(
        "C_Sign: an error that leaves the operation active in the session",
        vec![once("C_Sign", "CKR_FUNCTION_FAILED").poison()],
        "unknown 0, signed 1",
    ));
    // A stale handle: the key is found anew, else the library is.
    for rv in ["CKR_KEY_HANDLE_INVALID", "CKR_OBJECT_HANDLE_INVALID"] {
        rows.push(Row::new(name("C_SignInit", rv), vec![once("C_SignInit", rv)], "signed 1"));
    }
    rows.push(Row::new(
        "C_Sign: CKR_KEY_HANDLE_INVALID",
        vec![once("C_Sign", "CKR_KEY_HANDLE_INVALID")],
        "signed 1",
    ));
    rows.push(Row::new(
        "C_SignInit: CKR_KEY_HANDLE_INVALID, also in a fresh session",
        vec![Rule::answer("C_SignInit", "CKR_KEY_HANDLE_INVALID").key(TARGETS).times(2)],
        "signed 1",
    ));
    // The library or the token is gone.
    for rv in [
        "CKR_DEVICE_REMOVED",
        "CKR_TOKEN_NOT_PRESENT",
        "CKR_TOKEN_NOT_RECOGNIZED",
        "CKR_SLOT_ID_INVALID",
        "CKR_DEVICE_ERROR",
        "CKR_GENERAL_ERROR",
        "CKR_CRYPTOKI_NOT_INITIALIZED",
    ] {
        rows.push(Row::new(name("C_SignInit", rv), vec![once("C_SignInit", rv)], "signed 1"));
    }
    for rv in ["CKR_DEVICE_ERROR", "CKR_GENERAL_ERROR", "CKR_DEVICE_REMOVED"] {
        rows.push(Row::new(name("C_Sign", rv), vec![once("C_Sign", rv)], "unknown 0, signed 1"));
        let after = once("C_Sign", rv).after();
        rows.push(Row::new(name("C_Sign after the key", rv), vec![after], "unknown 1, signed 1"));
    }
    rows.push(Row::new(
        "C_SignInit: CKR_DEVICE_ERROR, three times",
        vec![Rule::answer("C_SignInit", "CKR_DEVICE_ERROR").key(TARGETS).times(3)],
        "signed 1",
    ));
    rows.push(Row::new(
        "C_FindObjectsInit: CKR_DEVICE_ERROR after a lost session",
        vec![
            once("C_SignInit", "CKR_SESSION_CLOSED"),
            Rule::answer("C_FindObjectsInit", "CKR_DEVICE_ERROR").times(1),
        ],
        "signed 1",
    ));
    // At a limit.
    for (rv, times) in
        [("CKR_DEVICE_MEMORY", 3), ("CKR_HOST_MEMORY", 1), ("CKR_FUNCTION_FAILED", 4), ("0x80000123", 2)]
    {
        let rule = Rule::answer("C_SignInit", rv).key(TARGETS).times(times);
        rows.push(Row::new(name("C_SignInit, up to 4 times", rv), vec![rule], "signed 1"));
    }
    rows.push(Row::new(
        "C_OpenSession: CKR_SESSION_COUNT after a lost session",
        vec![
            once("C_SignInit", "CKR_SESSION_CLOSED"),
            Rule::answer("C_OpenSession", "CKR_SESSION_COUNT").times(2),
        ],
        "signed 1",
    ));
    rows.push(Row::new(
        "C_OpenSession: CKR_SESSION_READ_ONLY after a lost session",
        vec![
            once("C_SignInit", "CKR_SESSION_CLOSED"),
            Rule::answer("C_OpenSession", "CKR_SESSION_READ_ONLY").times(1),
        ],
        "signed 1",
    ));
    rows.push(
        Row::new(
            "C_SignInit: CKR_FUNCTION_FAILED, for as long as the client waits",
            vec![Rule::answer("C_SignInit", "CKR_FUNCTION_FAILED").key(TARGETS)],
            "signed 1",
        )
        .until(clear),
    );
    for rv in ["CKR_FUNCTION_FAILED", "CKR_DEVICE_MEMORY"] {
        let after = once("C_Sign", rv).after();
        rows.push(Row::new(name("C_Sign after the key", rv), vec![after], "unknown 1, signed 1"));
    }
    // Asking the same again cannot help, and another request can.
    rows.push(Row::new(
        "C_SignInit: CKR_ARGUMENTS_BAD",
        vec![once("C_SignInit", "CKR_ARGUMENTS_BAD")],
        "failed (token-refused) 0, signed 1",
    ));
    rows.push(Row::new(
        "C_Sign: CKR_DATA_LEN_RANGE",
        vec![once("C_Sign", "CKR_DATA_LEN_RANGE")],
        "failed (token-refused) 0, signed 1",
    ));
    rows.push(Row::new(
        "C_Sign: CKR_BUFFER_TOO_SMALL",
        vec![once("C_Sign", "CKR_BUFFER_TOO_SMALL")],
        "unknown 0, signed 1",
    ));
    // Nobody asks this key again before a person has looked.
    for rv in ["CKR_MECHANISM_INVALID", "CKR_KEY_FUNCTION_NOT_PERMITTED", "CKR_ACTION_PROHIBITED"] {
        rows.push(
            Row::new(
                name("C_SignInit", rv),
                vec![once("C_SignInit", rv)],
                "failed (token-refused) 0, failed (token-quarantined) 0, failed (token-quarantined) 0",
            )
            .exits(&[0])
            .answers(8, restart),
        );
    }
    for (what, rule) in [
        ("a bit of the signature is flipped", Rule::flip_bit("C_Sign", 77)),
        ("an older signature is given", Rule::older_signature("C_Sign")),
    ] {
        rows.push(
            Row::new(
                what,
                vec![rule.key(TARGETS).times(1)],
                "unknown 1, failed (token-quarantined) 0, failed (token-quarantined) 0",
            )
            .exits(&[0])
            .answers(8, restart),
        );
    }
}

fn processes(rows: &mut Vec<Row>) {
    for (what, rule, log) in [
        ("C_SignInit hangs", Rule::hang("C_SignInit"), "unknown 0, signed 1"),
        ("C_Sign hangs before the key", Rule::hang("C_Sign"), "unknown 0, signed 1"),
        ("C_Sign hangs after the key", Rule::hang("C_Sign").after(), "unknown 1, signed 1"),
    ] {
        rows.push(Row::new(what, vec![rule.key(TARGETS).times(1)], log).exits(&[75]));
    }
    rows.push(
        Row::new(
            "C_OpenSession hangs after a lost session",
            vec![once("C_SignInit", "CKR_SESSION_CLOSED"), Rule::hang("C_OpenSession").times(1)],
            "unknown 0, signed 1",
        )
        .exits(&[75]),
    );
    rows.push(
        Row::new(
            "C_Initialize hangs after a device error",
            vec![once("C_SignInit", "CKR_DEVICE_ERROR"), Rule::hang("C_Initialize").times(1)],
            "unknown 0, signed 1",
        )
        .exits(&[75]),
    );
    rows.push(Row::new(
        "C_Sign takes a third of its deadline",
        vec![Rule::delay("C_Sign", Duration::from_millis(DEADLINE_MS / 3)).key(TARGETS).times(1)],
        "signed 1",
    ));
    for (what, rule, log) in [
        ("the module aborts in C_SignInit", Rule::abort("C_SignInit"), "unknown 0, signed 1"),
        ("the module aborts in C_Sign before the key", Rule::abort("C_Sign"), "unknown 0, signed 1"),
        ("the module aborts in C_Sign after the key", Rule::abort("C_Sign").after(), "unknown 1, signed 1"),
    ] {
        rows.push(Row::new(what, vec![rule.key(TARGETS).times(1)], log).exits(&[134]));
    }
    for (what, function, rv, times) in [
        ("at the start C_GetTokenInfo says CKR_DEVICE_ERROR", "C_GetTokenInfo", "CKR_DEVICE_ERROR", 1),
        ("at the start C_Initialize says CKR_GENERAL_ERROR", "C_Initialize", "CKR_GENERAL_ERROR", 1),
        ("at the start C_OpenSession says CKR_SESSION_COUNT", "C_OpenSession", "CKR_SESSION_COUNT", 1),
        ("at the start C_Login says CKR_DEVICE_ERROR", "C_Login", "CKR_DEVICE_ERROR", 1),
    ] {
        rows.push(
            Row::new(what, vec![Rule::answer(function, rv).times(times)], "signed 1")
                .after(|scene| scene.keeper.kill())
                .exits(&[137, 70]),
        );
    }
}

fn removals(rows: &mut Vec<Row>) {
    rows.push(
        Row::new("the token was out and is back, before anybody asks", vec![], "signed 1").after(reinsert),
    );
    rows.push(
        Row::new("the token is out", vec![], "signed 1")
            .after(|scene| scene.keeper.faults.remove_token().unwrap())
            .until(insert),
    );
    rows.push(
        Row::new("the token is out and comes back in another slot", vec![], "signed 1")
            .after(|scene| scene.keeper.faults.remove_token().unwrap())
            .until(|scene| scene.keeper.faults.insert_token(Insertion::default().new_slot()).unwrap()),
    );
    for (what, rule, log) in [
        ("the token is pulled at C_SignInit", Rule::remove_token("C_SignInit"), "signed 1"),
        (
            "the token is pulled at C_Sign, before the key",
            Rule::remove_token("C_Sign"),
            "unknown 0, signed 1",
        ),
        (
            "the token is pulled at C_Sign, after the key",
            Rule::remove_token("C_Sign").after(),
            "unknown 1, signed 1",
        ),
    ] {
        rows.push(Row::new(what, vec![rule.key(TARGETS).times(1)], log).until(insert));
    }
    rows.push(
        Row::new("another token with this label and these keys is inserted", vec![], "signed 1")
            .after(|scene| {
                scene.keeper.faults.remove_token().unwrap();
                scene.keeper.faults.insert_token(Insertion::default().serial("another")).unwrap();
            })
            .check(|scene, before| assert_eq!(scene.keeper.logins().len(), before.logins, "no PIN for it"))
            .until(reinsert),
    );
    rows.push(
        Row::new("a token with another label is inserted", vec![], "signed 1")
            .after(|scene| {
                scene.keeper.faults.remove_token().unwrap();
                scene.keeper.faults.insert_token(Insertion::default().label("another")).unwrap();
            })
            .check(|scene, before| assert_eq!(scene.keeper.logins().len(), before.logins, "no PIN for it"))
            .until(reinsert),
    );
    rows.push(
        Row::new("the token is out when the keeper starts", vec![], "")
            .after(|scene| {
                scene.keeper.faults.remove_token().unwrap();
                scene.keeper.kill();
            })
            .exits(&[137, 70])
            .answers(9, insert),
    );
    rows.push(
        Row::new("two sessions are all that the token allows", vec![], "signed 1")
            .after(|scene| shown(scene, Token::default().max_sessions(2))),
    );
    rows.push(
        Row::new("CKA_EC_POINT is the bare point", vec![], "signed 1")
            .after(|scene| shown(scene, Token::default().raw_ec_point())),
    );
}

fn pins(rows: &mut Vec<Row>) {
    rows.push(Row::new(
        "C_SignInit: CKR_USER_NOT_LOGGED_IN",
        vec![once("C_SignInit", "CKR_USER_NOT_LOGGED_IN")],
        "signed 1",
    ));
    for (what, function) in
        [("the login is lost at C_SignInit", "C_SignInit"), ("the login is lost at C_Sign", "C_Sign")]
    {
        rows.push(Row::new(what, vec![Rule::drop_login(function).key(TARGETS).times(1)], "signed 1").check(
            |scene, before| assert_eq!(scene.keeper.logins()[before.logins..], [0], "one login more"),
        ));
    }
    rows.push(
        Row::new(
            "C_SignInit: CKR_USER_NOT_LOGGED_IN, also after a login",
            vec![Rule::answer("C_SignInit", "CKR_USER_NOT_LOGGED_IN").key(TARGETS)],
            "failed (token-login) 0, failed (token-quarantined) 0, failed (token-quarantined) 0",
        )
        .exits(&[0])
        .answers(8, restart),
    );
    rows.push(
        Row::new(
            "the login is lost, and the PIN was wrong once since",
            vec![Rule::drop_login("C_Sign").key(TARGETS).times(1)],
            "signed 1",
        )
        .after(|scene| {
            scene.keeper.faults.set_token(Token::default().pin_flags(&[PinFlag::CountLow])).unwrap();
        }),
    );
    rows.push(
        Row::new(
            "the login is lost, and one PIN try is left",
            vec![Rule::drop_login("C_Sign").key(TARGETS).times(1)],
            "failed (token-pin) 0, signed 1",
        )
        .after(|scene| {
            let last = Token::default().pin_flags(&[PinFlag::CountLow, PinFlag::FinalTry]);
            scene.keeper.faults.set_token(last).unwrap();
        })
        .check(|scene, before| assert_eq!(scene.keeper.logins().len(), before.logins, "the last try is kept"))
        .exits(&[78])
        .until(unblocked),
    );
    for (what, rv) in [
        ("the login is lost, and C_Login says CKR_PIN_LOCKED", "CKR_PIN_LOCKED"),
        ("the login is lost, and C_Login says CKR_PIN_EXPIRED", "CKR_PIN_EXPIRED"),
    ] {
        let rules =
            vec![Rule::drop_login("C_Sign").key(TARGETS).times(1), Rule::answer("C_Login", rv).times(1)];
        rows.push(Row::new(what, rules, "failed (token-pin) 0, signed 1").exits(&[78]).until(restart));
    }
    rows.push(
        Row::new(
            "C_SignInit: CKR_PIN_EXPIRED",
            vec![once("C_SignInit", "CKR_PIN_EXPIRED")],
            "failed (token-pin) 0, signed 1",
        )
        .exits(&[78])
        .until(restart),
    );
    rows.push(
        Row::new("the token comes back with another PIN", vec![], "failed (token-pin) 0, signed 1")
            .after(|scene| {
                scene.keeper.faults.set_token(Token::default().pin_tries(3)).unwrap();
                scene.keeper.faults.set_pin_tries_left(3).unwrap();
                scene.change_pin();
                reinsert(scene);
            })
            .check(|scene, before| {
                assert_eq!(scene.keeper.logins()[before.logins..], [PIN_INCORRECT], "tried once");
                assert_eq!(scene.keeper.faults.pin_tries_left().unwrap(), Some(2));
            })
            .exits(&[78])
            .until(|scene| {
                fs::write(scene.keeper.token.pin_file(), &scene.pin).unwrap();
                unblocked(scene);
            }),
    );
    rows.push(
        Row::new("the keeper starts with a wrong PIN", vec![], "")
            .after(|scene| {
                scene.keeper.faults.set_token(Token::default().pin_tries(3)).unwrap();
                scene.keeper.faults.set_pin_tries_left(3).unwrap();
                fs::write(scene.keeper.token.pin_file(), "not the pin").unwrap();
                start_in_vain(scene);
            })
            .check(|scene, before| {
                assert_eq!(scene.keeper.logins()[before.logins..], [PIN_INCORRECT], "tried once");
                assert_eq!(scene.keeper.faults.pin_tries_left().unwrap(), Some(2));
            })
            .exits(&[0, 78])
            .answers(9, |scene| {
                fs::write(scene.keeper.token.pin_file(), &scene.pin).unwrap();
                unblocked(scene);
            }),
    );
    for (what, flags) in [
        ("the keeper starts and one PIN try is left", &[PinFlag::CountLow, PinFlag::FinalTry][..]),
        ("the keeper starts and the PIN is locked", &[PinFlag::Locked][..]),
    ] {
        let token = if flags.len() == 2 { last_try } else { locked };
        rows.push(
            Row::new(what, vec![], "")
                .after(token)
                .check(|scene, before| assert_eq!(scene.keeper.logins().len(), before.logins, "not tried"))
                .exits(&[0, 78])
                .answers(9, unblocked),
        );
    }
    rows.push(
        Row::new("the key wants its PIN for each signature", vec![], "signed 1")
            .after(|scene| shown(scene, Token::default().always_authenticate_for(TARGETS))),
    );
    rows.push(
        Row::new(
            "the key wants its PIN for each signature, and refuses it",
            // The first login of the row is the application's.
            vec![Rule::answer("C_Login", "CKR_PIN_INCORRECT").nth(2)],
            "failed (token-pin) 0, signed 1",
        )
        .after(|scene| shown(scene, Token::default().always_authenticate_for(TARGETS)))
        .exits(&[78])
        .until(restart),
    );
}

fn last_try(scene: &mut Scene) {
    let token = Token::default().pin_flags(&[PinFlag::CountLow, PinFlag::FinalTry]);
    scene.keeper.faults.set_token(token).unwrap();
    start_in_vain(scene);
}

fn locked(scene: &mut Scene) {
    scene.keeper.faults.set_token(Token::default().pin_flags(&[PinFlag::Locked])).unwrap();
    start_in_vain(scene);
}

/// The security officer has given all tries back, and the operator starts the keeper.
fn unblocked(scene: &mut Scene) {
    scene.keeper.faults.set_token(Token::default()).unwrap();
    restart(scene);
}

fn log_keys(rows: &mut Vec<Row>) {
    rows.push(Row::new("the log key: C_Sign says CKR_DEVICE_ERROR", vec![], "signed 1").after(|scene| {
        scene.service.faults.add(Rule::answer("C_Sign", "CKR_DEVICE_ERROR").key(&[1]).times(2)).unwrap();
    }));
    rows.push(Row::new("the log key: C_SignInit says CKR_KEY_HANDLE_INVALID", vec![], "signed 1").after(
        |scene| {
            let rule = Rule::answer("C_SignInit", "CKR_KEY_HANDLE_INVALID").key(&[1]).times(1);
            scene.service.faults.add(rule).unwrap();
        },
    ));
    rows.push(
        Row::new("the log key's token is out", vec![], "signed 1")
            .after(|scene| scene.service.faults.remove_token().unwrap())
            .until(|scene| scene.service.faults.insert_token(Insertion::default()).unwrap()),
    );
}

fn name(function: &str, rv: &str) -> &'static str {
    format!("{function}: {rv}").leak()
}

impl Scene {
    fn set() -> Self {
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
    fn restore(&mut self) {
        self.service.faults.clear().unwrap();
        fs::write(self.keeper.token.pin_file(), &self.pin).unwrap();
        insert(self);
        unblocked(self);
        self.service.wait_until_ready();
    }

    fn change_pin(&mut self) {
        let new = format!("{}9", self.pin.trim());
        let mut command = Command::new("pkcs11-tool");
        command.arg("--module").arg(self.keeper.token.module()).envs(self.keeper.token.env());
        command.args(["--token-label", self.keeper.token.label(), "--login", "--pin", self.pin.trim()]);
        let changed = command.args(["--change-pin", "--new-pin", &new]).output().unwrap();
        assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
        self.pin = new;
    }

    /// Plays a row; panics unless it goes as promised. What the log says is looked at when all rows are played.
    fn play(&mut self, number: usize, row: &Row) {
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
    fn told(&self) -> BTreeMap<Tag, Vec<String>> {
        let size = self.service.committed();
        let history = wait_for("the published log to have caught up", || {
            let history = self.service.history();
            (history.leaves().len() as u64 >= size).then_some(history)
        });
        let made = counted(self.keeper.signed());
        let mut told: BTreeMap<Tag, Vec<String>> = BTreeMap::new();
        for Told { intent, end, code, .. } in history.intents() {
            let signatures = made.get(&intent.payload).copied().unwrap_or(0);
            let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
            let end = match end {
                End::Open => "open",
                End::Signed => "signed",
                End::Without(OutcomeKind::Unknown) => "unknown",
                End::Without(OutcomeKind::Failed) => "failed",
                End::Without(OutcomeKind::Void) => "void",
            };
            if let Action::Targets { changes, .. } = intent.action {
                for change in changes {
                    told.entry(change.tag).or_default().push(format!("{end}{code} {signatures}"));
                }
            }
        }
        told
    }
}

fn counted(payloads: Vec<Sha256>) -> BTreeMap<Sha256, usize> {
    let mut counts = BTreeMap::new();
    payloads.into_iter().for_each(|payload| *counts.entry(payload).or_insert(0) += 1);
    counts
}

fn line(number: usize, row: &Row) -> String {
    let answer = match row.answer {
        0 => "0 published",
        7 => "7 waiting, then published",
        8 => "8 failed",
        _ => "9 unavailable",
    };
    let exits = row.exits.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let next = match (row.exits, row.answer) {
        ([.., 78] | [0], _) => "signed, once an operator has mended it and started the keeper",
        (_, 0) => "signed",
        _ => "signed, once the fault is over",
    };
    let log = if row.log.is_empty() { "none" } else { row.log };
    format!("| {number} | {} | {answer} | {log} | {exits} | {next} |", row.what)
}

#[test]
fn whatever_a_token_does_the_log_says_how_it_ended_and_the_next_request_is_signed() {
    if !have("docker-registry") || !have("pkcs11-tool") {
        return;
    }
    let mut rows = Vec::new();
    for part in [signatures, processes, removals, pins, log_keys] {
        part(&mut rows);
    }
    assert!(rows.len() >= 40, "{}", rows.len());
    let next = AtomicUsize::new(0);
    let played: Vec<Played> = thread::scope(|scope| {
        let scenes: Vec<_> = (0..SCENES).map(|_| scope.spawn(|| play_on(&rows, &next))).collect();
        scenes.into_iter().flat_map(|scene| scene.join().unwrap()).collect()
    });
    let played: BTreeMap<usize, Played> = played.into_iter().map(|p| (p.row, p)).collect();
    let mut table =
        "| row | what happens | answer | intents, and the signatures of each | keeper's exits | next request |\n\
         |---|---|---|---|---|---|\n"
            .to_owned();
    // Rows that break their promise are named all together.
    let mut broken = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let (played, number) = (&played[&number], number + 1);
        if !played.as_promised {
            broken.push(format!("row {number}: {}: see above", row.what));
        } else if played.log != row.log {
            let log = format!("the log says {:?}, promised is {:?}", played.log, row.log);
            broken.push(format!("row {number}: {}: {log}", row.what));
        }
        writeln!(table, "{}", line(number, row)).unwrap();
    }
    print!("{table}");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    if let Ok(path) = std::env::var("CHANCERY_FAULT_TABLE") {
        into_document(&path, &table);
    }
}

/// A row that was played.
struct Played {
    row: usize,
    as_promised: bool,
    /// What the log says at the end.
    log: String,
}

/// Plays the next rows that nobody has played, on a service of its own.
fn play_on(rows: &[Row], next: &AtomicUsize) -> Vec<Played> {
    let mut scene = Scene::set();
    let mut played = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(row) = rows.get(number) else { break };
        let as_promised = catch_unwind(AssertUnwindSafe(|| scene.play(number, row))).is_ok();
        if !as_promised {
            scene.restore();
        }
        played.push(Played { row: number, as_promised, log: String::new() });
    }
    let told = scene.told();
    for row in &mut played {
        row.log = told.get(&tag(row.row)).map(|words| words.join(", ")).unwrap_or_default();
    }
    scene.service.verify_log();
    played
}

fn tag(row: usize) -> Tag {
    format!("row{}", row + 1).parse().unwrap()
}

/// The seed of this is fixed: what it finds can be looked at again.
#[test]
fn under_random_faults_the_log_accounts_for_every_signature_of_the_token() {
    if !have("docker-registry") {
        return;
    }
    let figures = random_faults(300, 1, 4);
    println!("{figures}");
    assert!(figures.exceptions.is_empty(), "{figures}");
    assert!(figures.unknown_signed > 0 && figures.completions > 200, "{figures}");
}

#[test]
fn a_dead_keeper_blocks_its_own_repositories_alone_and_readyz_names_it() {
    if !have("docker-registry") {
        return;
    }
    let mut service = Instance::start();
    let wanted = Wanted { name: "hsm", prefix: "demo/hsm/", call_deadline_ms: DEADLINE_MS };
    let mut keeper = OwnKeeper::join(&mut service, wanted);
    let digest = service.registry.push("demo/app", "v1", "x");
    assert_eq!(service.registry.push("demo/hsm/app", "v1", "x"), digest);
    for repository in ["demo/app", "demo/hsm/app"] {
        let signed = service.sign(repository, &digest, "both");
        assert_eq!(signed.code, 0, "{signed:?}");
    }
    let before = keeper.signed().len();
    assert_eq!(before, 5, "root certificate, root, targets, snapshot, timestamp of its one repository");
    keeper.stop();
    let said = wait_for("/readyz to name the keeper", || {
        let (status, body) = service.http("", "/readyz", &[]);
        (status == 503).then_some(body)
    });
    assert!(said.contains("signing keeper hsm") && !said.contains("keeper signing"), "{said}");
    for tag in ["one", "two", "three"] {
        let signed = service.sign("demo/app", &digest, tag);
        assert_eq!(signed.code, 0, "the other keeper's repositories go on: {signed:?}");
    }
    let (blocked, _) = service.sign_within("demo/hsm/app", &digest, "blocked", "2s");
    assert_eq!(blocked.code, 9, "{blocked:?}");
    assert!(blocked.stderr.contains("signing keeper hsm"), "{blocked:?}");
    assert_eq!(keeper.signed().len(), before);
    keeper.start();
    service.wait_until_ready();
    let signed = service.sign("demo/hsm/app", &digest, "blocked");
    assert_eq!(signed.code, 0, "{signed:?}");
    assert_eq!(keeper.signed().len(), before + 3);
    service.verify_log();
}

/// Puts the table between its two marks in a document.
fn into_document(path: &str, table: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path);
    let text = fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once("<!-- faults -->\n").expect("a mark where the table begins");
    let (_, tail) = rest.split_once("<!-- end of faults -->").expect("a mark where it ends");
    fs::write(path, format!("{head}<!-- faults -->\n{table}<!-- end of faults -->{tail}")).unwrap();
}
