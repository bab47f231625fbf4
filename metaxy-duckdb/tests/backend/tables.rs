//! Tables: names that DuckDB does not distinguish, tables of other programs, and streams that are not read to the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Int64Type};
use futures::StreamExt;
use metaxy_core::filter::col;
use metaxy_core::{AccessMode, Error, FeatureGraph, FeatureSpec, MetadataStore, ScanRequest, StoreBackend, columns};
use metaxy_duckdb::{DuckDbBackend, DuckDbConfig};

use super::{append, batch, ints, key, open, read, texts};

pub(crate) fn by_field(members: &[(&str, &str)]) -> ArrayRef {
    let fields: Fields = members.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, true)).collect();
    Arc::new(StructArray::new(fields, members.iter().map(|(_, value)| texts(&[value])).collect(), None))
}

#[tokio::test]
async fn columns_and_members_are_added() {
    let store = DuckDbBackend::in_memory();
    store.open(AccessMode::ReadWrite).await.unwrap();
    append(&store, "a/b", batch(vec![("id", ints([1])), ("s", by_field(&[("x", "x")]))])).await.unwrap();
    let more = by_field(&[("y", "y"), ("X", "X"), ("x", "x")]);
    append(&store, "a/b", batch(vec![("s", more), ("late", texts(&["l"])), ("id", ints([2]))])).await.unwrap();
    append(&store, "a/b", batch(vec![("id", ints([3]))])).await.unwrap();
    let rows = read(&store, "a/b").await.unwrap();
    assert_eq!(rows.schema(), store.schema(&key("a/b")).await.unwrap().unwrap());
    let order: Vec<i64> = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
    let at = |id: i64| order.iter().position(|other| *other == id).unwrap();
    let members = rows.column(1).as_struct();
    assert_eq!(members.column_names(), ["x", "y", "X"]);
    let value = |member: usize, id: i64| {
        let column = members.column(member).as_string::<i32>();
        (members.is_valid(at(id)) && column.is_valid(at(id))).then(|| column.value(at(id)))
    };
    assert_eq!((value(0, 1), value(1, 1), value(2, 1)), (Some("x"), None, None));
    assert_eq!((value(0, 2), value(1, 2), value(2, 2)), (Some("x"), Some("y"), Some("X")));
    assert!(members.is_null(at(3)));
}

