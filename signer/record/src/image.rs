//! Image names by the OCI distribution grammar: ASCII only, one canonical spelling, limits on every part.

use crate::{Digest, GrammarError, string_newtype};
use std::{fmt, str::FromStr};

/// A repository with its registry host, `registry.example:5000/team/app`: also the GUN of its Docker Content Trust
/// collection. Lower case; at most 255 characters; the host is always written, without user, scheme or trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(String);
string_newtype!(Repository);

/// OCI distribution: a name of at most 255 characters, host included (clients and the notary wire both stop there).
const MAX_REPOSITORY: usize = 255;

impl Repository {
    /// Parses `host[:port]/path`, refusing everything that is not the canonical spelling.
    pub fn parse(text: &str) -> Result<Self, GrammarError> {
        let bad = |why| GrammarError::new("repository", text, why);
        if text.len() > MAX_REPOSITORY {
            return Err(bad("longer than 255 characters"));
        }
        let (host, path) =
            text.split_once('/').ok_or_else(|| bad("write the registry's host too: host[:port]/path"))?;
        check_host(host).map_err(bad)?;
        if path.is_empty() || !path.split('/').all(is_path_component) {
            return Err(bad("each part of the path is a-z 0-9, joined by one '.', '_', '__' or by '-'"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The registry's host, with its port if one is written.
    pub fn host(&self) -> &str {
        self.0.split_once('/').map_or("", |(host, _)| host)
    }

    /// The path below the host.
    pub fn path(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, path)| path)
    }

    /// Whether this repository is `prefix` itself (no final '/') or lies below it (final '/').
    /// A prefix never matches half a path component.
    pub fn is_under(&self, prefix: &str) -> bool {
        if prefix.ends_with('/') { self.0.starts_with(prefix) } else { self.0 == prefix }
    }
}

/// A registry host: a DNS name or IPv4 address with a dot, a port, or `localhost`, lower case.
fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = host.split_once(':').map_or((host, None), |(n, p)| (n, Some(p)));
    if let Some(port) = port {
        let number = port.parse::<u16>().map_err(|_| "the port is a number from 1 to 65535")?;
        if number == 0 || number.to_string() != port {
            return Err("the port is a number from 1 to 65535, without leading zeros");
        }
        if number == 443 {
            return Err("port 443 is the default: leave it out");
        }
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
            && !l.starts_with("xn--")
    };
    if !name.split('.').all(label) {
        return Err("the host is lower-case letters, digits and '-' between dots; no punycode");
    }
    if name == "index.docker.io" || name == "registry-1.docker.io" {
        return Err("write docker.io, the canonical name of this registry");
    }
    if name.contains('.') || port.is_some() || name == "localhost" {
        Ok(())
    } else {
        Err("the first part is no registry host: it needs a dot or a port")
    }
}

/// OCI: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_path_component(part: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    let mut starts = false;
    for b in part.bytes() {
        if alnum(b) {
            let dashes = separator.bytes().all(|s| s == b'-');
            if !(separator.is_empty() || dashes || [".", "_", "__"].contains(&separator.as_str())) {
                return false;
            }
            separator.clear();
            starts = true;
        } else if starts && [b'.', b'_', b'-'].contains(&b) {
            separator.push(char::from(b));
        } else {
            return false;
        }
    }
    starts && separator.is_empty()
}

/// A tag, `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);
string_newtype!(Tag);

impl Tag {
    /// Parses a tag by the OCI grammar.
    pub fn parse(text: &str) -> Result<Self, GrammarError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let ok = text.len() <= 128
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(GrammarError::new("tag", text, "1 to 128 of A-Z a-z 0-9 _ . - and the first no '.' or '-'"))
        }
    }
}

/// What is asked to be signed: a repository and the digest in it. A tag is never part of it: tags move.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    /// Where it lies.
    pub repository: Repository,
    /// What it is.
    pub digest: Digest,
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

impl FromStr for ImageRef {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        let bad = |why| GrammarError::new("image", text, why);
        let (repository, digest) =
            text.split_once('@').ok_or_else(|| bad("name it by digest: repository@sha256:<64 hex>"))?;
        let digest =
            digest.parse().map_err(|_| bad("after '@' comes sha256: and 64 lower-case hex digits"))?;
        Ok(Self { repository: Repository::parse(repository)?, digest })
    }
}

impl serde::Serialize for ImageRef {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ImageRef {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_names_are_accepted() {
        for name in [
            "localhost/a",
            "localhost:5000/demo/busybox",
            "docker.io/library/alpine",
            "r.example/a__b/c-d--e/f.g_h",
            "127.0.0.1:5000/x",
        ] {
            assert_eq!(Repository::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn other_spellings_of_a_name_are_refused() {
        for name in [
            "",
            "alpine",
            "library/alpine",
            "docker.io/",
            "docker.io//a",
            "docker.io/a/",
            "/a",
            "docker.io/../a",
            "docker.io/A",
            "Docker.io/a",
            "docker.io./a",
            "docker.io:443/a",
            "docker.io:0/a",
            "docker.io:05/a",
            "index.docker.io/a",
            "xn--x.io/a",
            "docker.io/a b",
            "docker.io/a%2e",
            "docker.io/а",
            "docker.io/a...b",
            "docker.io/a___b",
            "docker.io/-a",
            "docker.io/a\n",
            "https://docker.io/a",
            "u@docker.io/a",
            "docker.io/a\0",
            "[::1]:5000/a",
        ] {
            assert!(Repository::parse(name).is_err(), "{name:?}");
        }
        assert!(Repository::parse(&format!("docker.io/{}", "a".repeat(246))).is_err());
    }

    #[test]
    fn a_prefix_never_matches_half_a_component() {
        let r = Repository::parse("r.example/team/app").unwrap();
        assert!(
            r.is_under("r.example/team/") && r.is_under("r.example/team/app") && r.is_under("r.example/")
        );
        assert!(
            !r.is_under("r.example/team")
                && !r.is_under("r.example/te")
                && !r.is_under("r.example/team/app/")
        );
    }

    #[test]
    fn tags_follow_the_oci_grammar() {
        assert!(Tag::parse("v1.2_3-x").is_ok() && Tag::parse(&"a".repeat(128)).is_ok());
        for bad in ["", ".a", "-a", "a/b", "a b", "ä", &"a".repeat(129)] {
            assert!(Tag::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_image_is_named_by_digest_only() {
        let text = format!("localhost:5000/app@sha256:{}", "ab".repeat(32));
        assert_eq!(text.parse::<ImageRef>().unwrap().to_string(), text);
        assert!("localhost:5000/app:v1".parse::<ImageRef>().is_err());
        assert!(format!("localhost:5000/app:v1@sha256:{}", "ab".repeat(32)).parse::<ImageRef>().is_err());
    }
}
