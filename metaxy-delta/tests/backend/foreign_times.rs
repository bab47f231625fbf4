//! Times in the files of other programs.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;
use chrono::NaiveDate;
use metaxy_core::{ScanRequest, StoreBackend, col};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type, Int96, Int96Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;

use crate::foreign::{Foreign, field, metadata, plain_protocol};
use crate::{TABLE, append, key, opened, read};

const DAY: i64 = 86_400_000_000;

/// Returns times in microseconds: the first and last years of four digits, and times outside the range of 64-bit
/// nanoseconds.
fn moments() -> Vec<i64> {
    let midnight = |year, month, day| {
        let date = NaiveDate::from_ymd_opt(year, month, day).unwrap();
        date.and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp_micros()
    };
    vec![
        midnight(1, 1, 1),
        midnight(1677, 1, 1) + 1,
        midnight(1969, 12, 31) + 123_456,
        midnight(2262, 12, 31) + DAY - 1,
        midnight(9999, 12, 31) + DAY - 1,
    ]
}

fn int96(micros: i64) -> Int96 {
    let nanos = micros.rem_euclid(DAY) as u64 * 1000;
    let mut value = Int96::new();
    value.set_data(nanos as u32, (nanos >> 32) as u32, (micros.div_euclid(DAY) + 2_440_588) as u32);
    value
}

/// Returns a table with a file of INT96 timestamps, as a column, as a member, and in lists, and with this number of
/// bytes in addition.
fn table(padding: usize) -> Foreign {
    let times = json!({"type": "array", "elementType": "timestamp", "containsNull": true});
    let member = json!({"type": "struct", "fields": [field("at", "timestamp")]});
    let fields =
        [field("id", "long"), field("at", "timestamp"), field("s", member), field("l", times), field("pad", "binary")];
    let table = Foreign::new(plain_protocol(), metadata(&fields));
    let message = "message spark_schema {
        optional int64 id; optional int96 at; optional group s { optional int96 at; }
        optional group l (LIST) { repeated group list { optional int96 element; } } optional binary pad;
    }";
    let file = File::create(table.directory().join("part-0.parquet")).unwrap();
    let schema = Arc::new(parse_message_type(message).unwrap());
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let moments = moments();
    let rows = moments.len();
    let times: Vec<Int96> = moments.iter().map(|micros| int96(*micros)).collect();
    let ids: Vec<i64> = (0..).take(rows).collect();
    let mut next = |defined: i16, write: &dyn Fn(&mut parquet::file::writer::SerializedColumnWriter<'_>, &[i16])| {
        let mut column = group.next_column().unwrap().unwrap();
        write(&mut column, &vec![defined; rows]);
        column.close().unwrap();
    };
    next(1, &|column, levels| {
        column.typed::<Int64Type>().write_batch(&ids, Some(levels), None).unwrap();
    });
    next(1, &|column, levels| {
        column.typed::<Int96Type>().write_batch(&times, Some(levels), None).unwrap();
    });
    next(2, &|column, levels| {
        column.typed::<Int96Type>().write_batch(&times, Some(levels), None).unwrap();
    });
    next(3, &|column, levels| {
        column.typed::<Int96Type>().write_batch(&times, Some(levels), Some(&vec![0; rows])).unwrap();
    });
    next(1, &|column, levels| {
        let pads: Vec<ByteArray> = (0..rows).map(|row| vec![row as u8; padding].into()).collect();
        column.typed::<ByteArrayType>().write_batch(&pads, Some(levels), None).unwrap();
    });
    group.close().unwrap();
    writer.close().unwrap();
    let add = table.add("part-0.parquet");
    table.with_commit(&[add])
}

/// Returns the timestamps of a column in microseconds, by id.
fn micros(rows: &RecordBatch, array: &ArrayRef) -> Vec<i64> {
    let ids = rows.column_by_name("id").unwrap().as_primitive::<arrow::datatypes::Int64Type>();
    let times = array.as_primitive::<TimestampMicrosecondType>();
    let mut found: Vec<(i64, i64)> = (0..rows.num_rows()).map(|row| (ids.value(row), times.value(row))).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, micros)| micros).collect()
}

fn assert_times(rows: &RecordBatch, expected: &[i64]) {
    let column = |name: &str| rows.column_by_name(name).unwrap();
    assert_eq!(micros(rows, column("at")), expected);
    assert_eq!(micros(rows, column("s").as_struct().column(0)), expected);
    assert_eq!(micros(rows, column("l").as_list::<i32>().values()), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn int96_timestamps_of_any_year() {
    // A small file is read as a whole, a large one by row group.
    for padding in [1, 1 << 20] {
        let table = table(padding);
        let backend = opened(&table.settings()).await;
        let rows = read(&backend).await.unwrap();
        assert_times(&rows, &moments());
        // A filter selects the values that a read returns.
        let schema = backend.schema(&key(TABLE)).await.unwrap().unwrap();
        let first = col("at").eq("0001-01-01T00:00:00Z").bind(&schema).unwrap();
        let request = ScanRequest { row_filter: Some(first), ..ScanRequest::default() };
        let scan = backend.scan(&key(TABLE), &request).await.unwrap();
        let found: Vec<RecordBatch> = futures::TryStreamExt::try_collect(scan.stream).await.unwrap();
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
        // A compaction writes the values that it has read.
        let last = moments().len() as i64;
        let more = RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(arrow::array::Int64Array::from(vec![last])) as ArrayRef, true),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(0)]).with_timezone("UTC")), true),
        ]);
        append(&backend, more.unwrap()).await.unwrap();
        backend.compact(&key(TABLE)).await.unwrap();
        let rows = read(&opened(&table.settings()).await).await.unwrap();
        assert_eq!(rows.num_rows(), moments().len() + 1);
        let own = arrow::compute::filter_record_batch(
            &rows,
            &arrow::compute::kernels::cmp::neq(
                rows.column_by_name("id").unwrap(),
                &arrow::array::Int64Array::new_scalar(last),
            )
            .unwrap(),
        );
        assert_times(&own.unwrap(), &moments());
    }
}
