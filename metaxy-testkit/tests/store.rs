//! Further calls of a store, with the results of the Python package for the same calls, and their errors.

use std::sync::Arc;

use metaxy_core::{
    AccessMode, Error, FeatureDep, FeatureGraph, FeatureSpec, FieldSpec, InputProgress, Lineage, MetadataStore,
    RecordBatch, Result, SharedBackend, col,
};
use metaxy_testkit::faults::{Fault, FaultyBackend, Operation};
use metaxy_testkit::memory::MemoryBackend;
use metaxy_testkit::scenario::{Samples, compare, json_rows, record_batch};
use serde_json::{Value, json};

/// Returns a root with the fields `a` and `b`, and a child whose `c` is made from `a` and `d` from `b`.
fn graph(code_version: &str) -> Result<FeatureGraph> {
    let kid = FeatureSpec::builder("kid").id_columns(["id"]).dep("root").fields([
        FieldSpec::new("c").code_version(code_version).depends_on("root", ["a"]),
        FieldSpec::new("d").code_version("1").depends_on("root", ["b"]),
    ]);
    let root = FeatureSpec::builder("root").id_columns(["id"]).fields(["a", "b"]);
    FeatureGraph::builder().hash_truncation_length(16).features([root.build()?, kid.build()?]).build()
}

async fn store(graph: FeatureGraph) -> Result<MetadataStore> {
    let builder = MetadataStore::builder(MemoryBackend::new(), graph);
    builder.hash_algorithm(metaxy_core::HashAlgorithm::Md5).open(AccessMode::ReadWrite).await
}

fn batch(columns: Value, rows: Value) -> RecordBatch {
    let samples: Samples = serde_json::from_value(json!({ "columns": columns, "rows": rows })).expect("samples");
    record_batch(&samples).expect("a batch")
}

fn roots() -> RecordBatch {
    let row = |(index, id): (usize, &str)| json!({"id": id, "metaxy_provenance_by_field": {"a": format!("a{index}"), "b": format!("b{index}")}});
    batch(json!({"id": "string"}), ["x", "y", "z"].into_iter().enumerate().map(row).collect())
}

/// Returns the child of `x` with computed data versions, and that of `y` with the user's own data version of the field
/// `c`.
fn processed() -> RecordBatch {
    batch(
        json!({"id": "string", "text": "string"}),
        json!([
            {"id": "x", "text": "t", "metaxy_provenance_by_field": {"c": "5f2cc9582f4b199b", "d": "5bd1dfe98799771c"}},
            {"id": "y", "text": "t", "metaxy_provenance_by_field": {"c": "78100d43e4d5cadd", "d": "f498f516fefdecd9"},
             "metaxy_data_version_by_field": {"c": "mine", "d": "f498f516fefdecd9"}},
        ]),
    )
}

fn assert_rows(expected: Value, actual: &[RecordBatch]) {
    let expected: Vec<_> = serde_json::from_value(expected).expect("rows");
    compare("rows", &expected, &json_rows(actual).expect("rows")).unwrap_or_else(|difference| panic!("{difference}"));
}

fn message<T>(result: Result<T>) -> String {
    result.err().expect("this is an error").to_string()
}

#[tokio::test]
async fn a_rebase_computes_provenance_again_and_keeps_given_data_versions() -> Result<()> {
    let store = store(graph("1")?).await?;
    store.write("root", roots()).await?;
    store.write("kid", processed()).await?;
    let before = store.read("kid").columns(["id", "metaxy_created_at"]).await?.rows().await?;
    let old = store.graph().feature_version("kid")?.to_owned();
    assert_eq!(old, "735cfd84edfd000f");

    let store = store.with_graph(graph("2")?)?;
    assert_eq!(store.resolve_update("kid").await?.new.num_rows(), 3, "nothing has been processed under the new code");
    assert_eq!(store.rebase("kid", &old).await?, 2);
    assert_rows(
        json!([
            {"id": "x", "text": "t", "metaxy_provenance_by_field": {"c": "7d2e59376c03345d", "d": "5bd1dfe98799771c"},
             "metaxy_provenance": "26f25dbe48469e03", "metaxy_data_version": "26f25dbe48469e03",
             "metaxy_data_version_by_field": {"c": "7d2e59376c03345d", "d": "5bd1dfe98799771c"}},
            {"id": "y", "text": "t", "metaxy_provenance_by_field": {"c": "c353da4184607d54", "d": "f498f516fefdecd9"},
             "metaxy_provenance": "82514077934b9ff3", "metaxy_data_version": "b8a97b79ef82eefe",
             "metaxy_data_version_by_field": {"c": "mine", "d": "f498f516fefdecd9"}},
        ]),
        store.read("kid").await?.rows().await?.batches(),
    );
    let after = store.read("kid").columns(["id", "metaxy_created_at"]).await?.rows().await?;
    assert_eq!(
        format!("{:?}", before.batches()),
        format!("{:?}", after.batches()),
        "rows keep the time they were made"
    );

    let increment = store.resolve_update("kid").await?;
    assert_eq!((increment.new.num_rows(), increment.stale.num_rows(), increment.orphaned.num_rows()), (1, 0, 0));
    assert_eq!(store.rebase("kid", store.graph().feature_version("kid")?).await?, 0, "that is the version they have");
    Ok(())
}

