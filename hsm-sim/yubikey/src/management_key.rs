//! The management key: a symmetric key that proves itself by encrypting one block.

use crate::hex::Hex;
use aes::cipher::{Block, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use serde::{Deserialize, Serialize};

/// What a management key can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MgmtAlgorithm {
    Tdes,
    Aes128,
    Aes192,
    Aes256,
}

impl MgmtAlgorithm {
    const ALL: [Self; 4] = [Self::Tdes, Self::Aes128, Self::Aes192, Self::Aes256];

    /// The number in `P1` of GENERAL AUTHENTICATE.
    pub(crate) fn id(self) -> u8 {
        match self {
            Self::Tdes => 0x03,
            Self::Aes128 => 0x08,
            Self::Aes192 => 0x0a,
            Self::Aes256 => 0x0c,
        }
    }

    pub(crate) fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.id() == id)
    }

    pub(crate) fn key_length(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Tdes | Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// The length of witness and challenge.
    pub(crate) fn block_length(self) -> usize {
        if self == Self::Tdes { 8 } else { 16 }
    }
}

/// A management key, and whether its use wants a touch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManagementKey {
    pub(crate) algorithm: MgmtAlgorithm,
    key: Hex,
    pub(crate) touch: bool,
}

impl ManagementKey {
    /// `None` if the key has the wrong length.
    pub(crate) fn new(algorithm: MgmtAlgorithm, key: &[u8], touch: bool) -> Option<Self> {
        (key.len() == algorithm.key_length()).then(|| Self { algorithm, key: Hex(key.to_vec()), touch })
    }

    pub(crate) fn is(&self, key: &[u8]) -> bool {
        self.key.0 == key
    }

    /// One block; `None` if it is none.
    pub(crate) fn encrypt(&self, block: &[u8]) -> Option<Vec<u8>> {
        match self.algorithm {
            MgmtAlgorithm::Tdes => encrypt::<des::TdesEde3>(&self.key.0, block),
            MgmtAlgorithm::Aes128 => encrypt::<aes::Aes128>(&self.key.0, block),
            MgmtAlgorithm::Aes192 => encrypt::<aes::Aes192>(&self.key.0, block),
            MgmtAlgorithm::Aes256 => encrypt::<aes::Aes256>(&self.key.0, block),
        }
    }
}

fn encrypt<C: KeyInit + BlockCipherEncrypt + BlockSizeUser>(key: &[u8], block: &[u8]) -> Option<Vec<u8>> {
    let cipher = C::new_from_slice(key).ok()?;
    let mut block = Block::<C>::try_from(block).ok()?;
    cipher.encrypt_block(&mut block);
    Some(block.to_vec())
}

#[cfg(test)]
mod tests {
    use super::{ManagementKey, MgmtAlgorithm};

    /// FIPS 197 appendix C.1 and C.2; three-key DES with one key thrice is DES (FIPS 46-3's example).
    #[test]
    fn one_block_is_encrypted_as_the_standards_say() {
        let bytes = |from: u8, n: u8| (from..from + n).collect::<Vec<u8>>();
        let plain: Vec<u8> = (0..16).map(|i| i * 0x11).collect();
        let aes = |algorithm, length| ManagementKey::new(algorithm, &bytes(0, length), false).unwrap();
        assert_eq!(
            crate::hex::encode(&aes(MgmtAlgorithm::Aes128, 16).encrypt(&plain).unwrap()),
            "69c4e0d86a7b0430d8cdb78070b4c55a"
        );
        assert_eq!(
            crate::hex::encode(&aes(MgmtAlgorithm::Aes192, 24).encrypt(&plain).unwrap()),
            "dda97ca4864cdfe06eaf70a0ec0d7191"
        );
        let des = [0x13, 0x34, 0x57, 0x79, 0x9b, 0xbc, 0xdf, 0xf1].repeat(3);
        let des = ManagementKey::new(MgmtAlgorithm::Tdes, &des, false).unwrap();
        let made = des.encrypt(&[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]).unwrap();
        assert_eq!(crate::hex::encode(&made), "85e813540f0ab405");
        assert_eq!(des.encrypt(&[0; 16]), None);
    }
}
