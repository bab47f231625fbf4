//! Writing: atomic, with all system columns, into tables that grow.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, NullArray, RecordBatch, StringArray,
    StructArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int64Type};
use futures::{StreamExt, stream};
use metaxy_core::backend::BatchStream;
use metaxy_core::store::Duplicates;
use metaxy_core::{AccessMode, BufferedMetadataWriter, Error, FeatureGraph, FeatureSpec, Result, columns};

use super::kit::{
    LEAF, PASSED, ROOT, assert_error, everything, ids, increment, pair, process, read, read_ids, root, samples, texts,
};
use super::{Bench, Outcome};

fn with_number(ids: &[&str], numbers: Vec<i64>) -> RecordBatch {
    samples(ids, "v1").column("n", Int64Array::from(numbers)).batch()
}

pub(super) async fn one_row(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    assert_eq!(store.write(ROOT, with_number(&["s1"], vec![7])).await?, 1);
    let rows = read(&store, ROOT).await?;
    assert_eq!((texts(&rows, "id"), texts(&rows, "n")), (vec!["s1".to_owned()], vec!["7".to_owned()]));
    PASSED
}

pub(super) async fn system_columns_are_complete(bench: Bench) -> Result<Outcome> {
    let graph = pair()?;
    let version = graph.feature_version(ROOT)?.to_owned();
    let project = graph.project_version().to_owned();
    let store = bench.builder(graph).await?.materialization_id("run-1").open(AccessMode::ReadWrite).await?;
    store.write(ROOT, samples(["s1"], "v1").batch()).await?;
    store.write(ROOT, samples(["s2"], "v1").batch()).materialization_id("run-2").await?;
    let rows = read(&store, ROOT).await?;
    assert_eq!(texts(&rows, columns::FEATURE_VERSION), [version.as_str(), version.as_str()]);
    assert_eq!(texts(&rows, columns::PROJECT_VERSION), [project.as_str(), project.as_str()]);
    assert_eq!(texts(&rows, columns::MATERIALIZATION_ID), ["run-1", "run-2"]);
    assert_eq!(texts(&rows, columns::DELETED_AT), ["NULL", "NULL"]);
    assert_eq!(texts(&rows, columns::CREATED_AT), texts(&rows, columns::UPDATED_AT));
    assert_eq!(texts(&rows, columns::PROVENANCE), texts(&rows, columns::DATA_VERSION));
    let by_field = rows.column_by_name(columns::PROVENANCE_BY_FIELD).expect("the column is there").as_struct();
    let members: BTreeSet<&str> = by_field.column_names().into_iter().collect();
    assert_eq!(members, BTreeSet::from(["a", "b"]));
    PASSED
}

pub(super) async fn timestamps_keep_their_microseconds(bench: Bench) -> Result<Outcome> {
    let clock = crate::clock::ManualClock::new();
    clock.advance_micros(123_457);
    let store = bench.builder(pair()?).await?.clock(clock).open(AccessMode::ReadWrite).await?;
    store.write(ROOT, samples(["s1"], "v1").batch()).await?;
    store.close().await?;
    let rows = read(&bench.store(pair()?).await?, ROOT).await?;
    for name in [columns::CREATED_AT, columns::UPDATED_AT] {
        let shown = texts(&rows, name);
        assert!(shown[0].contains(".123457"), "{name} has lost its microseconds: {shown:?}");
    }
    PASSED
}

pub(super) async fn rows_without_user_columns(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
    assert_eq!(read_ids(&store, ROOT).await?, ["s1", "s2"]);
    PASSED
}

pub(super) async fn empty_batches(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let empty = with_number(&[], vec![]);
    assert_eq!(store.write(ROOT, empty.clone()).await?, 0);
    assert_error!(store.read(ROOT).await, Error::FeatureNotFound { .. });
    let full = with_number(&["s1"], vec![1]);
    assert_eq!(store.write(ROOT, vec![empty.clone(), full, empty.clone()]).await?, 1);
    assert_eq!(store.write(ROOT, empty).await?, 0);
    assert_eq!(read_ids(&store, ROOT).await?, ["s1"]);
    PASSED
}

