//! The bytes of a data file.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use crate::table::storage::local_file::{failed, open_regular};

/// The number of bytes at the end of a file that are read at once: more than most footers have.
const FOOTER: usize = 64 << 10;

/// A data file: local files are read directly, others through the object store.
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

    /// Reads the whole file: the number of bytes that the log states.
    pub async fn whole(&self) -> object_store::Result<Bytes> {
        let ranges = std::iter::once(0..self.size).collect();
        Ok(self.ranges(ranges).await?.pop().unwrap_or_default())
    }

    async fn ranges(&self, ranges: Vec<Range<u64>>) -> object_store::Result<Vec<Bytes>> {
        if self.size == 0 {
            return Ok(vec![Bytes::new(); ranges.len()]);
        }
        match &self.local {
            Some(file) => read_ranges(file, &ranges).map_err(|error| failed(file, error)),
            None => self.store.get_ranges(&self.path, &ranges).await,
        }
    }
}

/// Reads parts of a file. Checks that the file has these bytes before it allocates memory for them.
fn read_ranges(path: &FsPath, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
    let mut file = open_regular(path)?;
    let length = file.metadata()?.len();
    let mut read = |range: &Range<u64>| {
        let size = range.end.checked_sub(range.start).filter(|_| range.end <= length);
        let Some(size) = size.and_then(|size| usize::try_from(size).ok()) else {
            let reason = format!("the file has {length} bytes, and {} are needed", range.end);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        };
        let mut bytes = vec![0; size];
        file.seek(SeekFrom::Start(range.start))?;
        file.read_exact(&mut bytes)?;
        Ok(Bytes::from(bytes))
    };
    ranges.iter().map(&mut read).collect()
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
