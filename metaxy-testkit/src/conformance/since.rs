//! Increments since a checkpoint: they are those from all rows, whatever has happened in between.

use arrow::array::{Int64Array, RecordBatch};
use metaxy_core::backend::Appended;
use metaxy_core::store::ResolveRequest;
use metaxy_core::{
    AccessMode, Basis, Checkpoint, FeatureGraph, FeatureKey, FeatureSpec, Increment, Lineage, MetadataStore, Result,
    col,
};

use super::kit::{LEAF, PASSED, ROOT, Samples, ids, ids_of, pair, process, samples};
use super::{Bench, Outcome};
use crate::location::SharedLocation;
use crate::oracle::Histories;
use crate::scenario::assert_same_increment;

/// Returns the checkpoint of a feature; `None` if the backend does not tell positions.
async fn checkpoint(store: &MetadataStore) -> Result<Option<Checkpoint>> {
    Ok(store.resolve_update(LEAF).from_all_rows().await?.checkpoint().cloned())
}

/// Returns the increment since a checkpoint, after checking it against that from all rows.
async fn since(store: &MetadataStore, checkpoint: &Checkpoint, what: &str) -> Result<Increment> {
    let expected = store.resolve_update(LEAF).from_all_rows().await?;
    let increment = store.resolve_update(LEAF).since(checkpoint).await?;
    assert_same_increment(&format!("{what}, the increment from {},", increment.basis()), &expected, &increment)?;
    Ok(increment)
}

pub(super) async fn every_change(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(ids("s", 20), "v1").batch()).await?;
    process(&store, LEAF).await?;
    let Some(before) = checkpoint(&store).await? else { return PASSED };
    assert!(since(&store, &before, "nothing has changed").await?.is_empty());
    store.write(ROOT, samples(["s000001", "new"], "v2").batch()).await?;
    let changed = since(&store, &before, "after a write upstream").await?;
    assert_eq!((ids_of(&changed.new), ids_of(&changed.stale)), (vec!["new".to_owned()], vec!["s000001".to_owned()]));
    let open = checkpoint(&store).await?.expect("positions are told");
    process(&store, LEAF).await?;
    assert!(since(&store, &before, "after both were processed").await?.is_empty());
    assert!(since(&store, &open, "what was open has been processed").await?.is_empty());
    store.delete(LEAF).filter(col("id").eq("s000002")).await?;
    assert_eq!(ids_of(&since(&store, &before, "after a soft delete").await?.new), ["s000002"]);
    store.delete(ROOT).filter(col("id").eq("s000003")).await?;
    assert_eq!(ids_of(&since(&store, &before, "after a soft delete upstream").await?.orphaned), ["s000003"]);
    let rows = samples(["s000004"], "v1").column("added", Int64Array::from(vec![1]));
    store.write(ROOT, rows.batch()).await?;
    since(&store, &before, "after the table has grown").await?;
    store.delete(ROOT).filter(col("id").eq("s000005")).hard().await?;
    assert_eq!(ids_of(&since(&store, &before, "after a hard delete upstream").await?.orphaned), ["s000003", "s000005"]);
    store.drop_feature(LEAF).await?;
    since(&store, &before, "after the table was dropped").await?;
    store.write(LEAF, store.resolve_update(LEAF).await?.new).await?;
    since(&store, &before, "after the table was made anew").await?;
    PASSED
}

pub(super) async fn other_stores_and_maintenance(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(ids("s", 20), "v1").batch()).await?;
    process(&store, LEAF).await?;
    let Some(before) = checkpoint(&store).await? else { return PASSED };
    for round in 0..3 {
        let other = bench.builder(pair()?).await?.open(AccessMode::ReadWrite).await?;
        other.write(ROOT, samples([format!("other{round}")], "v1").batch()).await?;
        other.compact(ROOT).await?;
        let found = since(&store, &before, "after another store has written and compacted").await?;
        assert_eq!(
            ids_of(&found.new),
            ids("other", 0).into_iter().chain((0..=round).map(|n| format!("other{n}"))).collect::<Vec<_>>()
        );
        other.vacuum(ROOT, std::time::Duration::ZERO).await?;
        since(&store, &before, "after a vacuum").await?;
        other.close().await?;
    }
    store.close().await?;
    let store = bench.store(pair()?).await?;
    let kept = Checkpoint::from_bytes(&before.to_bytes()?)?;
    assert_eq!(since(&store, &kept, "in a store that was opened again").await?.new.num_rows(), 3);
    PASSED
}

