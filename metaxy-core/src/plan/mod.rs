//! The rows that one resolve has to read, join, hash and compare. Pure data: planning reads no row.
//!
//! A plan is made from a [`FeaturePlan`], the schemas of the tables that take part, and the caller's options. The
//! engine runs it on Arrow batches; a storage system that can run it itself gets the same plan
//! ([`StoreBackend::resolve_natively`](crate::backend::StoreBackend::resolve_natively)).

mod native;
pub mod sql;

use std::collections::BTreeMap;

use arrow::datatypes::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::columns;
use crate::error::{Error, Result};
use crate::filter::{Filter, Predicate};
use crate::graph::FeaturePlan;
use crate::hash::RowHasher;
use crate::key::{FeatureKey, FqFieldKey};
use crate::lineage::{self, input_id_columns, renamed_ids};
use crate::scan::ScanRequest;
use crate::spec::{FeatureDep, FeatureSpec, Lineage};

pub use native::{Completion, NativeIncrement, NativeLimits, NativeOutcome, NativeRows, RowKind};

/// The plan of a resolve.
#[derive(Clone, Debug)]
pub struct IncrementPlan {
    /// The feature that is resolved.
    pub feature: FeatureKey,
    /// The inputs of the feature: required ones first, then optional ones, each in the order of the definition. Empty
    /// for a root, whose samples the caller gives.
    pub inputs: Vec<InputPlan>,
    /// The columns on which inputs are joined and expected rows are compared with current ones.
    pub join_columns: Vec<String>,
    /// How provenance is computed from the joined inputs.
    pub recipe: ProvenanceRecipe,
    /// The rows to compare with; `None` if there are none, or if the comparison is skipped.
    pub current: Option<CurrentPlan>,
}

/// One input of a resolve.
#[derive(Clone, Debug)]
pub struct InputPlan {
    /// The upstream feature.
    pub feature: FeatureKey,
    /// The columns of the upstream table that the increment has, under their new names, without system columns.
    pub columns: Vec<InputColumn>,
    /// The rows and columns to read, in the table's own names: `columns`, the data versions, and what `lineage` orders
    /// by. The static filters of the dependency are part of its filter.
    pub request: ScanRequest,
    /// The struct keys of the data versions that are used.
    pub fields: Vec<String>,
    /// Whether several upstream rows share one version.
    pub lineage: InputLineage,
    /// Whether an expected row exists if this input has none for it.
    pub optional: bool,
}

/// A column of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputColumn {
    /// Its name in the upstream table.
    pub source: String,
    /// Its name in the increment.
    pub name: String,
}

/// The processing of the rows of an input before they are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputLineage {
    /// Nothing.
    Rows,
    /// Rows with equal values in some columns all get the hash of the group's data versions, joined by `|`. No row is
    /// merged.
    Groups {
        /// The columns that identify a group, by their names in the increment.
        on: Vec<String>,
        /// The order of the values in a group.
        order: GroupOrder,
    },
}

/// The order in which the data versions of a group are hashed. Columns are named as in the upstream table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupOrder {
    /// By the upstream feature's id columns, all of which are kept, so that no two rows of a group are equal.
    Ids(Vec<String>),
    /// By the id columns that are kept; rows that are equal in those are in the order in which the Python package reads
    /// them: the newest write first, then by the id columns that `select` dropped; if all rows of the table come from a
    /// single write, the second half of the rows comes before the first.
    Arrival {
        /// The id columns that are kept.
        kept: Vec<String>,
        /// All id columns.
        ids: Vec<String>,
    },
}

/// How provenance is computed for every expected row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProvenanceRecipe {
    /// The hasher.
    pub hasher: RowHasher,
    /// The fields, sorted by struct key.
    pub fields: Vec<FieldRecipe>,
}

/// How the provenance of one field is computed: the hash of `prefix` and, for each parent, its name and data version,
/// all joined by `|`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FieldRecipe {
    /// The field's name inside the by-field columns.
    pub struct_key: String,
    /// Its key and code version, joined by `|`.
    pub prefix: String,
    /// The upstream fields, in the order of their fully qualified keys.
    pub parents: Vec<ParentField>,
}

