//! Positions: a backend that gives them never says that nothing has changed after something has.

use metaxy_core::backend::Position;
use metaxy_core::{AccessMode, FeatureKey, MetadataStore, Result, col};

use super::kit::{LEAF, PASSED, ROOT, increment, pair, process, samples};
use super::{Bench, Outcome};

async fn position(store: &MetadataStore, feature: &str) -> Result<Option<Position>> {
    store.backend().position(&feature.parse::<FeatureKey>()?).await
}

/// Checks that a position differs from all earlier ones, unless it cannot be told.
async fn has_moved(store: &MetadataStore, seen: &mut Vec<Position>, change: &str) -> Result<()> {
    if let Some(now) = position(store, ROOT).await? {
        assert!(!seen.contains(&now), "after {change} the table is at {now} again");
        seen.push(now);
    }
    Ok(())
}

pub(super) async fn every_change_moves_the_position(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let mut seen = Vec::new();
    has_moved(&store, &mut seen, "opening").await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    has_moved(&store, &mut seen, "the first write").await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    has_moved(&store, &mut seen, "the same write again").await?;
    store.delete(ROOT).filter(col("id").eq("s1")).await?;
    has_moved(&store, &mut seen, "a soft delete").await?;
    store.delete(ROOT).filter(col("id").eq("s2")).hard().await?;
    has_moved(&store, &mut seen, "a hard delete").await?;
    store.drop_feature(ROOT).await?;
    if let (Some(now), Some(before)) = (position(&store, ROOT).await?, seen.last()) {
        assert_ne!(&now, before, "after a drop");
    }
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    has_moved(&store, &mut seen, "a write after a drop").await?;
    PASSED
}

pub(super) async fn changes_of_others_move_the_position(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1"], "v1").batch()).await?;
    let mut seen = Vec::new();
    has_moved(&store, &mut seen, "the first write").await?;
    for version in ["v2", "v3"] {
        let other = bench.builder(pair()?).await?.open(AccessMode::ReadWrite).await?;
        other.write(ROOT, samples(["s1"], version).batch()).await?;
        has_moved(&store, &mut seen, "a write of another store").await?;
        other.close().await?;
    }
    PASSED
}

pub(super) async fn features_that_were_up_to_date(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let other = bench.builder(pair()?).await?.open(AccessMode::ReadWrite).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    process(&store, LEAF).await?;
    let stale =
        async || -> Result<usize> { Ok(store.resolve_update(LEAF).staleness("id = 's1'").await?.stale.num_rows()) };
    let up_to_date = [vec![], vec![], vec![]] as [Vec<String>; 3];
    for (writer, id, version, kind) in [(&other, "s3", "v1", 0), (&store, "s4", "v1", 0), (&other, "s3", "v2", 1)] {
        // From the third time on an empty increment may be remembered.
        for _ in 0..4 {
            assert_eq!(increment(&store, LEAF).await?, up_to_date, "before {id} was written");
        }
        assert_eq!(stale().await?, 1, "other options");
        writer.write(ROOT, samples([id], version).batch()).await?;
        let mut expected = up_to_date.clone();
        expected[kind].push(id.to_owned());
        assert_eq!(increment(&store, LEAF).await?, expected);
        process(writer, LEAF).await?;
    }
    for _ in 0..4 {
        assert_eq!(increment(&store, LEAF).await?, up_to_date);
    }
    other.delete(LEAF).filter(col("id").eq("s2")).await?;
    assert_eq!(increment(&store, LEAF).await?[0], ["s2"], "the feature's own row was deleted");
    other.close().await?;
    PASSED
}
