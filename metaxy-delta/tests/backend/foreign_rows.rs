//! Partition values in the log, and rows that count as removed.

use std::collections::HashMap;
use std::fs;
use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema};
use metaxy_core::{Filter, StoreBackend};
use metaxy_delta::{DeltaBackend, DeltaConfig};
use serde_json::{Value, json};

use crate::foreign::{Foreign, field, metadata, plain_protocol};
use crate::{TABLE, actions, append, key, opened, read, read_ids};

fn ids(ids: impl IntoIterator<Item = i64>) -> RecordBatch {
    let ids: ArrayRef = Arc::new(ids.into_iter().collect::<Int64Array>());
    RecordBatch::try_from_iter_with_nullable([("id", ids, true)]).unwrap()
}

/// Returns all rows as text, sorted.
async fn shown(backend: &DeltaBackend) -> Vec<String> {
    let rows = read(backend).await.unwrap();
    let columns: Vec<ArrayRef> = rows
        .columns()
        .iter()
        .map(|column| match column.data_type() {
            DataType::Timestamp(unit, Some(_)) => cast(column, &DataType::Timestamp(*unit, None)).unwrap(),
            _ => column.clone(),
        })
        .map(|column| cast(&column, &DataType::Utf8).unwrap())
        .collect();
    let value =
        |column: &ArrayRef, row| column.as_string_opt::<i32>().unwrap().iter().nth(row).flatten().map(String::from);
    let row = |row| columns.iter().map(|column| value(column, row).unwrap_or("NULL".into())).collect::<Vec<_>>();
    let mut shown: Vec<String> = (0..rows.num_rows()).map(|number| row(number).join(" ")).collect();
    shown.sort();
    shown
}

async fn delete(backend: &DeltaBackend, filter: &str) -> u64 {
    let schema = backend.schema(&key(TABLE)).await.unwrap().unwrap();
    let predicate = filter.parse::<Filter>().unwrap().bind(&schema).unwrap();
    backend.delete(&key(TABLE), &predicate).await.unwrap()
}

/// Returns a table that is partitioned by a text, a day and a moment, as Spark writes it.
fn partitioned() -> Foreign {
    let fields = [field("id", "long"), field("p", "string"), field("day", "date"), field("at", "timestamp")];
    let mut metadata = metadata(&fields);
    metadata["partitionColumns"] = json!(["p", "day", "at"]);
    let table = Foreign::new(plain_protocol(), metadata);
    // A directory's name has the value with escapes; the log escapes that again.
    let parts = [
        (
            "p=a%3A b/day=2020-01-02/1.parquet",
            json!({"p": "a: b", "day": "2020-01-02", "at": "2020-01-02 03:04:05.678"}),
        ),
        ("2.parquet", json!({"p": null, "day": "", "at": "0001-01-01T00:00:00.000000Z"})),
    ];
    let adds: Vec<Value> = (1..)
        .zip(parts)
        .map(|(id, (name, values))| {
            table.write_parquet(name, &ids([id]));
            let mut add = table.add(name);
            add["add"]["path"] = name.replace('%', "%25").replace(' ', "%20").into();
            add["add"]["partitionValues"] = values;
            add
        })
        .collect();
    table.with_commit(&adds)
}

