//! Locks on a file: of other processes, and of other stores of this process.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use metaxy_core::{AccessMode, Error, StoreBackend};

use super::{TARGET, append, batch, ints, open, process, read};

/// Runs in the child process of a test: opens the file and holds it until the input ends.
async fn hold(mode: AccessMode) {
    let Some(path) = std::env::var_os(TARGET).map(PathBuf::from) else { return };
    let store = open(&path, mode).await.unwrap();
    println!("\nheld");
    let _ = std::io::stdin().read(&mut [0]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn holds_for_writing() {
    hold(AccessMode::ReadWrite).await;
}

#[tokio::test]
async fn holds_for_reading() {
    hold(AccessMode::ReadOnly).await;
}

/// Starts a process that holds the file.
fn holder(test: &str, path: &Path) -> Child {
    let mut child = process(test, path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "held"), "the other process holds the file");
    // Its further output must be read, or it would block.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn release(mut child: Child) {
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn an_error_names_the_locked_file_and_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap();
    store.close().await.unwrap();
    let other = holder("holders::holds_for_writing", &path);
    for mode in [AccessMode::ReadWrite, AccessMode::ReadOnly] {
        let error = open(&path, mode).await.unwrap_err();
        let pid = other.id().to_string();
        assert!(matches!(&error, Error::Locked { holder, .. } if holder.contains(&pid)), "{error:?}");
        assert!(error.is_transient());
    }
    release(other);
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", batch(vec![("id", ints([2]))])).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 2);
}

/// Tries to open the file for writing.
#[tokio::test]
async fn tries_to_write() {
    let Some(path) = std::env::var_os(TARGET).map(PathBuf::from) else { return };
    let error = open(&path, AccessMode::ReadWrite).await.unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error:?}");
}

/// Closing any handle of a file releases all locks that the process has on it.
#[tokio::test]
async fn a_second_store_of_a_process_keeps_its_lock() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let _first = open(&path, AccessMode::ReadWrite).await.unwrap();
    let second = open(&path, AccessMode::ReadWrite).await.unwrap();
    assert!(process("holders::tries_to_write", &path).status().unwrap().success());
    second.close().await.unwrap();
    assert!(process("holders::tries_to_write", &path).status().unwrap().success());
}

#[tokio::test]
async fn any_number_of_readers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.duckdb");
    let store = open(&path, AccessMode::ReadWrite).await.unwrap();
    append(&store, "t", batch(vec![("id", ints([1]))])).await.unwrap();
    store.close().await.unwrap();
    let others = [holder("holders::holds_for_reading", &path), holder("holders::holds_for_reading", &path)];
    let store = open(&path, AccessMode::ReadOnly).await.unwrap();
    assert_eq!(read(&store, "t").await.unwrap().num_rows(), 1);
    let error = open(&path, AccessMode::ReadWrite).await.unwrap_err();
    assert!(matches!(&error, Error::Locked { holder, .. } if holder.contains("this process")), "{error:?}");
    store.close().await.unwrap();
    let error = open(&path, AccessMode::ReadWrite).await.unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error:?}");
    others.into_iter().for_each(release);
    open(&path, AccessMode::ReadWrite).await.unwrap();
}
