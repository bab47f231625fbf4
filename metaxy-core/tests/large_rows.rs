//! Rows of large values: the batches of a resolve fit into 32-bit offsets and into memory.

mod support;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, DictionaryArray, FixedSizeListArray, Int8Array, Int32Array, Int64Array,
    ListArray, RecordBatch, StringArray, StringViewArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use metaxy_core::{
    AccessMode, FeatureDep, FeatureGraph, FeatureSpec, HashAlgorithm, Lineage, MetadataStore, Rows, columns,
};

const MEBIBYTE: usize = 1 << 20;
/// More rows of a mebibyte each than fit into one output batch.
const MANY: usize = 150;
/// The maximum number of such rows in an output batch.
const MOST: usize = 64;

fn lone(key: &str, ids: &[&str]) -> FeatureSpec {
    FeatureSpec::builder(key).id_columns(ids.to_vec()).build().unwrap()
}

async fn open(test: &str, features: impl IntoIterator<Item = FeatureSpec>) -> MetadataStore {
    let memory = support::Memory::at(format!("large_rows/{test}"), HashAlgorithm::Xxhash32);
    let graph = FeatureGraph::new(features).unwrap();
    MetadataStore::builder(memory, graph).open(AccessMode::ReadWrite).await.unwrap()
}

/// Returns rows with these ids and another column.
fn rows(ids: &[(&str, ArrayRef)], column: (&str, ArrayRef)) -> RecordBatch {
    let versions = StringArray::from_iter_values((0..column.1.len()).map(|row| format!("v{row}")));
    let provenance = columns::by_field([("default", Arc::new(versions) as ArrayRef)]).unwrap();
    let all = ids.iter().cloned().chain([column, (columns::PROVENANCE_BY_FIELD, provenance)]);
    RecordBatch::try_from_iter(all).unwrap()
}

fn numbers(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// Returns one large value in many rows, in types that store it once.
fn shared_values() -> Vec<(&'static str, ArrayRef)> {
    let large = "x".repeat(MEBIBYTE);
    let one = || Arc::new(StringArray::from_iter_values([&large])) as ArrayRef;
    let dictionary: ArrayRef = Arc::new(DictionaryArray::new(Int8Array::from(vec![0; MANY]), one()));
    let mut views = arrow::array::StringViewBuilder::new().with_deduplicate_strings();
    (0..MANY).for_each(|_| views.append_value(&large));
    let views: StringViewArray = views.finish();
    let field = Arc::new(Field::new("item", dictionary.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(vec![1; MANY]);
    let member = Arc::new(Field::new("text", dictionary.data_type().clone(), true));
    vec![
        ("dictionary", dictionary.clone()),
        ("view", Arc::new(views)),
        ("list", Arc::new(ListArray::new(field.clone(), offsets, dictionary.clone(), None))),
        ("fixed_list", Arc::new(FixedSizeListArray::new(field, 1, dictionary.clone(), None))),
        ("struct", Arc::new(StructArray::new(vec![member].into(), vec![dictionary], None))),
    ]
}

fn check_batches(rows: &Rows, what: &str) {
    let sizes: Vec<usize> = rows.batches().iter().map(RecordBatch::num_rows).collect();
    assert_eq!(rows.num_rows(), MANY, "{what}");
    assert!(sizes.iter().all(|size| (1..=MOST).contains(size)), "{what}: batches of {sizes:?} rows");
}

#[tokio::test]
async fn batches_of_increments_are_bounded_for_every_encoding() {
    for (name, values) in shared_values() {
        let made = FeatureSpec::builder("made").id_columns(["id"]).dep("raw").build().unwrap();
        let store = open(name, [lone("raw", &["id"]), made]).await;
        let batch = rows(&[("id", numbers(0..MANY as i64))], ("value", values));
        let samples = store.resolve_update("raw").samples(batch.clone()).await.unwrap();
        check_batches(&samples.new, &format!("samples with {name}"));
        store.write("raw", batch).await.unwrap();
        let increment = store.resolve_update("made").await.unwrap();
        check_batches(&increment.new, name);
    }
}

/// The parent's value is repeated for each child: few bytes are read, many are returned.
#[tokio::test]
async fn a_join_that_repeats_a_large_value_is_split_by_bytes() {
    let scene = lone("scene", &["film", "scene"]);
    let parent = FeatureDep::new("film");
    let made = FeatureSpec::builder("made").id_columns(["film", "scene"]).dep("scene").dep(parent);
    let store = open("join", [lone("film", &["film"]), scene, made.build().unwrap()]).await;
    let value: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&vec![7; MEBIBYTE]]));
    store.write("film", rows(&[("film", numbers([1]))], ("poster", value))).await.unwrap();
    let ids = [("film", numbers(vec![1; MANY])), ("scene", numbers(0..MANY as i64))];
    let count: ArrayRef = Arc::new(Int32Array::from(vec![0; MANY]));
    store.write("scene", rows(&ids, ("count", count))).await.unwrap();
    let increment = store.resolve_update("made").await.unwrap();
    check_batches(&increment.new, "join");
    for batch in increment.new.batches() {
        let posters = batch.column_by_name("poster").unwrap().as_binary::<i32>();
        assert!(posters.iter().all(|poster| poster.is_some_and(|poster| poster.len() == MEBIBYTE && poster[0] == 7)));
    }
}

#[tokio::test]
async fn groups_of_large_rows_are_not_divided() {
    let parent = FeatureDep::new("raw").lineage(Lineage::aggregation(["film"]));
    let made = FeatureSpec::builder("made").id_columns(["film"]).dep(parent).build().unwrap();
    let store = open("groups", [lone("raw", &["film", "scene"]), made]).await;
    let (_, dictionary) = shared_values().swap_remove(0);
    // Five films of thirty scenes each, in turn.
    let ids = [("film", numbers((0..MANY as i64).map(|row| row % 5))), ("scene", numbers(0..MANY as i64))];
    store.write("raw", rows(&ids, ("value", dictionary))).await.unwrap();
    let increment = store.resolve_update("made").await.unwrap();
    let films = |batch: &RecordBatch| -> Vec<i64> {
        let column = batch.column_by_name("film").unwrap();
        column.as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
    };
    let groups: Vec<RecordBatch> = increment.groups().unwrap().collect();
    assert_eq!(groups.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [30; 5]);
    assert!(groups.iter().all(|group| films(group).windows(2).all(|pair| pair[0] == pair[1])));
    for n in 1..=6 {
        let portions = increment.portions(n).unwrap();
        let mut seen = std::collections::BTreeMap::<i64, usize>::new();
        for (number, portion) in portions.iter().enumerate() {
            let within: usize = portion.batches().iter().map(RecordBatch::num_rows).max().unwrap();
            assert!(within <= MOST, "{n} portions: a batch of {within} rows");
            for film in portion.batches().iter().flat_map(films) {
                assert_eq!(*seen.entry(film).or_insert(number), number, "{n} portions: film {film} is divided");
            }
        }
        assert_eq!((portions.len(), seen.len()), (n.min(5), 5));
        assert_eq!(portions.iter().map(Rows::num_rows).sum::<usize>(), MANY);
    }
    let value = groups[0].column_by_name("value").unwrap();
    assert_eq!(*value.data_type(), DataType::Utf8, "a dictionary is a form of a batch, not a type of a column");
    assert_eq!(value.as_string::<i32>().value(0).len(), MEBIBYTE);
}
