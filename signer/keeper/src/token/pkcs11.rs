//! The PKCS#11 token: signs through pooled sessions, opens everything anew when the token went away, and verifies
//! each signature before it leaves.

use super::attributes::{ExamineError, examine};
use super::fault::{Class, Fault};
use super::pool::{Lease, Pool};
use super::watchdog::Watchdog;
use super::{Key, KeyRef, MAX_MESSAGE, Pin, PublicKey, Token, TokenError, TouchPolicy, TouchWait};
use crate::code;
use crate::config::Pkcs11Config;
use crate::exit::Fatal;
use cryptoki::context::Pkcs11;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use record::{Sha256, Signature};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// First pause after a failed attempt to open a token that went away; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest such pause: a token that is put back is in use again within this time.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Opens the configured token: loads the library, finds the token, logs in once.
pub(super) fn open(config: &Pkcs11Config) -> Result<Arc<dyn Token>, Fatal> {
    let pin = Pin::read(&config.pin)?;
    let context = load(&config.module, &config.label)?;
    let watchdog = Watchdog::start(config.call_deadline_ms, |fatal| fatal.end())
        .map_err(|source| Fatal::Process { what: "the token's watchdog cannot be started", source })?;
    let pool = Pool::open(&context, config, &pin, &watchdog)?;
    let sessions = pool.max();
    tracing::info!(token = config.label, sessions, "token is open");
    Ok(Arc::new(Pkcs11Token {
        config: config.clone(),
        pin,
        context,
        watchdog,
        sessions,
        current: RwLock::new(Current {
            pool: Some(pool),
            generation: 0,
            failures: 0,
            not_before: Instant::now(),
        }),
        quarantined: Mutex::default(),
    }))
}

/// Loads a PKCS#11 library, refusing a file that somebody else could have put there: its code sees the PIN.
pub(crate) fn load(module: &Path, label: &str) -> Result<Pkcs11, Fatal> {
    let wrong = |why: String| Fatal::Config { file: module.to_owned(), why };
    let about =
        std::fs::metadata(module).map_err(|e| wrong(format!("the PKCS#11 module cannot be opened: {e}")))?;
    let own = rustix::process::geteuid().as_raw();
    if (about.uid() != 0 && about.uid() != own) || about.mode() & 0o022 != 0 {
        let (uid, mode) = (about.uid(), about.mode() & 0o7777);
        return Err(wrong(format!(
            "others could have written this PKCS#11 module (uid {uid}, mode {mode:04o}): it must belong to root or to \
             uid {own}, and be writable by its owner only"
        )));
    }
    Pkcs11::new(module)
        .map_err(|e| Fatal::Token { token: label.to_owned(), why: format!("{}: {e}", module.display()) })
}

struct Pkcs11Token {
    config: Pkcs11Config,
    pin: Pin,
    context: Pkcs11,
    watchdog: Watchdog,
    sessions: usize,
    current: RwLock<Current>,
    quarantined: Mutex<BTreeSet<KeyRef>>,
}

/// The open generation, or since when and how often opening has failed.
struct Current {
    pool: Option<Pool>,
    generation: u64,
    failures: u32,
    not_before: Instant,
}

#[derive(Clone, Copy)]
enum Algorithm {
    EcdsaP256,
    Ed25519,
}

impl Token for Pkcs11Token {
    fn key(&self, id: &KeyRef, pinned: &PublicKey) -> Result<Key, Fatal> {
        let wrong =
            |why: String| Fatal::Key { token: self.config.label.clone(), cka_id: id.to_string(), why };
        let gone = |why: String| Fatal::Token { token: self.config.label.clone(), why };
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let pool = current.pool.as_ref().ok_or_else(|| gone("it went away".into()))?;
        let lease = pool.lend(&self.watchdog).map_err(|f| gone(TokenError::from(f).to_string()))?;
        let _watched = self.watchdog.watch("C_FindObjects");
        let session = lease.session().map_err(|f| gone(TokenError::from(f).to_string()))?;
        let cka_id =
            id.cka_id().ok_or_else(|| wrong("is a slot of a PIV card, and this token is none".into()))?;
        let found = examine(session, cka_id).map_err(|e| match e {
            ExamineError::Key(why) => wrong(why),
            ExamineError::Token(e) => gone(e.to_string()),
        })?;
        lease.good();
        if found.public != *pinned {
            return Err(wrong("its public key is not the pinned one: is this the right token?".into()));
        }
        Ok(Key { id: id.clone(), public: found.public, touch: TouchPolicy::Never, evidence: found.evidence })
    }

