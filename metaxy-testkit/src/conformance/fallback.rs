//! Fallback chains: the first store that has a feature serves all of it, and only the first store is written.

use std::sync::Arc;

use metaxy_core::backend::SharedBackend;
use metaxy_core::{AccessMode, Error, FeatureGraph, HashAlgorithm, MetadataStore, Result};

use super::kit::{
    LEAF, PASSED, ROOT, assert_error, builder_on, everything, increment, pair, process, read, read_ids, root, samples,
    texts,
};
use super::{Bench, Outcome};
use crate::location::SharedLocation;
use crate::memory::MemoryBackend;

/// The location of a store in a chain: of the tested backend, or in memory.
#[derive(Clone)]
enum StoreLocation {
    Own(SharedLocation),
    Memory(String),
}

impl StoreLocation {
    async fn backend(&self) -> Result<SharedBackend> {
        match self {
            Self::Own(location) => location.backend().await,
            Self::Memory(name) => Ok(Arc::new(MemoryBackend::named(name))),
        }
    }

    /// Opens the store with open fallbacks.
    async fn open(
        &self,
        name: &str,
        graph: &FeatureGraph,
        mode: AccessMode,
        fallbacks: &[MetadataStore],
    ) -> Result<MetadataStore> {
        let builder = MetadataStore::builder(self.backend().await?, graph.clone()).auto_create_tables(true);
        let builder = match self {
            Self::Own(location) => location.configure(builder),
            Self::Memory(_) => builder,
        };
        let builder = builder.name(name).hash_algorithm(HashAlgorithm::Md5);
        fallbacks.iter().fold(builder, |builder, fallback| builder.fallback(fallback)).open(mode).await
    }
}

pub(super) async fn reads_of_the_own_store(bench: Bench) -> Result<Outcome> {
    let fallback = bench.fresh_store().await?;
    fallback.write(ROOT, samples(["s1"], "v1").batch()).await?;
    let store = bench.builder(pair()?).await?.fallback(&fallback).open(AccessMode::ReadWrite).await?;
    assert_eq!(read_ids(&store, ROOT).await?, ["s1"]);
    assert_error!(store.read(ROOT).without_fallback().await, Error::FeatureNotFound { searched, .. } if searched.len() == 1);
    store.write(ROOT, samples(["s2"], "v1").batch()).await?;
    assert_eq!(texts(&store.read(ROOT).without_fallback().await?.rows().await?.to_batch()?, "id"), ["s2"]);
    PASSED
}

/// Creates locations by kind: `o` for the tested backend, `m` for memory.
async fn locations(bench: &Bench, kinds: &str) -> Result<Vec<StoreLocation>> {
    let mut locations = Vec::new();
    for kind in kinds.chars() {
        locations.push(match kind {
            'o' => StoreLocation::Own(bench.fresh().await?),
            _ => StoreLocation::Memory(format!("fallback-{}", unique())),
        });
    }
    Ok(locations)
}

fn unique() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst)
}

/// Returns a feature for each set of stores that may have it: `f5` is in the first and the third.
fn feature(set: usize) -> String {
    format!("f{set}")
}

/// Checks chains of the first 1, 2, 3 and 4 locations, for every set of them that has a feature.
async fn chains_serve(bench: Bench, kinds: &str, deep: bool) -> Result<Outcome> {
    let locations = locations(&bench, kinds).await?;
    let sets = 1_usize << locations.len();
    let graph = FeatureGraph::new((0..sets).map(|set| root(&feature(set))).collect::<Result<Vec<_>>>()?)?;
    for (position, location) in locations.iter().enumerate() {
        let store = location.open("writer", &graph, AccessMode::ReadWrite, &[]).await?;
        for set in (0..sets).filter(|set| set >> position & 1 == 1) {
            store.write(feature(set), samples([format!("of store {position}")], "v1").batch()).await?;
        }
        store.close().await?;
    }
    for length in 1..=locations.len() {
        let chain = open_chain(&locations[..length], &graph, deep).await?;
        for set in 0..sets {
            let serving = (0..length).find(|position| set >> position & 1 == 1);
            let name = chain.store_of(feature(set)).await?;
            assert_eq!(name, serving.map(|position| format!("store {position}")), "{length} stores, set {set:b}");
            match serving {
                Some(position) => {
                    assert_eq!(read_ids(&chain, &feature(set)).await?, [format!("of store {position}")]);
                }
                None => assert_error!(chain.read(feature(set)).await, Error::FeatureNotFound { .. }),
            }
        }
    }
    PASSED
}

