//! The forwarder under threads, processes, a kill and unusual callers. The tests that sign are children of the others:
//! SoftHSM and the forwarder read their environment once a process.

use crate::{
    bench::{self, Bench, SMALL_FILES_ONLY, hex},
    raw::Raw,
};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::Mechanism,
    object::{Attribute, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};
use cryptoki_sys::{
    CKR_BUFFER_TOO_SMALL, CKR_FUNCTION_NOT_SUPPORTED, CKR_GENERAL_ERROR, CKR_OK,
    CKR_OPERATION_NOT_INITIALIZED,
};
use hsm_sim::Entry;
use p256::{
    ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier},
    pkcs8::DecodePublicKey,
};
use std::{
    collections::HashSet,
    env, fs,
    io::{self, BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::Barrier,
    thread,
};

const THREADS: u8 = 4;
const SIGNATURES_A_THREAD: u8 = 25;
/// What a child writes when its sessions are open; it goes on when its input ends.
const LOGGED_IN: &str = "logged in";
/// What a child writes before each signature that it received.
const RECEIVED: &str = "received ";

#[test]
fn two_processes_with_four_threads_each_append_without_tearing() {
    let Some(bench) = with_key() else { return };
    // One login after the other: SoftHSM rewrites the token's file at each, and a reader meanwhile finds no token.
    let mut children = [1u8, 2].map(|number| {
        let mut child = child(&bench, "processes::child_signs_on_four_threads", number);
        wait_until_logged_in(&mut child);
        child
    });
    // Both sign from the moment that their input ends.
    for child in &mut children {
        drop(child.stdin.take());
    }
    for child in children {
        bench::assert_success(&child.wait_with_output().unwrap());
    }
    let entries = bench.entries();
    let key = VerifyingKey::from_public_key_der(&fs::read(bench.public_key("a1")).unwrap()).unwrap();
    let mut inputs = HashSet::new();
    for entry in &entries {
        let Entry::Signature { input: Some(input), signature, .. } = entry else { continue };
        key.verify_prehash(input, &Signature::from_slice(signature).unwrap()).unwrap();
        assert!(inputs.insert(input.clone()), "journaled twice: {input:?}");
    }
    assert_eq!(inputs.len(), 2 * usize::from(THREADS) * usize::from(SIGNATURES_A_THREAD));
    assert_eq!(entries.len(), inputs.len() + 2, "and one login a process");
}

#[test]
fn a_killed_process_had_no_signature_that_the_journal_lacks() {
    let Some(bench) = with_key() else { return };
    let mut child = child(&bench, "processes::child_signs_until_it_is_killed", 1);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let signature = |line: String| line.split_once(RECEIVED).map(|(_, hex)| hex.to_owned());
    let mut received: Vec<String> = lines.by_ref().filter_map(signature).take(40).collect();
    child.kill().unwrap();
    received.extend(lines.filter_map(signature));
    child.wait().unwrap();

    let journaled: HashSet<String> = bench.entries().iter().filter_map(Entry::signature).map(hex).collect();
    assert!(received.len() >= 40);
    // The pipe may end within the last line.
    let whole = received.iter().filter(|hex| hex.len() == 128);
    for signature in whole {
        assert!(journaled.contains(signature), "{signature}");
    }
    let beyond = journaled.len().saturating_sub(received.len());
    assert!(beyond <= 1, "{beyond} signatures journaled that nobody received");
}

#[test]
fn only_the_call_that_returns_a_signature_writes_a_line() {
    let Some(bench) = with_key() else { return };
    let ended = child(&bench, "processes::child_calls_as_c_does", 1).wait_with_output().unwrap();
    bench::assert_success(&ended);
    let entries = bench.entries();
    let inputs: Vec<_> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Signature { input, .. } => input.clone(),
            Entry::Login { .. } => None,
        })
        .collect();
    assert_eq!(inputs, [vec![1; 32], vec![2; 32]]);
}

#[test]
fn a_signature_that_the_journal_lacks_is_wiped_and_the_key_is_not_used_again() {
    if let Some(why) = hsm_sim::missing(&["prlimit"]) {
        return hsm_sim::skip(why);
    }
    let Some(bench) = with_key() else { return };
    let ended = child_under(&SMALL_FILES_ONLY, &bench, "processes::child_gets_no_signature", 1)
        .wait_with_output()
        .unwrap();
    bench::assert_success(&ended);
}

#[test]
#[ignore = "a child of another test"]
fn child_signs_on_four_threads() {
    let here = Here::logged_in();
    let start = Barrier::new(usize::from(THREADS) + 1);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (process, (session, key)) = (here.number, here.session());
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for n in 0..SIGNATURES_A_THREAD {
                    let digest = [[process, thread, n, 0]; 8].concat();
                    session.sign(&Mechanism::Ecdsa, key, &digest).unwrap();
                }
            });
        }
        here.go_on_when_told();
        start.wait();
    });
}

#[test]
#[ignore = "a child of another test"]
fn child_signs_until_it_is_killed() {
    let here = Here::logged_in();
    let (session, key) = here.session();
    for n in 0..u64::MAX {
        let digest = [n.to_be_bytes(); 4].concat();
        println!("{RECEIVED}{}", hex(&session.sign(&Mechanism::Ecdsa, key, &digest).unwrap()));
    }
}

