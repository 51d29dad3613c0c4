//! Turning a running card from outside: as calls, and as JSON lines over a Unix socket.
//!
//! A request is one line, an [`Action`]; the answer is one line, `{"ok":true,"card":{..}}` or `{"ok":false,"why":".."}`.
//! Every wait is bounded by the request.

use crate::{
    Error,
    apdu::Sw,
    runner::OUT_FOR,
    switches::{Fault, Inner, Switches, TouchMode, Trap, Trigger},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

/// Longer than any request.
const MAX_LINE_BYTES: u64 = 4096;
/// pcscd looks for a card every 400 ms and powers a new one at once; this is for a machine under load.
const PCSCD_PATIENCE: Duration = Duration::from_secs(20);

/// What can be done to a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Waits until a touch is awaited, and touches.
    Touch {
        /// How long to wait.
        wait_ms: u64,
    },
    /// Waits until a touch is awaited.
    AwaitTouch {
        /// How long to wait.
        wait_ms: u64,
    },
    /// What the finger does from now on.
    TouchPolicy {
        /// `auto`, `manual`, `deny`, `timeout`, `delay:MS`.
        mode: TouchMode,
    },
    /// Plugs the card in, and waits until pcscd shows it.
    Insert,
    /// Pulls the card out.
    Remove,
    /// Pulls the card out during the next command with this instruction, by default the next use of a private key.
    RemoveDuringNextOp {
        /// The instruction byte.
        #[serde(default)]
        ins: Option<u8>,
        /// Before anything happened, instead of after everything but the reply.
        #[serde(default)]
        before: bool,
    },
    /// Pulls the card out, waits until pcscd must have missed it, and plugs it in.
    PowerCycle,
    /// Every command takes so much longer from now on.
    SlowDown {
        /// The delay.
        ms: u64,
    },
    /// The next command is answered with this status word and not done.
    NextSw {
        /// The status word.
        sw: u16,
        /// Only a command with this instruction byte.
        #[serde(default)]
        ins: Option<u8>,
    },
    /// Changes nothing.
    Dump,
}

/// A handle to a running card. It may outlive the card; then its waits end without success.
#[derive(Debug, Clone)]
pub struct Control {
    pub(crate) switches: Arc<Switches>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    ok: bool,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    card: Value,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    why: String,
}

impl Control {
    /// Does it, and tells how the card stands then: see [`Control::dump`].
    pub fn perform(&self, action: &Action) -> Result<Value, Error> {
        match action {
            Action::Touch { wait_ms } => self.touch(Duration::from_millis(*wait_ms))?,
            Action::AwaitTouch { wait_ms } => self.await_touch(Duration::from_millis(*wait_ms))?,
            Action::TouchPolicy { mode } => self.touch_policy(*mode),
            Action::Insert => self.insert()?,
            Action::Remove => self.remove()?,
            Action::RemoveDuringNextOp { ins, before } => self.remove_during_next_op(*ins, *before),
            Action::PowerCycle => self.power_cycle()?,
            Action::SlowDown { ms } => self.slow_down(Duration::from_millis(*ms)),
            Action::NextSw { sw, ins } => self.next_sw(Sw(*sw), *ins),
            Action::Dump => {}
        }
        Ok(self.dump())
    }

    /// Waits until a touch is awaited, and touches.
    pub fn touch(&self, within: Duration) -> Result<(), Error> {
        self.await_touch(within)?;
        if self.switches.turn(Inner::touch) {
            return Ok(());
        }
        Err(Error::NotInTime { what: "a touch", within, hint: "; the card gave up first".to_owned() })
    }

    /// Waits until a touch is awaited.
    pub fn await_touch(&self, within: Duration) -> Result<(), Error> {
        self.switches.expect("a wait for a touch", within, |inner| inner.awaiting_touch)
    }

    /// What the finger does from now on. It does not end a wait that has begun.
    pub fn touch_policy(&self, mode: TouchMode) {
        self.switches.turn(|inner| inner.touch_mode = mode);
    }

    /// Plugs the card in, and waits until pcscd shows it. A card that was out for less than a second stays out for so long:
    /// pcscd would not have missed it.
    pub fn insert(&self) -> Result<(), Error> {
        let out_for = self.switches.turn(|inner| inner.out_since.map(|since| since.elapsed()));
        thread::sleep(out_for.map_or(Duration::ZERO, |out_for| OUT_FOR.saturating_sub(out_for)));
        self.switches.turn(|inner| inner.plug(true));
        self.wait_until_seen(PCSCD_PATIENCE)
    }

    /// Pulls the card out. pcscd notices within 400 ms, or at once if it is talking to the card.
    pub fn remove(&self) -> Result<(), Error> {
        self.switches.turn(|inner| inner.plug(false));
        self.wait_until_removed(PCSCD_PATIENCE)
    }

