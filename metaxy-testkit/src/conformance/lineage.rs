//! Lineage: features whose samples are groups, or parts, of upstream samples.

use arrow::array::{Int64Array, StringArray};
use metaxy_core::{FeatureDep, FeatureGraph, FeatureSpec, Lineage, MetadataStore, Result, columns};

use super::kit::{PASSED, ROOT, assert_engines_agree, read, root, samples, texts};
use super::{Bench, Outcome};

/// How many samples are new, stale and orphaned; both engines say the same.
async fn sizes(store: &MetadataStore, feature: &str) -> Result<[usize; 3]> {
    let increment = assert_engines_agree(|| store.resolve_update(feature)).await?;
    Ok([increment.new, increment.stale, increment.orphaned].map(|rows| rows.num_rows()))
}

pub(super) async fn groups_of_samples(bench: Bench) -> Result<Outcome> {
    let graph = FeatureGraph::new([
        root(ROOT)?,
        FeatureSpec::builder("by/day")
            .id_columns(["day"])
            .dep(FeatureDep::new(ROOT)?.lineage(Lineage::aggregation(["day"])))
            .fields(["x"])
            .build()?,
    ])?;
    let store = bench.store(graph).await?;
    let clips = |ids: &[&str], days: &[&str], version: &str| {
        samples(ids, version).column("day", StringArray::from(days.to_vec())).batch()
    };
    store.write(ROOT, clips(&["s1", "s2", "s3"], &["mon", "mon", "tue"], "v1")).await?;
    assert_eq!(sizes(&store, "by/day").await?, [3, 0, 0], "every row of a group carries the group's versions");
    let one_of_each = |increment: metaxy_core::Rows| -> Result<arrow::array::RecordBatch> {
        let batch = increment.to_batch()?;
        let days = texts(&batch, "day");
        let first: Vec<u32> =
            (0..days.len()).filter(|row| !days[..*row].contains(&days[*row])).map(|row| row as u32).collect();
        let first = arrow::array::UInt32Array::from(first);
        Ok(arrow::compute::take_record_batch(&batch, &first)?)
    };
    store.write("by/day", one_of_each(store.resolve_update("by/day").await?.new)?).await?;
    assert_eq!(sizes(&store, "by/day").await?, [0, 0, 0]);
    // A group changes when one of its samples does, and when it gains one.
    store.write(ROOT, clips(&["s3"], &["tue"], "v2")).await?;
    assert_eq!(sizes(&store, "by/day").await?, [0, 1, 0]);
    store.write(ROOT, clips(&["s4"], &["mon"], "v1")).await?;
    assert_eq!(sizes(&store, "by/day").await?, [0, 4, 0]);
    store.delete(ROOT).filter("day = 'mon'").await?;
    assert_eq!(sizes(&store, "by/day").await?, [0, 1, 1]);
    PASSED
}

pub(super) async fn groups_of_nothing(bench: Bench) -> Result<Outcome> {
    let graph = FeatureGraph::new([
        root(ROOT)?,
        FeatureSpec::builder("by/scene")
            .id_columns(["id"])
            .dep(FeatureDep::new(ROOT)?.lineage(Lineage::aggregation(["scene"])))
            .fields(["x"])
            .build()?,
    ])?;
    let store = bench.store(graph).await?;
    let clips = |ids: &[&str], scenes: Vec<Option<i64>>, version: &str| {
        samples(ids, version).column("scene", Int64Array::from(scenes)).batch()
    };
    store.write(ROOT, clips(&["s1", "s2", "s3"], vec![Some(0), Some(0), None], "v1")).await?;
    let new = store.resolve_update("by/scene").await?.new;
    assert_eq!(new.num_rows(), 3);
    store.write("by/scene", new).await?;
    assert_eq!(sizes(&store, "by/scene").await?, [1, 0, 1]);
    store.write(ROOT, clips(&["s3"], vec![None], "v2")).await?;
    assert_eq!(sizes(&store, "by/scene").await?, [1, 0, 1], "group 0 is as it was");
    PASSED
}

/// A feature of which every sample has several parts.
fn chunks() -> Result<FeatureGraph> {
    FeatureGraph::new([
        root(ROOT)?,
        FeatureSpec::builder("chunk")
            .id_columns(["id", "part"])
            .dep(FeatureDep::new(ROOT)?.lineage(Lineage::expansion(["id"])))
            .fields(["x"])
            .build()?,
    ])
}

pub(super) async fn parts_of_samples(bench: Bench) -> Result<Outcome> {
    let store = bench.store(chunks()?).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    assert_eq!(sizes(&store, "chunk").await?, [2, 0, 0]);
    write_parts(&store).await?;
    assert_eq!(read(&store, "chunk").await?.num_rows(), 4);
    assert_eq!(sizes(&store, "chunk").await?, [0, 0, 0]);
    store.write(ROOT, samples(["s1", "s3"], "v2").batch()).await?;
    store.delete(ROOT).filter("id = 's2'").await?;
    assert_eq!(sizes(&store, "chunk").await?, [1, 1, 1]);
    PASSED
}

pub(super) async fn the_last_part_of_a_write_counts(bench: Bench) -> Result<Outcome> {
    let store = bench.store(chunks()?).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    write_parts(&store).await?;
    let batch = read(&store, "chunk").await?;
    // The same parts again, all in one write.
    let names = ["id", "part", columns::PROVENANCE_BY_FIELD].map(|name| batch.schema().index_of(name));
    let kept = names.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
    store.write("chunk", batch.project(&kept)?).await?;
    for part in 0..2 {
        let resolve = || store.resolve_update("chunk").staleness(format!("part = {part}"));
        assert_engines_agree(resolve).await?;
    }
    PASSED
}

/// Two parts of every new sample.
async fn write_parts(store: &MetadataStore) -> Result<()> {
    let parents = store.resolve_update("chunk").await?.new.to_batch()?;
    for part in 0..2 {
        let mut fields: Vec<_> = parents.schema().fields().iter().cloned().collect();
        fields.push(std::sync::Arc::new(arrow::datatypes::Field::new("part", arrow::datatypes::DataType::Int64, true)));
        let mut arrays = parents.columns().to_vec();
        arrays.push(std::sync::Arc::new(Int64Array::from(vec![part; parents.num_rows()])));
        let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(fields));
        store.write("chunk", arrow::array::RecordBatch::try_new(schema, arrays)?).await?;
    }
    Ok(())
}
