//! `[[mirror]]`: a copy of the published log somewhere else, as static files.

use super::is_this_machine;
use reqwest::Url;
use serde::Deserialize;
use std::{
    fmt,
    path::{Component, PathBuf},
    time::Duration,
};

/// Mirrors of one log: each is a task and a connection of its own.
pub(super) const MAX_MIRRORS: usize = 16;
/// Seconds between two rounds, if nothing else is said.
const EVERY_S: u64 = 10;
/// A mirror that is older than an hour by design shows nobody that this host was rolled back.
const MAX_EVERY_S: u64 = 3600;
/// Longest key prefix in a bucket: with a tile's path, S3's 1024 bytes are far away.
const MAX_PREFIX: usize = 512;

/// One mirror.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Members")]
pub struct MirrorConfig {
    /// Where it is.
    pub to: MirrorPlace,
    /// Whether it holds the entries. Without them it is for everybody; with them for auditors.
    pub entries: bool,
    /// The shortest time between two rounds.
    pub every: Duration,
}

/// Where a mirror is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorPlace {
    /// A folder, by its absolute path.
    Folder(PathBuf),
    /// A bucket.
    Bucket(BucketConfig),
}

/// A bucket of S3, or of a server that speaks its protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketConfig {
    /// Its name.
    pub bucket: String,
    /// What stands before each path, without slashes at its ends; may be empty.
    pub prefix: String,
    /// Its region.
    pub region: String,
    /// Where the server is, if it is not Amazon's: `https`, or `http` on this machine.
    pub endpoint: Option<String>,
    /// PEM file with the only CAs that may vouch for the server; without it the system's roots.
    pub ca: Option<PathBuf>,
    /// TOML file with `access_key_id`, `secret_access_key` and, if they are temporary, `session_token`; mode 0600.
    pub credentials_file: PathBuf,
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    to: String,
    entries: bool,
    #[serde(default = "every_s")]
    every_s: u64,
    region: Option<String>,
    endpoint: Option<String>,
    ca: Option<PathBuf>,
    credentials_file: Option<PathBuf>,
}

fn every_s() -> u64 {
    EVERY_S
}

impl TryFrom<Members> for MirrorConfig {
    type Error = String;

    fn try_from(members: Members) -> Result<Self, String> {
        if !(1..=MAX_EVERY_S).contains(&members.every_s) {
            return Err(format!("[[mirror]] every_s is 1 to {MAX_EVERY_S}"));
        }
        let (entries, every) = (members.entries, Duration::from_secs(members.every_s));
        Ok(Self { to: members.place()?, entries, every })
    }
}

impl Members {
    fn place(self) -> Result<MirrorPlace, String> {
        if let Some(path) = self.to.strip_prefix("file://") {
            let of_buckets = self.region.is_some()
                || self.endpoint.is_some()
                || self.ca.is_some()
                || self.credentials_file.is_some();
            if of_buckets {
                return Err(
                    "[[mirror]] region, endpoint, ca and credentials_file are for s3://, not for a folder"
                        .into(),
                );
            }
            return folder(path).map(MirrorPlace::Folder);
        }
        let Some(name) = self.to.strip_prefix("s3://") else {
            return Err(format!("[[mirror]] to = {:?}: write file:///FOLDER or s3://BUCKET/PREFIX", self.to));
        };
        let (bucket, prefix) = name.split_once('/').unwrap_or((name, ""));
        let missing = |member: &str| format!("[[mirror]] {member} is missing: s3:// needs it");
        Ok(MirrorPlace::Bucket(BucketConfig {
            bucket: bucket_name(bucket)?,
            prefix: key_prefix(prefix)?,
            region: self.region.ok_or_else(|| missing("region")).and_then(region)?,
            endpoint: self.endpoint.map(endpoint).transpose()?,
            ca: self.ca,
            credentials_file: self.credentials_file.ok_or_else(|| missing("credentials_file"))?,
        }))
    }
}

impl MirrorPlace {
    /// Whether it is on another machine than this by what is configured: a bucket, whose server is not here. A folder may
    /// be the network's, which nobody can tell by its path.
    pub(crate) fn is_elsewhere(&self) -> bool {
        match self {
            Self::Folder(_) => false,
            Self::Bucket(BucketConfig { endpoint, .. }) => {
                let url = endpoint.as_deref().map(Url::parse);
                !url.is_some_and(|url| url.is_ok_and(|url| is_this_machine(&url)))
            }
        }
    }
}

impl fmt::Display for MirrorPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "file://{}", path.display()),
            Self::Bucket(BucketConfig { bucket, prefix, .. }) if prefix.is_empty() => {
                write!(f, "s3://{bucket}")
            }
            Self::Bucket(BucketConfig { bucket, prefix, .. }) => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// The path stands in the URL as it is on the disk: what URLs would encode is refused instead of guessed.
fn folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !text.starts_with('/') || !plain || text.contains(['%', '?', '#']) || path.parent().is_none() {
        return Err(format!(
            "[[mirror]] to = \"file://{text}\": a folder is file:// and its absolute path, without '..', '%', '?' and '#'"
        ));
    }
    Ok(path)
}

/// Amazon's rules for names of general purpose buckets, but for the rarer ones that the server itself refuses.
fn bucket_name(text: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if (3..=63).contains(&text.len()) && text.bytes().all(good) && !text.contains("..") {
        return Ok(text.to_owned());
    }
    Err(format!("[[mirror]] to = \"s3://{text}...\": a bucket's name has 3 to 63 of a-z, 0-9, '-' and '.'"))
}

