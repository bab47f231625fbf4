//! Utilities for authors of backends: shared handles, split predicates, checked bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use metaxy_core::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, new_null_array};
use metaxy_core::arrow::datatypes::{DataType, Field, Schema};
use metaxy_core::filter::Predicate;
use metaxy_core::schema::{convert, grown_schema};
use metaxy_core::shared::{FileId, Handles};
use metaxy_core::{Error, FeatureKey, Filter, ipc};

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A resource that may exist only once at a time.
struct Exclusive;

impl Exclusive {
    fn new() -> Self {
        assert_eq!(OPEN.fetch_add(1, Ordering::SeqCst), 0, "it is open twice");
        Self
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        thread::yield_now();
        assert_eq!(OPEN.fetch_sub(1, Ordering::SeqCst), 1);
    }
}

#[test]
fn a_resource_is_open_only_once() {
    static HANDLES: Handles<&str, Exclusive> = Handles::new();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..500 {
                    let one = HANDLES.open("store", || Ok(Exclusive::new())).unwrap();
                    let other = one.clone();
                    drop(one);
                    if round % 7 == 0 {
                        thread::yield_now();
                    }
                    drop(other);
                }
            });
        }
    });
    assert_eq!(OPEN.load(Ordering::SeqCst), 0, "the last one has closed it");
    let refused = HANDLES.open("store", || Err(Error::Task("not now".to_owned())));
    assert!(refused.is_err());
    drop(HANDLES.open("store", || Ok(Exclusive::new())).unwrap());
}

fn films() -> RecordBatch {
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![Some(1), Some(2), None, Some(4)])) as ArrayRef),
        ("title", Arc::new(StringArray::from(vec![Some("a"), Some("b"), Some("c"), None])) as ArrayRef),
    ])
    .unwrap()
}

#[test]
fn the_parts_of_a_predicate_equal_the_whole() {
    let rows = films();
    for text in [
        "id < 4",
        "title = 'a'",
        "id < 4 AND title != 'b'",
        "id >= 1 AND (title = 'a' AND id < 9) AND title IS NOT NULL",
        "id < 4 OR title = 'c'",
        "NOT (id = 1 AND title = 'b') AND id IS NOT NULL",
    ] {
        let whole = text.parse::<Filter>().unwrap().bind(&rows.schema()).unwrap();
        let on_ids = |part: &Predicate| part.columns().iter().all(|column| column == "id");
        let (taken, rest) = whole.clone().split(on_ids);
        assert!(taken.iter().all(on_ids) && !rest.iter().any(on_ids), "{text}");
        let truths = |part: &Option<Predicate>| match part {
            Some(part) => part.evaluate(&rows).unwrap().iter().map(|truth| truth == Some(true)).collect::<Vec<_>>(),
            None => vec![true; rows.num_rows()],
        };
        let both: Vec<bool> = truths(&taken).into_iter().zip(truths(&rest)).map(|(one, other)| one && other).collect();
        assert_eq!(both, truths(&Some(whole)), "{text}");
    }
}

#[test]
fn damaged_schemas_and_batches_are_errors() {
    let rows = films();
    let schema = ipc::encode_schema(rows.schema_ref()).unwrap();
    assert_eq!(ipc::decode_schema("films", &schema).unwrap(), rows.schema());
    for at in 0..schema.len() {
        let mut changed = schema.clone();
        changed[at] ^= 0x7f;
        for bytes in [&changed[..], &schema[..at]] {
            if let Err(error) = ipc::decode_schema("films", bytes) {
                assert!(matches!(&error, Error::Corrupt { table, .. } if table == "films"), "{error}");
            }
        }
    }
    assert!(ipc::decode_schema("films", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
    let several = [rows.slice(0, 1), rows.slice(1, 3)];
    let bytes = ipc::encode(rows.schema_ref(), &several).unwrap();
    assert_eq!(ipc::decode("films", &bytes).unwrap().1, several);
    let empty = ipc::encode(&Arc::new(Schema::empty()), &[]).unwrap();
    assert_eq!(ipc::decode("films", &empty).unwrap().1.len(), 0);
}

fn map_of(value: DataType) -> DataType {
    let pair = vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair.into()), false)), false)
}

/// Backends may store all members as nullable, or in another order.
#[test]
fn structs_in_maps_fit_the_column_that_they_have_created() {
    let table: FeatureKey = "films".parse().unwrap();
    let structs = |members: Vec<Field>| map_of(DataType::Struct(members.into()));
    let schema = |data_type: DataType| Schema::new(vec![Field::new("x", data_type, true)]);
    let (text, number) = (Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Int64, true));
    let stored = schema(structs(vec![text.clone(), number.clone()]));
    for given in [
        structs(vec![text.clone().with_nullable(false), number.clone().with_nullable(false)]),
        structs(vec![number.clone(), text.clone()]),
        structs(vec![number.clone().with_data_type(DataType::Int32)]),
    ] {
        assert_eq!(*grown_schema(&table, &stored, &schema(given.clone())).unwrap(), stored);
        let values = new_null_array(&given, 2);
        assert_eq!(convert(&table, "x", &values, stored.field(0).data_type()).unwrap().len(), 2);
    }
    let more = structs(vec![text, number.with_name("c")]);
    let refused = grown_schema(&table, &stored, &schema(more));
    assert!(matches!(refused, Err(Error::TypeMismatch { .. })), "{refused:?}");
}

/// A by-field column may be a map of texts, made by another program; any other map takes no struct.
#[test]
fn structs_fit_into_maps_of_texts_only() {
    let schema = |data_type: DataType| Arc::new(Schema::new(vec![Field::new("m", data_type, true)]));
    let members = vec![Field::new("a", DataType::Utf8, true)];
    let given = schema(DataType::Struct(members.into()));
    let table: FeatureKey = "t".parse().unwrap();
    assert!(grown_schema(&table, &schema(map_of(DataType::Utf8)), &given).is_ok());
    for value in
        [DataType::Float64, DataType::LargeUtf8, DataType::List(Field::new_list_field(DataType::Utf8, true).into())]
    {
        let refused = grown_schema(&table, &schema(map_of(value)), &given);
        assert!(matches!(refused, Err(Error::TypeMismatch { .. })), "{refused:?}");
    }
}

#[test]
fn a_delete_leaves_the_rows_for_which_its_filter_is_not_true() {
    let films = films();
    let rest = |filter: &str| {
        let predicate = Filter::parse(filter).unwrap().bind(films.schema_ref()).unwrap();
        let rest = predicate.remove_from(&films).unwrap();
        let titles = rest["title"].as_string::<i32>().iter().map(|title| title.unwrap_or("-").to_owned());
        titles.collect::<String>()
    };
    // The third row has no id, for which both filters are null.
    assert_eq!(rest("id < 3"), "c-");
    assert_eq!(rest("NOT (id < 3)"), "abc");
    assert_eq!(rest("id IS NULL OR id > 0"), "");
    assert_eq!(rest("id = 7"), "abc-");
}

#[test]
fn a_file_is_told_by_what_it_is_not_by_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("a"), "").unwrap();
    std::fs::write(path("b"), "").unwrap();
    let of = |name: &str| FileId::of(&path(name)).unwrap();
    assert_ne!(of("a"), of("b"));
    assert_eq!(of("a"), of("./a"));
    let a = of("a");
    std::fs::rename(path("a"), path("c")).unwrap();
    #[cfg(unix)]
    {
        assert_eq!(of("c"), a);
        std::os::unix::fs::symlink("c", path("a")).unwrap();
        assert_eq!(of("a"), a);
    }
    assert!(FileId::of(&path("d")).is_err());
}
