//! The first start: PINs, tokens, keys, charters, certificates and configurations, in this order.

use super::{
    layout::{Layout, Role, Settings, write_private},
    supervise::Family,
};
use crate::{commands::daemon::sibling, exit::Exit, failure::Failure};
use record::{Nonce, Purpose, Spki};
use serde::Deserialize;
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// Where Debian puts SoftHSM's library.
const SOFTHSM: [&str; 2] =
    ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];
/// Longest validity that each key's charter grants, in days: a little above what policy asks for.
const MAX_VALIDITY_DAYS: [(Purpose, u32); 4] =
    [(Purpose::Root, 3660), (Purpose::Targets, 1100), (Purpose::Snapshot, 1100), (Purpose::Timestamp, 31)];

/// What `chancery-keeper admin key generate` prints, as far as it is needed here.
#[derive(Deserialize)]
struct Generated {
    #[serde(default)]
    vkey: Option<String>,
    #[serde(default)]
    spki: Option<Spki>,
}

/// SoftHSM's library.
pub(super) fn softhsm() -> Result<PathBuf, Failure> {
    SOFTHSM.iter().map(PathBuf::from).find(|p| p.is_file()).ok_or_else(|| {
        Failure::new(Exit::State, "SoftHSM is not installed")
            .next("apt-get install softhsm2, or name a PKCS#11 library with --pkcs11-module")
    })
}

/// Makes every file of a new instance but the database and the marker.
pub(super) async fn files(family: &mut Family, layout: &Layout, settings: &Settings) -> Result<(), Failure> {
    layout.make_folders()?;
    for role in Role::ALL {
        token(family, layout, settings, role).await?;
    }
    let vkey = log_keeper(family, layout, settings).await?;
    signing_keeper(family, layout, settings, &vkey).await?;
    certificates(layout, settings)?;
    policy(layout, settings)?;
    daemon(layout, settings, &vkey)?;
    for role in Role::ALL {
        keeper(family, role, &["init", "--config", text(&layout.keeper_config(role))]).await?;
    }
    Ok(())
}

/// A command of `chancery-keeper` with the environment that the keeper of this role has.
pub(super) fn keeper_command(layout: &Layout, settings: &Settings, role: Role) -> Command {
    let mut command = Command::new(sibling("chancery-keeper"));
    command.env_clear().env("SOFTHSM2_CONF", layout.softhsm_conf(role));
    for name in ["PATH", "CHANCERY_LOG", "CHANCERY_LOG_FORMAT"]
        .into_iter()
        .chain(settings.keeper_env.iter().map(String::as_str))
    {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

async fn keeper(family: &mut Family, role: Role, args: &[&str]) -> Result<Vec<u8>, Failure> {
    let what = format!("chancery-keeper {}", args.iter().take(3).copied().collect::<Vec<_>>().join(" "));
    let output = family.run_keeper(role, args).await.map_err(|e| {
        Failure::new(Exit::State, format!("cannot run {what}"))
            .why(e)
            .next("install chancery-keeper beside chancery")
    })?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Failure::new(Exit::Token, format!("{what} failed ({})", output.status)).why(why))
    }
}

fn random() -> Result<String, Failure> {
    let nonce = Nonce::random()
        .map_err(|e| Failure::new(Exit::Internal, "the system gives no random bytes").why(e))?;
    // SoftHSM takes PINs of 4 to 255 bytes; hardware tokens often stop at 16.
    Ok(nonce.as_str().chars().take(16).collect())
}

async fn token(family: &mut Family, layout: &Layout, settings: &Settings, role: Role) -> Result<(), Failure> {
    let tokens = layout.keeper(role).join("tokens");
    let conf = format!(
        "directories.tokendir={}\nobjectstore.backend=file\nlog.level=ERROR\nslots.removable=false\n",
        tokens.display()
    );
    write_private(&layout.softhsm_conf(role), conf.as_bytes())?;
    let so_pin = layout.keeper(role).join("so-pin");
    write_private(&layout.pin(role), random()?.as_bytes())?;
    write_private(&so_pin, random()?.as_bytes())?;
    let (module, label, pin) = (text(&settings.module), label(role), layout.pin(role));
    let args = [
        "admin",
        "token",
        "init",
        "--module",
        module,
        "--label",
        &label,
        "--so-pin-file",
        text(&so_pin),
        "--pin-file",
        text(&pin),
    ];
    keeper(family, role, &args).await.map(drop)
}

