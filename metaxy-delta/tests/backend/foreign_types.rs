//! Columns have the types of the Python package's writer, so that both programs can write one table.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date64Array, DurationNanosecondArray, Int64Array, LargeBinaryArray, ListArray,
    RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, TimeUnit};
use metaxy_core::{AccessMode, Error, FeatureGraph, FeatureSpec, MetadataStore, StoreBackend, columns};
use metaxy_delta::{DeltaBackend, DeltaConfig};
use serde_json::{Value, json};

use crate::foreign::{Foreign, field, metadata, plain_protocol};
use crate::{TABLE, actions, append, key, local, opened, read};

fn column(name: &str, values: impl Array + 'static) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([(name, Arc::new(values) as ArrayRef, true)]).unwrap()
}

/// Returns the types of the columns in the last schema of the log.
fn types(log: &std::path::Path) -> Value {
    let actions = actions(log);
    let last = actions.iter().rev().find(|action| action.get("metaData").is_some()).unwrap();
    let schema: Value = serde_json::from_str(last["metaData"]["schemaString"].as_str().unwrap()).unwrap();
    schema["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| (field["name"].to_string(), field["type"].clone()))
        .collect()
}

async fn stored_type(values: impl Array + 'static) -> Value {
    let root = tempfile::tempdir().unwrap();
    let backend = opened(&local(root.path())).await;
    let given: ArrayRef = Arc::new(values);
    append(&backend, column("x", given.clone())).await.unwrap();
    let rows = read(&backend).await.unwrap();
    let back = cast(rows.column(0), given.data_type()).unwrap();
    assert_eq!(back.to_data(), given.to_data());
    types(&root.path().join("raw/video.delta/_delta_log"))["\"x\""].clone()
}

#[tokio::test]
async fn new_columns_have_the_types_of_the_python_writer() {
    let list = |values: UInt16Array| {
        let item = Arc::new(Field::new_list_field(DataType::UInt16, true));
        ListArray::new(item, OffsetBuffer::from_lengths([values.len()]), Arc::new(values), None)
    };
    let member = Field::new("m", DataType::UInt64, true);
    let member = StructArray::new(vec![member].into(), vec![Arc::new(UInt64Array::from(vec![7]))], None);
    let found = [
        stored_type(TimestampNanosecondArray::from(vec![1_000, -1_000])).await,
        stored_type(TimestampNanosecondArray::from(vec![1_000]).with_timezone("UTC")).await,
        stored_type(TimestampMillisecondArray::from(vec![1])).await,
        stored_type(Date64Array::from(vec![86_400_000])).await,
        stored_type(UInt8Array::from(vec![0, 127])).await,
        stored_type(UInt16Array::from(vec![0, 32_767])).await,
        stored_type(UInt32Array::from(vec![0, i32::MAX as u32])).await,
        stored_type(UInt64Array::from(vec![0, i64::MAX as u64])).await,
        stored_type(LargeBinaryArray::from(vec![b"x".as_slice()])).await,
        stored_type(list(UInt16Array::from(vec![1]))).await,
        stored_type(member).await,
    ];
    let expected = [
        json!("timestamp_ntz"),
        json!("timestamp"),
        json!("timestamp_ntz"),
        json!("timestamp_ntz"),
        json!("byte"),
        json!("short"),
        json!("integer"),
        json!("long"),
        json!("binary"),
        json!({"type": "array", "elementType": "short", "containsNull": true}),
        json!({"type": "struct", "fields": [field("m", "long")]}),
    ];
    assert_eq!(found, expected);
    // For types that Python refuses, a type is used that can store them.
    assert_eq!(stored_type(UInt8Array::from(vec![0, 128])).await, "short");
    assert_eq!(stored_type(UInt64Array::from(vec![u64::MAX])).await, "decimal(20,0)");
    assert_eq!(stored_type(DurationNanosecondArray::from(vec![1])).await, "long");
}

/// `check` and writes refuse them with the column and the row, and nothing is written.
#[tokio::test]
async fn fractions_of_microseconds_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let backend = opened(&local(root.path())).await;
    let nested = |nanos: TimestampNanosecondArray| {
        let item = Arc::new(Field::new_list_field(DataType::Timestamp(TimeUnit::Nanosecond, None), true));
        ListArray::new(item, OffsetBuffer::from_lengths([1, nanos.len() - 1]), Arc::new(nanos), None)
    };
    let beyond = TimestampMillisecondArray::from(vec![0, i64::MAX]);
    let fine = TimestampNanosecondArray::from(vec![0, 1]);
    for rows in [column("x", fine.clone()), column("x", nested(fine)), column("x", beyond)] {
        for error in [backend.check(&key(TABLE), &rows).unwrap_err(), append(&backend, rows).await.unwrap_err()] {
            assert!(matches!(&error, Error::InvalidValue { column, row: 1, .. } if column == "x"), "{error:?}");
        }
    }
    assert!(backend.schema(&key(TABLE)).await.unwrap().is_none());
}