fn partitioned_row(id: i64, p: Option<&str>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![1_500_001]).with_timezone("UTC")) as ArrayRef, true),
        ("p", Arc::new(StringArray::from(vec![p])), true),
        ("id", Arc::new(Int64Array::from(vec![id])), true),
        ("day", Arc::new(Date32Array::from(vec![-1])), true),
    ])
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitioned_tables() {
    let table = partitioned();
    let backend = opened(&table.settings()).await;
    let first = ["1 a: b 2020-01-02 2020-01-02T03:04:05.678", "2 NULL NULL 0001-01-01T00:00:00"];
    assert_eq!(shown(&backend).await, first);
    append(&backend, partitioned_row(3, Some("ü/x%20 \"="))).await.unwrap();
    append(&backend, partitioned_row(4, None)).await.unwrap();
    append(&backend, partitioned_row(5, None)).await.unwrap();
    let all = [
        first[0],
        first[1],
        "3 ü/x%20 \"= 1969-12-31 1970-01-01T00:00:01.500001",
        "4 NULL 1969-12-31 1970-01-01T00:00:01.500001",
        "5 NULL 1969-12-31 1970-01-01T00:00:01.500001",
    ];
    let fresh = opened(&table.settings()).await;
    assert_eq!(
        (shown(&backend).await, shown(&fresh).await),
        (all.map(String::from).to_vec(), all.map(String::from).to_vec())
    );
    let adds = actions(&table.log());
    let last = &adds.iter().rev().find_map(|action| action.get("add")).unwrap()["partitionValues"];
    assert_eq!((&last["p"], &last["day"]), (&Value::Null, &json!("1969-12-31")));
    // Only files of one partition are merged; actions that remove files have its values.
    backend.compact(&key(TABLE)).await.unwrap();
    let removes: Vec<Value> =
        actions(&table.log()).into_iter().filter_map(|action| action.get("remove").cloned()).collect();
    assert_eq!(removes.len(), 2);
    assert!(removes.iter().all(|remove| remove["partitionValues"]["day"] == "1969-12-31"), "{removes:?}");
    assert_eq!(shown(&fresh).await, all);
    assert_eq!(delete(&backend, "p = 'a: b' OR id = 5").await, 2);
    assert_eq!(shown(&opened(&table.settings()).await).await, [all[1], all[2], all[3]]);
    backend.vacuum(&key(TABLE), std::time::Duration::ZERO).await.unwrap();
    assert_eq!(shown(&fresh).await, [all[1], all[2], all[3]]);
}

/// By this crate's setting, and by that of the Python package.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_tables_are_partitioned_as_configured() {
    let root = tempfile::tempdir().unwrap();
    let text = |options: &str| format!("root_path = \"{}\"\n{options}", root.path().display());
    let options = [
        "partition_by = [\"p\", \"no_such_column\"]",
        "delta_write_options = { partition_by = \"p\", schema_mode = \"merge\" }",
        "[delta_write_options]\npartition_by = [\"p\"]",
    ];
    for options in options {
        let settings: DeltaConfig = toml::from_str(&text(options)).unwrap();
        let settings = settings.checkpoint_interval(NonZeroU64::new(6).unwrap());
        let backend = opened(&settings).await;
        for id in 0..14 {
            append(&backend, partitioned_row(id, Some(if id % 7 == 0 { "seven" } else { "other" }))).await.unwrap();
        }
        assert_eq!(read_ids(&opened(&settings).await).await.unwrap(), (0..14).collect::<Vec<_>>());
        let log = root.path().join("raw/video.delta/_delta_log");
        let found = actions(&log).into_iter().find_map(|action| action.get("metaData").cloned()).unwrap();
        assert_eq!(found["partitionColumns"], json!(["p"]), "{options}");
        assert!(root.path().join("raw/video.delta/p=seven").is_dir());
        backend.drop_table(&key(TABLE)).await.unwrap();
    }
}

