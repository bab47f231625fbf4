//! This program and the Python package write to one store in turns.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DurationMicrosecondArray, Float64Array,
    Int64Array, ListArray, RecordBatch, StringArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
    UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use metaxy_testkit::fixtures::tables::batch;
use metaxy_testkit::python::{Program, Project, Pushes, Python};

use crate::actions;

/// Returns a configuration whose store has these settings.
fn config(top: &str, settings: &str) -> String {
    let store = "[stores.dev]\ntype = \"metaxy.ext.polars.handlers.delta.DeltaMetadataStore\"\n[stores.dev.config]";
    format!("{top}\nstore = \"dev\"\nproject = \"both\"\n{store}\nroot_path = \"${{HOME}}/store\"\n{settings}")
}

/// Returns a project whose store has these settings.
fn project(python: &Python, top: &str, settings: &str) -> Project {
    Project::new(python, &config(top, settings))
}

/// Returns the first metadata in the log of the table of `raw/video`.
fn metadata(project: &Project) -> serde_json::Value {
    let log = project.directory().join("store/raw/video.delta/_delta_log");
    actions(&log).into_iter().find_map(|action| action.get("metaData").cloned()).unwrap()
}

fn ids(ids: &[i64]) -> (&'static str, ArrayRef) {
    ("id", Arc::new(Int64Array::from(ids.to_vec())))
}

/// Returns a column that is null for every third id.
fn column<A: Array + From<Vec<Option<T>>> + 'static, T>(ids: &[i64], value: impl Fn(i64) -> T) -> ArrayRef {
    Arc::new(A::from(ids.iter().map(|id| (id % 3 != 0).then(|| value(*id))).collect::<Vec<_>>()))
}

/// Returns texts that must be escaped in a path, and types whose values are texts in the log.
fn partitions(numbers: &[i64]) -> RecordBatch {
    let texts = ["a: b", "ü/x%20 \"=", "x"];
    batch([
        ids(numbers),
        ("p", column::<StringArray, _>(numbers, |id| texts[id as usize % 3].to_owned())),
        ("day", column::<Date32Array, _>(numbers, |id| id as i32 - 3)),
        ("at", column::<TimestampMicrosecondArray, _>(numbers, |id| id * 1_500_001 - 4_000_000)),
        ("n", column::<Int64Array, _>(numbers, |id| -id)),
        ("flag", column::<BooleanArray, _>(numbers, |id| id > 3)),
    ])
}

/// Returns values that Python's writer stores in a type with the same values.
fn values(numbers: &[i64]) -> RecordBatch {
    let u16s = Arc::new(UInt16Array::from_iter_values(numbers.iter().map(|id| *id as u16)));
    let item = Arc::new(Field::new_list_field(DataType::UInt16, true));
    let list = ListArray::new(item, OffsetBuffer::from_lengths(vec![1; numbers.len()]), u16s, None);
    let member = Field::new("m", DataType::UInt64, true);
    let member = StructArray::new(vec![member].into(), vec![column::<UInt64Array, _>(numbers, |id| id as u64)], None);
    let at = |id: i64| id * 86_400_123_456 - 200_000_000_000;
    let utc = TimestampMicrosecondArray::from_iter_values(numbers.iter().map(|id| at(*id))).with_timezone("UTC");
    let digits = Decimal128Array::from_iter_values(numbers.iter().map(|id| i128::from(*id) * 105));
    batch([
        ids(numbers),
        ("at", column::<TimestampMicrosecondArray, _>(numbers, at)),
        ("utc", Arc::new(utc)),
        ("day", column::<Date32Array, _>(numbers, |id| id as i32 * 5_000 - 10_000)),
        ("u8", column::<UInt8Array, _>(numbers, |id| id as u8 + 85)),
        ("u16", column::<UInt16Array, _>(numbers, |id| id as u16 + 32_000)),
        ("u32", column::<UInt32Array, _>(numbers, |id| id as u32 + 2_147_483_000)),
        ("u64", column::<UInt64Array, _>(numbers, |id| i64::MAX as u64 - id as u64)),
        ("real", column::<Float64Array, _>(numbers, |id| id as f64 / 3.0)),
        ("blob", Arc::new(BinaryArray::from_iter_values(numbers.iter().map(|id| [*id as u8, 0xff])))),
        ("digits", Arc::new(digits.with_precision_and_scale(10, 2).unwrap())),
        ("list", Arc::new(list)),
        ("struct", Arc::new(member)),
    ])
}

