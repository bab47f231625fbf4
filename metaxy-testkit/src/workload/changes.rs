//! The time of an increment since a checkpoint, for several shares of changed samples.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
use metaxy_core::{MetadataStore, Result, columns};
use serde::{Deserialize, Serialize};

use super::data::{Case, ID, LEAF, mixed};

/// The shares, in samples of a million.
const SHARES: [usize; 5] = [0, 100, 1_000, 10_000, 100_000];
/// How often each is measured.
const REPETITIONS: usize = 5;
/// The number of repetitions of increments over many samples, which take longer.
const FEW_REPETITIONS: usize = 3;
const MANY: usize = 1_000_000;

/// The measurements of a share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Change {
    /// Seconds since the checkpoint.
    pub(super) since: Vec<f64>,
    /// Seconds from all rows.
    pub(super) all_rows: Vec<f64>,
    /// What the increment since the checkpoint was computed from.
    pub(super) basis: String,
}

/// By share, in samples of a million.
pub(super) type Changes = BTreeMap<usize, Change>;

/// Measures all shares in an open store whose roots and leaf are written.
pub(super) async fn measure(store: MetadataStore, case: Case) -> Result<Changes> {
    let mut found = Changes::new();
    let repetitions = if case.size > MANY { FEW_REPETITIONS } else { REPETITIONS };
    settle(&store).await?;
    for (round, share) in SHARES.into_iter().enumerate() {
        let increment = store.resolve_update(LEAF).from_all_rows().await?;
        let Some(checkpoint) = increment.checkpoint().filter(|_| increment.is_empty()).cloned() else { break };
        drop(increment);
        let changed = (case.size as u128 * share as u128 / 1_000_000) as usize;
        if changed > 0 {
            store.write(case.scenario.roots()[0], rows(case, round, changed)?).await?;
        }
        let mut change = Change::default();
        for _ in 0..repetitions {
            let start = Instant::now();
            let increment = store.resolve_update(LEAF).since(&checkpoint).await?;
            change.since.push(start.elapsed().as_secs_f64());
            change.basis = increment.basis().to_string();
            assert_eq!(increment.stale.num_rows(), changed, "stale samples");
        }
        for _ in 0..repetitions {
            let start = Instant::now();
            let increment = store.resolve_update(LEAF).from_all_rows().await?;
            change.all_rows.push(start.elapsed().as_secs_f64());
            assert_eq!(increment.stale.num_rows(), changed, "stale samples");
        }
        found.insert(share, change);
        settle(&store).await?;
    }
    Ok(found)
}

/// Processes what is stale.
async fn settle(store: &MetadataStore) -> Result<()> {
    let increment = store.resolve_update(LEAF).from_all_rows().await?;
    store.write(LEAF, increment.new).await?;
    store.write(LEAF, increment.stale).await.map(drop)
}

/// Returns rows of the first root for some samples at random, with new versions of `audio`.
fn rows(case: Case, round: usize, count: usize) -> Result<RecordBatch> {
    let mut ids = std::collections::BTreeSet::new();
    let mut draw = 0;
    while ids.len() < count {
        ids.insert((mixed(900 + round as u64, 1, draw) % case.size as u64) as i64);
        draw += 1;
    }
    // In the order in which they were drawn they would be as random, but the same in each run.
    let mut ids: Vec<i64> = ids.into_iter().collect();
    ids.sort_unstable_by_key(|id| mixed(901, 2, *id as u64));
    let version = |field: &str| -> ArrayRef {
        let texts = ids.iter().map(|id| match field {
            "audio" => format!("changed {round} {id}"),
            _ => format!("{field} {id}"),
        });
        Arc::new(StringArray::from_iter_values(texts))
    };
    let fields = columns::by_field_fields(case.scenario.root_fields());
    let arrays = fields.iter().map(|field| version(field.name())).collect();
    let provenance: ArrayRef = Arc::new(StructArray::try_new(fields, arrays, None)?);
    let ids: ArrayRef = Arc::new(Int64Array::from(ids));
    Ok(RecordBatch::try_from_iter([(ID, ids), (columns::PROVENANCE_BY_FIELD, provenance)])?)
}
