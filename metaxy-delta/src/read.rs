//! Reading rows: which files and row groups, by how many hands, and in which form.
//!
//! The files of one version of the table are cut into pieces (a small file, or one row group of a large one), and a few
//! workers take them one after the other, decode what is asked for on blocking threads and send it on. What has been
//! decoded and not yet been fetched is bounded, so memory does not grow with the table.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use metaxy_core::backend::{BatchStream, Scan, ScanRequest, ScanStage};
use metaxy_core::error::{BoxError, Error, Result};
use metaxy_core::filter::Predicate;
use metaxy_core::schema::slices;
use metaxy_core::{blocking, fence};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::schema::types::SchemaDescriptor;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinHandle;

use crate::KIND;
use crate::decode::Decoding;
use crate::deletion::{DeletedRows, deleted_rows, remaining};
use crate::file::FileBytes;
use crate::log::Table;
use crate::log::state::{DataFile, TableState, check_files};
use crate::prune::{self, RowStatistics, Verdict};
use crate::types::{Column, FileColumn, TableSchema, conform, partition_values};

/// Files up to this size are read in one piece.
const SMALL_FILE: u64 = 4 << 20;
/// How many requests are under way at once where the store is far away.
const REMOTE_WORKERS: usize = 16;
/// Batches that wait to be fetched, for each worker.
const WAITING: usize = 2;

/// What to read from each file.
struct Job {
    table: Arc<Table>,
    /// The columns that come out.
    output: Vec<Column>,
    output_schema: SchemaRef,
    /// The columns of `output` and of the filter.
    wanted: Vec<Column>,
    wanted_schema: SchemaRef,
    filters: Filters,
    schema: Arc<TableSchema>,
    /// Which table of this name it is.
    id: String,
}

/// What rows have to fulfil.
#[derive(Default)]
pub(crate) struct Filters {
    /// Decides for each row.
    pub rows: Option<Predicate>,
    /// Decides later, for each row that is left; rows that it refuses may be left out here.
    pub hint: Option<Predicate>,
}

impl Filters {
    /// Whether rows with these statistics still have to be filtered; `None` where none of them is wanted.
    fn judge(&self, schema: &TableSchema, statistics: &impl RowStatistics) -> Option<bool> {
        let judge = |predicate| prune::judge(predicate, schema, statistics);
        if self.hint.as_ref().map(judge) == Some(Verdict::None) {
            return None;
        }
        match self.rows.as_ref().map_or(Verdict::All, judge) {
            Verdict::None => None,
            Verdict::All => Some(false),
            Verdict::Unknown => Some(true),
        }
    }
}

/// A piece of work.
enum Piece {
    /// A file, and whether its rows still have to be filtered.
    File(Arc<DataFile>, bool),
    /// A row group of a large file, and the rows of the file that count as removed.
    RowGroup(Arc<DataFile>, bool, ArrowReaderMetadata, usize, Option<DeletedRows>),
}

impl Piece {
    fn file(&self) -> &Arc<DataFile> {
        match self {
            Self::File(file, _) | Self::RowGroup(file, ..) => file,
        }
    }
}

/// Reads a version of a table as far as this backend takes a request: the row filter, and the columns.
pub(crate) async fn scan(table: Arc<Table>, state: Arc<TableState>, request: &ScanRequest) -> Result<Scan> {
    check_files(&table.name, &state.files)?;
    let names = request.columns_needed(&state.schema.logical, ScanStage::RowFilter);
    // What the last filter refuses may only be left out where nothing is decided before it.
    let hint = request.filter.clone().filter(|_| request.keep_latest.is_none());
    let filters = Filters { rows: request.row_filter.clone(), hint };
    let stream = rows(table, &state, state.files.to_vec(), &names, filters);
    let schema = Arc::new(project(&state, &names));
    Ok(Scan { schema, stream, applied: ScanStage::RowFilter })
}

fn project(state: &TableState, names: &[String]) -> Schema {
    let fields = names.iter().filter_map(|name| state.schema.column(name)).map(|column| column.logical.clone());
    Schema::new(fields.collect::<Vec<_>>())
}

