//! The management key: proving it (GENERAL AUTHENTICATE 9B) and replacing it (SET MANAGEMENT KEY).
//!
//! A challenge is used once, and only in the flow it was made for: else the card could be asked to encrypt its own witness.
//! It is bound to its algorithm too, for only the key's own is heard, and replacing the key drops the challenge. The card
//! never encrypts for somebody who has not proved the key.

use super::{
    Answer, Card,
    piv::MANAGEMENT_KEY,
    private_key_use::{CHALLENGE, RESPONSE, WITNESS},
    random,
};
use crate::{
    algorithm::Version,
    apdu::{Command, Sw},
    management_key::{ManagementKey, MgmtAlgorithm},
    ports::{Ports, Touch},
    tlv::{self, Tlv},
};

/// `P2` of SET MANAGEMENT KEY: its use needs no touch, or a touch each time.
const NO_TOUCH: u8 = 0xff;
const TOUCH: u8 = 0xfe;

/// A challenge that waits for its answer.
#[derive(Debug)]
pub(super) enum Pending {
    /// Mutual: the card showed this block encrypted and wants it back plain.
    Witness(Vec<u8>),
    /// Single: the card showed this block plain and wants it back encrypted.
    Challenge(Vec<u8>),
}

impl Card {
    pub(super) fn authenticate_management(
        &mut self,
        algorithm: u8,
        asked: Tlv<'_>,
        template: &[Tlv<'_>],
        ports: &mut dyn Ports,
    ) -> Answer {
        let pending = self.session.pending.take();
        let algorithm = MgmtAlgorithm::from_id(algorithm)
            .filter(|algorithm| *algorithm == self.state.management.algorithm)
            .ok_or(Sw::WRONG_DATA)?;
        match (asked.tag, asked.value, pending) {
            (WITNESS, [], _) => self.show_witness(algorithm, ports),
            (CHALLENGE, [], _) => self.show_challenge(algorithm, ports),
            (WITNESS, witness, Some(Pending::Witness(expected))) => {
                let challenge = tlv::find(template, CHALLENGE).ok_or(Sw::WRONG_DATA)?;
                let response = self.state.management.encrypt(challenge).ok_or(Sw::WRONG_DATA)?;
                self.prove(witness == expected, ports)?;
                Ok(tlv::encode(0x7c, &tlv::encode(RESPONSE, &response)))
            }
            (RESPONSE, response, Some(Pending::Challenge(challenge))) => {
                let expected = self.state.management.encrypt(&challenge);
                self.prove(expected.is_some_and(|expected| expected == response), ports)?;
                Ok(Vec::new())
            }
            _ => Err(Sw::WRONG_DATA),
        }
    }

    pub(super) fn set_management_key(&mut self, command: &Command<'_>) -> Answer {
        self.require_management()?;
        let touch = match (command.p1, command.p2) {
            (0xff, NO_TOUCH) => false,
            (0xff, TOUCH) => true,
            _ => return Err(Sw::WRONG_DATA),
        };
        let (algorithm, rest) = command.data.split_first().ok_or(Sw::WRONG_DATA)?;
        let algorithm = MgmtAlgorithm::from_id(*algorithm).ok_or(Sw::WRONG_DATA)?;
        if algorithm != MgmtAlgorithm::Tdes && self.state.firmware < Version(5, 4, 2) {
            return Err(Sw::WRONG_DATA);
        }
        let key = tlv::only(rest, u32::from(MANAGEMENT_KEY)).ok_or(Sw::WRONG_DATA)?;
        self.change().management = ManagementKey::new(algorithm, key, touch).ok_or(Sw::WRONG_DATA)?;
        Ok(Vec::new())
    }

    fn show_witness(&mut self, algorithm: MgmtAlgorithm, ports: &mut dyn Ports) -> Answer {
        let witness = self.begin(algorithm, ports)?;
        let shown = self.state.management.encrypt(&witness).ok_or(Sw::WRONG_DATA)?;
        self.session.pending = Some(Pending::Witness(witness));
        Ok(tlv::encode(0x7c, &tlv::encode(WITNESS, &shown)))
    }

    fn show_challenge(&mut self, algorithm: MgmtAlgorithm, ports: &mut dyn Ports) -> Answer {
        let challenge = self.begin(algorithm, ports)?;
        let shown = tlv::encode(0x7c, &tlv::encode(CHALLENGE, &challenge));
        self.session.pending = Some(Pending::Challenge(challenge));
        Ok(shown)
    }

    /// The first step of either flow ends what stood before.
    fn begin(&mut self, algorithm: MgmtAlgorithm, ports: &mut dyn Ports) -> Answer {
        self.session.management = false;
        let bytes: [u8; 16] = random(ports)?.bytes();
        Ok(bytes.iter().copied().take(algorithm.block_length()).collect())
    }

    fn prove(&mut self, right: bool, ports: &mut dyn Ports) -> Result<(), Sw> {
        let touched = right && (!self.state.management.touch || ports.touch() == Touch::Given);
        self.session.management = touched;
        if touched { Ok(()) } else { Err(Sw::SECURITY_STATUS) }
    }
}
