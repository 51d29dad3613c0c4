//! What this daemon knows of an image that shall be signed, in policy's words.
//!
//! Promises: a fact that it does not establish by itself is told as not looked at, which denies wherever a repository's entry
//! wants it. It does not know what the entry wants.

use crate::{
    keys::KeyDirectory,
    store::{Role, Store, StoreError},
};
use policy::{Attestations, Fact, Manifest, Signing, SigningKey};
use record::{Digest, KeyRecord, Purpose, Repository, Tag};

/// Manifests of single images, which name no other manifests.
const SINGLE: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

/// Where the facts come from.
pub(crate) struct FactFinder<'a> {
    pub store: &'a Store,
    pub keys: &'a KeyDirectory,
}

impl FactFinder<'_> {
    /// The facts about a digest that shall be signed under a tag.
    pub(crate) async fn signing(
        &self,
        repository: &Repository,
        tag: Tag,
        digest: Digest,
        manifest: Manifest,
    ) -> Result<Signing, StoreError> {
        let collection = self.store.collection(repository).await?;
        let root = collection.newest(Role::Root);
        let roles = match root {
            Some(root) => Some(self.store.roles(root).await?),
            None => self.keys.roles_for(repository).ok(),
        };
        Ok(Signing {
            tag_previous: self.store.tag(repository, &tag).await?.into(),
            children: children(&manifest),
            key: roles
                .and_then(|roles| self.key(roles.of(Purpose::Targets)))
                .map_or(Fact::NotLookedAt, Fact::Found),
            collection_exists: root.is_some(),
            image_created: Fact::NotLookedAt,
            attestations: Attestations::not_looked_at(),
            signed_last_hour: Fact::NotLookedAt,
            approvals: Vec::new(),
            touched: Fact::NotLookedAt,
            break_glass: Fact::Absent,
            tag,
            digest,
            manifest,
        })
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