/// An upstream field of a [`FieldRecipe`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ParentField {
    /// `feature.field`.
    pub name: String,
    /// The position of its input in [`IncrementPlan::inputs`].
    pub input: usize,
    /// Its name inside that input's data versions. A missing row or a null counts as the empty string.
    pub struct_key: String,
}

/// The stored rows of the feature.
#[derive(Clone, Debug)]
pub struct CurrentPlan {
    /// The columns to compare: the join columns, the provenance, and the columns of `staleness`.
    pub request: ScanRequest,
    /// Rows for which this is true are stale, whatever their versions.
    pub staleness: Option<Predicate>,
    /// Whether current rows are first collapsed to one for each combination of the join columns (1:N): the newest.
    pub collapse: bool,
    /// The columns of an orphaned row.
    pub orphan_columns: Vec<String>,
}

/// The options of a resolve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResolveOptions {
    /// Filters on the rows of single features, upstream or the resolved one.
    pub filters: BTreeMap<FeatureKey, Vec<Filter>>,
    /// Filters on the current rows of the resolved feature.
    pub target_filters: Vec<Filter>,
    /// Filters on the rows of every feature that takes part.
    pub global_filters: Vec<Filter>,
    /// Current rows for which any of these is true are stale.
    pub staleness_predicates: Vec<Filter>,
    /// Whether every expected row counts as new.
    pub skip_comparison: bool,
}

/// A table that takes part: its schema, and the feature version whose rows are read.
#[derive(Clone, Debug)]
pub struct PlanTable {
    /// The schema.
    pub schema: SchemaRef,
    /// The feature version.
    pub feature_version: String,
}

impl IncrementPlan {
    /// Plans a resolve. `upstream` has an entry for each dependency, in the order of the definition; `None` if an
    /// optional one has no table. `current` is the feature's own table, if there is one.
    ///
    /// # Errors
    /// [`Error::MissingColumn`], [`Error::ColumnCollision`], [`Error::InvalidSpec`], and the errors of filters.
    pub fn new(
        feature: &FeaturePlan,
        hasher: RowHasher,
        upstream: &[Option<PlanTable>],
        current: Option<&PlanTable>,
        options: &ResolveOptions,
    ) -> Result<Self> {
        let spec = &feature.spec;
        let mut order: Vec<usize> = (0..spec.deps.len()).collect();
        order.sort_by_key(|&index| spec.deps[index].optional);
        let inputs = order
            .iter()
            .map(|&index| {
                let parents = feature.parents.iter().flatten();
                plan_input(
                    spec,
                    &spec.deps[index],
                    &feature.upstream[index],
                    upstream[index].as_ref(),
                    parents,
                    options,
                )
            })
            .collect::<Result<Vec<_>>>()?;
        let join_columns = join_columns(feature)?;
        check_collisions(spec, &inputs, &join_columns)?;
        let current = match current {
            Some(table) if !options.skip_comparison => Some(plan_current(spec, table, &join_columns, options)?),
            _ => None,
        };
        Ok(Self { feature: spec.key.clone(), recipe: recipe(feature, hasher, &inputs), inputs, join_columns, current })
    }

    /// Returns the columns of expected rows that are not system columns, each with the first input that has it. Inputs
    /// are in the order of the plan.
    pub fn expected_columns(&self) -> Vec<(usize, &InputColumn)> {
        let mut seen = std::collections::HashSet::new();
        let all =
            self.inputs.iter().enumerate().flat_map(|(index, input)| input.columns.iter().map(move |c| (index, c)));
        all.filter(|(_, column)| seen.insert(column.name.as_str())).collect()
    }
}

