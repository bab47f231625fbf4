//! The suite finds what is wrong: ten deliberate faults, one at a time in a copy of the in-memory backend, and the case
//! that catches each. Every case is first shown to pass on the copy without a fault.

mod native;
mod wrong;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::FutureExt;
use metaxy_core::backend::SharedBackend;
use metaxy_testkit::conformance::{Bench, CASES, Outcome};
use metaxy_testkit::{Location, OtherProcesses, Result, Support};

use wrong::{Defect, WrongBackend};

/// A place in memory; it knows of all others of its test, for a store that mixes them up.
struct Place {
    name: String,
    all: Arc<Mutex<Vec<String>>>,
    defect: Option<Defect>,
}

#[async_trait]
impl Location for Place {
    async fn backend(&self) -> Result<SharedBackend> {
        Ok(Arc::new(WrongBackend::new(&self.name, self.all.clone(), self.defect)))
    }

    fn settings(&self) -> toml::Table {
        toml::Table::new()
    }

    fn support(&self) -> Support {
        Support::default().other_processes(OtherProcesses::Never)
    }
}

/// Runs a case; what it says where it fails.
async fn run(group: &str, name: &str, defect: Option<Defect>) -> Result<(), String> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let case = CASES.iter().find(|case| case.group == group && case.name == name).expect("there is such a case");
    let all: Arc<Mutex<Vec<String>>> = Arc::default();
    let bench = Bench::new(move || {
        let name = format!("wrong-{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let all = all.clone();
        all.lock().unwrap().push(name.clone());
        async move { Ok(Place { name, all, defect }) }
    });
    let bench = bench.await.map_err(|error| error.to_string())?;
    match AssertUnwindSafe((case.run)(bench)).catch_unwind().await {
        Ok(Ok(Outcome::Passed)) => Ok(()),
        Ok(Ok(Outcome::Refused(why))) => Err(format!("refused: {why}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
        }
    }
}

macro_rules! caught {
    ($($test:ident: $defect:ident is caught by $group:ident::$case:ident which says $promise:literal)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let (group, name) = (stringify!($group), stringify!($case));
                let case = CASES.iter().find(|case| case.group == group && case.name == name).expect("there is such a case");
                assert!(case.promise.contains($promise), "`{}` does not name the promise", case.promise);
                if let Err(message) = run(group, name, None).await {
                    panic!("{group}::{name} fails without any fault: {message}");
                }
                let caught = run(group, name, Some(Defect::$defect)).await;
                let message = caught.expect_err("the fault is not caught");
                println!("{group}::{name} broken: {}\n{message}", case.promise);
            }
        )*
    };
}

caught! {
    keep_latest_by_created_at: LatestByCreation is caught by read::newest_by_update_not_by_creation
        which says "Newest means last written, whatever the row says of its creation"
    a_filter_before_deduplication: FilterBeforeLatest is caught by read::filters_see_the_newest_row_only
        which says "Filters are asked of the newest row"
    deleted_rows_returned: DeletedReturned is caught by deletes::softly_deleted_is_not_read
        which says "A softly deleted sample is not read"
    a_lost_null: LostNull is caught by types::utf8
        which says "null among them"
    a_torn_write: TornWrite is caught by faults::dropped_write_is_whole
        which says "is there as a whole, or not at all"
    a_fallback_mixed_in: FallbackMixedIn is caught by fallback::rows_are_never_mixed
        which says "are never mixed"
    a_swapped_join_side: SwappedJoinSide is caught by resolve::optional_dependencies
        which says "A missing optional dependency keeps the sample"
    a_case_folded_column: CaseFolded is caught by write::case_of_names_is_kept
        which says "Column names keep their case"
    a_truncated_timestamp: TruncatedTimestamp is caught by write::timestamps_keep_their_microseconds
        which says "Times are stored to the microsecond"
    a_forgotten_rename: ForgottenRename is caught by resolve::static_filters_and_renames
        which says "columns are renamed"
}
