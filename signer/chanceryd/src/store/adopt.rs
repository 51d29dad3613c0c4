//! Files that a log takes over from the one that it continues: as the former database gives them, and as the leaves of
//! the new log give them again.

use super::{Role, Store, StoreError, batch::Batch, project, signed, tuf::FileRow};
use formats::dct::{FileError, RootView, SignedFile, read_adopted};
use record::{
    Action, Adopted, AdoptedPart, AdoptedReservation, Event, Intent, Leaf, Repository, ReservedRoot,
    RoleKeys, Spki, wire::Blob,
};
use sqlx::SqliteConnection;

/// A file of a collection, with what a log that takes it over must say of it.
#[derive(Debug)]
pub(crate) struct CurrentFile {
    pub row: FileRow,
    /// The highest version for which a key was asked, where that is above the file's.
    pub reserved: Option<u64>,
    /// The key that its collection's root names for its role.
    pub key: Spki,
    pub bytes: Vec<u8>,
}

/// The highest version for which a key was asked, of a role that has no file.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub role: Role,
    pub version: u64,
    /// What the root was to be.
    pub root: Option<ReservedRoot>,
}

impl Store {
    /// The files that a collection consists of now: the newest of each role, and what these lead to, each behind those that it
    /// names. Nothing while the collection has no root: then nobody knows it yet.
    pub(crate) async fn current_files(
        &self,
        repository: &Repository,
    ) -> Result<Vec<CurrentFile>, StoreError> {
        let collection = self.collection(repository).await?;
        let Some(root) = collection.newest(Role::Root) else { return Ok(vec![]) };
        let view = view(&self.file_bytes(root).await?).map_err(|e| unfit(root, &e))?;
        let mut rows: Vec<FileRow> =
            Role::ALL.iter().filter_map(|r| collection.newest(*r).cloned()).collect();
        let mut next = 0;
        while let Some(row) = rows.get(next) {
            next += 1;
            let Some(below) = row.below else { continue };
            if rows.iter().any(|r| r.file.sha256 == below) {
                continue;
            }
            let found = self.file_by_hash(repository, &below).await?;
            let missing = || StoreError::Contradiction(format!("file {below} is named and not stored"));
            rows.push(found.ok_or_else(missing)?);
        }
        rows.sort_by_key(|r| (Role::ALL.iter().position(|role| *role == r.role), r.version));
        let mut files = Vec::with_capacity(rows.len());
        for row in rows {
            let bytes = self.file_bytes(&row).await?;
            let key = view.of(row.role.into());
            let file = SignedFile::parse(&bytes).map_err(|e| unfit(&row, &e))?;
            file.verify(&key.spki, &key.keyid).map_err(|e| unfit(&row, &e))?;
            let newest = collection.newest(row.role).is_some_and(|n| n.version == row.version);
            let reserved = Some(collection.reserved(row.role)).filter(|v| newest && *v > row.version);
            files.push(CurrentFile { reserved, key: key.spki.clone(), bytes, row });
        }
        Ok(files)
    }

    /// What keys were asked for in a collection, of each role that has no file.
    pub(crate) async fn reservations(&self, repository: &Repository) -> Result<Vec<Reservation>, StoreError> {
        let collection = self.collection(repository).await?;
        let mut reservations = Vec::new();
        for role in Role::ALL {
            let version = collection.reserved(role);
            if version > 0 && collection.newest(role).is_none() {
                let root = if role == Role::Root { self.asked_root(repository).await? } else { None };
                reservations.push(Reservation { role, version, root });
            }
        }
        Ok(reservations)
    }

    /// The root that was asked for last, here or under the former log: the keeper's chain has taken these very bytes as
    /// version 1, and no others can follow.
    pub(crate) async fn asked_root(
        &self,
        repository: &Repository,
    ) -> Result<Option<ReservedRoot>, StoreError> {
        let Some(index) = self.last_intent(repository, Role::Root).await? else { return Ok(None) };
        match self.leaf(index).await?.as_deref().map(Leaf::decode) {
            Some(Ok(Leaf::Intent(Intent {
                action: Action::Root { certificate, roles, expires, .. },
                ..
            }))) => {
                let bytes = self.blob(&certificate).await?;
                let missing =
                    || StoreError::Contradiction(format!("certificate {certificate} is not stored"));
                Ok(Some(ReservedRoot { certificate: Blob(bytes.ok_or_else(missing)?), roles, expires }))
            }
            Some(Ok(Leaf::Event(Event::AdoptedReservation(AdoptedReservation {
                root: Some(root), ..
            })))) => Ok(Some(root)),
            _ => Err(StoreError::Contradiction(format!("leaf {index} asks for no root"))),
        }
    }

