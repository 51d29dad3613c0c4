//! A signing keeper with four keys, and a daemon that can say anything to it.

use crate::place::{Place, Running, said};
use crate::world::World;
use hsm_sim::Entry;
use record::wire::{
    Batch, FromSigner, OpenState, PROTO, Refusal, Reserved, Settle, SignResult, ToSigner, Welcome,
    read_message, write_message,
};
use record::{Clock, Purpose, Sha256, Signature, Spki, SystemClock};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A signing keeper's place, and the world that it is told of.
pub(crate) struct Rig {
    place: Place,
    pub(crate) world: World,
}

impl std::ops::Deref for Rig {
    type Target = Place;
    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Rig {
    /// A keeper with four fresh keys and a fresh journal, or nothing where SoftHSM is not installed.
    pub(crate) fn new() -> Option<Self> {
        Self::with(|_| ())
    }

    /// The same with a world, and so a charter, that was changed before.
    pub(crate) fn with(change: impl FnOnce(&mut World)) -> Option<Self> {
        let place = Place::new("signing")?;
        let keys: BTreeMap<Purpose, Spki> =
            (1..).zip(Purpose::ALL).map(|(number, purpose)| (purpose, generate(&place, number))).collect();
        let mut rig = Self { place, world: World::new(keys, SystemClock.now()) };
        change(&mut rig.world);
        rig.write("charter.toml", &rig.world.charter());
        let own = "role = 'sign'\nname = 'signing'\ncharter = 'charter.toml'";
        rig.configure_with(own, "pin_file = 'token/pin'\nsessions = 2");
        rig.init();
        Some(rig)
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.path("state/journal")
    }

    /// The digests that keys have signed, in order.
    pub(crate) fn signed(&self) -> Vec<Sha256> {
        let input = |entry| match entry {
            Entry::Signature { input, .. } => {
                let bytes: [u8; 32] = input.unwrap().try_into().unwrap();
                Some(Sha256::from_bytes(bytes))
            }
            Entry::Login { .. } => None,
        };
        self.entries().into_iter().filter_map(input).collect()
    }

    /// Starts the keeper so that no file it writes can exceed some kilobytes.
    pub(crate) fn start_on_a_small_disk(&self) -> Running {
        let serve = self.command("serve");
        let mut limited = Command::new("sh");
        limited.args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""]).arg(serve.get_program());
        limited.args(serve.get_args());
        limited.envs(serve.get_envs().filter_map(|(k, v)| Some((k, v?))));
        self.start_as(limited)
    }
}

fn generate(place: &Place, number: u8) -> Spki {
    let made = place.generate(&format!("{number:02}"), "p256", &[]);
    assert!(made.status.success(), "{}: {}", made.status, said(&made));
    let described: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    serde_json::from_value(described["spki"].clone()).unwrap()
}

/// As the daemons of a signing keeper use it.
impl Running {
    /// A new connection that has been welcomed.
    pub(crate) fn connect(&self) -> Daemon {
        self.connect_knowing(0).unwrap()
    }

    /// A new connection of a daemon that was told of this generation; nothing if the keeper does not answer it.
    pub(crate) fn connect_knowing(&self, generation: u64) -> Option<Daemon> {
        let mut stream = self.raw();
        write_message(&mut stream, &hello(generation)).unwrap();
        match read_message(&mut stream).unwrap_or(None)? {
            FromSigner::Welcome(welcome) => Some(Daemon { stream, seen: welcome.seen_size, welcome }),
            other => panic!("{other:?}"),
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
    }
}

/// The first message of a daemon that was told of this generation.
pub(crate) fn hello(generation: u64) -> ToSigner {
    ToSigner::Hello { proto: PROTO, daemon: "test".into(), generation }
}

/// One daemon's connection.
pub(crate) struct Daemon {
    stream: UnixStream,
    pub(crate) seen: u64,
    pub(crate) welcome: Welcome,
}

impl Daemon {
    /// Sends a frame and gives back the answer to it.
    pub(crate) fn ask(&mut self, batch: &Batch) -> FromSigner {
        self.say(&ToSigner::Batch(batch.clone()))
    }

    /// Says anything and gives back the answer.
    pub(crate) fn say(&mut self, message: &ToSigner) -> FromSigner {
        write_message(&mut self.stream, message).unwrap();
        read_message(&mut self.stream).unwrap().unwrap()
    }

    /// Sends a frame to which no answer must come: the keeper ends.
    pub(crate) fn ask_in_vain(&mut self, batch: &Batch) -> bool {
        write_message(&mut self.stream, &ToSigner::Batch(batch.clone())).unwrap();
        !matches!(read_message::<FromSigner>(&mut self.stream), Ok(Some(_)))
    }

    /// Sends a frame that must be carried out.
    pub(crate) fn reserve(&mut self, batch: &Batch) -> Reserved {
        match self.ask(batch) {
            FromSigner::Reserved(reserved) => {
                self.seen = reserved.seen;
                reserved
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the next result.
    pub(crate) fn result(&mut self) -> (u64, SignResult) {
        match self.next() {
            FromSigner::Result { index, result } => (index, result),
            other => panic!("{other:?}"),
        }
    }

    /// Waits for what the keeper says next.
    pub(crate) fn next(&mut self) -> FromSigner {
        read_message(&mut self.stream).unwrap().unwrap()
    }

    /// Waits for the next result, which must be a signature.
    pub(crate) fn signature(&mut self) -> (u64, Signature) {
        match self.result() {
            (index, SignResult::Signed { signature }) => (index, signature),
            other => panic!("{other:?}"),
        }
    }

    /// The refusal of the only item of `batch`.
    pub(crate) fn refused(&mut self, batch: &Batch) -> Refusal {
        let mut answer = self.reserve(batch);
        assert!(answer.accepted.is_empty(), "accepted");
        assert_eq!(answer.refused.len(), 1);
        answer.refused.remove(0)
    }

    /// Its code.
    pub(crate) fn refusal(&mut self, batch: &Batch) -> String {
        self.refused(batch).code.to_string()
    }

    /// Has one item signed and settled; its sealed file.
    pub(crate) fn through(&mut self, world: &mut World, made: &crate::world::Made) -> Vec<u8> {
        let answer = self.reserve(&world.batch(self.seen, &[made], vec![]));
        assert_eq!(answer.accepted, [made.index], "{:?}", answer.refused);
        let (index, signature) = self.signature();
        assert_eq!(index, made.index);
        let settle: Settle = world.completion(made, &signature);
        let answer = self.reserve(&world.batch(self.seen, &[], vec![settle]));
        assert_eq!(answer.settled, [made.index], "{:?}", answer.unsettled);
        made.seal(world, &signature)
    }

    /// What `Welcome` said of an index.
    pub(crate) fn told(&self, index: u64) -> Option<&OpenState> {
        self.welcome.open.iter().find(|o| o.index == index).map(|o| &o.state)
    }
}

/// Changes a file's bytes.
pub(crate) fn tamper(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}
