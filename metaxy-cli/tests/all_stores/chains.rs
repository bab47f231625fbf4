//! Chains and copies across kinds of stores.

use metaxy_core::{AccessMode, Error, FeatureGraph, HashAlgorithm, MetaxyConfig};

use crate::places::{KINDS, Kind, Place, chain};
use crate::rows::{everything, graph, ids, made_from, process, root, samples};

/// Features by where they are: in none of two stores, in the first, in the second, in both; and two that are made of
/// what the second has.
fn pair_graph() -> FeatureGraph {
    let roots = ["none", "first", "second", "both"].map(root);
    graph(roots.into_iter().chain([made_from("made", "second"), made_from("made/again", "made")]))
}

const ALL: [&str; 3] = ["s1", "s2", "s3"];
const OF_SECOND: [&str; 3] = ["second", "both", "made"];

async fn filled_second(kind: Kind) -> Place {
    let place = Place::new(kind);
    let store = place.open(pair_graph(), AccessMode::ReadWrite).await;
    for feature in ["second", "both"] {
        store.write(feature, samples(ALL, "old")).await.unwrap();
    }
    process(&store, "made").await;
    store.close().await.unwrap();
    place
}

async fn filled_first(kind: Kind) -> Place {
    let place = Place::new(kind);
    let store = place.open(pair_graph(), AccessMode::ReadWrite).await;
    store.write("first", samples(["f1"], "new")).await.unwrap();
    store.write("both", samples(["s1", "s2"], "new")).await.unwrap();
    store.close().await.unwrap();
    place
}

/// Returns everything that the second store has.
async fn state(second: &Place) -> Vec<Vec<String>> {
    let store = second.open(pair_graph(), AccessMode::ReadOnly).await;
    let mut state = Vec::new();
    for feature in OF_SECOND {
        state.push(everything(&store, feature).await);
    }
    state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_backend_is_a_fallback_of_every_other() {
    for second_kind in KINDS {
        let second = filled_second(second_kind).await;
        let before = state(&second).await;
        for first_kind in KINDS {
            println!("{first_kind:?} falls back on {second_kind:?}");
            pair(&filled_first(first_kind).await, &second).await;
            assert_eq!(state(&second).await, before, "{first_kind:?} has changed {second_kind:?}");
        }
    }
}

async fn pair(first: &Place, second: &Place) {
    let store = chain([first, second]).open_default_store(pair_graph(), AccessMode::ReadWrite).await.unwrap();
    for (feature, serving) in [("none", None), ("first", Some("s0")), ("second", Some("s1")), ("both", Some("s0"))] {
        assert_eq!(store.store_of(feature).await.unwrap().as_deref(), serving, "{feature}");
    }
    assert!(matches!(store.read("none").await, Err(Error::FeatureNotFound { .. })));
    assert_eq!(ids(&store, "first").await, ["f1"]);
    assert_eq!(ids(&store, "second").await, ALL);
    assert_eq!(ids(&store, "both").await, ["s1", "s2"]);

    // Samples that are deleted here are not read from there.
    assert_eq!(store.delete("both").filter("id = 's1'").await.unwrap(), 1);
    assert_eq!(ids(&store, "both").await, ["s2"]);
    store.delete("both").await.unwrap();
    assert_eq!(ids(&store, "both").await, [""; 0]);
    assert_eq!(store.store_of("both").await.unwrap().as_deref(), Some("s0"));

    // Upstream rows are read from there, results only from here.
    for feature in ["made", "made/again"] {
        assert_eq!(process(&store, feature).await, ALL, "{feature}");
        assert_eq!(store.store_of(feature).await.unwrap().as_deref(), Some("s0"));
    }

    // No call on this store changes the other.
    assert_eq!(store.delete("second").hard().await.unwrap(), 0);
    store.drop_feature("second").await.unwrap();
    let other = second.open(pair_graph(), AccessMode::ReadOnly).await;
    assert_eq!(store.copy_from(&other).features(["second"]).await.unwrap().total(), 3);
    assert_eq!(everything(&store, "second").await, everything(&other, "second").await);
    assert_eq!(store.store_of("second").await.unwrap().as_deref(), Some("s0"));
    store.close().await.unwrap();
}

/// All four kinds in one chain, in every order; a feature for every set of them that may have it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_backends_in_one_chain() {
    let feature = |set: usize| format!("f{set}");
    let holds = |set: usize, kind: usize| set >> kind & 1 == 1;
    let features = graph((0..16).map(|set| root(&feature(set))));
    let mut places = Vec::new();
    for (at, kind) in KINDS.into_iter().enumerate() {
        let place = Place::new(kind);
        let store = place.open(features.clone(), AccessMode::ReadWrite).await;
        for set in (0..16).filter(|set| holds(*set, at)) {
            store.write(feature(set), samples([format!("{kind:?}")], "v")).await.unwrap();
        }
        store.close().await.unwrap();
        places.push(place);
    }
    for order in orders() {
        let config = chain(order.iter().map(|kind| &places[*kind]));
        let store = config.open_default_store(features.clone(), AccessMode::ReadOnly).await.unwrap();
        for set in 0..16 {
            match (0..4).find(|position| holds(set, order[*position])) {
                Some(position) => {
                    let serving = store.store_of(feature(set)).await.unwrap();
                    assert_eq!(serving, Some(format!("s{position}")), "{order:?} {set:04b}");
                    assert_eq!(ids(&store, &feature(set)).await, [format!("{:?}", KINDS[order[position]])]);
                }
                None => assert!(matches!(store.read(feature(set)).await, Err(Error::FeatureNotFound { .. }))),
            }
        }
    }
}

/// Returns all orders of four items.
fn orders() -> Vec<[usize; 4]> {
    let all = (0..256).map(|number| [number & 3, number >> 2 & 3, number >> 4 & 3, number >> 6]);
    all.filter(|order| (0..4).all(|kind| order.contains(&kind))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_backends_hash_alike_by_default() {
    let places = KINDS.map(Place::new);
    let config = |settings: [Option<HashAlgorithm>; 4]| {
        let mut config = MetaxyConfig::builder();
        for (at, (place, algorithm)) in places.iter().zip(settings).enumerate() {
            let store =
                algorithm.into_iter().fold(place.settings(), |store, algorithm| store.hash_algorithm(algorithm));
            let store = if at < 3 { store.fallback_store(format!("s{}", at + 1)) } else { store };
            config = config.add_store(format!("s{at}"), store);
        }
        config.build().unwrap()
    };
    config([None; 4]).check().unwrap();
    for odd in 0..4 {
        let error = config(std::array::from_fn(|at| (at == odd).then_some(HashAlgorithm::Sha256))).check().unwrap_err();
        assert!(matches!(error, Error::HashAlgorithmMismatch { .. }), "{error}");
    }
}
