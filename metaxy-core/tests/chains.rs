//! Stores with fallbacks, opened from a configuration.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use metaxy_core::config::{MetaxyConfig, StoreConfig};
use metaxy_core::{AccessMode, Error, HashAlgorithm, MetadataStore};
use support::films::{graph, ids, videos};

/// A chain of stores a -> b -> c .., each on its own location.
struct Chain {
    test: String,
    config: MetaxyConfig,
}

impl Chain {
    fn new(test: &str, links: &[(&str, &[&str])]) -> Self {
        let mut builder = MetaxyConfig::builder();
        for (name, fallbacks) in links {
            let store = StoreConfig::new("memory").setting("root_path", format!("{test}/{name}"));
            let store = fallbacks.iter().fold(store, |store, name| store.fallback_store(*name));
            builder = builder.add_store(*name, store);
        }
        Self { test: test.to_owned(), config: builder.build().unwrap() }
    }

    async fn open(&self, name: &str) -> MetadataStore {
        self.config.open_store(name, graph(), AccessMode::ReadWrite).await.unwrap()
    }

    fn space(&self, name: &str) -> Arc<support::Space> {
        support::space(&format!("{}/{name}", self.test))
    }

    fn times_opened(&self, name: &str) -> usize {
        self.space(name).opened.load(Ordering::SeqCst)
    }

    /// Fills a store without opening the others.
    async fn fill(&self, name: &str, ids: &[i64], mark: &str) {
        let memory = support::Memory::at(format!("{}/{name}", self.test), HashAlgorithm::Xxhash32);
        let store = MetadataStore::builder(memory, graph()).name(name).open(AccessMode::ReadWrite).await.unwrap();
        store.write("raw/video", videos(ids, mark)).await.unwrap();
        self.space(name).opened.store(0, Ordering::SeqCst);
        self.space(name).modes.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn fallbacks_are_opened_when_needed_read_only_and_once() {
    // Two paths lead to d.
    let chain = Chain::new("lazy", &[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &[])]);
    chain.fill("a", &[1], "").await;
    let store = chain.open("a").await;
    assert_eq!(ids(&store, "raw/video").await, [1]);
    assert_eq!(["a", "b", "c", "d"].map(|name| chain.times_opened(name)), [1, 0, 0, 0]);
    let error = store.read("made/clip").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "feature `made/clip` is not in store a nor in its fallbacks b, d, c; write it first, or check `fallback_stores`"
    );
    assert_eq!(["a", "b", "c", "d"].map(|name| chain.times_opened(name)), [1, 1, 1, 1]);
    for name in ["b", "c", "d"] {
        assert_eq!(*chain.space(name).modes.lock().unwrap(), [AccessMode::ReadOnly], "{name}");
    }
}

#[tokio::test]
async fn the_first_store_that_has_a_feature_serves_all_of_it() {
    let names = ["a", "b", "c", "d"];
    let chain = |test: &str| Chain::new(test, &[("a", &["b"]), ("b", &["c"]), ("c", &["d"]), ("d", &[])]);
    for holders in 0_u8..16 {
        let chain = chain(&format!("first-{holders}"));
        let holds = |at: usize| holders & (1 << at) != 0;
        for (at, name) in names.into_iter().enumerate().filter(|(at, _)| holds(*at)) {
            chain.fill(name, &[at as i64, 10 + at as i64], "").await;
        }
        let store = chain.open("a").await;
        let first = (0..4).find(|at| holds(*at));
        assert_eq!(store.store_of("raw/video").await.unwrap().as_deref(), first.map(|at| names[at]), "{holders:04b}");
        match first {
            Some(at) => assert_eq!(ids(&store, "raw/video").await, [at as i64, 10 + at as i64], "{holders:04b}"),
            None => assert!(matches!(store.read("raw/video").await, Err(Error::FeatureNotFound { .. }))),
        }
        assert_eq!(store.has_feature("raw/video").await.unwrap(), holds(0));
    }
}

