//! Checkpoints in a directory, for the next process: one file for each feature and set of options.
//!
//! A file is replaced as a whole. If several processes write one, the last one wins: each of them is right. What cannot be
//! read is ignored with a line in the log.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blocking;
use crate::error::Result;
use crate::hash::definition_hash;
use crate::key::FeatureKey;

use super::Checkpoint;

/// The number of characters of the hash in a file's name.
const NAME_LENGTH: usize = 16;
const EXTENSION: &str = "checkpoint";

/// A directory with checkpoints.
#[derive(Debug)]
pub(crate) struct CheckpointDirectory {
    directory: PathBuf,
    /// Stores with different locations may share a directory.
    store: String,
}

impl CheckpointDirectory {
    pub(crate) fn new(directory: PathBuf, store: String) -> Arc<Self> {
        Arc::new(Self { directory, store })
    }

    /// Returns the checkpoint of a feature with a definition, if there is a readable one.
    pub(crate) async fn load(self: &Arc<Self>, feature: &FeatureKey, definition: &str) -> Option<Checkpoint> {
        let path = self.path(feature, definition);
        let (expected, read) = (feature.clone(), path.clone());
        let loaded = blocking::run(move || {
            let bytes = match fs::read(&read) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Ok(Some(Err(error.to_string()))),
            };
            Ok(Some(Checkpoint::from_bytes(&bytes).map_err(|error| error.to_string())))
        });
        match loaded.await.ok()?? {
            Ok(checkpoint) if checkpoint.contents().definition == definition && *checkpoint.feature() == expected => {
                Some(checkpoint)
            }
            Ok(_) => {
                tracing::warn!(path = %path.display(), "the checkpoint is that of another feature; it is ignored");
                None
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), error, "the checkpoint cannot be read; it is ignored");
                None
            }
        }
    }

    /// Keeps a checkpoint. A failure is logged: without it the next process reads all rows.
    pub(crate) async fn save(self: &Arc<Self>, checkpoint: &Checkpoint) {
        let path = self.path(checkpoint.feature(), &checkpoint.contents().definition);
        let (checkpoint, directory, target) = (checkpoint.clone(), self.clone(), path.clone());
        let saved: Result<()> = blocking::run(move || {
            let bytes = checkpoint.to_bytes()?;
            replace(&directory.directory, &target, &bytes)
                .map_err(|error| crate::Error::of_io(target.display().to_string(), "write", error))
        })
        .await;
        if let Err(error) = saved {
            tracing::warn!(path = %path.display(), %error, "the checkpoint is not kept");
        }
    }

    fn path(&self, feature: &FeatureKey, definition: &str) -> PathBuf {
        let hash = definition_hash([self.store.as_str(), "\n", definition], NAME_LENGTH);
        self.directory.join(format!("{}.{hash}.{EXTENSION}", feature.table_name()))
    }
}

/// Writes a file that only its owner can read, in place of an earlier one.
fn replace(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;
    let mut file = tempfile::Builder::new().prefix(".").tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
