//! `chancery request`: where a request stands, and waiting for its end.

use crate::{
    args::RequestCommand,
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use api::{Client, ClientError, LONG_POLL_MAX_S, Request, RequestState, Touch};
use record::{Clock, SystemClock, Time};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Waits between two tries at a server that is away: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(8);

impl Answer for Request {
    const SCHEMA: &'static str = "chancery.request/v1";
}

pub(super) async fn run(
    command: RequestCommand,
    client: &Client,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match command {
        RequestCommand::Show { id } => {
            let request = client.request(&id, 0).await?;
            show(&request, output)?;
            Ok(Exit::Ok)
        }
        RequestCommand::Wait { id, timeout } => {
            let request = client.request(&id, 0).await?;
            let request = wait(request, client, Instant::now() + timeout.0, output).await?;
            end(&request, output)
        }
    }
}

/// Follows a request until it is final or `deadline` has come, one line of progress a state. A server that is away
/// for a while is asked again.
pub(super) async fn wait(
    mut request: Request,
    client: &Client,
    deadline: Instant,
    output: &mut Output,
) -> Result<Request, Failure> {
    let (mut retry, mut known) = (Retry::new(), None);
    while !request.state.is_final() {
        let blocked = request.blocked.as_ref().map_or(String::new(), |why| format!(", waiting: {why}"));
        output.progress(&format!("{} {}{blocked}", request.id, request.state.as_str()));
        if let Some(touch) = request.touch.as_ref().filter(|touch| Some(touch.until) != known) {
            output.note(&touch_line(touch, SystemClock.now()));
            known = Some(touch.until);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(request);
        }
        // Rounded up: a poll of zero seconds would spin through the last one.
        let poll = left.as_secs().saturating_add(1).min(LONG_POLL_MAX_S);
        match client.follow(&request.id, poll, known).await {
            Ok(newer) => {
                retry = Retry::new();
                request = newer;
            }
            Err(error) if error.is_temporary() => retry
                .pause(error, deadline, output)
                .await
                .map_err(|f| f.next(format!("chancery request wait {}", request.id)))?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(request)
}

/// What a person is asked to do, once a touch.
pub(super) fn touch_line(touch: &Touch, now: Time) -> String {
    let left_ms = touch.until.unix_ms().saturating_sub(now.unix_ms());
    let left_s = u64::try_from(left_ms).unwrap_or(0).div_ceil(1000).max(1);
    format!("Touch {} (slot {}) within {left_s} s: {}", touch.device, touch.slot, touch.what)
}

/// The pauses between tries, longer each time.
pub(super) struct Retry {
    next: Duration,
}

impl Retry {
    pub(super) fn new() -> Self {
        Self { next: RETRY_FIRST }
    }

    /// Waits before the next try; gives the error back when that would be after the deadline. The caller knows what to do
    /// then.
    pub(super) async fn pause(
        &mut self,
        error: ClientError,
        deadline: Instant,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let pause = self.next;
        self.next = (pause * 2).min(RETRY_LAST);
        if Instant::now() + pause > deadline {
            return Err(error.into());
        }
        output.progress(&format!("{error}; trying again"));
        sleep(pause).await;
        Ok(())
    }
}

/// Shows the request as the command's result, and says what its state means as an end.
pub(super) fn end(request: &Request, output: &mut Output) -> Result<Exit, Failure> {
    let exit = match request.state {
        RequestState::Published => Exit::Ok,
        RequestState::Denied => Exit::Denied,
        RequestState::Failed => Exit::Ended,
        RequestState::Ready | RequestState::Signing | RequestState::Recorded => Exit::Waiting,
    };
    show(request, output)?;
    match (&request.problem, exit) {
        (_, Exit::Ok) => Ok(exit),
        (_, Exit::Waiting) => {
            let waiting = Failure::new(exit, format!("request {} is not finished yet", request.id))
                .next(format!("chancery request wait {}", request.id));
            Err(match &request.blocked {
                Some(blocked) => waiting.why(blocked),
                None => waiting,
            })
        }
        (Some(problem), _) => Err(Failure::problem(exit, problem)),
        (None, _) => Err(Failure::new(exit, format!("request {} {}", request.id, request.state.as_str()))
            .next("the log says why: chancery log show")),
    }
}

pub(super) fn show(request: &Request, output: &mut Output) -> Result<(), Failure> {
    output.result(request, &text(request))
}

fn text(request: &Request) -> String {
    let mut lines = vec![
        format!("request   {}", request.id),
        format!("state     {}", request.state.as_str()),
        format!("image     {}@{}", request.repository, request.digest),
        format!("tag       {}", request.tag),
        format!("by        {}", request.by),
        format!("created   {}", request.created),
    ];
    if let Some(touch) = &request.touch {
        lines.push(format!(
            "touch     {} (slot {}) until {}: {}",
            touch.device, touch.slot, touch.until, touch.what
        ));
    }
    if let Some(blocked) = &request.blocked {
        lines.push(format!("waits     {blocked}"));
    }
    let places = [
        ("intent", request.log.intent),
        ("signed", request.log.completion),
        ("denied", request.log.denied),
        ("targets", request.targets_version),
    ];
    for (name, place) in places {
        if let Some(place) = place {
            let kind = if name == "targets" { "version" } else { "log entry" };
            lines.push(format!("{name:<9} {kind} {place}"));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Format;

    fn request(state: RequestState) -> Request {
        Request {
            id: "0190a7d2-0000-7000-8000-000000000000".parse().unwrap(),
            state,
            repository: "r.example/a".parse().unwrap(),
            digest: format!("sha256:{}", "ab".repeat(32)).parse().unwrap(),
            tag: "v1".parse().unwrap(),
            by: "token:abc".into(),
            created: record::Time::from_unix_ms(1_790_000_000_000).unwrap(),
            log: api::LogPlaces { denied: None, intent: Some(7), completion: None },
            targets_version: None,
            touch: None,
            blocked: None,
            problem: None,
            poll: None,
        }
    }

    #[test]
    fn only_what_clients_see_ends_with_zero() {
        let states = [
            (RequestState::Published, Exit::Ok),
            (RequestState::Denied, Exit::Denied),
            (RequestState::Failed, Exit::Ended),
            (RequestState::Ready, Exit::Waiting),
            (RequestState::Signing, Exit::Waiting),
            (RequestState::Recorded, Exit::Waiting),
        ];
        for (state, exit) in states {
            let mut output = Output::to(Format::Text, Box::new(Vec::new()), Box::new(Vec::new()));
            let end = end(&request(state), &mut output);
            assert_eq!(end.unwrap_or_else(|f| f.exit), exit, "{state:?}");
        }
    }

    #[tokio::test]
    async fn a_wait_that_ends_with_the_server_away_says_how_to_go_on_waiting() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = Client::new(&format!("https://{closed}"), &api::Trust::System, None).unwrap();
        let mut output = Output::to(Format::Text, Box::new(Vec::new()), Box::new(Vec::new()));
        let deadline = Instant::now() + RETRY_FIRST / 2;
        let end = wait(request(RequestState::Ready), &client, deadline, &mut output).await;
        let failure = end.unwrap_err();
        assert_eq!(failure.exit, Exit::Temporary);
        let next = failure.next.unwrap();
        assert_eq!(next, "chancery request wait 0190a7d2-0000-7000-8000-000000000000");
    }

    #[test]
    fn a_touch_is_asked_for_in_one_line_with_the_time_that_is_left() {
        let until = Time::from_unix_ms(1_790_000_014_200).unwrap();
        let (slot, what) = ("9c".parse().unwrap(), "release r.example/a:v1 sha256:abab".into());
        let touch = Touch { device: "YubiKey 12345678".into(), slot, until, what };
        let line = touch_line(&touch, Time::from_unix_ms(1_790_000_000_000).unwrap());
        assert_eq!(line, "Touch YubiKey 12345678 (slot 9c) within 15 s: release r.example/a:v1 sha256:abab");
        assert!(touch_line(&touch, until).contains("within 1 s"));
        let text = text(&Request { touch: Some(touch), ..request(RequestState::Signing) });
        assert!(text.contains("touch     YubiKey 12345678 (slot 9c) until 2026-"), "{text}");
    }

    #[test]
    fn a_request_shows_its_places_in_the_log() {
        let text = text(&request(RequestState::Signing));
        assert!(text.contains("state     signing\n"), "{text}");
        assert!(text.ends_with("intent    log entry 7"), "{text}");
    }
}
