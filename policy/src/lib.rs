//! The decision: Cedar schema, guardrails, operator data in TOML
