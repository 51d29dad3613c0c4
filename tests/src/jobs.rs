//! CI jobs that come with tokens of an issuer on this host.

use crate::{Instance, Settings};
use oidc_sim::{Case, IssuerServer, Keys};
use record::{Clock, Digest, SystemClock};
use serde_json::{Value, json};
use std::fs;

/// The audience that stands for the service.
pub const AUDIENCE: &str = "https://sign.example.com";

/// What policy is told after its last entry: one repository's jobs may sign, from its protected main branch.
const BOUND: &str = "workloads = [\"api\"]\n\n[[workload]]\nname = \"api\"\nissuer = \"forge\"\n\
                     repository_id = \"74\"\nowner_id = \"65\"\nrefs = [\"refs/heads/main\"]\n";

/// An issuer whose jobs the service lets in, if they are of the owner 65. Those of the repository 74 may sign.
pub struct Jobs {
    /// Its server.
    pub server: IssuerServer,
    /// Its keys, and others'.
    pub keys: Keys,
}

impl Jobs {
    /// A new issuer that service and policy are told of: the service is stopped and started again.
    pub fn of(service: &mut Instance) -> Self {
        let keys = Keys::new();
        let jobs = Self { server: IssuerServer::start(&keys.public()), keys };
        assert_eq!(service.stop(), 0);
        let path = service.dir().join("chanceryd.toml");
        let config = fs::read_to_string(&path).unwrap();
        fs::write(&path, config + &jobs.configuration()).unwrap();
        let path = service.dir().join("policy/repositories.toml");
        let policy = fs::read_to_string(&path).unwrap();
        fs::write(&path, policy + BOUND).unwrap();
        service.resume(&Settings::default());
        jobs
    }

    /// Its `[[issuer]]`.
    pub fn configuration(&self) -> String {
        format!(
            "\n[[issuer]]\nname = \"forge\"\nprovider = \"github\"\nissuer = {:?}\naudience = {AUDIENCE:?}\n\
             algorithms = [\"RS256\", \"ES256\"]\nowners = [\"65\"]\n",
            self.server.url()
        )
    }

    /// The token of a job, issued now.
    pub fn token(&self, case: &Case) -> String {
        case.mint(&self.server.url(), AUDIENCE, &self.keys, SystemClock.now().unix_s())
    }
}

impl Instance {
    /// `POST /v1/auth/exchange`: status and document.
    pub fn exchange(&self, token: &str) -> (u16, Value) {
        let body = json!({"token": token}).to_string();
        // More than a command line should hold.
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), body).unwrap();
        let data = format!("@{}", file.path().display());
        let args = ["-H", "Content-Type: application/json", "--data-binary", &data];
        let (status, answer) = self.http("", "/v1/auth/exchange", &args);
        (status, serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {status} {answer}")))
    }

    /// One call with a bearer: status and document.
    pub fn call(&self, bearer: &str, path: &str, args: &[&str]) -> (u16, Value) {
        let header = format!("Authorization: Bearer {bearer}");
        let (status, answer) = self.http("", path, &[&["-H", &header], args].concat());
        (status, serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {status} {answer}")))
    }

    /// `POST /v1/requests` with a bearer, without waiting: status and document.
    pub fn ask(&self, bearer: &str, key: &str, repository: &str, digest: &Digest, tag: &str) -> (u16, Value) {
        let body =
            json!({"image": format!("{}@{digest}", self.repository(repository)), "tag": tag}).to_string();
        let key = format!("Idempotency-Key: {key}");
        let args = ["-H", "Content-Type: application/json", "-H", &key, "-d", &body];
        self.call(bearer, "/v1/requests?wait=0", &args)
    }
}
