//! The thread of a card: plugged in, it serves the reader; pulled out, it waits to be plugged in.

use crate::{
    apdu_log::ApduLog,
    card::{ATR, Card},
    journal::{Signed, Writer},
    ports::{Ports, Touch},
    state::State,
    switches::{Fault, Inner, Switches},
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
/// Without end: the wait ends when the card is plugged in or dismantled.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Everything that the thread owns.
pub(crate) struct Runner {
    pub(crate) card: Card,
    pub(crate) surroundings: Surroundings,
    pub(crate) log: Option<ApduLog>,
    pub(crate) reader: SocketAddr,
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
            match TcpStream::connect(self.reader) {
                Ok(link) => self.plugged_in(link),
                Err(_) => drop(switches.wait(RETRY, |inner| inner.stopped)),
            }
        }
    }

    fn plugged_in(&mut self, link: TcpStream) {
        let switches = Arc::clone(&self.surroundings.switches);
        let other = link.try_clone().ok();
        let still = switches.turn(|inner| {
            inner.link = other;
            (inner.powered, inner.seen) = (false, false);
            inner.inserted && !inner.stopped
        });
        if still {
            // Whatever ended it, the card is out now: a broken link is a card that was pulled.
            let _ = self.serve(link);
        }
        self.card.unplug();
        switches.turn(|inner| {
            inner.link = None;
            (inner.powered, inner.seen) = (false, false);
        });
        self.show();
    }

    fn serve(&mut self, mut link: TcpStream) -> io::Result<()> {
        link.set_nodelay(true)?;
        while let Some(order) = vpcd::receive(&mut link)? {
            match order {
                Order::Reset => self.card.reset(),
                Order::PowerOn => {
                    self.card.reset();
                    self.surroundings.switches.turn(|inner| inner.powered = true);
                }
                Order::Atr => {
                    vpcd::send(&mut link, &ATR)?;
                    self.surroundings.switches.turn(|inner| inner.seen = inner.powered);
                }
                Order::Apdu(apdu) => match self.exchange(&apdu) {
                    Some(reply) => vpcd::send(&mut link, &reply)?,
                    None => return Ok(()),
                },
                Order::Unknown => {}
            }
        }
        Ok(())
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
        self.show();
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
        self.surroundings.switches.turn(|inner: &mut Inner| {
            inner.summary = summary;
            inner.apdus += 1;
        });
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