/// Opens the locations as one chain: with a list of fallbacks, or with each store as the fallback of the previous one.
async fn open_chain(locations: &[StoreLocation], graph: &FeatureGraph, deep: bool) -> Result<MetadataStore> {
    let mut fallbacks: Vec<MetadataStore> = Vec::new();
    for (position, location) in locations.iter().enumerate().skip(1).rev() {
        let below: &[MetadataStore] = if deep { &fallbacks } else { &[] };
        let store = location.open(&format!("store {position}"), graph, AccessMode::ReadOnly, below).await?;
        if deep {
            fallbacks.clear();
        }
        fallbacks.insert(0, store);
    }
    locations[0].open("store 0", graph, AccessMode::ReadWrite, &fallbacks).await
}

pub(super) async fn chains_of_one_to_four(bench: Bench) -> Result<Outcome> {
    chains_serve(bench, "oooo", false).await
}

pub(super) async fn chains_in_depth(bench: Bench) -> Result<Outcome> {
    chains_serve(bench, "oooo", true).await
}

pub(super) async fn as_primary_of_another_kind(bench: Bench) -> Result<Outcome> {
    chains_serve(bench, "omm", false).await
}

pub(super) async fn as_fallback_of_another_kind(bench: Bench) -> Result<Outcome> {
    chains_serve(bench, "momo", true).await
}

/// A primary and a fallback with rows, each on its own location.
struct Two {
    primary: MetadataStore,
    /// The fallback's store, for checks.
    fallback: MetadataStore,
}

async fn two(bench: &Bench, kinds: &str) -> Result<Two> {
    let locations = locations(bench, kinds).await?;
    let writer = locations[1].open("writer", &pair()?, AccessMode::ReadWrite, &[]).await?;
    writer.write(ROOT, samples(["s1", "s2", "s3"], "v1").batch()).await?;
    process(&writer, LEAF).await?;
    writer.close().await?;
    let fallback = locations[1].open("fallback", &pair()?, AccessMode::ReadOnly, &[]).await?;
    let primary =
        locations[0].open("primary", &pair()?, AccessMode::ReadWrite, std::slice::from_ref(&fallback)).await?;
    Ok(Two { primary, fallback })
}

pub(super) async fn deleted_rows_stay_deleted(bench: Bench) -> Result<Outcome> {
    for kinds in ["oo", "om", "mo"] {
        let Two { primary, fallback } = two(&bench, kinds).await?;
        primary.write(ROOT, samples(["s1", "s2"], "v2").batch()).await?;
        primary.delete(ROOT).filter("id = 's1'").await?;
        assert_eq!(read_ids(&primary, ROOT).await?, ["s2"], "{kinds}");
        primary.delete(ROOT).await?;
        assert_eq!(read_ids(&primary, ROOT).await?, Vec::<String>::new(), "{kinds}");
        assert_eq!(read_ids(&fallback, ROOT).await?, ["s1", "s2", "s3"], "{kinds}");
    }
    PASSED
}

pub(super) async fn rows_are_never_mixed(bench: Bench) -> Result<Outcome> {
    for kinds in ["oo", "mo"] {
        let Two { primary, .. } = two(&bench, kinds).await?;
        primary.write(ROOT, samples(["s9"], "v2").batch()).await?;
        assert_eq!(read_ids(&primary, ROOT).await?, ["s9"], "{kinds}");
        let history = primary.read(ROOT).with_sample_history().with_feature_history().await?.rows().await?;
        assert_eq!(history.num_rows(), 1, "{kinds}");
    }
    PASSED
}

