//! Hardware for tests: SoftHSM tokens made in one call