/// The named columns of some files, and of those only the rows that the filters let pass.
pub(crate) fn rows(
    table: Arc<Table>,
    state: &TableState,
    files: Vec<Arc<DataFile>>,
    names: &[String],
    filters: Filters,
) -> BatchStream {
    let columns = |names: &[String]| -> Vec<Column> {
        names.iter().filter_map(|name| state.schema.column(name)).cloned().collect()
    };
    let mut wanted = names.to_vec();
    let known: HashSet<String> = wanted.iter().cloned().collect();
    wanted.extend(filters.rows.iter().flat_map(Predicate::columns).filter(|name| !known.contains(name)));
    let judged = files.into_iter().filter_map(|file| {
        let filtered = filters.judge(&state.schema, file.stats())?;
        Some((file, filtered))
    });
    let files = judged.collect();
    let job = Job {
        output: columns(names),
        output_schema: Arc::new(project(state, names)),
        wanted_schema: Arc::new(project(state, &wanted)),
        wanted: columns(&wanted),
        filters,
        schema: state.schema.clone(),
        id: state.id().to_owned(),
        table,
    };
    run(Arc::new(job), files)
}

/// Sets the workers to work once the stream is first asked, and passes on what they find.
fn run(job: Arc<Job>, files: Vec<(Arc<DataFile>, bool)>) -> BatchStream {
    let start = {
        let job = job.clone();
        async move {
            let pieces = cut(&job, files).await?;
            Ok::<_, Error>(Workers::start(&job, pieces))
        }
    };
    let batches = futures::stream::once(start).try_flatten_unordered(None);
    batches.or_else(move |error| explained(job.clone(), error)).boxed()
}

/// A file that is missing is one thing where the table is gone with it, and another where it is not.
async fn explained(job: Arc<Job>, error: Error) -> Result<RecordBatch> {
    let is_there = |state: Option<Arc<TableState>>| state.is_some_and(|state| state.id() == job.id);
    match error {
        Error::Corrupt { .. } if !job.table.refresh().await.is_ok_and(is_there) => {
            Err(Error::table(KIND, "reading", &job.table.name, "it was dropped meanwhile").with_transient(true))
        }
        error => Err(error),
    }
}

/// Cuts large files into row groups.
async fn cut(job: &Arc<Job>, files: Vec<(Arc<DataFile>, bool)>) -> Result<VecDeque<Piece>> {
    let pieces = futures::stream::iter(files)
        .map(|(file, filtered)| {
            let job = job.clone();
            async move {
                if file.size <= SMALL_FILE {
                    return Ok::<_, Error>(vec![Piece::File(file, filtered)]);
                }
                let metadata = load_metadata(&job, &file).await?;
                let deleted = deleted_rows(&job.table, &file).await?;
                let groups = metadata.metadata().row_groups().iter().enumerate();
                let judged = groups.filter_map(|(number, group)| {
                    let filtered = job.filters.judge(&job.schema, group)? && filtered;
                    Some(Piece::RowGroup(file.clone(), filtered, metadata.clone(), number, deleted.clone()))
                });
                Ok(judged.collect())
            }
        })
        .buffered(REMOTE_WORKERS);
    let pieces: Vec<Vec<Piece>> = pieces.try_collect().await?;
    Ok(pieces.into_iter().flatten().collect())
}

async fn load_metadata(job: &Job, file: &DataFile) -> Result<ArrowReaderMetadata> {
    let mut reader = file_bytes(job, file);
    fence::catch_async(ArrowReaderMetadata::load_async(&mut reader, reader_options()))
        .await
        .map_err(|panic| corrupt(job, file, panic))?
        .map_err(|error| job.table.context.parquet(&job.table.name, &file.name, error))
}

fn file_bytes(job: &Job, file: &DataFile) -> FileBytes {
    let local = job.table.directory.as_ref().map(|directory| directory.join(&file.name));
    FileBytes::new(job.table.log.object_store(None), file.path.clone(), file.size, local)
}

/// The Arrow schema that a writer has left in the file says how its memory looked, not ours.
fn reader_options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

/// The workers of one scan.
struct Workers {
    batches: mpsc::Receiver<Result<RecordBatch>>,
    handles: Vec<JoinHandle<()>>,
}