pub(super) async fn an_emptied_feature_is_empty(bench: Bench) -> Result<Outcome> {
    for kinds in ["oo", "mo"] {
        let Two { primary, .. } = two(&bench, kinds).await?;
        primary.write(ROOT, samples(["s8", "s9"], "v2").batch()).await?;
        process(&primary, LEAF).await?;
        primary.delete(ROOT).filter("id = 's8'").hard().await?;
        primary.delete(ROOT).hard().await?;
        assert!(read_ids(&primary, ROOT).await?.is_empty(), "{kinds}: a fallback serves an emptied feature");
        assert!(primary.has_feature(ROOT).await?, "{kinds}");
        assert_eq!(primary.store_of(ROOT).await?.as_deref(), Some("primary"), "{kinds}");
        let orphaned = ["s8", "s9"].map(str::to_owned).to_vec();
        assert_eq!(increment(&primary, LEAF).await?, [vec![], vec![], orphaned], "{kinds}");
        primary.drop_feature(ROOT).await?;
        assert_eq!(read_ids(&primary, ROOT).await?, ["s1", "s2", "s3"], "{kinds}: the feature is absent now");
    }
    PASSED
}

pub(super) async fn upstream_rows_from_any_store(bench: Bench) -> Result<Outcome> {
    for kinds in ["oo", "om", "mo"] {
        let Two { primary, fallback } = two(&bench, kinds).await?;
        let before = everything(&fallback, LEAF).await?;
        let all = ["s1", "s2", "s3"].map(str::to_owned).to_vec();
        // The fallback has results for all samples; they do not belong to this store.
        assert_eq!(increment(&primary, LEAF).await?, [all.clone(), vec![], vec![]], "{kinds}");
        process(&primary, LEAF).await?;
        assert_eq!(increment(&primary, LEAF).await?.concat(), Vec::<String>::new(), "{kinds}");
        assert_eq!(primary.store_of(LEAF).await?.as_deref(), Some("primary"), "{kinds}");
        assert_eq!(primary.store_of(ROOT).await?.as_deref(), Some("fallback"), "{kinds}");
        assert_eq!(everything(&fallback, LEAF).await?, before, "{kinds}");
    }
    PASSED
}

pub(super) async fn changes_in_a_fallback_are_seen(bench: Bench) -> Result<Outcome> {
    for kinds in ["oo", "om", "mo"] {
        let locations = locations(&bench, kinds).await?;
        let fallback = locations[1].open("fallback", &pair()?, AccessMode::ReadWrite, &[]).await?;
        let chain = std::slice::from_ref(&fallback);
        let primary = locations[0].open("primary", &pair()?, AccessMode::ReadWrite, chain).await?;
        fallback.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
        process(&primary, LEAF).await?;
        // From the third time on an empty increment may be remembered.
        for _ in 0..4 {
            assert_eq!(increment(&primary, LEAF).await?.concat(), Vec::<String>::new(), "{kinds}");
        }
        fallback.write(ROOT, samples(["s1"], "v2").batch()).await?;
        let stale = [vec![], vec!["s1".to_owned()], vec![]];
        assert_eq!(increment(&primary, LEAF).await?, stale, "{kinds}");
        // Now the primary serves it, and nothing upstream asks for the samples of the fallback.
        primary.write(ROOT, samples(["s9"], "v1").batch()).await?;
        let moved = [vec!["s9"], vec![], vec!["s1", "s2"]].map(|ids| ids.into_iter().map(str::to_owned).collect());
        assert_eq!(increment(&primary, LEAF).await?, moved as [Vec<String>; 3], "{kinds}");
    }
    PASSED
}

pub(super) async fn fallbacks_are_never_written(bench: Bench) -> Result<Outcome> {
    for kinds in ["oo", "mo"] {
        let Two { primary, fallback } = two(&bench, kinds).await?;
        let before = everything(&fallback, ROOT).await?;
        assert_eq!(primary.delete(ROOT).hard().await?, 0, "{kinds}: a hard delete reached the fallback");
        primary.drop_feature(ROOT).await?;
        primary.write(ROOT, samples(["s1"], "v2").batch()).await?;
        primary.delete(ROOT).await?;
        primary.delete(ROOT).hard().await?;
        primary.drop_feature(ROOT).await?;
        assert_eq!(everything(&fallback, ROOT).await?, before, "{kinds}");
    }
    PASSED
}

