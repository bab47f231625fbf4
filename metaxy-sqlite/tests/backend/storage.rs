//! Files that are full, damaged, linked or replaced, and processes without free file handles.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use futures::TryStreamExt;
use metaxy_core::{AccessMode, Error, ScanRequest, StoreBackend, columns, ipc};
use metaxy_sqlite::SqliteBackend;
use metaxy_testkit::process;

use super::{append, batch, beside, fresh, ints, key, one_row, open, read, texts};

/// Makes all later writes of this thread, and of threads that it starts, fail with this error.
#[cfg(target_os = "linux")]
fn refuse_writes(error: i32) {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
    let calls = [libc::SYS_write, libc::SYS_pwrite64].map(|call| (call, Vec::new())).into_iter().collect();
    let fails = SeccompAction::Errno(error.cast_unsigned());
    let here = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, fails, here).unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

/// Writes to a store whose disk returns this error, in the child process.
#[cfg(target_os = "linux")]
fn write_refused(path: PathBuf, error: i32) {
    let writer = std::thread::spawn(move || {
        refuse_writes(error);
        futures::executor::block_on(async {
            let store = SqliteBackend::file(&path);
            store.open(AccessMode::ReadWrite).await?;
            append(&store, "t", one_row()).await
        })
    });
    let refused = writer.join().unwrap().unwrap_err();
    match error {
        libc::ENOSPC => assert!(matches!(refused, Error::StorageFull { .. }), "{refused:?}"),
        _ => assert!(matches!(refused, Error::Backend { .. }), "{refused:?}"),
    }
    assert!(refused.is_transient(), "{refused:?}");
}

/// If another process has the file open, the log reports the full disk; if none has, the index of the log does.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_reported_as_transient() {
    if let Some(told) = process::told() {
        let (error, path) = told.to_str().unwrap().split_once(' ').unwrap();
        return write_refused(path.into(), error.parse().unwrap());
    }
    for (error, is_open) in [(libc::ENOSPC, true), (libc::ENOSPC, false), (libc::EDQUOT, true)] {
        let (_dir, path, store) = fresh().await;
        append(&store, "t", one_row()).await.unwrap();
        if !is_open {
            store.close().await.unwrap();
        }
        let told = format!("{error} {}", path.display());
        process::assert_passes(&mut process::second("storage::a_full_disk_is_reported_as_transient", told));
        let store = open(&path, AccessMode::ReadWrite).await;
        append(&store, "t", one_row()).await.unwrap();
        assert_eq!(read(&store, "t").await.unwrap().num_rows(), 2);
    }
}

/// Overwrites the first page of a table.
fn damage(path: &Path, table: &str) {
    use std::io::{Seek, SeekFrom, Write};
    let shell = rusqlite::Connection::open(path).unwrap();
    let page: i64 =
        shell.query_row("SELECT rootpage FROM sqlite_master WHERE name = ?1", [table], |row| row.get(0)).unwrap();
    let size: i64 = shell.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    drop(shell);
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(((page - 1) * size) as u64)).unwrap();
    file.write_all(&[0xff; 200]).unwrap();
}

#[tokio::test]
async fn errors_name_the_damaged_table() {
    let (_dir, path, store) = fresh().await;
    let times: ArrayRef = Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC"));
    let rows = batch(vec![("id", ints([1])), (columns::UPDATED_AT, times.clone()), (columns::DELETED_AT, times)]);
    append(&store, "good", rows.clone()).await.unwrap();
    append(&store, "bad", rows.clone()).await.unwrap();
    store.close().await.unwrap();
    damage(&path, "bad");
    let store = open(&path, AccessMode::ReadWrite).await;
    for error in [
        store.newest_stamp(&key("bad")).await.unwrap_err(),
        append(&store, "bad", rows.clone()).await.unwrap_err(),
        read(&store, "bad").await.unwrap_err(),
    ] {
        assert!(matches!(&error, Error::Corrupt { table, .. } if table == "bad"), "{error:?}");
        assert!(!error.is_transient());
    }
    assert_eq!(read(&store, "good").await.unwrap().num_rows(), 1);
    store.close().await.unwrap();
    damage(&path, "metaxy$tables");
    damage(&path, "sqlite_autoindex_metaxy$tables_2");
    let store = open(&path, AccessMode::ReadOnly).await;
    let error = store.tables().await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt { table, .. } if table == "metaxy$tables"), "{error:?}");
}