pub(super) async fn many_batches_are_one_write(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let batches: Vec<RecordBatch> = (0..20).map(|part| samples(ids(&format!("p{part}-"), 50), "v1").batch()).collect();
    assert_eq!(store.write(ROOT, batches).await?, 1000);
    let rows = read(&store, ROOT).await?;
    assert_eq!(rows.num_rows(), 1000);
    assert_eq!(texts(&rows, columns::UPDATED_AT).into_iter().collect::<BTreeSet<_>>().len(), 1);
    PASSED
}

pub(super) async fn later_write_wins(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, with_number(&["s1", "s2"], vec![1, 2])).await?;
    store.write(ROOT, with_number(&["s2", "s3"], vec![20, 30])).await?;
    store.write(ROOT, with_number(&["s3"], vec![300])).await?;
    let rows = read(&store, ROOT).await?;
    assert_eq!(texts(&rows, "id"), ["s1", "s2", "s3"]);
    assert_eq!(texts(&rows, "n"), ["1", "20", "300"]);
    PASSED
}

pub(super) async fn null_overwrites_a_value(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, with_number(&["s1"], vec![1])).await?;
    store.write(ROOT, samples(["s1"], "v1").column("n", Int64Array::from(vec![None])).batch()).await?;
    assert_eq!(texts(&read(&store, ROOT).await?, "n"), ["NULL"]);
    PASSED
}

pub(super) async fn added_columns(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, with_number(&["s1"], vec![1])).await?;
    let more =
        samples(["s2"], "v1").column("text", StringArray::from(vec!["new"])).column("n", Int64Array::from(vec![2]));
    store.write(ROOT, more.batch()).await?;
    // A write without a column of the table.
    store.write(ROOT, samples(["s3"], "v1").batch()).await?;
    let rows = read(&store, ROOT).await?;
    assert_eq!(texts(&rows, "n"), ["1", "2", "NULL"]);
    assert_eq!(texts(&rows, "text"), ["NULL", "new", "NULL"]);
    assert_eq!(store.read(ROOT).filter("text IS NULL").await?.rows().await?.num_rows(), 2);
    PASSED
}

pub(super) async fn reordered_columns(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let (left, right) = (StringArray::from(vec!["left"]), StringArray::from(vec!["right"]));
    let one = samples(["s1"], "v1").column("l", left.clone()).column("r", right.clone()).batch();
    let other = samples(["s2"], "v1").column("r", right).column("l", left).batch();
    store.write(ROOT, one).await?;
    store.write(ROOT, other.project(&[3, 1, 0, 2]).map_err(Error::from)?).await?;
    let rows = read(&store, ROOT).await?;
    assert_eq!(texts(&rows, "l"), ["left", "left"]);
    assert_eq!(texts(&rows, "r"), ["right", "right"]);
    PASSED
}

pub(super) async fn wider_type_for_an_old_column(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1"], "v1").column("n", Int32Array::from(vec![1])).batch()).await?;
    store.write(ROOT, with_number(&["s2"], vec![2])).await?;
    let rows = read(&store, ROOT).await?;
    assert_eq!(texts(&rows, "n"), ["1", "2"]);
    // A value that does not fit the stored type is read back unchanged, or is refused and nothing is written.
    let before = everything(&store, ROOT).await?;
    match store.write(ROOT, with_number(&["s3"], vec![i64::MAX])).await {
        Ok(_) => assert_eq!(texts(&read(&store, ROOT).await?, "n")[2], i64::MAX.to_string()),
        Err(Error::InvalidValue { .. }) => assert_eq!(everything(&store, ROOT).await?, before),
        Err(error) => return Err(error),
    }
    PASSED
}

pub(super) async fn nulls_before_values(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let first = samples(["s1"], "v1").column("note", NullArray::new(1)).batch();
    let second = samples(["s2"], "v1").column("note", StringArray::from(vec!["kept"])).batch();
    store.write(ROOT, vec![first, second]).await?;
    assert_eq!(texts(&read(&store, ROOT).await?, "note"), ["NULL", "kept"]);
    PASSED
}

