//! One file a noun. Each command asks, shows one result, and says how it ended.

pub(crate) mod daemon;
mod doctor;
mod key;
mod log;
mod log_fetch;
mod log_show;
mod repo;
mod request;
mod sign;
mod token;
mod version;

use crate::{args::Command, connect::Connection, exit::Exit, failure::Failure, output::Output};

/// Runs a command that ends by itself. The foreground ones are started by the caller.
pub(crate) async fn run(
    command: Command,
    connection: &Connection,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match command {
        Command::Dev(args) => crate::dev::run(args, output).await,
        Command::Init(forward) => Err(daemon::exec("init", &forward)),
        Command::Serve(forward) => Err(daemon::exec("serve", &forward)),
        Command::Sign(args) => sign::run(args, &connection.client()?, output).await,
        Command::Request(command) => request::run(command, &connection.client()?, output).await,
        Command::Repo(command) => repo::run(command, &connection.client()?, output).await,
        Command::Log(command) => log::run(command, connection, output).await,
        Command::Token(command) => token::run(command, &connection.client()?, output).await,
        Command::Key(command) => key::run(command, &connection.client()?, output).await,
        Command::Doctor => doctor::run(connection, output).await,
        Command::Version => version::run(output),
    }
}
