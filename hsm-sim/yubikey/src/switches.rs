//! What the outside turns on a running card: the finger, the plug, and the faults that wait for a command.
//!
//! Promises: every wait has an end; a change is seen by whoever waits for it. It does not know: the card.

use crate::{Error, apdu::Sw, ports::Touch};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    fmt,
    net::{Shutdown, TcpStream},
    str::FromStr,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

const CHAINED: u8 = 0x10;
const GENERAL_AUTHENTICATE: u8 = 0x87;
const MANAGEMENT_KEY: u8 = 0x9b;

/// What the finger does when the card blinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TouchMode {
    /// Touches at once.
    Auto,
    /// Touches when told so, if that is in time.
    Manual,
    /// The card gives up at once: a timeout for those who have no time.
    Deny,
    /// Never touches; the card waits the whole time.
    Timeout,
    /// Touches after so many milliseconds.
    Delay(u64),
}

/// A fault that waits for its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The card answers this and does nothing.
    Answer(Sw),
    /// The card is pulled out before it did anything.
    VanishBefore,
    /// The card is pulled out when everything is done and written down, and the reply is not yet out.
    VanishAfter,
}

/// A fault and what sets it off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trap {
    pub(crate) on: Trigger,
    pub(crate) fault: Fault,
}

/// The command that sets a fault off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    Any,
    /// GENERAL AUTHENTICATE with a slot, not with the management key.
    KeyUse,
    Instruction(u8),
}

impl Trigger {
    /// Only the last segment of a chain is a command.
    fn is(self, apdu: &[u8]) -> bool {
        match (self, apdu) {
            (_, [cla, ..]) if cla & CHAINED != 0 => false,
            (Self::Any, _) => true,
            (Self::KeyUse, [_, ins, _, p2, ..]) => *ins == GENERAL_AUTHENTICATE && *p2 != MANAGEMENT_KEY,
            (Self::Instruction(wanted), [_, ins, ..]) => *ins == wanted,
            _ => false,
        }
    }
}

/// Everything that is turned, and what the card's thread shows in return.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) touch_mode: TouchMode,
    pub(crate) touch_timeout: Duration,
    /// The card blinks.
    pub(crate) awaiting_touch: bool,
    /// How often it has blinked.
    pub(crate) touches_awaited: u64,
    touched: bool,
    pub(crate) inserted: bool,
    pub(crate) stopped: bool,
    pub(crate) trap: Option<Trap>,
    pub(crate) slow_down: Duration,
    /// The connection to the reader; another handle of the same socket, to cut it.
    pub(crate) link: Option<TcpStream>,
    /// pcscd powered the card since it was plugged in.
    pub(crate) powered: bool,
    /// How often pcscd looked at the card after that.
    looks: u32,
    /// Its clients see the card.
    pub(crate) seen: bool,
    /// When the card was last pulled out.
    pub(crate) out_since: Option<Instant>,
    /// How many were answered.
    pub(crate) apdus: u64,
    pub(crate) summary: Value,
}

/// The switches of one card, shared by its thread and its controls.
#[derive(Debug)]
pub(crate) struct Switches {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Switches {
    pub(crate) fn new(touch_mode: TouchMode, touch_timeout: Duration) -> Self {
        let inner = Inner {
            touch_mode,
            touch_timeout,
            awaiting_touch: false,
            touches_awaited: 0,
            touched: false,
            inserted: true,
            stopped: false,
            trap: None,
            slow_down: Duration::ZERO,
            link: None,
            powered: false,
            looks: 0,
            seen: false,
            out_since: None,
            apdus: 0,
            summary: Value::Null,
        };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    pub(crate) fn turn<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let turned = change(&mut self.lock());
        self.changed.notify_all();
        turned
    }

