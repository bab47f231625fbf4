//! Checkpoints: the state of a log in one file.

use deltalake::DeltaTable;
use metaxy_core::error::Result;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt};

use crate::table::storage::LOG_DIRECTORY;

use super::Table;
use super::hint::LAST_CHECKPOINT;

impl Table {
    /// Writes a checkpoint of the log's current version.
    pub async fn checkpoint(&self) -> Result<()> {
        let Some(state) = self.refresh().await? else { return Ok(()) };
        let id = state.id().to_owned();
        let work = |table: DeltaTable| async move {
            let snapshot = table.snapshot()?;
            let version = snapshot.version();
            if snapshot.metadata().id() != id {
                return Ok(None);
            }
            deltalake::checkpoints::create_checkpoint(&table, None).await.map(|()| Some(version))
        };
        let written = self.on_loaded("writing a checkpoint", work).await;
        if self.is_still(Some(&state), &[]).await? {
            return written.map(drop);
        }
        // The checkpoint of a dropped table is not needed.
        match written {
            Ok(Some(version)) => self.remove_checkpoint(version).await,
            _ => Ok(()),
        }
    }

    /// Removes a checkpoint that was written into another table.
    async fn remove_checkpoint(&self, version: u64) -> Result<()> {
        self.forget();
        let log = Path::from(LOG_DIRECTORY);
        for name in [format!("{version:020}.checkpoint.parquet"), LAST_CHECKPOINT.to_owned()] {
            match self.log.object_store(None).delete(&log.clone().join(name)).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(self.context.store("remove a checkpoint", Some(&self.name), error)),
            }
        }
        Ok(())
    }
}