    /// The keys that a root names.
    pub(crate) async fn roles(&self, root: &FileRow) -> Result<RoleKeys, StoreError> {
        if root.is_adopted() {
            let view = view(&self.file_bytes(root).await?).map_err(|e| unfit(root, &e))?;
            return Ok(RoleKeys {
                root: view.root.spki.id(),
                targets: view.targets.spki.id(),
                snapshot: view.snapshot.spki.id(),
                timestamp: view.timestamp.spki.id(),
            });
        }
        match self.leaf(root.intent).await?.as_deref().map(Leaf::decode) {
            Some(Ok(Leaf::Intent(Intent { action: Action::Root { roles, .. }, .. }))) => Ok(roles),
            _ => Err(StoreError::Contradiction(format!("intent {} is not a root's", root.intent))),
        }
    }

    /// The highest version that the former log had reserved, of a file that was taken over.
    pub(super) async fn reserved_formerly(&self, file: &FileRow) -> Result<u64, StoreError> {
        match self.leaf(file.intent).await?.as_deref().map(Leaf::decode) {
            Some(Ok(Leaf::Event(Event::Adopted(adopted)))) => Ok(adopted.reserved.unwrap_or(adopted.version)),
            _ => Err(StoreError::Contradiction(format!("leaf {} takes over no file", file.intent))),
        }
    }

    async fn file_bytes(&self, row: &FileRow) -> Result<Vec<u8>, StoreError> {
        let bytes = self.blob(&row.file.sha256).await?;
        bytes.ok_or_else(|| StoreError::Contradiction(format!("file {} is not stored", row.file.sha256)))
    }
}

/// Stores the file that the leaf at `index` takes over, from that leaf and the parts before it.
pub(super) async fn put(
    connection: &mut SqliteConnection,
    batch: &mut Batch<'_>,
    index: u64,
    adopted: &Adopted,
) -> Result<(), StoreError> {
    let bytes = content(connection, batch, index, adopted).await?;
    let wrong = |why: String| StoreError::Contradiction(format!("the file of leaf {index}: {why}"));
    let repository = &adopted.repository;
    let root = root_of(connection, batch, repository).await?;
    let file = read_adopted(adopted, &bytes, root.as_ref()).map_err(|e| wrong(e.to_string()))?;
    let (below, targets_version) = match adopted.role {
        Role::Root => {
            let root = file.root().map_err(|e| wrong(e.to_string()))?;
            project::put_certificate(connection, repository, &root.certificate, index).await?;
            batch.put_blob(root.certificate);
            (None, 0)
        }
        Role::Targets => {
            for (tag, target) in file.targets().map_err(|e| wrong(e.to_string()))? {
                project::put_tag(connection, repository, &tag, &target.digest).await?;
            }
            (None, adopted.version)
        }
        Role::Snapshot | Role::Timestamp => {
            let name = if adopted.role == Role::Snapshot { "targets" } else { "snapshot" };
            let below = file.meta().map_err(|e| wrong(e.to_string()))?.get(name).map(|f| f.sha256);
            let below = below.ok_or_else(|| wrong(format!("it names no {name}")))?;
            (Some(below), batch.leads_to(connection, repository, &below).await?)
        }
    };
    let row = FileRow {
        role: adopted.role,
        version: adopted.version,
        payload: adopted.payload,
        file: adopted.file,
        created: adopted.time,
        expires: adopted.expires,
        intent: index,
        completion: index,
        targets_version,
        below,
    };
    batch.put_blob(bytes);
    batch.put_file(repository.clone(), row);
    Ok(())
}

