//! The image keys of an instance's token, used without its keeper, which must not run meanwhile.

use anyhow::{Context, Result, ensure};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::Mechanism,
    object::{Attribute, ObjectClass, ObjectHandle},
    session::{Session as TokenSession, UserType},
    slot::Slot,
    types::AuthPin,
};
use record::{KeeperName, KeeperRecord, Origin, Purpose, RoleKeys, Sha256, Signature, Spki};
use std::{fs, path::Path, sync::Arc};

/// The keys, and the words of the log about them.
pub(super) struct ImageKeys {
    token: Pkcs11,
    slot: Slot,
    // The login is the process's, and ends with its last session.
    _login: TokenSession,
    names: Arc<Names>,
}

/// What the log calls things.
pub(super) struct Names {
    pub(super) log: Origin,
    pub(super) keeper: KeeperName,
    /// Under which the keys may sign; ends in `/`.
    pub(super) prefix: String,
    pub(super) spkis: [Spki; 4],
    metadata_ids: [String; 4],
}

/// The keys as one thread uses them.
pub(super) struct Session {
    token: TokenSession,
    handles: [ObjectHandle; 4],
    pub(super) names: Arc<Names>,
}

impl ImageKeys {
    /// Logs in to the token of the instance's signing keeper; its keys are those of `keeper`.
    pub(super) fn open(dir: &Path, log: &Origin, keeper: &KeeperRecord) -> Result<Self> {
        let folder = dir.join("signing");
        let conf = folder.join("softhsm2.conf");
        let told = std::env::var_os("SOFTHSM2_CONF").is_some_and(|path| Path::new(&path) == conf);
        ensure!(told, "run with SOFTHSM2_CONF={}", conf.display());
        let token = Pkcs11::new(hsm_sim::SoftHsm::installed()?)?;
        token.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
        let slot = *token.get_slots_with_initialized_token()?.first().context("no token")?;
        let login = token.open_ro_session(slot)?;
        let pin = fs::read_to_string(folder.join("pin"))?;
        login.login(UserType::User, Some(&AuthPin::from(pin.trim().to_owned())))?;
        Ok(Self { token, slot, _login: login, names: Arc::new(Names::of(log, keeper)?) })
    }

    pub(super) fn session(&self) -> Result<Session> {
        let token = self.token.open_ro_session(self.slot)?;
        // `chancery dev` numbers its keys from 1, in this order of their purposes.
        let handle = |id: u8| {
            let wanted = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(vec![id])];
            token.find_objects(&wanted)?.first().copied().with_context(|| format!("no key {id}"))
        };
        let handles = [handle(1)?, handle(2)?, handle(3)?, handle(4)?];
        Ok(Session { token, handles, names: self.names.clone() })
    }
}

impl Names {
    fn of(log: &Origin, keeper: &KeeperRecord) -> Result<Self> {
        let key = |purpose: Purpose| {
            keeper.keys.iter().find(|k| k.purpose == purpose).with_context(|| format!("no {purpose} key"))
        };
        let [root, targets, snapshot, timestamp] = Purpose::ALL;
        let prefix = key(root)?.repositories.first().context("a key without repositories")?.clone();
        let spkis = [key(root)?, key(targets)?, key(snapshot)?, key(timestamp)?].map(|k| k.spki.clone());
        let metadata_ids = spkis.each_ref().map(formats::dct::key_id);
        Ok(Self { log: log.clone(), keeper: keeper.name.clone(), prefix, spkis, metadata_ids })
    }

    pub(super) fn spki(&self, purpose: Purpose) -> &Spki {
        &self.spkis[purpose as usize]
    }

    /// What metadata calls the key of this purpose.
    pub(super) fn metadata_id(&self, purpose: Purpose) -> &str {
        &self.metadata_ids[purpose as usize]
    }

    pub(super) fn roles(&self) -> RoleKeys {
        let [root, targets, snapshot, timestamp] = Purpose::ALL.map(|purpose| self.spki(purpose).id());
        RoleKeys { root, targets, snapshot, timestamp }
    }
}

impl Session {
    /// The token's signature over a payload with this hash.
    pub(super) fn sign(&self, purpose: Purpose, payload: &Sha256) -> Result<Signature> {
        let made = self.token.sign(&Mechanism::Ecdsa, self.handles[purpose as usize], payload.as_bytes())?;
        Ok(Signature::from_raw(&made)?)
    }
}
