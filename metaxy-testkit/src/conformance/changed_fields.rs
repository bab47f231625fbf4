//! The fields of new and stale samples that have to be made again.

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use metaxy_core::{
    FeatureDep, FeatureGraph, FeatureSpec, FieldSpec, Increment, Lineage, MetadataStore, Result, Rows,
    VersioningEngine, columns,
};

use super::kit::{LEAF, PASSED, ROOT, pair, process, read, root, samples, texts};
use super::{Bench, Outcome};

/// Returns each row as its text in a column and its changed fields, such as `s1:x,y`, sorted.
fn changed(rows: &Rows, column: &str) -> Result<Vec<String>> {
    let batch = rows.to_batch()?;
    let lists = batch.column_by_name(columns::CHANGED_FIELDS).expect("the rows have changed fields").as_list::<i32>();
    let names = |row: usize| -> Vec<String> {
        lists.value(row).as_string::<i32>().iter().map(|name| name.expect("a field has a name").to_owned()).collect()
    };
    let mut shown: Vec<String> =
        texts(&batch, column).iter().enumerate().map(|(row, id)| format!("{id}:{}", names(row).join(","))).collect();
    shown.sort();
    Ok(shown)
}

/// Returns an increment with changed fields, after checking that every way of computing it lists the same ones.
async fn resolved(store: &MetadataStore, feature: &str, column: &str, stale_if: Option<&str>) -> Result<Increment> {
    let request = || {
        let request = store.resolve_update(feature).with_changed_fields();
        stale_if.into_iter().fold(request, |request, filter| request.staleness(filter))
    };
    let arrow = request().versioning_engine(VersioningEngine::Arrow).from_all_rows().await?;
    let divided = request().versioning_engine(VersioningEngine::Arrow).memory_limit(1).from_all_rows().await?;
    let own = request().versioning_engine(VersioningEngine::Auto).from_all_rows().await?;
    let remembered = request().await?;
    for other in [&divided, &own, &remembered] {
        assert_eq!(changed(&other.stale, column)?, changed(&arrow.stale, column)?, "from {}", other.basis());
        assert_eq!(changed(&other.new, column)?, changed(&arrow.new, column)?, "from {}", other.basis());
    }
    Ok(arrow)
}

/// Returns samples of the root whose fields have these versions.
fn versions(ids: &[&str], a: &str, b: &str) -> Result<RecordBatch> {
    let values = [("a", a), ("b", b)].map(|(field, version)| {
        let texts = StringArray::from_iter_values(ids.iter().map(|_| version));
        (field, std::sync::Arc::new(texts) as arrow::array::ArrayRef)
    });
    let rows = samples(ids, "v1").column("n", Int64Array::from_iter_values(0..ids.len() as i64)).batch();
    columns::with_column(&rows, columns::PROVENANCE_BY_FIELD, columns::by_field(values)?)
}

pub(super) async fn one_to_one(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, versions(&["s1", "s2", "s3"], "1", "1")?).await?;
    let first = resolved(&store, LEAF, "id", None).await?;
    assert_eq!(changed(&first.new, "id")?, ["s1:x,y", "s2:x,y", "s3:x,y"]);
    store.write(LEAF, first.new).await?;
    let stored = read(&store, LEAF).await?;
    assert!(stored.column_by_name(columns::CHANGED_FIELDS).is_none(), "the column is not stored");
    let none = resolved(&store, LEAF, "id", None).await?;
    assert!(none.is_empty() && none.stale.schema().column_with_name(columns::CHANGED_FIELDS).is_some());
    store.write(ROOT, versions(&["s1", "s4"], "2", "1")?).await?;
    store.write(ROOT, versions(&["s2"], "1", "2")?).await?;
    store.write(ROOT, versions(&["s3"], "2", "2")?).await?;
    let increment = resolved(&store, LEAF, "id", None).await?;
    assert_eq!(changed(&increment.new, "id")?, ["s4:x,y"]);
    assert_eq!(changed(&increment.stale, "id")?, ["s1:x", "s2:y", "s3:x,y"]);
    let all = store.resolve_update(LEAF).skip_comparison().with_changed_fields().await?;
    assert_eq!(changed(&all.new, "id")?, ["s1:x,y", "s2:x,y", "s3:x,y", "s4:x,y"]);
    let given = versions(&["s1", "s5"], "2", "3")?;
    let given = store.resolve_update(ROOT).samples(given).with_changed_fields().await?;
    assert_eq!(
        (changed(&given.new, "id")?, changed(&given.stale, "id")?),
        (vec!["s5:a,b".into()], vec!["s1:b".into()])
    );
    PASSED
}

