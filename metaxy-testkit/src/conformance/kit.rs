//! Shared by the cases: small features, rows for them, and functions that read results.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::compute::{SortColumn, cast, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema};
use metaxy_core::store::{IntoBackend, ResolveRequest, StoreBuilder};
use metaxy_core::{
    AccessMode, Error, FeatureGraph, FeatureSpec, FieldSpec, Increment, MetadataStore, Result, Rows, VersioningEngine,
    columns,
};

use super::{Bench, Outcome};
use crate::location::Location;
use crate::scenario::assert_same_increment;

/// The outcome of most cases.
pub(super) const PASSED: Result<Outcome> = Ok(Outcome::Passed);

/// The root of most cases: id column `id`, fields `a` and `b`.
pub(super) const ROOT: &str = "raw/clip";
/// A feature made from [`ROOT`]: its field `x` from `a`, `y` from `b`.
pub(super) const LEAF: &str = "derived/text";

/// Returns a root feature with id column `id` and fields `a` and `b`.
pub(super) fn root(key: &str) -> Result<FeatureSpec> {
    FeatureSpec::builder(key).id_columns(["id"]).fields(["a", "b"]).build()
}

/// Returns the graph of [`ROOT`] and [`LEAF`].
pub(super) fn pair() -> Result<FeatureGraph> {
    versioned_pair("1")
}

/// Returns the same graph with a code version of the root's field `a`.
pub(super) fn versioned_pair(code: &str) -> Result<FeatureGraph> {
    FeatureGraph::new([
        FeatureSpec::builder(ROOT)
            .id_columns(["id"])
            .fields([FieldSpec::new("a").code_version(code), FieldSpec::new("b")])
            .build()?,
        FeatureSpec::builder(LEAF)
            .id_columns(["id"])
            .dep(ROOT)
            .fields([FieldSpec::new("x").depends_on(ROOT, ["a"]), FieldSpec::new("y").depends_on(ROOT, ["b"])])
            .build()?,
    ])
}

impl Bench {
    /// Opens a store for writing on the bench's location.
    pub(super) async fn store(&self, graph: FeatureGraph) -> Result<MetadataStore> {
        self.builder(graph).await?.open(AccessMode::ReadWrite).await
    }

    /// Opens the store of [`pair`] on a new location, for cases that need several.
    pub(super) async fn fresh_store(&self) -> Result<MetadataStore> {
        builder_on(&*self.fresh().await?, pair()?).await?.open(AccessMode::ReadWrite).await
    }

    /// Returns a builder of the store.
    pub(super) async fn builder(&self, graph: FeatureGraph) -> Result<StoreBuilder> {
        builder_on(&*self.location, graph).await
    }
}

/// Returns a builder of a store on a location.
pub(super) async fn builder_on(location: &dyn Location, graph: FeatureGraph) -> Result<StoreBuilder> {
    Ok(builder_over(location, location.backend().await?, graph))
}

/// Returns a builder of a store on a backend of a location.
pub(super) fn builder_over(location: &dyn Location, backend: impl IntoBackend, graph: FeatureGraph) -> StoreBuilder {
    location.configure(MetadataStore::builder(backend, graph).auto_create_tables(true))
}

/// Builds rows of a root.
pub(super) struct Samples {
    rows: usize,
    columns: Vec<(String, ArrayRef)>,
}

/// Returns rows of [`ROOT`] with these ids and this version in their provenance.
pub(super) fn samples<S: ToString>(ids: impl IntoIterator<Item = S>, version: &str) -> Samples {
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    let rows = ids.len();
    Samples { rows, columns: vec![("id".to_owned(), Arc::new(StringArray::from(ids)) as ArrayRef)] }
        .provenance(&["a", "b"], version)
}

impl Samples {
    /// Adds a column.
    pub(super) fn column(mut self, name: &str, array: impl Array + 'static) -> Self {
        self.columns.push((name.to_owned(), Arc::new(array)));
        self
    }

    /// Sets the fields of the provenance, and their version.
    pub(super) fn provenance(self, fields: &[&str], version: &str) -> Self {
        let values = fields.iter().map(|field| text_array(self.rows, &format!("{version}-{field}"))).collect();
        let provenance = StructArray::new(columns::by_field_fields(fields), values, None);
        self.without(columns::PROVENANCE_BY_FIELD).column(columns::PROVENANCE_BY_FIELD, provenance)
    }

    /// Leaves a column out.
    pub(super) fn without(mut self, column: &str) -> Self {
        self.columns.retain(|(name, _)| name != column);
        self
    }

    /// Returns the rows.
    pub(super) fn batch(self) -> RecordBatch {
        let field = |(name, array): &(String, ArrayRef)| Field::new(name, array.data_type().clone(), true);
        let schema = Schema::new(self.columns.iter().map(field).collect::<Vec<_>>());
        let arrays = self.columns.into_iter().map(|(_, array)| array).collect();
        RecordBatch::try_new(Arc::new(schema), arrays).expect("all columns have one value for each id")
    }
}

/// The number of rows of a [`generation`].
pub(super) const GENERATION: usize = 40;

/// The number of batches of a [`generation`].
const BATCHES: usize = 4;

/// Returns the same samples with this number, in several batches of one write: a reader must never see two numbers, or
/// a part of the batches.
pub(super) fn generation(number: i64) -> Vec<RecordBatch> {
    let of = |ids: &[String]| samples(ids, "v1").column("n", Int64Array::from(vec![number; ids.len()])).batch();
    ids("s", GENERATION).chunks(GENERATION / BATCHES).map(of).collect()
}

