//! The bytes of a data file.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

/// So much of the end of a file is read at once: more than most footers have.
const FOOTER: usize = 64 << 10;

/// A data file: on this machine it is read where it lies, elsewhere through the object store.
#[derive(Clone)]
pub(crate) struct FileBytes {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
    local: Option<PathBuf>,
}

impl FileBytes {
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, size: u64, local: Option<PathBuf>) -> Self {
        Self { store, path, size, local }
    }

    /// All of it.
    pub async fn whole(&self) -> object_store::Result<Bytes> {
        if let Some(file) = &self.local {
            // A miss is left to the object store, which says what is wrong in its own words.
            if let Ok(bytes) = std::fs::read(file) {
                return Ok(bytes.into());
            }
        }
        self.store.get(&self.path).await?.bytes().await
    }

    async fn ranges(&self, ranges: Vec<Range<u64>>) -> object_store::Result<Vec<Bytes>> {
        if let Some(bytes) = self.local_ranges(&ranges) {
            return Ok(bytes);
        }
        self.store.get_ranges(&self.path, &ranges).await
    }

    #[cfg(unix)]
    fn local_ranges(&self, ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::open(self.local.as_ref()?).ok()?;
        let read = |range: &Range<u64>| {
            let mut bytes = vec![0; usize::try_from(range.end.checked_sub(range.start)?).ok()?];
            file.read_exact_at(&mut bytes, range.start).ok()?;
            Some(Bytes::from(bytes))
        };
        ranges.iter().map(read).collect()
    }

    #[cfg(not(unix))]
    fn local_ranges(&self, _ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
        None
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for FileBytes {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move {
            let bytes = self.ranges(vec![range]).await.map_err(external)?;
            bytes.into_iter().next().ok_or_else(|| ParquetError::EOF("nothing was read".to_owned()))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move { self.ranges(ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let size = self.size;
            let reader = ParquetMetaDataReader::new()
                .with_metadata_options(options.map(|options| options.metadata_options().clone()))
                .with_page_index_policy(PageIndexPolicy::Skip)
                .with_prefetch_hint(Some(FOOTER));
            Ok(Arc::new(reader.load_and_finish(&mut *self, size).await?))
        }
        .boxed()
    }
}
