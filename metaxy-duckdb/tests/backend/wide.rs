//! Features with many dependencies.

use std::time::Duration;

use metaxy_core::{AccessMode, Error, FeatureDep, FeatureGraph, FeatureSpec, MetadataStore, VersioningEngine, columns};
use metaxy_duckdb::DuckDbBackend;

use super::tables::by_field;
use super::{batch, ints};

/// Returns a store with a feature of this number of dependencies, each with a row for the same sample.
async fn store_of(inputs: usize) -> MetadataStore {
    let upstream = |number: usize| format!("raw/input_{number}");
    let mut specs: Vec<FeatureSpec> = (0..inputs)
        .map(|number| FeatureSpec::builder(&*upstream(number)).id_columns(["id"]).build().unwrap())
        .collect();
    let mut joined = FeatureSpec::builder("made/of_all").id_columns(["id"]);
    for number in 0..inputs {
        joined = joined.dep(FeatureDep::new(&*upstream(number)));
    }
    specs.push(joined.build().unwrap());
    let graph = FeatureGraph::new(specs).unwrap();
    let builder = MetadataStore::builder(DuckDbBackend::in_memory(), graph).auto_create_tables(true);
    let store = builder.open(AccessMode::ReadWrite).await.unwrap();
    for number in 0..inputs {
        let rows = batch(vec![("id", ints([1])), (columns::PROVENANCE_BY_FIELD, by_field(&[("default", "a")]))]);
        store.write(&*upstream(number), rows).await.unwrap();
    }
    store
}

/// DuckDB needs more than linear time to plan many joins: 39 s for 80 inputs, one for 20.
#[tokio::test]
async fn many_inputs_are_joined_by_the_arrow_engine() {
    let store = store_of(120).await;
    let resolve = |engine| store.resolve_update("made/of_all").versioning_engine(engine).into_future();
    let error = resolve(VersioningEngine::Native).await.unwrap_err();
    assert!(matches!(&error, Error::Unsupported { hint, .. } if hint.contains("120 inputs")), "{error:?}");
    let found = tokio::time::timeout(Duration::from_secs(60), resolve(VersioningEngine::Auto)).await;
    assert_eq!(found.unwrap().unwrap().new.num_rows(), 1);
}

#[tokio::test]
async fn a_few_inputs_are_joined_by_duckdb() {
    let store = store_of(8).await;
    let native = store.resolve_update("made/of_all").versioning_engine(VersioningEngine::Native).await.unwrap();
    assert_eq!(native.new.num_rows(), 1);
}
