//! Why samples are new, stale or orphaned.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type};
use futures::TryStreamExt;

use crate::columns::{self, DATA_VERSION_BY_FIELD, PROVENANCE_BY_FIELD, UPDATED_AT};
use crate::error::{Error, Result};
use crate::graph::FeaturePlan;
use crate::key::{FeatureKey, FieldKey, FqFieldKey, IntoFeatureKey};
use crate::plan::{RowKind, join_columns};
use crate::spec::{FeatureDep, FeatureSpec};

use super::duplicates::shown_id;
use super::named::Named;
use super::{IntoBatches, MetadataStore};

/// Why a sample is in the state in which it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The sample, as `column=value` of the columns by which it is matched with its inputs.
    pub sample: String,
    /// Its state.
    pub state: SampleState,
    /// Its fields, in the order of the definition.
    pub fields: Vec<ExplainedField>,
    /// What it is made from, in the order of the definition.
    pub inputs: Vec<ExplainedInput>,
    /// Other feature versions under which the store has a row of the sample, sorted.
    pub other_versions: Vec<String>,
}

/// The state of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleState {
    /// It is stored as it is expected.
    UpToDate,
    /// It is expected, and not stored.
    New,
    /// It is stored, but was made from something else.
    Stale,
    /// It is stored, but nothing upstream expects it.
    Orphaned,
    /// It is neither expected nor stored.
    Absent,
}

/// A field of a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedField {
    /// The field.
    pub field: FieldKey,
    /// Its code version.
    pub code_version: String,
    /// The upstream fields from which it is made.
    pub made_from: Vec<FqFieldKey>,
    /// The provenance that is expected of a new or stale sample.
    pub expected: Option<String>,
    /// The provenance that is stored.
    pub stored: Option<String>,
}

impl ExplainedField {
    /// Returns whether the field has to be made, or made again.
    pub fn is_changed(&self) -> bool {
        self.expected.is_some() && self.expected != self.stored
    }
}

/// An upstream feature of a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedInput {
    /// The feature.
    pub feature: FeatureKey,
    /// Whether the sample exists without a row of it.
    pub optional: bool,
    /// Its rows from which the sample is made; several of a group (N:1).
    pub rows: Vec<InputRow>,
}

/// An upstream row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRow {
    /// The upstream sample, as `column=value` of its ids.
    pub sample: String,
    /// When it was written, in microseconds since 1970-01-01 UTC.
    pub updated_at: Option<i64>,
    /// Whether it was written after the stored row of the sample.
    pub is_later: bool,
    /// The data versions of the fields that the sample is made from.
    pub data_versions: Vec<(FieldKey, Option<String>)>,
}

/// Rows of the samples that are explained.
struct Picked {
    /// New, stale and orphaned rows.
    increment: Vec<(RowKind, RecordBatch)>,
    /// Stored rows.
    current: Vec<RecordBatch>,
    /// Stored rows of every feature version.
    history: Vec<RecordBatch>,
    /// Upstream rows, in the order of the dependencies, with the names of the columns that name the sample.
    inputs: Vec<(Vec<String>, Vec<RecordBatch>)>,
}

impl MetadataStore {
    /// Explains the state of some samples: which of their fields have to be made again, and from which upstream rows
    /// they are made. `rows` name the samples by the columns on which the inputs of the feature are joined: its ids, or
    /// those of the parent (1:N). There is an explanation for each row.
    ///
    /// # Errors
    /// The errors of [`resolve_update`](Self::resolve_update); [`Error::NotApplicable`] for a root, whose samples come
    /// from outside; [`Error::MissingColumn`] if the rows name no samples.
    pub async fn explain(&self, feature: impl IntoFeatureKey, rows: impl IntoBatches) -> Result<Vec<Explanation>> {
        let key = feature.into_feature_key()?;
        let plan = self.plan(&key)?;
        if plan.spec.is_root() {
            return Err(Error::NotApplicable {
                feature: key,
                operation: "explain samples of",
                reason: "it is a root feature, whose samples come from outside",
                hint: "compare them with `samples` of a resolve",
            });
        }
        let rows = rows.into_batches()?;
        let picked = self.pick(plan, &Named::parents(plan, rows.clone())?).await?;
        let mut explanations = Vec::new();
        for batch in &rows {
            for row in 0..batch.num_rows() {
                explanations.push(picked.explain(plan, &batch.slice(row, 1))?);
            }
        }
        Ok(explanations)
    }