/// Returns the scan of a feature: rows of one version, the newest of each sample, no deleted ones, and the caller's
/// filters.
pub fn read_request(
    spec: &FeatureSpec,
    schema: &Schema,
    feature_version: Option<&str>,
    keep_latest: bool,
    include_deleted: bool,
    filters: impl IntoIterator<Item = Filter>,
) -> Result<ScanRequest> {
    let bind = |filter: Filter| filter.bind(schema);
    let row_filter = feature_version.map(|version| bind(crate::filter::col(columns::FEATURE_VERSION).eq(version)));
    let living = (!include_deleted).then(|| crate::filter::col(columns::DELETED_AT).is_null());
    let mut filter: Option<Predicate> = None;
    for part in living.into_iter().chain(filters) {
        let part = bind(part)?;
        filter = Some(match filter {
            Some(whole) => whole.and(part),
            None => part,
        });
    }
    Ok(ScanRequest {
        keys: None,
        row_filter: row_filter.transpose()?,
        keep_latest: keep_latest.then(|| spec.id_columns.clone()),
        filter,
        columns: None,
    })
}

/// Returns a filter that leaves out the rows which mark a parent without children, in a feature that expands (1:N):
/// they have no ids except the parent's. Only the comparison with the parents reads them.
pub(crate) fn children_only(spec: &FeatureSpec) -> Option<Filter> {
    let on = spec.deps.iter().find_map(|dep| match &dep.lineage {
        Lineage::Expansion { on, .. } => Some(on),
        _ => None,
    })?;
    let own = spec.id_columns.iter().filter(|id| !on.contains(id));
    let given: Vec<Filter> = own.map(|id| crate::filter::col(id).is_not_null()).collect();
    (!given.is_empty()).then(|| Filter::all(given))
}

fn plan_input<'a>(
    spec: &FeatureSpec,
    dep: &FeatureDep,
    parent: &FeatureSpec,
    table: Option<&PlanTable>,
    parents: impl Iterator<Item = &'a FqFieldKey>,
    options: &ResolveOptions,
) -> Result<InputPlan> {
    let mut fields: Vec<String> =
        parents.filter(|field| field.feature == parent.key).map(|field| field.field.struct_key()).collect();
    fields.sort();
    fields.dedup();
    let columns = match table {
        Some(table) => input_columns(spec, dep, parent, &table.schema)?,
        None => id_columns_only(spec, dep, parent),
    };
    let lineage = input_lineage(spec, dep, parent, &columns);
    let request = match table {
        None => ScanRequest::default(),
        Some(table) => {
            let filters = options.filters.get(dep.feature()).into_iter().flatten().chain(&options.global_filters);
            let filters = filters.cloned().chain(static_filter(dep, &table.schema)?).chain(children_only(parent));
            let mut request = read_request(parent, &table.schema, Some(&table.feature_version), true, false, filters)?;
            request.columns = Some(input_request_columns(&columns, &lineage));
            request
        }
    };
    Ok(InputPlan { feature: dep.feature().clone(), columns, request, fields, lineage, optional: dep.optional })
}