/// A key to be made in the token of a keeper.
struct NewKey<'a> {
    role: Role,
    id: &'a str,
    name: &'a str,
    more: &'a [&'a str],
}

async fn generate(
    family: &mut Family,
    layout: &Layout,
    settings: &Settings,
    key: NewKey<'_>,
) -> Result<Generated, Failure> {
    let NewKey { role, id, name, more } = key;
    let (module, token, pin) = (text(&settings.module), label(role), layout.pin(role));
    let mut args = vec![
        "admin",
        "key",
        "generate",
        "--module",
        module,
        "--token-label",
        &token,
        "--pin-file",
        text(&pin),
    ];
    args.extend(["--id", id, "--label", name]);
    args.extend(more);
    let printed = keeper(family, role, &args).await?;
    serde_json::from_slice(&printed)
        .map_err(|e| Failure::new(Exit::Internal, "chancery-keeper printed something unexpected").why(e))
}

fn public_key(made: Generated) -> Result<Spki, Failure> {
    made.spki.ok_or_else(|| Failure::new(Exit::Internal, "no public key was printed for a key"))
}

/// A public key as configurations and charters write it.
fn encoded(spki: &Spki) -> Result<String, Failure> {
    serde_json::to_string(spki).map_err(|e| Failure::new(Exit::Internal, "a key has no text").why(e))
}

/// The keys of the log, and its keeper's configuration; gives the verifier key.
async fn log_keeper(family: &mut Family, layout: &Layout, settings: &Settings) -> Result<String, Failure> {
    let more = ["--type", settings.log_key.as_str(), "--origin", &settings.origin];
    let made =
        generate(family, layout, settings, NewKey { role: Role::Log, id: "01", name: "log", more: &more })
            .await?;
    let vkey = made
        .vkey
        .ok_or_else(|| Failure::new(Exit::Internal, "no verifier key was printed for the log key"))?;
    let key = NewKey { role: Role::Log, id: "10", name: "set", more: &["--type", "p256"] };
    let set_key = public_key(generate(family, layout, settings, key).await?)?;
    let config = format!(
        "role = \"log\"\norigin = {}\n{}\n[key]\ncka_id = \"01\"\nvkey = {}\n\n[set_key]\ncka_id = \"10\"\nspki = {}\n",
        string(&settings.origin),
        shared_config(settings, Role::Log),
        string(&vkey),
        encoded(&set_key)?
    );
    write_private(&layout.set_key(), set_key.to_pem().as_bytes())?;
    write_private(&layout.keeper_config(Role::Log), config.as_bytes())?;
    write_private(&layout.pubkeys().join("log.vkey"), format!("{vkey}\n").as_bytes())?;
    Ok(vkey)
}

/// The four role keys, the charter that bounds them, and the keeper's configuration.
async fn signing_keeper(
    family: &mut Family,
    layout: &Layout,
    settings: &Settings,
    vkey: &str,
) -> Result<(), Failure> {
    let mut charter = format!(
        "# What this keeper may sign. Only its operator changes this file.\nschema = 1\nkeeper = \"signing\"\norigin = {}\nlog_vkey = {}\n",
        string(&settings.origin),
        string(vkey)
    );
    let repositories: Vec<String> = settings.repositories.iter().map(|r| string(r)).collect();
    for (number, (purpose, days)) in MAX_VALIDITY_DAYS.into_iter().enumerate() {
        let id = format!("{:02x}", number + 1);
        let key = NewKey { role: Role::Signing, id: &id, name: purpose.as_str(), more: &["--type", "p256"] };
        let spki = public_key(generate(family, layout, settings, key).await?)?;
        let encoded = encoded(&spki)?;
        let _infallible = write!(
            charter,
            "\n[[key]]\nspki = {encoded}\ncka_id = \"{id}\"\npurpose = \"{purpose}\"\nrepositories = [{}]\napproval = \"none\"\n\
             signatures_per_hour = 1000000\nmax_validity_days = {days}\n",
            repositories.join(", ")
        );
        write_private(&layout.pubkeys().join(format!("{purpose}.pub.pem")), spki.to_pem().as_bytes())?;
    }
    write_private(&layout.keeper(Role::Signing).join("charter.toml"), charter.as_bytes())?;
    let config = format!(
        "role = \"sign\"\nname = \"signing\"\ncharter = \"charter.toml\"\n{}",
        shared_config(settings, Role::Signing)
    );
    write_private(&layout.keeper_config(Role::Signing), config.as_bytes())
}

