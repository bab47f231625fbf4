//! Many processes write to one table, and some are killed.

use std::process::Stdio;
use std::sync::Arc;

use metaxy_core::SharedBackend;
use metaxy_delta::{DeltaBackend, DeltaConfig};
use metaxy_testkit::crash::{self, Victim};
use metaxy_testkit::servers::s3;
use tokio::process::Command;

use crate::{append, local, on_s3, opened, read_ids, rows};

const PROCESSES: i64 = 8;
const WRITES: i64 = 50;
const ROWS: i64 = 3;
const KILLS: usize = 50;

/// Tells a process that was started by a test where to write, and which one it is.
const SETTINGS: &str = "METAXY_DELTA_SETTINGS";
const NUMBER: &str = "METAXY_DELTA_NUMBER";

/// The ids of one write.
fn ids(process: i64, write: i64) -> impl Iterator<Item = i64> {
    let first = (process * WRITES + write) * ROWS;
    first..first + ROWS
}

/// Starts the running test again in many processes, which all write to the same table.
async fn processes_write(test: &str, settings: &DeltaConfig) {
    if let Ok(given) = std::env::var(SETTINGS) {
        let process = std::env::var(NUMBER).unwrap().parse().unwrap();
        let backend = opened(&toml::from_str(&given).unwrap()).await;
        for write in 0..WRITES {
            append(&backend, rows(ids(process, write))).await.unwrap();
        }
        return;
    }
    let started = (0..PROCESSES).map(|process| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
        command.env(SETTINGS, toml::to_string(settings).unwrap()).env(NUMBER, process.to_string());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).output()
    });
    for output in futures::future::try_join_all(started).await.unwrap() {
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success() && text.contains("1 passed"), "a process fails:\n{text}");
    }
    let found = read_ids(&opened(settings).await).await.unwrap();
    assert_eq!(found, (0..PROCESSES * WRITES * ROWS).collect::<Vec<_>>(), "rows are lost or there twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_processes_write_to_a_directory() {
    let root = tempfile::tempdir().unwrap();
    processes_write("processes::eight_processes_write_to_a_directory", &local(root.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_processes_write_to_s3() {
    let bucket = s3::bucket().unwrap();
    processes_write("processes::eight_processes_write_to_s3", &on_s3(&bucket)).await;
}

fn made(settings: DeltaConfig) -> metaxy_core::Result<SharedBackend> {
    Ok(Arc::new(DeltaBackend::new(settings)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_leave_whole_writes_in_a_directory() {
    let test = "processes::kills_leave_whole_writes_in_a_directory";
    let root = tempfile::tempdir().unwrap();
    crash::survives_kills(test, Victim::Store, KILLS, root.path(), |root| async move { made(local(&root)) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_leave_whole_writes_on_s3() {
    // The process that is killed finds the bucket by this file, beside the locations.
    const FILE: &str = "settings.toml";
    let bucket = s3::bucket().unwrap();
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join(FILE), toml::to_string(&on_s3(&bucket)).unwrap()).unwrap();
    let test = "processes::kills_leave_whole_writes_on_s3";
    crash::survives_kills(test, Victim::Store, KILLS, place.path(), |place| async move {
        let settings = std::fs::read_to_string(place.with_file_name(FILE)).unwrap();
        let mut settings: DeltaConfig = toml::from_str(&settings).unwrap();
        settings.root_path = format!("{}/{}", settings.root_path, place.file_name().unwrap().display());
        made(settings)
    })
    .await;
}
