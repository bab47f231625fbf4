//! Compares increments since checkpoints with increments from all rows.

use std::sync::Arc;

use metaxy_core::backend::SharedBackend;
use metaxy_core::store::{Clock, StoreBuilder};
use metaxy_core::{AccessMode, Basis, Checkpoint, FeatureKey, MetadataStore};

use super::runner::{assert_same_increment, play_step, resolve_request};
use super::{Failure, Resolve, Scenario, Step};
use crate::clock::ManualClock;
use crate::location::Location;

/// The increments that were computed since a checkpoint, by what they were computed from.
#[derive(Clone, Copy, Debug, Default)]
pub struct SinceCounts {
    /// Those from all rows, because it could not be told what had changed.
    pub all_rows: usize,
    /// Those from the rows that had changed.
    pub changes: usize,
    /// Those from no row, because nothing had changed.
    pub unchanged: usize,
    /// The rows that another program has appended in between.
    pub elsewhere: usize,
}

impl SinceCounts {
    pub(crate) fn add(&mut self, other: Self) {
        self.all_rows += other.all_rows;
        self.changes += other.changes;
        self.unchanged += other.unchanged;
        self.elsewhere += other.elsewhere;
    }

    fn count(&mut self, basis: &Basis) {
        match basis {
            Basis::AllRows { .. } => self.all_rows += 1,
            Basis::Changes { .. } => self.changes += 1,
            Basis::Unchanged => self.unchanged += 1,
        }
    }
}

/// A checkpoint that was taken before a step, for a later resolve.
struct Taken {
    before: usize,
    resolve: usize,
    checkpoint: Checkpoint,
}

/// Runs a scenario on a backend that is empty and not open. Before every step, a checkpoint is taken for each later
/// resolve; each resolve is computed since all of its checkpoints, and must give the increment from all rows. After every
/// third step the table of the step is compacted, or another program
/// [deletes](Location::delete_elsewhere) a row of it, if the location is given. Recorded results are ignored.
///
/// # Errors
/// The first step that fails, or whose increments differ.
pub async fn run_since(
    scenario: &Scenario,
    file: &str,
    backend: SharedBackend,
    configure: impl FnOnce(StoreBuilder) -> StoreBuilder,
    location: Option<&dyn Location>,
) -> Result<SinceCounts, Failure> {
    let failed = |position: &str, message: String| Failure::new(file, position, message);
    let clock = ManualClock::new();
    let truncation = scenario.hash_truncation_length;
    let graph = scenario.definitions.graph(truncation).map_err(|error| failed("definitions", error.to_string()))?;
    let opened = configure(MetadataStore::builder(backend, graph))
        .hash_algorithm(scenario.hash_algorithm)
        .hash_truncation_length(truncation)
        .auto_create_tables(true)
        .clock(Arc::clone(&clock) as _)
        .open(AccessMode::ReadWrite)
        .await;
    let mut store = opened.map_err(|error| failed("opening the store", error.to_string()))?;
    let (mut taken, mut counts) = (Vec::new(), SinceCounts::default());
    for (index, step) in scenario.steps.iter().enumerate() {
        clock.advance(1);
        take(&store, scenario, index, &mut taken).await;
        let position = format!("step {} of {} ({} {})", index + 1, scenario.steps.len(), step.op(), step.feature());
        let played = match step {
            Step::Resolve(resolve) if is_compared(resolve) => {
                compare(&store, index, resolve, &taken, &mut counts).await.map(|()| None)
            }
            Step::Resolve(_) | Step::Read(_) => Ok(None),
            changing => play_step(store.clone(), changing, truncation).await.map(Some),
        };
        if let Some(changed) = played.map_err(|message| failed(&position, message))? {
            store = changed;
        }
        if let Step::Write(write) = step {
            let disturbed = disturb(&store, index, &write.feature, location, clock.now_micros()).await;
            counts.elsewhere += usize::from(disturbed.map_err(|error| failed(&position, error.to_string()))?);
        }
    }
    store.close().await.map_err(|error| failed("closing the store", error.to_string()))?;
    Ok(counts)
}

/// Does what nobody has asked for: compacts a table, or lets another program delete a row. Returns whether it did that.
async fn disturb(
    store: &MetadataStore,
    index: usize,
    table: &str,
    location: Option<&dyn Location>,
    time: i64,
) -> metaxy_core::Result<bool> {
    match (index % 3, location) {
        (1, Some(location)) => location.delete_elsewhere(&table.parse::<FeatureKey>()?, time).await,
        (2, _) => store.compact(table).await.map(|()| false),
        _ => Ok(false),
    }
}

fn is_compared(resolve: &Resolve) -> bool {
    resolve.samples.is_none() && resolve.skip_comparison != Some(true)
}

/// Takes a checkpoint for each later resolve that is possible now.
async fn take(store: &MetadataStore, scenario: &Scenario, now: usize, taken: &mut Vec<Taken>) {
    for (resolve, step) in scenario.steps.iter().enumerate().skip(now + 1) {
        let Step::Resolve(step) = step else { continue };
        if !is_compared(step) {
            continue;
        }
        let Ok(request) = resolve_request(store, step) else { continue };
        // Tables and columns may still be missing.
        if let Ok(increment) = request.from_all_rows().await
            && let Some(checkpoint) = increment.checkpoint()
        {
            taken.push(Taken { before: now, resolve, checkpoint: checkpoint.clone() });
        }
    }
}

async fn compare(
    store: &MetadataStore,
    index: usize,
    step: &Resolve,
    taken: &[Taken],
    counts: &mut SinceCounts,
) -> Result<(), String> {
    let text = |error: metaxy_core::Error| error.to_string();
    let expected = resolve_request(store, step).map_err(text)?.from_all_rows().await.map_err(text)?;
    for Taken { before, checkpoint, .. } in taken.iter().filter(|taken| taken.resolve == index) {
        let bytes = checkpoint.to_bytes().map_err(text)?;
        let checkpoint = Checkpoint::from_bytes(&bytes).map_err(text)?;
        let since = resolve_request(store, step).map_err(text)?.since(&checkpoint).await.map_err(text)?;
        let what = format!("the increment since the state before step {} (from {})", before + 1, since.basis());
        assert_same_increment(&what, &expected, &since).map_err(text)?;
        counts.count(since.basis());
    }
    Ok(())
}