#[tokio::test]
async fn features_that_cannot_be_rebased() -> Result<()> {
    let store = store(graph("1")?).await?;
    store.write("root", roots()).await?;
    assert!(message(store.rebase("root", "0").await).contains("cannot rebase `root`: it is a root feature"));
    assert!(matches!(store.rebase("kid", "0").await, Err(Error::FeatureNotFound { .. })));
    assert!(matches!(store.rebase("kitten", "0").await, Err(Error::UnknownFeature { .. })));
    store.write("kid", processed()).await?;
    assert_eq!(store.rebase("kid", "a version that never was").await?, 0);
    Ok(())
}

#[tokio::test]
async fn progress_counts_what_was_processed_at_least_once() -> Result<()> {
    let store = store(graph("1")?).await?;
    store.write("root", roots().slice(0, 0)).await?;
    assert!(matches!(store.input_progress("kid").await, Err(Error::FeatureNotFound { .. })));
    store.write("root", roots()).await?;
    let progress = |processed| Some(InputProgress { total: 3, processed });
    assert_eq!(store.input_progress("kid").await?, progress(0));
    store.write("kid", processed()).await?;
    assert_eq!(store.input_progress("kid").await?, progress(2));
    let share = store.input_progress("kid").await?.and_then(|progress| progress.share());
    assert_eq!(share, Some(2.0 / 3.0));
    let changed = json!([{"id": "x", "metaxy_provenance_by_field": {"a": "changed", "b": "b0"}}]);
    store.write("root", batch(json!({"id": "string"}), changed)).await?;
    assert_eq!(store.input_progress("kid").await?, progress(2), "stale samples have been processed once");
    store.delete("root").await?;
    let none = store.input_progress("kid").await?.expect("it is not a root");
    assert_eq!((none.total, none.share()), (0, None));
    assert_eq!(store.input_progress("root").await?, None);
    Ok(())
}

#[tokio::test]
async fn progress_counts_groups_and_parents_as_one() -> Result<()> {
    let root = FeatureSpec::builder("frame").id_columns(["video", "n"]).build()?;
    let group = FeatureDep::new("frame").lineage(Lineage::aggregation(["video"]));
    let videos = FeatureSpec::builder("video").id_columns(["video"]).dep(group).build()?;
    let parts = FeatureDep::new("video").lineage(Lineage::expansion(["video"]));
    let shots = FeatureSpec::builder("shot").id_columns(["video", "shot"]).dep(parts).build()?;
    let store = store(FeatureGraph::new([root, videos, shots])?).await?;
    let frame = |video: &str, n: i64| json!({"video": video, "n": n, "metaxy_provenance_by_field": {"default": "1"}});
    let frames = json!([frame("u", 1), frame("u", 2), frame("v", 1)]);
    store.write("frame", batch(json!({"video": "string", "n": "int64"}), frames)).await?;
    assert_eq!(store.input_progress("video").await?, Some(InputProgress { total: 2, processed: 0 }));
    let video = |video: &str| json!({"video": video, "metaxy_provenance_by_field": {"default": "1"}});
    store.write("video", batch(json!({"video": "string"}), json!([video("u"), video("v")]))).await?;
    assert_eq!(store.input_progress("video").await?, Some(InputProgress { total: 2, processed: 2 }));
    let shot = |n: i64| json!({"video": "v", "shot": n, "metaxy_provenance_by_field": {"default": "1"}});
    store.write("shot", batch(json!({"video": "string", "shot": "int64"}), json!([shot(1), shot(2)]))).await?;
    assert_eq!(store.input_progress("shot").await?, Some(InputProgress { total: 2, processed: 1 }));
    Ok(())
}