    /// Pulls the card out during the next command with this instruction; `None`: the next use of a private key. `before`:
    /// when nothing has happened yet. Else when all is done and journaled, and the reply is not out.
    pub fn remove_during_next_op(&self, ins: Option<u8>, before: bool) {
        let fault = if before { Fault::VanishBefore } else { Fault::VanishAfter };
        let on = ins.map_or(Trigger::KeyUse, Trigger::Instruction);
        self.switches.turn(|inner| inner.trap = Some(Trap { on, fault }));
    }

    /// Waits until the card is out.
    pub fn wait_until_removed(&self, within: Duration) -> Result<(), Error> {
        self.switches.expect("the removal", within, |inner| !inner.inserted && inner.link.is_none())
    }

    /// Waits until pcscd shows the card to its clients.
    pub fn wait_until_seen(&self, within: Duration) -> Result<(), Error> {
        if self.switches.wait(within, |inner| inner.seen) {
            return Ok(());
        }
        let hint = "; is pcscd there, with this slot of vpcd? Its log may say why not".to_owned();
        Err(Error::NotInTime { what: "the insertion into pcscd's reader", within, hint })
    }

    /// Waits until pcscd does not see the card: it was pulled out, or pcscd ended.
    pub fn wait_until_unseen(&self, within: Duration) -> Result<(), Error> {
        self.switches.expect("the end of the connection to pcscd", within, |inner| !inner.seen)
    }

    /// The next command, or the next with this instruction, is answered with `sw` and not done.
    pub fn next_sw(&self, sw: Sw, ins: Option<u8>) {
        let on = ins.map_or(Trigger::Any, Trigger::Instruction);
        self.switches.turn(|inner| inner.trap = Some(Trap { on, fault: Fault::Answer(sw) }));
    }

    /// Every command takes so much longer from now on.
    pub fn slow_down(&self, by: Duration) {
        self.switches.turn(|inner| inner.slow_down = by);
    }

    /// Pulls the card out long enough for pcscd to miss it, and plugs it in.
    pub fn power_cycle(&self) -> Result<(), Error> {
        self.remove()?;
        self.insert()
    }

    /// Waits until `is` holds for [`Control::dump`]. `what` is for the error.
    pub fn wait_for(
        &self,
        what: &'static str,
        within: Duration,
        is: impl Fn(&Value) -> bool,
    ) -> Result<(), Error> {
        self.switches.expect(what, within, |inner| is(&inner.dump()))
    }

    /// How the card stands: no secrets.
    pub fn dump(&self) -> Value {
        self.switches.turn(|inner| inner.dump())
    }
}

/// Sends one action to a card's control socket; the answer is [`Control::dump`]'s.
pub fn send(socket: &Path, action: &Action) -> Result<Value, Error> {
    let unreachable = || Error::file("talk to the card's control socket", socket);
    let mut stream = UnixStream::connect(socket).map_err(unreachable())?;
    let mut line = serde_json::to_vec(action).map_err(|source| Error::Answer { source })?;
    line.push(b'\n');
    stream.write_all(&line).map_err(unreachable())?;
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text).map_err(unreachable())?;
    let answer: Answer = serde_json::from_str(&text).map_err(|source| Error::Answer { source })?;
    if answer.ok { Ok(answer.card) } else { Err(Error::Refused { why: answer.why }) }
}

/// Serves the control socket on a thread of its own until the process ends.
pub(crate) fn serve(socket: &Path, control: Control) -> Result<(), Error> {
    remove_stale(socket).map_err(Error::file("replace the control socket", socket))?;
    let listener = UnixListener::bind(socket).map_err(Error::file("listen on the control socket", socket))?;
    let accept = move || {
        for stream in listener.incoming().flatten() {
            let control = control.clone();
            // A client that cannot be served sees its connection close.
            let _ = thread::Builder::new().spawn(move || converse(stream, &control));
        }
    };
    thread::Builder::new()
        .name("control".to_owned())
        .spawn(accept)
        .map_err(Error::start("the control thread"))?;
    Ok(())
}

fn remove_stale(socket: &Path) -> io::Result<()> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn converse(stream: UnixStream, control: &Control) -> io::Result<()> {
    let mut to = stream.try_clone()?;
    let mut from = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        if from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let mut answer = serde_json::to_vec(&answer(&line, control))?;
        answer.push(b'\n');
        to.write_all(&answer)?;
    }
}

fn answer(line: &[u8], control: &Control) -> Answer {
    let done = serde_json::from_slice::<Action>(line)
        .map_err(|error| format!("this is no action: {error}"))
        .and_then(|action| control.perform(&action).map_err(|error| error.to_string()));
    match done {
        Ok(card) => Answer { ok: true, card, why: String::new() },
        Err(why) => Answer { ok: false, card: Value::Null, why },
    }
}