/// Returns the number of the only generation in some rows.
pub(super) fn only_generation(rows: &RecordBatch) -> i64 {
    let mut numbers = texts(rows, "n");
    assert_eq!(numbers.len(), GENERATION, "a reader sees a part of a write");
    numbers.dedup();
    assert_eq!(numbers.len(), 1, "a reader sees parts of several writes: {numbers:?}");
    numbers[0].parse().expect("every generation has a number")
}

fn text_array(rows: usize, value: &str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows)))
}

/// Ids `p0`, `p1` and so on, sorted as text.
pub(super) fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number:06}")).collect()
}

/// Returns all rows of a read with the default options, sorted by id.
pub(super) async fn read(store: &MetadataStore, feature: &str) -> Result<RecordBatch> {
    sorted(store.read(feature).await?.rows().await?)
}

/// Returns rows in one batch, sorted by id and then by time of writing.
pub(super) fn sorted(rows: Rows) -> Result<RecordBatch> {
    let batch = concat_batches(rows.schema(), rows.batches())?;
    let by = ["id", columns::UPDATED_AT, columns::DELETED_AT];
    let by: Vec<SortColumn> = by
        .iter()
        .filter_map(|name| Some(SortColumn { values: batch.column_by_name(name)?.clone(), options: None }))
        .collect();
    if by.is_empty() {
        return Ok(batch);
    }
    Ok(take_record_batch(&batch, &lexsort_to_indices(&by, None)?)?)
}

/// Returns the texts of a column, `NULL` for null.
pub(super) fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    let array = batch.column_by_name(column).unwrap_or_else(|| panic!("there is no column `{column}`"));
    let shown = match array.data_type() {
        // Arrow needs a time zone database to show times of a named zone, so they are shown in UTC.
        DataType::Timestamp(unit, Some(_)) => {
            cast(array, &DataType::Int64).and_then(|ticks| cast(&ticks, &DataType::Timestamp(*unit, None)))
        }
        _ => Ok(array.clone()),
    };
    let shown = shown.and_then(|array| cast(&array, &DataType::Utf8)).expect("the column can be shown");
    shown.as_string::<i32>().iter().map(|value| value.unwrap_or("NULL").to_owned()).collect()
}

/// Returns the ids of a read with the default options, sorted.
pub(super) async fn read_ids(store: &MetadataStore, feature: &str) -> Result<Vec<String>> {
    Ok(texts(&read(store, feature).await?, "id"))
}

/// Returns the ids of some rows, sorted.
pub(super) fn ids_of(rows: &Rows) -> Vec<String> {
    sorted(rows.clone()).map(|batch| texts(&batch, "id")).expect("rows can be sorted by id")
}

/// Returns the ids of an increment: new, stale, orphaned; both engines must agree.
pub(super) async fn increment(store: &MetadataStore, feature: &str) -> Result<[Vec<String>; 3]> {
    both_engines(|| store.resolve_update(feature)).await
}

/// Returns the ids of the increment of a request, after checking that both engines agree.
pub(super) async fn both_engines(request: impl Fn() -> ResolveRequest) -> Result<[Vec<String>; 3]> {
    let increment = assert_engines_agree(request).await?;
    Ok([ids_of(&increment.new), ids_of(&increment.stale), ids_of(&increment.orphaned)])
}

/// Returns the increment of a request, after checking that the storage system and the Arrow engine agree.
pub(super) async fn assert_engines_agree(request: impl Fn() -> ResolveRequest) -> Result<Increment> {
    let remembered = request().await?;
    // Whether or not the storage system is faster, it answers if it can.
    let native = match request().versioning_engine(VersioningEngine::Native).from_all_rows().await {
        Err(Error::Unsupported { .. }) => request().versioning_engine(VersioningEngine::Auto).from_all_rows().await?,
        answered => answered?,
    };
    let arrow = request().versioning_engine(VersioningEngine::Arrow).from_all_rows().await?;
    let streamed = request().versioning_engine(VersioningEngine::Arrow).memory_limit(1).lazy().await?.collect().await?;
    assert_same_increment("the storage system", &arrow, &native)?;
    assert_same_increment("the Arrow engine in partitions", &arrow, &streamed)?;
    assert_same_increment("what the store remembers", &arrow, &remembered)?;
    Ok(native)
}

/// Processes a feature: resolves it and writes the new and stale samples.
pub(super) async fn process(store: &MetadataStore, feature: &str) -> Result<()> {
    let increment = store.resolve_update(feature).await?;
    store.write(feature, increment.new).await?;
    store.write(feature, increment.stale).await?;
    Ok(())
}

/// Returns the number of rows of each id.
pub(super) fn counts(batch: &RecordBatch) -> BTreeMap<String, usize> {
    texts(batch, "id").into_iter().fold(BTreeMap::new(), |mut counts, id| {
        *counts.entry(id).or_default() += 1;
        counts
    })
}

/// Returns `(id, provenance)` of every stored row, enough to detect any change.
pub(super) async fn everything(store: &MetadataStore, feature: &str) -> Result<Vec<String>> {
    let read = store.read(feature).with_feature_history().with_sample_history().include_soft_deleted();
    let rows = match read.await {
        Ok(rows) => sorted(rows.rows().await?)?,
        Err(Error::FeatureNotFound { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let columns = ["id", columns::PROVENANCE, columns::UPDATED_AT, columns::DELETED_AT].map(|name| texts(&rows, name));
    Ok((0..rows.num_rows()).map(|row| columns.each_ref().map(|column| column[row].as_str()).join(" ")).collect())
}

/// Panics unless a result is an error that matches a pattern.
macro_rules! assert_error {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err($pattern) $(if $guard)? => {}
            Err(error) => panic!("expected {}, got the error: {error} ({error:?})", stringify!($pattern)),
            Ok(_) => panic!("expected {}, but there was no error", stringify!($pattern)),
        }
    };
}
pub(super) use assert_error;
