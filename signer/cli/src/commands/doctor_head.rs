//! The check `head` of `chancery doctor`: who keeps a head of the log off its host.
//!
//! Without one, a service that was restored with all its parts from older copies starts, and nobody can tell. What this
//! machine remembers is known here; of witnesses and mirrors the daemon tells, and no proof of that is asked for: it is a
//! word to an operator about his own service.

use super::doctor::Check;
use api::KeptHead;

/// `server` is the service's base URL, `remembered` the size of the checkpoint that this machine remembers, `told` what the
/// daemon says.
pub(super) fn check(server: &str, remembered: Option<u64>, told: &[KeptHead]) -> Check {
    let here = remembered.filter(|_| !is_this_machine(server));
    let here = here.map(|size| format!("this machine remembers a checkpoint of {size} entries"));
    let places: Vec<String> = here.into_iter().chain(told.iter().map(place)).collect();
    if !places.is_empty() {
        return Check::good("head", places.join("; "));
    }
    let says = "no head of this log is known to be kept off its host: nobody would notice that all of it is an older copy";
    let remedy = "configure a witness (docs/how-to/witnesses.md) or a mirror in a bucket (docs/how-to/mirror.md) on another \
                  machine, or run chancery log checkpoint or chancery log watch there each day, and carry backups away \
                  (docs/how-to/backup.md); witnesses and mirrors on the service's own host, and in folders, do not count";
    Check::warning("head".into(), says.into(), Some(remedy.into()))
}

fn place(head: &KeptHead) -> String {
    match head {
        KeptHead::Witness { name, size } => format!("witness {name} has cosigned {size} entries"),
        KeptHead::Mirror { size } => format!("a mirror has the checkpoint of {size} entries"),
    }
}

/// What is remembered on the service's own host goes back together with it.
fn is_this_machine(server: &str) -> bool {
    let host = server.split_once("://").map_or(server, |(_, rest)| rest);
    ["localhost", "127.", "[::1]"].iter().any(|own| host.starts_with(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_whose_head_nobody_keeps_off_its_host_is_warned_of() {
        let witness = KeptHead::Witness { name: "w.example".into(), size: 6 };
        let mirror = KeptHead::Mirror { size: 5 };
        for (server, remembered, told, places) in [
            (
                "https://chancery.example.com",
                Some(7),
                vec![],
                Some("this machine remembers a checkpoint of 7 entries"),
            ),
            ("https://chancery.example.com", None, vec![], None),
            ("https://localhost:4443", Some(7), vec![], None),
            ("https://127.0.0.1:4443", Some(7), vec![], None),
            ("https://[::1]", Some(7), vec![], None),
            (
                "https://127.0.0.1:4443",
                None,
                vec![witness, mirror],
                Some("witness w.example has cosigned 6 entries; a mirror has the checkpoint of 5 entries"),
            ),
        ] {
            let line = check(server, remembered, &told).line();
            match places {
                Some(places) => assert_eq!(line, format!("ok    head: {places}")),
                None => assert!(
                    line.starts_with("warn  head: no head of this log") && line.contains("remedy: "),
                    "{line}"
                ),
            }
        }
    }
}