    fn sign_p256(
        &self,
        key: &Key,
        digest: &Sha256,
        _waits: &dyn Fn(TouchWait),
    ) -> Result<Signature, TokenError> {
        let PublicKey::P256(spki) = key.public() else { return Err(wrong_algorithm(key)) };
        let raw = self.sign(key, Algorithm::EcdsaP256, digest.as_bytes())?;
        match Signature::from_raw(&raw) {
            Ok(signature) if spki.verifies(digest, &signature) => Ok(signature),
            _ => Err(self.quarantine(key)),
        }
    }

    fn sign_ed25519(&self, key: &Key, message: &[u8]) -> Result<[u8; 64], TokenError> {
        let PublicKey::Ed25519(public) = key.public() else { return Err(wrong_algorithm(key)) };
        if message.len() > MAX_MESSAGE {
            return Err(not_signed(
                "token-refused",
                format!("a message of {} bytes: the limit is 64 KiB", message.len()),
            ));
        }
        let raw = self.sign(key, Algorithm::Ed25519, message)?;
        match <[u8; 64]>::try_from(raw.as_slice()) {
            Ok(signature) if verifies_ed25519(public, message, &signature) => Ok(signature),
            _ => Err(self.quarantine(key)),
        }
    }

    fn sessions(&self) -> usize {
        self.sessions
    }
}

impl Pkcs11Token {
    /// Asks the key, a second time only if a fresh session or login can help and surely nothing was signed.
    fn sign(&self, key: &Key, algorithm: Algorithm, data: &[u8]) -> Result<Vec<u8>, TokenError> {
        if self.quarantined.lock().unwrap_or_else(PoisonError::into_inner).contains(key.id()) {
            let why = "an earlier signature of this key did not verify: an operator must look at the token";
            return Err(not_signed("token-quarantined", why.into()));
        }
        match self.attempt(key, algorithm, data) {
            Err(fault) if fault.retry() => {
                tracing::warn!(key = %key.id(), ?fault, "trying once more");
                Ok(self.attempt(key, algorithm, data)?)
            }
            other => Ok(other?),
        }
    }

    fn attempt(&self, key: &Key, algorithm: Algorithm, data: &[u8]) -> Result<Vec<u8>, Fault> {
        let (result, generation) = {
            let current = self.open_generation()?;
            (self.attempt_in(&current, key, algorithm, data), current.generation)
        };
        if result.as_ref().is_err_and(|fault| fault.class == Class::Reopen) {
            self.close(generation);
        }
        result
    }

    fn attempt_in(
        &self,
        current: &Current,
        key: &Key,
        algorithm: Algorithm,
        data: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        let gone = || Fault::before(Class::Reopen, "the token went away".into());
        let pool = current.pool.as_ref().ok_or_else(gone)?;
        let result = self.sign_in(pool, key, algorithm, data);
        if result.as_ref().is_err_and(|fault| fault.class == Class::Session) {
            let _watched = self.watchdog.watch("C_CloseSession");
            pool.forget_idle();
        }
        result
    }

    fn sign_in(&self, pool: &Pool, key: &Key, algorithm: Algorithm, data: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut lease = pool.lend(&self.watchdog)?;
        // After the lease, so that waiting for a session does not count as hanging.
        let _watched = self.watchdog.watch("C_Sign");
        match sign_with(&mut lease, key, algorithm, data) {
            Ok(signature) => {
                lease.good();
                Ok(signature)
            }
            Err(fault) => {
                drop(lease);
                Err(fault)
            }
        }
    }

