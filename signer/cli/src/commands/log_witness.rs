//! `chancery log witness`: a witness of our own, for a second site.

use super::log::read_policy;
use crate::{
    args::{WitnessAddLogArgs, WitnessCommand, WitnessInitArgs, WitnessServeArgs},
    exit::Exit,
    failure::Failure,
    output::{Answer, Output, note},
    witness::{self, Lines, Witness, WitnessFault},
};
use record::{Clock, SystemClock};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Debug, Serialize)]
pub(super) struct Made {
    pub(super) vkey: String,
}

impl Answer for Made {
    const SCHEMA: &'static str = "chancery.witness/v1";
}

#[derive(Debug, Serialize)]
pub(super) struct Added {
    pub(super) log: String,
}

impl Answer for Added {
    const SCHEMA: &'static str = "chancery.witness-log/v1";
}

#[derive(Debug, Serialize)]
pub(super) struct Serving {
    pub(super) listen: String,
    pub(super) vkey: String,
    pub(super) logs: Vec<String>,
}

impl Answer for Serving {
    const SCHEMA: &'static str = "chancery.witness-serving/v1";
}

/// Runs one of them; `serve` takes SIGINT and SIGTERM itself.
pub(crate) async fn run(command: WitnessCommand, output: &mut Output) -> Result<Exit, Failure> {
    match command {
        WitnessCommand::Init(args) => init(&args, output),
        WitnessCommand::AddLog(args) => add_log(&args, output),
        WitnessCommand::Serve(args) => serve(args, output).await,
    }
}

fn init(args: &WitnessInitArgs, output: &mut Output) -> Result<Exit, Failure> {
    let vkey =
        Witness::init(&args.state, &args.name).map_err(|e| failure("no witness was made", e))?.to_string();
    output.note(&format!(
        "the key is in {}: keep it, and never use it on two machines",
        args.state.join("key").display()
    ));
    output.result(&Made { vkey: vkey.clone() }, &vkey)?;
    Ok(Exit::Ok)
}

fn add_log(args: &WitnessAddLogArgs, output: &mut Output) -> Result<Exit, Failure> {
    Witness::add_log(&args.state, &args.key).map_err(|e| failure("the log was not added", e))?;
    output.result(&Added { log: args.key.to_string() }, &format!("added {}", args.key.name()))?;
    Ok(Exit::Ok)
}

async fn serve(args: WitnessServeArgs, output: &mut Output) -> Result<Exit, Failure> {
    close_process()?;
    let policy = read_policy(&args.policy)?;
    if policy.logs().is_empty() {
        return Err(Failure::new(Exit::Usage, "the policy names no log")
            .next("give it a line `log <vkey>` for each log that is to be witnessed"));
    }
    let witness =
        Witness::open(&args.state, policy.logs()).map_err(|e| failure("the witness cannot begin", e))?;
    let (mut terminate, mut interrupt) =
        (listen_for(SignalKind::terminate())?, listen_for(SignalKind::interrupt())?);
    let listener = tokio::net::TcpListener::bind(args.listen).await;
    let taken = |e| Failure::new(Exit::Conflict, format!("cannot listen on {}", args.listen)).why(e);
    let listener = listener.map_err(taken)?;
    let listen = listener.local_addr().map_err(taken)?.to_string();
    let serving = Serving { listen, vkey: witness.public().to_string(), logs: witness.standing() };
    let text = format!(
        "witness {} on http://{}, has cosigned:\n{}",
        serving.vkey,
        serving.listen,
        serving.logs.join("\n")
    );
    output.result(&serving, &text)?;
    let stop = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    let lines = Lines::start(|line| note(&format!("{} {line}", SystemClock.now())))
        .map_err(|e| Failure::new(Exit::Internal, "cannot start a thread").why(e))?;
    let served = witness::serve(witness, listener, stop, lines);
    served.await.map_err(|why| {
        Failure::new(Exit::State, "the witness cannot keep what it has seen")
            .why(why)
            .next("see to the disk, then start it again: it goes on from what is on the disk")
    })?;
    Ok(Exit::Ok)
}

/// The key in its memory must not reach a core file or a debugger of the same user.
fn close_process() -> Result<(), Failure> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|e| Failure::new(Exit::State, "cannot close the process to debuggers and core files").why(e))
}

fn listen_for(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|e| Failure::new(Exit::Internal, "cannot listen for signals").why(e))
}

fn failure(what: &str, fault: WitnessFault) -> Failure {
    let (exit, next) = match &fault {
        WitnessFault::Io { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
            (Exit::Conflict, "it is there already, and is never begun anew")
        }
        WitnessFault::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => (
            Exit::State,
            "chancery log witness init makes a folder, add-log lets it know a log; if it was there before, restore the newest \
             copy: a witness that has forgotten what it cosigned may cosign a fork",
        ),
        WitnessFault::Io { .. } => (Exit::State, "see to the file, its owner and the disk"),
        WitnessFault::State { .. } => {
            (Exit::State, "restore the newest copy of this file; nothing was changed")
        }
        WitnessFault::Locked { .. } => (Exit::Conflict, "stop the other process first"),
    };
    Failure::new(exit, what).why(fault).next(next)
}