    /// Returns the columns that name the samples of a feature in [`explain`](Self::explain).
    ///
    /// # Errors
    /// [`Error::UnknownFeature`], [`Error::InvalidKey`].
    pub fn sample_columns(&self, feature: impl IntoFeatureKey) -> Result<Vec<String>> {
        let plan = self.plan(&feature.into_feature_key()?)?;
        if plan.spec.is_root() { Ok(plan.spec.id_columns.clone()) } else { join_columns(plan) }
    }

    /// Reads what concerns some samples.
    async fn pick(&self, plan: &FeaturePlan, named: &Named) -> Result<Picked> {
        let key = &plan.spec.key;
        let mut increment = Vec::new();
        let mut stream = self.resolve_update(key).lazy().await?.stream();
        while let Some((kind, batch)) = stream.try_next().await? {
            increment.extend(picked_from(named, &batch)?.map(|batch| (kind, batch)));
        }
        let (mut current, mut history) = (Vec::new(), Vec::new());
        if self.own_table(key).await?.is_some() {
            let names = named.columns().iter().map(String::as_str);
            let names: Vec<&str> = names.chain([PROVENANCE_BY_FIELD, UPDATED_AT, columns::FEATURE_VERSION]).collect();
            let read = || self.read(key).without_fallback().with_markers().columns(&names);
            current = named.pick(read().await?).await?;
            history = named.pick(read().with_feature_history().with_sample_history().await?).await?;
        }
        let mut inputs = Vec::new();
        for (dep, upstream) in plan.deps() {
            inputs.push(self.input_rows(dep, upstream, named).await?);
        }
        Ok(Picked { increment, current, history, inputs })
    }

    /// Reads the rows of a dependency from which some samples are made, and returns them with the upstream names of the
    /// columns that name the samples.
    async fn input_rows(
        &self,
        dep: &FeatureDep,
        upstream: &FeatureSpec,
        named: &Named,
    ) -> Result<(Vec<String>, Vec<RecordBatch>)> {
        let names: Vec<String> = named.columns().iter().map(|name| source_of(dep, name)).collect();
        let Some(source) = self.serving(&upstream.key).await? else { return Ok((names, Vec::new())) };
        let renamed = named.renamed(self.plan(&upstream.key)?, &names)?;
        let mut kept: Vec<&str> = names.iter().chain(&upstream.id_columns).map(String::as_str).collect();
        kept.extend([DATA_VERSION_BY_FIELD, UPDATED_AT]);
        kept.sort_unstable();
        kept.dedup();
        if kept.iter().any(|name| source.schema.column_with_name(name).is_none()) {
            return Ok((names, Vec::new()));
        }
        let mut read = self.read(&upstream.key).columns(kept);
        if let Some(filter) = dep.filter_expression()? {
            read = read.filter(filter.rename(&|name| Some(source_of(dep, name))));
        }
        let rows = renamed.pick(read.await?).await?;
        Ok((names, rows))
    }
}

/// Returns the upstream name of a column of a dependency.
fn source_of(dep: &FeatureDep, name: &str) -> String {
    let renamed = dep.rename.iter().flatten().find(|(_, to)| *to == name);
    renamed.map_or_else(|| name.to_owned(), |(from, _)| from.clone())
}

/// Returns the rows of a batch that belong to some samples, if there are any.
fn picked_from(named: &Named, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
    let Some(keys) = named.keys(batch.schema_ref())? else { return Ok(None) };
    let rows = filter_record_batch(batch, &keys.contains(batch)?)?;
    Ok((rows.num_rows() > 0).then_some(rows))
}

impl Picked {
    /// Explains one sample.
    fn explain(&self, plan: &FeaturePlan, sample: &RecordBatch) -> Result<Explanation> {
        let named = Named::parents(plan, vec![sample.clone()])?;
        let of_sample = |batches: &[RecordBatch]| -> Result<Vec<RecordBatch>> {
            batches.iter().filter_map(|batch| picked_from(&named, batch).transpose()).collect()
        };
        let mut found = None;
        for (kind, batch) in &self.increment {
            if let Some(rows) = picked_from(&named, batch)? {
                found = Some((*kind, rows));
                break;
            }
        }
        let current = of_sample(&self.current)?;
        let state = match &found {
            Some((RowKind::New, _)) => SampleState::New,
            Some((RowKind::Stale, _)) => SampleState::Stale,
            Some((RowKind::Orphaned, _)) => SampleState::Orphaned,
            None if current.is_empty() => SampleState::Absent,
            None => SampleState::UpToDate,
        };
        let expected = found.filter(|(kind, _)| *kind != RowKind::Orphaned).map(|(_, rows)| rows);
        let stored = current.iter().max_by_key(|batch| columns::newest_time(batch).ok().flatten());
        let stored_at = stored.map(columns::newest_time).transpose()?.flatten();
        Ok(Explanation {
            sample: shown_id(sample, &join_columns(plan)?, 0)?,
            state,
            fields: fields(plan, expected.as_ref(), stored)?,
            inputs: self.inputs_of(plan, &named, stored_at)?,
            other_versions: other_versions(plan, &of_sample(&self.history)?)?,
        })
    }