const DIGITS: &[u8; 85] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// Encodes bytes in the Base85 variant of deletion vectors.
fn z85(bytes: &[u8]) -> String {
    let digits = |four: &[u8]| {
        let number = u32::from_be_bytes(four.try_into().unwrap());
        [52_200_625, 614_125, 7_225, 85, 1].map(|power| char::from(DIGITS[(number / power % 85) as usize]))
    };
    bytes.chunks(4).flat_map(digits).collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// Encodes row numbers as a roaring bitmap in the portable format.
fn bitmap(rows: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(1_681_511_377_u32.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    [0_u32, 12_346, 1].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    bytes.extend(0_u16.to_le_bytes());
    bytes.extend((rows.len() as u16 - 1).to_le_bytes());
    bytes.extend(16_u32.to_le_bytes());
    rows.iter().for_each(|row| bytes.extend(row.to_le_bytes()));
    bytes
}

/// The name of the file of [`vector_in_file`].
pub const VECTOR: &str = "deletion_vector_00010203-0405-0607-0809-0a0b0c0d0e0f.bin";

/// Returns the content of a file with a deletion vector.
pub fn vector_file(rows: &[u16]) -> Vec<u8> {
    let vector = bitmap(rows);
    let (size, sum) = ((vector.len() as u32).to_be_bytes(), crc32(&vector).to_be_bytes());
    [&[1], size.as_slice(), &vector, &sum].concat()
}

/// Returns the description of a deletion vector in a file, with a prefix of its path.
pub fn vector_in_file(prefix: &str, rows: &[u16]) -> Value {
    let id: Vec<u8> = (0..16).collect();
    let path = format!("{prefix}{}", z85(&id));
    let size = bitmap(rows).len();
    json!({"storageType": "u", "pathOrInlineDv": path, "offset": 1, "sizeInBytes": size, "cardinality": rows.len()})
}

/// Returns a table with one file of these ids, some of which count as removed.
fn with_deletions(rows: &RecordBatch, removed: &[u16], inline: bool) -> Foreign {
    let features = json!(["deletionVectors"]);
    let protocol =
        json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features});
    let fields: Vec<Value> = rows
        .schema()
        .fields()
        .iter()
        .map(|f| field(f.name(), if f.name() == "id" { "long" } else { "binary" }))
        .collect();
    let table = Foreign::new(protocol, metadata(&fields));
    table.write_parquet("1.parquet", rows);
    let vector = bitmap(removed);
    let mut add = table.add("1.parquet");
    add["add"]["stats"] = json!({"numRecords": rows.num_rows(), "tightBounds": false}).to_string().into();
    let (size, cardinality) = (vector.len(), removed.len());
    add["add"]["deletionVector"] = if inline {
        json!({"storageType": "i", "pathOrInlineDv": z85(&vector), "sizeInBytes": size, "cardinality": cardinality})
    } else {
        fs::write(table.directory().join(VECTOR), vector_file(removed)).unwrap();
        vector_in_file("", removed)
    };
    table.with_commit(&[add])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_removed_by_deletion_vectors() {
    for inline in [true, false] {
        let table = with_deletions(&ids(0..10), &[0, 4, 5, 9], inline);
        let backend = opened(&table.settings()).await;
        let left = [1, 2, 3, 6, 7, 8];
        assert_eq!(read_ids(&backend).await.unwrap(), left);
        append(&backend, ids([20])).await.unwrap();
        assert_eq!(delete(&backend, "id < 3").await, 2, "removed rows do not count again");
        assert_eq!(read_ids(&opened(&table.settings()).await).await.unwrap(), [3, 6, 7, 8, 20]);
        let remove = actions(&table.log()).into_iter().find_map(|action| action.get("remove").cloned()).unwrap();
        assert_eq!(remove["deletionVector"]["cardinality"], 4, "the file is removed together with its vector");
        backend.compact(&key(TABLE)).await.unwrap();
        assert_eq!(read_ids(&backend).await.unwrap(), [3, 6, 7, 8, 20]);
    }
}

/// In a large file, row groups are read separately.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_rows_of_a_large_file() {
    let pads = arrow::array::BinaryArray::from_iter_values((0..5_000_u32).map(|row| [row.to_le_bytes(); 300].concat()));
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("id", ids(0..5_000).column(0).clone(), true),
        ("pad", Arc::new(pads) as ArrayRef, true),
    ]);
    let table = with_deletions(&rows.unwrap(), &[0, 999, 1_000, 1_001, 4_998, 4_999], false);
    let backend = opened(&table.settings()).await;
    let rows = read(&backend).await.unwrap();
    let found: Vec<i64> = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(found.len(), 4_994);
    assert!([0, 999, 1_000, 1_001, 4_998, 4_999].iter().all(|id| !found.contains(id)));
}

/// Returns a column with this name and number in files.
fn mapped(name: &str, data_type: impl Into<Value>, id: i64, in_file: &str) -> Value {
    let mut field = field(name, data_type);
    field["metadata"] = json!({"delta.columnMapping.id": id, "delta.columnMapping.physicalName": in_file});
    field
}

/// Returns a column of a file, with a number.
fn numbered(name: &str, data_type: DataType, id: i64) -> Field {
    let id = HashMap::from([("PARQUET:field_id".to_owned(), id.to_string())]);
    Field::new(name, data_type, true).with_metadata(id)
}