/// Digits that another program has written in another scale would be read as another number.
#[tokio::test]
async fn a_decimal_of_another_scale_is_damage() {
    for (scale, text) in [(2, "1.5"), (2, "1.500"), (2, "15e1"), (0, "1.5"), (-1, "15"), (2, "1.5x")] {
        let (_dir, path, store) = fresh().await;
        let prices = arrow::array::Decimal128Array::from(vec![100]).with_precision_and_scale(8, scale).unwrap();
        append(&store, "t", batch(vec![("price", Arc::new(prices) as ArrayRef)])).await.unwrap();
        assert_eq!(read(&store, "t").await.unwrap().num_rows(), 1);
        rusqlite::Connection::open(&path).unwrap().execute("UPDATE t SET price = ?1", [text]).unwrap();
        let error = read(&store, "t").await.unwrap_err();
        assert!(matches!(&error, Error::Corrupt { reason, .. } if reason.contains("`price`")), "{text}: {error:?}");
    }
}

/// Replaces an entry of the catalog.
fn describe(path: &Path, set: &str, value: impl rusqlite::ToSql) {
    let shell = rusqlite::Connection::open(path).unwrap();
    assert_eq!(shell.execute(&format!("UPDATE metaxy$tables SET {set} = ?1"), [value]).unwrap(), 1);
}

#[tokio::test]
async fn a_table_with_a_damaged_catalog_entry_can_be_dropped() {
    let endless = |item: DataType| DataType::FixedSizeList(Arc::new(Field::new("item", item, true)), i32::MAX);
    let schema = |data_type| ipc::encode_schema(&Schema::new(vec![Field::new("id", data_type, true)])).unwrap();
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let schemas = [
        vec![0xff; 100],
        Vec::new(),
        schema(endless(endless(DataType::Int64))),
        schema(DataType::FixedSizeBinary(i32::MAX)),
        schema(DataType::Decimal128(250, 100)),
        schema(DataType::Interval(arrow::datatypes::IntervalUnit::YearMonth)),
        schema(list),
    ];
    for (number, schema) in schemas.into_iter().enumerate() {
        let (_dir, path, store) = fresh().await;
        append(&store, "t", batch(vec![("id", ints([7]))])).await.unwrap();
        describe(&path, "schema", schema);
        let error = read(&store, "t").await.unwrap_err();
        assert!(matches!(&error, Error::Corrupt { table, .. } if table == "t"), "{number}: {error:?}");
        store.drop_table(&key("t")).await.unwrap();
        assert_eq!(store.tables().await.unwrap(), Vec::<String>::new());
    }
    let (_dir, path, store) = fresh().await;
    append(&store, "t", one_row()).await.unwrap();
    describe(&path, "sql_columns", 12);
    let error = store.schema(&key("t")).await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt { table, .. } if table == "t"), "{error:?}");
}

