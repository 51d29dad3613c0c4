//! The module, the token in it, its PIN, and the keeper's keys.

use super::{Check, Report};
use crate::admin::token::{About, refuse_pin};
use crate::admin::{Present, find};
use crate::config::{Config, PinSource, Pkcs11Config};
use crate::exit::Fatal;
use crate::sign::charter::Charter;
use crate::token::{
    CkaId, Pin, PublicKey, Watchdog, examine, initialize, load, login_once, public_key, unusable,
};
use cryptoki::session::Session;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where pcscd listens, if `PCSCLITE_CSOCK_NAME` names no other place.
const PCSCD: &str = "/run/pcscd/pcscd.comm";
/// The library by which a module speaks to pcscd.
const PCSC_LIBRARY: &[u8] = b"libpcsclite";

/// A keeper whose PKCS#11 token is looked at.
pub(super) struct Patient<'a> {
    pub(super) config: &'a Config,
    pub(super) token: &'a Pkcs11Config,
    pub(super) charter: Option<&'a Charter>,
    pub(super) watchdog: &'a Watchdog,
}

impl Patient<'_> {
    /// Everything from the module to the keys; what needs something that failed is left out.
    pub(super) fn examine(&self, login: bool, report: &Report) {
        report.add(pin_source(&self.token.pin));
        report.add(self.pcscd());
        let Some(present) = self.module(report) else { return };
        let label = &self.token.label;
        let pin = match refuse_pin(&present.info, label) {
            Ok(warning) => {
                report.add(Check::good(
                    "pin",
                    warning.unwrap_or_else(|| "the token counts no wrong PIN".into()),
                ));
                true
            }
            Err(fatal) => {
                let remedy =
                    "a keeper does not start with it: put the PIN in order with the token's own tool";
                report.add(Check::failed("pin", &fatal, remedy));
                false
            }
        };
        self.keys(&present, login && pin, report);
    }

    /// Whether the smart card service answers, where the module speaks to it.
    fn pcscd(&self) -> Check {
        let module = std::fs::read(&self.token.module).unwrap_or_default();
        if module.windows(PCSC_LIBRARY.len()).any(|bytes| bytes == PCSC_LIBRARY) {
            pcscd()
        } else {
            Check::skipped("pcscd", "the module does not speak to it itself")
        }
    }

    fn module(&self, report: &Report) -> Option<Present> {
        let token = self.token;
        let loaded = {
            let _watched = self.watchdog.watch("C_Initialize");
            load(&token.module, &token.label).and_then(|context| {
                initialize(&context, &token.label)?;
                let about = context.get_library_info().map_err(|e| unusable(&token.label, &e))?;
                Ok((context, about.library_description().to_owned()))
            })
        };
        let context = match loaded {
            Ok((context, name)) => {
                report.add(Check::good("module", format!("{}: {name}", token.module.display())));
                context
            }
            Err(fatal) => {
                let remedy = "correct token.module, the file's owner and mode, or what the library itself needs (its \
                              configuration and environment)";
                report.add(Check::failed("module", &fatal, remedy));
                return None;
            }
        };
        let _watched = self.watchdog.watch("C_GetTokenInfo");
        match find(&context, &token.label, token.serial.as_deref()) {
            Ok((slot, info)) => {
                let serial = info.serial_number();
                let pinned = match token.serial {
                    Some(_) => "as the configuration pins it",
                    None => {
                        "which the configuration does not pin: chancery-keeper admin token enrol does that"
                    }
                };
                report.add(Check::good(
                    "token",
                    format!("{} has the serial number {serial}, {pinned}", token.label),
                ));
                self.sessions(&About::of(&info), report);
                Some(Present { context, slot, info })
            }
            Err(fatal) => {
                let remedy = "connect the token; if it was replaced, enrol the new one: chancery-keeper admin token enrol";
                report.add(Check::failed("token", &fatal, remedy));
                None
            }
        }
    }

    fn sessions(&self, about: &About, report: &Report) {
        let wanted = self.token.sessions as u64;
        // One more holds the login.
        if let Some(max) = about.max_sessions.filter(|max| *max <= wanted) {
            let says = format!(
                "the token allows {max}, of which one holds the login; {wanted} are configured to sign"
            );
            report.add(Check::good("sessions", says));
        }
    }

    fn keys(&self, present: &Present, login: bool, report: &Report) {
        let label = &self.token.label;
        let _watched = self.watchdog.watch("C_Login or C_FindObjects");
        let session = match present.context.open_ro_session(present.slot) {
            Ok(session) => session,
            Err(e) => {
                report.add(Check::failed(
                    "keys",
                    &unusable(label, &e),
                    "find out what holds the token's sessions",
                ));
                return;
            }
        };
        if login && !self.log_in(&session, present, report) {
            return;
        }
        for (what, id, pinned) in self.pinned() {
            report.add(self.key(&session, what, &id, &pinned, login));
        }
    }

    fn log_in(&self, session: &Session, present: &Present, report: &Report) -> bool {
        let token = self.token;
        let tried =
            Pin::read(&token.pin).and_then(|pin| login_once(session, &present.info, &pin, &token.label));
        match tried {
            Ok(()) => {
                report.add(Check::good("login", "the PIN was tried once, and is right"));
                true
            }
            Err(fatal) => {
                report.add(Check::failed(
                    "login",
                    &fatal,
                    "put the right PIN where the keeper reads it; do not try others",
                ));
                false
            }
        }
    }

    fn pinned(&self) -> Vec<(String, CkaId, PublicKey)> {
        match self.config {
            Config::Log(config) => {
                let keys = config.keys();
                keys.filter_map(|(what, id, key)| Some((what.into(), id.cka_id()?.clone(), key.clone())))
                    .collect()
            }
            Config::Sign(_) => self
                .charter
                .into_iter()
                .flat_map(Charter::keys)
                .filter_map(|(_, key)| {
                    let id = key.at.cka_id()?.clone();
                    Some((format!("{} key", key.purpose), id, PublicKey::P256(key.spki.clone())))
                })
                .collect(),
        }
    }

    fn key(&self, session: &Session, what: String, id: &CkaId, pinned: &PublicKey, login: bool) -> Check {
        let wrong = |why: String| Fatal::Key { token: self.token.label.clone(), cka_id: id.to_string(), why };
        let remedy = "is this the right token? if its key is lost, retire it and generate another: \
                      chancery-keeper admin key retire, then admin key generate";
        if !login {
            return match public_key(session, id) {
                Ok(found) if found == *pinned => Check::good(
                    what,
                    format!(
                        "CKA_ID {id} is there with the pinned public key; --login also reads its attributes"
                    ),
                ),
                Ok(_) => Check::failed(what, &wrong("its public key is not the pinned one".into()), remedy),
                Err(e) => Check::skipped(
                    what,
                    format!("CKA_ID {id} is not seen without a login ({e}): --login looks"),
                ),
            };
        }
        match examine(session, id) {
            Ok(found) if found.public == *pinned => {
                Check::good(what, format!("CKA_ID {id} is the pinned key: {}", found.evidence.join(" ")))
            }
            Ok(_) => Check::failed(what, &wrong("its public key is not the pinned one".into()), remedy),
            Err(e) => Check::failed(what, &wrong(e.to_string()), remedy),
        }
    }
}

