//! Tables: creating them by writing, finding, listing and dropping them.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array};
use arrow::datatypes::DataType;
use metaxy_core::backend::{ScanRequest, StoreBackend, Writers};
use metaxy_core::config::StoreConfig;
use metaxy_core::registry::{self, BackendSettings};
use metaxy_core::{AccessMode, Error, FeatureGraph, FeatureKey, MetadataStore, MetaxyConfig, Result, columns};

use super::kit::{
    LEAF, PASSED, ROOT, assert_error, builder_on, builder_over, everything, ids, pair, read, read_ids, root, samples,
    texts,
};
use super::read_only::paths;
use super::{Bench, Outcome};

fn key(text: &str) -> Result<FeatureKey> {
    Ok(text.parse()?)
}

pub(super) async fn unwritten_table_is_none(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    assert_eq!(store.backend().schema(&key(ROOT)?).await?, None);
    assert!(!store.has_feature(ROOT).await?);
    assert_error!(store.read(ROOT).await, Error::FeatureNotFound { .. });
    PASSED
}

pub(super) async fn unwritten_table_cannot_be_scanned(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let scan = async || store.backend().scan(&key(ROOT)?, &ScanRequest::default()).await;
    assert_error!(scan().await, Error::FeatureNotFound { .. });
    store.write(ROOT, samples(["s1"], "v1").batch()).await?;
    scan().await?;
    store.drop_feature(ROOT).await?;
    assert_error!(scan().await, Error::FeatureNotFound { .. });
    PASSED
}

pub(super) async fn opening_creates_no_table(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    assert_eq!(store.backend().tables().await?, Vec::<String>::new());
    PASSED
}

