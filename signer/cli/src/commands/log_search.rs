//! `chancery log search`: entries by repository, tag, digest, identity, key, time, decision and end.

use super::{
    log::{answered, blocking, follow, memory_note, source, trust},
    log_show::short,
};
use crate::{
    args::LogSearchArgs,
    audit::search::{Filter, Found, Hit, MAX_HITS, search},
    connect::Connection,
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};

impl Answer for Found {
    const SCHEMA: &'static str = "chancery.log-search/v1";
}

pub(super) async fn run(
    args: LogSearchArgs,
    connection: &Connection,
    output: &mut Output,
) -> Result<Exit, Failure> {
    if args.limit == 0 || args.limit > MAX_HITS {
        return Err(Failure::new(Exit::Usage, format!("--limit is 1 to {MAX_HITS}"))
            .next("go on with --from where an answer ends, or export the log with chancery log export"));
    }
    let trust = trust(&args.log_key)?;
    let source = source(args.source.as_deref(), connection)?;
    let filter = Filter {
        repository: args.repository,
        tag: args.tag,
        digest: args.digest,
        by: args.by,
        request: args.request,
        key: args.key,
        since: args.since.map(|moment| moment.0),
        before: args.before.map(|moment| moment.0),
        decision: args.decision,
        end: args.end,
        from: args.from,
    };
    output.progress("reading and hashing the whole log");
    let (found, memory) = blocking(move || {
        let found = search(&source, &trust, &filter, args.limit)?;
        let memory = follow(&source, &trust, &found.note)?;
        Ok((found, memory))
    })
    .await?;
    if let Some(note) = memory_note(memory, found.size) {
        output.note(&note);
    }
    let mut lines: Vec<String> = found.hits.iter().map(line).collect();
    if lines.is_empty() {
        lines.push(format!("none of the {} entries fits", found.size));
    }
    if let Some(next) = found.next {
        output.note(&format!("there may be more: go on with --from {next}"));
    }
    output.result(&found, &lines.join("\n"))?;
    answered(found.findings)
}

/// One line for people; the JSON form has everything.
fn line(hit: &Hit) -> String {
    let facts = &hit.facts;
    let mut words = vec![format!("{:>8}  {:<12}", hit.index, hit.kind)];
    words.extend(facts.time.map(|time| time.to_string()));
    words.extend(facts.repository.as_ref().map(ToString::to_string));
    words.extend(facts.purpose.map(|purpose| purpose.to_string()));
    for asked in &facts.asked {
        let tag = asked.tag.as_ref().map(ToString::to_string).unwrap_or_default();
        let digest = asked.digest.map(|digest| format!("={}", short(digest.sha256()))).unwrap_or_default();
        let by = asked.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        words.push(format!("{tag}{digest}{by}").trim().to_owned());
    }
    words.extend(facts.key.map(|key| format!("key {}", short(key))));
    words.extend(hit.ended.map(|ended| match ended.index {
        Some(index) => format!("{} by entry {index}", ended.end.as_str()),
        None => ended.end.as_str().to_owned(),
    }));
    words.join("  ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::audit::synthetic::Log;

    pub(in crate::commands) fn found() -> Found {
        let log = Log::with_requests(1);
        search(&log.published(log.size()).source(), &log.trust(), &Filter::default(), 9).unwrap()
    }

    #[test]
    fn a_line_says_who_asked_for_what_and_how_it_ended() {
        let found = found();
        let text = line(&found.hits[1]);
        assert!(text.starts_with("       1  intent        2026-"), "{text}");
        assert!(text.contains("  r.example/a  targets  v1="), "{text}");
        assert!(text.contains(" by token:ci  key ") && text.ends_with("  signed by entry 2"), "{text}");
    }
}
