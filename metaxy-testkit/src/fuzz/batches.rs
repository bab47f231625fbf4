//! Batches of any schema, given to `write` and `samples`.

use arrow::array::{ArrayRef, RecordBatch};
use metaxy_core::{
    AccessMode, Error, FeatureGraph, FeatureSpec, FieldSpec, MetadataStore, Result, SharedBackend, columns,
};

use super::input::Input;
use super::{RUNTIME, arrays, assert_typed};

const ROOT: &str = "raw/root";
const LEAF: &str = "made/leaf";

/// The names of columns: those of the system and of the definition, their like, and any others.
const NAMES: [&str; 14] = [
    "x",
    "y",
    "X",
    "a.b",
    "",
    "id",
    columns::PROVENANCE,
    columns::DATA_VERSION_BY_FIELD,
    columns::DATA_VERSION,
    columns::FEATURE_VERSION,
    columns::UPDATED_AT,
    columns::DELETED_AT,
    columns::MATERIALIZATION_ID,
    "metaxy_other",
];

/// The number of calls for one input.
const CALLS: usize = 4;

/// Writes and resolves the batches that are made of the input, in a store on an empty backend.
///
/// # Panics
/// If an error has no type, or a refused write has left rows.
pub fn batches(data: &[u8], backend: SharedBackend) {
    RUNTIME.block_on(async {
        let store = MetadataStore::builder(backend, graph()).auto_create_tables(true).open(AccessMode::ReadWrite);
        let store = store.await.expect("the store opens");
        let mut input = Input(data);
        for _ in 0..CALLS {
            if input.is_empty() {
                break;
            }
            call(&store, &mut input).await;
        }
        store.close().await.expect("the store closes");
    });
}

fn graph() -> FeatureGraph {
    let root = FeatureSpec::builder(ROOT).id_columns(["id"]).fields(["a", "b"]).build();
    let field = FieldSpec::new("text").depends_on(ROOT, ["a"]);
    let leaf = FeatureSpec::builder(LEAF).id_columns(["id"]).dep(ROOT).field(field).build();
    FeatureGraph::new([root.expect("a definition"), leaf.expect("a definition")]).expect("a graph")
}

async fn call(store: &MetadataStore, input: &mut Input<'_>) {
    let kind = input.below(4);
    let given: Vec<RecordBatch> = (0..=input.below(3)).map(|_| batch(input)).collect();
    if kind == 0 {
        let increment = store.resolve_update(ROOT).samples(given).await;
        increment.map_or_else(|error| assert_typed(&error), drop);
        return;
    }
    let before = rows(store, ROOT).await;
    match store.write(ROOT, given).await {
        Ok(_) => process(store).await,
        Err(error) => {
            assert_typed(&error);
            assert_eq!(rows(store, ROOT).await, before, "a refused write has left rows: {error}");
        }
    }
}

/// Makes the leaf of all rows; then there is nothing to do.
async fn process(store: &MetadataStore) {
    let made = async {
        let increment = store.resolve_update(LEAF).await?;
        store.write(LEAF, increment.new).await?;
        store.write(LEAF, increment.stale).await?;
        store.resolve_update(LEAF).await
    };
    match made.await {
        Ok(left) => assert_eq!((left.new.num_rows(), left.stale.num_rows()), (0, 0)),
        Err(error) => assert_typed(&error),
    }
}

/// Returns the number of stored rows.
async fn rows(store: &MetadataStore, feature: &str) -> usize {
    let counted: Result<usize> = async {
        let read = store.read(feature).with_feature_history().with_sample_history().include_soft_deleted();
        Ok(read.await?.rows().await?.num_rows())
    }
    .await;
    match counted {
        Ok(rows) => rows,
        Err(Error::FeatureNotFound { .. }) => 0,
        Err(error) => panic!("what was written is not read: {error}"),
    }
}

fn batch(input: &mut Input<'_>) -> RecordBatch {
    let rows = input.below(6);
    let mut given: Vec<(&str, ArrayRef)> = Vec::new();
    if input.below(16) > 0 {
        let ids = if input.below(4) > 0 { arrays::any_texts(input, rows) } else { arrays::any(input, rows) };
        given.push(("id", ids));
    }
    if input.below(16) > 0 {
        let members = input.one_of(&[["a", "b"].as_slice(), &["b", "a"], &["a", "b"], &["a"], &["a", "b", "c"]]);
        given.push((columns::PROVENANCE_BY_FIELD, arrays::any_struct(input, members, rows)));
    }
    for _ in 0..input.below(4) {
        given.push((input.one_of(&NAMES), arrays::any(input, rows)));
    }
    arrays::batch(given, rows)
}
