//! Values about which executors of plain Ballista and the Arrow engine could differ.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, StructArray,
};
use arrow::datatypes::{DataType, Field};
use arrow::util::display::array_value_to_string;
use metaxy_core::{AccessMode, HashAlgorithm, MetadataStore, SharedBackend, VersioningEngine, columns};
use metaxy_delta::{DeltaBackend, DeltaConfig, Executors};
use metaxy_testkit::clock::ManualClock;

use crate::stock_processes::StockCluster;
use crate::tables::{graph, samples};

const HASH: HashAlgorithm = HashAlgorithm::Md5;

/// Opens a store for both engines: in this process, and on the cluster alone.
async fn stores(root: &str, cluster: &StockCluster) -> [MetadataStore; 2] {
    let clock = ManualClock::new();
    let config = DeltaConfig::new(root);
    let stock = config.clone().scheduler(cluster.url()).executors(Executors::Stock);
    let open = async |config: DeltaConfig, engine| {
        let backend: SharedBackend = Arc::new(DeltaBackend::new(config).unwrap());
        let builder = MetadataStore::builder(backend, graph()).hash_algorithm(HASH).clock(clock.clone());
        builder.versioning_engine(engine).open(AccessMode::ReadWrite).await.unwrap()
    };
    [open(config, VersioningEngine::Arrow).await, open(stock, VersioningEngine::Native).await]
}

/// Returns the new rows of an increment as sorted lines.
async fn new_rows(store: &MetadataStore) -> Vec<String> {
    let new = store.resolve_update("both").await.unwrap().new;
    let mut lines = Vec::new();
    for batch in new.batches() {
        let cell = |column: &ArrayRef, row| array_value_to_string(column, row).unwrap();
        let line = |row: usize| batch.columns().iter().map(|column| cell(column, row)).collect::<Vec<_>>().join(" ");
        lines.extend((0..batch.num_rows()).map(line));
    }
    lines.sort();
    lines
}

/// Adds columns to samples.
fn with(rows: &RecordBatch, added: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let schema = rows.schema();
    let own = schema.fields().iter().map(|field| field.name().as_str()).zip(rows.columns().iter().cloned());
    RecordBatch::try_from_iter(own.chain(added)).unwrap()
}

async fn compared(stores: &[MetadataStore; 2], rows: usize) {
    let [arrow, stock] = stores;
    let expected = new_rows(arrow).await;
    assert_eq!(expected.len(), rows);
    assert_eq!(new_rows(stock).await, expected);
}

fn list(items: &[Option<&str>]) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for item in items {
        match item {
            Some(text) => builder.append_value(text.split_terminator(',').map(|item| (item != "null").then_some(item))),
            None => builder.append_null(),
        }
    }
    Arc::new(builder.finish())
}

/// Writes of one time, whose rows differ in one column: the greatest row counts, by floats, lists and structs too.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_one_time_agree() {
    let cluster = StockCluster::shared();
    let floats = [None, Some(f64::NEG_INFINITY), Some(-0.0), Some(0.0), Some(1.5), Some(f64::NAN)];
    let lists = [None, Some(""), Some("null"), Some("a"), Some("a,null"), Some("a,b")];
    let member = Arc::new(Field::new("m", DataType::Int32, true));
    let structs = |at: usize| -> ArrayRef {
        let values: ArrayRef =
            Arc::new(Int32Array::from(vec![[None, Some(-1), Some(0), None, Some(7), Some(8)][at]; 2]));
        let nulls = arrow::buffer::NullBuffer::from(vec![at != 0; 2]);
        Arc::new(StructArray::new(vec![member.clone()].into(), vec![values], Some(nulls)))
    };
    for order in [[0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]] {
        let column = |name: &str, at: usize| -> ArrayRef {
            match name {
                "float" => Arc::new(Float64Array::from(vec![floats[at]; 2])),
                "list" => list(&[lists[at]; 2]),
                _ => structs(at),
            }
        };
        for name in ["float", "list", "struct"] {
            let directory = tempfile::tempdir().unwrap();
            let stores = stores(&directory.path().display().to_string(), &cluster).await;
            for at in order {
                let rows = with(&samples("left", 0..2, "1"), vec![(name, column(name, at))]);
                stores[0].write("left", rows).await.unwrap();
            }
            stores[0].write("right", samples("right", 0..2, "1")).await.unwrap();
            compared(&stores, 2).await;
        }
    }
}

/// Files from before a column, or a member of a struct, was added.
#[tokio::test(flavor = "multi_thread")]
async fn columns_that_older_files_lack_are_null() {
    let cluster = StockCluster::shared();
    let directory = tempfile::tempdir().unwrap();
    let stores = stores(&directory.path().display().to_string(), &cluster).await;
    let members = |names: &[&str]| -> ArrayRef {
        let member = |name: &&str| {
            let values: ArrayRef = Arc::new(StringArray::from(vec![*name; 3]));
            (Arc::new(Field::new(*name, DataType::Utf8, true)), values)
        };
        Arc::new(StructArray::from(names.iter().map(member).collect::<Vec<_>>()))
    };
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    stores[0].write("left", samples("left", 0..3, "1")).await.unwrap();
    let rows = with(&samples("left", 3..6, "1"), vec![("of", members(&["a"]))]);
    stores[0].write("left", rows).await.unwrap();
    let rows = with(&samples("left", 6..9, "1"), vec![("of", members(&["a", "b"])), ("number", numbers)]);
    stores[0].write("left", rows).await.unwrap();
    stores[0].write("right", samples("right", 0..9, "1")).await.unwrap();
    compared(&stores, 9).await;
}

/// Keys of one value in tables of two types, and versions that are no hashes.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_other_types_and_any_versions_agree() {
    let cluster = StockCluster::shared();
    let directory = tempfile::tempdir().unwrap();
    let stores = stores(&directory.path().display().to_string(), &cluster).await;
    let left = samples("left", 0..5, "1");
    let ids: ArrayRef = Arc::new(Int32Array::from_iter_values(0..5));
    let versions: ArrayRef = Arc::new(StringArray::from(vec!["1", "2", "", "|", "é"]));
    let field = Arc::new(Field::new("default", DataType::Utf8, true));
    let provenance: ArrayRef = Arc::new(StructArray::from(vec![(field, versions)]));
    let right = [("id", ids), ("right", left.column(1).clone()), (columns::PROVENANCE_BY_FIELD, provenance)];
    stores[0].write("left", left).await.unwrap();
    stores[0].write("right", RecordBatch::try_from_iter(right).unwrap()).await.unwrap();
    compared(&stores, 5).await;
}
