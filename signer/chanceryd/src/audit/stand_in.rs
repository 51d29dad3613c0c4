//! A log keeper for tests: it holds leaves in memory, and ends where a test says.

use ed25519_dalek::SigningKey;
use record::{
    Origin, Sha256,
    wire::{Blob, FromLog, ToLog, read_message, write_message},
};
use std::{
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tlog::{Frontier, VerifierKey};

const ORIGIN: &str = "log.example.com";

/// What follows when leaves were taken.
pub(crate) enum Then {
    /// The answer.
    Answer,
    /// The end of the connection: nobody learns that they are there.
    HangUp,
}

/// The keeper; it runs until the test ends.
pub(crate) struct StandIn {
    pub(crate) key: SigningKey,
    pub(crate) socket: PathBuf,
    spool: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl StandIn {
    /// Listens in `folder`. `appended` is called when leaves stand in the spool.
    pub(crate) fn start(
        folder: &Path,
        leaves: Vec<Vec<u8>>,
        appended: impl FnMut() -> Then + Send + 'static,
    ) -> Self {
        let socket = folder.join("log.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let keeper =
            Self { key: SigningKey::from_bytes(&[1; 32]), socket, spool: Arc::new(Mutex::new(leaves)) };
        let (vkey, spool, mut appended) = (keeper.vkey(), keeper.spool.clone(), appended);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                converse(&mut connection.unwrap(), &vkey, &spool, &mut appended);
            }
        });
        keeper
    }

    pub(crate) fn vkey(&self) -> VerifierKey {
        VerifierKey::new_ed25519(ORIGIN, self.key.verifying_key().to_bytes()).unwrap()
    }

    /// What it holds.
    pub(crate) fn leaves(&self) -> Vec<Vec<u8>> {
        self.spool.lock().unwrap().clone()
    }
}

fn converse(
    to: &mut UnixStream,
    vkey: &VerifierKey,
    spool: &Mutex<Vec<Vec<u8>>>,
    appended: &mut impl FnMut() -> Then,
) {
    while let Ok(Some(message)) = read_message::<ToLog>(to) {
        let mut spool = spool.lock().unwrap();
        let answer = match message {
            ToLog::Hello { epoch, .. } => {
                let (size, root) = head(&spool);
                let origin = Origin::parse(ORIGIN).unwrap();
                FromLog::Welcome {
                    origin,
                    vkey: vkey.to_string(),
                    epoch: epoch + 1,
                    size,
                    root,
                    set_key: None,
                }
            }
            ToLog::Append { base, leaves, .. } => {
                assert_eq!(base, spool.len() as u64);
                spool.extend(leaves.into_iter().map(|leaf| leaf.0));
                if let Then::HangUp = appended() {
                    return;
                }
                let (size, root) = head(&spool);
                FromLog::Appended { size, root }
            }
            ToLog::Read { from, n } => {
                let leaves = spool.iter().skip(from as usize).take(n as usize);
                FromLog::Leaves { from, leaves: leaves.cloned().map(Blob).collect() }
            }
            other => panic!("{other:?}"),
        };
        if write_message(to, &answer).is_err() {
            return;
        }
    }
}

fn head(spool: &[Vec<u8>]) -> (u64, Sha256) {
    let mut tree = Frontier::default();
    spool.iter().for_each(|leaf| tree.append(tlog::leaf_hash(leaf)));
    (tree.size(), Sha256::from_bytes(tree.root().0))
}