pub(super) async fn incompatible_type_is_refused(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, with_number(&["s1"], vec![1])).await?;
    let before = everything(&store, ROOT).await?;
    let texts_for_numbers = samples(["s2"], "v1").column("n", StringArray::from(vec!["two"])).batch();
    assert_error!(store.write(ROOT, texts_for_numbers).await, Error::TypeMismatch { column, .. } if column == "n");
    let flags = samples(["s2"], "v1").column("n", BooleanArray::from(vec![true])).batch();
    assert_error!(store.write(ROOT, flags).await, Error::TypeMismatch { .. });
    let halves = samples(["s2"], "v1").column("n", Float64Array::from(vec![0.5])).batch();
    assert_error!(store.write(ROOT, halves).await, Error::TypeMismatch { .. });
    assert_eq!(everything(&store, ROOT).await?, before);
    PASSED
}

fn struct_of(members: &[(&str, i64)]) -> StructArray {
    let fields: Fields = members.iter().map(|(name, _)| Field::new(*name, DataType::Int64, true)).collect();
    let values = members.iter().map(|(_, value)| Arc::new(Int64Array::from(vec![*value])) as ArrayRef).collect();
    StructArray::new(fields, values, None)
}

pub(super) async fn added_struct_members(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["s1"], "v1").column("box", struct_of(&[("x", 1)])).batch()).await?;
    store.write(ROOT, samples(["s2"], "v1").column("box", struct_of(&[("y", 2), ("x", 3)])).batch()).await?;
    let rows = read(&store, ROOT).await?;
    let boxes = rows.column_by_name("box").expect("the column is there").as_struct();
    let member = |name: &str| {
        let values = boxes.column_by_name(name).unwrap_or_else(|| panic!("the struct has lost `{name}`"));
        values.as_primitive::<Int64Type>().iter().collect::<Vec<_>>()
    };
    assert_eq!(member("x"), [Some(1), Some(3)]);
    assert_eq!(member("y"), [None, Some(2)]);
    PASSED
}

pub(super) async fn case_of_names_is_kept(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let batch = samples(["s1"], "v1").column("CamelCase", Int64Array::from(vec![1])).batch();
    store.write(ROOT, batch).await?;
    assert_eq!(texts(&read(&store, ROOT).await?, "CamelCase"), ["1"]);
    let filtered = store.read(ROOT).filter("CamelCase = 1").columns(["CamelCase"]).await?.rows().await?;
    assert_eq!(filtered.num_rows(), 1);
    assert_error!(store.read(ROOT).columns(["camelcase"]).await, Error::MissingColumn { .. });
    PASSED
}

pub(super) async fn names_that_differ_in_case_only(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let one = samples(["s1"], "v1").column("size", Int64Array::from(vec![1])).column("Size", Int64Array::from(vec![2]));
    match store.write(ROOT, one.batch()).await {
        Ok(_) => {
            let rows = read(&store, ROOT).await?;
            assert_eq!((&texts(&rows, "size")[0][..], &texts(&rows, "Size")[0][..]), ("1", "2"));
            PASSED
        }
        Err(error) => {
            assert!(error.to_string().to_lowercase().contains("size"), "the error does not name the column: {error}");
            assert!(!store.has_feature(ROOT).await?, "a refused write has left rows");
            Ok(Outcome::Refused(error.to_string()))
        }
    }
}

pub(super) async fn strange_names(bench: Bench) -> Result<Outcome> {
    let names = [
        "with space",
        "with \"quotes\"",
        "it's",
        "back`tick",
        "semi;colon--",
        "Größe",
        "日本語",
        "a.b",
        "select",
        "order",
        "1st",
        "%s",
        "$1",
        "?",
        "[x]",
        "rowid",
        "_",
        "back\\slash",
        "curly{}",
        "a,b",
        "a/b",
        "tab\there",
        "😀",
    ];
    let store = bench.store(pair()?).await?;
    let mut kept = Vec::new();
    let mut refused = Vec::new();
    for name in names {
        // Each is written separately, so that one refusal does not hide another.
        let batch = samples([name], "v1").column(name, StringArray::from(vec![format!("value of {name}")])).batch();
        match store.write(ROOT, batch).await {
            Ok(_) => kept.push(name),
            Err(error) => {
                assert!(error.to_string().contains(name), "the error does not name the column `{name}`: {error}");
                refused.push(format!("{error}"));
            }
        }
    }
    let rows = read(&store, ROOT).await?;
    assert_eq!(rows.num_rows(), kept.len());
    for name in kept {
        let own = texts(&rows, name);
        assert!(own.contains(&format!("value of {name}")), "column `{name}` has lost its value: {own:?}");
        assert_eq!(own.iter().filter(|value| *value != "NULL").count(), 1, "column `{name}`: {own:?}");
    }
    if refused.is_empty() { PASSED } else { Ok(Outcome::Refused(refused.join("; "))) }
}

