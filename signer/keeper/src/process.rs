//! What the process does to itself before it reads anything: no core dumps, no debugger, closed files, a log.

use crate::exit::{self, Fatal};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use std::io::Write;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The bindings to tokens, as they name themselves in the log.
const LIBRARIES: [&str; 2] = ["cryptoki", "yubikey"];

/// Closes the process: a PIN in its memory must not reach a file, a debugger of the same user, or a group.
pub fn harden() -> Result<(), Fatal> {
    let what = "the process cannot be closed to debuggers and core dumps";
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .and_then(|()| rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|e| Fatal::Process { what, source: e.into() })
}

/// Ends with the process that started it, where that one says so: `chancery dev` names its own id in `CHANCERY_PARENT`.
pub fn follow_parent() -> Result<(), Fatal> {
    let Ok(parent) = std::env::var("CHANCERY_PARENT") else { return Ok(()) };
    let fault =
        |source| Fatal::Process { what: "the parent that CHANCERY_PARENT names cannot be followed", source };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        .map_err(|e| fault(e.into()))?;
    // It may have died before the signal was asked for.
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if now.as_deref() == Some(&parent) { Ok(()) } else { Err(fault(std::io::Error::other("it has gone"))) }
}

/// Sends the log to stderr: text, or JSON with `CHANCERY_LOG_FORMAT=json`; the level comes from `CHANCERY_LOG`. The libraries
/// under the tokens are heard from `debug` on: they call an error what the keeper expects, such as a session that ended with
/// its token, a mechanism without a name, or a reader without a card. What matters of it the keeper says itself.
pub fn log_to_stderr() {
    let level = std::env::var("CHANCERY_LOG").ok().and_then(|level| level.parse().ok());
    let level = level.unwrap_or(tracing::Level::INFO);
    let libraries =
        if level >= tracing::Level::DEBUG { LevelFilter::from_level(level) } else { LevelFilter::OFF };
    let levels = Targets::new().with_default(level).with_targets(LIBRARIES.map(|name| (name, libraries)));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let log = tracing_subscriber::registry().with(levels);
    if std::env::var("CHANCERY_LOG_FORMAT").is_ok_and(|format| format == "json") {
        log.with(lines.json()).init();
    } else {
        log.with(lines.with_ansi(false)).init();
    }
}

/// A thread that panicked has left something half done: the whole process ends, and starts again from its files.
pub fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let _ = writeln!(std::io::stderr(), "chancery-keeper: {panic}");
        exit::end(70);
    }));
}
