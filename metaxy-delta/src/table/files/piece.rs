//! Pieces of a scan: a small file, or a row group of a large one, decoded batch by batch.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use bytes::Bytes;
use metaxy_core::error::Result;
use metaxy_core::fence;
use metaxy_core::schema::slices;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;

use crate::table::log::state::DataFile;

use super::decoding::Decoding;
use super::deletion::{DeletedRows, deleted_rows, remaining};
use super::job::Job;

/// A unit of work.
pub(super) enum Piece {
    /// A file, and whether its rows have to be filtered.
    File(Arc<DataFile>, bool),
    /// A row group of a large file.
    RowGroup(RowGroup),
}

/// A row group of a large file.
pub(super) struct RowGroup {
    file: Arc<DataFile>,
    is_filtered: bool,
    metadata: ArrowReaderMetadata,
    number: usize,
    /// The rows of the file that count as removed.
    deleted: Option<DeletedRows>,
}

impl Piece {
    /// Returns the row groups of a file that may have matching rows.
    pub(super) async fn row_groups(job: &Job, file: &Arc<DataFile>, is_filtered: bool) -> Result<Vec<Self>> {
        let metadata = load_metadata(job, file).await?;
        let deleted = deleted_rows(&job.table, file).await?;
        let groups = metadata.metadata().row_groups().iter().enumerate();
        let judged = groups.filter_map(|(number, group)| {
            let is_filtered = job.filters.judge(&job.schema, group)? && is_filtered;
            let (file, metadata, deleted) = (file.clone(), metadata.clone(), deleted.clone());
            Some(Self::RowGroup(RowGroup { file, is_filtered, metadata, number, deleted }))
        });
        Ok(judged.collect())
    }

    pub(super) fn file(&self) -> &Arc<DataFile> {
        match self {
            Self::File(file, _) | Self::RowGroup(RowGroup { file, .. }) => file,
        }
    }
}

/// Reads the end of a file, which describes it.
pub(super) async fn load_metadata(job: &Job, file: &DataFile) -> Result<ArrowReaderMetadata> {
    let mut reader = job.bytes(file);
    fence::catch_async(ArrowReaderMetadata::load_async(&mut reader, reader_options()))
        .await
        .map_err(|panic| job.corrupt(file, panic))?
        .map_err(|error| job.table.context.parquet(&job.table.name, &file.name, error))
}

/// Returns options that ignore the Arrow schema in the file, which describes the memory of its writer.
fn reader_options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

/// A piece that is being read.
pub(super) struct Reading {
    file: Arc<DataFile>,
    is_filtered: bool,
    rows: Rows,
}

impl Reading {
    /// Opens a piece; `None` if it has no rows.
    pub(super) async fn open(job: &Job, piece: Piece) -> Result<Option<Self>> {
        Ok(match piece {
            Piece::File(file, is_filtered) => {
                let rows = open_small(job, &file, is_filtered).await?;
                Some(Self { file, is_filtered, rows })
            }
            Piece::RowGroup(group) => {
                let rows = open_group(job, &group).await?;
                rows.map(|rows| Self { file: group.file, is_filtered: group.is_filtered, rows })
            }
        })
    }

    pub(super) fn next(&mut self, job: &Job) -> Result<Option<RecordBatch>> {
        let decoded = fence::catch(|| {
            let Some(batch) = self.rows.next() else { return Ok(None) };
            let batch = batch.map_err(|error| job.corrupt(&self.file, error))?;
            job.finish(&self.file, self.is_filtered, &batch).map(Some)
        });
        decoded.unwrap_or_else(|panic| Err(job.corrupt(&self.file, panic)))
    }
}

/// Rows of a file, in batches that fit into 32-bit offsets.
struct Rows {
    reader: ParquetRecordBatchReader,
    is_wide: bool,
    /// The decoded batches, the last one first.
    slices: Vec<RecordBatch>,
}

impl Rows {
    fn new(reader: ParquetRecordBatchReader, is_wide: bool) -> Self {
        Self { reader, is_wide, slices: Vec::new() }
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(slice) = self.slices.pop() {
            return Some(Ok(slice));
        }
        match self.reader.next()? {
            Ok(batch) if self.is_wide => {
                self.slices = slices(&batch);
                self.slices.reverse();
                self.next()
            }
            decoded => Some(decoded),
        }
    }
}

async fn open_small(job: &Job, file: &DataFile, is_filtered: bool) -> Result<Rows> {
    let context = &job.table.context;
    let bytes = job.bytes(file).whole().await;
    let bytes = bytes.map_err(|error| context.file(&job.table.name, &file.name, error))?;
    let deleted = deleted_rows(&job.table, file).await?;
    decode_small(job, is_filtered, bytes, deleted.as_deref())
        .map_err(|error| context.parquet(&job.table.name, &file.name, error))
}

fn decode_small(job: &Job, is_filtered: bool, bytes: Bytes, deleted: Option<&[u64]>) -> Result<Rows, ParquetError> {
    let metadata = ArrowReaderMetadata::load(&bytes, reader_options())?;
    let mask = job.mask(is_filtered, metadata.parquet_schema());
    let groups: Vec<&RowGroupMetaData> = metadata.metadata().row_groups().iter().collect();
    let decoding = Decoding::new(&metadata, &mask, &groups)?;
    let rows = metadata.metadata().file_metadata().num_rows().max(0).cast_unsigned();
    let row_filter = job.row_filter(metadata.parquet_schema());
    let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, decoding.metadata)
        .with_projection(mask)
        .with_batch_size(decoding.batch_rows);
    if let Some(deleted) = deleted {
        builder = builder.with_row_selection(remaining(deleted, 0, rows));
    }
    if let Some(filter) = row_filter {
        builder = builder.with_row_filter(filter);
    }
    Ok(Rows::new(builder.build()?, decoding.is_wide))
}

async fn open_group(job: &Job, group: &RowGroup) -> Result<Option<Rows>> {
    let RowGroup { file, is_filtered, metadata, number, deleted } = group;
    let failed = |error| job.table.context.parquet(&job.table.name, &file.name, error);
    let groups = metadata.metadata().row_groups();
    let mask = job.mask(*is_filtered, metadata.parquet_schema());
    let decoding = Decoding::new(metadata, &mask, &[&groups[*number]]).map_err(failed)?;
    let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(job.bytes(file), decoding.metadata)
        .with_row_groups(vec![*number])
        .with_projection(mask)
        .with_batch_size(decoding.batch_rows);
    if let Some(deleted) = deleted {
        let rows = |group: &RowGroupMetaData| group.num_rows().max(0).cast_unsigned();
        let first = groups[..*number].iter().map(rows).sum();
        builder = builder.with_row_selection(remaining(deleted, first, rows(&groups[*number])));
    }
    if let Some(filter) = job.row_filter(metadata.parquet_schema()) {
        builder = builder.with_row_filter(filter);
    }
    let mut stream = builder.build().map_err(failed)?;
    let reader = stream.next_row_group().await.map_err(failed)?;
    Ok(reader.map(|reader| Rows::new(reader, decoding.is_wide)))
}
