//! The card: APDU in, APDU out. No file, socket, clock or randomness but through [`Ports`].
//!
//! Promises: the status words and the order of checks of a real card, as far as they are published (the module of each
//! command says which). It does not know: readers, insertion, who talks to it.
//!
//! From the outside in: `mod` chains and splits APDUs and selects applications, `piv` dispatches instructions, and each
//! command stands in the module of its noun.

mod attestation;
mod keys;
mod management;
mod management_auth;
mod objects;
mod pin;
mod piv;
mod private_key_use;
mod summary;
#[cfg(test)]
mod tests;

use crate::{
    algorithm::Slot,
    apdu::{Command, Sw},
    ports::Ports,
    rng::Expander,
    state::State,
};
use management_auth::Pending;
use std::{collections::BTreeMap, time::Duration};

/// The answer to hello: YubiKey 5 over USB, T=1.
pub const ATR: [u8; 23] = [
    0x3b, 0xfd, 0x13, 0x00, 0x00, 0x81, 0x31, 0xfe, 0x15, 0x80, 0x73, 0xc0, 0x21, 0xc0, 0x57, 0x59, 0x75,
    0x62, 0x69, 0x4b, 0x65, 0x79, 0x40,
];
/// The longest body, in one APDU or over a chain: one object of 3063 bytes with its header fits.
pub const MAX_BODY_BYTES: usize = 3072;
/// How long a touch counts for keys with the policy "cached".
pub const TOUCH_CACHE: Duration = Duration::from_secs(15);

const CHAINED: u8 = 0x10;
const SELECT: u8 = 0xa4;
const GET_RESPONSE: u8 = 0xc0;
const PIV_AID: [u8; 11] = [0xa0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0];
/// The shortest name that selects PIV: NIST's RID.
const PIV_AID_MIN: usize = 5;
const MANAGEMENT_AID: [u8; 8] = [0xa0, 0, 0, 5, 0x27, 0x47, 0x11, 0x17];

/// What a command ends with: data with 9000, or a status word.
type Answer = Result<Vec<u8>, Sw>;

/// A card with its state and its session.
#[derive(Debug)]
pub struct Card {
    state: State,
    session: Session,
    options: Options,
    /// Per key; it outlives a reset of the interface, not the power.
    touched: BTreeMap<Slot, Duration>,
    dirty: bool,
}

/// What a caller may change about a card.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long a touch counts for keys with the policy "cached".
    pub touch_cache: Duration,
    /// SET PIN RETRIES with zero tries: a real 5.7.4 takes it and is blocked until RESET. Refused unless this is set.
    pub zero_retries: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { touch_cache: TOUCH_CACHE, zero_retries: false }
    }
}

/// What dies with the power, and with a reset of the interface.
#[derive(Debug, Default)]
struct Session {
    application: Option<Application>,
    /// The PIN was given.
    pin_verified: bool,
    /// The PIN was given, and no PIN-gated key was used since.
    pin_fresh: bool,
    management: bool,
    pending: Option<Pending>,
    chain: Option<Chain>,
    /// The rest of a response, for GET RESPONSE.
    owed: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Application {
    Piv,
    Management,
}

#[derive(Debug)]
struct Chain {
    ins: u8,
    data: Vec<u8>,
}

impl Card {
    /// A card in its last state, without power.
    pub fn new(state: State, options: Options) -> Self {
        Self { state, session: Session::default(), options, touched: BTreeMap::new(), dirty: false }
    }

    /// What it remembers without power.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Reset or power cycle by the reader: the session is gone, the touch cache is not.
    pub fn reset(&mut self) {
        self.session = Session::default();
    }

    /// Pulled out.
    pub fn unplug(&mut self) {
        self.reset();
        self.touched.clear();
    }

    /// One command and its response with the status word. Whatever changed is saved before this returns.
    pub fn transmit(&mut self, apdu: &[u8], ports: &mut dyn Ports) -> Vec<u8> {
        let (answer, room) = match Command::parse(apdu) {
            Some(command) => (self.command(&command, ports), command.room),
            None => (Err(Sw::WRONG_LENGTH), 0),
        };
        let answer = self.saved(answer, ports);
        self.respond(answer, room)
    }