/// If any byte of a file is changed, reads return rows or an error, without a panic or an abort.
#[tokio::test]
async fn a_file_with_changed_bytes_is_read_or_refused() {
    let (dir, path, store) = fresh().await;
    let list =
        arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([Some([Some(1), None])]);
    append(&store, "t", batch(vec![("id", ints([1])), ("s", texts(&["x"])), ("l", Arc::new(list))])).await.unwrap();
    store.close().await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut random = 7_u64;
    for round in 0..250 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes[used[(random >> 33) as usize % used.len()]] = (random >> 24) as u8;
        }
        let copy = dir.path().join(format!("{round}.db"));
        std::fs::write(&copy, bytes).unwrap();
        let store = SqliteBackend::file(&copy);
        let outcome = match store.open(AccessMode::ReadOnly).await {
            Ok(()) => read(&store, "t").await.map(drop),
            Err(error) => Err(error),
        };
        assert!(!matches!(outcome, Err(Error::Task(_) | Error::Arrow(_))), "round {round}: {outcome:?}");
        store.close().await.unwrap();
        std::fs::remove_file(&copy).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_lack_of_file_handles_is_transient() {
    if !process::is_second("storage::a_lack_of_file_handles_is_transient", 64) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (_dir, path, store) = fresh().await;
        append(&store, "t", one_row()).await.unwrap();
        store.close().await.unwrap();
        let mut handles: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        for mode in [AccessMode::ReadOnly, AccessMode::ReadWrite] {
            let error = SqliteBackend::file(&path).open(mode).await.unwrap_err();
            assert!(error.is_transient(), "{error:?}");
        }
        handles.clear();
        let store = open(&path, AccessMode::ReadOnly).await;
        assert_eq!(read(&store, "t").await.unwrap().num_rows(), 1);
    });
}

/// SQLite continues to write to a removed file without an error.
#[cfg(unix)]
#[tokio::test]
async fn a_removed_file_accepts_no_rows() {
    let (_dir, path, store) = fresh().await;
    append(&store, "t", one_row()).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 1);
    for end in ["", "-wal", "-shm"] {
        std::fs::remove_file(beside(&path, end)).unwrap();
    }
    append(&store, "u", one_row()).await.unwrap();
    let other = open(&path, AccessMode::ReadOnly).await;
    assert_eq!(read(&other, "u").await.unwrap().num_rows(), 1);
    assert_eq!(store.tables().await.unwrap(), ["u"]);
}

/// Each name of a file would have its own log, with rows that are missing under the others.
#[cfg(unix)]
#[tokio::test]
async fn a_file_with_two_names_is_refused() {
    let (dir, path, store) = fresh().await;
    append(&store, "t", one_row()).await.unwrap();
    let second: PathBuf = dir.path().join("second.db");
    std::fs::hard_link(&path, &second).unwrap();
    for mode in [AccessMode::ReadOnly, AccessMode::ReadWrite] {
        let error = SqliteBackend::file(&second).open(mode).await.unwrap_err();
        assert!(error.to_string().contains("hard links"), "{error}");
    }
    std::fs::remove_file(&second).unwrap();
    // A symbolic link leads to the same log.
    std::os::unix::fs::symlink(&path, &second).unwrap();
    let linked = open(&second, AccessMode::ReadWrite).await;
    append(&linked, "t", one_row()).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 2);
}