pub(super) async fn bad_input_writes_nothing(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, with_number(&["s1"], vec![1])).await?;
    let before = everything(&store, ROOT).await?;
    let without = |name: &str| {
        let batch = with_number(&["s2"], vec![2]);
        let keep: Vec<usize> = (0..batch.num_columns()).filter(|at| batch.schema().field(*at).name() != name).collect();
        batch.project(&keep)
    };
    assert_error!(store.write(ROOT, without(columns::PROVENANCE_BY_FIELD)?).await, Error::MissingColumn { .. });
    assert_error!(store.write(ROOT, without("id")?).await, Error::MissingColumn { .. });
    let good = with_number(&["s3"], vec![3]);
    let wrong_fields = samples(["s2"], "v1").provenance(&["a"], "v1").batch();
    assert!(
        store.write(ROOT, vec![good.clone(), wrong_fields]).await.is_err(),
        "a batch without field `b` was written"
    );
    let null_id = samples(["s2"], "v1").column("n", Int64Array::from(vec![2])).batch();
    let mut arrays = null_id.columns().to_vec();
    arrays[0] = Arc::new(StringArray::from(vec![None::<&str>]));
    let null_id = RecordBatch::try_new(null_id.schema(), arrays).map_err(Error::from)?;
    assert_error!(store.write(ROOT, vec![good, null_id]).await, Error::NullId { .. });
    assert_eq!(everything(&store, ROOT).await?, before);
    PASSED
}

pub(super) async fn by_field_columns_that_are_maps(bench: Bench) -> Result<Outcome> {
    let mut seen = Vec::new();
    for maps in [false, true] {
        let store = bench.builder(pair()?).await?.enable_map_datatype(maps).open(AccessMode::ReadWrite).await?;
        store.write(ROOT, samples(["s1", "s2"], "v1").batch()).await?;
        process(&store, LEAF).await?;
        let writer = BufferedMetadataWriter::builder(store.clone()).start().await?;
        writer.put(ROOT, samples(["s3"], "v1").batch()).await?;
        writer.close().await.expect("what was put is written");
        process(&store, LEAF).await?;
        // A store without the setting does not change the columns.
        store.close().await?;
        let store = bench.store(pair()?).await?;
        store.write(ROOT, samples(["s1"], "v2").batch()).await?;
        store.delete(ROOT).filter("id = 's2'").await?;
        let before = increment(&store, LEAF).await?;
        process(&store, LEAF).await?;
        let rows = read(&store, LEAF).await?;
        let versions = [columns::PROVENANCE, columns::DATA_VERSION].map(|name| texts(&rows, name));
        seen.push((before, increment(&store, LEAF).await?, texts(&rows, "id"), versions));
        store.drop_feature(ROOT).await?;
        store.drop_feature(LEAF).await?;
        store.close().await?;
    }
    assert_eq!(seen[0].0, [vec![], vec!["s1".to_owned()], vec!["s2".to_owned()]]);
    assert_eq!(seen[0], seen[1], "with maps, versions or increments differ from those with structs");
    PASSED
}

