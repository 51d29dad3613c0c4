//! Events of every kind.

use super::{keeper, nonce, time};
use record::{Event, PolicyStamp, Sha256, TokenFault, TokenId};

/// One event of each kind that may stand anywhere, and of each form where members may be absent.
pub(crate) fn every_event() -> Vec<Event> {
    let policy = PolicyStamp { set: Sha256::of(b"set"), schema: Sha256::of(b"schema") };
    let first = Event::Started {
        time: time(1),
        nonce: nonce(1),
        version: "1.0.0".into(),
        policy,
        config: Sha256::of(b"config"),
        witness_policy: Some(Sha256::of(b"witnesses")),
    };
    std::iter::successors(Some(first), behind).collect()
}

/// The event of the next kind. A new kind does not compile here before it has its place.
fn behind(event: &Event) -> Option<Event> {
    let n = event.time().unix_s().unsigned_abs() % 1000;
    let (at, nonce) = (event.time().plus_s(1), nonce(n));
    let by = || "token:ci".parse().unwrap();
    let token = || "abc".parse::<TokenId>().unwrap();
    let witness = || "w1".to_owned();
    Some(match event {
        Event::Started { version, policy, config, witness_policy: Some(_), .. } => Event::Started {
            time: at,
            nonce,
            version: version.clone(),
            policy: *policy,
            config: *config,
            witness_policy: None,
        },
        Event::Started { .. } => Event::Stopped { time: at, nonce },
        Event::Stopped { .. } => Event::Recovered { time: at, nonce },
        Event::Recovered { .. } => Event::Unsealed { time: at, nonce, reason: "a disk".into(), at: time(0) },
        Event::Unsealed { .. } => Event::Keeper { time: at, nonce, keeper: keeper() },
        Event::Keeper { .. } => Event::TokenCreated {
            time: at,
            nonce,
            by: by(),
            token: token(),
            secret_sha256: Sha256::of(b"secret"),
            scopes: vec!["sign".into()],
            repositories: vec!["r.example/".into()],
            expires: time(1_000_000),
            note: "for the build".into(),
        },
        Event::TokenCreated { .. } => Event::TokenRevoked { time: at, nonce, by: by(), token: token() },
        Event::TokenRevoked { .. } => Event::StoreRolledBack { time: at, nonce, database: 3, spool: 5 },
        Event::StoreRolledBack { .. } => Event::SpoolRolledBack { time: at, nonce, spool: 3, noted: 5 },
        Event::SpoolRolledBack { .. } => {
            let fault = |key| TokenFault { key, code: "token-gone".parse().unwrap() };
            let problems = vec![fault(None), fault(Some(super::key()))];
            Event::TokenTrouble { time: at, nonce, keeper: "signing".parse().unwrap(), problems }
        }
        Event::TokenTrouble { .. } => {
            Event::TokenWell { time: at, nonce, keeper: "signing".parse().unwrap() }
        }
        Event::TokenWell { .. } => {
            let stamp = |text: &[u8]| PolicyStamp { set: Sha256::of(text), schema: Sha256::of(b"schema") };
            Event::PolicyChanged { time: at, nonce, old: stamp(b"old"), new: stamp(b"new") }
        }
        Event::PolicyChanged { .. } => Event::ClockStepped { time: at, nonce, by_ms: -90_000 },
        Event::ClockStepped { by_ms: ..0, .. } => Event::ClockStepped { time: at, nonce, by_ms: 90_000 },
        Event::ClockStepped { .. } => Event::RefusalsLimited { time: at, nonce, by: by(), from: time(0) },
        Event::RefusalsLimited { .. } => {
            Event::RefusalsCounted { time: at, nonce, by: None, from: time(0), until: time(1), count: 7 }
        }
        Event::RefusalsCounted { by: None, .. } => Event::RefusalsCounted {
            time: at,
            nonce,
            by: Some(by()),
            from: time(0),
            until: time(1),
            count: 7,
        },
        Event::RefusalsCounted { by: Some(_), .. } => {
            Event::WitnessLost { time: at, nonce, witness: witness(), code: "unreachable".parse().unwrap() }
        }
        Event::WitnessLost { .. } => {
            Event::WitnessConflict { time: at, nonce, witness: witness(), claimed: 9, size: 5 }
        }
        Event::WitnessConflict { .. } => {
            Event::WitnessBack { time: at, nonce, witness: witness(), since: time(0) }
        }
        // Files of a former log are taken over behind genesis and nowhere else: logs of their own show those.
        Event::WitnessBack { .. }
        | Event::Adopted(_)
        | Event::AdoptedPart(_)
        | Event::AdoptedReservation(_) => return None,
    })
}