    fn command(&mut self, command: &Command<'_>, ports: &mut dyn Ports) -> Answer {
        match command.cla & !CHAINED {
            0 | 0x80 => {}
            4 | 0x84 if command.ins == SELECT => {}
            _ => return Err(Sw::NO_CLASS),
        }
        if command.ins == GET_RESPONSE {
            return self.rest_of_response();
        }
        self.session.owed.clear();
        if command.cla & CHAINED != 0 {
            return self.chain(command).map(|()| Vec::new());
        }
        let data = self.chained_data(command)?;
        self.instruction(&Command { data: &data, ..*command }, ports)
    }

    fn instruction(&mut self, command: &Command<'_>, ports: &mut dyn Ports) -> Answer {
        if command.ins == SELECT && command.p1 == 4 {
            return self.select(command.data);
        }
        match self.session.application {
            Some(Application::Piv) => self.piv(command, ports),
            Some(Application::Management) => self.management(command),
            None => Err(Sw::NO_INSTRUCTION),
        }
    }

    /// PIV again keeps PIN and management state; another application ends both; an unknown one changes nothing.
    fn select(&mut self, aid: &[u8]) -> Answer {
        if aid.len() >= PIV_AID_MIN && PIV_AID.starts_with(aid) {
            if self.session.application != Some(Application::Piv) {
                self.session = Session { application: Some(Application::Piv), ..Session::default() };
            }
            return Ok(piv::SELECTED.to_vec());
        }
        if aid == MANAGEMENT_AID {
            self.session = Session { application: Some(Application::Management), ..Session::default() };
            return Ok(self.management_selected());
        }
        Err(Sw::NOT_FOUND)
    }

    fn chain(&mut self, command: &Command<'_>) -> Result<(), Sw> {
        let data = self.chained_data(command)?;
        self.session.chain = Some(Chain { ins: command.ins, data });
        Ok(())
    }

    /// What came before in this chain and what comes now; the chain is over, whatever happens.
    fn chained_data(&mut self, command: &Command<'_>) -> Answer {
        let mut data = match self.session.chain.take() {
            Some(chain) if chain.ins != command.ins => return Err(Sw::LAST_COMMAND_EXPECTED),
            Some(chain) => chain.data,
            None => Vec::new(),
        };
        data.extend_from_slice(command.data);
        if data.len() > MAX_BODY_BYTES { Err(Sw::WRONG_LENGTH) } else { Ok(data) }
    }

    fn rest_of_response(&mut self) -> Answer {
        let nothing_owed = match self.session.application {
            Some(Application::Piv) => Sw::WRONG_DATA,
            _ => Sw::NO_INSTRUCTION,
        };
        let owed = std::mem::take(&mut self.session.owed);
        if owed.is_empty() { Err(nothing_owed) } else { Ok(owed) }
    }

    fn saved(&mut self, answer: Answer, ports: &mut dyn Ports) -> Answer {
        if !std::mem::take(&mut self.dirty) {
            return answer;
        }
        ports.save(&self.state).map_err(|_| Sw::MEMORY_FAILURE).and(answer)
    }

    fn respond(&mut self, answer: Answer, room: usize) -> Vec<u8> {
        let (mut data, sw) = match answer {
            Ok(data) => (data, Sw::OK),
            Err(sw) => (Vec::new(), sw),
        };
        self.session.owed = data.split_off(room.min(data.len()));
        let owed = self.session.owed.len();
        let sw = if owed > 0 { Sw::more(owed) } else { sw };
        data.extend(sw.0.to_be_bytes());
        data
    }

    /// The state, to be changed and then saved.
    fn change(&mut self) -> &mut State {
        self.dirty = true;
        &mut self.state
    }
}

/// Randomness for one command.
fn random(ports: &mut dyn Ports) -> Result<Expander, Sw> {
    ports.seed().map(Expander::new).map_err(|_| Sw::MEMORY_FAILURE)
}