pub(super) async fn read_only_store_refuses(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, with_number(&["s1"], vec![1])).await?;
    store.close().await?;
    let store = bench.builder(pair()?).await?.open(AccessMode::ReadOnly).await?;
    assert_error!(store.write(ROOT, with_number(&["s2"], vec![2])).await, Error::ReadOnly { .. });
    assert_error!(store.delete(ROOT).await, Error::ReadOnly { .. });
    assert_error!(store.delete(ROOT).hard().await, Error::ReadOnly { .. });
    assert_error!(store.drop_feature(ROOT).await, Error::ReadOnly { .. });
    assert_eq!(read_ids(&store, ROOT).await?, ["s1"]);
    PASSED
}

pub(super) async fn tables_are_not_created_if_forbidden(bench: Bench) -> Result<Outcome> {
    let store = bench.builder(pair()?).await?.auto_create_tables(false).open(AccessMode::ReadWrite).await?;
    assert_error!(store.write(ROOT, samples(["s1"], "v1").batch()).await, Error::TableMissing { .. });
    assert_eq!(store.backend().tables().await?.len(), 0);
    PASSED
}

pub(super) async fn several_features_in_one_call(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let leaf = samples(["s1"], "v1").provenance(&["x", "y"], "v1").batch();
    let written = store.write_multi([(ROOT, samples(["s1", "s2"], "v1").batch()), (LEAF, leaf)]).await?;
    assert_eq!(written, 3);
    let (roots, leaves) = (read(&store, ROOT).await?, read(&store, LEAF).await?);
    assert_eq!((texts(&roots, "id").len(), texts(&leaves, "id").len()), (2, 1));
    assert_eq!(texts(&roots, columns::UPDATED_AT)[0], texts(&leaves, columns::UPDATED_AT)[0]);
    PASSED
}

pub(super) async fn given_data_versions_are_kept(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let given = StructArray::new(
        columns::by_field_fields(["a", "b"]),
        vec![
            Arc::new(StringArray::from(vec![Some("mine"), None])) as ArrayRef,
            Arc::new(StringArray::from(vec![Some("too"), Some("set")])),
        ],
        None,
    );
    let batch = samples(["s1", "s2"], "v1").column(columns::DATA_VERSION_BY_FIELD, given).batch();
    store.write(ROOT, batch).await?;
    let rows = read(&store, ROOT).await?;
    let by_field = rows.column_by_name(columns::DATA_VERSION_BY_FIELD).expect("the column is there").as_struct();
    let member = |name: &str| by_field.column_by_name(name).expect("the field is there").as_string::<i32>().clone();
    assert_eq!(member("a"), StringArray::from(vec!["mine", "v1-a"]));
    assert_eq!(member("b"), StringArray::from(vec!["too", "set"]));
    PASSED
}

pub(super) async fn field_keys_of_several_parts(bench: Bench) -> Result<Outcome> {
    let spec = FeatureSpec::builder("deep").id_columns(["id"]).fields(["audio/left", "audio/right-1", "z"]).build()?;
    let store = bench.store(FeatureGraph::new([spec])?).await?;
    let batch = samples(["s1"], "v1").provenance(&["audio_left", "audio_right-1", "z"], "v1").batch();
    store.write("deep", batch).await?;
    let rows = read(&store, "deep").await?;
    let by_field = rows.column_by_name(columns::PROVENANCE_BY_FIELD).expect("the column is there").as_struct();
    for name in ["audio_left", "audio_right-1", "z"] {
        let member = by_field.column_by_name(name).unwrap_or_else(|| panic!("field `{name}` is lost"));
        assert_eq!(member.as_string::<i32>().value(0), format!("v1-{name}"));
        assert!(member.is_valid(0));
    }
    PASSED
}

pub(super) async fn features_are_independent(bench: Bench) -> Result<Outcome> {
    let store = bench.store(FeatureGraph::new([root("one")?, root("two")?])?).await?;
    store.write("one", samples(["s1"], "first").batch()).await?;
    store.write("two", samples(["s1", "s2"], "second").batch()).await?;
    store.delete("one").await?;
    assert_eq!(read_ids(&store, "one").await?, Vec::<String>::new());
    assert_eq!(read_ids(&store, "two").await?, ["s1", "s2"]);
    PASSED
}