fn shared_config(settings: &Settings, role: Role) -> String {
    format!(
        "state = \"state\"\nsocket = \"keeper.sock\"\n\n[token]\nmodule = {}\nlabel = {}\npin_file = \"pin\"\n",
        string(text(&settings.module)),
        string(&label(role))
    )
}

/// A CA of this instance alone, and the server's certificate.
fn certificates(layout: &Layout, settings: &Settings) -> Result<(), Failure> {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
    let bad = |e: rcgen::Error| Failure::new(Exit::Internal, "cannot make the TLS certificate").why(e);
    let ca_key = KeyPair::generate().map_err(bad)?;
    let mut ca = CertificateParams::new(Vec::new()).map_err(bad)?;
    ca.distinguished_name.push(DnType::CommonName, "chancery dev CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_certificate = ca.self_signed(&ca_key).map_err(bad)?;
    let issuer = Issuer::new(ca, ca_key);
    let mut names = vec![settings.host.clone(), "localhost".into(), "127.0.0.1".into()];
    names.sort();
    names.dedup();
    let server_key = KeyPair::generate().map_err(bad)?;
    let server = CertificateParams::new(names).map_err(bad)?.signed_by(&server_key, &issuer).map_err(bad)?;
    write_private(&layout.ca(), ca_certificate.pem().as_bytes())?;
    write_private(&layout.tls().join("server.pem"), server.pem().as_bytes())?;
    write_private(&layout.tls().join("server.key"), server_key.serialize_pem().as_bytes())
}

fn policy(layout: &Layout, settings: &Settings) -> Result<(), Failure> {
    let mut text = "# Who may have what signed; see the reference for all members. chanceryd loads changes when it starts and on SIGHUP.\nschema = 1\n".to_owned();
    for name in &settings.repositories {
        let _infallible = write!(
            text,
            "\n[[repository]]\nname = {}\nimmutable_tags = true\ncreate_on_first_sign = true\n",
            string(name)
        );
    }
    write_private(&layout.policy().join("repositories.toml"), text.as_bytes())
}

fn daemon(layout: &Layout, settings: &Settings, vkey: &str) -> Result<(), Failure> {
    let path = |p: PathBuf| string(text(&p));
    let mut config = format!(
        "listen = {}\ndata = {}\npolicy = {}\ntls_certificate = {}\ntls_key = {}\n\n[log]\nsocket = {}\nvkey = {}\n\n\
         [[keeper]]\nname = \"signing\"\nsocket = {}\n",
        string(&settings.address),
        path(layout.data()),
        path(layout.policy()),
        path(layout.tls().join("server.pem")),
        path(layout.tls().join("server.key")),
        path(layout.socket(Role::Log)),
        string(vkey),
        path(layout.socket(Role::Signing)),
    );
    for registry in &settings.registries {
        let (host, scheme) = registry.split_once('=').unwrap_or((registry, "https"));
        let _infallible =
            write!(config, "\n[[registry]]\nhost = {}\nscheme = {}\n", string(host), string(scheme));
    }
    write_private(&layout.daemon_config(), config.as_bytes())
}

fn label(role: Role) -> String {
    format!("chancery-{}", role.name())
}

/// A TOML basic string: JSON's escapes are a subset of TOML's.
fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A path as the text that configurations and arguments need.
fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}
