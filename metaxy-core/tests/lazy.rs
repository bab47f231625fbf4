//! Increments in bounded memory and as streams: the result does not depend on the limit.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::util::display::array_value_to_string;
use futures::{StreamExt, TryStreamExt};
use metaxy_core::plan::RowKind;
use metaxy_core::store::{Duplicates, IncrementCounts, StoreBuilder};
use metaxy_core::{
    AccessMode, Error, FeatureDep, FeatureGraph, FeatureSpec, HashAlgorithm, Lineage, MetadataStore, Rows, columns,
};
use proptest::prelude::*;

/// Features of every lineage over two roots.
fn graph() -> FeatureGraph {
    let dep = |feature: &str| FeatureDep::new(feature);
    let made = |key: &str, ids: &[&str], deps: Vec<FeatureDep>| {
        let spec = FeatureSpec::builder(key).id_columns(ids.iter().copied());
        deps.into_iter().fold(spec, |spec, dep| spec.dep(dep)).build().unwrap()
    };
    FeatureGraph::new([
        made("raw/video", &["video"], Vec::new()),
        made("raw/frame", &["video", "frame"], Vec::new()),
        made("made/text", &["video"], vec![dep("raw/video")]),
        made("made/album", &["video"], vec![dep("raw/frame").lineage(Lineage::aggregation(["video"]))]),
        made("made/scene", &["video", "scene"], vec![dep("raw/video").lineage(Lineage::expansion(["video"]))]),
        made("made/both", &["video", "frame"], vec![dep("raw/frame"), dep("raw/video").optional()]),
    ])
    .unwrap()
}

const MADE: [&str; 4] = ["made/text", "made/album", "made/scene", "made/both"];

fn rows(ids: &[(&str, &[i64])], version: &str) -> RecordBatch {
    let count = ids[0].1.len();
    let versions = (0..count).map(|row| format!("{version}-{}", ids.iter().map(|id| id.1[row] % 7).sum::<i64>()));
    let versions: ArrayRef = Arc::new(StringArray::from_iter_values(versions));
    let versions = columns::by_field([("default", versions)]).unwrap();
    let ids = ids.iter().map(|(name, values)| (*name, Arc::new(Int64Array::from(values.to_vec())) as ArrayRef));
    RecordBatch::try_from_iter(ids.chain([(columns::PROVENANCE_BY_FIELD, versions)])).unwrap()
}

async fn write_videos(store: &MetadataStore, videos: &[i64], version: &str) {
    store.write("raw/video", rows(&[("video", videos)], version)).await.unwrap();
    let frames: Vec<(i64, i64)> = videos.iter().flat_map(|video| (0..3).map(|frame| (*video, frame))).collect();
    let (videos, frames): (Vec<i64>, Vec<i64>) = frames.into_iter().unzip();
    store.write("raw/frame", rows(&[("video", &videos), ("frame", &frames)], version)).await.unwrap();
}

/// Processes the new and stale samples of all features.
async fn process(store: &MetadataStore) {
    for feature in MADE {
        let increment = store.resolve_update(feature).await.unwrap();
        for batch in increment.to_process() {
            let batch = match feature {
                "made/scene" => {
                    columns::with_column(batch, "scene", Arc::new(Int64Array::from(vec![1; batch.num_rows()]))).unwrap()
                }
                _ => batch.clone(),
            };
            store.write(feature, batch).await.unwrap();
        }
    }
}

/// Returns the same tables, opened with other settings.
async fn opened(place: &str, settings: impl FnOnce(StoreBuilder) -> StoreBuilder) -> MetadataStore {
    let memory = support::Memory::at(place, HashAlgorithm::Xxhash32);
    let builder = MetadataStore::builder(memory, graph()).duplicates(Duplicates::Last);
    settings(builder).open(AccessMode::ReadWrite).await.unwrap()
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let cells = |row: usize| {
        let cell = |column: &ArrayRef| array_value_to_string(column, row).unwrap();
        batch.columns().iter().map(cell).collect::<Vec<_>>().join("|")
    };
    (0..batch.num_rows()).map(cells).collect()
}

fn sorted(rows: &Rows) -> Vec<String> {
    let mut all: Vec<String> = rows.batches().iter().flat_map(lines).collect();
    all.sort();
    all
}

type Answer = [Vec<String>; 3];