#[tokio::test]
async fn values_too_large_for_a_column_of_signed_integers() {
    let root = tempfile::tempdir().unwrap();
    let backend = opened(&local(root.path())).await;
    append(&backend, column("x", UInt64Array::from(vec![1]))).await.unwrap();
    let error = append(&backend, column("x", UInt64Array::from(vec![2, u64::MAX]))).await.unwrap_err();
    assert!(matches!(error, Error::InvalidValue { row: 1, .. }), "{error:?}");
    assert_eq!(read(&backend).await.unwrap().num_rows(), 1);
}

/// Earlier versions stored nanoseconds as integers and unsigned 64-bit integers as decimals: such columns are kept.
#[tokio::test]
async fn columns_of_earlier_versions() {
    let of = |name: &str, data_type: &str, arrow: &str| {
        let mut field = field(name, data_type);
        field["metadata"] = json!({"metaxy.arrowType": arrow});
        field
    };
    let fields = [
        of("t", "long", "Timestamp(ns)"),
        of("u", "decimal(20,0)", "UInt64"),
        of("d", "long", "Date64"),
        field("n", "long"),
    ];
    let table = Foreign::new(plain_protocol(), metadata(&fields));
    let backend = opened(&table.settings()).await;
    let rows = |first: u64| {
        RecordBatch::try_from_iter_with_nullable([
            ("t", Arc::new(TimestampNanosecondArray::from(vec![first as i64])) as ArrayRef, true),
            ("u", Arc::new(UInt64Array::from(vec![u64::MAX - first])), true),
            ("d", Arc::new(Date64Array::from(vec![86_400_000])), true),
            ("n", Arc::new(Int64Array::from(vec![1])), true),
        ])
        .unwrap()
    };
    backend.schema(&key(TABLE)).await.unwrap();
    for first in [1, 2] {
        backend.check(&key(TABLE), &rows(first)).unwrap();
        append(&backend, rows(first)).await.unwrap();
    }
    let found = read(&backend).await.unwrap();
    assert_eq!(found.schema(), rows(1).schema());
    let mut found: Vec<u64> = found.column(1).as_primitive::<arrow::datatypes::UInt64Type>().values().to_vec();
    found.sort_unstable();
    assert_eq!(found, [u64::MAX - 2, u64::MAX - 1]);
    assert_eq!(types(&table.log())["\"t\""], "long");
}

