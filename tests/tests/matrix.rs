//! The matrix: with a token of every module, keys come about, the keeper signs with them, the token goes and comes back,
//! and the keeper signs again; the token's own journal and the log agree on every signature.
//!
//! Each test leaves its row in `target/matrix`; `tests/run.sh` prints the table.

use hsm_sim::{Module, Provisioned};
use record::{OutcomeKind, Sha256};
use std::{collections::HashMap, fs, path::Path, time::Instant};
use tests::{End, Instance, ModuleKeeper, Output, have, wait_for};

/// What a row says besides the module.
#[derive(Default)]
struct Row {
    keys: &'static str,
    removed: String,
    unplugged: String,
    account: Account,
    exits: String,
    result: String,
}

/// Signatures in the token's journal, by what the log says of them, and intents that have none and may have had one.
#[derive(Default)]
struct Account {
    signed: usize,
    unknown: usize,
    feared: usize,
}

impl Row {
    fn keep(&self, module: Module) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/matrix");
        fs::create_dir_all(&folder).unwrap();
        let version = module.version().unwrap_or_else(|_| "-".to_owned());
        let Self { keys, removed, unplugged, account, exits, result } = self;
        let Account { signed, unknown, feared } = account;
        let [keys, removed, unplugged, exits] =
            [keys, removed.as_str(), unplugged.as_str(), exits.as_str()].map(or_dash);
        let line = format!(
            "| {} | {version} | {keys} | {removed} | {unplugged} | {signed} | {unknown} | {feared} | {exits} | {result} |\n",
            module.name()
        );
        let number = Module::ALL.iter().position(|m| *m == module).unwrap();
        fs::write(folder.join(format!("{number}")), line).unwrap();
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// A service with the keeper.
struct Scene {
    service: Instance,
    keeper: ModuleKeeper,
    made: usize,
}

impl Scene {
    /// Every key signs: the first signature in a repository wants the root key twice, and each role's once.
    fn sign_first(&mut self, repository: &str) {
        self.sign(repository, "v1", 1 + self.keeper.keys.len());
    }

    /// The roles' keys sign, which on a card are those that want the PIN once. A token that has but a root key makes
    /// another first signature.
    fn sign_next(&mut self, tag: &str) {
        match self.keeper.keys.len() {
            1 => self.sign_first(tag),
            keys => self.sign("first", tag, keys - 1),
        }
    }

    fn sign(&mut self, repository: &str, tag: &str, signatures: usize) {
        let name = ModuleKeeper::repository(repository);
        let digest = self.service.registry.push(&name, tag, tag);
        let signed = self.service.sign(&name, &digest, tag);
        assert_eq!(signed.code, 0, "{signed:?}\n{}", self.keeper.said());
        self.count(signatures);
    }

    /// A first signature when the token goes: the request waits, and is published when the token is back; the time that
    /// this takes. `made` signatures of it nobody gets.
    fn sign_across(
        &mut self,
        repository: &str,
        made: usize,
        away: impl Fn(&Provisioned),
        back: impl Fn(&Provisioned),
    ) -> String {
        let name = ModuleKeeper::repository(repository);
        let digest = self.service.registry.push(&name, "v1", repository);
        away(&self.keeper.token);
        let (waiting, id) = self.service.sign_within(&name, &digest, "v1", "2s");
        assert_eq!(waiting.code, 7, "{waiting:?}\n{}", self.keeper.said());
        assert_eq!(self.keeper.signed().len(), self.made + made, "{}", self.keeper.said());
        back(&self.keeper.token);
        let since = Instant::now();
        let id = id.expect("a request that waits");
        wait_for("the request to be published", || (self.service.state(&id) == "published").then_some(()));
        let took = since.elapsed();
        self.count(made + 1 + self.keeper.keys.len());
        format!("{:.1} s", took.as_secs_f64())
    }

    fn count(&mut self, signatures: usize) {
        self.made += signatures;
        assert_eq!(self.keeper.signed().len(), self.made, "{}", self.keeper.said());
    }

