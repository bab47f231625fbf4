//! The suite finds faults: deliberate faults, one at a time in a copy of the in-memory backend, and the case that
//! catches each. Every case first passes on the copy without a fault.

mod native;
mod wrong;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use metaxy_core::backend::SharedBackend;
use metaxy_testkit::conformance::{Bench, Outcome, try_case};
use metaxy_testkit::memory::MemoryBackend;
use metaxy_testkit::oracle::Histories;
use metaxy_testkit::{Location, Result, scenario};

use wrong::{Defect, WrongBackend};

/// A location in memory that knows the other ones of its test, for a store that mixes them up.
struct MemoryLocation {
    name: String,
    all: Arc<Mutex<Vec<String>>>,
    defect: Option<Defect>,
}

#[async_trait]
impl Location for MemoryLocation {
    async fn backend(&self) -> Result<SharedBackend> {
        Ok(Arc::new(WrongBackend::new(&self.name, self.all.clone(), self.defect)))
    }

    fn settings(&self) -> toml::Table {
        toml::Table::new()
    }
}

/// Creates a bench of locations with a defect.
async fn bench(defect: Option<Defect>) -> Bench {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let all: Arc<Mutex<Vec<String>>> = Arc::default();
    let location = move || {
        let name = format!("wrong-{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let all = all.clone();
        all.lock().unwrap().push(name.clone());
        async move { Ok(MemoryLocation { name, all, defect }) }
    };
    Bench::new(location).await.unwrap()
}

macro_rules! caught {
    ($($test:ident: $defect:ident is caught by $group:ident::$case:ident which says $promise:literal)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let (group, name) = (stringify!($group), stringify!($case));
                let sound = try_case(group, name, bench(None).await).await;
                assert_eq!(sound, Ok(Outcome::Passed), "{group}::{name} without any fault");
                let wrong = try_case(group, name, bench(Some(Defect::$defect)).await).await;
                let message = wrong.expect_err("the fault is not caught");
                println!("{group}::{name}: {message}");
                assert!(message.contains($promise), "the message does not name the promise: {message}");
            }
        )*
    };
}

caught! {
    keep_latest_by_created_at: LatestByCreation is caught by read::newest_by_update_not_by_creation
        which says "The newest row is the one written last, whatever its time of creation"
    a_filter_before_deduplication: FilterBeforeLatest is caught by read::filters_see_the_newest_row_only
        which says "Filters apply to the newest row"
    deleted_rows_returned: DeletedReturned is caught by deletes::softly_deleted_is_not_read
        which says "A softly deleted sample is not read"
    a_lost_null: LostNull is caught by types::utf8
        which says "Values, including nulls, are read back unchanged"
    a_torn_write: TornWrite is caught by faults::a_dropped_write_is_atomic
        which says "is stored completely or not at all"
    a_fallback_mixed_in: FallbackMixedIn is caught by fallback::rows_are_never_mixed
        which says "are never mixed"
    a_swapped_join_side: SwappedJoinSide is caught by resolve::optional_dependencies
        which says "A missing optional dependency keeps the sample"
    a_case_folded_column: CaseFolded is caught by write::case_of_names_is_kept
        which says "Column names keep their case"
    a_truncated_timestamp: TruncatedTimestamp is caught by write::timestamps_keep_their_microseconds
        which says "Times are stored with microseconds"
    a_forgotten_rename: ForgottenRename is caught by resolve::static_filters_and_renames
        which says "columns are renamed"
    a_commit_for_each_batch: BatchByBatch is caught by concurrency::readers_see_complete_writes
        which says "all of a write or nothing"
    a_snapshot_for_each_chunk: SnapshotPerChunk is caught by concurrency::a_partly_read_stream_keeps_its_snapshot
        which says "continues with the snapshot with which it started"
    a_delete_that_needs_a_table: NoTableIsAnError is caught by deletes::deleting_from_no_table
        which says "deletes nothing from a table that does not exist"
    a_filter_that_is_refused: FilterRefused is caught by deletes::filters_that_no_database_has
        which says "is evaluated, by reads and deletes"
    a_position_that_stands_still: PositionStandsStill is caught by positions::every_change_moves_the_position
        which says "is none that was returned before"
    an_append_that_is_forgotten: AppendedForgotten is caught by since::appended_rows
        which says "includes every row that was"
    a_removal_that_is_not_seen: RemovalUnseen is caught by since::every_change
        which says "is the increment from all rows, after every kind of change"
    a_key_that_is_forgotten: KeysForgotten is caught by read::scans_by_keys
        which says "returns every row that has one of them"
    a_capability_that_is_hidden: CapabilityHidden is caught by types::float64
        which says "or the write is refused"
}

/// A history on which the oracle finds a fault is minimized and written to a file, and can be replayed.
#[tokio::test]
async fn a_failing_history_can_be_replayed() {
    let directory = tempfile::tempdir().unwrap();
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let wrong = || -> SharedBackend {
        let name = format!("history-{}", NEXT.fetch_add(1, Ordering::SeqCst));
        Arc::new(WrongBackend::new(&name, Arc::default(), Some(Defect::DeletedReturned)))
    };
    let histories = Histories::new(200).seed(1).failures(directory.path());
    let disagreement = histories.play(|| async { Ok((wrong(), ())) }).await.expect_err("nothing is found");
    println!("{disagreement}");
    assert!(disagreement.scenario.steps.len() <= 6, "the history is not small");
    assert!(disagreement.scenario.steps.iter().any(|step| step.op() == "delete"));
    let file = disagreement.file.unwrap();
    assert_eq!(file.parent(), Some(directory.path()));
    let (text, name) = (std::fs::read_to_string(&file).unwrap(), file.display().to_string());
    let failure = scenario::run_text(&text, &name, wrong()).await.expect_err("the file does not fail");
    assert!(failure.to_string().starts_with(&name), "{failure}");
    scenario::run_text(&text, &name, Arc::new(MemoryBackend::new())).await.unwrap();
}