    fn open_generation(&self) -> Result<RwLockReadGuard<'_, Current>, Fault> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        if current.pool.is_some() {
            return Ok(current);
        }
        drop(current);
        self.reopen()?;
        Ok(self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens the token after it went away. A PIN that is refused now ends the process, as at the start.
    fn reopen(&self) -> Result<(), Fault> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.pool.is_some() {
            return Ok(());
        }
        if Instant::now() < current.not_before {
            return Err(Fault::before(
                Class::Busy,
                "the token went away and is tried again in a moment".into(),
            ));
        }
        match Pool::open(&self.context, &self.config, &self.pin, &self.watchdog) {
            Ok(pool) => {
                tracing::info!(token = self.config.label, "token is open again");
                current.pool = Some(pool);
                current.failures = 0;
                Ok(())
            }
            Err(fatal @ Fatal::Pin { .. }) => fatal.end(),
            Err(fatal) => {
                current.not_before = Instant::now() + pause(current.failures);
                current.failures = current.failures.saturating_add(1);
                self.finalize();
                Err(Fault::before(Class::Busy, fatal.to_string()))
            }
        }
    }

    /// Closes a generation once; every session is closed before the library is finalised, because a library may give
    /// an old session's handle to a new one.
    fn close(&self, generation: u64) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.generation == generation {
            let _watched = self.watchdog.watch("C_CloseSession");
            current.generation += 1;
            current.pool = None;
            self.finalize();
        }
    }

    fn finalize(&self) {
        let _watched = self.watchdog.watch("C_Finalize");
        if let Err(error) = self.context.clone().finalize() {
            tracing::debug!(%error, "C_Finalize");
        }
    }

    fn quarantine(&self, key: &Key) -> TokenError {
        self.quarantined.lock().unwrap_or_else(PoisonError::into_inner).insert(key.id().clone());
        let detail =
            format!("the token's signature does not verify with the pinned key of CKA_ID {}", key.id());
        tracing::error!(token = self.config.label, key = %key.id(), "{detail}; the key is not used any more");
        TokenError::Unknown { code: code("token-wrong"), detail }
    }
}

fn sign_with(lease: &mut Lease<'_>, key: &Key, algorithm: Algorithm, data: &[u8]) -> Result<Vec<u8>, Fault> {
    let handle = lease.handle(key)?;
    let mechanism = match algorithm {
        Algorithm::EcdsaP256 => Mechanism::Ecdsa,
        Algorithm::Ed25519 => Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)),
    };
    Ok(lease.session()?.sign(&mechanism, handle, data)?)
}

/// How long a token that cannot be opened is left alone.
pub(super) fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(MAX_PAUSE)
}

fn not_signed(word: &'static str, detail: String) -> TokenError {
    TokenError::NotSigned { code: code(word), detail }
}

fn wrong_algorithm(key: &Key) -> TokenError {
    not_signed("token-refused", format!("the key with CKA_ID {} is of another algorithm", key.id()))
}

pub(super) fn verifies_ed25519(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    ed25519_dalek::VerifyingKey::from_bytes(public)
        .is_ok_and(|key| key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_module_that_others_could_have_written_is_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let module = folder.path().join("module.so");
        std::fs::write(&module, "no library").unwrap();
        for (mode, code) in [(0o755, 70), (0o775, 78), (0o757, 78)] {
            std::fs::set_permissions(&module, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = load(&module, "token").unwrap_err();
            assert_eq!(error.code(), code, "{mode:o}: {error}");
            assert!(error.to_string().contains(&module.display().to_string()), "{error}");
        }
    }

    #[test]
    fn pauses_grow_to_half_a_minute() {
        assert_eq!(pause(0), Duration::from_millis(500));
        assert_eq!(pause(3), Duration::from_secs(4));
        assert!((6..40).all(|n| pause(n) == MAX_PAUSE));
    }
}