/// Returns many rows, the last of which has the id of the first.
fn with_a_repeated_id(count: usize) -> Vec<RecordBatch> {
    let mut all = ids("s", count);
    all.push(all[0].clone());
    let numbers: Vec<i64> = (0..all.len() as i64).collect();
    let batch = |(ids, numbers): (&[String], &[i64])| {
        samples(ids, "v1").column("n", Int64Array::from(numbers.to_vec())).batch()
    };
    all.chunks(30_000).zip(numbers.chunks(30_000)).map(batch).collect()
}

pub(super) async fn a_sample_twice_in_one_write(bench: Bench) -> Result<Outcome> {
    const COUNT: usize = 100_000;
    let store = bench.store(pair()?).await?;
    assert_error!(
        store.write(ROOT, with_a_repeated_id(COUNT)).await,
        Error::DuplicateId { id, count: 2, .. } if id == "id=s000000"
    );
    assert!(!store.has_feature(ROOT).await?, "a refused write has left rows");
    store.close().await?;
    let store = bench.builder(pair()?).await?.duplicates(Duplicates::Last).open(AccessMode::ReadWrite).await?;
    assert_eq!(store.write(ROOT, with_a_repeated_id(COUNT)).await?, COUNT as u64);
    for _ in 0..2 {
        let first = read(&store, ROOT).await?.slice(0, 1);
        assert_eq!((texts(&first, "id"), texts(&first, "n")), (ids("s", 1), vec![COUNT.to_string()]));
    }
    PASSED
}

pub(super) async fn ids_that_are_ambiguous(bench: Bench) -> Result<Outcome> {
    let spec = FeatureSpec::builder(ROOT).id_columns(["number"]).fields(["a", "b"]).build()?;
    let store = bench.store(FeatureGraph::new([spec])?).await?;
    let rows = |number: f64| samples(["s1"], "v1").column("number", Float64Array::from(vec![number])).batch();
    for number in [f64::NAN, -0.0] {
        assert_error!(store.write(ROOT, rows(number)).await, Error::InvalidValue { column, row: 0, .. } if column == "number");
    }
    store.write(ROOT, rows(0.0)).await?;
    assert_eq!(store.read(ROOT).await?.rows().await?.num_rows(), 1);
    PASSED
}

pub(super) async fn types_of_great_depth(bench: Bench) -> Result<Outcome> {
    let store = bench.store(pair()?).await?;
    let deep = |levels: usize| {
        let number: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        (0..levels).fold(number, |inner, _| {
            let member = Field::new("m", inner.data_type().clone(), true);
            Arc::new(StructArray::new(vec![member].into(), vec![inner], None))
        })
    };
    let rows = |id: &str, name: &str, value: ArrayRef| samples([id], "v1").column(name, value).batch();
    for levels in [33, 150] {
        assert_error!(store.write(ROOT, rows("s1", "deep", deep(levels))).await, Error::LimitExceeded { .. });
    }
    assert!(!store.has_feature(ROOT).await?, "a refused write has left rows");
    store.write(ROOT, rows("s1", "deep", deep(32))).await?;
    let read = read(&store, ROOT).await?;
    let mut value = read.column_by_name("deep").expect("the column is there").clone();
    while let DataType::Struct(_) = value.data_type() {
        value = value.as_struct().column(0).clone();
    }
    assert_eq!(value.as_primitive::<Int64Type>().value(0), 7);
    PASSED
}