impl Workers {
    fn start(job: &Arc<Job>, pieces: VecDeque<Piece>) -> BatchStream {
        let hands = match &job.table.directory {
            Some(_) => crate::runtime::parallelism(),
            None => REMOTE_WORKERS,
        };
        let hands = hands.min(pieces.len());
        let (sender, batches) = mpsc::channel((hands * WAITING).max(1));
        let pieces = Arc::new(Mutex::new(pieces));
        let handles = (0..hands).map(|_| tokio::spawn(work(job.clone(), pieces.clone(), sender.clone()))).collect();
        let workers = Self { batches, handles };
        futures::stream::unfold(workers, |mut workers| async move {
            let next = workers.next().await?;
            Some((next, workers))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        if let Some(batch) = self.batches.recv().await {
            return Some(batch);
        }
        // A worker that has died must not look like one that is done.
        while let Some(handle) = self.handles.pop() {
            if let Err(error) = handle.await {
                return Some(Err(error.into()));
            }
        }
        None
    }
}

type Pieces = Arc<Mutex<VecDeque<Piece>>>;
type Sender = mpsc::Sender<Result<RecordBatch>>;

/// Reads pieces until there are none, or nobody listens any more. A thread is taken to decode, and given back while nobody
/// takes what is there: any number of scans may wait.
async fn work(job: Arc<Job>, pieces: Pieces, sender: Sender) {
    let mut reading = None;
    loop {
        let step = blocking::drive({
            let (job, pieces, sender) = (job.clone(), pieces.clone(), sender.clone());
            async move { decode(&job, &pieces, &sender, reading).await }
        });
        match step.await {
            Ok(None) => return,
            Ok(Some((batch, rest))) => {
                if sender.send(Ok(batch)).await.is_err() {
                    return;
                }
                reading = Some(rest);
            }
            Err(error) => {
                lock(&pieces).clear();
                // Where nobody listens, nobody needs to know.
                let _ = sender.send(Err(error)).await;
                return;
            }
        }
    }
}

fn lock(pieces: &Mutex<VecDeque<Piece>>) -> MutexGuard<'_, VecDeque<Piece>> {
    pieces.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A piece that is being read.
struct Reading {
    file: Arc<DataFile>,
    filtered: bool,
    rows: Rows,
}

impl Reading {
    async fn open(job: &Job, piece: Piece) -> Result<Option<Self>> {
        Ok(match piece {
            Piece::File(file, filtered) => {
                let rows = open_small(job, &file, filtered).await?;
                Some(Self { file, filtered, rows })
            }
            Piece::RowGroup(file, filtered, metadata, group, deleted) => {
                let rows = open_group(job, &file, filtered, metadata, group, deleted.as_deref()).await?;
                rows.map(|rows| Self { file, filtered, rows })
            }
        })
    }

    fn next(&mut self, job: &Job) -> Result<Option<RecordBatch>> {
        let decoded = fence::catch(|| {
            let Some(batch) = self.rows.next() else { return Ok(None) };
            let batch = batch.map_err(|error| corrupt(job, &self.file, error))?;
            finish(job, &self.file, self.filtered, &batch).map(Some)
        });
        decoded.unwrap_or_else(|panic| Err(corrupt(job, &self.file, panic)))
    }
}

/// Rows of a file, in batches that fit into 32-bit offsets.
struct Rows {
    reader: ParquetRecordBatchReader,
    is_wide: bool,
    /// What has been decoded, the last one first.
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

/// Reads on until there is nothing left, or there is no room for a batch: then that batch, and where to go on.
async fn decode(
    job: &Job,
    pieces: &Mutex<VecDeque<Piece>>,
    sender: &Sender,
    mut reading: Option<Reading>,
) -> Result<Option<(RecordBatch, Reading)>> {
    loop {
        let mut current = match reading.take() {
            Some(current) => current,
            None => {
                let Some(piece) = lock(pieces).pop_front() else { return Ok(None) };
                let file = piece.file().clone();
                let opened = fence::catch_async(Reading::open(job, piece)).await;
                let Some(opened) = opened.unwrap_or_else(|panic| Err(corrupt(job, &file, panic)))? else {
                    continue;
                };
                opened
            }
        };
        match current.next(job)? {
            None => continue,
            Some(batch) if batch.num_rows() == 0 => {}
            Some(batch) => match sender.try_send(Ok(batch)) {
                Ok(()) => {}
                Err(TrySendError::Full(Ok(batch))) => return Ok(Some((batch, current))),
                Err(_) => return Ok(None),
            },
        }
        reading = Some(current);
    }
}

async fn open_small(job: &Job, file: &DataFile, filtered: bool) -> Result<Rows> {
    let context = &job.table.context;
    let bytes = file_bytes(job, file).whole().await;
    let bytes = bytes.map_err(|error| context.file(&job.table.name, &file.name, error))?;
    let deleted = deleted_rows(&job.table, file).await?;
    decode_small(job, filtered, bytes, deleted.as_deref())
        .map_err(|error| context.parquet(&job.table.name, &file.name, error))
}

fn decode_small(job: &Job, filtered: bool, bytes: Bytes, deleted: Option<&[u64]>) -> Result<Rows, ParquetError> {
    let metadata = ArrowReaderMetadata::load(&bytes, reader_options())?;
    let mask = mask(job, filtered, metadata.parquet_schema());
    let groups: Vec<&RowGroupMetaData> = metadata.metadata().row_groups().iter().collect();
    let decoding = Decoding::new(&metadata, &mask, &groups)?;
    let rows = metadata.metadata().file_metadata().num_rows().max(0).cast_unsigned();
    let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, decoding.metadata)
        .with_projection(mask)
        .with_batch_size(decoding.batch_rows);
    if let Some(deleted) = deleted {
        builder = builder.with_row_selection(remaining(deleted, 0, rows));
    }
    Ok(Rows::new(builder.build()?, decoding.is_wide))
}

async fn open_group(
    job: &Job,
    file: &DataFile,
    filtered: bool,
    metadata: ArrowReaderMetadata,
    group: usize,
    deleted: Option<&[u64]>,
) -> Result<Option<Rows>> {
    let failed = |error| job.table.context.parquet(&job.table.name, &file.name, error);
    let mask = mask(job, filtered, metadata.parquet_schema());
    let decoding = Decoding::new(&metadata, &mask, &[metadata.metadata().row_group(group)]).map_err(failed)?;
    let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(file_bytes(job, file), decoding.metadata)
        .with_row_groups(vec![group])
        .with_projection(mask)
        .with_batch_size(decoding.batch_rows);
    if let Some(deleted) = deleted {
        let rows = |group: &RowGroupMetaData| group.num_rows().max(0).cast_unsigned();
        let groups = metadata.metadata().row_groups();
        let first = groups[..group].iter().map(rows).sum();
        builder = builder.with_row_selection(remaining(deleted, first, rows(&groups[group])));
    }
    let mut stream = builder.build().map_err(failed)?;
    let reader = stream.next_row_group().await.map_err(failed)?;
    Ok(reader.map(|reader| Rows::new(reader, decoding.is_wide)))
}

/// The columns of a file that are looked at.
fn mask(job: &Job, filtered: bool, file_schema: &SchemaDescriptor) -> ProjectionMask {
    let columns = if filtered { &job.wanted } else { &job.output };
    let found: Vec<FileColumn<'_>> = file_schema
        .root_schema()
        .get_fields()
        .iter()
        .map(|field| field.get_basic_info())
        .map(|info| FileColumn { name: info.name(), id: info.has_id().then(|| info.id()) })
        .collect();
    let roots: Vec<usize> = columns.iter().filter_map(|column| job.schema.find_in_file(column, &found)).collect();
    ProjectionMask::roots(file_schema, roots)
}

/// Rows of a file as rows of the table, filtered where that is left to do.
fn finish(job: &Job, file: &DataFile, filtered: bool, batch: &RecordBatch) -> Result<RecordBatch> {
    if !filtered {
        return to_table(job, file, &job.output, &job.output_schema, batch);
    }
    let Some(predicate) = &job.filters.rows else {
        return to_table(job, file, &job.output, &job.output_schema, batch);
    };
    let batch = to_table(job, file, &job.wanted, &job.wanted_schema, batch)?;
    let mask = predicate.evaluate(&batch)?;
    let output: Vec<usize> = (0..job.output.len()).collect();
    let batch = batch.project(&output)?;
    Ok(if mask.true_count() == batch.num_rows() { batch } else { filter_record_batch(&batch, &mask)? })
}

fn to_table(
    job: &Job,
    file: &DataFile,
    columns: &[Column],
    schema: &SchemaRef,
    batch: &RecordBatch,
) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let mut arrays = Vec::with_capacity(columns.len());
    let file_schema = batch.schema();
    let found = FileColumn::all_of(&file_schema);
    for column in columns {
        let target = column.logical.data_type();
        if column.is_partition {
            arrays.push(constant(job, file, column, rows)?);
            continue;
        }
        arrays.push(match job.schema.find_in_file(column, &found) {
            Some(at) => column
                .of_file(batch.column(at))
                .map_err(|error| corrupt(job, file, format!("column `{}`: {error}", column.logical.name())))?,
            None => new_null_array(target, rows),
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?)
}

/// A partition column of a file.
fn constant(job: &Job, file: &DataFile, column: &Column, rows: usize) -> Result<ArrayRef> {
    let name = column.logical.name();
    let Some(value) = file.partition_values.get(column.in_file.name()) else {
        return Err(corrupt(job, file, format!("the log has no value of the partition column `{name}`")));
    };
    partition_values(value.as_deref(), &column.stored_type, rows)
        .and_then(|values| conform(&values, column.logical.data_type()))
        .map_err(|error| corrupt(job, file, format!("partition column `{name}`: {error}")))
}

fn corrupt(job: &Job, file: &DataFile, cause: impl Into<BoxError>) -> Error {
    let cause: BoxError = cause.into();
    let cause = job.table.context.masked(cause.as_ref());
    Error::corrupt(&job.table.name, format!("the data file `{}` cannot be read: {cause}", file.name)).with_source(cause)
}
