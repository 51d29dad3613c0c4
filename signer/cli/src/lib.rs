//! chancery: the command line for everybody.
//!
//! Promises: standard output carries the result and nothing else; progress and errors go to standard error; every end
//! has an exit code of [`exit::Exit`]; no secret is taken from an argument or written to a terminal unless it is the
//! result that was asked for. It does not know: databases, tokens' PINs in use, or how a decision is made.

mod args;
mod audit;
mod commands;
mod connect;
mod dev;
pub mod exit;
mod failure;
mod output;
mod witness;

use args::{Cli, Command, LogCommand};
use clap::Parser;
use connect::Connection;
use exit::Exit;
use failure::Failure;
use output::Output;
use std::{ffi::OsString, process::ExitCode};

/// Runs one command line, the program's name included, to its end.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let mut output = Output::terminal(cli.globals.output);
    let end = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(finish(cli, &mut output)),
        Err(error) => Err(Failure::new(Exit::Internal, "cannot start").why(error)),
    };
    ExitCode::from(match end {
        Ok(exit) => exit.code(),
        Err(failure) => {
            output.failure(&failure);
            failure.exit.code()
        }
    })
}

/// Help and version texts end well; everything else that clap has to say is a usage error.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed standard error leaves nobody to tell.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { Exit::Usage.code() } else { Exit::Ok.code() })
}

/// Runs the command; Ctrl-C ends it with code 130. `dev`, the foreground daemon and the witness take the signal themselves.
async fn finish(cli: Cli, output: &mut Output) -> Result<Exit, Failure> {
    let connection = Connection::new(&cli.globals);
    let command = match cli.command {
        Command::Dev(args) => return dev::run(args, output).await,
        Command::Init(forward) => return Err(commands::daemon::exec(&["init"], &forward)),
        Command::Unseal(forward) => return Err(commands::daemon::exec(&["unseal"], &forward)),
        Command::Log(LogCommand::Witness(command)) => {
            return commands::log_witness::run(command, output).await;
        }
        Command::Serve(forward) => return Err(commands::daemon::exec(&["serve"], &forward)),
        other => other,
    };
    tokio::select! {
        end = commands::run(command, &connection, output) => end,
        _ = tokio::signal::ctrl_c() => {
            Err(Failure::new(Exit::Interrupted, "interrupted").next("what the server has begun goes on there"))
        }
    }
}
