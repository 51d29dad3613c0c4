//! `hsm-sim-yubikey`: plays a YubiKey for the pcscd of this machine, and turns one that plays.

use clap::{Parser, Subcommand};
use hsm_sim_yubikey::{
    Action, Error, Pcscd, Profile, SOCKET_VARIABLE, TouchMode, VirtualYubiKey, play_blank, send,
};
use std::{
    io::{self, Write},
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

/// A virtual YubiKey. It protects nothing: its keys lie in a file, and its attestations lead to a test root.
#[derive(Parser)]
#[command(name = "hsm-sim-yubikey", version)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Play a card until this program is ended.
    Run(Run),
    /// Start a pcscd of one's own, and end it with this program. Needs root, or a folder /run/pcscd.
    Pcscd {
        /// Takes its socket, configuration and log.
        #[arg(long)]
        dir: PathBuf,
        /// Slots for so many cards.
        #[arg(long, default_value_t = 1)]
        cards: usize,
    },
    /// Play a card that knows nothing, for the empty slot beside a YubiKey: ykman 5 waits for a card there.
    Blank {
        /// The slot of vpcd.
        #[arg(long)]
        vpcd: String,
    },
    /// Turn a card that plays.
    Ctl {
        /// The card's control socket.
        socket: PathBuf,
        #[command(subcommand)]
        action: Ctl,
    },
    /// Write the test root of a profile's attestations to standard output, in DER.
    Root {
        /// 5.4.3 or 5.7.4.
        profile: Profile,
    },
}

#[derive(clap::Args)]
struct Run {
    /// The card's memory; a card from the factory if the file is not there.
    #[arg(long)]
    state: PathBuf,
    /// 5.4.3 or 5.7.4.
    #[arg(long, default_value = "5.7.4")]
    profile: Profile,
    /// The serial number.
    #[arg(long)]
    serial: u32,
    /// The slot of vpcd.
    #[arg(long, default_value = "127.0.0.1:35963")]
    vpcd: String,
    /// The socket for `ctl`.
    #[arg(long)]
    control: PathBuf,
    /// What the finger does: auto, manual, deny, timeout, or delay:MS.
    #[arg(long, default_value = "auto")]
    touch: TouchMode,
    /// How long the card waits for a touch.
    #[arg(long, default_value_t = 15_000)]
    touch_timeout_ms: u64,
    /// How long a touch counts for keys with the policy "cached".
    #[arg(long, default_value_t = 15_000)]
    touch_cache_ms: u64,
    /// Where every signature is written down.
    #[arg(long)]
    journal: Option<PathBuf>,
    /// Where every APDU is logged, without secrets.
    #[arg(long)]
    apdu_log: Option<PathBuf>,
    /// Let SET PIN RETRIES set zero tries, as a real 5.7.4 does; only RESET helps then.
    #[arg(long)]
    zero_retries: bool,
}

#[derive(Subcommand)]
enum Ctl {
    /// Wait until a touch is awaited, and touch.
    Touch {
        /// How long to wait for that.
        #[arg(long, default_value_t = 10_000)]
        wait_ms: u64,
    },
    /// Wait until a touch is awaited.
    AwaitTouch {
        /// How long to wait for that.
        #[arg(long, default_value_t = 10_000)]
        wait_ms: u64,
    },
    /// What the finger does from now on: auto, manual, deny, timeout, or delay:MS.
    TouchPolicy {
        /// The policy.
        mode: TouchMode,
    },
    /// Plug the card in, and wait until pcscd shows it.
    Insert,
    /// Pull the card out.
    Remove,
    /// Pull the card out during the next use of a private key.
    RemoveDuringNextOp {
        /// During the next command with this instruction byte, in hex.
        #[arg(long, value_parser = hex_byte)]
        ins: Option<u8>,
        /// Before anything happened, instead of after everything but the reply.
        #[arg(long)]
        before: bool,
    },
    /// Pull the card out and plug it in.
    PowerCycle,
    /// Every command takes so many milliseconds longer from now on.
    SlowDown {
        /// The delay; 0 ends it.
        ms: u64,
    },
    /// The next command is answered with this status word and not done.
    NextSw {
        /// The status word in hex.
        #[arg(value_parser = hex_word)]
        sw: u16,
        /// Only a command with this instruction byte, in hex.
        #[arg(long, value_parser = hex_byte)]
        ins: Option<u8>,
    },
    /// Change nothing; every other action prints the same.
    Dump,
}