/// Whether this user can read the PIN where the configuration says.
pub(super) fn pin_source(source: &PinSource) -> Check {
    let what = "pin source";
    match source {
        PinSource::File(path) => match Pin::from_file(path) {
            Ok(_) => Check::good(what, format!("{} is read by this user only", path.display())),
            Err(fatal) => {
                let remedy = "give the file one line with the PIN, this user as its owner, and the mode 0600";
                Check::failed(what, &fatal, remedy)
            }
        },
        PinSource::Credential(name) if std::env::var_os("CREDENTIALS_DIRECTORY").is_none() => Check::skipped(
            what,
            format!("the credential {name} is seen inside the keeper's unit only: run this there"),
        ),
        PinSource::Credential(_) => match Pin::read(source) {
            Ok(_) => Check::good(what, "the credential can be read"),
            Err(fatal) => Check::failed(what, &fatal, "correct LoadCredential= in the keeper's unit"),
        },
        PinSource::Fd(fd) => Check::skipped(
            what,
            format!("descriptor {fd} is handed to the keeper at its start, and was not read here"),
        ),
    }
}

/// Whether the smart card service answers.
pub(super) fn pcscd() -> Check {
    let socket = std::env::var_os("PCSCLITE_CSOCK_NAME").map_or_else(|| PCSCD.into(), PathBuf::from);
    match std::os::unix::net::UnixStream::connect(&socket) {
        Ok(_) if is_open(&socket) => Check::warning(
            "pcscd",
            format!("{} answers everybody on this host", socket.display()),
            "close it: [Socket] SocketMode=0660 SocketGroup=chancery-piv in /etc/systemd/system/pcscd.socket.d/chancery.conf; \
             else any local user can use a PIN that the keeper has given, or try wrong ones",
        ),
        Ok(_) => Check::good("pcscd", format!("{} answers", socket.display())),
        Err(e) => Check::bad(
            "pcscd",
            70,
            format!("{}: {e}", socket.display()),
            "start it (systemctl enable --now pcscd.socket), and let this user reach the socket: by its group, or by polkit \
             where pcscd asks that",
        ),
    }
}

/// Whether every user may connect, which on Linux is the right to write.
fn is_open(socket: &Path) -> bool {
    std::fs::metadata(socket).is_ok_and(|about| about.mode() & 0o002 != 0)
}
