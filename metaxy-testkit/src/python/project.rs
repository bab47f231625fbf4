//! One project of both programs: they use its store in turns, and each has to continue from the state of the other.

use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, concat_batches, nullif, sort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, MetadataStore, MetaxyConfig, col, columns};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::{Conversation, Python};
use crate::fixtures::tables::{batch, ints};

const STEPS: &str = include_str!("steps.py");

/// The root feature, and the feature that depends on it.
const UP: &str = "raw/video";
const DOWN: &str = "made/video-text";

/// The program that takes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// This program.
    Rust,
    /// The Python package.
    Python,
}

impl Program {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Rust => Self::Python,
            Self::Python => Self::Rust,
        }
    }
}

/// A directory with one `metaxy.toml` and one graph: `raw/video` of two fields, and `made/video-text` of the first
/// field.
#[derive(Debug)]
pub struct Project {
    python: Mutex<Conversation>,
    graph: FeatureGraph,
    directory: TempDir,
}

impl Project {
    /// Creates a project with this entry of a `metaxy.toml` as its default store; `${HOME}` in it is the project's
    /// directory.
    ///
    /// # Panics
    /// If the directory cannot be written.
    pub fn new(python: &Python, config: &str) -> Self {
        let spec = |key: &str| FeatureSpec::builder(key).id_columns(["id"]);
        let text = metaxy_core::FieldSpec::new("text").depends_on(UP, ["audio"]);
        let specs = [spec(UP).fields(["audio", "frames"]), spec(DOWN).dep(UP).field(text)];
        let specs = specs.map(|spec| spec.build().expect("a spec"));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = config.replace("${HOME}", &directory.path().display().to_string());
        std::fs::write(directory.path().join("metaxy.toml"), config).expect("the file is written");
        let features = serde_json::to_string(&specs).expect("specs are JSON");
        std::fs::write(directory.path().join("features.json"), features).expect("the file is written");
        let python = Mutex::new(python.start(directory.path(), STEPS));
        Self { python, graph: FeatureGraph::new(specs).expect("a graph"), directory }
    }

    /// Returns the project's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns rows of `raw/video` with this version of the field `audio`, and with these columns.
    ///
    /// # Panics
    /// If the columns and the ids differ in length.
    pub fn samples(version: &str, columns_: RecordBatch) -> RecordBatch {
        let texts = |text: &str| crate::fixtures::tables::texts(&vec![text; columns_.num_rows()]);
        let by_field = columns::by_field([("audio", texts(version)), ("frames", texts("same"))]).expect("texts");
        columns::with_column(&columns_, columns::PROVENANCE_BY_FIELD, by_field).expect("one length")
    }

    /// Runs both programs in turns on the store, which the first one creates. `columns` returns the columns of samples,
    /// `id` first, as a program writes them; reads must return those of [`Program::Rust`].
    ///
    /// # Panics
    /// If one of them does not read the rows of the other.
    pub async fn take_turns(&self, first: Program, columns: impl Fn(Program, &[i64]) -> RecordBatch) {
        let second = first.other();
        let read = |ids: &[i64]| columns(Program::Rust, ids);
        self.write(first, "one", columns(first, &[1, 2, 3])).await;
        self.reads_alike(UP, &read(&[1, 2, 3])).await;
        self.processes(second, [3, 0, 0]).await;
        // One sample has changed, and two are new.
        self.write(second, "two", columns(second, &[3, 4, 5])).await;
        self.processes(first, [2, 1, 0]).await;
        let all = read(&[1, 2, 3, 4, 5]);
        self.reads_alike(UP, &all).await;
        self.reads_alike(DOWN, &all).await;
        for (deletes, sample) in [(first, 1), (second, 2)] {
            self.delete(deletes, UP, sample).await;
            assert_eq!(self.process(deletes.other()).await, [0, 0, 1], "deleted by {deletes:?}");
            self.delete(deletes.other(), DOWN, sample).await;
            self.processes(deletes, [0, 0, 0]).await;
        }
        self.write(first, "three", columns(first, &[6])).await;
        self.processes(second, [1, 0, 0]).await;
        self.reads_alike(UP, &read(&[3, 4, 5, 6])).await;
        self.reads_alike(DOWN, &read(&[3, 4, 5, 6])).await;
    }

