//! The signing role.

use crate::config::SignConfig;
use crate::exit::Fatal;

/// Creates the state of a signing keeper.
pub fn init(config: &SignConfig) -> Result<(), Fatal> {
    Err(not_built(config))
}

/// Serves as a signing keeper.
pub fn serve(config: SignConfig) -> Result<(), Fatal> {
    Err(not_built(&config))
}

fn not_built(config: &SignConfig) -> Fatal {
    Fatal::Config { file: config.file.clone(), why: "role: this build has no signing role".into() }
}
