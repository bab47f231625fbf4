//! A copy of the in-memory backend that does every step itself, with one defect.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, concat_batches, filter_record_batch, is_not_null, or_kleene, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use metaxy_core::backend::{self, Appended, BatchStream, NativeOutcome, NativeRequest, Position};
use metaxy_core::filter::Predicate;
use metaxy_core::plan::IncrementPlan;
use metaxy_core::schema::conform;
use metaxy_core::{
    AccessMode, BackendInfo, Error, FeatureKey, Result, Scan, ScanRequest, ScanStage, StoreBackend, columns,
};
use metaxy_testkit::memory::MemoryBackend;

use super::native;

/// The defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    LatestByCreation,
    FilterBeforeLatest,
    DeletedReturned,
    LostNull,
    TornWrite,
    FallbackMixedIn,
    SwappedJoinSide,
    CaseFolded,
    TruncatedTimestamp,
    ForgottenRename,
    BatchByBatch,
    SnapshotPerChunk,
    NoTableIsAnError,
    FilterRefused,
    CapabilityHidden,
    PositionStandsStill,
    AppendedForgotten,
    RemovalUnseen,
    KeysForgotten,
}

#[derive(Clone, Debug)]
pub struct WrongBackend {
    inner: Arc<MemoryBackend>,
    name: String,
    all: Arc<Mutex<Vec<String>>>,
    defect: Option<Defect>,
}

