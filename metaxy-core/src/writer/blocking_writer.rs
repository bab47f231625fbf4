//! The writer for code that is not async.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Arc;

use tokio::task::block_in_place;

use crate::error::{Error, Result};
use crate::key::{FeatureKey, IntoFeatureKey};
use crate::store::IntoBatches;

use super::{BufferedMetadataWriter, RejectedBatch, RowsWritten, WriterError, WriterProgress};

/// A handle of a [`BufferedMetadataWriter`] whose calls block. It can be sent to, and cloned for, any number of threads.
///
/// The runtime on which the writer was started has to run at the same time: a multi-threaded one does so by itself.
#[derive(Clone, Debug)]
pub struct BlockingWriter {
    writer: BufferedMetadataWriter,
}

impl BlockingWriter {
    pub(super) fn new(writer: BufferedMetadataWriter) -> Self {
        Self { writer }
    }

    /// As [`BufferedMetadataWriter::put`].
    ///
    /// # Errors
    /// As there, and [`Error::Unsupported`] inside of async code that must not block.
    pub fn put(&self, feature: impl IntoFeatureKey, data: impl IntoBatches) -> Result<()> {
        self.put_multi([(feature, data)])
    }

    /// As [`BufferedMetadataWriter::put_multi`].
    ///
    /// # Errors
    /// As there, and [`Error::Unsupported`] inside of async code that must not block.
    pub fn put_multi<K: IntoFeatureKey, D: IntoBatches>(
        &self,
        features: impl IntoIterator<Item = (K, D)>,
    ) -> Result<()> {
        self.block_on(self.writer.put_multi(features))?
    }

    /// As [`BufferedMetadataWriter::flush`].
    ///
    /// # Errors
    /// As there, and [`Error::Unsupported`] inside of async code that must not block.
    pub fn flush(&self) -> Result<(), WriterError> {
        self.block_on(self.writer.flush()).map_err(nothing_lost)?
    }

    /// As [`BufferedMetadataWriter::close`].
    ///
    /// # Errors
    /// As there, and [`Error::Unsupported`] inside of async code that must not block.
    pub fn close(self) -> Result<RowsWritten, WriterError> {
        let writer = self.writer.clone();
        self.block_on(writer.close()).map_err(nothing_lost)?
    }

    /// As [`BufferedMetadataWriter::retry_rejected`].
    ///
    /// # Errors
    /// As there, and [`Error::Unsupported`] inside of async code that must not block.
    pub fn retry_rejected(&self) -> Result<u64> {
        self.block_on(self.writer.retry_rejected())?
    }

    /// As [`BufferedMetadataWriter::rejected`].
    pub fn rejected(&self) -> Vec<RejectedBatch> {
        self.writer.rejected()
    }

    /// As [`BufferedMetadataWriter::last_error`].
    pub fn last_error(&self) -> Option<Arc<Error>> {
        self.writer.last_error()
    }

    /// As [`BufferedMetadataWriter::pending_rows`].
    pub fn pending_rows(&self) -> u64 {
        self.writer.pending_rows()
    }

    /// As [`BufferedMetadataWriter::progress`].
    pub fn progress(&self) -> BTreeMap<FeatureKey, WriterProgress> {
        self.writer.progress()
    }

    /// Waits for a call of the writer. A worker of a multi-threaded runtime hands its other tasks over before; the only
    /// thread of a runtime cannot, and to wait there would be to wait for ever.
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

/// A call that was not made.
fn nothing_lost(error: Error) -> WriterError {
    WriterError { error: Arc::new(error), unwritten: Vec::new(), rejected: Vec::new() }
}
