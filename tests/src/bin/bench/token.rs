//! The bare token: what there is to be had.

use anyhow::{Context, Result};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::Mechanism,
    object::{Attribute, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};
use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long the raw token is measured.
const RAW: Duration = Duration::from_secs(3);

/// Signatures a second that the token makes with nothing around it; measured in a child, since SoftHSM finds its
/// configuration in the environment.
pub(crate) fn raw_rate(threads: usize) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let token = hsm_sim::SoftHsm::create(folder.path(), "bench")?;
    let mut child = Command::new(std::env::current_exe()?);
    child.arg("raw").arg(threads.to_string()).arg(token.module()).arg(token.pin_file()).envs(token.env());
    let output = child.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// The child: prints the rate.
pub(crate) fn raw(args: &[String]) -> Result<()> {
    let [threads, module, pin] = args else { anyhow::bail!("raw THREADS MODULE PIN-FILE") };
    let pkcs11 = Pkcs11::new(module)?;
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let slot = *pkcs11.get_slots_with_initialized_token()?.first().context("no token")?;
    let keeper = pkcs11.open_rw_session(slot)?;
    keeper.login(UserType::User, Some(&AuthPin::from(fs::read_to_string(pin)?.trim().to_owned())))?;
    let p256 = vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let public = [Attribute::Token(true), Attribute::Verify(true), Attribute::EcParams(p256)];
    let private =
        [Attribute::Token(true), Attribute::Private(true), Attribute::Sign(true), Attribute::Sensitive(true)];
    let (_, key) = keeper.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?;
    let end = Instant::now() + RAW;
    let workers: Vec<_> = (0..threads.parse::<usize>()?)
        .map(|_| {
            pkcs11.open_ro_session(slot).map(|session| thread::spawn(move || signatures(&session, key, end)))
        })
        .collect::<Result<_, _>>()?;
    let made: usize = workers.into_iter().map(|w| w.join().unwrap_or(0)).sum();
    println!("{}", made as f64 / RAW.as_secs_f64());
    Ok(())
}

fn signatures(session: &Session, key: ObjectHandle, end: Instant) -> usize {
    let mut made = 0;
    while Instant::now() < end && session.sign(&Mechanism::Ecdsa, key, &[7; 32]).is_ok() {
        made += 1;
    }
    made
}
