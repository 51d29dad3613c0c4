//! `chancery token health`: how the keepers are, each with one hardware token behind it, as their daemon sees them.
//!
//! It does not know the tokens themselves: those are seen on their keeper's host, by `chancery-keeper doctor`.

use crate::{
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use api::{Client, KeeperFault, KeeperInfo, KeeperState, Keepers, Scrub};

impl Answer for Keepers {
    const SCHEMA: &'static str = "chancery.keepers/v1";
}

/// One keeper, the log's or a signing one.
pub(super) struct Row<'a> {
    pub(super) name: &'a str,
    pub(super) state: &'a KeeperState,
    info: Option<&'a KeeperInfo>,
    log_size: u64,
}

pub(super) async fn run(client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let keepers = client.keepers().await?;
    output.result(&keepers, &text(&keepers))?;
    Ok(worst(&keepers))
}

/// The log keeper first, then the signing keepers.
pub(super) fn rows(keepers: &Keepers) -> Vec<Row<'_>> {
    let log_size = keepers.log_size;
    let log = Row { name: "log", state: &keepers.log, info: None, log_size };
    let signing = keepers.keepers.iter().map(|k| Row {
        name: k.name.as_str(),
        state: &k.state,
        info: Some(k),
        log_size,
    });
    std::iter::once(log).chain(signing).collect()
}

/// What a keeper's trouble means to who asks for signatures.
pub(super) fn exit(fault: KeeperFault) -> Exit {
    match fault {
        KeeperFault::NotConnected | KeeperFault::Unreachable | KeeperFault::Token => Exit::Temporary,
        KeeperFault::Fork => Exit::Verification,
        KeeperFault::OlderJournal
        | KeeperFault::Mismatch
        | KeeperFault::NotConfigured
        | KeeperFault::Unusable => Exit::State,
    }
}

/// A fork before everything, and what may pass by itself behind everything.
fn worst(keepers: &Keepers) -> Exit {
    let rows = rows(keepers);
    let exits: Vec<Exit> =
        rows.iter().filter_map(|r| r.state.trouble.as_ref().map(|t| exit(t.code))).collect();
    let sealed = keepers.sealed.is_some().then_some(Exit::State);
    [Exit::Verification, Exit::State, Exit::Temporary]
        .into_iter()
        .find(|exit| exits.contains(exit) || sealed == Some(*exit))
        .unwrap_or(Exit::Ok)
}

impl Row<'_> {
    /// One line for a keeper that is well.
    pub(super) fn text(&self) -> String {
        let word = match (self.state.reachable, &self.state.trouble) {
            (false, _) => "AWAY",
            (true, Some(_)) => "reachable, IN TROUBLE",
            (true, None) => "reachable",
        };
        let of = |info: &KeeperInfo| {
            let seen = info.seen.map_or_else(|| "an unknown part".to_owned(), |seen| seen.to_string());
            format!(
                ", {} keys, {} open intents, has seen {seen} of {} entries",
                info.keys, info.open_intents, self.log_size
            )
        };
        format!("{}  {word} since {}{}", self.name, self.state.since, self.info.map_or(String::new(), of))
    }

    fn lines(&self) -> String {
        match (&self.state.trouble, &self.state.last) {
            (Some(trouble), _) => {
                format!("{}\n  why     {}\n  remedy  {}", self.text(), trouble.says, trouble.remedy)
            }
            (None, Some(last)) => {
                format!("{}\n  before  {} until {}", self.text(), last.says, self.state.since)
            }
            (None, None) => self.text(),
        }
    }
}

fn text(keepers: &Keepers) -> String {
    let sealed = keepers.sealed.as_ref().map(|why| {
        format!(
            "SEALED: {why}\n  remedy  find the cause and mend it, stop the daemon, then run `chancery unseal --config FILE` on its host"
        )
    });
    let alarms = keepers.alarms.iter().map(|says| format!("ALARM: {says}"));
    let rows = rows(keepers);
    let lines = sealed.into_iter().chain(rows.iter().map(Row::lines)).chain(alarms);
    lines.chain([format!("disk  {}", scrub_text(&keepers.scrub))]).collect::<Vec<_>>().join("\n")
}

/// What the daemon has last read from its disk again.
pub(super) fn scrub_text(scrub: &Scrub) -> String {
    let last = scrub.last.as_ref().map_or_else(
        || "not yet read again as a whole since the daemon's start".to_owned(),
        |last| {
            let (leaves, blobs, time) = (last.leaves, last.blobs, last.time);
            format!("whole: {leaves} entries and {blobs} payloads were read again until {time}")
        },
    );
    let running =
        scrub.running.as_ref().map(|r| format!("; being read now, {} of {} entries", r.leaves, r.of));
    last + &running.unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A log keeper that is well, and one signing keeper that has this fault.
    pub(in crate::commands) fn keepers(fault: Option<KeeperFault>) -> Keepers {
        let well = json!({ "reachable": true, "since": "2026-11-23T10:20:30.000Z" });
        let mut state = well.clone();
        if let Some(code) = fault {
            state["reachable"] = false.into();
            state["trouble"] = json!({ "code": code, "says": "it is broken", "remedy": "mend it" });
        }
        let signing = json!({ "name": "signing", "state": state, "keys": 4, "open_intents": 1, "seen": 17, "entry": 1 });
        serde_json::from_value(json!({ "log_size": 20, "log": well, "keepers": [signing] })).unwrap()
    }

    #[test]
    fn a_keepers_line_says_what_it_has_and_its_trouble_what_to_do() {
        let line = text(&keepers(None));
        assert!(
            line.contains("signing  reachable since 2026-11-23T10:20:30.000Z, 4 keys, 1 open intents"),
            "{line}"
        );
        assert!(line.contains("has seen 17 of 20 entries"), "{line}");
        let broken = text(&keepers(Some(KeeperFault::Unreachable)));
        assert!(broken.contains("signing  AWAY") && broken.contains("remedy  mend it"), "{broken}");
    }

    #[test]
    fn the_exit_code_says_whether_waiting_can_help() {
        assert_eq!(worst(&keepers(None)), Exit::Ok);
        for (fault, exit) in [
            (KeeperFault::Unreachable, Exit::Temporary),
            (KeeperFault::OlderJournal, Exit::State),
            (KeeperFault::Fork, Exit::Verification),
        ] {
            assert_eq!(worst(&keepers(Some(fault))), exit);
        }
        let sealed = Keepers { sealed: Some("x".into()), ..keepers(Some(KeeperFault::Unreachable)) };
        assert_eq!(worst(&sealed), Exit::State);
    }
}
