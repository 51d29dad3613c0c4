//! The state behind the C functions: made at the first call, from the environment, for the life of the process; and
//! the one door through which every C function enters Rust.

use crate::{
    control::{Control, ControlError},
    faults::Faults,
    journal::{Journal, JournalError},
    operations::{Operations, OperationsError},
    overrides,
    real::{LoadError, Real},
};
use cryptoki_sys::{CK_FUNCTION_LIST, CK_RV, CKR_GENERAL_ERROR};
use std::{
    env,
    error::Error,
    fmt,
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{OnceLock, atomic::AtomicPtr, atomic::Ordering},
};

/// The text that a module gets with `C_Initialize`; without it the module gets what the caller gave.
pub(crate) const INIT_ARGS_VARIABLE: &str = "HSM_SIM_INIT_ARGS";

static FORWARDER: OnceLock<Result<Forwarder, Refusal>> = OnceLock::new();

/// A call that the forwarder does not let pass. The caller gets `CKR_GENERAL_ERROR`, stderr the text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{variable} is not set; give the process the whole environment of a journaled token")]
    Unset { variable: &'static str },
    #[error("{variable} holds a NUL byte; name a text")]
    NotAText { variable: &'static str },
    #[error("the forwarder could not start: see its first line on stderr")]
    NotStarted,
    #[error("the real module cannot be had")]
    Load(#[from] LoadError),
    #[error("the journal cannot be kept")]
    Journal(#[from] JournalError),
    #[error("the open operations cannot be kept")]
    Operations(#[from] OperationsError),
    #[error("the control folder cannot be obeyed")]
    Control(#[from] ControlError),
    #[error("the key's CKA_ID cannot be read (0x{rv:x}), so its signature could not be journaled")]
    KeyUnnamed { rv: CK_RV },
    #[error("the module would sign in a session in which this forwarder saw no C_SignInit succeed")]
    Unseen,
    #[error("a buffer of {bytes} bytes is more than an address space holds")]
    Length { bytes: u64 },
    #[error("the module made a signature without a place for its length")]
    NoLength,
}

/// Everything that the C functions share.
pub(crate) struct Forwarder {
    pub(crate) real: Real,
    pub(crate) journal: Journal,
    pub(crate) operations: Operations,
    /// Present if the environment names a control folder.
    pub(crate) faults: Option<Faults>,
    list: AtomicPtr<CK_FUNCTION_LIST>,
}

impl Forwarder {
    /// The function list that callers get; it lives as long as the process.
    pub(crate) fn list(&self) -> *mut CK_FUNCTION_LIST {
        self.list.load(Ordering::Relaxed)
    }

    fn start() -> Result<Self, Refusal> {
        let real = Real::load(&path_from("HSM_SIM_MODULE")?, overrides::C_GetFunctionList)?;
        let journal = Journal::open(&path_from("HSM_SIM_JOURNAL")?)?;
        let faults = control()?.map(Faults::new);
        let over = if faults.is_some() { overrides::over_with_faults } else { overrides::over };
        let list = Box::leak(Box::new(over(real.functions())));
        Ok(Self { real, journal, operations: Operations::default(), faults, list: AtomicPtr::new(list) })
    }
}

/// Runs the Rust side of the C function `name`. Whatever goes wrong in it, C sees a number.
pub(crate) fn enter(
    name: &'static str,
    body: impl FnOnce(&'static Forwarder) -> Result<CK_RV, Refusal>,
) -> CK_RV {
    let guarded = AssertUnwindSafe(|| started(name).and_then(body));
    match catch_unwind(guarded) {
        Ok(Ok(rv)) => rv,
        Ok(Err(refusal)) => refuse(name, &Chain(&refusal)),
        Err(_) => refuse(name, &"the forwarder panicked; its text is above"),
    }
}

/// Why the start failed is told once, by the call that tried.
fn started(name: &'static str) -> Result<&'static Forwarder, Refusal> {
    let start = || Forwarder::start().inspect_err(|refusal| report(name, &Chain(refusal)));
    FORWARDER.get_or_init(start).as_ref().map_err(|_| Refusal::NotStarted)
}

/// Without the variable there are no faults.
fn control() -> Result<Option<Control>, ControlError> {
    env::var_os("HSM_SIM_CONTROL").map(|folder| Control::open(Path::new(&folder))).transpose()
}

fn path_from(variable: &'static str) -> Result<PathBuf, Refusal> {
    env::var_os(variable).map(PathBuf::from).ok_or(Refusal::Unset { variable })
}

fn refuse(name: &'static str, why: &dyn fmt::Display) -> CK_RV {
    report(name, why);
    CKR_GENERAL_ERROR
}

/// A host without stderr still gets the error code.
fn report(name: &'static str, why: &dyn fmt::Display) {
    let _ = writeln!(io::stderr(), "hsm-sim-pkcs11: {name}: {why}");
}

/// An error with its sources on one line.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Chain, Refusal};
    use crate::journal::JournalError;
    use std::{io, path::PathBuf};

    #[test]
    fn a_refusal_names_all_its_causes() {
        let source = io::Error::from(io::ErrorKind::StorageFull);
        let refusal = Refusal::from(JournalError::Write { path: PathBuf::from("/j"), source });
        let text = Chain(&refusal).to_string();
        assert!(text.starts_with("the journal cannot be kept: /j: "), "{text}");
        assert!(text.ends_with(&io::Error::from(io::ErrorKind::StorageFull).to_string()), "{text}");
    }
}
