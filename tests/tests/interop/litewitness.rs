//! litewitness.