    fn inputs_of(&self, plan: &FeaturePlan, named: &Named, stored_at: Option<i64>) -> Result<Vec<ExplainedInput>> {
        let mut inputs = Vec::new();
        for ((dep, upstream), (names, batches)) in plan.deps().zip(&self.inputs) {
            let parents = plan.parents.iter().flatten().filter(|parent| parent.feature == upstream.key);
            let mut fields: Vec<&FieldKey> = parents.map(|parent| &parent.field).collect();
            fields.sort();
            fields.dedup();
            let mut rows = Vec::new();
            for batch in batches {
                let Some(batch) = picked_from(&named.renamed(plan, names)?, batch)? else { continue };
                for row in 0..batch.num_rows() {
                    rows.push(input_row(upstream, &fields, &batch.slice(row, 1), stored_at)?);
                }
            }
            inputs.push(ExplainedInput { feature: upstream.key.clone(), optional: dep.optional, rows });
        }
        Ok(inputs)
    }
}

fn fields(
    plan: &FeaturePlan,
    expected: Option<&RecordBatch>,
    stored: Option<&RecordBatch>,
) -> Result<Vec<ExplainedField>> {
    let value = |batch: Option<&RecordBatch>, field: &FieldKey| -> Result<Option<String>> {
        batch.map_or(Ok(None), |batch| by_field(batch, PROVENANCE_BY_FIELD, field))
    };
    let fields = plan.spec.fields.iter().zip(&plan.parents).map(|(field, parents)| {
        Ok(ExplainedField {
            field: field.key().clone(),
            code_version: field.code_version.clone(),
            made_from: parents.clone(),
            expected: value(expected, field.key())?,
            stored: value(stored, field.key())?,
        })
    });
    fields.collect()
}

fn input_row(
    upstream: &FeatureSpec,
    fields: &[&FieldKey],
    row: &RecordBatch,
    stored_at: Option<i64>,
) -> Result<InputRow> {
    let updated_at = match row.column_by_name(UPDATED_AT) {
        None => None,
        Some(times) => {
            let micros = cast(&cast(times, &columns::timestamp_type())?, &DataType::Int64)?;
            let micros = micros.as_primitive::<Int64Type>();
            micros.is_valid(0).then(|| micros.value(0))
        }
    };
    let versions = fields.iter().map(|field| Ok(((*field).clone(), by_field(row, DATA_VERSION_BY_FIELD, field)?)));
    Ok(InputRow {
        sample: shown_id(row, &upstream.id_columns, 0)?,
        is_later: updated_at.zip(stored_at).is_some_and(|(updated, stored)| updated > stored),
        updated_at,
        data_versions: versions.collect::<Result<_>>()?,
    })
}

/// Returns the value of a field in the first row of a by-field column.
fn by_field(batch: &RecordBatch, column: &str, field: &FieldKey) -> Result<Option<String>> {
    let array = batch.column_by_name(column).and_then(|array| array.as_struct_opt());
    let Some(values) = array.and_then(|array| array.column_by_name(&field.struct_key())) else { return Ok(None) };
    let texts = cast(values, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    Ok(texts.is_valid(0).then(|| texts.value(0).to_owned()))
}

fn other_versions(plan: &FeaturePlan, history: &[RecordBatch]) -> Result<Vec<String>> {
    let mut versions = Vec::new();
    for batch in history {
        let texts = cast(batch.column(batch.schema_ref().index_of(columns::FEATURE_VERSION)?), &DataType::Utf8)?;
        versions.extend(texts.as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    versions.retain(|version| *version != plan.feature_version);
    versions.sort();
    versions.dedup();
    Ok(versions)
}
