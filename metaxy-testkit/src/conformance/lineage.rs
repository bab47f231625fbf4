//! Lineage: features whose samples are groups, or parts, of upstream samples.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use metaxy_core::{Error, FeatureDep, FeatureGraph, FeatureSpec, Lineage, MetadataStore, Result, columns};

use super::kit::{PASSED, ROOT, assert_engines_agree, assert_error, read, root, samples, texts};
use super::{Bench, Outcome};

/// Returns the numbers of new, stale and orphaned samples; both engines must agree.
async fn sizes(store: &MetadataStore, feature: &str) -> Result<[usize; 3]> {
    let increment = assert_engines_agree(|| store.resolve_update(feature)).await?;
    Ok([increment.new, increment.stale, increment.orphaned].map(|rows| rows.num_rows()))
}

/// Returns a feature with a row for each day of the root's samples.
fn by_day() -> Result<FeatureSpec> {
    FeatureSpec::builder("by/day")
        .id_columns(["day"])
        .dep(FeatureDep::new(ROOT).lineage(Lineage::aggregation(["day"])))
        .fields(["x"])
        .build()
}

pub(super) async fn groups_of_samples(bench: Bench) -> Result<Outcome> {
    let graph = FeatureGraph::new([root(ROOT)?, by_day()?])?;
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

pub(super) async fn samples_without_a_group(bench: Bench) -> Result<Outcome> {
    let graph = FeatureGraph::new([
        root(ROOT)?,
        FeatureSpec::builder("by/scene")
            .id_columns(["id"])
            .dep(FeatureDep::new(ROOT).lineage(Lineage::aggregation(["scene"])))
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
    assert_eq!(sizes(&store, "by/scene").await?, [1, 0, 1], "group 0 has not changed");
    PASSED
}

/// Returns a graph with a feature of which every sample has several parts.
fn chunks() -> Result<FeatureGraph> {
    FeatureGraph::new([root(ROOT)?, chunk()?])
}

fn chunk() -> Result<FeatureSpec> {
    FeatureSpec::builder("chunk")
        .id_columns(["id", "part"])
        .dep(FeatureDep::new(ROOT).lineage(Lineage::expansion(["id"])))
        .fields(["x"])
        .build()
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
    // The same parts are written again, in one write.
    let names = ["id", "part", columns::PROVENANCE_BY_FIELD].map(|name| batch.schema().index_of(name));
    let kept = names.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
    store.write("chunk", batch.project(&kept)?).await?;
    for part in 0..2 {
        let resolve = || store.resolve_update("chunk").staleness(format!("part = {part}"));
        assert_engines_agree(resolve).await?;
    }
    PASSED
}

/// Writes two parts of every new sample.
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

/// Returns some parts of each of these parents.
fn parts(parents: &RecordBatch, numbers: &[i64]) -> Result<Vec<RecordBatch>> {
    let part = |number: &i64| {
        let numbers = Int64Array::from(vec![*number; parents.num_rows()]);
        columns::result(parents, ["id"], [("part", std::sync::Arc::new(numbers) as ArrayRef)])
    };
    numbers.iter().map(part).collect()
}

/// Returns the parts of a read as `id/part`.
async fn read_parts(store: &MetadataStore) -> Result<Vec<String>> {
    let rows = store.read("chunk").await?.rows().await?.to_batch()?;
    let (ids, parts) = (texts(&rows, "id"), texts(&rows, "part"));
    let mut all: Vec<String> = ids.into_iter().zip(parts).map(|(id, part)| format!("{id}/{part}")).collect();
    all.sort();
    Ok(all)
}

pub(super) async fn results_meet_again(bench: Bench) -> Result<Outcome> {
    let made = |key: &str, deps: &[&str]| {
        let spec = FeatureSpec::builder(key).id_columns(["id"]).fields(["x"]);
        deps.iter().fold(spec, |spec, dep| spec.dep(*dep)).build()
    };
    let graph = FeatureGraph::new([
        root(ROOT)?,
        made("left", &[ROOT])?,
        made("right", &[ROOT])?,
        made("both", &["left", "right"])?,
    ])?;
    let store = bench.store(graph).await?;
    let path = StringArray::from(vec!["s1.mp4", "s2.mp4"]);
    store.write(ROOT, samples(["s1", "s2"], "v1").column("path", path).batch()).await?;
    for (feature, name) in [("left", "text"), ("right", "faces")] {
        let samples = store.resolve_update(feature).await?.new.to_batch()?;
        assert!(samples.column_by_name("path").is_some(), "an increment has the columns of its inputs");
        let made = std::sync::Arc::new(StringArray::from(vec![name; samples.num_rows()])) as ArrayRef;
        store.write(feature, columns::result(&samples, ["id"], [(name, made)])?).await?;
    }
    let both = store.resolve_update("both").await?.new.to_batch()?;
    let own: Vec<&str> = both.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
    let own: Vec<&str> = own.into_iter().filter(|name| !columns::is_system(name)).collect();
    assert_eq!((both.num_rows(), own), (2, vec!["id", "text", "faces"]));
    PASSED
}

pub(super) async fn groups_are_not_divided(bench: Bench) -> Result<Outcome> {
    let graph = FeatureGraph::new([root(ROOT)?, by_day()?])?;
    let store = bench.store(graph).await?;
    let ids: Vec<String> = (0..30).map(|number| format!("s{number}")).collect();
    let days = |from: usize| StringArray::from_iter_values((0..30).map(|number| format!("d{}", from + number % 7)));
    store.write(ROOT, samples(&ids, "v1").column("day", days(0)).batch()).await?;
    let increment = store.resolve_update("by/day").await?;
    let groups: Vec<RecordBatch> = increment.groups()?.collect();
    assert_eq!(groups.len(), 7);
    assert_eq!(groups.iter().map(RecordBatch::num_rows).sum::<usize>(), 30);
    for group in &groups {
        assert!(texts(group, "day").windows(2).all(|pair| pair[0] == pair[1]), "a group of several days");
    }
    for n in [1, 2, 3, 7, 100] {
        let portions = increment.portions(n)?;
        assert!(portions.len() <= n, "{} portions of {n}", portions.len());
        let mut seen = std::collections::BTreeSet::new();
        for portion in &portions {
            let days: std::collections::BTreeSet<String> = texts(&portion.to_batch()?, "day").into_iter().collect();
            assert!(days.iter().all(|day| seen.insert(day.clone())), "a group is divided among {n} portions");
        }
        assert_eq!(portions.iter().map(metaxy_core::Rows::num_rows).sum::<usize>(), 30);
    }
    let results = groups.iter().map(|group| columns::result::<_, &str>(&group.slice(0, 1), ["day"], []));
    store.write("by/day", results.collect::<Result<Vec<_>>>()?).await?;
    assert_eq!(sizes(&store, "by/day").await?, [0, 0, 0]);
    PASSED
}

pub(super) async fn orphaned_rows_are_deleted(bench: Bench) -> Result<Outcome> {
    let graph = FeatureGraph::new([
        root(ROOT)?,
        FeatureSpec::builder("same").id_columns(["id"]).dep(ROOT).fields(["x"]).build()?,
        by_day()?,
        chunk()?,
    ])?;
    let store = bench.store(graph).await?;
    for hard in [false, true] {
        let days = StringArray::from(vec!["mon", "tue", "tue"]);
        store.write(ROOT, samples(["s1", "s2", "s3"], "v1").column("day", days).batch()).await?;
        store.write("same", store.resolve_update("same").await?.new).await?;
        let groups = store.resolve_update("by/day").await?.groups()?.map(|group| group.slice(0, 1)).collect::<Vec<_>>();
        store.write("by/day", groups).await?;
        store.write("chunk", parts(&store.resolve_update("chunk").await?.new.to_batch()?, &[0, 1])?).await?;
        store.delete(ROOT).filter("day = 'tue'").await?;
        for (feature, orphans, left) in [("same", 2, 1), ("by/day", 1, 1), ("chunk", 2, 2)] {
            let orphaned = assert_engines_agree(|| store.resolve_update(feature)).await?.orphaned;
            assert_eq!(orphaned.num_rows(), orphans, "{feature}");
            let rows = if feature == "chunk" { 4 } else { orphans as u64 };
            let request = store.delete_rows(feature, orphaned);
            let deleted = if hard { request.hard().await? } else { request.await? };
            if !hard {
                assert_eq!(deleted, rows, "{feature}");
            }
            assert_eq!(sizes(&store, feature).await?, [0, 0, 0], "{feature}, hard: {hard}");
            assert_eq!(store.read(feature).await?.rows().await?.num_rows(), left, "{feature}, hard: {hard}");
        }
    }
    PASSED
}

pub(super) async fn children_are_replaced(bench: Bench) -> Result<Outcome> {
    let store = bench.store(chunks()?).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    let new = store.resolve_update("chunk").await?.new.to_batch()?;
    let made = store.replace_children("chunk", &new, parts(&new, &[0, 1, 2])?).await?;
    assert_eq!((made.written, made.deleted), (6, 0));
    store.write(ROOT, samples(["s1"], "v2").batch()).await?;
    let stale = store.resolve_update("chunk").await?.stale.to_batch()?;
    let made = store.replace_children("chunk", &stale, parts(&stale, &[1, 7])?).await?;
    assert_eq!((made.written, made.deleted), (2, 2));
    assert_eq!(read_parts(&store).await?, ["s1/1", "s1/7", "s2/0", "s2/1", "s2/2"]);
    assert_eq!(sizes(&store, "chunk").await?, [0, 0, 0]);
    // Invalid input changes nothing.
    assert_error!(store.replace_children("chunk", &stale, parts(&new, &[1])?).await, Error::InvalidColumn { .. });
    assert_error!(store.replace_children("chunk", &stale, parts(&stale, &[1, 1])?).await, Error::DuplicateId { .. });
    assert_error!(store.replace_children(ROOT, &stale, parts(&stale, &[1])?).await, Error::NotApplicable { .. });
    assert_eq!(read_parts(&store).await?.len(), 5);
    let nothing: Vec<RecordBatch> = Vec::new();
    assert_eq!(store.replace_children("chunk", &stale, nothing).await?.deleted, 2);
    assert_eq!(read_parts(&store).await?, ["s2/0", "s2/1", "s2/2"]);
    assert_eq!(sizes(&store, "chunk").await?, [1, 0, 0], "a parent without children is new");
    PASSED
}

pub(super) async fn parents_without_children(bench: Bench) -> Result<Outcome> {
    let below = FeatureSpec::builder("below").id_columns(["id", "part"]).dep("chunk").fields(["x"]).build()?;
    let store = bench.store(FeatureGraph::new([root(ROOT)?, chunk()?, below])?).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    let new = store.resolve_update("chunk").await?.new;
    // The types of the other ids are not known yet.
    assert_error!(store.mark_empty("chunk", &new).await, Error::MissingColumn { .. });
    let typed = parts(&new.to_batch()?, &[0])?;
    assert_eq!(store.mark_empty("chunk", typed).await?, 2);
    assert_eq!(sizes(&store, "chunk").await?, [0, 0, 0]);
    assert_eq!(read_parts(&store).await?, Vec::<String>::new());
    assert_eq!(sizes(&store, "below").await?, [0, 0, 0], "a marker is not a sample");
    // A change makes the parent stale; children replace the marker, and a marker replaces children.
    store.write(ROOT, samples(["s1"], "v2").batch()).await?;
    assert_eq!(sizes(&store, "chunk").await?, [0, 1, 0]);
    let stale = store.resolve_update("chunk").await?.stale.to_batch()?;
    let made = store.replace_children("chunk", &stale, parts(&stale, &[0, 1])?).await?;
    assert_eq!((made.written, made.deleted), (2, 1));
    assert_eq!(sizes(&store, "chunk").await?, [0, 0, 0]);
    assert_eq!(sizes(&store, "below").await?, [2, 0, 0]);
    store.write(ROOT, samples(["s1"], "v3").batch()).await?;
    let stale = store.resolve_update("chunk").await?.stale;
    assert_eq!(store.mark_empty("chunk", &stale).await?, 1);
    assert_eq!(read_parts(&store).await?, Vec::<String>::new());
    assert_eq!(sizes(&store, "chunk").await?, [0, 0, 0]);
    store.delete(ROOT).await?;
    let orphaned = store.resolve_update("chunk").await?.orphaned;
    assert_eq!(store.delete_rows("chunk", orphaned).await?, 2);
    assert_eq!(sizes(&store, "chunk").await?, [0, 0, 0]);
    PASSED
}
