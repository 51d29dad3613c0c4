//! A card in this process: a thread that plays it, and the handle that ends it.

use crate::{
    Control, Error, Profile, State, TouchMode,
    apdu_log::ApduLog,
    card::{Card, Options},
    control,
    journal::Writer,
    runner::{Runner, Surroundings},
    switches::{Inner, Switches},
};
use std::{
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long a real card blinks.
pub const TOUCH_TIMEOUT: Duration = Duration::from_secs(15);

/// A running card. It is controlled through [`Control`], and ends when it is dropped.
#[derive(Debug)]
pub struct VirtualYubiKey {
    control: Control,
    serial: u32,
    thread: Option<JoinHandle<()>>,
}

/// What card to start, and where.
#[derive(Debug, Clone)]
pub struct Builder {
    profile: Profile,
    serial: u32,
    reader: SocketAddr,
    state: Option<PathBuf>,
    journal: Option<PathBuf>,
    apdu_log: Option<PathBuf>,
    control: Option<PathBuf>,
    touch: TouchMode,
    touch_timeout: Duration,
    options: Options,
}

impl VirtualYubiKey {
    /// A card with firmware 5.7.4 and serial number 5740001 at the first slot of a default vpcd. Nothing is kept unless
    /// files are named.
    pub fn builder() -> Builder {
        Builder {
            profile: Profile::V5_7_4,
            serial: 5_740_001,
            reader: SocketAddr::from(([127, 0, 0, 1], 35963)),
            state: None,
            journal: None,
            apdu_log: None,
            control: None,
            touch: TouchMode::Auto,
            touch_timeout: TOUCH_TIMEOUT,
            options: Options::default(),
        }
    }

    /// The card's serial number.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// A handle that may go to other threads.
    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

impl Deref for VirtualYubiKey {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Drop for VirtualYubiKey {
    fn drop(&mut self) {
        self.control.switches.turn(Inner::stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the card's thread has been printed; there is nobody to hand it to.
            let _ = thread.join();
        }
    }
}

impl Builder {
    /// The kind of card.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// The serial number.
    pub fn serial(mut self, serial: u32) -> Self {
        self.serial = serial;
        self
    }

    /// The slot of vpcd: see [`crate::Pcscd::vpcd`].
    pub fn reader(mut self, reader: SocketAddr) -> Self {
        self.reader = reader;
        self
    }

    /// Where the card's memory lies; a card from the factory if the file is not there.
    pub fn state(mut self, file: &Path) -> Self {
        self.state = Some(file.to_owned());
        self
    }

    /// Where every signature is written down: see [`crate::YubiKeyJournal`].
    pub fn journal(mut self, file: &Path) -> Self {
        self.journal = Some(file.to_owned());
        self
    }

    /// Where every APDU is logged, without secrets.
    pub fn apdu_log(mut self, file: &Path) -> Self {
        self.apdu_log = Some(file.to_owned());
        self
    }

    /// A Unix socket for [`crate::send`] and `hsm-sim-yubikey ctl`.
    pub fn control(mut self, socket: &Path) -> Self {
        self.control = Some(socket.to_owned());
        self
    }

    /// What the finger does.
    pub fn touch(mut self, mode: TouchMode) -> Self {
        self.touch = mode;
        self
    }

    /// How long the card waits for a touch, instead of 15 seconds.
    pub fn touch_timeout(mut self, timeout: Duration) -> Self {
        self.touch_timeout = timeout;
        self
    }

    /// How long a touch counts for keys with the policy "cached", instead of 15 seconds.
    pub fn touch_cache(mut self, cache: Duration) -> Self {
        self.options.touch_cache = cache;
        self
    }

    /// Lets SET PIN RETRIES set zero tries.
    pub fn zero_retries(mut self) -> Self {
        self.options.zero_retries = true;
        self
    }

    /// Starts the card and plugs it in. It connects to the reader as soon as that is there.
    pub fn start(self) -> Result<VirtualYubiKey, Error> {
        let switches = Arc::new(Switches::new(self.touch, self.touch_timeout));
        let control = Control { switches: Arc::clone(&switches) };
        let runner = Runner {
            card: Card::new(self.load()?, self.options),
            surroundings: Surroundings {
                switches,
                journal: self.journal.as_deref().map(|file| Writer::open(file, self.serial)).transpose()?,
                state_file: self.state.clone(),
                origin: Instant::now(),
            },
            log: self.apdu_log.as_deref().map(ApduLog::open).transpose()?,
            reader: self.reader,
        };
        if let Some(socket) = &self.control {
            control::serve(socket, control.clone())?;
        }
        let thread = thread::Builder::new().name("yubikey".to_owned()).spawn(move || runner.run());
        let thread = Some(thread.map_err(Error::start("the card's thread"))?);
        Ok(VirtualYubiKey { control, serial: self.serial, thread })
    }

    /// [`Builder::start`], and waits until pcscd shows the card.
    pub fn insert(self) -> Result<VirtualYubiKey, Error> {
        let card = self.start()?;
        card.control.insert()?;
        Ok(card)
    }

    fn load(&self) -> Result<State, Error> {
        let Some(file) = &self.state else { return State::factory(self.profile, self.serial) };
        let Some(state) = State::load(file)? else {
            let state = State::factory(self.profile, self.serial)?;
            state.save(file).map_err(Error::file("write the state", file))?;
            return Ok(state);
        };
        if state.serial != self.serial || state.firmware != self.profile.firmware() {
            let (found, firmware) = (state.serial, state.firmware);
            return Err(Error::StateOfAnother { path: file.clone(), found, firmware });
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ATR, vpcd};
    use std::{
        io::Read,
        net::{TcpListener, TcpStream},
    };

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A reader that is no pcscd.
    struct Reader {
        listener: TcpListener,
        card: Option<TcpStream>,
    }

    impl Reader {
        fn new() -> Self {
            Self { listener: TcpListener::bind("127.0.0.1:0").unwrap(), card: None }
        }

        fn builder(&self) -> Builder {
            VirtualYubiKey::builder().reader(self.listener.local_addr().unwrap())
        }

        fn card(&mut self) -> &mut TcpStream {
            let listener = &self.listener;
            self.card.get_or_insert_with(|| listener.accept().unwrap().0)
        }

        fn order(&mut self, order: &[u8]) {
            vpcd::send(self.card(), order).unwrap();
        }

        /// `None` if the card is gone.
        fn ask(&mut self, order: &[u8]) -> Option<Vec<u8>> {
            self.order(order);
            let mut length = [0; 2];
            self.card().read_exact(&mut length).ok()?;
            let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
            self.card().read_exact(&mut reply).unwrap();
            Some(reply)
        }

        fn select_piv(&mut self) {
            let reply = self.ask(&[0, 0xa4, 4, 0, 5, 0xa0, 0, 0, 3, 8]).unwrap();
            assert_eq!(reply[reply.len() - 2..], [0x90, 0]);
        }

        fn verify(&mut self) -> Option<Vec<u8>> {
            self.ask(b"\x00\x20\x00\x80\x08123456\xff\xff")
        }

        fn is_verified(&mut self) -> bool {
            self.select_piv();
            self.ask(&[0, 0x20, 0, 0x80]).unwrap() == [0x90, 0]
        }
    }

    #[test]
    fn a_reader_gets_the_atr_and_answers_and_every_reset_ends_the_session() {
        let mut reader = Reader::new();
        let card = reader.builder().start().unwrap();
        reader.order(&[1]);
        assert_eq!(reader.ask(&[4]).unwrap(), ATR);
        for reset in [0, 1, 2] {
            reader.select_piv();
            assert_eq!(reader.verify().unwrap(), [0x90, 0]);
            assert!(reader.is_verified());
            reader.order(&[reset]);
            assert!(!reader.is_verified());
        }
        card.wait_for("four replies", PATIENCE, |dump| dump["apdus"].as_u64() >= Some(4)).unwrap();
    }

    #[test]
    fn a_card_is_seen_at_the_second_look_after_the_power() {
        let mut reader = Reader::new();
        let card = reader.builder().start().unwrap();
        for (order, seen) in [(&[4][..], false), (&[1], false), (&[4], false), (&[4], true)] {
            if order == [1] {
                reader.order(order);
            } else {
                reader.ask(order).unwrap();
            }
            assert_eq!(
                card.wait_until_seen(Duration::from_millis(if seen { 20_000 } else { 20 })).is_ok(),
                seen
            );
        }
    }

    #[test]
    fn a_card_that_is_never_powered_comes_out_and_in_again() {
        let mut reader = Reader::new();
        let _card = reader.builder().start().unwrap();
        while reader.ask(&[4]).is_some() {}
        reader.card = None;
        assert_eq!(reader.ask(&[4]).unwrap(), ATR);
    }

    #[test]
    fn a_card_that_vanishes_at_a_command_has_done_it_or_not_as_it_was_told() {
        for (before, left) in [(false, 2), (true, 3)] {
            let mut reader = Reader::new();
            let card = reader.builder().start().unwrap();
            reader.select_piv();
            card.remove_during_next_op(Some(0x20), before);
            assert_eq!(reader.ask(b"\x00\x20\x00\x80\x08000000\xff\xff"), None);
            card.wait_until_removed(PATIENCE).unwrap();
            assert_eq!(card.dump()["card"]["pin"]["left"], left);
        }
    }

    #[test]
    fn a_forced_status_word_leaves_the_card_as_it_was() {
        let mut reader = Reader::new();
        let card = reader.builder().start().unwrap();
        reader.select_piv();
        card.next_sw(crate::Sw(0x6f00), None);
        assert_eq!(reader.verify().unwrap(), [0x6f, 0]);
        assert!(!reader.is_verified());
    }

    #[test]
    fn the_state_of_another_card_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state");
        let start =
            |serial, profile| VirtualYubiKey::builder().state(&file).serial(serial).profile(profile).start();
        drop(start(1, Profile::V5_7_4).unwrap());
        assert!(matches!(start(2, Profile::V5_7_4), Err(Error::StateOfAnother { found: 1, .. })));
        assert!(matches!(start(1, Profile::V5_4_3), Err(Error::StateOfAnother { .. })));
        drop(start(1, Profile::V5_7_4).unwrap());
    }
}
