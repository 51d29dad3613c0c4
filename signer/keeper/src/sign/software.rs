//! For tests: a keeper's decisions without files and tokens, with keys in software.

use super::batch::{self, Verdict, Work};
use super::charter::Charter;
use super::results::Results;
use super::state::State;
use super::validate::Rules;
use super::world::{Made, World};
use p256::ecdsa::{SigningKey, signature::hazmat::PrehashSigner};
use record::wire::{Batch, Reserved, Settle, SignResult};
use record::{Purpose, Signature, Spki, Time};

/// A keeper's memory and its keys.
pub(super) struct Software {
    pub(super) state: State,
    pub(super) results: Results,
    pub(super) now: Time,
    /// The charter of this keeper in a world.
    pub(super) charter: fn(&World) -> String,
}

impl Software {
    pub(super) fn new() -> Self {
        let now = Time::from_unix_ms(1_790_000_000_000).unwrap();
        Self { state: State::new(now), results: Results::default(), now, charter: World::charter }
    }

    pub(super) fn world(&self) -> World {
        let spki = |p| Spki::from_sec1(key(p).verifying_key().to_sec1_point(false).as_bytes()).unwrap();
        World::new(Purpose::ALL.into_iter().map(|p| (p, spki(p))).collect(), self.now)
    }

    /// Decides a frame as it is.
    pub(super) fn decide(&mut self, world: &World, batch: &Batch) -> Verdict {
        let charter = Charter::parse((self.charter)(world).as_bytes()).unwrap();
        let rules = Rules { charter: &charter, now: self.now };
        batch::decide(batch, &rules, &mut self.state, &mut self.results).unwrap()
    }

    /// Decides a frame with all proofs in place; it must be carried out.
    pub(super) fn frame(&mut self, world: &World, sign: &[&Made], settle: Vec<Settle>) -> Reserved {
        let batch = world.batch(self.state.seen.size, sign, settle);
        done(self.decide(world, &batch)).answer
    }

    /// The one code with which the only item of a frame is refused.
    pub(super) fn refusal(&mut self, world: &World, made: &Made) -> String {
        let answer = self.frame(world, &[made], vec![]);
        assert!(answer.accepted.is_empty());
        answer.refused.first().unwrap().code.to_string()
    }

    /// Forgets what a process forgets when it dies.
    pub(super) fn restart(&mut self) {
        self.results = Results::after_restart(&self.state.open, self.now);
    }

    /// Signs an accepted item, as a token would.
    pub(super) fn sign(&mut self, made: &Made) -> Signature {
        let signature = signature(made);
        let result = SignResult::Signed { signature: signature.clone() };
        self.results.finish(made.index, result, self.now);
        signature
    }

    /// Has `made` accepted, signed and settled.
    pub(super) fn through(&mut self, world: &mut World, made: &Made) -> Signature {
        let answer = self.frame(world, &[made], vec![]);
        assert_eq!(answer.accepted, [made.index], "{:?}", answer.refused);
        let signature = self.sign(made);
        let settle = world.completion(made, &signature);
        let answer = self.frame(world, &[], vec![settle]);
        assert_eq!(answer.settled, [made.index], "{:?}", answer.unsettled);
        signature
    }
}

pub(super) fn done(verdict: Verdict) -> Work {
    match verdict {
        Verdict::Done(work) => work,
        other => panic!("{other:?}"),
    }
}

pub(super) fn signature(made: &Made) -> Signature {
    let made: p256::ecdsa::Signature =
        key(made.intent.purpose).sign_prehash(made.intent.payload.as_bytes()).unwrap();
    Signature::from_raw(&made.to_bytes()).unwrap()
}

fn key(purpose: Purpose) -> SigningKey {
    let number = Purpose::ALL.into_iter().position(|p| p == purpose).unwrap();
    SigningKey::from_slice(&[number as u8 + 1; 32]).unwrap()
}
