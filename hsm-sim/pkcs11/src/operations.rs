//! What is being signed in each session: the key, the mechanism and the input so far.
//!
//! Promises: between `C_SignInit` and the signature there is exactly one [`Operation`] a session; while a call holds
//! it, it is out of the table. It does not know: C.

use crate::{journal::SignatureMade, real::OwnSession};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fmt::Write,
    sync::{Mutex, MutexGuard},
};

/// More sessions than any token has at once; a process that leaves more operations open leaks them.
const MAX_OPEN: usize = 4096;
/// Digests of all sizes stand in the journal themselves, longer inputs as their SHA-256 only.
const MAX_VERBATIM_BYTES: usize = 64;

/// The table of open operations cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationsError {
    #[error("more than {MAX_OPEN} sessions sign at once; close sessions, or raise the forwarder's limit")]
    Full,
    #[error("a call panicked while it changed the open operations")]
    Poisoned,
}

/// Open operations by session.
#[derive(Default)]
pub(crate) struct Operations {
    by_session: Mutex<HashMap<u64, Operation>>,
}

impl Operations {
    /// From `C_SignInit` on. Replaces what an ended session of the same handle left.
    pub(crate) fn begin(&self, session: u64, operation: Operation) -> Result<(), OperationsError> {
        let mut open = self.open()?;
        if open.len() >= MAX_OPEN && !open.contains_key(&session) {
            return Err(OperationsError::Full);
        }
        open.insert(session, operation);
        Ok(())
    }

    /// Takes the session's operation; who finds that it goes on, calls [`Operations::begin`] with it.
    pub(crate) fn take(&self, session: u64) -> Result<Option<Operation>, OperationsError> {
        Ok(self.open()?.remove(&session))
    }

    /// The `CKA_ID` of the key that the session signs with, in hex.
    pub(crate) fn key(&self, session: u64) -> Result<Option<String>, OperationsError> {
        Ok(self.open()?.get(&session).map(|operation| hex(&operation.key_id)))
    }

    /// The real session of the operation that the caller began in `session`, or that session itself.
    pub(crate) fn place(&self, session: u64) -> Result<u64, OperationsError> {
        Ok(self.open()?.get(&session).map_or(session, |operation| operation.place(session)))
    }

    /// Whether the session's operation waits for a login.
    pub(crate) fn awaits_login(&self, session: u64) -> Result<bool, OperationsError> {
        Ok(self.open()?.get(&session).is_some_and(Operation::awaits_login))
    }

    /// The session's operation had its login.
    pub(crate) fn logged_in(&self, session: u64) -> Result<(), OperationsError> {
        if let Some(operation) = self.open()?.get_mut(&session) {
            operation.awaits_login = false;
        }
        Ok(())
    }

    /// Drops the operations of sessions that are no more.
    pub(crate) fn retain(&self, alive: impl Fn(u64) -> bool) -> Result<(), OperationsError> {
        self.open()?.retain(|session, _| alive(*session));
        Ok(())
    }

    fn open(&self) -> Result<MutexGuard<'_, HashMap<u64, Operation>>, OperationsError> {
        self.by_session.lock().map_err(|_| OperationsError::Poisoned)
    }
}

/// One signing operation.
pub(crate) struct Operation {
    key_id: Vec<u8>,
    mechanism: u64,
    hasher: Sha256,
    /// The beginning of the input, one byte more than is written verbatim.
    head: Vec<u8>,
    /// Where the real operation runs, if not in the caller's session. Dropping it ends the operation.
    own: Option<OwnSession>,
    /// The key wants a login for this operation, and had none yet.
    awaits_login: bool,
}

impl Operation {
    /// A fresh operation, without input.
    pub(crate) fn new(key_id: Vec<u8>, mechanism: u64) -> Self {
        Self { key_id, mechanism, hasher: Sha256::new(), head: Vec::new(), own: None, awaits_login: false }
    }

    /// Runs in a session of its own.
    pub(crate) fn run_in(self, own: Option<OwnSession>) -> Self {
        Self { own, ..self }
    }

    /// Gives no signature before a login of its own.
    pub(crate) fn awaiting_login(self, awaits_login: bool) -> Self {
        Self { awaits_login, ..self }
    }