/// Returns a chain of stores s0 -> s1 -> .. with a sample in the last one.
async fn long_chain(test: &str, length: usize) -> Chain {
    let names: Vec<String> = (0..length).map(|at| format!("s{at}")).collect();
    let next = |at: usize| names.get(at + 1).map(String::as_str).into_iter().collect::<Vec<_>>();
    let nexts: Vec<Vec<&str>> = (0..length).map(next).collect();
    let links: Vec<_> = names.iter().zip(&nexts).map(|(name, next)| (name.as_str(), next.as_slice())).collect();
    let chain = Chain::new(test, &links);
    chain.fill(&names[length - 1], &[7], "").await;
    chain
}

#[tokio::test]
async fn long_chains() {
    let store = long_chain("long", 100).await.open("s0").await;
    assert_eq!(store.store_of("raw/video").await.unwrap().as_deref(), Some("s99"));
    assert_eq!(ids(&store, "raw/video").await, [7]);
    let error = long_chain("longer", 1000).await.config.check().unwrap_err().to_string();
    assert_eq!(error, "`stores.s99.config.fallback_stores[0]`: the chain of fallback stores is longer than 100");
}

/// In this lattice there are a hundred thousand million paths from `a` to `z`.
#[tokio::test]
async fn a_store_with_several_paths_is_searched_once() {
    let names = |level: usize| [format!("l{level}"), format!("r{level}")];
    let levels: Vec<[String; 2]> = (0..37).map(names).collect();
    let mut links: Vec<(&str, Vec<&str>)> = vec![("a", levels[0].iter().map(String::as_str).collect()), ("z", vec![])];
    for (level, names) in levels.iter().enumerate() {
        let next = levels.get(level + 1).map_or(vec!["z"], |next| next.iter().map(String::as_str).collect());
        links.extend(names.iter().map(|name| (name.as_str(), next.clone())));
    }
    let links: Vec<_> = links.iter().map(|(name, next)| (*name, next.as_slice())).collect();
    let chain = Chain::new("lattice", &links);
    chain.fill("z", &[1], "").await;
    let store = chain.open("a").await;
    assert_eq!(ids(&store, "raw/video").await, [1]);
    assert_eq!(store.store_of("made/clip").await.unwrap(), None);
    assert_eq!(store.read("made/clip").await.unwrap_err().to_string().matches(", ").count(), 75);
}

#[tokio::test]
async fn a_table_created_in_advance_does_not_count() {
    let chain = Chain::new("empty", &[("dev", &["prod"]), ("prod", &[])]);
    chain.fill("prod", &[1, 2], "").await;
    let tables = chain.space("prod").tables.lock().unwrap().clone();
    let empty = tables.into_iter().map(|(key, (schema, _))| (key, (schema, Vec::new())));
    chain.space("dev").tables.lock().unwrap().extend(empty);
    let store = chain.open("dev").await;
    assert_eq!(store.store_of("raw/video").await.unwrap().as_deref(), Some("prod"));
    assert_eq!(ids(&store, "raw/video").await, [1, 2]);
    store.write("raw/video", videos(&[3], "")).await.unwrap();
    assert_eq!(ids(&store, "raw/video").await, [3]);
    assert_eq!(store.delete("raw/video").hard().await.unwrap(), 1);
    assert_eq!(ids(&store, "raw/video").await, Vec::<i64>::new());
    // If no other store has the feature, it is empty.
    let alone = Chain::new("alone", &[("dev", &[])]);
    let tables = chain.space("dev").tables.lock().unwrap().clone();
    let empty = tables.into_iter().map(|(key, (schema, _))| (key, (schema, Vec::new())));
    alone.space("dev").tables.lock().unwrap().extend(empty);
    assert_eq!(ids(&alone.open("dev").await, "raw/video").await, Vec::<i64>::new());
}

#[tokio::test]
async fn deleted_rows_are_not_read_from_fallbacks() {
    let chain = Chain::new("deleted", &[("dev", &["prod"]), ("prod", &[])]);
    chain.fill("prod", &[1, 2], "").await;
    chain.fill("dev", &[1, 2], "").await;
    let store = chain.open("dev").await;
    assert_eq!(store.delete("raw/video").filter("id = 1").await.unwrap(), 1);
    assert_eq!(ids(&store, "raw/video").await, [2]);
    assert_eq!(store.delete("raw/video").await.unwrap(), 1);
    assert_eq!(ids(&store, "raw/video").await, [0_i64; 0]);
    assert_eq!(chain.times_opened("prod"), 0);
}

