//! Limits: large values, and large numbers of rows, columns and features.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arrow::array::{Array, Int64Array, ListArray, StringArray};
use arrow::datatypes::Int64Type;
use metaxy_core::{FeatureGraph, Result};

use super::kit::{LEAF, PASSED, ROOT, ids, pair, process, read, read_ids, root, samples, texts};
use super::{Bench, Outcome};

/// The time after which one-row writes stop, if they are slow.
const TINY_WRITES_TIME: Duration = Duration::from_secs(20);

pub(super) async fn text_of_ten_megabytes(bench: Bench) -> Result<Outcome> {
    let long: String = "Straße 日本 '\"\\ ".chars().cycle().take(9_000_000).collect();
    assert!(long.len() > 10_000_000);
    let store = bench.store(pair()?).await?;
    let batch = samples(["s1", "s2"], "v1").column("t", StringArray::from(vec![long.as_str(), "short"])).batch();
    store.write(ROOT, batch).await?;
    let rows = read(&store, ROOT).await?;
    let shown = texts(&rows, "t");
    assert_eq!(shown[0].len(), long.len());
    assert!(shown[0] == long, "ten megabytes of text come back changed");
    assert_eq!(shown[1], "short");
    PASSED
}

pub(super) async fn long_ids(bench: Bench) -> Result<Outcome> {
    let long = |end: char| format!("{}{end}", "i".repeat(2_000));
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples([long('a'), long('b')], "v1").batch()).await?;
    store.write(ROOT, samples([long('b'), long('c')], "v2").batch()).await?;
    assert_eq!(read_ids(&store, ROOT).await?, [long('a'), long('b'), long('c')]);
    PASSED
}

pub(super) async fn two_hundred_columns(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    for round in 0..2_i64 {
        let wide = (0..200).fold(samples(["s1", "s2"], "v1"), |batch, column| {
            batch.column(&format!("column_{column}"), Int64Array::from(vec![column, column + round]))
        });
        store.write(ROOT, wide.batch()).await?;
    }
    let rows = read(&store, ROOT).await?;
    for column in [0, 99, 199_i64] {
        assert_eq!(texts(&rows, &format!("column_{column}")), [column.to_string(), (column + 1).to_string()]);
    }
    PASSED
}

pub(super) async fn a_hundred_thousand_rows(bench: Bench) -> Result<Outcome> {
    let count = 100_000;
    let all = ids("s", count);
    let store = bench.store(pair()?).await?;
    let batch = samples(&all, "v1")
        .column("n", Int64Array::from_iter_values(0..count as i64))
        .column("t", StringArray::from_iter_values(all.iter().map(|id| format!("path/of/{id}.mp4"))));
    assert_eq!(store.write(ROOT, batch.batch()).await?, count as u64);
    let rows = read(&store, ROOT).await?;
    assert_eq!(texts(&rows, "id"), all);
    let numbers = arrow::array::AsArray::as_primitive::<Int64Type>(rows.column_by_name("n").expect("it was written"));
    assert!(numbers.iter().eq((0..count as i64).map(Some)), "numbers come back changed");
    process(&store, LEAF).await?;
    assert!(store.resolve_update(LEAF).await?.is_empty());
    PASSED
}

pub(super) async fn many_tiny_writes(bench: Bench) -> Result<Outcome> {
    let (most, least) = (bench.location.load().tiny_writes, 200);
    let store = bench.store(pair()?).await?;
    let mut newest = BTreeMap::new();
    let begun = Instant::now();
    for write in 0..most {
        // If the storage syncs each write to a slow disk, this number is enough.
        if write >= least && begun.elapsed() > TINY_WRITES_TIME {
            break;
        }
        // Every second write is another write of an earlier sample.
        let id = format!("s{:06}", if write % 2 == 0 { write / 2 } else { write / 4 });
        let batch = samples([&id], "v1").column("n", Int64Array::from(vec![write as i64])).batch();
        store.write(ROOT, batch).await?;
        newest.insert(id, write.to_string());
    }
    let rows = read(&store, ROOT).await?;
    let found: BTreeMap<String, String> = texts(&rows, "id").into_iter().zip(texts(&rows, "n")).collect();
    assert_eq!((rows.num_rows(), found), (newest.len(), newest));
    PASSED
}

pub(super) async fn long_lists(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let list = || Some((0..20_000).map(Some).collect::<Vec<_>>());
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([list(), Some(vec![]), None]);
    let stores_lists = bench.capabilities().await?.stores(lists.data_type());
    let batch = samples(["s1", "s2", "s3"], "v1").column("l", lists).batch();
    match store.write(ROOT, batch).await {
        Ok(_) => {}
        Err(error) if !stores_lists => return Ok(Outcome::Refused(error.to_string())),
        Err(error) => return Err(error),
    }
    let rows = read(&store, ROOT).await?;
    let lists = rows.column_by_name("l").expect("it was written");
    let first = arrow::array::AsArray::as_list_opt::<i32>(lists).map(|lists| lists.value(0));
    assert_eq!(first.map(|values| values.len()), Some(20_000));
    PASSED
}

pub(super) async fn fifty_features(bench: Bench) -> Result<Outcome> {
    let keys: Vec<String> = (0..50).map(|number| format!("group-{}/feature_{number}", number % 7)).collect();
    let store = bench.store(FeatureGraph::new(keys.iter().map(|key| root(key)).collect::<Result<Vec<_>>>()?)?).await?;
    for key in &keys {
        store.write(key, samples([key], "v1").batch()).await?;
    }
    assert_eq!(store.backend().tables().await?.len(), 50);
    for key in &keys {
        assert_eq!(read_ids(&store, key).await?, [key.as_str()]);
    }
    PASSED
}
