//! The binary `chancery`; everything is in the library of the same crate.

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os())
}
