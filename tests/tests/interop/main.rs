//! Other people's programs judge the log: Debian's cosigns enforce it, and a witness of the public network follows it.
//!
//! `tests/interop.sh` fetches the judges. Each test leaves its rows in `target/interop`; `make interop-log` prints them and writes
//! them to `docs/interop-log.md`.

mod case;
mod cosign;
mod fsck;
mod litewitness;
mod own_log;
mod rows;
mod sigstore;
mod tamper;
