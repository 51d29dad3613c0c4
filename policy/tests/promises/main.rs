//! What the policy promises, through its public functions only.
#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod calendar;
mod deciding;
mod example;
mod exceptions;
mod facts;
mod images;
mod jobs;
mod loading;
mod operator;
mod own_tests;
mod people;
mod reference;
mod written;
