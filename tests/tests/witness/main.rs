//! Witnesses: what our own promises, and what a service does with what its witnesses say.

mod memory;
mod page;
mod service;
