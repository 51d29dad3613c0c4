//! The grammar of `chancery log witness`.

use clap::{Args, Subcommand};
use std::{net::SocketAddr, path::PathBuf};
use tlog::VerifierKey;

#[derive(Debug, Subcommand)]
pub(crate) enum WitnessCommand {
    /// Make a witness: a new folder with its key; prints the verifier key that goes into policies
    Init(WitnessInitArgs),
    /// Let the witness know one more log, of which it has seen nothing
    AddLog(WitnessAddLogArgs),
    /// Cosign checkpoints of the logs that a policy names, until SIGTERM (C2SP tlog-witness over plain HTTP)
    ///
    /// A checkpoint is cosigned only if its log's key signed it and it extends the last one that was cosigned, which is on
    /// disk before the answer is given. Put it behind a reverse proxy that speaks TLS, unless the log is on the same host.
    Serve(WitnessServeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct WitnessInitArgs {
    /// The folder to make
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// The name in its cosignatures: its URL without https:// is usual, such as witness.example.com
    #[arg(long)]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct WitnessAddLogArgs {
    /// The witness's folder
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// The log's verifier key, name+hash+key
    #[arg(value_name = "VKEY")]
    pub(crate) key: VerifierKey,
}

#[derive(Debug, Args)]
pub(crate) struct WitnessServeArgs {
    /// The witness's folder
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// File with a C2SP tlog-policy: its `log` lines are the logs that are served. Each must have been added
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: PathBuf,
    /// Where HTTP is served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8480")]
    pub(crate) listen: SocketAddr,
}