    /// What the log says of the keeper's keys, each intent compared with the token's own journal.
    fn account(&self) -> Account {
        let size = self.service.committed();
        let history = wait_for("the published log to have caught up", || {
            let history = self.service.history();
            (history.leaves().len() as u64 >= size).then_some(history)
        });
        let mut made: HashMap<Sha256, usize> = HashMap::new();
        self.keeper.signed().into_iter().for_each(|payload| *made.entry(payload).or_default() += 1);
        let mut account = Account::default();
        let keys: Vec<_> = self.keeper.keys.iter().map(|(_, spki)| spki.id()).collect();
        for told in history.intents().into_iter().filter(|told| keys.contains(&told.intent.key)) {
            let count = made.remove(&told.intent.payload).unwrap_or(0);
            match (told.end, count) {
                (End::Signed, 1) => account.signed += 1,
                (End::Without(OutcomeKind::Unknown), 1) => account.unknown += 1,
                (End::Without(OutcomeKind::Unknown), 0) => account.feared += 1,
                (End::Without(_), 0) => {}
                _ => panic!("{count} signatures: {told:?}"),
            }
        }
        assert!(made.is_empty(), "signatures that no intent announced: {made:?}");
        self.service.verify_log();
        account
    }
}

/// Whether the module is here; a required one that is not fails the test.
fn here(module: Module) -> bool {
    // Stands until the test has passed.
    Row { result: "FAILED".to_owned(), ..Row::default() }.keep(module);
    let Some(why) = module.missing() else { return true };
    assert!(!module.required(), "required: {why}");
    Row { result: format!("SKIPPED: {why}"), ..Row::default() }.keep(module);
    hsm_sim::skip(why);
    false
}

fn play(module: Module) {
    if !have("docker-registry") || !here(module) {
        return;
    }
    let mut service = Instance::start();
    let keeper = ModuleKeeper::join(&mut service, module).unwrap();
    let doctor = keeper.doctor();
    assert_eq!(doctor.code, 0, "{doctor:?}");
    let doctor = keeper.doctor_of_all(&service);
    assert_eq!(doctor.code, 0, "{doctor:?}");
    assert!(doctor.stdout.contains("keeper.toml can be used"), "{doctor:?}");
    let mut scene = Scene { service, keeper, made: 0 };
    scene.sign_first("first");
    let mut row = Row { keys: ModuleKeeper::origin(module), ..Row::default() };
    let token = &scene.keeper.token;
    let (fails_on_demand, unplugs) = (token.faults().is_some(), token.can_be_unplugged());
    if fails_on_demand {
        row.removed = scene.sign_across("while-removed", 0, |t| t.remove().unwrap(), |t| t.insert().unwrap());
        scene.keeper.token.remove().unwrap();
        scene.keeper.token.insert().unwrap();
        scene.sign_next("removed");
    }
    if unplugs {
        row.unplugged =
            scene.sign_across("while-unplugged", 0, |t| t.unplug().unwrap(), |t| t.plug().unwrap());
        scene.keeper.token.unplug().unwrap();
        scene.keeper.token.plug().unwrap();
        scene.sign_next("unplugged");
    }
    scene.sign_across("in-the-act", 1, |t| t.remove_in_the_act().unwrap(), |t| t.insert().unwrap());
    for (number, mut other) in scene.keeper.others_use_the_card().into_iter().flatten().enumerate() {
        let said = Output::of(&mut other);
        assert_eq!(said.code, 0, "{said:?}");
        scene.sign_next(&format!("used-by-another-{number}"));
    }
    row.account = scene.account();
    row.exits = scene.keeper.exits().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let said = scene.keeper.said();
    assert!(!said.contains("Failed to close session"), "what the libraries say: {said}");
    row.result = "passed".to_owned();
    row.keep(module);
}

#[test]
fn softhsm_signs_goes_and_signs_again() {
    play(Module::SoftHsm);
}

#[test]
fn kryoptic_signs_goes_and_signs_again() {
    play(Module::Kryoptic);
}

#[test]
fn tpm2_pkcs11_signs_goes_and_signs_again() {
    play(Module::Tpm2);
}

#[test]
fn ykcs11_signs_goes_and_signs_again() {
    play(Module::Ykcs11);
}

#[test]
fn opensc_signs_goes_and_signs_again() {
    play(Module::OpenSc);
}

#[test]
fn a_card_without_a_module_signs_goes_and_signs_again() {
    play(Module::Piv);
}

/// It says of keys that it has just generated that they are not local. So does a module that holds imported ones, and the
/// keeper cannot tell these two apart.
#[test]
fn nss_softokn_is_refused_since_it_does_not_vouch_for_its_keys() {
    let module = Module::NssSoftokn;
    if !have("docker-registry") || !here(module) {
        return;
    }
    let mut service = Instance::start();
    let refused = ModuleKeeper::join(&mut service, module).err().expect("a refusal");
    assert!(refused.contains("CKA_LOCAL is false and must be true"), "{refused}");
    let result = "refused, as it must: CKA_LOCAL is false".to_owned();
    Row { keys: ModuleKeeper::origin(module), result, ..Row::default() }.keep(module);
}
