//! `chancery-keeper`: holds keys in hardware; one process a token.

fn main() {}