fn key_prefix(text: &str) -> Result<String, String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let segment = |s: &str| !s.is_empty() && s != "." && s != ".." && s.bytes().all(good);
    if text.is_empty() || (text.len() <= MAX_PREFIX && text.split('/').all(segment)) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "[[mirror]] to: the prefix {text:?} is not of segments of letters, digits, '-', '_' and '.', {MAX_PREFIX} bytes at most"
    ))
}

fn region(text: String) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=63).contains(&text.len()) && text.bytes().all(good) {
        return Ok(text);
    }
    Err(format!("[[mirror]] region = {text:?}: a region is a word such as eu-central-1"))
}

/// Credentials and entries cross the network only inside TLS.
fn endpoint(text: String) -> Result<String, String> {
    let bad = |why: &str| format!("[[mirror]] endpoint = {text:?}: {why}");
    let url = Url::parse(&text).map_err(|e| bad(&e.to_string()))?;
    match url.scheme() {
        "https" => {}
        "http" if is_this_machine(&url) => {}
        "http" => return Err(bad("http is for servers on this machine; write https")),
        _ => return Err(bad("write https://HOST[:PORT]")),
    }
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !bare || !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it is https://HOST[:PORT] and nothing more"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> Result<MirrorConfig, String> {
        toml::from_str(table).map_err(|e| e.to_string())
    }

    /// A bucket's table with this line in place of the one for the same member.
    fn bucket(line: &str) -> Result<MirrorConfig, String> {
        let member = line.split(' ').next().unwrap();
        let lines = [
            r#"to = "s3://logs/a/b""#,
            "entries = true",
            r#"region = "eu-central-1""#,
            r#"endpoint = "https://s3.example.com""#,
            r#"credentials_file = "/etc/chancery/s3.toml""#,
        ];
        let others = lines.iter().filter(|l| l.split(' ').next() != Some(member)).copied();
        read(&others.chain([line]).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn a_mirror_is_a_folder_or_a_bucket_and_says_whether_it_has_entries() {
        let folder = read("to = \"file:///srv/log\"\nentries = false").unwrap();
        assert_eq!((folder.to.to_string().as_str(), folder.entries), ("file:///srv/log", false));
        assert_eq!(folder.every, Duration::from_secs(10));
        assert_eq!(bucket("every_s = 1").unwrap().to.to_string(), "s3://logs/a/b");
        assert_eq!(bucket("to = \"s3://logs\"").unwrap().to.to_string(), "s3://logs");
        let undecided = read("to = \"file:///srv/log\"").unwrap_err();
        assert!(undecided.contains("missing field `entries`"), "{undecided}");
    }

    #[test]
    fn only_a_bucket_whose_server_is_not_here_is_elsewhere() {
        assert!(!read("to = \"file:///srv/log\"\nentries = false").unwrap().to.is_elsewhere());
        for (line, elsewhere) in [
            ("endpoint = \"https://s3.example.com\"", true),
            ("endpoint = \"http://localhost:9000\"", false),
            ("endpoint = \"https://127.0.0.1:9000\"", false),
        ] {
            assert_eq!(bucket(line).unwrap().to.is_elsewhere(), elsewhere, "{line}");
        }
        let amazons =
            "to = \"s3://logs\"\nentries = true\nregion = \"eu-central-1\"\ncredentials_file = \"/c\"";
        assert!(read(amazons).unwrap().to.is_elsewhere());
    }

    #[test]
    fn what_is_no_place_or_would_send_secrets_in_the_clear_is_refused_with_the_members_name() {
        for bad in
            ["file://srv/log", "file:///srv/../etc", "file:///", "file:///a%20b", "/srv/log", "https://x/y"]
        {
            let said = read(&format!("to = \"{bad}\"\nentries = true")).unwrap_err();
            assert!(said.contains("[[mirror]] to"), "{bad}: {said}");
        }
        for (line, member) in [
            ("to = \"s3://Logs\"", "to"),
            ("to = \"s3://logs/a//b\"", "to"),
            ("to = \"s3://logs/../b\"", "to"),
            ("endpoint = \"http://s3.example.com\"", "endpoint"),
            ("endpoint = \"http://169.254.169.254\"", "endpoint"),
            ("endpoint = \"ftp://s3.example.com\"", "endpoint"),
            ("endpoint = \"https://s3.example.com/x\"", "endpoint"),
            ("endpoint = \"https://a:b@s3.example.com\"", "endpoint"),
            ("region = \"\"", "region"),
            ("every_s = 0", "every_s"),
            ("every_s = 3601", "every_s"),
        ] {
            let said = bucket(line).unwrap_err();
            assert!(said.contains(&format!("[[mirror]] {member}")), "{line}: {said}");
        }
        for good in [
            "http://localhost:9000",
            "http://127.0.0.1:9000",
            "http://[::1]:9000",
            "https://s3.example.com:9000/",
        ] {
            assert!(bucket(&format!("endpoint = \"{good}\"")).is_ok(), "{good}");
        }
        let said = read("to = \"file:///srv/log\"\nentries = true\nregion = \"eu\"").unwrap_err();
        assert!(said.contains("not for a folder"), "{said}");
        assert!(bucket("secret_access_key = \"x\"").unwrap_err().contains("unknown field"));
    }
}
