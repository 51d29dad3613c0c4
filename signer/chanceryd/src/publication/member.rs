//! One witness as the log stands to it: what it has cosigned, what is wrong with it since when, what the log says of that,
//! and when it is asked again.

use super::{
    chronicle::Chronicle,
    witness::{Fault, Question, Witness},
};
use api::KeptHead;
use record::{Event, FailureCode, MAX_CLAIMED, Nonce, Time};
use std::{mem::discriminant, time::Duration};
use tlog::{CosignerKey, NoteSignature};
use tokio::time::Instant;

/// Pause before a witness is asked again that gave no cosignature: first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// A cosignature over the newest note is asked for again when it is so old, so that a log at rest shows that it still is
/// what its witnesses see.
const REFRESH: Duration = Duration::from_secs(3600);
/// Failures in a row that make a witness lost: one may be a restart.
const LOST_AFTER: u32 = 2;
/// Entries of the log about one witness in [`WINDOW`]: one that comes and goes all the time must not fill it. What was left
/// out is made up for by the next one, which says how the witness stands then.
const TOLD: u32 = 10;
/// See [`TOLD`].
const WINDOW: Duration = Duration::from_secs(600);

/// A witness with all that is known of it.
pub(super) struct Member {
    pub(super) witness: Witness,
    cosigned: Option<Cosigned>,
    trouble: Option<Trouble>,
    failures: u32,
    pause: Duration,
    /// Not asked before.
    rest: Instant,
    told: Told,
}

/// The newest text that it has cosigned.
struct Cosigned {
    text: String,
    /// How many entries that text covers.
    size: u64,
    line: NoteSignature,
    at: Instant,
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    kind: Kind,
    since: Time,
    /// The newest fault in words.
    says: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It gives no cosignature.
    Lost { code: &'static str },
    /// It claims, without proof, to have cosigned something that this log is not.
    Conflict { claimed: u64, size: u64 },
}

/// What the log says of it since this daemon started; nothing means that it is well. The entry of the start ends what was
/// said before.
struct Told {
    trouble: Option<(Kind, Time)>,
    window: Instant,
    count: u32,
}

impl Member {
    /// A witness of which nothing is known.
    pub(super) fn new(witness: Witness) -> Self {
        let now = Instant::now();
        let told = Told { trouble: None, window: now, count: 0 };
        Self { witness, cosigned: None, trouble: None, failures: 0, pause: BACKOFF.0, rest: now, told }
    }

    /// Its key.
    pub(super) fn key(&self) -> &CosignerKey {
        &self.witness.key
    }

    /// When it is to be asked about this text.
    pub(super) fn due(&self, text: &str) -> Instant {
        let fresh = self.cosigned.as_ref().filter(|cosigned| cosigned.text == text);
        fresh.map_or(self.rest, |cosigned| self.rest.max(cosigned.at + REFRESH))
    }

    /// Its signature line over this text, if it has cosigned it.
    pub(super) fn line(&self, text: &str) -> Option<&NoteSignature> {
        self.cosigned.as_ref().filter(|cosigned| cosigned.text == text).map(|cosigned| &cosigned.line)
    }

    /// Asks it, and has the log say what has changed. An error is a fork of this log.
    pub(super) async fn ask(
        &mut self,
        question: &Question<'_>,
        chronicle: &Chronicle,
        now: Time,
    ) -> Result<(), String> {
        match self.witness.cosign(question).await {
            Ok(line) => self.well(question.note.text(), question.size, line),
            Err(Fault::Fork(why)) => return Err(why),
            Err(fault) => self.failed(&fault, now),
        }
        self.tell(chronicle, now);
        Ok(())
    }

    fn well(&mut self, text: &str, size: u64, line: NoteSignature) {
        if self.trouble.take().is_some() {
            tracing::info!(witness = self.witness.name, "a witness cosigns again");
        }
        self.cosigned = Some(Cosigned { text: text.to_owned(), size, line, at: Instant::now() });
        (self.failures, self.pause) = (0, BACKOFF.0);
    }

    fn failed(&mut self, fault: &Fault, now: Time) {
        self.rest = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(BACKOFF.1);
        if matches!(fault, Fault::Ahead) {
            return;
        }
        self.failures += 1;
        let kind = match *fault {
            Fault::Claim { claimed, size } => Kind::Conflict { claimed, size },
            _ if self.failures < LOST_AFTER => return,
            _ => Kind::Lost { code: fault.code() },
        };
        let before = self.trouble.as_ref();
        if before.is_none_or(|before| discriminant(&before.kind) != discriminant(&kind)) {
            tracing::error!(witness = self.witness.name, why = %fault, "ALARM: a witness does not cosign the log");
        }
        let since = before.map_or(now, |before| before.since);
        self.trouble = Some(Trouble { kind, since, says: fault.to_string() });
    }

