//! A process that is killed while it writes.

use std::io::Write;
use std::time::Duration;

use metaxy_core::backend::OtherProcesses;
use metaxy_core::{AccessMode, MetadataStore, Result};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::conformance::kit::{PASSED, ROOT, generation, only_generation, pair, read};
use crate::conformance::second_process::{as_child, child};
use crate::conformance::{Bench, Outcome};

const SAID: &str = "is written: ";

pub(in crate::conformance) async fn writes_of_a_killed_process_are_atomic(bench: Bench) -> Result<Outcome> {
    if let Some(store) = as_child(&bench, AccessMode::ReadWrite).await? {
        return write_until_killed(&store).await;
    }
    if bench.capabilities().await?.other_processes == OtherProcesses::Never {
        return Ok(Outcome::Refused("its rows live in one process".to_owned()));
    }
    let store = bench.store(pair()?).await?;
    store.write(ROOT, generation(0)).await?;
    store.close().await?;
    for round in 0..3 {
        let said = kill_a_writer(&bench, round).await;
        let store = patiently_open(&bench).await?;
        let found = only_generation(&read(&store, ROOT).await?);
        assert!(found >= said, "write {said} had returned when the process was killed; what is left is write {found}");
        store.write(ROOT, generation(found + 1)).await?;
        store.close().await?;
    }
    PASSED
}

/// Writes repeatedly, and prints each completed write.
async fn write_until_killed(store: &MetadataStore) -> Result<Outcome> {
    let first = only_generation(&read(store, ROOT).await?) + 1;
    for number in first.. {
        store.write(ROOT, generation(number)).await?;
        let mut output = std::io::stdout().lock();
        // The harness prints the name of the test without a line end. If the parent no longer reads, it is about to
        // kill this process.
        let _ = writeln!(output, "\n{SAID}{number}").and_then(|()| output.flush());
    }
    PASSED
}

/// Starts a process that writes, and kills it after a few writes. Returns the last write that it has reported.
async fn kill_a_writer(bench: &Bench, round: u64) -> i64 {
    let mut process = child(bench).spawn().expect("the second process starts");
    let output = process.stdout.take().expect("its output is piped");
    let mut lines = BufReader::new(output).lines();
    let mut said = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        said.extend(line.strip_prefix(SAID).and_then(|number| number.parse::<i64>().ok()));
        if said.len() == 3 {
            // The kill is meant to hit a later write.
            tokio::time::sleep(Duration::from_micros(700 * round)).await;
            process.kill().await.expect("the process is killed");
        }
    }
    assert!(said.len() >= 3, "the second process cannot write");
    said.last().copied().unwrap_or_default()
}

/// Opens the store, with some time for the storage system to notice that a process has ended.
async fn patiently_open(bench: &Bench) -> Result<MetadataStore> {
    for _ in 0..100 {
        match bench.store(pair()?).await {
            Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(20)).await,
            other => return other,
        }
    }
    bench.store(pair()?).await
}