/// Descriptions of tables are kept between writes: a read beside a write must not use an old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tables_that_change_while_they_are_read() {
    let store = Arc::new(DuckDbBackend::in_memory());
    store.open(AccessMode::ReadWrite).await.unwrap();
    let shapes = [
        batch([("id", ints([1, 2]))]),
        batch([("id", texts(&["a", "b"]))]),
        batch([("more", ints([7, 8])), ("id", texts(&["c", "d"]))]),
    ];
    let done = Arc::new(AtomicBool::new(false));
    let readers = (0..3).map(|_| {
        let (store, shapes, done) = (store.clone(), shapes.clone(), done.clone());
        tokio::spawn(async move {
            let mut found = [false; 3];
            while !done.load(Ordering::Relaxed) {
                match read(store.as_ref(), "t").await {
                    Ok(rows) => {
                        let shape = shapes.iter().position(|shape| *shape == rows);
                        found[shape.unwrap_or_else(|| panic!("rows that were never written: {rows:?}"))] = true;
                    }
                    Err(Error::FeatureNotFound { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                let schema = store.schema(&key("t")).await.unwrap();
                assert!(schema.is_none_or(|schema| shapes.iter().any(|shape| shape.schema() == schema)));
            }
            found
        })
    });
    let readers: Vec<_> = readers.collect();
    for round in 0..300 {
        store.drop_table(&key("t")).await.unwrap();
        append(store.as_ref(), "t", &shapes[round % 3]).await.unwrap();
        if round % 5 == 0 {
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
    }
    done.store(true, Ordering::Relaxed);
    let mut found = [false; 3];
    for reader in readers {
        reader.await.unwrap().into_iter().zip(&mut found).for_each(|(one, all)| *all |= one);
    }
    assert_eq!(found, [true; 3], "each table was read");
}

/// Hashes cannot be compressed, so texts are compressed only if a setting requires it.
#[tokio::test]
async fn texts_are_compressed_if_configured() {
    let directory = tempfile::tempdir().unwrap();
    let mut sizes = Vec::new();
    for (name, disabled) in [("default", None), ("compressed", Some(""))] {
        let path = directory.path().join(name);
        let mut config = DuckDbConfig::new(path.display().to_string());
        if let Some(disabled) = disabled {
            config = config.setting("disabled_compression_methods", disabled);
        }
        let store = DuckDbBackend::new(config).unwrap();
        store.open(AccessMode::ReadWrite).await.unwrap();
        let paths = (0..200_000).map(|number| format!("s3://corpus/videos/2026/11/25/take-{number:06}/frames.mp4"));
        let paths: ArrayRef = Arc::new(StringArray::from_iter_values(paths));
        append(&store, "t", batch([("path", paths)])).await.unwrap();
        store.close().await.unwrap();
        sizes.push(std::fs::metadata(path).unwrap().len());
    }
    assert!(sizes[1] * 2 < sizes[0], "{sizes:?}");
}

#[tokio::test]
async fn names_that_duckdb_does_not_distinguish() {
    let store = DuckDbBackend::in_memory();
    store.open(AccessMode::ReadWrite).await.unwrap();
    let names = ["id", "Id", "ID", "rowid", "ROWID", "say \"hi\"", "größe", "GRÖSSE", "a.b", "select", "id_2", "x'y"];
    let values: Vec<ArrayRef> = (0..names.len() as i64).map(|value| ints([value])).collect();
    append(&store, "names", batch(names.iter().copied().zip(values))).await.unwrap();
    let rows = read(&store, "names").await.unwrap();
    for (position, name) in names.iter().enumerate() {
        let value = rows.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(0);
        assert_eq!(value, position as i64, "{name}");
        let schema = store.schema(&key("names")).await.unwrap().unwrap();
        let request = ScanRequest {
            keep_latest: Some(vec![(*name).to_owned()]),
            filter: Some(col(*name).eq(position as i64).bind(&schema).unwrap()),
            columns: Some(vec![(*name).to_owned()]),
            ..ScanRequest::default()
        };
        let mut stream = store.scan(&key("names"), &request).await.unwrap().stream;
        assert_eq!(stream.next().await.unwrap().unwrap().num_rows(), 1, "{name}");
    }
}

#[tokio::test]
async fn stores_share_a_file_by_their_prefixes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    let other = DuckDbBackend::new(DuckDbConfig::new(path.to_str().unwrap()).table_prefix("other_")).unwrap();
    other.open(AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap();
    assert_eq!(other.tables().await.unwrap(), Vec::<String>::new());
    append(&other, "t", batch(vec![("id", ints([1, 2]))])).await.unwrap();
    assert_eq!(other.tables().await.unwrap(), ["t"]);
    other.drop_table(&key("t")).await.unwrap();
    other.drop_table(&key("t")).await.unwrap();
    assert_eq!(other.schema(&key("t")).await.unwrap(), None);
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 1);
}

fn video() -> FeatureGraph {
    FeatureGraph::new([
        FeatureSpec::builder("raw/video").id_columns(["id"]).fields(["audio", "frames"]).build().unwrap(),
        FeatureSpec::builder("made/text").id_columns(["id"]).dep("raw/video").build().unwrap(),
    ])
    .unwrap()
}

async fn video_store(path: &std::path::Path) -> MetadataStore {
    let backend = DuckDbBackend::file(path).unwrap();
    MetadataStore::builder(backend, video()).auto_create_tables(true).open(AccessMode::ReadWrite).await.unwrap()
}

#[tokio::test]
async fn a_struct_with_other_member_names_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = video_store(&dir.path().join("store.duckdb")).await;
    let rows =
        |members: &[(&str, &str)]| batch(vec![("id", ints([1])), (columns::PROVENANCE_BY_FIELD, by_field(members))]);
    let error = store.write("raw/video", rows(&[("sound", "s"), ("frames", "f")])).await.unwrap_err();
    assert!(matches!(&error, Error::InvalidColumn { .. } | Error::MissingColumn { .. }), "{error:?}");
    assert!(error.to_string().contains("audio"), "{error}");
    store.write("raw/video", rows(&[("audio", "a"), ("frames", "f")])).await.unwrap();
}

/// A table of another program, whose versions are numbers.
#[tokio::test]
async fn versions_of_another_type_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    duckdb::Connection::open(&path)
        .unwrap()
        .execute_batch(
            "CREATE TABLE raw__video (id BIGINT, metaxy_provenance_by_field STRUCT(audio INTEGER, frames BLOB))",
        )
        .unwrap();
    let store = video_store(&path).await;
    let provenance = by_field(&[("audio", "a"), ("frames", "f")]);
    let error = store
        .write("raw/video", batch(vec![("id", ints([1])), (columns::PROVENANCE_BY_FIELD, provenance)]))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::TypeMismatch { column, .. } if column == columns::PROVENANCE_BY_FIELD),
        "{error:?}"
    );
}