/// Returns times of day and durations, which Python does not have: it reads them as integers.
fn times(by: Program, numbers: &[i64]) -> RecordBatch {
    let columns = [
        ("time", column::<Time64MicrosecondArray, _>(numbers, |id| id * 3_600_000_001)),
        ("lasts", column::<DurationMicrosecondArray, _>(numbers, |id| id * 1_000_000 - 2)),
    ];
    let columns = columns.map(|(name, values)| match by {
        Program::Rust => (name, values),
        Program::Python => (name, cast(&values, &DataType::Int64).unwrap()),
    });
    batch([ids(numbers)].into_iter().chain(columns))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitioned_tables() {
    let Some(python) = Python::for_test(&["deltalake"]) else { return };
    let by = ["p", "day", "at", "n", "flag"];
    for first in [Program::Rust, Program::Python] {
        let settings = format!("[stores.dev.config.delta_write_options]\npartition_by = {by:?}");
        let project = project(&python, "", &settings);
        project.take_turns(first, |_, ids| partitions(ids)).await;
        assert_eq!(metadata(&project)["partitionColumns"], serde_json::json!(by), "{first:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_of_every_type_that_both_write() {
    let Some(python) = Python::for_test(&["deltalake"]) else { return };
    for first in [Program::Rust, Program::Python] {
        project(&python, "", "").take_turns(first, |_, ids| values(ids)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_grow_by_both() {
    let Some(python) = Python::for_test(&["deltalake"]) else { return };
    for adding in [[Program::Rust, Program::Python], [Program::Python, Program::Rust]] {
        project(&python, "", "").grow(&adding, |_, ids| values(ids)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_append_at_once() {
    let Some(python) = Python::for_test(&["deltalake"]) else { return };
    project(&python, "", "").append_at_once(40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_that_python_reads_as_numbers() {
    let Some(python) = Python::for_test(&["deltalake"]) else { return };
    project(&python, "", "").exchange(Program::Rust, times).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maps() {
    let Some(python) = Python::for_test(&["deltalake", "polars_map", "narwhals_map"]) else { return };
    for first in [Program::Rust, Program::Python] {
        let project = project(&python, "enable_map_datatype = true", "layout = \"nested\"");
        project.take_turns(first, |_, numbers| batch([ids(numbers)])).await;
        let schema = metadata(&project)["schemaString"].as_str().unwrap().to_owned();
        assert!(schema.contains(r#""type":"map""#), "{first:?}: {schema}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushed_definitions() {
    let Some(python) = Python::for_test(&["deltalake"]) else { return };
    for first in [Program::Rust, Program::Python] {
        for (layout, table) in
            [("nested", "metaxy-system/feature_versions.delta"), ("flat", "metaxy_system__feature_versions.delta")]
        {
            let pushes = Pushes::new(&python, &config("", &format!("layout = \"{layout}\"")));
            pushes.take_turns(first).await;
            let log = pushes.directory().join("store").join(table).join("_delta_log");
            let metadata = actions(&log).into_iter().find_map(|action| action.get("metaData").cloned()).unwrap();
            let schema: serde_json::Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
            let types: Vec<String> = schema["fields"]
                .as_array()
                .unwrap()
                .iter()
                .map(|field| format!("{} {}", field["name"].as_str().unwrap(), field["type"].as_str().unwrap()))
                .collect();
            assert_eq!(types.len(), 11, "{first:?}: {types:?}");
            for name in ["recorded_at", "deleted_at"] {
                assert!(types.contains(&format!("{name} timestamp_ntz")), "{first:?}: {types:?}");
            }
        }
    }
}