pub(super) async fn one_hash_algorithm_for_all(bench: Bench) -> Result<Outcome> {
    let location = bench.fresh().await?;
    let open = |algorithm| {
        let location = location.clone();
        async move {
            let builder = builder_on(&*location, pair()?).await?.hash_algorithm(algorithm);
            builder.open(AccessMode::ReadWrite).await
        }
    };
    let other = open(HashAlgorithm::Sha256).await?;
    let builder = bench.builder(pair()?).await?.hash_algorithm(HashAlgorithm::Md5).fallback(&other);
    assert_error!(builder.open(AccessMode::ReadWrite).await, Error::HashAlgorithmMismatch { .. });
    PASSED
}

pub(super) async fn copying_between_stores(bench: Bench) -> Result<Outcome> {
    for kinds in ["oo", "om", "mo"] {
        let locations = locations(&bench, kinds).await?;
        let source = locations[1].open("source", &pair()?, AccessMode::ReadWrite, &[]).await?;
        source.write(ROOT, samples(["s1", "s2", "s3"], "v1").batch()).await?;
        source.write(ROOT, samples(["s1"], "v2").batch()).await?;
        source.delete(ROOT).filter("id = 's3'").await?;
        let target = locations[0].open("target", &pair()?, AccessMode::ReadWrite, &[]).await?;
        assert_eq!(target.copy_from(&source).await?.total(), 2, "{kinds}");
        let (from, to) = (read(&source, ROOT).await?, read(&target, ROOT).await?);
        for name in metaxy_core::columns::ALL.into_iter().filter(|name| !name.ends_with("by_field")).chain(["id"]) {
            assert_eq!(texts(&from, name), texts(&to, name), "{kinds}: {name}");
        }
        target.drop_feature(ROOT).await?;
        let all = target.copy_from(&source).with_sample_history().await?;
        assert_eq!(all.total(), 5, "{kinds}");
        assert_eq!(everything(&source, ROOT).await?, everything(&target, ROOT).await?, "{kinds}");
    }
    PASSED
}

pub(super) async fn a_repeated_copy(bench: Bench) -> Result<Outcome> {
    for kinds in ["oo", "om", "mo"] {
        let locations = locations(&bench, kinds).await?;
        let source = locations[1].open("source", &pair()?, AccessMode::ReadWrite, &[]).await?;
        let target = locations[0].open("target", &pair()?, AccessMode::ReadWrite, &[]).await?;
        source.write(ROOT, samples(["s1", "s2", "s3"], "v1").batch()).await?;
        assert_eq!(target.copy_from(&source).await?.total(), 3, "{kinds}");
        let before = everything(&target, ROOT).await?;
        let key = ROOT.parse()?;
        let again = target.copy_from(&source).await?;
        assert_eq!((again.rows[&key], again.skipped[&key], again.deleted[&key]), (0, 3, 0), "{kinds}");
        assert_eq!(everything(&target, ROOT).await?, before, "{kinds}");
        source.write(ROOT, samples(["s2", "s4", "s5"], "v2").batch()).await?;
        source.delete(ROOT).filter("id = 's3' OR id = 's5'").await?;
        let again = target.copy_from(&source).await?;
        assert_eq!((again.rows[&key], again.skipped[&key], again.deleted[&key]), (3, 2, 1), "{kinds}");
        assert_eq!(read_ids(&target, ROOT).await?, ["s1", "s2", "s4"], "{kinds}");
        // The whole history is copied once.
        let all = || target.copy_from(&source).with_sample_history();
        assert_eq!(all().await?.total(), 2, "{kinds}: s5 and its deletion");
        assert_eq!(everything(&target, ROOT).await?, everything(&source, ROOT).await?, "{kinds}");
        assert_eq!(all().await?.total(), 0, "{kinds}");
    }
    PASSED
}
