//! Other processes: one that reads, and several that write.

use metaxy_core::backend::{OtherProcesses, Writers};
use metaxy_core::{AccessMode, Error, Result};

use super::concurrency::{ROWS_OF_ONE, write_own};
use super::kit::{PASSED, ROOT, pair, read_ids, samples};
use super::second_process::{as_child, assert_child_passes, child};
use super::{Bench, Outcome};
use crate::long_runs::{PROCESS_WRITES, number};

/// The number of concurrently writing processes, including this one.
const PROCESSES: usize = 16;
const ONE_PROCESS: &str = "its rows live in one process";
/// The variable with the number of a process.
const NUMBER: &str = "METAXY_CONFORMANCE_NUMBER";

pub(super) async fn a_second_process_reads(bench: Bench) -> Result<Outcome> {
    if let Some(store) = as_child(&bench, AccessMode::ReadOnly).await? {
        assert_eq!(read_ids(&store, ROOT).await?, ["s1", "s2"]);
        return PASSED;
    }
    let other_processes = bench.capabilities().await?.other_processes;
    if other_processes == OtherProcesses::Never {
        return Ok(Outcome::Refused(ONE_PROCESS.to_owned()));
    }
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    if other_processes == OtherProcesses::AfterClose {
        store.close().await?;
    }
    assert_child_passes(child(&bench)).await;
    PASSED
}

pub(super) async fn many_processes_write(bench: Bench) -> Result<Outcome> {
    let capabilities = bench.capabilities().await?;
    if capabilities.writers != Writers::AnyProcess {
        return refuses_a_second_process(&bench, capabilities.other_processes).await;
    }
    let writes = number(PROCESS_WRITES, 5);
    if let Some(store) = as_child(&bench, AccessMode::ReadWrite).await? {
        write_own(&store, number(NUMBER, 0), writes).await?;
        return PASSED;
    }
    let store = bench.store(pair()?).await?;
    let others = (1..PROCESSES).map(|process| {
        let mut command = child(&bench);
        command.env(NUMBER, process.to_string());
        tokio::spawn(assert_child_passes(command))
    });
    let others: Vec<_> = others.collect();
    write_own(&store, 0, writes).await?;
    for other in others {
        other.await?;
    }
    let rows = store.read(ROOT).with_sample_history().columns(["id"]).await?.rows().await?;
    let distinct = read_ids(&store, ROOT).await?.len();
    let expected = PROCESSES * writes * ROWS_OF_ONE;
    assert_eq!((rows.num_rows(), distinct), (expected, expected), "rows are lost or duplicated");
    PASSED
}

/// Where only one process can write, another one is told that the place is taken, and the first one works on.
async fn refuses_a_second_process(bench: &Bench, other_processes: OtherProcesses) -> Result<Outcome> {
    let second = async {
        let Some(store) = as_child(bench, AccessMode::ReadWrite).await? else { return Ok(false) };
        store.write(ROOT, samples(["s2"], "v1").batch()).await.map(|_| true)
    };
    match second.await {
        Ok(false) => {}
        Ok(true) => panic!("two processes have written at once"),
        Err(error @ (Error::Locked { .. } | Error::Conflict { .. })) => return Ok(Outcome::Refused(error.to_string())),
        Err(error) => return Err(error),
    }
    if other_processes == OtherProcesses::Never {
        return Ok(Outcome::Refused(ONE_PROCESS.to_owned()));
    }
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1"], "v1").batch()).await?;
    assert_child_passes(child(bench)).await;
    store.write(ROOT, samples(["s3"], "v1").batch()).await?;
    assert_eq!(read_ids(&store, ROOT).await?, ["s1", "s3"]);
    Ok(Outcome::Refused("only one process may write at a time".to_owned()))
}
