//! Values of partition columns, which are texts in the log.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow::compute::{cast, concat, sort_to_indices, take};
use arrow::datatypes::{DataType, Int64Type};
use metaxy_core::{Error, StoreBackend};
use metaxy_delta::DeltaBackend;
use metaxy_testkit::fixtures::tables::{batch, ints};
use serde_json::json;

use crate::foreign::{Foreign, field, metadata, plain_protocol};
use crate::{TABLE, append, key, local, opened, read};

fn samples(ids: std::ops::Range<i64>, values: &ArrayRef) -> RecordBatch {
    batch([("id", ints(ids)), ("p", values.clone())])
}

/// Returns the values of `p`, in the order of ids.
async fn values(backend: &DeltaBackend) -> ArrayRef {
    let rows = read(backend).await.unwrap();
    let order = sort_to_indices(rows.column_by_name("id").unwrap(), None, None).unwrap();
    take(rows.column_by_name("p").unwrap(), &order, None).unwrap()
}

/// Values that the log can represent are read back, each in its own partition; others are refused with their row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_read_back_or_refused() {
    let year = |year: i64| (year - 1970) * 31_556_952_000_000;
    let ends = vec![i64::MIN, i64::MAX, year(-3), year(10_001), year(150_000), year(1), year(9_999), -1, 0];
    let days: Vec<i32> = ends.iter().map(|micros| (micros / 86_400_000_000) as i32).collect();
    let long = [250, 253, 254, 100_000].map(|length| "x".repeat(length));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(long.into_iter().chain([82, 85].map(|length| "/".repeat(length))))),
        Arc::new(StringArray::from(vec![
            "",
            " ",
            "null",
            "__HIVE_DEFAULT_PARTITION__",
            "..",
            "a/b",
            "ü\n\t\\\"%20",
            "\u{0}",
        ])),
        Arc::new(TimestampMicrosecondArray::from(ends.clone())),
        Arc::new(TimestampMicrosecondArray::from(ends).with_timezone("UTC")),
        Arc::new(Date32Array::from(days)),
        Arc::new(Float64Array::from(vec![
            f64::MAX,
            f64::MIN_POSITIVE,
            0.1,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1e-300,
            1e200,
        ])),
        Arc::new(Float32Array::from(vec![f32::MAX, 0.1, f32::NEG_INFINITY])),
        Arc::new(Float64Array::from(vec![f64::NAN])),
        Arc::new(Float64Array::from(vec![-0.0])),
        Arc::new(Int8Array::from(vec![i8::MIN, i8::MAX])),
        Arc::new(Decimal128Array::from(vec![-5, 0, 99_999_999_999]).with_precision_and_scale(11, 3).unwrap()),
        Arc::new(Decimal128Array::from(vec![-5, i128::MAX / 10]).with_precision_and_scale(38, 0).unwrap()),
    ];
    for column in columns {
        let what = column.data_type().to_string();
        let root = tempfile::tempdir().unwrap();
        let backend = opened(&local(root.path()).partition_by(["p"])).await;
        let mut written = Vec::new();
        for row in 0..column.len() {
            let one = column.slice(row, 1);
            let id = written.len() as i64;
            let rows = samples(id..id + 1, &one);
            let checked = backend.check(&key(TABLE), &rows).map_err(|error| error.to_string());
            match append(&backend, rows).await {
                Ok(()) => written.push(one),
                Err(error @ Error::InvalidValue { row: 0, .. }) => {
                    assert_eq!(checked, Err(error.to_string()), "{what}")
                }
                Err(error) => panic!("{what}: {one:?}: {error:?}"),
            }
        }
        let written: Vec<_> = written.iter().map(AsRef::as_ref).collect();
        assert!(written.len() > column.len() / 3, "{what}: {} of {} values", written.len(), column.len());
        assert_eq!(&values(&backend).await, &concat(&written).unwrap(), "{what}");
        let fresh = opened(&local(root.path())).await;
        assert_eq!(&values(&fresh).await, &concat(&written).unwrap(), "{what}");
    }
}

/// Neither the Python package nor other programs read such a table, and there is no common form.
#[tokio::test]
async fn tables_are_not_partitioned_by_bytes() {
    let root = tempfile::tempdir().unwrap();
    let backend = opened(&local(root.path()).partition_by(["p"])).await;
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![b"\xff\x00".as_slice()]));
    let rows = samples(0..1, &bytes);
    for error in [backend.check(&key(TABLE), &rows).unwrap_err(), append(&backend, rows).await.unwrap_err()] {
        assert!(matches!(&error, Error::UnsupportedType { column, .. } if column == "p"), "{error:?}");
    }
    assert!(backend.schema(&key(TABLE)).await.unwrap().is_none());
}

/// Python's writer escapes bytes; an empty text of this writer is a value, an empty number of others is null.
#[tokio::test]
async fn values_of_other_writers() {
    for (data_type, logged, expected) in [
        ("binary", json!("\\u00FF\\u0000"), Some("ff00")),
        ("binary", json!("plain"), None),
        ("string", json!(""), Some("")),
        ("string", json!(null), Some("NULL")),
        ("long", json!(""), Some("NULL")),
    ] {
        let mut metadata = metadata(&[field("id", "long"), field("p", data_type)]);
        metadata["partitionColumns"] = json!(["p"]);
        let table = Foreign::new(plain_protocol(), metadata);
        table.write_parquet("1.parquet", &batch([("id", ints([1]))]));
        let mut add = table.add("1.parquet");
        add["add"]["partitionValues"] = json!({"p": logged});
        let table = table.with_commit(&[add]);
        let backend = opened(&table.settings()).await;
        let shown = match read(&backend).await {
            Err(Error::Corrupt { .. }) => None,
            Err(error) => panic!("{data_type} {logged}: {error:?}"),
            Ok(rows) => {
                assert_eq!(rows.column(0).as_primitive::<Int64Type>().values().as_ref(), &[1]);
                let value = rows.column_by_name("p").unwrap();
                Some(match (value.is_null(0), value.data_type()) {
                    (true, _) => "NULL".to_owned(),
                    (_, DataType::Binary) => {
                        value.as_binary::<i32>().value(0).iter().map(|b| format!("{b:02x}")).collect()
                    }
                    _ => cast(value, &DataType::Utf8).unwrap().as_string::<i32>().value(0).to_owned(),
                })
            }
        };
        assert_eq!(shown.as_deref(), expected, "{data_type} {logged}");
    }
}