    /// Waits until `is` holds; false if it does not within the time.
    pub(crate) fn wait(&self, within: Duration, is: impl Fn(&Inner) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), within, |inner| !is(inner));
        let (_inner, ended) = waited.unwrap_or_else(PoisonError::into_inner);
        !ended.timed_out()
    }

    /// As [`Self::wait`], with an error that says what was waited for.
    pub(crate) fn expect(
        &self,
        what: &'static str,
        within: Duration,
        is: impl Fn(&Inner) -> bool,
    ) -> Result<(), Error> {
        if self.wait(within, is) {
            return Ok(());
        }
        Err(Error::NotInTime { what, within, hint: String::new() })
    }

    /// What the card does when a key wants a touch. A card that is pulled out stops waiting.
    pub(crate) fn await_touch(&self) -> Touch {
        let (mode, timeout) = self.turn(Inner::blink);
        let touch = match mode {
            TouchMode::Auto => Touch::Given,
            TouchMode::Deny => Touch::Missing,
            TouchMode::Manual => self.finger(timeout, |inner| inner.touched),
            TouchMode::Timeout => self.finger(timeout, |_| false),
            TouchMode::Delay(ms) => match self.finger(timeout.min(Duration::from_millis(ms)), |_| false) {
                Touch::Missing if self.in_place() && Duration::from_millis(ms) < timeout => Touch::Given,
                other => other,
            },
        };
        self.turn(|inner| inner.awaiting_touch = false);
        touch
    }

    fn finger(&self, within: Duration, touched: impl Fn(&Inner) -> bool) -> Touch {
        self.wait(within, |inner| touched(inner) || !inner.in_place());
        let inner = self.lock();
        if touched(&inner) && inner.in_place() { Touch::Given } else { Touch::Missing }
    }

    fn in_place(&self) -> bool {
        self.lock().in_place()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Touches; false if the card does not wait for it. A second touch is for the next wait, not for this one again.
    pub(crate) fn touch(&mut self) -> bool {
        let awaited = std::mem::take(&mut self.awaiting_touch);
        self.touched |= awaited;
        awaited
    }

    /// A new connection to the reader, or its end.
    pub(crate) fn connect(&mut self, link: Option<TcpStream>) {
        if link.is_none() {
            self.out_since = Some(Instant::now());
        }
        self.link = link;
        (self.powered, self.looks, self.seen) = (false, 0, false);
    }

    /// pcscd looked whether the card is there. The first look after the power belongs to powering it; at the second,
    /// clients see the card.
    pub(crate) fn looked_at(&mut self) {
        if self.powered {
            self.looks += 1;
            self.seen = self.looks >= 2;
        }
    }

    /// Pulls the card out, or plugs it in.
    pub(crate) fn plug(&mut self, inserted: bool) {
        self.inserted = inserted;
        if !inserted {
            self.cut();
        }
    }

    /// Ends the card's thread.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.cut();
    }

    /// The fault that this command sets off.
    pub(crate) fn spring(&mut self, apdu: &[u8]) -> Option<Fault> {
        self.trap.take_if(|trap| trap.on.is(apdu)).map(|trap| trap.fault)
    }

    pub(crate) fn dump(&self) -> Value {
        json!({
            "inserted": self.inserted,
            "visible": self.seen,
            "touch": self.touch_mode,
            "awaiting_touch": self.awaiting_touch,
            "touches_awaited": self.touches_awaited,
            "apdus": self.apdus,
            "card": self.summary,
        })
    }

    fn blink(&mut self) -> (TouchMode, Duration) {
        self.touched = false;
        self.awaiting_touch = !matches!(self.touch_mode, TouchMode::Auto | TouchMode::Deny);
        self.touches_awaited += 1;
        (self.touch_mode, self.touch_timeout)
    }

    fn in_place(&self) -> bool {
        self.inserted && !self.stopped
    }

    fn cut(&mut self) {
        if let Some(link) = &self.link {
            // An error means that the link is down already.
            let _ = link.shutdown(Shutdown::Both);
        }
    }
}

impl fmt::Display for TouchMode {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => to.write_str("auto"),
            Self::Manual => to.write_str("manual"),
            Self::Deny => to.write_str("deny"),
            Self::Timeout => to.write_str("timeout"),
            Self::Delay(ms) => write!(to, "delay:{ms}"),
        }
    }
}