#[test]
#[ignore = "a child of another test"]
fn child_calls_as_c_does() {
    let here = Here::logged_in();
    let (session, key) = here.session();
    let raw = Raw::load(session.handle(), key.handle());

    assert_eq!(raw.sign(&[9; 32], &mut [0; 64]), CKR_OPERATION_NOT_INITIALIZED);

    assert_eq!(raw.sign_init(), CKR_OK);
    assert_eq!(raw.length(&[1; 32]), 64);
    assert_eq!(raw.sign(&[1; 32], &mut [0; 63]), CKR_BUFFER_TOO_SMALL);
    assert_eq!(raw.sign(&[1; 32], &mut [0; 64]), CKR_OK);
    assert_eq!(raw.sign(&[1; 32], &mut [0; 64]), CKR_OPERATION_NOT_INITIALIZED);

    assert_eq!(raw.sign_init(), CKR_OK);
    assert_eq!(raw.sign_in_place(&mut [2; 64], 32), CKR_OK);

    assert_eq!(raw.sign_recover_init(), CKR_FUNCTION_NOT_SUPPORTED);
}

#[test]
#[ignore = "a child of another test"]
fn child_gets_no_signature() {
    let here = Here::logged_in();
    let (session, key) = here.session();
    let raw = Raw::load(session.handle(), key.handle());

    let mut made = [0xff; 64];
    assert_eq!(raw.sign_init(), CKR_OK);
    assert_eq!(raw.sign(&[1; 32], &mut made), CKR_GENERAL_ERROR);
    assert_eq!(made, [0; 64], "wiped");

    let mut untouched = [0xff; 64];
    assert_eq!(raw.sign_init(), CKR_OK);
    assert_eq!(raw.sign(&[1; 32], &mut untouched), CKR_GENERAL_ERROR);
    assert_eq!(untouched, [0xff; 64], "the real module was not called");
}

fn with_key() -> Option<Bench> {
    let bench = Bench::set_up(&[])?;
    bench.key_pair("a1", "EC:prime256v1");
    Some(bench)
}

/// This test binary again, running one of the children.
pub(crate) fn child(bench: &Bench, test: &str, number: u8) -> Child {
    child_under(&[], bench, test, number)
}

/// The same, started by another program.
fn child_under(program: &[&str], bench: &Bench, test: &str, number: u8) -> Child {
    let executable = env::current_exe().unwrap();
    let words =
        [program, &[executable.to_str().unwrap(), "--ignored", "--nocapture", "--exact", test]].concat();
    let [first, rest @ ..] = words.as_slice() else { panic!("a program has a name") };
    Command::new(first)
        .args(rest)
        .envs(bench.journaled.env())
        .env("CHILD_MODULE", bench.journaled.module())
        .env("CHILD_PIN", bench.pin())
        .env("CHILD_NUMBER", number.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads byte by byte, so that what the child writes later stays in its pipe.
pub(crate) fn wait_until_logged_in(child: &mut Child) {
    let mut said = String::new();
    let mut byte = [0];
    while child.stdout.as_mut().unwrap().read(&mut byte).unwrap() == 1 {
        said.push(byte[0].into());
        if said.ends_with(LOGGED_IN) {
            return;
        }
    }
    panic!("the child ended before it was logged in: {said}");
}

/// The child's view: the module that its parent named, logged in.
pub(crate) struct Here {
    number: u8,
    pub(crate) module: Module,
    _login: Session,
}

impl Here {
    pub(crate) fn logged_in() -> Self {
        let pkcs11 = Pkcs11::new(env::var("CHILD_MODULE").unwrap()).unwrap();
        pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
        let slots = pkcs11.get_slots_with_initialized_token().unwrap();
        let [slot] = slots.as_slice() else { panic!("{slots:?}") };
        let login = pkcs11.open_ro_session(*slot).unwrap();
        login.login(UserType::User, Some(&AuthPin::from(env::var("CHILD_PIN").unwrap()))).unwrap();
        let number = env::var("CHILD_NUMBER").unwrap().parse().unwrap();
        Self { number, module: Module { slot: *slot, pkcs11 }, _login: login }
    }

    fn session(&self) -> (Session, ObjectHandle) {
        self.module.session()
    }

    /// Says that it is ready, and waits until its input ends.
    pub(crate) fn go_on_when_told(&self) {
        println!("{LOGGED_IN}");
        io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
    }
}

/// What threads share.
pub(crate) struct Module {
    pkcs11: Pkcs11,
    slot: Slot,
}

impl Module {
    /// A session with the key a1, after a login.
    pub(crate) fn session(&self) -> (Session, ObjectHandle) {
        let session = self.pkcs11.open_ro_session(self.slot).unwrap();
        let key = find_key(&session).unwrap();
        (session, key)
    }

    /// In a new session, with a login of its own if need be. Nothing if anything failed.
    pub(crate) fn try_to_sign(&self, input: &[u8]) -> Option<Vec<u8>> {
        let session = self.pkcs11.open_ro_session(self.slot).ok()?;
        // Another thread may have been first.
        let _ = session.login(UserType::User, None);
        let key = find_key(&session)?;
        session.sign(&Mechanism::Ecdsa, key, input).ok()
    }
}

fn find_key(session: &Session) -> Option<ObjectHandle> {
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(vec![0xa1])];
    session.find_objects(&template).ok()?.first().copied()
}
