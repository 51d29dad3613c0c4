//! The Docker Content Trust files: built from intents, compared with golden files, shown to the real client.
#![expect(clippy::unwrap_used, reason = "test code")]

mod build;
mod collection;
mod golden;
mod notary_client;
mod server;
