//! The exit codes: one enum, one table, shown by `--help`.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// A fault of this program or an answer it does not understand.
    Internal = 1,
    /// The command line is wrong, or the server calls the request malformed.
    Usage = 2,
    /// The policy says no.
    Denied = 3,
    /// Who is asking is not known, or may not do this.
    Auth = 4,
    /// What was named does not exist.
    NotFound = 5,
    /// It contradicts what exists already.
    Conflict = 6,
    /// The wait ended before the request did.
    Waiting = 7,
    /// The request ended without a signature.
    Ended = 8,
    /// It can succeed later without a change.
    Temporary = 9,
    /// A signature, a hash or a log is not what it should be.
    Verification = 10,
    /// A token failed, or nobody touched it.
    Token = 11,
    /// State or configuration on this machine is missing or wrong.
    State = 78,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// Every code with its meaning, in order.
    pub const ALL: [(Self, &'static str); 14] = [
        (Self::Ok, "done"),
        (Self::Internal, "internal error"),
        (Self::Usage, "wrong usage or malformed request"),
        (Self::Denied, "denied by policy"),
        (Self::Auth, "not authenticated, or not allowed to do this"),
        (Self::NotFound, "not found"),
        (Self::Conflict, "conflict with what exists"),
        (Self::Waiting, "still waiting: the wait ended first"),
        (Self::Ended, "request rejected, expired, cancelled or failed"),
        (Self::Temporary, "temporary: try again"),
        (Self::Verification, "verification failed"),
        (Self::Token, "token or touch failed"),
        (Self::State, "state or configuration missing or wrong"),
        (Self::Interrupted, "interrupted"),
    ];

    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The word in `error[word]`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Internal => "internal",
            Self::Usage => "usage",
            Self::Denied => "denied",
            Self::Auth => "auth",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Waiting => "waiting",
            Self::Ended => "ended",
            Self::Temporary => "temporary",
            Self::Verification => "verification",
            Self::Token => "token",
            Self::State => "state",
            Self::Interrupted => "interrupted",
        }
    }

    /// The exit with this number; a number that is none of ours is an internal error.
    pub fn from_code(code: u8) -> Self {
        Self::ALL.into_iter().map(|(exit, _)| exit).find(|e| e.code() == code).unwrap_or(Self::Internal)
    }
}

/// The table that `--help` ends with.
pub(crate) fn table() -> String {
    let rows = Exit::ALL.iter().map(|(exit, meaning)| format!("  {:>3}  {meaning}\n", exit.code()));
    format!("Exit codes:\n{}", rows.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::CommandFactory;

    #[test]
    fn exit_codes_are_the_documented_numbers() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|(e, _)| e.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 78, 130]);
        for (exit, _) in Exit::ALL {
            assert_eq!(Exit::from_code(exit.code()), exit);
        }
        assert_eq!(Exit::from_code(99), Exit::Internal);
    }

    #[test]
    fn help_shows_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        for (exit, meaning) in Exit::ALL {
            assert!(help.contains(&format!("{:>3}  {meaning}", exit.code())), "{exit:?}\n{help}");
        }
    }
}
