//! The token of a job of GitHub Actions, from the job's own runner.

use crate::client::{ClientError, document_of};
use reqwest::{Url, header};
use serde::Deserialize;
use std::time::Duration;

/// For the runner's answer.
const DEADLINE: Duration = Duration::from_secs(20);

/// What the runner answers; members of other names are GitHub's.
#[derive(Deserialize)]
struct IdToken {
    value: String,
}

/// Asks for a token that is for `audience`. `url` and `token` are `ACTIONS_ID_TOKEN_REQUEST_URL` and
/// `ACTIONS_ID_TOKEN_REQUEST_TOKEN`, which a job has that may ask (`permissions: id-token: write`).
pub async fn actions_id_token(url: &str, token: &str, audience: &str) -> Result<String, ClientError> {
    let bad = |why: &str| ClientError::Url { url: url.to_owned(), why: why.to_owned() };
    let mut asked = Url::parse(url).map_err(|e| bad(&e.to_string()))?;
    // The token that is shown to it must not travel in clear; a runner on this host may stand in for GitHub's.
    let here = matches!(asked.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if asked.scheme() != "https" && !(asked.scheme() == "http" && here) {
        return Err(bad("ACTIONS_ID_TOKEN_REQUEST_URL starts with https://"));
    }
    asked.query_pairs_mut().append_pair("audience", audience);
    let client = reqwest::Client::builder()
        .user_agent(concat!("chancery/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .timeout(DEADLINE)
        .build();
    let client = client.map_err(|e| bad(&crate::chain_text(&e)))?;
    let call =
        client.get(asked).header(header::ACCEPT, "application/json; api-version=2.0").bearer_auth(token);
    let answer: IdToken = document_of(&client, call, url).await?;
    Ok(answer.value)
}
