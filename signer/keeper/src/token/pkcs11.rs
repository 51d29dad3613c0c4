//! The PKCS#11 token: signs through pooled sessions, applies each error's remedy, opens everything anew when the token
//! went away, and verifies each signature before it leaves.

mod look;

use super::attributes::{ExamineError, examine};
use super::fault::{Class, Fault, said};
use super::login::Login;
use super::pool::{Lease, Pool, initialize, slot_of};
use super::raw::RawSign;
use super::watchdog::Watchdog;
use super::{Key, KeyRef, Pin, Problem, PublicKey, Token, TokenError, TouchPolicy, TouchWait, verified};
use crate::code;
use crate::config::Pkcs11Config;
use crate::exit::Fatal;
use cryptoki::context::Pkcs11;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::slot::Slot;
use record::{PSS_SALT, Signature, SignedData};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// First pause after a failed attempt to open a token that went away; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest such pause: a token that is put back is in use again within this time.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Opens the configured token: loads the library, finds the token, logs in once.
pub(super) fn open(config: &Pkcs11Config) -> Result<Arc<dyn Token>, Fatal> {
    let login = Login::new(&config.label, Pin::read(&config.pin)?);
    let context = load(&config.module, &config.label)?;
    let raw = RawSign::load(&config.module).map_err(|why| Fatal::Token {
        token: config.label.clone(),
        why: format!("{}: {why}", config.module.display()),
    })?;
    let watchdog = Watchdog::start(config.call_deadline_ms, |fatal| fatal.end())
        .map_err(|source| Fatal::Process { what: "the token's watchdog cannot be started", source })?;
    let pool = Pool::open(&context, config, None, &login, &watchdog)?;
    let (sessions, serial) = (pool.max(), pool.serial().to_owned());
    tracing::info!(token = config.label, serial, sessions, "token is open");
    Ok(Arc::new(Pkcs11Token {
        config: config.clone(),
        login,
        context,
        raw,
        watchdog,
        sessions,
        serial,
        current: RwLock::new(Current {
            pool: Some(pool),
            generation: 0,
            not_before: Instant::now(),
            unopened: None,
        }),
        failures: AtomicU32::new(0),
        disabled: Mutex::default(),
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

/// RSASSA-PSS with SHA-256 (RFC 8017): MGF1 over the same hash, a salt of its length.
fn pss_sha256() -> PkcsPssParams {
    PkcsPssParams {
        hash_alg: MechanismType::SHA256,
        mgf: PkcsMgfType::MGF1_SHA256,
        s_len: (PSS_SALT as u64).into(),
    }
}

struct Pkcs11Token {
    config: Pkcs11Config,
    login: Login,
    context: Pkcs11,
    raw: RawSign,
    watchdog: Watchdog,
    sessions: usize,
    /// The token that was open first: another one in its place is never used.
    serial: String,
    current: RwLock<Current>,
    /// How often the token was closed, or could not be opened, since it last signed.
    failures: AtomicU32,
    /// Keys that are not asked any more, and why.
    disabled: Mutex<BTreeMap<KeyRef, String>>,
}

/// The open generation, or from when on the next may be opened.
struct Current {
    pool: Option<Pool>,
    generation: u64,
    not_before: Instant,
    /// Why it could not be opened although it is there.
    unopened: Option<String>,
}

/// Which remedies an item has used up.
#[derive(Debug, Default)]
struct Tried {
    session: bool,
    login: bool,
    reopen: bool,
}

/// A fault, and the generation and login in which it was met.
struct Met {
    fault: Fault,
    generation: u64,
    logins: u64,
}

impl Token for Pkcs11Token {
    fn key(&self, id: &KeyRef, pinned: &PublicKey) -> Result<Key, Fatal> {
        let wrong =
            |why: String| Fatal::Key { token: self.config.label.clone(), cka_id: id.to_string(), why };
        let gone = |why: String| Fatal::Token { token: self.config.label.clone(), why };
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let pool = current.pool.as_ref().ok_or_else(|| gone("it went away".into()))?;
        let lease = pool.lend(&self.watchdog).map_err(|f| gone(f.detail))?;
        let _watched = self.watchdog.watch("C_FindObjects");
        let session = lease.session().map_err(|f| gone(f.detail))?;
        let cka_id =
            id.cka_id().ok_or_else(|| wrong("is a slot of a PIV card, and this token is none".into()))?;
        let found = examine(session, cka_id).map_err(|e| match e {
            ExamineError::Key(why) => wrong(why),
            ExamineError::Token(e) => gone(said(&e)),
        })?;
        lease.good();
        if found.public != *pinned {
            return Err(wrong("its public key is not the pinned one: is this the right token?".into()));
        }
        Ok(Key { id: id.clone(), public: found.public, touch: TouchPolicy::Never, evidence: found.evidence })
    }

    fn sign(
        &self,
        key: &Key,
        data: &SignedData,
        _waits: &dyn Fn(TouchWait),
    ) -> Result<Signature, TokenError> {
        let (mechanism, input): (_, &[u8]) = match (key.public(), data) {
            (PublicKey::P256(_), SignedData::Sha256(digest)) => (Mechanism::Ecdsa, digest.as_bytes()),
            (PublicKey::P384(_), SignedData::Sha384(digest)) => (Mechanism::Ecdsa, digest.as_bytes()),
            (PublicKey::Rsa(_), SignedData::Sha256(digest)) => {
                (Mechanism::RsaPkcsPss(pss_sha256()), digest.as_bytes())
            }
            (PublicKey::Ed25519(_), SignedData::Message(message)) => {
                (Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)), message.bytes())
            }
            _ => return Err(wrong_algorithm(key)),
        };
        let raw = self.ask(key, &mechanism, input)?;
        verified(key, data, &raw, Signature::from_token).ok_or_else(|| self.quarantine(key))
    }

    fn look(&self) -> Option<Vec<Problem>> {
        self.problems()
    }

    fn sessions(&self) -> usize {
        self.sessions
    }

    fn ended(&self) -> Option<Fatal> {
        self.login.refused()
    }
}

impl Pkcs11Token {
    /// Asks the key. After a fault its remedy is applied, and the key asked again if that can help the item and surely
    /// nothing was signed.
    // INVARIANT(one-signature): no attempt follows one after which a signature may exist.
    fn ask(&self, key: &Key, mechanism: &Mechanism<'_>, data: &[u8]) -> Result<Vec<u8>, TokenError> {
        let mut tried = Tried::default();
        loop {
            if let Some(why) = self.disabled.lock().unwrap_or_else(PoisonError::into_inner).get(key.id()) {
                return Err(not_signed("token-quarantined", why.clone()));
            }
            match self.attempt(key, mechanism, data) {
                Ok(signature) => {
                    self.failures.store(0, Ordering::Relaxed);
                    return Ok(signature);
                }
                Err(met) => {
                    tracing::warn!(token = self.config.label, key = %key.id(), fault = ?met.fault, "the token failed");
                    let again = self.remedy(key, &met, &mut tried);
                    if met.fault.may_have_signed || !again {
                        return Err(self.told(met.fault));
                    }
                }
            }
        }
    }

    /// The fault as the caller is told; if the PIN was refused meanwhile, that is the reason.
    fn told(&self, fault: Fault) -> TokenError {
        match self.login.refused() {
            Some(fatal) if !fault.may_have_signed => Fault::before(Class::Pin, fatal.to_string()).into(),
            _ => fault.into(),
        }
    }

    /// Does what helps against a fault; whether the item can be tried again at once.
    fn remedy(&self, key: &Key, met: &Met, tried: &mut Tried) -> bool {
        match met.fault.class {
            Class::Session if !std::mem::replace(&mut tried.session, true) => {
                self.forget_sessions(met.generation);
                true
            }
            Class::Session | Class::Reopen => {
                self.close(met.generation);
                !std::mem::replace(&mut tried.reopen, true)
            }
            Class::Login if !std::mem::replace(&mut tried.login, true) => self.login_again(met),
            Class::Login | Class::Disabled => {
                self.disable(key, format!("the token does not let this key sign ({})", met.fault.detail));
                false
            }
            Class::Pin => {
                self.login.refuse(&met.fault.detail);
                false
            }
            Class::Away | Class::Busy | Class::Refused => false,
        }
    }

    fn attempt(&self, key: &Key, mechanism: &Mechanism<'_>, data: &[u8]) -> Result<Vec<u8>, Met> {
        let nowhere = |fault| Met { fault, generation: u64::MAX, logins: 0 };
        let current = self.open_generation().map_err(nowhere)?;
        let Some(pool) = &current.pool else {
            return Err(nowhere(Fault::before(Class::Away, "the token went away".into())));
        };
        let (generation, logins) = (current.generation, pool.logins());
        self.sign_in(pool, key, mechanism, data).map_err(|fault| Met { fault, generation, logins })
    }

    fn sign_in(
        &self,
        pool: &Pool,
        key: &Key,
        mechanism: &Mechanism<'_>,
        data: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        let mut lease = pool.lend(&self.watchdog)?;
        // After the lease, so that waiting for a session does not count as hanging.
        let _watched = self.watchdog.watch("C_Sign");
        // The lease is dropped before the watch ends: closing a session can hang too.
        match self.sign_with(&mut lease, key, mechanism, data) {
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

    fn sign_with(
        &self,
        lease: &mut Lease<'_>,
        key: &Key,
        mechanism: &Mechanism<'_>,
        data: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        let found = lease.find(key)?;
        lease.session()?.sign_init(mechanism, found.handle)?;
        if found.always_authenticate {
            lease.authenticate(&self.login)?;
        }
        Ok(self.raw.sign(lease.session()?, data)?)
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

    /// Opens the token after it went away, unless that has just failed.
    fn reopen(&self) -> Result<(), Fault> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.pool.is_some() {
            return Ok(());
        }
        if Instant::now() < current.not_before {
            let why = "the token went away and is tried again in a moment".into();
            return Err(Fault::before(Class::Away, why));
        }
        match Pool::open(&self.context, &self.config, Some(&self.serial), &self.login, &self.watchdog) {
            Ok(pool) => {
                tracing::info!(token = self.config.label, "token is open again");
                current.pool = Some(pool);
                current.unopened = None;
                Ok(())
            }
            Err(fatal) => {
                current.not_before = Instant::now() + self.next_pause();
                current.unopened = self.find().is_ok().then(|| fatal.to_string());
                self.finalize();
                Err(match fatal {
                    Fatal::Pin { why, .. } => Fault::before(Class::Pin, why),
                    other => Fault::before(Class::Away, other.to_string()),
                })
            }
        }
    }

    /// Looks for the token in its slot, in a library that is initialised for that if it is not.
    fn find(&self) -> Result<Slot, Fatal> {
        let _watched = self.watchdog.watch("C_Initialize");
        initialize(&self.context, &self.config.label)?;
        let serial = self.config.serial.as_deref().unwrap_or(&self.serial);
        slot_of(&self.context, &self.config.label, Some(serial))
    }

    /// Closes a generation once; every session is closed before the library is finalised, because a library may give
    /// an old session's handle to a new one.
    fn close(&self, generation: u64) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.generation == generation && current.pool.is_some() {
            let _watched = self.watchdog.watch("C_CloseSession");
            current.generation += 1;
            current.pool = None;
            current.not_before = Instant::now() + self.next_pause();
            self.finalize();
        }
    }

    fn finalize(&self) {
        let _watched = self.watchdog.watch("C_Finalize");
        if let Err(error) = self.context.clone().finalize() {
            tracing::debug!(%error, "C_Finalize");
        }
    }

    fn next_pause(&self) -> Duration {
        pause(self.failures.fetch_add(1, Ordering::Relaxed))
    }

    fn forget_sessions(&self, generation: u64) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = current.pool.as_ref().filter(|_| current.generation == generation) {
            let _watched = self.watchdog.watch("C_CloseSession");
            pool.forget_idle();
        }
    }

    /// Whether the item can be tried again: not if the PIN is refused now.
    fn login_again(&self, met: &Met) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let Some(pool) = current.pool.as_ref().filter(|_| current.generation == met.generation) else {
            return true;
        };
        let _watched = self.watchdog.watch("C_Login");
        match pool.login_again(&self.login, met.logins) {
            Ok(()) => true,
            Err(fatal) => {
                tracing::error!(token = self.config.label, %fatal, "the login was not renewed");
                // Without a login nothing works: the next attempt opens everything anew.
                drop(current);
                self.close(met.generation);
                !matches!(fatal, Fatal::Pin { .. })
            }
        }
    }

    fn disable(&self, key: &Key, why: String) {
        tracing::error!(token = self.config.label, key = %key.id(), "{why}; the key is not asked any more: find out why, then start the keeper again");
        self.disabled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(key.id().clone())
            .or_insert_with(|| format!("{why}: an operator must look at the token"));
    }

    fn quarantine(&self, key: &Key) -> TokenError {
        let why = "a signature of the token does not verify with the pinned key";
        self.disable(key, why.into());
        let detail = format!("{why} of CKA_ID {}", key.id());
        TokenError::Unknown { code: code("token-wrong"), detail }
    }
}

/// How long the token is left alone after so many failures: at once after the first.
pub(super) fn pause(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(more) => FIRST_PAUSE.saturating_mul(1 << more.min(10)).min(MAX_PAUSE),
    }
}

fn not_signed(word: &'static str, detail: String) -> TokenError {
    TokenError::NotSigned { code: code(word), detail }
}

fn wrong_algorithm(key: &Key) -> TokenError {
    not_signed("token-refused", format!("the key with CKA_ID {} is of another algorithm", key.id()))
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
        assert_eq!(pause(0), Duration::ZERO, "a token that was just put back");
        assert_eq!(pause(1), Duration::from_millis(500));
        assert_eq!(pause(4), Duration::from_secs(4));
        assert!((7..40).all(|n| pause(n) == MAX_PAUSE));
    }
}
