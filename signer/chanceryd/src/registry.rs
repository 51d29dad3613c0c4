//! Whether an image exists: the registry's manifest bytes, fetched by digest and hashed here.
//!
//! Promises: only configured hosts are contacted, no redirect is followed, at most 4 MiB are read within ten seconds.

use crate::config::RegistryConfig;
use policy::Manifest;
use record::{Digest, ImageRef};
use serde::Deserialize;
use std::time::Duration;

/// OCI distribution: registries need not take larger manifests.
const MAX_MANIFEST: usize = 4 * 1024 * 1024;
/// For the whole answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest media type (RFC 6838: 127 characters on each side): it goes into the log, with each decision about the image.
const MAX_MEDIA_TYPE: usize = 255;
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// The registries of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Registries {
    client: reqwest::Client,
    hosts: Vec<RegistryConfig>,
}

/// What is wrong with an answer; it is logged, and policy hears only [`Manifest::Unreachable`].
#[derive(Debug, thiserror::Error)]
enum RegistryError {
    #[error("the host is not in the configuration")]
    NotConfigured,
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    #[error("status {0}")]
    Status(u16),
    #[error("more than 4 MiB")]
    TooLarge,
    #[error("its bytes have the digest {0}")]
    OtherBytes(Digest),
    #[error("its media type has more than 255 characters")]
    LongMediaType,
    #[error("the header says {header} and the manifest {body}")]
    MediaType { header: String, body: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: Option<String>,
}

impl Registries {
    /// A client for these hosts.
    pub(crate) fn new(hosts: Vec<RegistryConfig>) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(DEADLINE)
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, hosts })
    }

    /// What the registry says about an image.
    pub(crate) async fn manifest(&self, image: &ImageRef) -> Manifest {
        match self.fetch(image).await {
            Ok(manifest) => manifest,
            Err(e) => {
                tracing::warn!(%image, error = %e, "a registry gave no usable answer");
                Manifest::Unreachable
            }
        }
    }

    async fn fetch(&self, image: &ImageRef) -> Result<Manifest, RegistryError> {
        let host = image.repository.host();
        let registry = self.hosts.iter().find(|r| r.host == host).ok_or(RegistryError::NotConfigured)?;
        let url = format!(
            "{}://{host}/v2/{}/manifests/{}",
            registry.scheme.as_str(),
            image.repository.path(),
            image.digest
        );
        let mut answer = self.client.get(url).header("Accept", ACCEPT).send().await?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Ok(Manifest::Absent),
            other => return Err(RegistryError::Status(other)),
        }
        let header =
            answer.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_MANIFEST {
                return Err(RegistryError::TooLarge);
            }
        }
        judge(image, header, &bytes)
    }
}

fn judge(image: &ImageRef, header: String, bytes: &[u8]) -> Result<Manifest, RegistryError> {
    let digest = Digest::of(bytes);
    if digest != image.digest {
        return Err(RegistryError::OtherBytes(digest));
    }
    let body = serde_json::from_slice::<Typed>(bytes).ok().and_then(|t| t.media_type);
    match body {
        _ if header.len() > MAX_MEDIA_TYPE => Err(RegistryError::LongMediaType),
        Some(body) if body != header => Err(RegistryError::MediaType { header, body }),
        _ => Ok(Manifest::Present { media_type: header, size: bytes.len() as u64 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_the_digest_or_contradict_their_type_are_no_manifest() {
        let bytes = br#"{"mediaType":"a/b"}"#;
        let image: ImageRef = format!("r.example/a@{}", Digest::of(bytes)).parse().unwrap();
        assert_eq!(
            judge(&image, "a/b".into(), bytes).unwrap(),
            Manifest::Present { media_type: "a/b".into(), size: 19 }
        );
        let long = format!("a/{}", "x".repeat(MAX_MEDIA_TYPE));
        assert!(matches!(judge(&image, long, bytes), Err(RegistryError::LongMediaType)));
        assert!(matches!(judge(&image, "a/c".into(), bytes), Err(RegistryError::MediaType { .. })));
        assert!(matches!(judge(&image, "a/b".into(), b"{}"), Err(RegistryError::OtherBytes(_))));
    }
}
