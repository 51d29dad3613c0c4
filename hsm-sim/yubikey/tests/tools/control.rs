//! The card as a program of its own, its control socket, and several cards beside each other.

use crate::bench::{Bench, said};
use hsm_sim_yubikey::{Action, Pcscd, Profile, SOCKET_VARIABLE, TouchMode, VirtualYubiKey, send};
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hsm-sim-yubikey");
const PATIENCE: Duration = Duration::from_secs(20);

/// The program, playing a card until this is dropped.
struct Playing(Child);

impl Playing {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("is plugged in"), "{line}");
        Self(child)
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn play(dir: &tempfile::TempDir, pcscd: &Pcscd, touch: &str) -> Playing {
    let mut command = Command::new(PROGRAM);
    command.current_dir(dir).args(["run", "--state", "state", "--serial", "77", "--control", "ctl"]);
    command.args(["--journal", "journal", "--touch", touch, "--touch-timeout-ms", "300"]);
    Playing::start(command.args(["--vpcd", &pcscd.vpcd(0).unwrap().to_string()]))
}

fn ctl(dir: &tempfile::TempDir, arguments: &[&str]) -> std::process::Output {
    Command::new(PROGRAM).current_dir(dir).args(["ctl", "ctl"]).args(arguments).output().unwrap()
}

#[test]
fn a_card_that_was_killed_comes_back_with_its_keys_and_counters() {
    let Some(bench) = Bench::set_up(&["yubico-piv-tool"], Profile::V5_4_3) else { return };
    bench.card.remove().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = bench.tool("yubico-piv-tool");
        command.args(["-rYubico"]).args(arguments).output().unwrap()
    };
    let start = || {
        let mut command = Command::new(PROGRAM);
        command.current_dir(&dir).args(["run", "--state", "state", "--serial", "77", "--control", "ctl"]);
        command.args(["--profile", "5.4.3", "--vpcd", &bench.pcscd.vpcd(0).unwrap().to_string()]);
        Playing::start(&mut command)
    };
    let playing = start();
    assert!(run(&["-agenerate", "-s9a", "-AECCP256"]).status.success());
    assert!(!run(&["-averify-pin", "-P000000"]).status.success());
    drop(playing);
    let _playing = start();
    let text = said(&run(&["-astatus"]));
    assert!(text.contains("PIN tries left:\t2"), "{text}");
    assert!(run(&["-aattest", "-s9a"]).status.success());
}

