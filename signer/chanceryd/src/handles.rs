//! File handles: the process takes as many as it may have, and does not begin with fewer than its own limits can use up.
//!
//! A database that gets no handle cannot be read; so callers, who need no token to connect, must run into the limit on
//! connections before they run into that on handles.

use crate::fatal::Fatal;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Handles beside those of callers: the database, keepers, witnesses, mirrors, the scrub; these are some dozens.
const RESERVE: u64 = 256;
/// Handles of one caller: its connection, and one to the registry that is asked for its image.
const OF_A_CALLER: u64 = 2;

/// Raises the limit on open files to the highest that this process may have, and demands that it suffices for so many
/// connections.
pub(crate) fn provide(connections: usize) -> Result<(), Fatal> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    demand(maximum, connections)?;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).map_err(|e| Fatal::Unavailable {
        what: format!("raising the limit on open files (RLIMIT_NOFILE) to {maximum:?}"),
        why: e.to_string(),
    })
}

/// `maximum` is the hard limit, none if there is none.
fn demand(maximum: Option<u64>, connections: usize) -> Result<(), Fatal> {
    let needed = (connections as u64).saturating_mul(OF_A_CALLER).saturating_add(RESERVE);
    match maximum {
        Some(maximum) if maximum < needed => Err(Fatal::Config {
            path: "[limits] connections".into(),
            why: format!(
                "{connections} connections need {needed} open files, and this process may have {maximum}: raise the hard limit \
                 (LimitNOFILE= of the unit, `ulimit -Hn`), or allow at most {} connections over all listeners",
                maximum.saturating_sub(RESERVE) / OF_A_CALLER
            ),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_whose_callers_could_use_up_its_handles_does_not_begin() {
        assert!(demand(None, 1024).is_ok());
        assert!(demand(Some(2304), 1024).is_ok());
        let short = demand(Some(2303), 1024).unwrap_err();
        assert_eq!(short.exit_code(), 78);
        assert!(short.to_string().contains("at most 1023 connections"), "{short}");
        assert_eq!(demand(Some(100), 1).unwrap_err().exit_code(), 78);
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_may_be() {
        provide(1).unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
