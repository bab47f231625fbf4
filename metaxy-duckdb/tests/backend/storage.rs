//! Storage that is full, denied or damaged: each has its own error.
//!
//! For a full disk, the shell limits the size of files, and ignores the signal that would kill the process.

use std::path::PathBuf;
use std::process::Command;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use metaxy_core::{AccessMode, Error, StoreBackend};

use super::{TARGET, append, batch, ints, open, process, read};

/// Larger than an empty store, smaller than the rows of the test.
const LIMIT: &str = "trap '' XFSZ; ulimit -f 8192; exec \"$0\" \"$@\"";
const ROWS: i64 = 200_000;

/// Returns rows that cannot be compressed.
fn noise(from: i64) -> arrow::array::RecordBatch {
    let mixed = |value: i64| value.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64).rotate_left(17) ^ value;
    batch(vec![
        ("id", ints(from..from + ROWS)),
        ("noise", ints((from..from + ROWS).map(mixed))),
        ("more", ints((from..from + ROWS).map(|value| mixed(mixed(value))))),
    ])
}

/// Runs in the child process of the test below, in which the size of files is limited.
#[tokio::test]
async fn fills_the_disk() {
    let Some(path) = std::env::var_os(TARGET).map(PathBuf::from) else { return };
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "small", batch(vec![("id", ints([1]))])).await.unwrap();
    let mut written = 0;
    let error = loop {
        match append(&store, "t", noise(written * ROWS)).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the limit is never reached");
    };
    assert!(matches!(error, Error::StorageFull { .. }) && error.is_transient(), "{error:?}");
    println!("\nwritten {written}");
    // Earlier rows stay readable in this process.
    assert_eq!(read(&store, "small").await.unwrap().num_rows(), 1);
    assert!(store.has_held_rows(&super::key("small")).await.unwrap());
    let _ = store.close().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_full_disk_loses_no_written_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let unlimited = process("storage::fills_the_disk", &path);
    let output = Command::new("sh")
        .args(["-c", LIMIT])
        .arg(unlimited.get_program())
        .args(unlimited.get_args())
        .envs(unlimited.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let written = said.lines().find_map(|line| line.strip_prefix("written ")).unwrap();
    let written: i64 = written.parse().unwrap();
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    assert_eq!(read(&store, "small").await.unwrap().num_rows(), 1);
    if written > 0 {
        let rows = read(&store, "t").await.unwrap();
        let sum: i64 = rows.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().iter().sum();
        let count = written * ROWS;
        assert_eq!((rows.num_rows() as i64, sum), (count, count * (count - 1) / 2));
    }
    append(&store, "t", noise(written * ROWS)).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows() as i64, (written + 1) * ROWS);
}

/// Runs in the child process of the test below, without permissions: opens a file and creates another one.
#[tokio::test]
async fn opens_without_permission() {
    let Some(path) = std::env::var_os(TARGET).map(PathBuf::from) else { return };
    for file in ["store.duckdb", "new.duckdb"] {
        let error = open(&path.join(file), AccessMode::ReadWrite).await.unwrap_err();
        assert!(matches!(error, Error::AccessDenied { .. }), "{file}: {error:?}");
        assert!(!error.is_transient(), "{file}: {error:?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_location_without_permission_is_denied() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    open(&path, AccessMode::ReadWrite).await.unwrap().close().await.unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o444)).unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o555)).unwrap();
    // Not by the path of the test binary, to which other users may have no access.
    let mut child = Command::new("/proc/self/exe");
    child
        .args(["--exact", "storage::opens_without_permission", "--nocapture"])
        .env(TARGET, dir.path())
        .current_dir("/");
    if std::fs::write(dir.path().join("probe"), "").is_ok() {
        // A user who is not exempt from permissions.
        child.uid(65_534).gid(65_534);
    }
    let output = child.output().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The file opens, but the rows of one table are damaged: the error names it, and the other tables can be read.
#[tokio::test]
async fn damaged_rows_name_their_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "small", batch(vec![("id", ints([1]))])).await.unwrap();
    append(&store, "t", noise(0)).await.unwrap();
    store.close().await.unwrap();
    let mut file = std::fs::read(&path).unwrap();
    // Larger than one block, because some blocks of the file are free.
    let eighth = file.len() / 8;
    file[3 * eighth..5 * eighth].iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(&path, file).unwrap();
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    let error = read(&store, "t").await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt { table, .. } if table == "t"), "{error:?}");
    assert!(!error.is_transient());
    assert_eq!(read(&store, "small").await.unwrap().num_rows(), 1);
}