/// The feature that groups the samples of [`ROOT`] by their column `film`, which may change.
fn films() -> Result<FeatureGraph> {
    FeatureGraph::new([
        FeatureSpec::builder(ROOT).id_columns(["id"]).fields(["a", "b"]).build()?,
        FeatureSpec::builder(LEAF)
            .id_columns(["film"])
            .dep(metaxy_core::FeatureDep::new(ROOT).lineage(Lineage::Aggregation { on: None }))
            .field("x")
            .build()?,
    ])
}

fn cut(samples: Samples, films: Vec<i64>) -> RecordBatch {
    samples.column("film", Int64Array::from(films)).batch()
}

/// Writes a row for each new or stale group.
async fn write_groups(store: &MetadataStore) -> Result<()> {
    let groups = store.resolve_update(LEAF).await?.groups()?.map(|group| group.slice(0, 1)).collect::<Vec<_>>();
    store.write(LEAF, groups).await.map(drop)
}

pub(super) async fn samples_that_change_their_group(bench: Bench) -> Result<Outcome> {
    let store = bench.store(films()?).await?;
    store.write(ROOT, cut(samples(["s1", "s2", "s3", "s4"], "v1"), vec![1, 1, 2, 3])).await?;
    write_groups(&store).await?;
    let Some(before) = checkpoint(&store).await? else { return PASSED };
    assert!(since(&store, &before, "nothing has changed").await?.is_empty());
    store.write(ROOT, cut(samples(["s2"], "v1"), vec![2])).await?;
    assert_eq!(since(&store, &before, "after a sample has moved").await?.stale.num_rows(), 3, "both groups are stale");
    store.write(ROOT, cut(samples(["s4"], "v1"), vec![4])).await?;
    let found = since(&store, &before, "after the last sample of a group has left it").await?;
    assert_eq!((found.new.num_rows(), found.stale.num_rows(), found.orphaned.num_rows()), (1, 3, 1));
    write_groups(&store).await?;
    let Some(moved) = checkpoint(&store).await? else { return PASSED };
    store.write(ROOT, cut(samples(["s1"], "v2"), vec![1])).await?;
    let found = since(&store, &moved, "after a change of a group that a sample had left before").await?;
    assert_eq!(found.stale.num_rows(), 1, "the group is its last sample");
    PASSED
}

pub(super) async fn appended_rows(bench: Bench) -> Result<Outcome> {
    use futures::TryStreamExt;
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(ids("s", 10), "v1").batch()).await?;
    let (key, backend) = (ROOT.parse::<FeatureKey>()?, store.backend().clone());
    let Some(position) = backend.position(&key).await? else { return PASSED };
    for count in 1..4 {
        store.write(ROOT, samples([format!("t{count}")], "v1").batch()).await?;
        match backend.appended(&key, &position, &["id".to_owned()]).await? {
            Appended::CannotTell(_) => {}
            Appended::Rows { rows, .. } => {
                let batches: Vec<RecordBatch> = rows.stream.try_collect().await?;
                let found: Vec<String> = batches.iter().flat_map(|batch| super::kit::texts(batch, "id")).collect();
                for number in 1..=count {
                    assert!(found.contains(&format!("t{number}")), "t{number} is not among {found:?}");
                }
            }
        }
    }
    PASSED
}

pub(super) async fn remembered_by_the_store(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(ids("s", 10), "v1").batch()).await?;
    process(&store, LEAF).await?;
    let first = store.resolve_update(LEAF).await?;
    if first.checkpoint().is_none() {
        return PASSED;
    }
    // Other transactions of a server may move the positions of all tables.
    let again = store.resolve_update(LEAF).await?;
    assert!(again.is_empty());
    assert!(matches!(again.basis(), Basis::Unchanged | Basis::AllRows { reason: Some(_) }), "from {}", again.basis());
    store.write(ROOT, samples(["s000003"], "v2").batch()).await?;
    let changed = store.resolve_update(LEAF).await?;
    assert_eq!(ids_of(&changed.stale), ["s000003"], "from {}", changed.basis());
    let again = store.resolve_update(LEAF).await?;
    assert_eq!(ids_of(&again.stale), ["s000003"], "from {}", again.basis());
    let other = store.resolve_update(LEAF).staleness("id = 's000001'").await?;
    assert_eq!(
        (ids_of(&other.stale), other.basis()),
        (ids("s", 4)[1..4].iter().filter(|id| *id != "s000002").cloned().collect(), &Basis::AllRows { reason: None })
    );
    PASSED
}