#[tokio::test]
async fn provenance_of_rows_that_the_user_has_joined() -> Result<()> {
    let store = store(graph("1")?).await?;
    store.write("root", roots()).await?;
    let upstream =
        store.read("root").columns(["id", "metaxy_data_version_by_field"]).await?.rows().await?.to_batch()?;
    let schema = upstream.schema();
    let fields = schema.fields().iter().map(|field| match field.name().as_str() {
        "id" => field.as_ref().clone(),
        name => field.as_ref().clone().with_name(format!("{name}__root")),
    });
    let schema = arrow::datatypes::Schema::new(fields.collect::<Vec<_>>());
    let joined = RecordBatch::try_new(schema.into(), upstream.columns().to_vec())?;

    let computed = store.compute_provenance("kid", joined.clone())?;
    assert_eq!(computed.schema().fields().len(), 5, "the id and four versions; what they were made from is gone");
    let expected = store.resolve_update("kid").await?.new;
    assert_eq!(json_rows(computed.batches())?, json_rows(expected.batches())?);
    let increment = store.resolve_update("kid").samples(computed).await?;
    assert_eq!(increment.new.num_rows(), 3);

    let missing = store.compute_provenance("kid", joined.project(&[0])?);
    assert_eq!(
        message(missing),
        "feature `kid`: there is no column `metaxy_data_version_by_field__root` in the batch; it holds the data \
         versions of `root`; columns: id"
    );
    Ok(())
}

#[tokio::test]
async fn columns_that_come_from_two_dependencies() -> Result<()> {
    let root = |key: &str| FeatureSpec::builder(key).id_columns(["id"]).build();
    let leaf = |second: FeatureDep| FeatureSpec::builder("leaf").id_columns(["id"]).dep("one").dep(second).build();
    let row = json!([{"id": "x", "path": "p", "metaxy_provenance_by_field": {"default": "1"}}]);
    let rows = || batch(json!({"id": "string", "path": "string"}), row.clone());
    let with = async |second: FeatureDep| {
        let store = store(FeatureGraph::new([root("one")?, root("two")?, leaf(second)?])?).await?;
        store.write("one", rows()).await?;
        store.write("two", rows()).await?;
        store.resolve_update("leaf").await
    };
    let error = message(with(FeatureDep::new("two")).await);
    assert_eq!(
        error,
        "feature `leaf`: column `path` comes from both `one` and `two`; rename it in one of the dependencies, or leave \
         it out with `select`"
    );
    let renamed = with(FeatureDep::new("two").rename("path", "other_path")).await?;
    assert_eq!(renamed.new.num_rows(), 1);
    let selected = with(FeatureDep::new("two").select(Vec::<String>::new())).await?;
    assert_eq!(selected.new.num_rows(), 1);
    Ok(())
}

#[tokio::test]
async fn unknown_names() -> Result<()> {
    let store = store(graph("1")?).await?;
    store.write("root", roots()).await?;
    for error in [
        message(store.read("kit").await),
        message(store.resolve_update("kit").await),
        message(store.write("kit", roots()).await),
        message(store.delete("kit").await),
    ] {
        assert_eq!(error, "feature `kit` is not in the graph; did you mean `kid`?");
    }
    assert!(matches!(store.read("Root").await, Err(Error::InvalidKey { .. })));
    assert!(matches!(store.resolve_update("root").await, Err(Error::RootWithoutSamples(_))));
    let error = message(store.resolve_update("kid").filter("root", "ide = 'x'").await);
    assert!(error.contains("names the column `ide`, which does not exist; did you mean `id`?"), "{error}");
    let error = message(store.resolve_update("kid").filter("root", col("id").eq("x")).global_filter("id = = 1").await);
    assert_eq!(error.lines().count(), 3, "the text, and a caret under the position: {error}");
    Ok(())
}

