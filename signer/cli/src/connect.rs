//! From the global options to a client: made only by the commands that need a server.

use crate::{args::Globals, exit::Exit, failure::Failure};
use api::{Client, Secret, Trust};
use std::{fs, path::Path};

/// An API token has under 100 characters; a longer file is another file.
const MAX_TOKEN_FILE: u64 = 4096;

/// Where the server is and who is asking; nothing is read before a client is asked for.
pub(crate) struct Connection {
    globals: Globals,
}

impl Connection {
    pub(crate) fn new(globals: &Globals) -> Self {
        Self { globals: globals.clone() }
    }

    /// A client for the server of `--url`.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.client_for(self.url()?)
    }

    /// A client for the server of `--url` that shows no token, and does not look whether there is one.
    pub(crate) fn anonymous(&self) -> Result<Client, Failure> {
        Ok(Client::new(self.url()?, &self.trust(), None)?)
    }

    /// A client for the server at `url`, with the same CA and token.
    pub(crate) fn client_for(&self, url: &str) -> Result<Client, Failure> {
        Ok(Client::new(url, &self.trust(), self.token()?)?)
    }

    fn url(&self) -> Result<&str, Failure> {
        self.globals.url.as_deref().ok_or_else(|| {
            Failure::new(Exit::Usage, "no server is named").next("give --url or set CHANCERY_URL")
        })
    }

    fn trust(&self) -> Trust {
        self.globals.cacert.clone().map_or(Trust::System, Trust::CaFile)
    }

    /// Whether a token was given as an option.
    pub(crate) fn has_token_file(&self) -> bool {
        self.globals.token_file.is_some()
    }

    /// Whether a token was given at all.
    pub(crate) fn has_token(&self) -> bool {
        self.globals.token_file.is_some() || env_token().is_some()
    }

    /// The token that was given.
    pub(crate) fn token(&self) -> Result<Option<Secret>, Failure> {
        match (&self.globals.token_file, env_token()) {
            (Some(path), _) => read_token(path).map(Some),
            (None, Some(text)) => Ok(Some(Secret::new(&text)?)),
            (None, None) => Ok(None),
        }
    }
}

fn env_token() -> Option<String> {
    std::env::var("CHANCERY_TOKEN").ok().filter(|t| !t.trim().is_empty())
}

fn read_token(path: &Path) -> Result<Secret, Failure> {
    let bad = |why: String| {
        Failure::new(Exit::Auth, format!("cannot read the token file {}", path.display()))
            .why(why)
            .next("give a file that holds one API token and nothing else")
    };
    let length = fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
    if length > MAX_TOKEN_FILE {
        return Err(bad(format!("it has {length} bytes, more than any token")));
    }
    let text = fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
    Secret::new(&text).map_err(|e| bad(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Format;

    fn globals(token_file: Option<&Path>) -> Globals {
        Globals {
            url: Some("https://h.example".into()),
            cacert: None,
            token_file: token_file.map(Path::to_owned),
            output: Format::Text,
        }
    }

    #[test]
    fn a_token_file_holds_one_token_and_is_never_echoed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "chy_abc_0123\n").unwrap();
        assert!(Connection::new(&globals(Some(&path))).client().is_ok());
        fs::write(&path, "hunter2").unwrap();
        let failure = Connection::new(&globals(Some(&path))).client().unwrap_err();
        assert_eq!(failure.exit, Exit::Auth);
        assert!(!failure.to_string().contains("hunter2"));
        fs::write(&path, "x".repeat(5000)).unwrap();
        assert!(Connection::new(&globals(Some(&path))).client().is_err());
    }

    #[test]
    fn a_command_without_a_server_says_how_to_name_one() {
        let none = Globals { url: None, ..globals(None) };
        let failure = Connection::new(&none).client().unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("CHANCERY_URL"));
    }
}