async fn eager(store: &MetadataStore, feature: &str) -> Answer {
    let increment = store.resolve_update(feature).await.unwrap();
    [&increment.new, &increment.stale, &increment.orphaned].map(sorted)
}

async fn lazy(store: &MetadataStore, feature: &str) -> Answer {
    let increment = store.resolve_update(feature).lazy().await.unwrap();
    let mut answer: Answer = Default::default();
    let mut rows = increment.stream();
    while let Some((kind, batch)) = rows.try_next().await.unwrap() {
        answer[kind as usize].extend(lines(&batch));
    }
    answer.iter_mut().for_each(|lines| lines.sort());
    let counts = increment.counts().await.unwrap();
    let [new, stale, orphaned] = [&answer[0], &answer[1], &answer[2]].map(Vec::len);
    assert_eq!(counts, IncrementCounts { new, stale, orphaned }, "{feature}");
    for (kind, view) in
        [increment.new_rows(), increment.stale_rows(), increment.orphaned_rows()].into_iter().enumerate()
    {
        let schema = view.schema().clone();
        let rows = view.rows().await.unwrap();
        assert!(rows.batches().iter().all(|batch| batch.schema() == schema), "{feature}");
        assert_eq!(sorted(&rows), answer[kind], "{feature}");
    }
    answer
}

/// A change of the corpus.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<i64>, u8),
    Process,
    Delete(i64, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let ids = proptest::collection::btree_set(0_i64..60, 1..25);
    prop_oneof![
        3 => (ids, 0_u8..3).prop_map(|(ids, version)| Step::Write(ids.into_iter().collect(), version)),
        1 => Just(Step::Process),
        1 => (0_i64..60, any::<bool>()).prop_map(|(below, hard)| Step::Delete(below, hard)),
    ]
}

async fn play(place: &str, steps: &[Step]) -> MetadataStore {
    let store = opened(place, |builder| builder).await;
    write_videos(&store, &[1, 2, 3], "first").await;
    for step in steps {
        match step {
            Step::Write(ids, version) => write_videos(&store, ids, &format!("v{version}")).await,
            Step::Process => process(&store).await,
            Step::Delete(below, hard) => {
                let delete = store.delete("raw/video").filter(format!("video < {below}"));
                if *hard {
                    delete.hard().await.unwrap()
                } else {
                    delete.await.unwrap()
                };
            }
        }
    }
    store
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_limit_gives_the_same_result(steps in proptest::collection::vec(step(), 1..8), name in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let place = format!("limits-{name}");
            let store = play(&place, &steps).await;
            let whole: BTreeMap<&str, Answer> = {
                let mut answers = BTreeMap::new();
                for feature in MADE {
                    answers.insert(feature, eager(&store, feature).await);
                }
                answers
            };
            // All in memory, and all in partitions.
            for (limit, partitions) in [(1 << 30, 64), (20_000, 64), (20_000, 7), (20_000, 2), (20_000, 1)] {
                let store = opened(&place, |builder| builder.memory_limit(limit).partitions(partitions)).await;
                for feature in MADE {
                    assert_eq!(eager(&store, feature).await, whole[feature], "{feature} with {limit} bytes");
                    assert_eq!(lazy(&store, feature).await, whole[feature], "{feature} with {limit} bytes, lazily");
                }
                let (own, other) = (store.input_progress("made/album").await.unwrap(), opened(&place, |b| b).await);
                assert_eq!(own, other.input_progress("made/album").await.unwrap());
                let read = store.read("raw/frame").await.unwrap().rows().await.unwrap();
                assert_eq!(sorted(&read), sorted(&other.read("raw/frame").await.unwrap().rows().await.unwrap()));
            }
        });
    }
}

#[tokio::test]
async fn samples_of_a_root_are_compared_within_any_limit() {
    let videos: Vec<i64> = (0..5_000).collect();
    let store = opened("lazy-samples", |builder| builder).await;
    write_videos(&store, &videos[..4_000], "v1").await;
    let samples = rows(&[("video", &videos[1_000..])], "v1");
    let small = opened("lazy-samples", |builder| builder.memory_limit(100_000)).await;
    for store in [&store, &small] {
        let increment = store.resolve_update("raw/video").samples(&samples).lazy().await.unwrap();
        let counts = increment.counts().await.unwrap();
        assert_eq!(counts, IncrementCounts { new: 1_000, stale: 0, orphaned: 1_000 });
        assert_eq!(increment.collect().await.unwrap().new.num_rows(), 1_000);
    }
}

