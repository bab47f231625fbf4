//! The writer for code that is not async.

use std::collections::BTreeMap;

use tokio::runtime::Handle;

use crate::error::Result;
use crate::key::{FeatureKey, IntoFeatureKey};
use crate::store::IntoBatches;

use super::{BufferedMetadataWriter, RowsWritten, WriterError, WriterProgress};

/// A handle of a [`BufferedMetadataWriter`] whose calls block. It can be sent to, and cloned for, any number of threads.
#[derive(Clone, Debug)]
pub struct BlockingWriter {
    writer: BufferedMetadataWriter,
    runtime: Handle,
}

impl BlockingWriter {
    pub(super) fn new(writer: BufferedMetadataWriter, runtime: Handle) -> Self {
        Self { writer, runtime }
    }

    /// As [`BufferedMetadataWriter::put`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// On an async thread.
    pub fn put(&self, feature: impl IntoFeatureKey, data: impl IntoBatches) -> Result<()> {
        self.runtime.block_on(self.writer.put(feature, data))
    }

    /// As [`BufferedMetadataWriter::flush`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// On an async thread.
    pub fn flush(&self) -> Result<(), WriterError> {
        self.runtime.block_on(self.writer.flush())
    }

    /// As [`BufferedMetadataWriter::close`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// On an async thread.
    pub fn close(self) -> Result<RowsWritten, WriterError> {
        let Self { writer, runtime } = self;
        runtime.block_on(writer.close())
    }

    /// As [`BufferedMetadataWriter::progress`].
    pub fn progress(&self) -> BTreeMap<FeatureKey, WriterProgress> {
        self.writer.progress()
    }
}
