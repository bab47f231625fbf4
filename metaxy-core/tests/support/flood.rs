//! A store with more rows than fit into memory, and one that drops written rows.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::StreamExt;
use metaxy_core::filter::Predicate;
use metaxy_core::{
    AccessMode, BackendInfo, Capabilities, FeatureKey, HashAlgorithm, Result, Scan, ScanRequest, ScanStage,
    StoreBackend, columns,
};

const BATCH: usize = 8192;
const PAYLOAD: usize = 1024;

fn info(kind: &'static str) -> BackendInfo {
    BackendInfo {
        kind,
        location: kind.to_owned(),
        default_hash: HashAlgorithm::Xxhash32,
        flat_names: false,
        auto_create_tables: true,
        capabilities: Capabilities::default(),
    }
}

/// One table `raw/video`, created while it is read: every sample several times, in rounds.
#[derive(Debug)]
pub struct Flood {
    samples: usize,
    rounds: usize,
    schema: SchemaRef,
}

impl Flood {
    pub fn new(samples: usize, rounds: usize) -> Self {
        let own = [Field::new("id", DataType::Int64, true), Field::new("payload", DataType::Utf8, true)];
        let system = columns::ALL.into_iter().filter_map(|name| columns::field(name, ["audio", "frames"]));
        Self { samples, rounds, schema: Arc::new(Schema::new(own.into_iter().chain(system).collect::<Vec<_>>())) }
    }

    fn column(field: &Field, first: usize, rows: usize, round: usize) -> ArrayRef {
        match field.name().as_str() {
            "id" => Arc::new(Int64Array::from_iter_values((first..first + rows).map(|id| id as i64))),
            "payload" => {
                let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(PAYLOAD, rows));
                Arc::new(StringArray::new(offsets, Buffer::from(vec![b'x'; PAYLOAD * rows]), None))
            }
            columns::DELETED_AT => new_null_array(field.data_type(), rows),
            columns::CREATED_AT | columns::UPDATED_AT => {
                Arc::new(TimestampMicrosecondArray::from(vec![round as i64; rows]).with_timezone("UTC"))
            }
            _ => match field.data_type() {
                DataType::Struct(members) => {
                    let text = || Arc::new(StringArray::from(vec!["v"; rows])) as ArrayRef;
                    Arc::new(StructArray::new(members.clone(), vec![text(), text()], None))
                }
                _ => Arc::new(StringArray::from(vec!["v"; rows])),
            },
        }
    }
}

#[async_trait::async_trait]
impl StoreBackend for Flood {
    fn info(&self) -> BackendInfo {
        info("flood")
    }

    async fn open(&self, _: AccessMode) -> Result<()> {
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }

    async fn schema(&self, table: &FeatureKey) -> Result<Option<SchemaRef>> {
        Ok((table.to_string() == "raw/video").then(|| self.schema.clone()))
    }

    async fn append(&self, _: &FeatureKey, _: SchemaRef, _: Vec<RecordBatch>) -> Result<()> {
        unreachable!("a source is not written")
    }

    async fn scan(&self, _: &FeatureKey, request: &ScanRequest) -> Result<Scan> {
        let names = request.columns_needed(&self.schema, ScanStage::Nothing);
        let fields: Vec<Field> = names.iter().map(|name| self.schema.field_with_name(name).unwrap().clone()).collect();
        let schema = Arc::new(Schema::new(fields));
        let samples = self.samples;
        let pieces =
            (0..self.rounds).flat_map(move |round| (0..samples).step_by(BATCH).map(move |first| (round, first)));
        let stream = futures::stream::iter(pieces).map({
            let schema = schema.clone();
            move |(round, first)| {
                let rows = BATCH.min(samples - first);
                let arrays = schema.fields().iter().map(|field| Self::column(field, first, rows, round)).collect();
                Ok(RecordBatch::try_new(schema.clone(), arrays)?)
            }
        });
        Ok(Scan { schema, stream: stream.boxed(), applied: ScanStage::Nothing })
    }

    async fn delete(&self, _: &FeatureKey, _: &Predicate) -> Result<u64> {
        unreachable!("a source is not written")
    }

    async fn drop_table(&self, _: &FeatureKey) -> Result<()> {
        unreachable!("a source is not written")
    }

    async fn tables(&self) -> Result<Vec<String>> {
        Ok(vec!["raw__video".to_owned()])
    }
}

/// Counts written rows, and drops them.
#[derive(Debug, Default)]
pub struct Sink {
    schema: Mutex<Option<SchemaRef>>,
    rows: AtomicUsize,
    largest_write: AtomicUsize,
}

impl Sink {
    pub fn rows(&self) -> usize {
        self.rows.load(Ordering::SeqCst)
    }

    /// Returns the bytes of the largest write.
    pub fn largest_write(&self) -> usize {
        self.largest_write.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl StoreBackend for Sink {
    fn info(&self) -> BackendInfo {
        info("sink")
    }

    async fn open(&self, _: AccessMode) -> Result<()> {
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }

    async fn schema(&self, _: &FeatureKey) -> Result<Option<SchemaRef>> {
        Ok(self.schema.lock().unwrap().clone())
    }

    async fn append(&self, _: &FeatureKey, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
        *self.schema.lock().unwrap() = Some(schema);
        self.rows.fetch_add(batches.iter().map(RecordBatch::num_rows).sum(), Ordering::SeqCst);
        let bytes = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        self.largest_write.fetch_max(bytes, Ordering::SeqCst);
        Ok(())
    }

    async fn scan(&self, _: &FeatureKey, _: &ScanRequest) -> Result<Scan> {
        unreachable!("nothing is kept that could be read")
    }

    async fn delete(&self, _: &FeatureKey, _: &Predicate) -> Result<u64> {
        unreachable!("nothing is kept that could be deleted")
    }

    async fn drop_table(&self, _: &FeatureKey) -> Result<()> {
        unreachable!("nothing is kept that could be dropped")
    }

    async fn tables(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}