impl FromStr for TouchMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("delay:").map(str::parse)) {
            ("auto", _) => Ok(Self::Auto),
            ("manual", _) => Ok(Self::Manual),
            ("deny", _) => Ok(Self::Deny),
            ("timeout", _) => Ok(Self::Timeout),
            (_, Some(Ok(ms))) => Ok(Self::Delay(ms)),
            _ => Err(format!("{text:?} is no touch policy: auto, manual, deny, timeout, or delay:MS")),
        }
    }
}

impl From<TouchMode> for String {
    fn from(mode: TouchMode) -> Self {
        mode.to_string()
    }
}

impl TryFrom<String> for TouchMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, thread};

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_finger_that_was_not_awaited_does_not_count() {
        let switches = Arc::new(Switches::new(TouchMode::Manual, LONG));
        assert!(!switches.turn(Inner::touch));
        let card = thread::spawn({
            let switches = Arc::clone(&switches);
            move || switches.await_touch()
        });
        assert!(switches.wait(LONG, |inner| inner.awaiting_touch));
        assert!(switches.turn(Inner::touch));
        assert_eq!(card.join().unwrap(), Touch::Given);
        assert!(!switches.turn(Inner::touch));
    }

    #[test]
    fn two_waits_take_two_touches() {
        let switches = Arc::new(Switches::new(TouchMode::Manual, LONG));
        let card = thread::spawn({
            let switches = Arc::clone(&switches);
            move || [switches.await_touch(), switches.await_touch()]
        });
        for _ in 0..2 {
            assert!(switches.wait(LONG, |inner| inner.awaiting_touch));
            assert!(switches.turn(Inner::touch));
        }
        assert_eq!(card.join().unwrap(), [Touch::Given; 2]);
    }

    #[test]
    fn each_touch_policy_ends_as_its_name_says() {
        for (mode, end) in [
            (TouchMode::Auto, Touch::Given),
            (TouchMode::Manual, Touch::Missing),
            (TouchMode::Deny, Touch::Missing),
            (TouchMode::Timeout, Touch::Missing),
            (TouchMode::Delay(1), Touch::Given),
            (TouchMode::Delay(40), Touch::Missing),
        ] {
            assert_eq!(Switches::new(mode, SHORT).await_touch(), end, "{mode}");
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
    }

    #[test]
    fn a_card_that_is_pulled_out_stops_waiting_for_the_finger() {
        for mode in [TouchMode::Manual, TouchMode::Timeout, TouchMode::Delay(10_000)] {
            let switches = Arc::new(Switches::new(mode, LONG));
            let card = thread::spawn({
                let switches = Arc::clone(&switches);
                move || switches.await_touch()
            });
            assert!(switches.wait(LONG, |inner| inner.awaiting_touch));
            switches.turn(|inner| inner.plug(false));
            assert_eq!(card.join().unwrap(), Touch::Missing);
        }
    }

    #[test]
    fn a_trap_springs_once_and_on_its_command_only() {
        let mut inner = Switches::new(TouchMode::Auto, SHORT).inner.into_inner().unwrap();
        let [verify, segment, proof, sign] =
            [[0, 0x20, 0, 0x80], [0x10, 0x87, 0x11, 0x9c], [0, 0x87, 3, 0x9b], [0, 0x87, 0x11, 0x9c]];
        for (on, passes, springs) in [
            (Trigger::Any, &[segment][..], verify),
            (Trigger::KeyUse, &[verify, segment, proof], sign),
            (Trigger::Instruction(0x87), &[verify, segment], proof),
        ] {
            inner.trap = Some(Trap { on, fault: Fault::VanishAfter });
            assert!(passes.iter().all(|apdu| inner.spring(apdu).is_none()), "{on:?}");
            assert_eq!(inner.spring(&springs), Some(Fault::VanishAfter), "{on:?}");
            assert_eq!(inner.spring(&springs), None, "{on:?}");
        }
    }
}
