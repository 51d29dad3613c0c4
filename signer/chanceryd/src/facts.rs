//! What this daemon knows of an image that shall be signed, in policy's words.
//!
//! Promises: a fact that it does not establish by itself is told as not looked at, which denies wherever a repository's entry
//! wants it. It does not know what the entry wants.

use crate::{
    keys::KeyDirectory,
    store::{Role, Store, StoreError},
};
use policy::{Attestations, Fact, Manifest, PolicySet, Signed, Signing, SigningKey};
use record::{Digest, KeyRecord, Principal, Purpose, Repository, RequestId, Tag, Time};

/// Manifests of single images, which name no other manifests.
const SINGLE: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

/// How long back signatures are counted.
const HOUR_S: i64 = 3_600;

/// Where the facts come from.
pub(crate) struct FactFinder<'a> {
    pub store: &'a Store,
    pub keys: &'a KeyDirectory,
    pub policy: &'a PolicySet,
}

/// A request to sign.
pub(crate) struct Asked<'a> {
    pub id: &'a RequestId,
    pub by: &'a Principal,
    pub repository: &'a Repository,
    pub tag: Tag,
    pub digest: Digest,
    pub manifest: Manifest,
    pub now: Time,
}

impl FactFinder<'_> {
    /// The facts about a request to sign.
    pub(crate) async fn signing(&self, asked: Asked<'_>) -> Result<Signing, StoreError> {
        let collection = self.store.collection(asked.repository).await?;
        let root = collection.newest(Role::Root);
        let roles = match root {
            Some(root) => Some(self.store.roles(root).await?),
            None => self.keys.roles_for(asked.repository).ok(),
        };
        let key = roles.and_then(|roles| self.key(roles.of(Purpose::Targets)));
        Ok(Signing {
            tag_previous: self.store.tag(asked.repository, &asked.tag).await?.into(),
            children: children(&asked.manifest),
            key: key.map_or(Fact::NotLookedAt, Fact::Found),
            collection_exists: root.is_some(),
            image_created: Fact::NotLookedAt,
            attestations: Attestations::not_looked_at(),
            signed_last_hour: self.signed_last_hour(&asked).await?,
            approvals: Vec::new(),
            touched: Fact::NotLookedAt,
            break_glass: Fact::Absent,
            tag: asked.tag,
            digest: asked.digest,
            manifest: asked.manifest,
        })
    }

    /// Requests of the last hour before this one that were signed or will be. Counted only where an entry has a limit: it
    /// takes a walk over all requests of that hour.
    async fn signed_last_hour(&self, asked: &Asked<'_>) -> Result<Fact<Signed>, StoreError> {
        let limited = |rate: policy::Rate| rate.caller.is_some() || rate.repository.is_some();
        if !self.policy.repository(asked.repository).is_some_and(|rules| limited(rules.rate)) {
            return Ok(Fact::NotLookedAt);
        }
        let since = asked.now.plus_s(-HOUR_S);
        let (by_caller, of_repository) =
            self.store.admitted_between(since, asked.id, asked.by, asked.repository).await?;
        Ok(Fact::Found(Signed { by_caller, of_repository }))
    }

    /// A key by what its keeper has presented; nothing if no keeper presents it now.
    fn key(&self, id: record::KeyId) -> Option<SigningKey> {
        let (_, key) = self.keys.all().into_iter().find(|(_, key)| key.spki.id() == id)?;
        Some(signing_key(&key))
    }
}

/// The words of evidence are the keeper's, which has verified what they say.
fn signing_key(key: &KeyRecord) -> SigningKey {
    let says = |word: &str| key.evidence.iter().any(|said| said == word);
    SigningKey {
        id: key.spki.id(),
        purpose: key.purpose,
        attested: says("PIV_ATTESTED=true"),
        touch_always: says("PIV_TOUCH=always"),
    }
}

fn children(manifest: &Manifest) -> Fact<policy::Children> {
    match manifest {
        Manifest::Present { media_type, .. } if SINGLE.contains(&media_type.as_str()) => Fact::Absent,
        _ => Fact::NotLookedAt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_is_no_single_image_has_children_that_nobody_has_looked_at() {
        let of = |media_type: &str| children(&Manifest::Present { media_type: media_type.into(), size: 1 });
        assert_eq!(of(SINGLE[0]), Fact::Absent);
        assert_eq!(of("application/vnd.oci.image.index.v1+json"), Fact::NotLookedAt);
        assert_eq!(of("application/vnd.example+json"), Fact::NotLookedAt);
        assert_eq!(children(&Manifest::Absent), Fact::NotLookedAt);
    }

    #[test]
    fn a_key_is_attested_and_wants_touches_only_if_its_keeper_says_just_that() {
        let key = |evidence: &[&str]| {
            let secret = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
            let spki =
                record::Spki::from_sec1(secret.verifying_key().to_sec1_point(false).as_bytes()).unwrap();
            let evidence = evidence.iter().map(|word| (*word).to_owned()).collect();
            let key = signing_key(&KeyRecord {
                spki,
                purpose: Purpose::Targets,
                repositories: Vec::new(),
                evidence,
            });
            (key.attested, key.touch_always)
        };
        assert_eq!(key(&["PIV_ATTESTED=true", "PIV_TOUCH=always"]), (true, true));
        assert_eq!(key(&["CKA_LOCAL=true", "PIV_ATTESTED=false", "PIV_TOUCH=never"]), (false, false));
    }
}