#[test]
fn ctl_turns_a_card_and_shows_how_it_stands() {
    if let Some(why) = Pcscd::missing() {
        hsm_sim::skip(&why);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pcscd = Pcscd::start(dir.path(), 1).unwrap();
    let _playing = play(&dir, &pcscd, "manual");
    let text = said(&ctl(&dir, &["dump"]));
    for expected in ["\"serial\": 77", "\"inserted\": true", "\"touch\": \"manual\"", "\"tries\": 3"] {
        assert!(text.contains(expected), "{text}");
    }
    assert!(said(&ctl(&dir, &["touch-policy", "delay:20"])).contains("delay:20"));
    assert!(said(&ctl(&dir, &["remove"])).contains("\"inserted\": false"));
    assert!(said(&ctl(&dir, &["insert"])).contains("\"visible\": true"));
    assert!(said(&ctl(&dir, &["power-cycle"])).contains("\"visible\": true"));
    for action in [&["slow-down", "1"][..], &["next-sw", "6F00", "--ins", "87"], &["remove-during-next-op"]] {
        assert!(ctl(&dir, action).status.success(), "{action:?}");
    }
    for (wait, why) in [("touch", "a wait for a touch did not happen"), ("await-touch", "within 30ms")] {
        let output = ctl(&dir, &[wait, "--wait-ms", "30"]);
        assert!(!output.status.success() && said(&output).contains(why), "{}", said(&output));
    }
}

#[test]
fn a_strange_line_is_refused_and_the_next_one_is_heard() {
    use std::{io::Write, os::unix::net::UnixStream};
    let Some(bench) = Bench::with(&[], |card| card.touch(TouchMode::Manual)) else { return };
    let socket = bench.file("other-ctl");
    let card = VirtualYubiKey::builder().control(&socket).start().unwrap();
    let mut stream = UnixStream::connect(&socket).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    for (line, expected) in
        [("{}", "\"ok\":false"), ("{\"do\":\"dance\"}", "no action"), ("{\"do\":\"dump\"}", "\"ok\":true")]
    {
        writeln!(stream, "{line}").unwrap();
        let answer = answers.next().unwrap().unwrap();
        assert!(answer.contains(expected), "{answer}");
    }
    assert_eq!(send(&socket, &Action::Dump).unwrap(), card.dump());
}

#[test]
fn several_cards_are_several_readers() {
    if let Some(why) = Pcscd::missing() {
        hsm_sim::skip(&why);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pcscd = Pcscd::start(dir.path(), 3).unwrap();
    let cards: Vec<VirtualYubiKey> = (0..3)
        .map(|slot| {
            let card = VirtualYubiKey::builder().serial(1000 + u32::try_from(slot).unwrap());
            card.reader(pcscd.vpcd(slot).unwrap()).insert().unwrap()
        })
        .collect();
    assert_eq!(pcscd.vpcd(3), None);
    for (slot, card) in cards.iter().enumerate() {
        let mut tool = Command::new("opensc-tool");
        tool.env(SOCKET_VARIABLE, pcscd.socket()).args(["-r", &Pcscd::reader_name(slot)]);
        let output = match tool.args(["-s", "00A4040005A000000308", "-s", "00F8000000"]).output() {
            Ok(output) => said(&output),
            Err(error) => return hsm_sim::skip(format_args!("opensc-tool: {error}")),
        };
        let hex: Vec<String> = card.serial().to_be_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
        assert!(output.contains(&hex.join(" ")), "{output}");
    }
}

#[test]
fn pcscd_ends_with_its_owner() {
    if let Some(why) = Pcscd::missing() {
        hsm_sim::skip(&why);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pcscd = Pcscd::start(dir.path(), 1).unwrap();
    let card = VirtualYubiKey::builder().reader(pcscd.vpcd(0).unwrap()).insert().unwrap();
    drop(pcscd);
    // The reader is gone, and with it the connection: the card is out.
    card.wait_until_unseen(PATIENCE).unwrap();
    wait_until_nobody_names(&dir);
}

#[test]
fn pcscd_ends_with_its_owner_even_if_that_is_killed() {
    if let Some(why) = Pcscd::missing() {
        hsm_sim::skip(&why);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut owner = Command::new(PROGRAM)
        .args(["pcscd", "--dir"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("PCSCLITE_CSOCK_NAME="), "{line}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until_nobody_names(&dir);
}

/// No process has the folder in its command line any more.
fn wait_until_nobody_names(dir: &tempfile::TempDir) {
    let path = dir.path().to_str().unwrap().as_bytes();
    let named = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        lines.into_iter().any(|line| line.windows(path.len()).any(|part| part == path))
    };
    let since = Instant::now();
    while named() {
        assert!(since.elapsed() < PATIENCE, "a process still names {}", dir.path().display());
        std::thread::yield_now();
    }
}

#[test]
fn a_state_and_a_line_are_on_disk_before_the_reply_leaves_the_card() {
    let Some(bench) = Bench::set_up(&["strace", "yubico-piv-tool"], Profile::V5_4_3) else { return };
    bench.card.remove().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("strace");
    // -D: strace is the child of the card, so that killing the card ends both.
    command.current_dir(&dir).args([
        "-D",
        "-f",
        "-e",
        "trace=write,sendto,fdatasync,fsync,rename",
        "-s",
        "65536",
        "-o",
        "trace",
        PROGRAM,
    ]);
    command.args(["run", "--state", "state", "--serial", "77", "--profile", "5.4.3", "--control", "ctl"]);
    command.args(["--journal", "journal", "--vpcd", &bench.pcscd.vpcd(0).unwrap().to_string()]);
    let _playing = Playing::start(&mut command);
    bench.run("yubico-piv-tool", &["-rYubico", "-agenerate", "-s9a", "-AECCP256"]);
    bench.run("yubico-piv-tool", &["-rYubico", "-aattest", "-s9a"]);

    let text = fs::read_to_string(dir.path().join("trace")).unwrap();
    let calls: Vec<&str> = text.lines().collect();
    let after = |from: usize, part: &str| {
        let found = calls.iter().skip(from).position(|call| call.contains(part));
        from + found.unwrap_or_else(|| panic!("no {part:?} from line {from} of: {text}"))
    };
    // The key that GENERATE made: the state beside, the state itself, and its name.
    let key = after(0, "ECCP256");
    let renamed = after(after(key, "fsync("), "rename(");
    let named = after(renamed, "fsync(");
    assert!(after(key, "sendto(") > named, "{text}");
    // The signature that ATTEST made.
    let line = after(named, "\\\"operation\\\":\\\"attest");
    assert!(calls[line].contains("write("), "{}", calls[line]);
    let synced = after(line, "fdatasync(");
    assert!(calls[synced].ends_with("= 0"), "{}", calls[synced]);
    assert!(after(line, "sendto(") > synced, "{text}");
}