/// Stores the reservation of the leaf at `index` where those of intents are: it ended before this log began.
pub(super) async fn reserve(
    connection: &mut SqliteConnection,
    batch: &mut Batch<'_>,
    index: u64,
    reservation: &AdoptedReservation,
) -> Result<(), StoreError> {
    let AdoptedReservation { repository, role, version, root, .. } = reservation;
    if root.is_some() != (*role == Role::Root) {
        let text =
            format!("leaf {index} reserves a {role}: it says what that was to be exactly if it is a root");
        return Err(StoreError::Contradiction(text));
    }
    sqlx::query(
        "INSERT INTO intent (idx, keeper, key, payload, repository, purpose, version, end_leaf, end_kind)
         VALUES (?1, '', x'', x'', ?2, ?3, ?4, ?1, 'former')",
    )
    .bind(signed(index))
    .bind(repository.as_str())
    .bind(role.as_str())
    .bind(signed(*version))
    .execute(&mut *connection)
    .await?;
    if let Some(ReservedRoot { certificate, .. }) = root {
        project::put_certificate(connection, repository, &certificate.0, index).await?;
        batch.put_blob(certificate.0.clone());
    }
    Ok(())
}

/// The keys of a collection, by the root that was taken over before.
async fn root_of(
    connection: &mut SqliteConnection,
    batch: &Batch<'_>,
    repository: &Repository,
) -> Result<Option<RootView>, StoreError> {
    let Some(name) = batch.newest_root(connection, repository).await? else { return Ok(None) };
    let bytes = batch.blob(connection, &name).await?;
    let unfit = |e: FileError| StoreError::Contradiction(format!("the root file {name}: {e}"));
    view(&bytes).map(Some).map_err(unfit)
}

/// The bytes of a file: those of its parts, and its leaf's own.
async fn content(
    connection: &mut SqliteConnection,
    batch: &Batch<'_>,
    index: u64,
    adopted: &Adopted,
) -> Result<Vec<u8>, StoreError> {
    let broken = || StoreError::Contradiction(format!("leaf {index} lacks a part of its file"));
    let first = index.checked_sub(adopted.parts).ok_or_else(broken)?;
    let mut bytes = Vec::new();
    for at in first..index {
        match Leaf::decode(&batch.leaf(connection, at).await?) {
            Ok(Leaf::Event(Event::AdoptedPart(AdoptedPart { content, .. }))) => bytes.extend(content.0),
            _ => return Err(broken()),
        }
    }
    bytes.extend(&adopted.content.0);
    Ok(bytes)
}

fn view(root: &[u8]) -> Result<formats::dct::RootView, FileError> {
    SignedFile::parse(root)?.root()
}