fn input_request_columns(columns: &[InputColumn], lineage: &InputLineage) -> Vec<String> {
    let mut names: Vec<String> = columns.iter().map(|column| column.source.clone()).collect();
    names.push(columns::DATA_VERSION_BY_FIELD.to_owned());
    match lineage {
        InputLineage::Groups { order: GroupOrder::Arrival { ids, .. }, .. } => {
            names.extend(ids.iter().cloned());
            names.push(columns::UPDATED_AT.to_owned());
        }
        InputLineage::Groups { order: GroupOrder::Ids(ids), .. } => names.extend(ids.iter().cloned()),
        InputLineage::Rows => {}
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// Returns the columns that the table of a dependency would certainly have, if it has no table.
fn id_columns_only(spec: &FeatureSpec, dep: &FeatureDep, parent: &FeatureSpec) -> Vec<InputColumn> {
    let to_column = |name: String| {
        let source = dep.rename.iter().flatten().find(|(_, to)| **to == name).map_or(&name, |(from, _)| from).clone();
        InputColumn { source, name }
    };
    input_id_columns(spec, dep, parent).into_iter().map(to_column).collect()
}

/// Returns the columns that are taken from an upstream table, in its order.
fn input_columns(
    spec: &FeatureSpec,
    dep: &FeatureDep,
    parent: &FeatureSpec,
    schema: &Schema,
) -> Result<Vec<InputColumn>> {
    let all: Vec<InputColumn> = schema
        .fields()
        .iter()
        .filter(|field| !columns::is_system(field.name()))
        .map(|field| InputColumn { source: field.name().clone(), name: dep.renamed(field.name()).to_owned() })
        .collect();
    let missing = |column: &str, context: String| Error::MissingColumn {
        feature: dep.feature().clone(),
        column: column.to_owned(),
        context,
        available: all.iter().map(|column| column.name.clone()).collect(),
    };
    for from in dep.rename.iter().flatten().map(|(from, _)| from) {
        if !all.iter().any(|column| &column.source == from) {
            return Err(missing(from, format!("the rename of `{}`", spec.key)));
        }
    }
    let mut kept = always_kept(spec, dep, parent);
    for column in kept.iter().chain(&input_id_columns(spec, dep, parent)) {
        if !all.iter().any(|own| &own.name == column) {
            return Err(missing(column, format!("the rows that `{}` depends on", spec.key)));
        }
    }
    let Some(select) = &dep.select else { return check_twice(spec, dep, all) };
    for column in select.iter().filter(|column| !columns::is_system(column)) {
        if !all.iter().any(|own| &own.name == column) {
            return Err(missing(column, format!("the select of `{}`, after its renames", spec.key)));
        }
    }
    kept.extend(select.iter().cloned());
    if let Some(column) = input_id_columns(spec, dep, parent).iter().find(|column| !kept.contains(column)) {
        return Err(missing(column, format!("the select of `{}`, which needs it to group rows", spec.key)));
    }
    check_twice(spec, dep, all.into_iter().filter(|column| kept.contains(&column.name)).collect())
}

/// Checks that no rename gives two columns the same name, as one onto a column that keeps its name would.
fn check_twice(spec: &FeatureSpec, dep: &FeatureDep, kept: Vec<InputColumn>) -> Result<Vec<InputColumn>> {
    let mut seen: BTreeMap<&str, &InputColumn> = BTreeMap::new();
    for column in &kept {
        if let Some(other) = seen.insert(&column.name, column) {
            let renamed = if column.source == column.name { other } else { column };
            return Err(Error::InvalidRename {
                feature: spec.key.clone(),
                dependency: dep.feature().clone(),
                from: renamed.source.clone(),
                to: renamed.name.clone(),
                reason: "the upstream feature has a column of that name; rename that one too".to_owned(),
            });
        }
    }
    Ok(kept)
}

/// Returns the columns that are kept whatever `select` lists, by their new names.
fn always_kept(spec: &FeatureSpec, dep: &FeatureDep, parent: &FeatureSpec) -> Vec<String> {
    match &dep.lineage {
        Lineage::Identity | Lineage::Aggregation { on: None } => renamed_ids(dep, parent),
        Lineage::Aggregation { .. } | Lineage::Expansion { .. } => input_id_columns(spec, dep, parent),
    }
}

/// Returns the id columns that all inputs share; for a root its own ids.
pub(crate) fn join_columns(feature: &FeaturePlan) -> Result<Vec<String>> {
    let spec = &feature.spec;
    let shared = lineage::shared_ids(spec, &feature.upstream);
    if shared.is_empty() {
        return Err(Error::InvalidSpec {
            feature: spec.key.to_string(),
            reason: "its dependencies have no id column in common to be joined on; rename one of theirs".to_owned(),
        });
    }
    Ok(shared)
}

/// Returns a dependency's own filters, in the names of the upstream table.
fn static_filter(dep: &FeatureDep, schema: &Schema) -> Result<Option<Filter>> {
    let Some(filter) = dep.filter_expression()? else { return Ok(None) };
    let Some(rename) = &dep.rename else { return Ok(Some(filter)) };
    for column in filter.columns() {
        let gone = rename.contains_key(&column) && !rename.values().any(|to| *to == column);
        if gone {
            return Err(Error::FilterColumn {
                filter: filter.to_string(),
                nearest: rename.get(&column).cloned(),
                column,
                available: schema.fields().iter().map(|field| dep.renamed(field.name()).to_owned()).collect(),
            });
        }
    }
    Ok(Some(filter.rename(&|name| rename.iter().find(|(_, to)| *to == name).map(|(from, _)| from.clone()))))
}

fn input_lineage(spec: &FeatureSpec, dep: &FeatureDep, parent: &FeatureSpec, columns: &[InputColumn]) -> InputLineage {
    let Lineage::Aggregation { .. } = &dep.lineage else { return InputLineage::Rows };
    let is_kept = |id: &&String| columns.iter().any(|column| column.source == **id);
    let kept: Vec<String> = parent.id_columns.iter().filter(is_kept).cloned().collect();
    let order = if kept.len() == parent.id_columns.len() {
        GroupOrder::Ids(kept)
    } else {
        GroupOrder::Arrival { kept, ids: parent.id_columns.clone() }
    };
    InputLineage::Groups { on: input_id_columns(spec, dep, parent), order }
}

fn check_collisions(spec: &FeatureSpec, inputs: &[InputPlan], join_columns: &[String]) -> Result<()> {
    let mut owners: BTreeMap<&str, &FeatureKey> = BTreeMap::new();
    for input in inputs {
        for column in &input.columns {
            let is_id = join_columns.contains(&column.name) || spec.id_columns.contains(&column.name);
            if let (Some(first), false) = (owners.insert(&column.name, &input.feature), is_id) {
                return Err(Error::ColumnCollision {
                    feature: spec.key.clone(),
                    column: column.name.clone(),
                    first: first.clone(),
                    second: input.feature.clone(),
                });
            }
        }
    }
    Ok(())
}

fn recipe(feature: &FeaturePlan, hasher: RowHasher, inputs: &[InputPlan]) -> ProvenanceRecipe {
    let parent = |field: &FqFieldKey| ParentField {
        name: field.to_string(),
        input: inputs.iter().position(|input| input.feature == field.feature).unwrap_or_default(),
        struct_key: field.field.struct_key(),
    };
    let mut fields: Vec<FieldRecipe> = feature
        .spec
        .fields
        .iter()
        .zip(&feature.parents)
        .map(|(field, parents)| FieldRecipe {
            struct_key: field.key().struct_key(),
            prefix: format!("{}|{}", field.key(), field.code_version),
            parents: parents.iter().map(parent).collect(),
        })
        .collect();
    fields.sort_by(|a, b| a.struct_key.cmp(&b.struct_key));
    ProvenanceRecipe { hasher, fields }
}

fn plan_current(
    spec: &FeatureSpec,
    table: &PlanTable,
    join_columns: &[String],
    options: &ResolveOptions,
) -> Result<CurrentPlan> {
    let own = options.filters.get(&spec.key).into_iter().flatten();
    let filters = own.chain(&options.global_filters).chain(&options.target_filters).cloned();
    let mut request = read_request(spec, &table.schema, Some(&table.feature_version), true, false, filters)?;
    let staleness = options.staleness_predicates.iter().cloned().reduce(|any, one| any | one);
    let staleness = staleness.map(|filter| filter.bind(&table.schema)).transpose()?;
    let collapse = spec.deps.iter().any(|dep| matches!(dep.lineage, Lineage::Expansion { .. }));
    for column in join_columns {
        if table.schema.column_with_name(column).is_none() {
            return Err(Error::MissingColumn {
                feature: spec.key.clone(),
                column: column.clone(),
                context: "its stored rows, which are compared by it".to_owned(),
                available: columns::user_columns(&table.schema).map(str::to_owned).collect(),
            });
        }
    }
    let mut names: Vec<String> = join_columns.to_vec();
    names.push(columns::PROVENANCE.to_owned());
    names.extend(collapse.then(|| columns::UPDATED_AT.to_owned()));
    names.extend(staleness.iter().flat_map(Predicate::columns));
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    request.columns = Some(names);
    let orphan_columns = if collapse {
        join_columns
            .iter()
            .map(String::as_str)
            .chain([columns::PROVENANCE_BY_FIELD, columns::PROVENANCE])
            .map(str::to_owned)
            .collect()
    } else {
        table.schema.fields().iter().map(|field| field.name().clone()).collect()
    };
    Ok(CurrentPlan { request, staleness, collapse, orphan_columns })
}
