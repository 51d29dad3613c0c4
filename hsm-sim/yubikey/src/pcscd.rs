//! A pcscd of one's own: with vpcd readers named like a YubiKey's, on a private socket.
//!
//! pcscd's socket has a fixed path, but a pcscd that is started as systemd would start it takes the socket it is handed.
//! Clients find it by `PCSCLITE_CSOCK_NAME`. So many of them run beside each other and beside the machine's own.

use crate::Error;
use rustix::process::geteuid;
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, PipeWriter},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// The environment variable that leads PC/SC clients to a socket.
pub const SOCKET_VARIABLE: &str = "PCSCLITE_CSOCK_NAME";
/// The name that `ykman`, `yubico-piv-tool` and `ykcs11` look for.
const FRIENDLY_NAME: &str = "Yubico YubiKey CCID";
/// Where Debian's package vsmartcard-vpcd puts the driver.
const DRIVER: &str = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so";
const PCSCD: &str = "/usr/sbin/pcscd";
/// pcscd insists on this folder, whatever socket it is handed.
const RUN: &str = "/run/pcscd";
/// The driver opens two slots a reader, on neighbouring ports.
const SLOTS_A_READER: usize = 2;
/// Below the ports that the kernel gives to clients.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Attempts to find a free pair of ports.
const ATTEMPTS: usize = 100;
/// The socket comes as stdin and the parent's pipe as stdout. When the pipe closes, for whatever reason, pcscd ends.
const LAUNCH: &str = r#"
exec 3<&0 4<&1 0</dev/null 1>&2
sh -c 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$1" --foreground --config "$2" 4<&-' sh "$1" "$2" &
cat <&4 >/dev/null 3<&-
kill $!
wait
"#;

/// A running pcscd. It ends when it is dropped, or when this process ends.
#[derive(Debug)]
pub struct Pcscd {
    socket: PathBuf,
    ports: Vec<u16>,
    child: Child,
    /// Closing it ends the child.
    lifeline: Option<PipeWriter>,
}

impl Pcscd {
    /// Says what this machine lacks for it; a test that needs it prints `SKIPPED:` and this text, and returns.
    pub fn missing() -> Option<String> {
        let absent: Vec<&str> =
            [PCSCD, DRIVER].into_iter().filter(|path| !Path::new(path).exists()).collect();
        if !absent.is_empty() {
            let absent = absent.join(", ");
            return Some(format!(
                "not here: {absent}; Debian's packages pcscd and vsmartcard-vpcd have them"
            ));
        }
        let startable = geteuid().is_root() || Path::new(RUN).is_dir();
        (!startable).then(|| format!("not here: {RUN}, which pcscd makes if it is root; make it, or be root"))
    }

    /// Starts one with room for so many cards. `dir` takes its socket, its configuration and its log.
    pub fn start(dir: &Path, cards: usize) -> Result<Self, Error> {
        let readers: Vec<u16> =
            (0..cards.div_ceil(SLOTS_A_READER)).map(|_| free_pair()).collect::<Result<_, _>>()?;
        let config = dir.join("readers");
        fs::create_dir_all(&config).map_err(Error::file("make the folder", &config))?;
        configure(dir, &readers).map_err(Error::file("write the readers' configuration", &config))?;
        let socket = dir.join("pcscd.comm");
        let listener = UnixListener::bind(&socket).map_err(Error::file("make pcscd's socket", &socket))?;
        let log = dir.join("pcscd.log");
        let log = File::create(&log).map_err(Error::file("write pcscd's log", &log))?;
        let (child, lifeline) =
            launch(listener.into(), log, config.as_os_str()).map_err(Error::start("pcscd through sh"))?;
        let ports = readers.iter().flat_map(|port| [*port, port + 1]).take(cards).collect();
        Ok(Self { socket, ports, child, lifeline: Some(lifeline) })
    }

    /// What [`SOCKET_VARIABLE`] of a client must name.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where the card number `slot`, from 0, connects; `None` if pcscd was started for fewer.
    pub fn vpcd(&self, slot: usize) -> Option<SocketAddr> {
        self.ports.get(slot).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, *port)))
    }

    /// The reader of the card number `slot`, from 0, as PC/SC names it.
    pub fn reader_name(slot: usize) -> String {
        format!("{} 00 {:02X}", friendly_name(slot / SLOTS_A_READER), slot % SLOTS_A_READER)
    }
}

impl Drop for Pcscd {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // It was told to end; if it is gone already there is nothing to wait for.
        let _ = self.child.wait();
    }
}

fn launch(socket: OwnedFd, log: File, config: &OsStr) -> io::Result<(Child, PipeWriter)> {
    let (end, lifeline) = io::pipe()?;
    let mut shell = Command::new("sh");
    shell.args(["-c", LAUNCH, "sh", PCSCD]).arg(config);
    shell.stdin(Stdio::from(socket)).stdout(Stdio::from(OwnedFd::from(end))).stderr(Stdio::from(log));
    Ok((shell.spawn()?, lifeline))
}

/// The driver keeps its slots in one table: a second reader needs a driver of its own, which a copy is.
fn configure(dir: &Path, readers: &[u16]) -> io::Result<()> {
    let mut text = String::new();
    for (number, port) in readers.iter().enumerate() {
        let driver = dir.join(format!("vpcd-{number}.so"));
        fs::copy(DRIVER, &driver)?;
        let (name, driver) = (friendly_name(number), driver.display());
        text.push_str(&format!(
            "FRIENDLYNAME \"{name}\"\nDEVICENAME /dev/null:0x{port:04X}\nLIBPATH {driver}\nCHANNELID 0x{port:04X}\n\n"
        ));
    }
    fs::write(dir.join("readers").join("vpcd"), text)
}

/// pcscd gives two readers of one name the same number.
fn friendly_name(reader: usize) -> String {
    if reader == 0 { FRIENDLY_NAME.to_owned() } else { format!("{FRIENDLY_NAME} {}", reader + 1) }
}

/// Two neighbouring ports that nobody listens on. They are free again when this returns; who comes first has them.
pub fn free_pair() -> Result<u16, Error> {
    let free = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    (0..ATTEMPTS)
        .filter_map(|_| any_even_port())
        .find(|port| free(*port) && free(port + 1))
        .ok_or(Error::Ports)
}

fn any_even_port() -> Option<u16> {
    let random = getrandom::u32().ok()?;
    let offset = u16::try_from(random % u32::from(PORTS.end - PORTS.start)).ok()?;
    Some((PORTS.start + offset) & !1)
}
