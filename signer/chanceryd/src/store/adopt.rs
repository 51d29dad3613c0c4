//! Files that a log takes over from the one that it continues: as the former database gives them, and as the leaves of
//! the new log give them again.

use super::{Role, Store, StoreError, batch::Batch, project, tuf::FileRow};
use formats::dct::{FileError, SignedFile};
use record::{Action, Adopted, AdoptedPart, Event, FileRef, Intent, Leaf, Repository, RoleKeys, Spki};
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
    if FileRef::of(&bytes) != adopted.file {
        return Err(wrong("its bytes are not those that it names".into()));
    }
    let file = SignedFile::parse(&bytes).map_err(|e| wrong(e.to_string()))?;
    let named = (file.role() == adopted.role.into(), file.version(), file.payload_hash());
    if named != (true, adopted.version, adopted.payload) {
        return Err(wrong("its role, version or payload is another".into()));
    }
    let repository = &adopted.repository;
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