    /// Writes samples of both programs into the table that the first one creates; Python processes all of them. The
    /// columns are as in [`take_turns`](Self::take_turns).
    ///
    /// # Panics
    /// If one of them does not read the rows of the other.
    pub async fn exchange(&self, first: Program, columns: impl Fn(Program, &[i64]) -> RecordBatch) {
        self.write(first, "one", columns(first, &[1, 2, 3])).await;
        self.write(first.other(), "two", columns(first.other(), &[3, 4, 5])).await;
        self.write(first, "three", columns(first, &[6])).await;
        self.reads_alike(UP, &columns(Program::Rust, &[1, 2, 3, 4, 5, 6])).await;
        self.processes(Program::Python, [6, 0, 0]).await;
    }

    /// Adds one column after the other to the table of `raw/video`, by the programs in `adding` in turns; the other program
    /// writes a sample with the same columns each time. Reads must return all of them. The columns are as in
    /// [`take_turns`](Self::take_turns).
    ///
    /// # Panics
    /// If one of them does not read what the other has added.
    pub async fn grow(&self, adding: &[Program], columns: impl Fn(Program, &[i64]) -> RecordBatch) {
        let width = columns(Program::Rust, &[1]).num_columns();
        for (column, adds) in (1..width).zip(adding.iter().cycle()) {
            let known: Vec<usize> = (0..=column).collect();
            for (by, id) in [*adds, adds.other()].into_iter().zip(ids_of(column)) {
                self.write(by, "one", columns(by, &[id]).project(&known).expect("it has these columns")).await;
            }
        }
        let ids: Vec<i64> = (1..width).flat_map(ids_of).collect();
        let all = columns(Program::Rust, &ids);
        let later = |(column, values): (usize, &ArrayRef)| {
            let unknown: BooleanArray = (1..width).flat_map(|row| [Some(row < column); 2]).collect();
            nullif(values, &unknown).expect("of one length")
        };
        let expected = all.columns().iter().enumerate().map(later).collect();
        let expected = RecordBatch::try_new(all.schema(), expected).expect("the same types");
        self.reads_alike(UP, &expected).await;
    }