/// Tables with MAP columns, as the Python package may write them.
#[tokio::test]
async fn maps_are_read_resolved_and_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let store = video_store(&path).await;
    let rows = |ids: &[i64], audio: &str| {
        let values = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; ids.len()])) };
        let provenance = columns::by_field([("audio", values(audio)), ("frames", values("f"))]).unwrap();
        batch(vec![("id", ints(ids.iter().copied())), (columns::PROVENANCE_BY_FIELD, provenance)])
    };
    store.write("raw/video", rows(&[1, 2], "a")).await.unwrap();
    let expected = store.resolve_update("made/text").await.unwrap().new;
    store.close().await.unwrap();
    duckdb::Connection::open(&path)
        .unwrap()
        .execute_batch(
            "CREATE TABLE m AS SELECT * REPLACE (\
             MAP {'audio': metaxy_provenance_by_field.audio, 'frames': metaxy_provenance_by_field.frames} \
             AS metaxy_provenance_by_field, \
             MAP {'audio': metaxy_data_version_by_field.audio, 'frames': metaxy_data_version_by_field.frames} \
             AS metaxy_data_version_by_field) FROM raw__video; \
             DROP TABLE raw__video; ALTER TABLE m RENAME TO raw__video",
        )
        .unwrap();
    let store = video_store(&path).await;
    let versions = |rows: &metaxy_core::Rows| -> Vec<(i64, String)> {
        let mut all = Vec::new();
        for batch in rows.batches() {
            let ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().clone();
            let versions = batch.column_by_name(columns::PROVENANCE).unwrap().as_string::<i32>().clone();
            all.extend((0..batch.num_rows()).map(|row| (ids.value(row), versions.value(row).to_owned())));
        }
        all.sort();
        all
    };
    let native = metaxy_core::VersioningEngine::Native;
    let found = store.resolve_update("made/text").versioning_engine(native).await.unwrap().new;
    assert_eq!(versions(&found), versions(&expected));
    store.write("raw/video", rows(&[2, 3], "b")).await.unwrap();
    let found = store.resolve_update("made/text").versioning_engine(native).await.unwrap().new;
    let arrow =
        store.resolve_update("made/text").versioning_engine(metaxy_core::VersioningEngine::Arrow).await.unwrap();
    assert_eq!(versions(&found), versions(&arrow.new));
    assert_eq!(found.num_rows(), 3);
    store.close().await.unwrap();
    let kind: String = duckdb::Connection::open(&path)
        .unwrap()
        .query_row("SELECT any_value(typeof(metaxy_data_version_by_field)) FROM raw__video", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kind, "MAP(VARCHAR, VARCHAR)");
}

#[tokio::test]
async fn dropped_streams_stop_their_statements() {
    let store = DuckDbBackend::in_memory();
    store.open(AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", batch(vec![("id", ints(0..300_000))])).await.unwrap();
    for _ in 0..600 {
        // More streams than the runtime has blocking threads: reads would never end if threads waited for dropped
        // streams.
        let mut stream = store.scan(&key("t"), &ScanRequest::default()).await.unwrap().stream;
        stream.next().await.unwrap().unwrap();
    }
    assert!(store.has_held_rows(&key("t")).await.unwrap());
}

#[tokio::test]
async fn a_cancelled_write_is_atomic() {
    let store = DuckDbBackend::in_memory();
    store.open(AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap();
    for delay in [0, 1, 5, 20, 50] {
        let before = read(&store, "t").await.unwrap().num_rows();
        let write = append(&store, "t", batch(vec![("id", ints(0..50_000))]));
        let _ = tokio::time::timeout(std::time::Duration::from_millis(delay), write).await;
        append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap();
        let added = read(&store, "t").await.unwrap().num_rows() - before;
        assert!([1, 50_001].contains(&added), "{added}");
    }
}

#[tokio::test]
async fn never_filled_and_emptied_tables_differ() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let sql = |sql: &str| duckdb::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    sql("CREATE TABLE never (id BIGINT); CREATE TABLE made (id BIGINT); COMMENT ON TABLE made IS 'it''s mine'; \
         INSERT INTO made VALUES (1)");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "ours", batch(vec![("id", ints([1]))])).await.unwrap();
    let schema = store.schema(&key("made")).await.unwrap().unwrap();
    assert_eq!(store.delete(&key("made"), &col("id").eq(1).bind(&schema).unwrap()).await.unwrap(), 1);
    store.close().await.unwrap();
    sql("DELETE FROM ours");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    let held = async |table: &str| store.has_held_rows(&key(table)).await.unwrap();
    assert_eq!((held("never").await, held("made").await, held("ours").await), (false, true, true));
    store.close().await.unwrap();
    let comment = "SELECT comment FROM duckdb_tables() WHERE table_name = 'made'";
    let comment: String = duckdb::Connection::open(&path).unwrap().query_row(comment, [], |row| row.get(0)).unwrap();
    assert!(comment.starts_with("it's mine\n"), "{comment}");
}