pub(super) async fn read_only_opening_creates_nothing(bench: Bench) -> Result<Outcome> {
    let mut said = Vec::new();
    let directory = bench.location.directory();
    let there = || directory.as_deref().map(paths);
    let before = there();
    for _ in 0..2 {
        match bench.builder(pair()?).await?.open(AccessMode::ReadOnly).await {
            Ok(store) => {
                assert_eq!(store.backend().tables().await?, Vec::<String>::new());
                assert!(!store.has_feature(ROOT).await?);
                store.close().await?;
                said.push("opened".to_owned());
            }
            Err(error @ Error::LocationNotFound { .. }) => said.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    assert_eq!(said[0], said[1], "the first opening has changed something");
    assert_eq!(before, there(), "files were added or removed");
    PASSED
}

pub(super) async fn closed_backend_refuses(bench: Bench) -> Result<Outcome> {
    let backend = bench.location.backend().await?;
    let table = key(ROOT)?;
    for moment in ["before open", "after close"] {
        assert_error!(backend.schema(&table).await, Error::Closed { .. });
        assert_error!(backend.tables().await, Error::Closed { .. });
        assert_error!(backend.scan(&table, &ScanRequest::default()).await, Error::Closed { .. });
        assert_error!(backend.drop_table(&table).await, Error::Closed { .. });
        if moment == "before open" {
            backend.open(AccessMode::ReadWrite).await?;
            backend.tables().await?;
            backend.close().await?;
        }
    }
    PASSED
}

pub(super) async fn closing_twice(bench: Bench) -> Result<Outcome> {
    let backend = bench.location.backend().await?;
    for _ in 0..2 {
        backend.open(AccessMode::ReadWrite).await?;
        assert_eq!(backend.tables().await?.len(), 0);
        backend.close().await?;
        backend.close().await?;
    }
    PASSED
}

pub(super) async fn schema_shows_what_was_written(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1"], "v1").column("n", Int64Array::from(vec![1])).batch()).await?;
    let schema = store.backend().schema(&key(ROOT)?).await?.expect("the table has been written");
    for name in columns::ALL.into_iter().chain(["id", "n"]) {
        assert!(schema.column_with_name(name).is_some(), "the schema has no column `{name}`: {schema}");
    }
    let scan = store.backend().scan(&key(ROOT)?, &ScanRequest::default()).await?;
    for field in scan.schema.fields() {
        let stored = schema.field_with_name(field.name())?;
        assert_eq!(stored.data_type(), field.data_type(), "`schema` and `scan` differ on column `{}`", field.name());
    }
    let type_of = |name: &str| schema.field_with_name(name).map(|field| field.data_type().clone());
    assert_eq!(type_of("n")?, DataType::Int64);
    for name in [columns::CREATED_AT, columns::UPDATED_AT, columns::DELETED_AT] {
        assert_eq!(type_of(name)?, columns::timestamp_type(), "{name}");
    }
    PASSED
}

pub(super) async fn tables_are_listed(bench: Bench) -> Result<Outcome> {
    let store = bench.store(FeatureGraph::new([root("b")?, root("a/deep/key")?, root("with-dash/x")?])?).await?;
    for feature in ["b", "a/deep/key", "with-dash/x"] {
        store.write(feature, samples(["s1"], "v1").batch()).await?;
    }
    let mut tables = store.backend().tables().await?;
    tables.sort();
    assert_eq!(tables, ["a__deep__key", "b", "with_dash__x"]);
    PASSED
}

pub(super) async fn dropped_table_is_gone(bench: Bench) -> Result<Outcome> {
    let store = bench.store(FeatureGraph::new([root("one")?, root("two")?])?).await?;
    store.write("one", samples(["s1"], "v1").batch()).await?;
    store.write("two", samples(["s2"], "v1").batch()).await?;
    store.drop_feature("one").await?;
    store.drop_feature("one").await?;
    assert_eq!(store.backend().schema(&key("one")?).await?, None);
    assert_eq!(store.backend().tables().await?, ["two"]);
    assert_error!(store.read("one").await, Error::FeatureNotFound { .. });
    assert_eq!(read_ids(&store, "two").await?, ["s2"]);
    PASSED
}

pub(super) async fn table_can_change_after_drop(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1"], "v1").column("n", Int64Array::from(vec![7])).batch()).await?;
    store.drop_feature(ROOT).await?;
    store.write(ROOT, samples(["s2"], "v1").column("n", Float64Array::from(vec![0.5])).batch()).await?;
    let rows = read(&store, ROOT).await?;
    assert_eq!(texts(&rows, "id"), ["s2"]);
    assert_eq!(rows.column_by_name("n").map(|array| array.data_type().clone()), Some(DataType::Float64));
    PASSED
}

pub(super) async fn similar_keys_have_separate_tables(bench: Bench) -> Result<Outcome> {
    let apart = ["a/b", "a_b", "a/b_c", "a_b/c", "a/b/c", "ab", "a-b/c-d"];
    let store = bench.store(FeatureGraph::new(apart.map(root).into_iter().collect::<Result<Vec<_>>>()?)?).await?;
    for feature in apart {
        store.write(feature, samples([format!("id of {feature}")], "v1").batch()).await?;
    }
    for feature in apart {
        assert_eq!(read_ids(&store, feature).await?, [format!("id of {feature}")]);
    }
    store.close().await?;
    let colliding = FeatureGraph::new([root("x-y")?, root("x_y")?])?;
    match bench.store(colliding).await {
        Err(Error::TableCollision { .. }) => {}
        Err(error) => return Err(error),
        Ok(store) => {
            store.write("x-y", samples(["dash"], "v1").batch()).await?;
            store.write("x_y", samples(["underscore"], "v1").batch()).await?;
            assert_eq!(read_ids(&store, "x-y").await?, ["dash"]);
            assert_eq!(read_ids(&store, "x_y").await?, ["underscore"]);
        }
    }
    PASSED
}

pub(super) async fn long_keys_have_separate_tables(bench: Bench) -> Result<Outcome> {
    let long = |end: &str| format!("{}/{end}", "long_name_".repeat(12));
    let (first, second) = (long("first"), long("second"));
    let store = bench.store(FeatureGraph::new([root(&first)?, root(&second)?])?).await;
    let refused = |error: Error| {
        assert!(error.to_string().contains("long_name_"), "the error does not name the key: {error}");
        Ok(Outcome::Refused(error.to_string()))
    };
    let store = match store {
        Ok(store) => store,
        Err(error) => return refused(error),
    };
    if let Err(error) = store.write(&first, samples(["one"], "v1").batch()).await {
        assert_eq!(store.backend().tables().await?.len(), 0, "a refused write has left a table");
        return refused(error);
    }
    store.write(&second, samples(["two"], "v1").batch()).await?;
    assert_eq!(read_ids(&store, &first).await?, ["one"]);
    assert_eq!(read_ids(&store, &second).await?, ["two"]);
    PASSED
}

pub(super) async fn location_is_shared(bench: Bench) -> Result<Outcome> {
    let first = bench.store(pair()?).await?;
    first.write(ROOT, samples(["s1"], "v1").batch()).await?;
    let is_alone = bench.capabilities().await?.writers == Writers::OneStore;
    if is_alone {
        first.close().await?;
    }
    let second = bench.store(pair()?).await?;
    assert_eq!(read_ids(&second, ROOT).await?, ["s1"]);
    second.write(ROOT, samples(["s2"], "v1").batch()).await?;
    if !is_alone {
        assert_eq!(read_ids(&first, ROOT).await?, ["s1", "s2"]);
    }
    // Another location is a separate store.
    let elsewhere = builder_on(&*bench.fresh().await?, pair()?).await?.open(AccessMode::ReadWrite).await?;
    assert!(!elsewhere.has_feature(ROOT).await?, "two locations share their tables");
    PASSED
}

pub(super) async fn rows_survive_reopening(bench: Bench) -> Result<Outcome> {
    for round in 0..3 {
        let store = bench.store(pair()?).await?;
        assert_eq!(everything_so_far(&store, round).await?, ids("s", round));
        store.write(ROOT, samples([format!("s{round:06}")], "v1").batch()).await?;
        store.close().await?;
    }
    // The last one is dropped without being closed.
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s000003"], "v1").batch()).await?;
    drop(store);
    let store = bench.builder(pair()?).await?.open(AccessMode::ReadOnly).await?;
    assert_eq!(read_ids(&store, ROOT).await?, ids("s", 4));
    PASSED
}

async fn everything_so_far(store: &metaxy_core::MetadataStore, round: usize) -> Result<Vec<String>> {
    if round == 0 { Ok(Vec::new()) } else { read_ids(store, ROOT).await }
}

pub(super) async fn type_string_is_registered(bench: Bench) -> Result<Outcome> {
    let info = bench.location.backend().await?.info();
    let registration = registry::find(info.kind)?;
    assert_eq!(registration.kind, info.kind);
    let settings = bench.location.settings();
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1"], "v1").batch()).await?;
    store.close().await?;
    let backend = (registration.create)(BackendSettings::from_table(settings.clone()))?;
    let store = builder_over(&*bench.location, backend, pair()?).open(AccessMode::ReadOnly).await?;
    assert_eq!(read_ids(&store, ROOT).await?, ["s1"]);
    let mut unknown = settings;
    unknown.insert("no_such_setting".to_owned(), toml::Value::Boolean(true));
    let error = (registration.create)(BackendSettings::from_table(unknown)).err();
    let error = error.expect("an unknown setting is refused").to_string();
    assert!(error.contains("no_such_setting"), "the error does not name the setting: {error}");
    PASSED
}

pub(super) async fn info_does_not_change(bench: Bench) -> Result<Outcome> {
    let backend: Arc<dyn StoreBackend> = bench.location.backend().await?;
    let shown = |backend: &Arc<dyn StoreBackend>| {
        let info = backend.info();
        (info.kind, info.location, info.default_hash, info.flat_names, info.auto_create_tables)
    };
    let before = shown(&backend);
    assert!(!before.0.is_empty() && !before.1.is_empty(), "a backend has a type string and a location");
    backend.open(AccessMode::ReadWrite).await?;
    assert_eq!(shown(&backend), before);
    backend.close().await?;
    assert_eq!(shown(&backend), before);
    PASSED
}

pub(super) async fn secrets_are_masked(bench: Bench) -> Result<Outcome> {
    let secrets = bench.location.secrets();
    let backend = bench.location.backend().await?;
    let settings = BackendSettings::from_table(bench.location.settings());
    let mut shown = vec![format!("{settings:?}"), format!("{:?}", backend.info()), format!("{backend:?}")];
    shown.extend(configured(backend.info().kind, &bench.location.settings())?);
    let closed = backend.tables().await.expect_err("a backend that is not open gives no tables");
    let store = MetadataStore::builder(backend.clone(), pair()?).open(AccessMode::ReadWrite).await?;
    shown.push(format!("{backend:?}"));
    shown.extend([format!("{store:?}"), store.name().to_owned()]);
    let missing = backend.scan(&key(ROOT)?, &ScanRequest::default()).await.err();
    for error in [Some(closed), missing].into_iter().flatten() {
        shown.extend([error.to_string(), format!("{error:?}")]);
    }
    backend.close().await?;
    for (secret, text) in secrets.iter().flat_map(|secret| shown.iter().map(move |text| (secret, text))) {
        assert!(!text.contains(secret), "a secret is shown: {}", text.replace(secret, "(here)"));
    }
    PASSED
}

/// Returns how a configuration with this store is displayed, valid and with an unknown setting.
fn configured(kind: &str, settings: &toml::Table) -> Result<Vec<String>> {
    let store = settings.iter().fold(StoreConfig::new(kind), |store, (key, value)| store.setting(key, value.clone()));
    let wrong =
        store.clone().setting("no_such_password", settings.values().map(ToString::to_string).collect::<String>());
    let config = MetaxyConfig::builder().add_store("dev", store).add_store("wrong", wrong).build()?;
    let errors = config.check().err().into_iter().flat_map(|error| [error.to_string(), format!("{error:?}")]);
    Ok([format!("{config:?}"), config.to_toml()?].into_iter().chain(errors).collect())
}

pub(super) async fn maintenance_changes_no_row(bench: Bench) -> Result<Outcome> {
    let week = std::time::Duration::from_secs(7 * 24 * 3600);
    let store = bench.store(pair()?).await?;
    store.backend().compact(&key(LEAF)?).await?;
    store.backend().vacuum(&key(LEAF)?, week).await?;
    for value in 0..5 {
        store.write(ROOT, samples(["s1", "s2"], "v1").column("n", Int64Array::from(vec![value; 2])).batch()).await?;
    }
    store.delete(ROOT).filter("id = 's2'").hard().await?;
    let before = everything(&store, ROOT).await?;
    let table = key(ROOT)?;
    for _ in 0..2 {
        store.backend().compact(&table).await?;
        store.backend().vacuum(&table, week).await?;
        assert_eq!(everything(&store, ROOT).await?, before);
    }
    store.write(ROOT, samples(["s3"], "v1").batch()).await?;
    assert_eq!(texts(&read(&store, ROOT).await?, "n"), ["4", "NULL"]);
    PASSED
}
