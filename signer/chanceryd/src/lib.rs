//! The daemon: network, policy, log sequencing, publication. It holds no device, no PIN and no key.
//!
//! Where to start reading: [`sign`] is the pipeline, `publish` the loop of each repository, `audit` the log's writer,
//! `signer` a signing keeper's connection, `http` the two faces that clients see.

mod audit;
pub mod auth;
mod backup;
mod config;
mod facts;
mod fatal;
mod frames;
mod generations;
mod handles;
mod heads;
mod health;
mod http;
mod in_force;
mod issuers;
mod keys;
mod machines;
mod mark;
mod mirror;
mod opening;
mod operator;
mod publication;
mod publish;
mod refusals;
mod registry;
mod scrub;
mod service;
pub mod sign;
mod signer;
mod store;
mod touches;
mod watch;

pub use backup::{create as create_backup, restore as restore_backup};
pub use config::{
    BucketConfig, Config, KeeperConfig, Limits, LogConfig, MachinesConfig, MaxUnwitnessed, MirrorConfig,
    MirrorPlace, RegistryConfig, Scheme, WithoutQuorum, WitnessConfig,
};
pub use fatal::Fatal;
pub use operator::{
    Former, Witnesses, admin_token_for_operator, init, rebuild, retire_keeper, unseal, write_trusted_root,
};
pub use service::serve;

/// Closes the process before it reads anything: the TLS key in its memory must not reach a core file or a debugger of
/// the same user. Also ends with its parent where `chancery dev` names itself in `CHANCERY_PARENT`.
pub fn harden() -> Result<(), Fatal> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal, getppid};
    let closed = || {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        let Ok(parent) = std::env::var("CHANCERY_PARENT") else { return Ok(()) };
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        // It may have died before the signal was asked for.
        let now = getppid().map(|pid| pid.as_raw_nonzero().to_string());
        if now.as_deref() == Some(&parent) { Ok(()) } else { Err(rustix::io::Errno::SRCH) }
    };
    closed().map_err(|e| Fatal::Unavailable {
        what: "closing the process to debuggers and core files".into(),
        why: e.to_string(),
    })
}

/// Logs to stderr: level by `CHANCERY_LOG` (default `info`), JSON lines with `CHANCERY_LOG_FORMAT=json`.
pub fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CHANCERY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    if std::env::var("CHANCERY_LOG_FORMAT").is_ok_and(|f| f == "json") {
        builder.json().init();
    } else {
        builder.init();
    }
}