fn unfit(row: &FileRow, error: &FileError) -> StoreError {
    StoreError::Contradiction(format!("the {} file {}: {error}", row.role, row.file.sha256))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        NewLeaf,
        samples::{intent, new},
    };
    use record::{Clock, FileRef, Nonce, Outcome, OutcomeKind, Sha256, SystemClock};

    /// A targets file that anybody can write.
    const FORGED: &str = r#"{"signed":{"_type":"Targets","delegations":{"keys":{},"roles":[]},"expires":"2090-01-01T00:00:00Z","targets":{},"version":4},"signatures":[{"keyid":"ab","method":"ecdsa","sig":"AAAA"}]}"#;

    async fn committed(events: Vec<Event>) -> Result<(tempfile::TempDir, Store), StoreError> {
        all_committed(events.into_iter().map(|event| new(Leaf::Event(event))).collect()).await
    }

    async fn all_committed(leaves: Vec<NewLeaf>) -> Result<(tempfile::TempDir, Store), StoreError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chancery.db");
        let mut writer = Store::create(&path, "log.example", "vkey").await.unwrap();
        writer.commit(0, &leaves, &[]).await?;
        Ok((folder, Store::open_to_read(&path).await.unwrap()))
    }

    #[tokio::test]
    async fn a_file_that_its_collections_key_has_not_signed_is_not_taken_over() {
        let payload = SignedFile::parse(FORGED.as_bytes()).unwrap().payload_hash();
        let forged = Adopted {
            time: SystemClock.now(),
            nonce: Nonce::random().unwrap(),
            repository: "r.example/a".parse().unwrap(),
            role: Role::Targets,
            version: 4,
            reserved: None,
            key: Sha256::of(b"key").to_string().parse().unwrap(),
            payload,
            file: FileRef::of(FORGED.as_bytes()),
            expires: SystemClock.now(),
            parts: 0,
            content: Blob(FORGED.into()),
        };
        let refused = committed(vec![Event::Adopted(forged)]).await.map(drop).unwrap_err();
        assert!(
            refused.is_integrity() && refused.full().contains("not behind the root"),
            "{}",
            refused.full()
        );
    }

    #[tokio::test]
    async fn what_was_reserved_in_a_former_log_stays_reserved_and_the_next_log_is_told_again() {
        let repository: Repository = "r.example/a".parse().unwrap();
        let key = |name: &[u8]| Sha256::of(name).to_string().parse().unwrap();
        let root = ReservedRoot {
            certificate: Blob(b"certificate".to_vec()),
            roles: RoleKeys {
                root: key(b"r"),
                targets: key(b"t"),
                snapshot: key(b"s"),
                timestamp: key(b"u"),
            },
            expires: SystemClock.now(),
        };
        let of = |role, version, root| {
            let (time, nonce, repository) = (SystemClock.now(), Nonce::random().unwrap(), repository.clone());
            Event::AdoptedReservation(AdoptedReservation { time, nonce, repository, role, version, root })
        };
        let leaves = vec![of(Role::Root, 1, Some(root.clone())), of(Role::Targets, 3, None)];
        let (_folder, store) = committed(leaves).await.unwrap();
        assert_eq!(store.collections().await.unwrap(), std::slice::from_ref(&repository));
        let told = store.reservations(&repository).await.unwrap();
        let told: Vec<_> = told.into_iter().map(|r| (r.role, r.version, r.root)).collect();
        assert_eq!(told, [(Role::Root, 1, Some(root)), (Role::Targets, 3, None)]);
        let certificate = Sha256::of(b"certificate");
        assert_eq!(store.collection(&repository).await.unwrap().certificate, Some(certificate));
        assert_eq!(store.blob(&certificate).await.unwrap().as_deref(), Some(&b"certificate"[..]));
        assert!(
            committed(vec![of(Role::Root, 1, None)]).await.map(drop).unwrap_err().is_integrity(),
            "a root of nothing"
        );
    }

    /// INVARIANT(chain)
    #[tokio::test]
    async fn a_version_that_a_former_log_asked_for_is_asked_again_only_after_the_next_was_refused() {
        let reservation = || {
            new(Leaf::Event(Event::AdoptedReservation(AdoptedReservation {
                time: SystemClock.now(),
                nonce: Nonce::random().unwrap(),
                repository: "r.example/app".parse().unwrap(),
                role: Role::Targets,
                version: 3,
                root: None,
            })))
        };
        let void = |intent| {
            let (outcome, time, keeper) = (OutcomeKind::Void, SystemClock.now(), "signing".parse().unwrap());
            let code = Some("chain".parse().unwrap());
            new(Leaf::Outcome(Outcome { intent, outcome, time, keeper, code }))
        };
        let next = async |leaves, refused: &[Option<u64>]| {
            let (_folder, store) = all_committed(leaves).await.unwrap();
            let collection = store.collection(&"r.example/app".parse().unwrap()).await.unwrap();
            refused.iter().map(|refused| collection.next(Role::Targets, *refused)).collect::<Vec<_>>()
        };
        let refused = [None, Some(4), Some(2), Some(1)];
        let none_above = [Some(4), Some(3), Some(1), None];
        assert_eq!(next(vec![reservation()], &refused).await, none_above);
        assert_eq!(next(vec![reservation(), intent("signing", 4), void(1)], &refused).await, none_above);
        // What this log has asked for has reached its keeper, or is void: nothing is below.
        let asked = vec![reservation(), intent("signing", 4), void(1), intent("signing", 3)];
        assert_eq!(next(asked, &refused).await, [Some(4); 4]);
        assert_eq!(
            next(vec![intent("signing", 3)], &refused).await,
            [Some(4); 4],
            "a log without a former one"
        );
    }
}
