//! The thread of a card: plugged in, it serves the reader; pulled out, it waits to be plugged in.

use crate::{
    apdu_log::ApduLog,
    card::{ATR, Card},
    journal::{Signed, Writer},
    ports::{Ports, Touch},
    state::State,
    switches::{Fault, Switches},
    vpcd::{self, Order},
};
use std::{
    io,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Between two attempts to reach a reader that is not there yet.
const RETRY: Duration = Duration::from_millis(50);
/// So often pcscd looks at a card without powering it before it is clear that it took it for the one before: it looks every
/// 400 ms and had not missed that one.
const LOOKS_WITHOUT_POWER: u32 = 5;
/// Out for so long, a card is missed.
pub(crate) const OUT_FOR: Duration = Duration::from_millis(1000);
/// Without end: the wait ends when the card is plugged in or dismantled.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Everything that the thread owns.
pub(crate) struct Runner {
    pub(crate) card: Card,
    pub(crate) surroundings: Surroundings,
    pub(crate) log: Option<ApduLog>,
    pub(crate) reader: SocketAddr,
}

/// How a card came out of the reader.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Out,
    /// pcscd took it for the card before.
    Unnoticed,
}

/// The real [`Ports`].
pub(crate) struct Surroundings {
    pub(crate) switches: Arc<Switches>,
    pub(crate) journal: Option<Writer>,
    pub(crate) state_file: Option<PathBuf>,
    pub(crate) origin: Instant,
}

impl Runner {
    /// Until the switches say "stop".
    pub(crate) fn run(mut self) {
        let switches = Arc::clone(&self.surroundings.switches);
        self.show();
        while switches.wait(FOR_EVER, |inner| inner.inserted || inner.stopped)
            && !switches.turn(|i| i.stopped)
        {
            let pause = match TcpStream::connect(self.reader).map(|link| self.plugged_in(link)) {
                Ok(End::Unnoticed) => OUT_FOR,
                Ok(End::Out) | Err(_) => RETRY,
            };
            switches.wait(pause, |inner| inner.stopped);
        }
    }

    fn plugged_in(&mut self, link: TcpStream) -> End {
        let switches = Arc::clone(&self.surroundings.switches);
        // Without a second handle nobody could pull the card out.
        let Ok(other) = link.try_clone() else { return End::Out };
        let still = switches.turn(|inner| {
            inner.connect(Some(other));
            inner.inserted && !inner.stopped
        });
        // A broken link is a card that was pulled out.
        let end = if still { self.serve(link).unwrap_or(End::Out) } else { End::Out };
        self.card.unplug();
        // First: who waits for the card to be out reads how it stands then.
        self.show();
        switches.turn(|inner| inner.connect(None));
        end
    }

    fn serve(&mut self, mut link: TcpStream) -> io::Result<End> {
        link.set_nodelay(true)?;
        let mut looks = 0;
        while let Some(order) = vpcd::receive_at_once(&mut link)? {
            match order {
                Order::Reset => self.card.reset(),
                Order::PowerOn => {
                    self.card.reset();
                    self.surroundings.switches.turn(|inner| inner.powered = true);
                }
                Order::Atr => {
                    vpcd::send(&mut link, &ATR)?;
                    looks += 1;
                    let powered = self.surroundings.switches.turn(|inner| {
                        inner.looked_at();
                        inner.powered
                    });
                    if !powered && looks >= LOOKS_WITHOUT_POWER {
                        return Ok(End::Unnoticed);
                    }
                }
                Order::Apdu(apdu) => {
                    let Some(reply) = self.exchange(&apdu) else { return Ok(End::Out) };
                    vpcd::send(&mut link, &reply)?;
                    // Afterwards: who sees the new state and pulls the card must not swallow the reply.
                    self.surroundings.switches.turn(|inner| inner.apdus += 1);
                    self.show();
                }
                Order::Unknown => {}
            }
        }
        Ok(End::Out)
    }

    /// `None` if the card was pulled out before the reply was.
    fn exchange(&mut self, apdu: &[u8]) -> Option<Vec<u8>> {
        let switches = Arc::clone(&self.surroundings.switches);
        let (fault, slow_down) = switches.turn(|inner| (inner.spring(apdu), inner.slow_down));
        thread::sleep(slow_down);
        let reply = match fault {
            Some(Fault::Answer(sw)) => sw.0.to_be_bytes().to_vec(),
            Some(Fault::VanishBefore) => return self.vanish(),
            _ => self.card.transmit(apdu, &mut self.surroundings),
        };
        if let Some(log) = &mut self.log {
            // The log is a comfort; a full disk shows in the journal.
            let _ = log.append(apdu, &reply);
        }
        if fault == Some(Fault::VanishAfter) {
            return self.vanish();
        }
        switches.turn(|inner| inner.inserted).then_some(reply)
    }

    fn vanish(&self) -> Option<Vec<u8>> {
        self.surroundings.switches.turn(|inner| inner.plug(false));
        None
    }

    fn show(&self) {
        let summary = self.card.summary();
        self.surroundings.switches.turn(|inner| inner.summary = summary);
    }
}

impl Ports for Surroundings {
    fn seed(&mut self) -> io::Result<[u8; 32]> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        Ok(seed)
    }

    fn now(&mut self) -> Duration {
        self.origin.elapsed()
    }

    fn touch(&mut self) -> Touch {
        self.switches.await_touch()
    }

    fn journal(&mut self, signed: &Signed) -> io::Result<()> {
        self.journal.as_mut().map_or(Ok(()), |journal| journal.append(signed))
    }

    fn save(&mut self, state: &State) -> io::Result<()> {
        self.state_file.as_deref().map_or(Ok(()), |file| state.save(file))
    }
}