    /// Has the log say how it stands now, if the log says something else.
    fn tell(&mut self, chronicle: &Chronicle, now: Time) {
        let is = self.trouble.as_ref().map(|trouble| (trouble.kind, trouble.since));
        let word = |trouble: &Option<(Kind, Time)>| trouble.as_ref().map(|(kind, _)| discriminant(kind));
        if word(&is) == word(&self.told.trouble) || !self.told.has_room() {
            return;
        }
        let Ok(nonce) = Nonce::random() else { return };
        let event = event(is, self.told.trouble, now, nonce, &self.witness.name);
        if event.is_some_and(|event| chronicle.tell(event)) {
            self.told.trouble = is;
            self.told.count += 1;
        }
    }

    /// The head of the log that it keeps, if it is elsewhere and well.
    pub(super) fn kept(&self) -> Option<KeptHead> {
        let cosigned =
            self.cosigned.as_ref().filter(|_| self.trouble.is_none() && self.witness.is_elsewhere())?;
        Some(KeptHead::Witness { name: self.key().name().to_owned(), size: cosigned.size })
    }

    /// One sentence, if something is wrong.
    pub(super) fn alarm(&self) -> Option<String> {
        let Trouble { since, says, .. } = self.trouble.as_ref()?;
        Some(format!("witness {}: {says} (since {since})", self.witness.name))
    }
}

impl Told {
    fn has_room(&mut self) -> bool {
        if self.window.elapsed() >= WINDOW {
            (self.window, self.count) = (Instant::now(), 0);
        }
        self.count < TOLD
    }
}

/// The entry of a witness that stands like this now, and of which the log has said that.
fn event(
    is: Option<(Kind, Time)>,
    told: Option<(Kind, Time)>,
    time: Time,
    nonce: Nonce,
    witness: &str,
) -> Option<Event> {
    let witness = witness.to_owned();
    Some(match is {
        Some((Kind::Lost { code }, _)) => {
            Event::WitnessLost { time, nonce, witness, code: FailureCode::parse(code).ok()? }
        }
        Some((Kind::Conflict { claimed, size }, _)) => {
            Event::WitnessConflict { time, nonce, witness, claimed: claimed.min(MAX_CLAIMED), size }
        }
        None => Event::WitnessBack { time, nonce, witness, since: told?.1 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use tlog::WitnessPolicy;

    #[test]
    fn an_entry_says_what_is_wrong_and_the_end_of_it_since_when_it_was() {
        let time = |s: i64| Time::from_unix_ms(1_790_000_000_000).unwrap().plus_s(s);
        let nonce: Nonce = "0".repeat(32).parse().unwrap();
        let event = |is, told| event(is, told, time(9), nonce.clone(), "w");
        let lost = Some((Kind::Lost { code: "unreachable" }, time(1)));
        let claim = Some((Kind::Conflict { claimed: u64::MAX, size: 7 }, time(1)));
        let Some(Event::WitnessLost { code, .. }) = event(lost, None) else { panic!("not lost") };
        assert_eq!(code.as_str(), "unreachable");
        let Some(conflict @ Event::WitnessConflict { claimed: MAX_CLAIMED, size: 7, .. }) =
            event(claim, lost)
        else {
            panic!("no conflict")
        };
        let leaf = record::Leaf::Event(conflict);
        assert_eq!(record::Leaf::decode(&leaf.encode().unwrap()).unwrap(), leaf);
        let Some(Event::WitnessBack { since, .. }) = event(None, lost) else { panic!("not back") };
        assert_eq!(since, time(1));
        assert_eq!(event(None, None), None);
    }

    #[test]
    fn a_witness_keeps_a_head_while_it_is_well_and_on_another_machine() {
        let cosigner = CosignerKey::new_ed25519(
            "w.example",
            SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes(),
        );
        let cosigner = cosigner.unwrap();
        let policy = WitnessPolicy::parse(&format!("witness north {cosigner}\nquorum north\n")).unwrap();
        let member = |url: &str| {
            let http = reqwest::Client::new();
            Member::new(Witness::new(&policy.witnesses()[0], url, http, Duration::from_secs(1)).unwrap())
        };
        let line = NoteSignature { name: "w.example".into(), id: 1, sig: vec![0] };
        let now = Time::from_unix_ms(1_790_000_000_000).unwrap();
        let mut north = member("https://w.example/");
        assert_eq!(north.kept(), None, "before its first cosignature");
        north.well("text\n", 7, line.clone());
        let kept = Some(KeptHead::Witness { name: "w.example".into(), size: 7 });
        assert_eq!(north.kept(), kept);
        for expected in [kept, None] {
            north.failed(&Fault::Status(500), now);
            assert_eq!(north.kept(), expected, "one failure may be a restart, two are an alarm");
        }
        let mut here = member("http://127.0.0.1:8480/");
        here.well("text\n", 7, line);
        assert_eq!(here.kept(), None, "it goes back together with the log");
    }

    #[test]
    fn a_witness_that_comes_and_goes_does_not_fill_the_log() {
        let mut told = Told { trouble: None, window: Instant::now(), count: 0 };
        for _ in 0..TOLD {
            assert!(told.has_room());
            told.count += 1;
        }
        assert!(!told.has_room());
        told.window = Instant::now().checked_sub(WINDOW).unwrap();
        assert!(told.has_room());
    }
}