fn main() -> ExitCode {
    match perform(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("hsm-sim-yubikey: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(next) = cause {
                text.push_str(&format!(": {next}"));
                cause = next.source();
            }
            // Nobody is left to be told if this fails.
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<(), Error> {
    match task {
        Task::Run(arguments) => run(&arguments),
        Task::Pcscd { dir, cards } => pcscd(&dir, cards),
        Task::Blank { vpcd } => {
            let lost = |source| Error::Start { what: "a blank card", source };
            play_blank(address(&vpcd)?).map_err(lost)
        }
        Task::Ctl { socket, action } => {
            let card = send(&socket, &action.into())?;
            print(format!("{card:#}\n").as_bytes())
        }
        Task::Root { profile } => print(profile.attestation_root()),
    }
}

fn run(arguments: &Run) -> Result<(), Error> {
    let mut builder = VirtualYubiKey::builder()
        .profile(arguments.profile)
        .serial(arguments.serial)
        .reader(address(&arguments.vpcd)?)
        .state(&arguments.state)
        .control(&arguments.control)
        .touch(arguments.touch)
        .touch_timeout(Duration::from_millis(arguments.touch_timeout_ms))
        .touch_cache(Duration::from_millis(arguments.touch_cache_ms));
    if let Some(file) = &arguments.journal {
        builder = builder.journal(file);
    }
    if let Some(file) = &arguments.apdu_log {
        builder = builder.apdu_log(file);
    }
    if arguments.zero_retries {
        builder = builder.zero_retries();
    }
    let card = builder.insert()?;
    print(format!("card {} with firmware {} is plugged in\n", card.serial(), arguments.profile).as_bytes())?;
    loop {
        thread::park();
    }
}

/// Prints what clients and cards need, and waits to be ended.
fn pcscd(dir: &Path, cards: usize) -> Result<(), Error> {
    let pcscd = Pcscd::start(dir, cards)?;
    let mut text = format!("{SOCKET_VARIABLE}={}\n", pcscd.socket().display());
    for (slot, vpcd) in (0..cards).filter_map(|slot| Some((slot, pcscd.vpcd(slot)?))) {
        text.push_str(&format!("vpcd {vpcd} {}\n", Pcscd::reader_name(slot)));
    }
    print(text.as_bytes())?;
    loop {
        thread::park();
    }
}

fn address(text: &str) -> Result<SocketAddr, Error> {
    let found = text.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.ok_or_else(|| Error::Address { text: text.to_owned() })
}

fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut to = io::stdout();
    let written = to.write_all(bytes).and_then(|()| to.flush());
    written.map_err(|source| Error::File { action: "write", path: "standard output".into(), source })
}

fn hex_byte(text: &str) -> Result<u8, String> {
    u8::from_str_radix(text, 16).map_err(|_| format!("{text:?} is no byte in hex"))
}

fn hex_word(text: &str) -> Result<u16, String> {
    u16::from_str_radix(text, 16).map_err(|_| format!("{text:?} is no status word in hex"))
}

impl From<Ctl> for Action {
    fn from(action: Ctl) -> Self {
        match action {
            Ctl::Touch { wait_ms } => Self::Touch { wait_ms },
            Ctl::AwaitTouch { wait_ms } => Self::AwaitTouch { wait_ms },
            Ctl::TouchPolicy { mode } => Self::TouchPolicy { mode },
            Ctl::Insert => Self::Insert,
            Ctl::Remove => Self::Remove,
            Ctl::RemoveDuringNextOp { ins, before } => Self::RemoveDuringNextOp { ins, before },
            Ctl::PowerCycle => Self::PowerCycle,
            Ctl::SlowDown { ms } => Self::SlowDown { ms },
            Ctl::NextSw { sw, ins } => Self::NextSw { sw, ins },
            Ctl::Dump => Self::Dump,
        }
    }
}
