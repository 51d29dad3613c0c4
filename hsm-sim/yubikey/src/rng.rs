//! Random bytes inside the card: one seed from outside, expanded by SHA-256 in counter mode.
//!
//! Key generation wants an infallible generator, and the system's can fail: so it is asked once, before anything is
//! decided. Good enough for keys that protect nothing.

use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};
use std::convert::Infallible;

/// Expands one seed.
#[derive(Debug)]
pub(crate) struct Expander {
    seed: [u8; 32],
    blocks: u64,
}

impl Expander {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, blocks: 0 }
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    fn fill(&mut self, to: &mut [u8]) {
        for chunk in to.chunks_mut(32) {
            let block =
                Sha256::new().chain_update(self.seed).chain_update(self.blocks.to_be_bytes()).finalize();
            chunk.iter_mut().zip(block).for_each(|(to, from)| *to = from);
            self.blocks += 1;
        }
    }
}

impl TryRng for Expander {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_be_bytes(self.bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_be_bytes(self.bytes()))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        self.fill(to);
        Ok(())
    }
}

impl TryCryptoRng for Expander {}