pub(super) async fn other_options(bench: Bench) -> Result<Outcome> {
    const FIRST: &str = "id = 's000001'";
    let options: [fn(ResolveRequest) -> ResolveRequest; 5] = [
        |resolve| resolve.filter(ROOT, FIRST),
        |resolve| resolve.target_filter(FIRST),
        |resolve| resolve.global_filter(FIRST),
        |resolve| resolve.staleness(FIRST),
        ResolveRequest::skip_comparison,
    ];
    for (number, with) in options.into_iter().enumerate() {
        let store = bench.store(pair()?).await?;
        store.write(ROOT, samples(ids("s", 1), "v1").batch()).await?;
        process(&store, LEAF).await?;
        store.write(ROOT, samples(ids("s", 3), "v1").batch()).await?;
        if let Some(checkpoint) = with(store.resolve_update(LEAF)).await?.checkpoint() {
            since(&store, checkpoint, &format!("since a checkpoint with options {number}")).await?;
        }
        process(&store, LEAF).await?;
        let Some(checkpoint) = checkpoint(&store).await? else { return PASSED };
        assert!(store.resolve_update(LEAF).await?.is_empty());
        let expected = with(store.resolve_update(LEAF)).from_all_rows().await?;
        let remembered = with(store.resolve_update(LEAF)).await?;
        assert_same_increment(&format!("options {number}, after an increment without"), &expected, &remembered)?;
        let increment = with(store.resolve_update(LEAF)).since(&checkpoint).await?;
        assert_same_increment(&format!("options {number}, since a checkpoint without"), &expected, &increment)?;
        store.drop_feature(ROOT).await?;
        store.drop_feature(LEAF).await?;
    }
    PASSED
}

pub(super) async fn a_directory_of_checkpoints(bench: Bench) -> Result<Outcome> {
    let directory =
        tempfile::tempdir().map_err(|error| metaxy_core::Error::of_io("the test's directory", "create", error))?;
    let open = async || bench.builder(pair()?).await?.checkpoints(directory.path()).open(AccessMode::ReadWrite).await;
    let store = open().await?;
    store.write(ROOT, samples(ids("s", 10), "v1").batch()).await?;
    process(&store, LEAF).await?;
    let keeps = store.resolve_update(LEAF).await?.checkpoint().is_some();
    store.close().await?;
    for round in 0..3 {
        let files = || std::fs::read_dir(directory.path()).into_iter().flatten().flatten().map(|entry| entry.path());
        assert_eq!(files().count(), usize::from(keeps), "a file for each feature");
        match round {
            0 => {}
            1 => files().for_each(|file| std::fs::write(file, "damaged").expect("the file can be written")),
            _ => files().for_each(|file| std::fs::remove_file(file).expect("the file can be removed")),
        }
        let store = open().await?;
        assert!(store.resolve_update(LEAF).await?.is_empty());
        store.write(ROOT, samples(["s000003"], &format!("w{round}")).batch()).await?;
        let changed = store.resolve_update(LEAF).await?;
        assert_eq!(ids_of(&changed.stale), ["s000003"], "from {}", changed.basis());
        store.write(LEAF, changed.stale).await?;
        assert!(store.resolve_update(LEAF).await?.is_empty());
        store.close().await?;
    }
    PASSED
}

pub(super) async fn random_histories(bench: Bench) -> Result<Outcome> {
    let location = || async {
        let location = bench.passing().await?;
        Ok((location.backend().await?, location))
    };
    let histories = Histories::new(bench.location.load().histories / 2).seed(16);
    let played = histories.play_since(
        location,
        |store| bench.location.configure(store),
        |location: &SharedLocation| Some(&**location),
    );
    let played = played.await;
    let counts = played.unwrap_or_else(|disagreement| panic!("{disagreement}"));
    tracing::info!(?counts, "increments since checkpoints");
    PASSED
}