#[tokio::test]
async fn a_pipeline_with_its_root_in_prod_runs_in_dev() {
    let chain = Chain::new("pipeline", &[("dev", &["prod"]), ("prod", &[])]);
    chain.fill("prod", &[1, 2, 3], "").await;
    let before = format!("{:?}", chain.space("prod").tables.lock().unwrap());
    let store = chain.open("dev").await;
    for feature in ["made/clip", "made/text"] {
        let increment = store.resolve_update(feature).await.unwrap();
        assert_eq!((increment.new.num_rows(), increment.stale.num_rows()), (3, 0), "{feature}");
        store.write(feature, &increment.new).await.unwrap();
        assert!(store.resolve_update(feature).await.unwrap().is_empty(), "{feature}");
    }
    assert_eq!(store.store_of("raw/video").await.unwrap().as_deref(), Some("prod"));
    assert_eq!(store.store_of("made/text").await.unwrap().as_deref(), Some("dev"));
    assert_eq!(format!("{:?}", chain.space("prod").tables.lock().unwrap()), before);
    assert_eq!(*chain.space("prod").modes.lock().unwrap(), [AccessMode::ReadOnly]);
}

#[tokio::test]
async fn current_rows_are_read_only_from_the_own_store() {
    let chain = Chain::new("own", &[("dev", &["prod"]), ("prod", &[])]);
    chain.fill("prod", &[1, 2], "").await;
    let prod = chain.open("prod").await;
    prod.write("made/clip", prod.resolve_update("made/clip").await.unwrap().new).await.unwrap();
    let dev = chain.open("dev").await;
    assert_eq!(dev.resolve_update("made/clip").await.unwrap().new.num_rows(), 2);
    assert_eq!(dev.resolve_update("raw/video").samples(videos(&[1, 9], "")).await.unwrap().new.num_rows(), 2);
}

#[tokio::test]
async fn the_log_reports_a_fallback_that_serves_a_feature() {
    let chain = Chain::new("log", &[("dev", &["prod"]), ("prod", &[])]);
    chain.fill("prod", &[1], "").await;
    let log = support::Log::default();
    let _guard = log.start();
    let store = chain.open("dev").await;
    assert_eq!(ids(&store, "raw/video").await, [1]);
    let answered = "a fallback store serves the feature feature=raw/video store=\"dev\" fallback=\"prod\"";
    assert!(log.text().contains(answered), "{}", log.text());
}

#[tokio::test]
async fn an_unreachable_fallback() {
    let chain = Chain::new("broken", &[("dev", &["prod"]), ("prod", &[])]);
    chain.fill("prod", &[1], "").await;
    *chain.space("prod").broken.lock().unwrap() = true;
    let store = chain.open("dev").await;
    // Not "not found", because that is unknown.
    let error = store.read("raw/video").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(store.store_of("raw/video").await.is_err());
    store.write("raw/video", videos(&[5], "")).await.unwrap();
    assert_eq!(ids(&store, "raw/video").await, [5]);
    *chain.space("prod").broken.lock().unwrap() = false;
    store.drop_feature("raw/video").await.unwrap();
    assert_eq!(ids(&store, "raw/video").await, [1]);
}

#[tokio::test]
async fn open_stores_can_be_fallbacks() {
    let open = async |name: &str, hash| {
        let memory = support::Memory::at(format!("opened/{name}"), hash);
        MetadataStore::builder(memory, graph()).name(name)
    };
    let prod = open("prod", HashAlgorithm::Md5).await.open(AccessMode::ReadWrite).await.unwrap();
    prod.write("raw/video", videos(&[4], "")).await.unwrap();
    let dev = open("dev", HashAlgorithm::Md5).await.fallback(&prod).open(AccessMode::ReadWrite).await.unwrap();
    assert_eq!(ids(&dev, "raw/video").await, [4]);
    let error = open("odd", HashAlgorithm::Sha256).await.fallback(prod).open(AccessMode::ReadWrite).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "store `odd` hashes with sha256, its fallback `prod` with md5; give both the same `hash_algorithm`"
    );
}