    pub(crate) fn awaits_login(&self) -> bool {
        self.awaits_login
    }

    /// The real session of the operation that the caller began in `session`.
    pub(crate) fn place(&self, session: u64) -> u64 {
        self.own.as_ref().map_or(session, OwnSession::handle)
    }

    /// The whole input at once, in place of any that an earlier try with too small a buffer left.
    pub(crate) fn absorb_whole(&mut self, input: &[u8]) {
        self.hasher = Sha256::new();
        self.head.clear();
        self.absorb(input);
    }

    /// The next part of the input.
    pub(crate) fn absorb(&mut self, part: &[u8]) {
        self.hasher.update(part);
        let room = (MAX_VERBATIM_BYTES + 1).saturating_sub(self.head.len());
        self.head.extend(part.iter().take(room));
    }

    /// The journal's record of the signature that ended this operation.
    pub(crate) fn signed(self, signature: &[u8]) -> SignatureMade {
        SignatureMade {
            key: hex(&self.key_id),
            mechanism: format!("0x{:x}", self.mechanism),
            input_sha256: hex(&self.hasher.finalize()),
            input: (self.head.len() <= MAX_VERBATIM_BYTES).then(|| hex(&self.head)),
            signature: hex(signature),
        }
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{MAX_OPEN, Operation, Operations, OperationsError, hex};
    use sha2::{Digest, Sha256};

    fn operation() -> Operation {
        Operation::new(vec![1], 0x1041)
    }

    #[test]
    fn parts_count_as_one_input() {
        let (mut parts, mut whole) = (operation(), operation());
        parts.absorb(b"chan");
        parts.absorb(b"");
        parts.absorb(b"cery");
        whole.absorb(b"chancery");
        let (parts, whole) = (parts.signed(b"s"), whole.signed(b"s"));
        assert_eq!((parts.input_sha256, parts.input), (whole.input_sha256, whole.input));
    }

    #[test]
    fn a_second_try_does_not_count_the_input_twice() {
        let (mut twice, mut once) = (operation(), operation());
        twice.absorb_whole(b"digest");
        twice.absorb_whole(b"digest");
        once.absorb(b"digest");
        let (twice, once) = (twice.signed(b"s"), once.signed(b"s"));
        assert_eq!((twice.input_sha256, twice.input), (once.input_sha256, once.input));
    }

    #[test]
    fn up_to_64_bytes_of_input_are_verbatim() {
        for (length, verbatim) in [(0, true), (64, true), (65, false), (100_000, false)] {
            let input = vec![7; length];
            let mut operation = operation();
            operation.absorb(&input);
            let made = operation.signed(&[0xab, 0xcd]);
            assert_eq!(made.input, verbatim.then(|| hex(&input)), "{length} bytes");
            assert_eq!(made.input_sha256, hex(&Sha256::digest(&input)), "{length} bytes");
            assert_eq!(
                (made.key, made.mechanism, made.signature),
                ("01".into(), "0x1041".into(), "abcd".into())
            );
        }
    }

    #[test]
    fn an_operation_is_out_of_the_table_while_it_is_held() {
        let operations = Operations::default();
        operations.begin(5, operation()).unwrap();
        assert!(operations.take(6).unwrap().is_none());
        assert!(operations.take(5).unwrap().is_some());
        assert!(operations.take(5).unwrap().is_none());
    }

    #[test]
    fn operations_of_closed_sessions_are_dropped() {
        let operations = Operations::default();
        operations.begin(1, operation()).unwrap();
        operations.begin(2, operation()).unwrap();
        operations.retain(|session| session == 2).unwrap();
        assert!(operations.take(1).unwrap().is_none());
        assert!(operations.take(2).unwrap().is_some());
    }

    #[test]
    fn open_operations_are_bounded() {
        let operations = Operations::default();
        for session in 0..MAX_OPEN as u64 {
            operations.begin(session, operation()).unwrap();
        }
        operations.begin(0, operation()).unwrap();
        assert!(matches!(operations.begin(MAX_OPEN as u64, operation()), Err(OperationsError::Full)));
    }
}
