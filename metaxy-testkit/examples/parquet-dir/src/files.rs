//! The files. A table is a directory; each write adds a data file to it, and then a file to its log, `log/<number>`. The
//! newest log file is the table: its schema is the table's, and names the data files. Creating it is the one step that
//! makes a change visible, and only one writer can create a number: who is too late looks again and takes the next.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt};
use metaxy_core::backend::{AccessMode, BatchStream};
use metaxy_core::error::BoxError;
use metaxy_core::schema::conform;
use metaxy_core::{Error, FeatureKey, Result, blocking, fence};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, local::LocalFileSystem, path::Path};
use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};

use crate::KIND;

/// The key under which a log file's schema names the data files.
const DATA: &str = "data files";

#[derive(Clone, Debug)]
pub(crate) struct Files(Arc<LocalFileSystem>);

/// A table at one moment; without a schema there is none.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) number: u64,
    pub(crate) schema: Option<SchemaRef>,
    pub(crate) data: Vec<String>,
}

impl Files {
    pub(crate) async fn open(path: &std::path::Path, mode: AccessMode) -> Result<Self> {
        if mode == AccessMode::ReadWrite {
            tokio::fs::create_dir_all(path).await.map_err(failed)?;
        } else if !path.is_dir() {
            let hint = "correct `path`, or open it for writing first".to_owned();
            return Err(Error::location_not_found(path.display(), hint));
        }
        Ok(Self(Arc::new(LocalFileSystem::new_with_prefix(path).map_err(failed)?)))
    }

    pub(crate) async fn state(&self, table: &str) -> Result<State> {
        let logs: Vec<_> = self.0.list(Some(&format!("{table}/log").into())).try_collect().await.map_err(failed)?;
        let Some(newest) = logs.into_iter().map(|file| file.location.to_string()).max() else {
            return Ok(State::default());
        };
        let number = newest.rsplit('/').next().and_then(|name| name.parse().ok()).unwrap_or_default();
        let mut schema = Schema::clone(self.reader(&newest).await?.schema());
        let data = schema.metadata.remove(DATA).unwrap_or_default();
        let schema = (!schema.fields.is_empty()).then(|| schema.into());
        Ok(State { number, schema, data: data.split_whitespace().map(str::to_owned).collect() })
    }

    /// Makes a state the newest one; false where another writer was faster.
    pub(crate) async fn commit(&self, table: &str, state: State) -> Result<bool> {
        let mut schema = state.schema.map_or_else(Schema::empty, |schema| Schema::clone(&schema));
        schema.metadata.insert(DATA.to_owned(), state.data.join(" "));
        let path = format!("{table}/log/{:020}", state.number + 1);
        match self.create(&path, encode(schema.into(), &[])?).await {
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            created => created.map(|()| true).map_err(failed),
        }
    }

    /// Writes a data file, which belongs to no table yet; its path.
    pub(crate) async fn write(&self, table: &str, schema: SchemaRef, rows: Vec<RecordBatch>) -> Result<String> {
        let path = format!("{table}/{}.parquet", uuid::Uuid::new_v4());
        let bytes = blocking::run(move || encode(schema, &rows)).await?;
        self.create(&path, bytes).await.map_err(failed)?;
        Ok(path)
    }

    /// Creates a file, whole and for good: no power cut takes it away.
    async fn create(&self, path: &str, bytes: Vec<u8>) -> object_store::Result<()> {
        self.0.put_opts(&path.into(), bytes.into(), PutMode::Create.into()).await?;
        let file = self.0.path_to_filesystem(&path.into())?;
        let sync = move || file.ancestors().take(3).try_for_each(|path| std::fs::File::open(path)?.sync_all());
        let generic = |error: Error| object_store::Error::Generic { store: KIND, source: error.into() };
        blocking::run(move || sync().map_err(failed)).await.map_err(generic)
    }

    /// The rows of data files, in the schema of their table.
    pub(crate) fn rows(self, table: &FeatureKey, schema: &SchemaRef, data: Vec<String>) -> BatchStream {
        let (table, schema) = (table.clone(), schema.clone());
        let rows = futures::stream::iter(data)
            .then(move |file| self.clone().read(file))
            .map_ok(|batches| futures::stream::iter(batches.into_iter().map(Ok)))
            .try_flatten()
            // A file may be older than some columns of its table.
            .map(move |batch: Result<RecordBatch>| conform(&table, &schema, &batch?));
        rows.boxed()
    }

    async fn read(self, path: String) -> Result<Vec<RecordBatch>> {
        let rows = self.reader(&path).await?.build().map_err(failed)?;
        blocking::run(move || fence::decode(path, || Ok(rows.collect::<Result<_, _>>()?))).await
    }

    async fn reader(&self, path: &str) -> Result<ParquetRecordBatchReaderBuilder<bytes::Bytes>> {
        let bytes = self.0.get(&path.into()).await.map_err(failed)?.bytes().await.map_err(failed)?;
        fence::decode(path, || ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(failed))
    }

    pub(crate) async fn tables(&self) -> Result<Vec<String>> {
        let directories = self.0.list_with_delimiter(None).await.map_err(failed)?.common_prefixes;
        let mut tables = Vec::new();
        for table in directories.iter().map(Path::to_string) {
            if self.state(&table).await?.schema.is_some() {
                tables.push(table);
            }
        }
        Ok(tables)
    }
}

/// The bytes of a Parquet file.
fn encode(schema: SchemaRef, rows: &[RecordBatch]) -> Result<Vec<u8>> {
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).map_err(failed)?;
    rows.iter().try_for_each(|batch| writer.write(batch)).map_err(failed)?;
    writer.into_inner().map_err(failed)
}

fn failed(error: impl Into<BoxError>) -> Error {
    Error::backend(KIND, "reading or writing its files", error)
}
