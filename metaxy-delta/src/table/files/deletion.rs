//! Deletion vectors: the rows of a file that count as removed.

use std::sync::Arc;

use bytes::Bytes;
use delta_kernel::actions::deletion_vector::DeletionVectorDescriptor as KernelDescriptor;
use delta_kernel::{DeltaResult, Error as KernelError, FileMeta, FileSlice, StorageHandler};
use deltalake::kernel::DeletionVectorDescriptor;
use metaxy_core::error::{Error, Result};
use metaxy_core::fence;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::RowSelection;
use url::Url;

use crate::table::log::Table;
use crate::table::log::state::{DataFile, path_below};

/// The sorted numbers of the rows of a file that count as removed.
pub(crate) type DeletedRows = Arc<[u64]>;

/// Reads the deletion vector of a file; `None` if it has none.
pub(crate) async fn deleted_rows(table: &Table, file: &DataFile) -> Result<Option<DeletedRows>> {
    let Some(vector) = &file.deletion_vector else { return Ok(None) };
    let damaged = |reason: String| {
        Error::corrupt(
            &table.name,
            format!("the deletion vector of the data file `{}` cannot be read: {reason}", file.name),
        )
    };
    let vector = kernel_form(vector).map_err(|error| damaged(error.to_string()))?;
    let root = table.log.root_url();
    let bytes = match fence::decode(&table.name, || Ok(vector.absolute_path(root)))? {
        Ok(None) => Bytes::new(),
        Ok(Some(url)) => fetch(table, root, &url).await?,
        Err(error) => return Err(damaged(error.to_string())),
    };
    let rows = fence::decode(&table.name, || Ok(vector.row_indexes(Arc::new(Fetched(bytes)), root)))?;
    Ok(Some(rows.map_err(|error| damaged(error.to_string()))?.into()))
}

fn kernel_form(vector: &DeletionVectorDescriptor) -> DeltaResult<KernelDescriptor> {
    vector.clone().try_into()
}

async fn fetch(table: &Table, root: &Url, url: &Url) -> Result<Bytes> {
    let name = url.as_str().strip_prefix(root.as_str()).unwrap_or(url.as_str()).trim_start_matches('/');
    let path = path_below(&table.name, name)?;
    let failed = |error| table.context.file(&table.name, name, error);
    table.log.object_store(None).get(&path).await.map_err(failed)?.bytes().await.map_err(failed)
}

/// Returns the remaining rows of those from `first` on.
pub(crate) fn remaining(deleted: &[u64], first: u64, rows: u64) -> RowSelection {
    let start = deleted.partition_point(|row| *row < first);
    let end = deleted.partition_point(|row| *row < first.saturating_add(rows));
    let mut next = 0;
    let gaps = deleted[start..end].iter().map(|row| row - first).chain([rows]);
    let kept = gaps.map(|gap| {
        let range = next as usize..gap as usize;
        next = gap + 1;
        range
    });
    RowSelection::from_consecutive_ranges(kept.filter(|range| !range.is_empty()), rows as usize)
}

/// Bytes that are already in memory, for the kernel to decode.
struct Fetched(Bytes);

fn not_here<T>() -> DeltaResult<T> {
    Err(KernelError::generic("only one file was fetched"))
}

impl StorageHandler for Fetched {
    fn list_from(&self, _path: &Url) -> DeltaResult<Box<dyn Iterator<Item = DeltaResult<FileMeta>>>> {
        not_here()
    }

    fn read_files(&self, _files: Vec<FileSlice>) -> DeltaResult<Box<dyn Iterator<Item = DeltaResult<Bytes>>>> {
        Ok(Box::new(std::iter::once(Ok(self.0.clone()))))
    }

    fn copy_atomic(&self, _from: &Url, _to: &Url) -> DeltaResult<()> {
        not_here()
    }

    fn put(&self, _path: &Url, _data: Bytes, _overwrite: bool) -> DeltaResult<()> {
        not_here()
    }

    fn head(&self, _path: &Url) -> DeltaResult<FileMeta> {
        not_here()
    }

    fn delete(&self, _path: &Url) -> DeltaResult<()> {
        not_here()
    }
}