#[cfg(unix)]
#[tokio::test]
async fn only_regular_files_are_opened() {
    for mode in [AccessMode::ReadOnly, AccessMode::ReadWrite] {
        let error = SqliteBackend::file("/dev/zero").open(mode).await.unwrap_err();
        assert!(matches!(error, Error::NotAStore { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn too_many_columns_are_refused() {
    let (_dir, _path, store) = fresh().await;
    let wide = |count: usize| {
        let names: Vec<String> = (0..count).map(|number| format!("c{number}")).collect();
        batch(names.iter().map(|name| (name.as_str(), ints([1]))))
    };
    append(&store, "t", wide(1_999)).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap(), wide(1_999));
    let one_more = batch(vec![("another", ints([1]))]);
    for error in [
        store.check(&key("t"), &wide(2_000)).unwrap_err(),
        append(&store, "t", wide(2_500)).await.unwrap_err(),
        append(&store, "new", wide(2_000)).await.unwrap_err(),
        append(&store, "t", one_more).await.unwrap_err(),
    ] {
        assert!(matches!(&error, Error::LimitExceeded { .. }), "{error:?}");
    }
    assert_eq!(store.tables().await.unwrap(), ["t"]);
    assert_eq!(read(&store, "t").await.unwrap(), wide(1_999));
}

/// Memory that is not touched is not allocated, so this test needs no gigabyte.
#[tokio::test]
async fn values_that_are_too_large_are_refused_before_they_are_buffered() {
    let (_dir, _path, store) = fresh().await;
    let bytes = arrow::buffer::Buffer::from_vec(vec![0_u8; 1_000_000_001]);
    let blobs = |lengths: [usize; 2]| -> ArrayRef {
        let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
        Arc::new(arrow::array::LargeBinaryArray::new(offsets, bytes.clone(), None))
    };
    let check = |lengths| store.check(&key("t"), &batch(vec![("id", ints([1, 2])), ("blob", blobs(lengths))]));
    let error = check([1, 1_000_000_000]).unwrap_err();
    assert!(matches!(&error, Error::InvalidValue { column, row: 1, .. } if column == "blob"), "{error:?}");
    check([500_000_000, 499_999_999]).unwrap();
}

/// Nulls of a type of fixed size take as much memory as values.
#[tokio::test]
async fn batches_are_split_by_the_size_of_nulls() {
    let (_dir, _path, store) = fresh().await;
    let wide = new_null_array(&DataType::FixedSizeBinary(64 << 10), 500);
    for _ in 0..5 {
        append(&store, "t", batch(vec![("wide", wide.clone())])).await.unwrap();
    }
    let mut stream = store.scan(&key("t"), &ScanRequest::default()).await.unwrap().stream;
    let mut rows = 0;
    while let Some(batch) = stream.try_next().await.unwrap() {
        assert!(batch.num_rows() <= 1100, "{} rows", batch.num_rows());
        rows += batch.num_rows();
    }
    assert_eq!(rows, 2500);
}

/// Another writer may change the unit of a column between reading the schema and writing.
#[tokio::test]
async fn a_time_that_does_not_fit_is_named_and_nothing_is_written() {
    let (_dir, _path, store) = fresh().await;
    let fine: ArrayRef = Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![1]));
    append(&store, "t", batch(vec![("at", fine)])).await.unwrap();
    let coarse: ArrayRef = Arc::new(arrow::array::TimestampSecondArray::from(vec![5, i64::MAX]));
    let error = append(&store, "t", batch(vec![("at", coarse.clone()), ("more", ints([1, 2]))])).await.unwrap_err();
    assert!(matches!(&error, Error::InvalidValue { column, row: 1, .. } if column == "at"), "{error:?}");
    assert_eq!(store.schema(&key("t")).await.unwrap().unwrap().fields().len(), 1);
    append(&store, "t", batch(vec![("at", coarse.slice(0, 1))])).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 2);
}

/// The newest stamp is in microseconds, whatever the unit of the column in a table of another program.
#[tokio::test]
async fn stamps_of_another_unit() {
    let (_dir, _path, store) = fresh().await;
    let at = |value: Option<i64>| -> ArrayRef {
        Arc::new(arrow::array::TimestampMillisecondArray::from(vec![value]).with_timezone("UTC"))
    };
    append(
        &store,
        "t",
        batch(vec![(columns::UPDATED_AT, at(Some(1_700_000_000_123))), (columns::DELETED_AT, at(None))]),
    )
    .await
    .unwrap();
    assert_eq!(store.newest_stamp(&key("t")).await.unwrap(), Some(1_700_000_000_123_000));
}

/// A connection may have prepared its statements for the columns of an earlier table.
#[tokio::test]
async fn positions_of_a_table_that_another_store_made_anew() {
    let (_dir, path, store) = fresh().await;
    let other = SqliteBackend::file(&path);
    other.open(AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", batch(vec![("id", ints([1])), ("n", ints([2])), ("m", ints([3]))])).await.unwrap();
    let before = store.position(&key("t")).await.unwrap();
    other.drop_table(&key("t")).await.unwrap();
    append(&other, "t", batch(vec![("id", ints([1]))])).await.unwrap();
    let after = store.position(&key("t")).await.unwrap();
    assert!(before.is_some() && after.is_some() && before != after, "{before:?}, {after:?}");
}