#[tokio::test]
async fn the_limit_is_a_setting() {
    use metaxy_core::MetaxyConfig;
    use metaxy_core::config::Environment;
    let open = async |settings: &str| {
        let text = format!("[stores.dev]\ntype = 'memory'\nconfig = {{ root_path = 'lazy-setting', {settings} }}");
        let config = MetaxyConfig::loader().environment(Environment::empty()).load_text(&text)?;
        config.open_store("dev", graph(), AccessMode::ReadWrite).await
    };
    let videos: Vec<i64> = (0..3_000).collect();
    write_videos(&open("memory_limit = 1000000000").await.unwrap(), &videos, "v1").await;
    let small = open("memory_limit = '10 kB', temp_dir = '/nowhere/at/all'").await.unwrap();
    let error = small.resolve_update("made/both").await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    assert_eq!(
        open("memory_limit = '10 kB'").await.unwrap().resolve_update("made/both").await.unwrap().new.num_rows(),
        9_000
    );
    let error = open("memory_limit = '10 parsecs'").await.unwrap_err();
    assert!(error.to_string().contains("`parsecs` is not a unit of memory"), "{error}");
}

#[tokio::test]
async fn an_increment_that_is_its_result_is_written_as_it_is() {
    let store = opened("lazy-writes", |builder| builder.duplicates(Duplicates::Error)).await;
    write_videos(&store, &[1, 2, 3], "a").await;
    let increment = store.resolve_update("made/text").lazy().await.unwrap();
    assert_eq!(increment.clone().limit(2).write().await.unwrap(), 2);
    let rest = store.resolve_update("made/text").lazy().await.unwrap();
    assert_eq!(rest.write().await.unwrap(), 1);
    write_videos(&store, &[2], "b").await;
    assert_eq!(store.resolve_update("made/text").lazy().await.unwrap().write().await.unwrap(), 1);
    let left = store.resolve_update("made/text").await.unwrap();
    assert_eq!([left.new, left.stale, left.orphaned].map(|rows| rows.num_rows()), [0; 3]);
    let stored = store.read("made/text").await.unwrap().collect().await.unwrap();
    assert_eq!(stored.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    // Neither the scenes of a video nor one row for an album are in the increment.
    let of = async |feature: &str| store.resolve_update(feature).lazy().await.unwrap().write().await.unwrap_err();
    assert!(matches!(of("made/scene").await, Error::MissingColumn { .. }));
    assert!(matches!(of("made/album").await, Error::DuplicateId { .. }));
}

#[tokio::test]
async fn a_limit_of_rows_ends_the_stream() {
    let videos: Vec<i64> = (0..3_000).collect();
    let store = opened("lazy-limit", |builder| builder.memory_limit(200_000)).await;
    write_videos(&store, &videos, "v1").await;
    let increment = store.resolve_update("made/both").lazy().await.unwrap().limit(1_234);
    let rows = increment.stream().try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(rows.iter().map(|(_, batch)| batch.num_rows()).sum::<usize>(), 1_234);
    assert!(rows.iter().all(|(kind, batch)| *kind == RowKind::New && batch.schema() == *increment.schema()));
    assert_eq!(increment.collect().await.unwrap().new.num_rows(), 1_234);
    assert_eq!(increment.stream().take(1).collect::<Vec<_>>().await.len(), 1);
}

#[tokio::test]
async fn an_unusable_directory_is_a_typed_error() {
    let videos: Vec<i64> = (0..3_000).collect();
    let store = opened("lazy-directory", |builder| builder).await;
    write_videos(&store, &videos, "v1").await;
    let missing = Path::new("/nowhere/at/all");
    let small = opened("lazy-directory", |builder| builder.memory_limit(10_000).temp_dir(missing)).await;
    let error = small.resolve_update("made/both").await.unwrap_err();
    assert!(matches!(error, Error::LocationNotFound { .. }), "{error:?}");
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    // Rows that fit into memory need no directory.
    let large = opened("lazy-directory", |builder| builder.memory_limit(1 << 30).temp_dir(missing)).await;
    assert_eq!(large.resolve_update("made/both").await.unwrap().new.num_rows(), 9_000);
}