pub(super) async fn forced(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, versions(&["s0", "s1", "s2"], "1", "1")?).await?;
    process(&store, LEAF).await?;
    store.write(ROOT, versions(&["s0", "s1"], "2", "1")?).await?;
    let increment = resolved(&store, LEAF, "id", Some("n > 0")).await?;
    assert_eq!(changed(&increment.stale, "id")?, ["s0:x", "s1:x,y", "s2:x,y"]);
    PASSED
}

/// Returns a feature whose field `x` is made from `a`, and `y` from `b`.
fn made(key: &str, ids: &[&str], lineage: Lineage) -> Result<FeatureSpec> {
    FeatureSpec::builder(key)
        .id_columns(ids.to_vec())
        .dep(FeatureDep::new(ROOT).lineage(lineage))
        .fields([FieldSpec::new("x").depends_on(ROOT, ["a"]), FieldSpec::new("y").depends_on(ROOT, ["b"])])
        .build()
}

pub(super) async fn groups(bench: Bench) -> Result<Outcome> {
    let graph = FeatureGraph::new([root(ROOT)?, made("by/n", &["n"], Lineage::aggregation(["n"]))?])?;
    let store = bench.store(graph).await?;
    let clips = |ids: &[&str], n: i64, b: &str| -> Result<RecordBatch> {
        columns::with_column(&versions(ids, "1", b)?, "n", std::sync::Arc::new(Int64Array::from(vec![n; ids.len()])))
    };
    store.write(ROOT, clips(&["s1", "s2"], 1, "1")?).await?;
    store.write(ROOT, clips(&["s3"], 2, "1")?).await?;
    let first = resolved(&store, "by/n", "id", None).await?;
    assert_eq!(changed(&first.new, "id")?, ["s1:x,y", "s2:x,y", "s3:x,y"]);
    let one_of_each = first.groups()?.map(|group| group.slice(0, 1)).collect::<Vec<_>>();
    store.write("by/n", one_of_each).await?;
    store.write(ROOT, clips(&["s2"], 1, "2")?).await?;
    let increment = resolved(&store, "by/n", "id", None).await?;
    assert_eq!(changed(&increment.stale, "id")?, ["s1:y", "s2:y"], "all rows of a group list the group's fields");
    PASSED
}

pub(super) async fn parents(bench: Bench) -> Result<Outcome> {
    let graph = FeatureGraph::new([root(ROOT)?, made("part", &["id", "part"], Lineage::expansion(["id"]))?])?;
    let store = bench.store(graph).await?;
    store.write(ROOT, versions(&["s1", "s2"], "1", "1")?).await?;
    let first = resolved(&store, "part", "id", None).await?;
    let parents = first.new.to_batch()?;
    for part in 0..2 {
        let numbers = Int64Array::from(vec![part; parents.num_rows()]);
        let rows = columns::with_column(&parents, "part", std::sync::Arc::new(numbers))?;
        store.write("part", rows).await?;
    }
    assert!(resolved(&store, "part", "id", None).await?.is_empty());
    store.write(ROOT, versions(&["s1", "s3"], "2", "1")?).await?;
    let increment = resolved(&store, "part", "id", None).await?;
    assert_eq!(changed(&increment.new, "id")?, ["s3:x,y"]);
    assert_eq!(changed(&increment.stale, "id")?, ["s1:x"]);
    PASSED
}