    /// Appends so many samples by each program, one at a time and both at once; then both read all of them.
    ///
    /// # Panics
    /// If a sample is lost.
    pub async fn append_at_once(&self, count: i64) {
        let samples = |ids: &[i64]| batch([("id", ints(ids.iter().copied()))]);
        self.write(Program::Rust, "one", samples(&[0])).await;
        let ours = async {
            let store = self.store().await;
            for id in 1..=count {
                store.write(UP, Self::samples("one", samples(&[id]))).await.expect("a sample is written");
            }
            store.close().await.expect("the store closes");
        };
        let handle = Handle::current();
        tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| self.step(json!(["append", UP, [count + 1, count]])));
                handle.block_on(ours);
            });
        });
        let ids: Vec<i64> = (0..=2 * count).collect();
        self.reads_alike(UP, &samples(&ids)).await;
    }

    /// Checks that a program finds these numbers of new, stale and orphaned samples, and that neither finds any after
    /// it has processed them.
    async fn processes(&self, by: Program, expected: [usize; 3]) {
        assert_eq!(self.process(by).await, expected, "{by:?}");
        for program in [by, by.other()] {
            assert_eq!(self.process(program).await, [0, 0, 0], "{program:?}, after {by:?}");
        }
    }

    /// Checks that both programs read these columns, with the same versions of each row.
    async fn reads_alike(&self, feature: &str, expected: &RecordBatch) {
        let versions = [columns::PROVENANCE, columns::DATA_VERSION, columns::FEATURE_VERSION]
            .map(|name| Field::new(name, DataType::Utf8, true));
        let fields: Vec<Field> = expected.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        let wanted = Schema::new(fields.into_iter().chain(versions).collect::<Vec<_>>());
        let ours = typed(&self.read(Program::Rust, feature).await, &wanted);
        let theirs = typed(&self.read(Program::Python, feature).await, &wanted);
        let width: Vec<usize> = (0..expected.num_columns()).collect();
        assert_eq!(ours.project(&width).expect("columns").columns(), expected.columns(), "{feature}, read here");
        assert_eq!(ours, theirs, "{feature}, read by Python");
    }

    /// Writes samples.
    async fn write(&self, by: Program, version: &str, columns: RecordBatch) {
        let samples = Self::samples(version, columns);
        match by {
            Program::Rust => {
                let store = self.store().await;
                store.write(UP, samples).await.expect("samples are written");
                store.close().await.expect("the store closes");
            }
            Program::Python => {
                let file = File::create(self.directory().join("rows.arrow")).expect("the file is made");
                let mut writer = FileWriter::try_new(file, samples.schema_ref()).expect("the schema is written");
                writer.write(&samples).and_then(|()| writer.finish()).expect("the rows are written");
                self.step(json!(["write", UP, "rows.arrow"]));
            }
        }
    }

    async fn read(&self, by: Program, feature: &str) -> RecordBatch {
        match by {
            Program::Rust => {
                let store = self.store().await;
                let rows = store.read(feature).await.expect("a read").rows().await.expect("rows");
                store.close().await.expect("the store closes");
                rows.to_batch().expect("a batch")
            }
            Program::Python => {
                self.step(json!(["read", feature, "rows.arrow"]));
                let file = File::open(self.directory().join("rows.arrow")).expect("the file is there");
                let reader = FileReader::try_new(file, None).expect("an Arrow file");
                let schema = reader.schema();
                let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().expect("batches");
                concat_batches(&schema, &batches).expect("a batch")
            }
        }
    }

    /// Writes results for new and stale samples, and returns the numbers of new, stale and orphaned ones.
    async fn process(&self, by: Program) -> [usize; 3] {
        match by {
            Program::Rust => {
                let store = self.store().await;
                let increment = store.resolve_update(DOWN).await.expect("an increment");
                let counts = [&increment.new, &increment.stale, &increment.orphaned].map(metaxy_core::Rows::num_rows);
                for rows in [increment.new, increment.stale].into_iter().filter(|rows| !rows.is_empty()) {
                    store.write(DOWN, rows).await.expect("results are written");
                }
                store.close().await.expect("the store closes");
                counts
            }
            Program::Python => serde_json::from_str(&self.step(json!(["process", DOWN]))).expect("three numbers"),
        }
    }

    async fn delete(&self, by: Program, feature: &str, sample: i64) {
        match by {
            Program::Rust => {
                let store = self.store().await;
                store.delete(feature).filter(col("id").eq(sample)).await.expect("the sample is deleted");
                store.close().await.expect("the store closes");
            }
            Program::Python => drop(self.step(json!(["delete", feature, sample]))),
        }
    }

    /// Opens the store in this program. It must be closed again, because another process cannot always open it at the
    /// same time.
    async fn store(&self) -> MetadataStore {
        let config = MetaxyConfig::loader().directory(self.directory()).load().expect("a configuration");
        config.open_default_store(self.graph.clone(), AccessMode::ReadWrite).await.expect("the store opens")
    }

    fn step(&self, step: Value) -> String {
        self.python.lock().unwrap_or_else(PoisonError::into_inner).ask(&step.to_string())
    }
}

/// Returns the ids of the two samples that are written when a table gets a column; none is a multiple of three.
fn ids_of(column: usize) -> [i64; 2] {
    let first = 3 * column as i64 - 2;
    [first, first + 1]
}

/// Returns the columns, cast to these types and sorted by id.
fn typed(rows: &RecordBatch, schema: &Schema) -> RecordBatch {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let column = |field: &FieldRef| {
        let column = rows.column_by_name(field.name()).unwrap_or_else(|| panic!("no column `{}`", field.name()));
        cast_with_options(column, field.data_type(), &strict).unwrap_or_else(|error| panic!("{field}: {error}"))
    };
    let cast = RecordBatch::try_new(schema.clone().into(), schema.fields().iter().map(column).collect());
    let cast = cast.expect("columns of one length");
    let order = sort_to_indices(cast.column(0), None, None).expect("ids have an order");
    take_record_batch(&cast, &order).expect("rows")
}