/// Returns a table with other column names in its files; `id` and `s.a` were renamed, `p` is a partition column.
fn with_mapping(mode: &str, names: [&str; 3]) -> Foreign {
    let member = json!({"type": "struct", "fields": [mapped("a", "long", 4, "col-4")]});
    let list = json!({"type": "array", "elementType": member, "containsNull": true});
    let fields = [
        mapped("id", "long", 1, "col-1"),
        mapped("p", "string", 2, "col-2"),
        mapped("l", list, 3, "col-3"),
        mapped("text", "string", 5, "col-5"),
    ];
    let mut metadata = metadata(&fields);
    metadata["partitionColumns"] = json!(["p"]);
    metadata["configuration"] = json!({"delta.columnMapping.mode": mode, "delta.columnMapping.maxColumnId": "5"});
    let table = Foreign::new(json!({"minReaderVersion": 2, "minWriterVersion": 5}), metadata);
    let member = Fields::from(vec![numbered("col-4", DataType::Int64, 4)]);
    let values = StructArray::new(member.clone(), vec![Arc::new(Int64Array::from(vec![70, 80]))], None);
    let item = Arc::new(Field::new("element", DataType::Struct(member), true));
    let list = ListArray::new(item.clone(), OffsetBuffer::from_lengths([1, 1]), Arc::new(values), None);
    let fields = vec![
        numbered(names[0], DataType::Int64, 1),
        numbered(names[1], DataType::List(item), 3),
        numbered(names[2], DataType::Utf8, 5),
    ];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![7, 8])),
        Arc::new(list),
        Arc::new(StringArray::from(vec!["seven", "eight"])),
    ];
    table.write_parquet("1.parquet", &RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap());
    let mut add = table.add("1.parquet");
    add["add"]["partitionValues"] = json!({"col-2": "P"});
    let ends = |id: i64| json!({"col-1": id});
    let stats = json!({"numRecords": 2, "minValues": ends(7), "maxValues": ends(8), "nullCount": {"col-1": 0}});
    add["add"]["stats"] = stats.to_string().into();
    table.with_commit(&[add])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_with_other_names_in_files() {
    // By number, the names in files are ignored.
    for (mode, names) in [("name", ["col-1", "col-3", "col-5"]), ("id", ["col-5", "x", "y"])] {
        let table = with_mapping(mode, names);
        let backend = opened(&table.settings()).await;
        assert_eq!(shown(&backend).await, ["7 P [{a: 70}] seven", "8 P [{a: 80}] eight"], "{mode}");
        let own = |id: i64| {
            let values = StructArray::new(
                vec![Field::new("a", DataType::Int64, true)].into(),
                vec![Arc::new(Int64Array::from(vec![id * 10]))],
                None,
            );
            let item = Arc::new(Field::new("item", values.data_type().clone(), true));
            let list = ListArray::new(item, OffsetBuffer::from_lengths([1]), Arc::new(values), None);
            RecordBatch::try_from_iter_with_nullable([
                ("l", Arc::new(list) as ArrayRef, true),
                ("p", Arc::new(StringArray::from(vec!["P"])), true),
                ("id", Arc::new(Int64Array::from(vec![id])), true),
            ])
            .unwrap()
        };
        append(&backend, own(9)).await.unwrap();
        append(&opened(&table.settings()).await, own(10)).await.unwrap();
        let all = ["10 P [{a: 100}] NULL", "7 P [{a: 70}] seven", "8 P [{a: 80}] eight", "9 P [{a: 90}] NULL"];
        assert_eq!(shown(&opened(&table.settings()).await).await, all);
        let last = actions(&table.log()).into_iter().rev().find_map(|action| action.get("add").cloned()).unwrap();
        assert_eq!(last["partitionValues"], json!({"col-2": "P"}));
        let stats: Value = serde_json::from_str(last["stats"].as_str().unwrap()).unwrap();
        assert_eq!(stats["minValues"]["col-1"], 10);
        // The result of a filter does not depend on statistics under other names.
        assert_eq!(delete(&backend, "id = 8 AND p = 'P'").await, 1);
        backend.compact(&key(TABLE)).await.unwrap();
        assert_eq!(shown(&opened(&table.settings()).await).await, [all[0], all[1], all[3]]);
        let new = RecordBatch::try_from_iter([("new", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        let error = append(&backend, new).await.unwrap_err();
        assert!(error.to_string().contains("column mapping"), "{error:?}");
    }
}
