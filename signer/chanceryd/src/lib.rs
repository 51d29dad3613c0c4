//! The daemon: network, policy, log sequencing, publication. It holds no device, no PIN and no key.
//!
//! Where to start reading: [`sign`] is the pipeline, `publish` the loop of each repository, `audit` the log's writer,
//! `signer` a signing keeper's connection, `http` the two faces that clients see.

mod audit;
pub mod auth;
mod config;
mod fatal;
mod frames;
mod health;
mod http;
mod keys;
mod publish;
mod registry;
mod service;
pub mod sign;
mod signer;
mod store;

pub use config::{Config, KeeperConfig, Limits, LogConfig, RegistryConfig, Scheme};
pub use fatal::Fatal;
pub use service::{init, rebuild, serve};

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