/// Rows that exceed the memory limit by far: all of them are stored, or none.
pub(super) async fn streams_beyond_memory(bench: Bench) -> Result<Outcome> {
    const BATCHES: usize = 6;
    const ROWS: usize = 2_000;
    let open = async |duplicates: Duplicates| {
        bench.builder(pair()?).await?.memory_limit(1).duplicates(duplicates).open(AccessMode::ReadWrite).await
    };
    let batch_of = |number: usize| {
        let ids: Vec<String> = (0..ROWS).map(|row| format!("s{:05}", number * ROWS + row)).collect();
        samples(&ids, "v1").column("n", Int64Array::from(vec![number as i64; ROWS])).batch()
    };
    let again = || samples(["s00001"], "v1").column("n", Int64Array::from(vec![-1])).batch();
    let stream = |last: Option<Result<RecordBatch>>| -> BatchStream {
        stream::iter((0..BATCHES).map(batch_of).map(Ok).chain(last)).boxed()
    };
    let store = open(Duplicates::Error).await?;
    let broken = Err(Error::Task("the source has failed".to_owned()));
    assert_error!(store.write(ROOT, stream(Some(broken))).await, Error::Task(_));
    assert_error!(store.write(ROOT, stream(Some(Ok(again())))).await, Error::DuplicateId { .. });
    let mut nameless = batch_of(0);
    nameless.remove_column(nameless.schema_ref().index_of("id")?);
    let nameless: BatchStream = stream::iter([Ok(nameless.clone()), Ok(nameless)]).boxed();
    assert_error!(store.write(ROOT, nameless).await, Error::MissingColumn { column, .. } if column == "id");
    assert!(!store.has_feature(ROOT).await?, "a refused write has left rows");
    assert_eq!(store.write(ROOT, stream(None)).await?, (BATCHES * ROWS) as u64);
    let rows = read(&store, ROOT).await?;
    let numbers = rows.column_by_name("n").expect("the column is there").as_primitive::<Int64Type>().values().to_vec();
    assert_eq!((rows.num_rows(), numbers.iter().sum::<i64>()), (BATCHES * ROWS, (ROWS * 15) as i64));
    store.close().await?;
    let store = open(Duplicates::Last).await?;
    assert_eq!(store.write(ROOT, stream(Some(Ok(again())))).await?, (BATCHES * ROWS) as u64);
    let rows = read(&store, ROOT).await?;
    let numbers = rows.column_by_name("n").expect("the column is there").as_primitive::<Int64Type>().values().to_vec();
    assert_eq!((rows.num_rows(), numbers.iter().sum::<i64>()), (BATCHES * ROWS, (ROWS * 15) as i64 - 1));
    PASSED
}

/// A stream whose batches have different columns.
pub(super) async fn streams_of_several_schemas(bench: Bench) -> Result<Outcome> {
    for (memory_limit, ids) in [(1, ["a", "b", "c"]), (1 << 30, ["a", "b", "c"]), (1, ["c", "b", "a"])] {
        let store = bench.builder(pair()?).await?.memory_limit(memory_limit).open(AccessMode::ReadWrite).await?;
        store.drop_feature(ROOT).await?;
        let batches = [
            samples([ids[0]], "v1").column("n", Int64Array::from(vec![1])).batch(),
            samples([ids[1]], "v1").batch(),
            samples([ids[2]], "v1").column("t", StringArray::from(vec!["text"])).batch(),
        ];
        let rows: BatchStream = stream::iter(batches.map(Ok)).boxed();
        assert_eq!(store.write(ROOT, rows).await?, 3);
        let rows = read(&store, ROOT).await?;
        let row_of = |id: &str| ["a", "b", "c"].iter().position(|other| *other == id).expect("an id");
        let numbers = rows.column_by_name("n").expect("the first column").as_primitive::<Int64Type>();
        let texts = rows.column_by_name("t").expect("the second column");
        assert_eq!((numbers.null_count(), numbers.value(row_of(ids[0]))), (2, 1));
        assert_eq!((texts.null_count(), texts.is_valid(row_of(ids[2]))), (2, true));
        store.close().await?;
    }
    PASSED
}

/// A stream that reads from the store that it is written to.
pub(super) async fn streams_from_the_same_store(bench: Bench) -> Result<Outcome> {
    for memory_limit in [1, 1 << 30] {
        let store = bench.builder(pair()?).await?.memory_limit(memory_limit).open(AccessMode::ReadWrite).await?;
        store.drop_feature(LEAF).await?;
        let ids: Vec<String> = (0..3_000).map(|id| format!("s{id}")).collect();
        store.write(ROOT, samples(&ids, "v1").batch()).await?;
        let rows = store.resolve_update(LEAF).lazy().await?.new_rows();
        assert_eq!(store.write(LEAF, rows).await?, 3_000);
        let increment = store.resolve_update(LEAF).await?;
        assert!(increment.is_empty(), "{increment}");
        store.close().await?;
    }
    PASSED
}