/// The setting of the Python package, in a configuration that both programs use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_field_columns_are_maps_if_configured() {
    let root = tempfile::tempdir().unwrap();
    let config = |enabled: bool| {
        let text = format!(
            "enable_map_datatype = {enabled}\nstore = \"dev\"\n[stores.dev]\ntype = \"delta\"\n\
             [stores.dev.config]\nroot_path = \"{}\"\n",
            root.path().join("store").display()
        );
        metaxy_core::MetaxyConfig::from_toml_str(&text).unwrap()
    };
    let up = FeatureSpec::builder("up").id_columns(["id"]).build().unwrap();
    let graph = FeatureGraph::new([up]).unwrap();
    for enabled in [true, false] {
        let store = config(enabled).open_store("dev", graph.clone(), AccessMode::ReadWrite).await.unwrap();
        store.write("up", rows(&(Arc::new(StringArray::from(vec![format!("{enabled}")])) as ArrayRef))).await.unwrap();
    }
    let types = types(&root.path().join("store/up.delta/_delta_log"));
    let map = json!({"type": "map", "keyType": "string", "valueType": "string", "valueContainsNull": true});
    for name in [columns::PROVENANCE_BY_FIELD, columns::DATA_VERSION_BY_FIELD] {
        assert_eq!(types[format!("\"{name}\"")], map);
    }
}

/// Equal ids match even if the two programs have stored them in different types.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_match_what_the_python_writer_stores() {
    let millis = || TimestampMillisecondArray::from(vec![86_400_000, 1]);
    let pairs: Vec<(ArrayRef, ArrayRef)> = vec![
        (Arc::new(UInt64Array::from(vec![1, 2])), Arc::new(Int64Array::from(vec![1, 2]))),
        (Arc::new(UInt64Array::from(vec![1, u64::MAX])), Arc::new(UInt64Array::from(vec![1, u64::MAX]))),
        (Arc::new(millis()), Arc::new(TimestampMicrosecondArray::from(vec![86_400_000_000, 1_000]))),
        (Arc::new(millis()), Arc::new(TimestampNanosecondArray::from(vec![86_400_000_000_000, 1_000_000]))),
        (
            Arc::new(LargeBinaryArray::from(vec![b"a".as_slice(), b"\xff"])),
            Arc::new(arrow::array::BinaryArray::from(vec![b"a".as_slice(), b"\xff"])),
        ),
    ];
    for (one, other) in pairs.into_iter().flat_map(|(one, other)| [(one.clone(), other.clone()), (other, one)]) {
        let what = format!("{} and {}", one.data_type(), other.data_type());
        let root = tempfile::tempdir().unwrap();
        let store = store(local(root.path())).await;
        store.write("up", rows(&one)).await.unwrap();
        let increment = store.resolve_update("down").await.unwrap();
        assert_eq!(increment.new.num_rows(), 2, "{what}");
        let result = increment.new.to_batch().unwrap();
        let versions = result.column_by_name(columns::PROVENANCE_BY_FIELD).unwrap().clone();
        let ids = result.column_by_name("id").unwrap();
        let ids = cast(ids, other.data_type()).unwrap();
        let done = RecordBatch::try_from_iter_with_nullable([
            ("id", ids, true),
            (columns::PROVENANCE_BY_FIELD, versions, true),
        ]);
        store.write("down", done.unwrap()).await.unwrap();
        assert!(store.resolve_update("down").await.unwrap().is_empty(), "{what}");
        let samples = store.resolve_update("up").samples(rows(&other)).await.unwrap();
        assert!(samples.is_empty(), "{what}: {samples:?}");
    }
}

async fn store(settings: DeltaConfig) -> MetadataStore {
    let up = FeatureSpec::builder("up").id_columns(["id"]).build().unwrap();
    let down = FeatureSpec::builder("down").id_columns(["id"]).dep("up").build().unwrap();
    let graph = FeatureGraph::new([up, down]).unwrap();
    let backend = Arc::new(DeltaBackend::new(settings).unwrap());
    MetadataStore::builder(backend, graph).open(AccessMode::ReadWrite).await.unwrap()
}

fn rows(ids: &ArrayRef) -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["v1"; ids.len()]));
    let provenance = columns::by_field([("default", texts)]).unwrap();
    RecordBatch::try_from_iter_with_nullable([
        ("id", ids.clone(), true),
        (columns::PROVENANCE_BY_FIELD, provenance, true),
    ])
    .unwrap()
}
