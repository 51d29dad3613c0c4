//! `chanceryd backup restore`.

use super::fatal;
use crate::{
    config::Config,
    fatal::Fatal,
    opening::{self, state, unreadable},
    store::{ImageRow, NewLeaf, NewRequest, NewRow, Store, StoreError, Writer},
};
use backup::{BackedLeaf, BackupError, Contents, Manifest, RequestRow};
use record::{Clock, SystemClock};
use std::path::{Path, PathBuf};
use tlog::VerifierKey;

/// Rows in one commit.
const ROWS_AT_ONCE: usize = 1024;

/// Verifies the backup in `from`, and makes the database from it in a data folder that is empty or absent.
///
/// It has this program's format, whichever the one had that was backed up. It is made under another name and gets its
/// own when it is whole. Whether it is the newest one is not known here: the next start compares it with the log keeper's
/// spool and with what the signing keepers have seen.
pub async fn restore(config: &Config, from: &Path) -> Result<(), Fatal> {
    let vkey = opening::vkey(config)?;
    let manifest = backup::verify(from, &vkey, |_, _| ()).map_err(fatal)?.manifest;
    std::fs::create_dir_all(&config.data).map_err(|e| state(&config.data, e.to_string()))?;
    let _lock = opening::lock(&config.data)?;
    demand_empty(&config.data)?;
    let path = Store::path_in(&config.data);
    let unfinished = path.with_extension("restoring");
    fill(&unfinished, &vkey, &manifest, from).await?;
    Store::rename(&unfinished, &path).map_err(|e| state(&path, e.to_string()))?;
    tracing::info!(
        leaves = manifest.leaves,
        made = %manifest.created,
        "the database is restored; start the service: it compares it with the log keeper and the signing keepers"
    );
    Ok(())
}

/// Never over anything: what is there may be the only copy of what the backup lacks.
fn demand_empty(data: &Path) -> Result<(), Fatal> {
    for entry in std::fs::read_dir(data).map_err(|e| state(data, e.to_string()))? {
        let name = entry.map_err(|e| state(data, e.to_string()))?.file_name();
        // The folder may be a whole disk's.
        if name != "lock" && name != "lost+found" {
            return Err(Fatal::State {
                path: data.to_owned(),
                why: format!("it holds {}: a backup is restored into an empty folder only", name.display()),
                next: "stop the service and move everything in this folder aside; keep it until the service runs again".into(),
            });
        }
    }
    Ok(())
}

async fn fill(path: &Path, vkey: &VerifierKey, manifest: &Manifest, from: &Path) -> Result<(), Fatal> {
    let writer = Store::create(path, vkey.name(), &vkey.to_string()).await?;
    let mut target = Target { writer, epoch: manifest.epoch, path: path.to_owned() };
    let mut contents = Contents::new(from, manifest);
    // Rows first, as when they were accepted: each leaf then does to them what it did.
    target.insert(contents.requests().map_err(fatal)?).await?;
    loop {
        let leaves = contents.next_leaves().map_err(fatal)?;
        if leaves.is_empty() {
            break;
        }
        target.append(leaves.into_iter().map(new_leaf).collect()).await?;
    }
    target.writer.remember_note(manifest.checkpoint.clone());
    target.writer.remember_generations(manifest.generations.clone());
    // A backup does not say which tokens of CI jobs were used.
    target.commit(&[], &[NewRow::TokenFloor(SystemClock.now())]).await?;
    let head = target.writer.head();
    if (head.size, head.root.0) != (manifest.leaves, *manifest.leaves_root.as_bytes()) {
        return Err(state(path, "the backup was changed while it was restored".into()));
    }
    closed(path, target.writer.close().await)
}

/// A database that somebody reads cannot get its name: its journal would stay behind.
fn closed(path: &Path, done: Result<(), StoreError>) -> Result<(), Fatal> {
    done.map_err(|e| match e {
        StoreError::Busy => Fatal::State {
            path: path.to_owned(),
            why: "another program reads it, and so it cannot be finished".into(),
            next: format!(
                "find that program with `fuser {}` and end it; then remove what stands in this folder, and restore again",
                path.display()
            ),
        },
        e => unreadable(path, &e),
    })
}

/// The database that is being made.
struct Target {
    writer: Writer,
    epoch: u64,
    path: PathBuf,
}

impl Target {
    async fn insert(
        &mut self,
        rows: impl Iterator<Item = Result<RequestRow, BackupError>>,
    ) -> Result<(), Fatal> {
        let mut batch = Vec::new();
        for row in rows {
            batch.push(new_request(row.map_err(fatal)?)?.into());
            if batch.len() == ROWS_AT_ONCE {
                self.commit(&[], &std::mem::take(&mut batch)).await?;
            }
        }
        self.commit(&[], &batch).await
    }

    async fn append(&mut self, leaves: Vec<NewLeaf>) -> Result<(), Fatal> {
        self.commit(&leaves, &[]).await
    }

    async fn commit(&mut self, leaves: &[NewLeaf], rows: &[NewRow]) -> Result<(), Fatal> {
        let at = self.writer.head().size;
        let failed = |e: StoreError| unreadable(&self.path, &e);
        let (placed, inserted) = self.writer.commit(self.epoch, leaves, rows).await.map_err(failed)?;
        let refused =
            placed.into_iter().filter_map(Result::err).chain(inserted.into_iter().filter_map(Result::err));
        match refused.into_iter().next() {
            Some(why) => Err(state(
                &self.path,
                format!("what stands in the backup from leaf {at} on does not follow: {why}"),
            )),
            None => Ok(()),
        }
    }
}

fn new_leaf(backed: BackedLeaf) -> NewLeaf {
    NewLeaf { leaf: backed.leaf, bytes: backed.bytes, payload: backed.payload }
}

fn new_request(row: RequestRow) -> Result<NewRequest, Fatal> {
    let unknown = |e| state(Path::new("requests-*.jsonl"), format!("the caller of request {}: {e}", row.id));
    let caller = row.caller.map(serde_json::from_value).transpose().map_err(unknown)?;
    let (repository, tag, digest) = (row.repository, row.tag, row.digest);
    Ok(NewRequest {
        id: row.id,
        by: row.by,
        caller,
        idempotency: (row.idempotency_key, row.fingerprint),
        image: ImageRow { repository, tag, digest, size: row.size, media_type: row.media_type },
        created: row.created,
        poll: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::reading;

    #[test]
    fn a_new_file_system_is_empty_and_a_folder_with_anything_else_is_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("lost+found")).unwrap();
        std::fs::write(dir.path().join("lock"), "").unwrap();
        assert!(demand_empty(dir.path()).is_ok());
        std::fs::write(dir.path().join("chancery.db-wal"), "").unwrap();
        let refused = demand_empty(dir.path()).unwrap_err();
        assert_eq!(refused.exit_code(), 78);
        assert!(refused.to_string().contains("chancery.db-wal"), "{refused}");
    }

    #[tokio::test]
    async fn a_restored_database_that_somebody_reads_says_who_is_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chancery.restoring");
        let mut writer = Store::create(&path, "log.example.com", "vkey").await.unwrap();
        let reading = reading(&path).await;
        writer.commit_all(1, &[]).await.unwrap();
        let refused = closed(&path, writer.close().await).unwrap_err();
        assert_eq!(refused.exit_code(), 78);
        assert!(refused.to_string().contains("fuser"), "{refused}");
        drop(reading);
    }
}