/// The setting of a store has precedence over the environment of the run; a write can set another value.
#[tokio::test]
async fn the_materialization_id_comes_from_the_file_or_the_environment() {
    use arrow::array::AsArray;
    use metaxy_core::columns::MATERIALIZATION_ID;
    use metaxy_core::config::{Environment, MetaxyConfig};

    let file = "[stores.dev]\ntype = 'memory'\nconfig.name = 'of the file'\nconfig.materialization_id = 'run-1'\n\
                [stores.other]\ntype = 'memory'\nconfig.name = 'of the run'";
    let variables = [("METAXY_MATERIALIZATION_ID", "run-2")];
    let of_store = [variables[0], ("METAXY_STORES__OTHER__CONFIG__MATERIALIZATION_ID", "run-3")];
    for (store, environment, expected) in [
        ("dev", &[][..], Some("run-1")),
        ("dev", &variables[..], Some("run-1")),
        ("other", &[][..], None),
        ("other", &variables[..], Some("run-2")),
        ("other", &of_store[..], Some("run-3")),
    ] {
        let environment: Environment = environment.iter().copied().collect();
        let config = MetaxyConfig::loader().environment(environment).load_text(file).expect("a configuration");
        let graph = graph("1").expect("a graph");
        let store = config.open_store(store, graph, AccessMode::ReadWrite).await.expect("it opens");
        store.write("root", roots()).await.expect("a write");
        let rows =
            store.read("root").columns([MATERIALIZATION_ID]).await.expect("it reads").rows().await.expect("rows");
        let stored = rows.to_batch().expect("one batch").column(0).clone();
        let ids: Vec<Option<&str>> = stored.as_string::<i32>().iter().collect();
        assert_eq!(ids, [expected; 3]);
        store.drop_feature("root").await.expect("a drop");
    }
}

/// From the third ask on, an unchanged feature that is up to date costs a look at the positions of its tables.
#[tokio::test]
async fn unchanged_tables_are_not_read_again() -> Result<()> {
    let backend = Arc::new(FaultyBackend::new(MemoryBackend::new()));
    let builder = MetadataStore::builder(Arc::clone(&backend) as SharedBackend, graph("1")?);
    let store = builder.open(AccessMode::ReadWrite).await?;
    store.write("root", roots()).await?;
    let scans = async || -> Result<(usize, [usize; 3])> {
        let before = backend.calls(Operation::Scan);
        let found = store.resolve_update("kid").await?;
        let counts = [&found.new, &found.stale, &found.orphaned].map(metaxy_core::Rows::num_rows);
        Ok((backend.calls(Operation::Scan) - before, counts))
    };
    let new = store.resolve_update("kid").await?.new;
    store.write("kid", new).await?;
    assert_eq!([scans().await?, scans().await?, scans().await?], [(2, [0; 3]), (0, [0; 3]), (0, [0; 3])]);
    let filtered = store.resolve_update("kid").filter("root", "id = 'x'").await?;
    assert_eq!((filtered.new.num_rows(), filtered.orphaned.num_rows()), (0, 2), "other options have their own answer");
    store.write("root", roots().slice(0, 1)).await?;
    assert_eq!(scans().await?, (2, [0; 3]), "the same versions, written again");
    assert_eq!(scans().await?, (0, [0; 3]));
    backend.inject(Fault::fail(Operation::Position).times(1));
    assert!(scans().await.is_err(), "a position that cannot be read");
    assert_eq!(scans().await?, (0, [0; 3]));
    let new = store.with_graph(graph("2")?)?.resolve_update("kid").await?.new;
    assert_eq!(new.num_rows(), 3, "under another definition");
    Ok(())
}

/// A table of a store that is searched earlier takes the place of a fallback's, and so counts when it comes.
#[tokio::test]
async fn tables_of_fallbacks_are_not_read_again() -> Result<()> {
    let backends = [0, 1].map(|_| Arc::new(FaultyBackend::new(MemoryBackend::new())));
    let builder = |index: usize| {
        let backend = Arc::clone(&backends[index]) as SharedBackend;
        Ok::<_, Error>(MetadataStore::builder(backend, graph("1")?))
    };
    let prod = builder(1)?.open(AccessMode::ReadWrite).await?;
    prod.write("root", roots()).await?;
    let store = builder(0)?.fallback(&prod).open(AccessMode::ReadWrite).await?;
    let scans = async || -> Result<(usize, [usize; 3])> {
        let before: usize = backends.iter().map(|backend| backend.calls(Operation::Scan)).sum();
        let found = store.resolve_update("kid").await?;
        let after: usize = backends.iter().map(|backend| backend.calls(Operation::Scan)).sum();
        Ok((after - before, [&found.new, &found.stale, &found.orphaned].map(metaxy_core::Rows::num_rows)))
    };
    let new = store.resolve_update("kid").await?.new;
    store.write("kid", new).await?;
    assert_eq!([scans().await?, scans().await?, scans().await?], [(2, [0; 3]), (0, [0; 3]), (0, [0; 3])]);
    prod.write("root", roots()).await?;
    assert_eq!([scans().await?, scans().await?], [(2, [0; 3]), (0, [0; 3])], "a write to the fallback");
    store.write("root", roots().slice(0, 2)).await?;
    assert_eq!(scans().await?.1, [0, 0, 1], "the store's own table has two samples");
    Ok(())
}
