//! The writer for code that is not async.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Arc;

use tokio::task::block_in_place;

use crate::error::{Error, Result};
use crate::key::{FeatureKey, IntoFeatureKey};
use crate::store::IntoBatches;

use super::{BufferedMetadataWriter, RejectedBatch, RowsWritten, WriterError, WriterProgress};

/// A handle of a [`BufferedMetadataWriter`] whose calls block. It can be cloned for any number of threads.
///
/// The runtime on which the writer was started has to run at the same time, as a multi-threaded runtime does by itself.
#[derive(Clone, Debug)]
pub struct BlockingWriter {
    writer: BufferedMetadataWriter,
}

impl BlockingWriter {
    pub(super) fn new(writer: BufferedMetadataWriter) -> Self {
        Self { writer }
    }

    /// Calls [`BufferedMetadataWriter::put`].
    ///
    /// # Errors
    /// The errors of that call, and [`Error::Unsupported`] in async code on a runtime with a single thread.
    pub fn put(&self, feature: impl IntoFeatureKey, data: impl IntoBatches) -> Result<()> {
        self.put_multi([(feature, data)])
    }

    /// Calls [`BufferedMetadataWriter::put_multi`].
    ///
    /// # Errors
    /// The errors of that call, and [`Error::Unsupported`] in async code on a runtime with a single thread.
    pub fn put_multi<K: IntoFeatureKey, D: IntoBatches>(
        &self,
        features: impl IntoIterator<Item = (K, D)>,
    ) -> Result<()> {
        self.block_on(self.writer.put_multi(features))?
    }

    /// Calls [`BufferedMetadataWriter::flush`].
    ///
    /// # Errors
    /// The errors of that call, and [`Error::Unsupported`] in async code on a runtime with a single thread.
    pub fn flush(&self) -> Result<(), WriterError> {
        self.block_on(self.writer.flush()).map_err(WriterError::without_rows)?
    }

    /// Calls [`BufferedMetadataWriter::close`].
    ///
    /// # Errors
    /// The errors of that call, and [`Error::Unsupported`] in async code on a runtime with a single thread.
    pub fn close(self) -> Result<RowsWritten, WriterError> {
        let writer = self.writer.clone();
        self.block_on(writer.close()).map_err(WriterError::without_rows)?
    }

    /// Calls [`BufferedMetadataWriter::retry_rejected`].
    ///
    /// # Errors
    /// The errors of that call, and [`Error::Unsupported`] in async code on a runtime with a single thread.
    pub fn retry_rejected(&self) -> Result<u64> {
        self.block_on(self.writer.retry_rejected())?
    }

    /// Calls [`BufferedMetadataWriter::rejected`].
    pub fn rejected(&self) -> Vec<RejectedBatch> {
        self.writer.rejected()
    }

    /// Calls [`BufferedMetadataWriter::last_error`].
    pub fn last_error(&self) -> Option<Arc<Error>> {
        self.writer.last_error()
    }

    /// Calls [`BufferedMetadataWriter::pending_rows`].
    pub fn pending_rows(&self) -> u64 {
        self.writer.pending_rows()
    }

    /// Calls [`BufferedMetadataWriter::progress`].
    pub fn progress(&self) -> BTreeMap<FeatureKey, WriterProgress> {
        self.writer.progress()
    }

    /// Waits for a call of the writer. A worker of a multi-threaded runtime first hands over its other tasks; the only
    /// thread of a runtime cannot, and would wait forever.
    fn block_on<T>(&self, call: impl Future<Output = T>) -> Result<T> {
        let runtime = &self.writer.shared().runtime;
        if catch_unwind(|| block_in_place(|| ())).is_err() {
            return Err(Error::Unsupported {
                what: "a blocking call of a writer in async code on a single thread".to_owned(),
                hint: "await the calls of `BufferedMetadataWriter` there".to_owned(),
            });
        }
        Ok(block_in_place(|| runtime.block_on(call)))
    }
}