impl WrongBackend {
    pub fn new(name: &str, all: Arc<Mutex<Vec<String>>>, defect: Option<Defect>) -> Self {
        Self { inner: Arc::new(MemoryBackend::named(name)), name: name.to_owned(), all, defect }
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// Returns all rows of a table, and with a certain defect also those of other locations.
    async fn all_rows(&self, table: &FeatureKey) -> Result<RecordBatch> {
        let scan = self.inner.scan(table, &ScanRequest::default()).await?;
        let mut batches: Vec<RecordBatch> = scan.stream.try_collect().await?;
        if self.has(Defect::FallbackMixedIn) {
            let others: Vec<String> =
                self.all.lock().unwrap().iter().filter(|name| **name != self.name).cloned().collect();
            for other in others {
                let other = MemoryBackend::named(other);
                other.open(AccessMode::ReadOnly).await?;
                if other.schema(table).await?.is_some() {
                    let rows: Vec<RecordBatch> =
                        other.scan(table, &ScanRequest::default()).await?.stream.try_collect().await?;
                    for batch in rows {
                        batches.push(conform(table, &scan.schema, &batch)?);
                    }
                }
            }
        }
        Ok(concat_batches(&scan.schema, &batches)?)
    }

    /// Returns the rows of a request, with all columns.
    pub async fn rows(&self, table: &FeatureKey, request: &ScanRequest) -> Result<RecordBatch> {
        let mut rows = filtered(self.all_rows(table).await?, request.row_filter.as_ref())?;
        if self.has(Defect::FilterBeforeLatest) {
            rows = filtered(rows, request.filter.as_ref())?;
        }
        if let Some(ids) = &request.keep_latest {
            let written = if self.has(Defect::LatestByCreation) { columns::CREATED_AT } else { columns::UPDATED_AT };
            rows = latest(&rows, ids, written)?;
        }
        if self.has(Defect::DeletedReturned) {
            let Some(filter) = &request.filter else { return Ok(rows) };
            let deleted = is_not_null(column(&rows, columns::DELETED_AT))?;
            return Ok(filter_record_batch(&rows, &or_kleene(&filter.evaluate(&rows)?, &deleted)?)?);
        }
        filtered(rows, request.filter.as_ref())
    }

    /// Commits each batch of an append separately. The task continues if the call is dropped, so that only a concurrent
    /// reader, or a kill, can detect it.
    async fn append_batch_by_batch(
        &self,
        table: &FeatureKey,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
    ) -> Result<()> {
        let (inner, table) = (self.inner.clone(), table.clone());
        let commits = async move {
            for batch in batches {
                inner.append(&table, schema.clone(), vec![batch]).await?;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(())
        };
        tokio::spawn(commits).await?
    }

    /// Returns a stream that reads the table again for each chunk.
    fn chunks(&self, table: &FeatureKey, request: &ScanRequest) -> BatchStream {
        const CHUNK: usize = 1_000;
        let (backend, table, request) = (self.clone(), table.clone(), request.clone());
        let chunk = move |start: usize| {
            let (backend, table, request) = (backend.clone(), table.clone(), request.clone());
            async move {
                let rows = backend.rows(&table, &request).await?;
                let length = CHUNK.min(rows.num_rows().saturating_sub(start));
                Ok((length > 0).then(|| (rows.slice(start, length), start + CHUNK)))
            }
        };
        futures::stream::try_unfold(0, chunk).boxed()
    }

    fn spoiled(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let schema = batch.schema();
        let mut fields = Vec::new();
        let mut arrays = Vec::new();
        for (field, array) in schema.fields().iter().zip(batch.columns()) {
            let own = !columns::is_system(field.name());
            let name =
                if own && self.has(Defect::CaseFolded) { field.name().to_lowercase() } else { field.name().clone() };
            fields.push(Field::new(name, field.data_type().clone(), field.is_nullable()));
            arrays.push(match field.data_type() {
                DataType::Utf8 if own && self.has(Defect::LostNull) => {
                    let filled = array.as_string::<i32>().iter().map(Option::unwrap_or_default);
                    Arc::new(StringArray::from_iter_values(filled)) as ArrayRef
                }
                DataType::Timestamp(TimeUnit::Microsecond, _) if !own && self.has(Defect::TruncatedTimestamp) => {
                    let micros = cast(array, &DataType::Int64)?;
                    let seconds: Int64Array =
                        micros.as_primitive::<Int64Type>().unary(|time| time / 1_000_000 * 1_000_000);
                    cast(&seconds, field.data_type())?
                }
                _ => array.clone(),
            });
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
    }
}

/// Returns an existing column.
pub fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    batch.column_by_name(name).expect("the table has the column")
}

fn filtered(rows: RecordBatch, predicate: Option<&Predicate>) -> Result<RecordBatch> {
    let Some(predicate) = predicate else { return Ok(rows) };
    let passes: BooleanArray = predicate.evaluate(&rows)?;
    Ok(filter_record_batch(&rows, &passes)?)
}

/// Returns whether a condition compares two columns.
fn compares(predicate: &Predicate) -> bool {
    matches!(predicate, Predicate::CompareColumns { .. })
}

/// Returns the newest row of each sample.
fn latest(rows: &RecordBatch, ids: &[String], written: &str) -> Result<RecordBatch> {
    let keys = native::keys(rows, ids)?;
    let micros = |name: &str| cast(column(rows, name), &DataType::Int64);
    let (deleted, written) = (micros(columns::DELETED_AT)?, micros(written)?);
    let (deleted, written) = (deleted.as_primitive::<Int64Type>(), written.as_primitive::<Int64Type>());
    let time = |row: usize| if deleted.is_valid(row) { deleted.value(row) } else { written.value(row) };
    let mut newest: HashMap<&Option<String>, usize> = HashMap::new();
    for (row, key) in keys.iter().enumerate() {
        let kept = newest.entry(key).or_insert(row);
        if time(row) >= time(*kept) {
            *kept = row;
        }
    }
    Ok(take_record_batch(rows, &UInt32Array::from_iter_values(newest.into_values().map(|row| row as u32)))?)
}

#[async_trait]
impl StoreBackend for WrongBackend {
    fn info(&self) -> BackendInfo {
        let mut info = self.inner.info();
        if self.has(Defect::CapabilityHidden) {
            info.capabilities.stores_type = |data_type| !data_type.is_floating();
        }
        info
    }

    fn check(&self, table: &FeatureKey, rows: &RecordBatch) -> Result<()> {
        self.inner.check(table, rows)
    }

    async fn open(&self, mode: AccessMode) -> Result<()> {
        self.inner.open(mode).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }

    async fn schema(&self, table: &FeatureKey) -> Result<Option<SchemaRef>> {
        self.inner.schema(table).await
    }

    async fn append(&self, table: &FeatureKey, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
        let batches = batches.iter().map(|batch| self.spoiled(batch)).collect::<Result<Vec<_>>>()?;
        let schema = batches.first().map_or(schema, RecordBatch::schema);
        if self.has(Defect::BatchByBatch) {
            return self.append_batch_by_batch(table, schema, batches).await;
        }
        if !self.has(Defect::TornWrite) {
            return self.inner.append(table, schema, batches).await;
        }
        for batch in batches {
            let half = batch.num_rows() / 2;
            for part in [batch.slice(0, half), batch.slice(half, batch.num_rows() - half)] {
                self.inner.append(table, schema.clone(), vec![part]).await?;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn scan(&self, table: &FeatureKey, request: &ScanRequest) -> Result<Scan> {
        let mut rows = self.rows(table, request).await?;
        if self.has(Defect::KeysForgotten) && request.keys.as_ref().is_some_and(|keys| keys.rows().num_rows() > 1) {
            rows = rows.slice(0, rows.num_rows().saturating_sub(1));
        }
        if self.has(Defect::SnapshotPerChunk) {
            return Ok(Scan { schema: rows.schema(), stream: self.chunks(table, request), applied: ScanStage::Filter });
        }
        Ok(Scan { schema: rows.schema(), stream: backend::stream_of(vec![rows]), applied: ScanStage::Filter })
    }

    async fn delete(&self, table: &FeatureKey, predicate: &Predicate) -> Result<u64> {
        if self.has(Defect::NoTableIsAnError) && self.schema(table).await?.is_none() {
            return Err(backend::not_found(&self.info(), table));
        }
        if self.has(Defect::FilterRefused) && matches!(predicate, Predicate::And(parts) if parts.iter().any(compares)) {
            let hint = "write it with values".to_owned();
            return Err(Error::Unsupported { what: "comparing columns".to_owned(), hint });
        }
        self.inner.delete(table, predicate).await
    }

    async fn drop_table(&self, table: &FeatureKey) -> Result<()> {
        self.inner.drop_table(table).await
    }

    async fn position(&self, table: &FeatureKey) -> Result<Option<Position>> {
        let position = self.inner.position(table).await?;
        if self.schema(table).await?.is_none() {
            return Ok(position);
        }
        if self.has(Defect::RemovalUnseen) {
            return Ok(Some(Position::new(self.all_rows(table).await?.num_rows().to_string())));
        }
        Ok(if self.has(Defect::PositionStandsStill) { Some(Position::new("still")) } else { position })
    }

    async fn appended(&self, table: &FeatureKey, since: &Position, columns: &[String]) -> Result<Appended> {
        if self.has(Defect::RemovalUnseen) {
            let rows = self.all_rows(table).await?;
            let known = since.as_str().parse().unwrap_or(0).min(rows.num_rows());
            let rows = rows.slice(known, rows.num_rows() - known);
            let rows =
                Scan { schema: rows.schema(), stream: backend::stream_of(vec![rows]), applied: ScanStage::Nothing };
            return Ok(Appended::Rows { rows, of: None });
        }
        match self.inner.appended(table, since, columns).await? {
            Appended::Rows { rows, of } if self.has(Defect::AppendedForgotten) => {
                let mut batches: Vec<RecordBatch> = rows.stream.try_collect().await?;
                batches.pop();
                Ok(Appended::Rows { rows: Scan { stream: backend::stream_of(batches), ..rows }, of })
            }
            answer => Ok(answer),
        }
    }

    async fn tables(&self) -> Result<Vec<String>> {
        self.inner.tables().await
    }

    fn prefers_native(&self, plan: &IncrementPlan) -> bool {
        self.inner.prefers_native(plan)
    }

    fn computes_on_cluster(&self) -> bool {
        self.inner.computes_on_cluster()
    }

    async fn resolve_natively(&self, request: NativeRequest<'_>) -> Result<NativeOutcome> {
        let settings = native::Settings {
            swaps_sides: self.has(Defect::SwappedJoinSide),
            forgets_renames: self.has(Defect::ForgottenRename),
        };
        native::resolve(self, request.plan, settings).await
    }
}
