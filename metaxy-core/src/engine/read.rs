//! Reads the tables of a plan: as a whole, or divided into partitions that are processed one after the other.

use std::sync::Arc;

use arrow::datatypes::DataType;
use futures::future::try_join_all;
use futures::stream::BoxStream;

use crate::backend::stream_of;
use crate::error::{Error, Result};
use crate::memory::MemoryPool;
use crate::plan::{GroupOrder, IncrementPlan, InputLineage, InputPlan};
use crate::scan::{Scan, ScanRequest};

use super::collect::{Collected, collect};
use super::key_type::common_type;
use super::parts::{Part, parts_of};
use super::scan::{begin, keep_latest};
use super::source::{InputScan, PlanSource};
use super::table::Table;
use super::typed_key::TypedKey;

/// A table of a plan whose scan has begun.
struct Opened<'a> {
    /// The input whose rows it has. Samples and current rows have the column names of the plan.
    input: Option<&'a InputPlan>,
    rows: OpenedRows<'a>,
}

enum OpenedRows<'a> {
    Scan(Scan, &'a ScanRequest),
    InMemory(Table),
}

impl Opened<'_> {
    /// Returns the name of a column of the plan in this table.
    fn source_of<'n>(&'n self, name: &'n str) -> &'n str {
        self.input.map_or(name, |input| input.source_of(name))
    }

    fn type_of(&self, name: &str) -> Option<DataType> {
        let schema = match &self.rows {
            OpenedRows::Scan(scan, _) => &scan.schema,
            OpenedRows::InMemory(table) => &table.schema,
        };
        Some(schema.field_with_name(self.source_of(name)).ok()?.data_type().clone())
    }

    async fn collect(self, key: Option<&TypedKey>, pool: &Arc<MemoryPool>) -> Result<Collected> {
        let (schema, stream) = match self.rows {
            OpenedRows::InMemory(table) => (table.schema.clone(), stream_of(table.into_batches())),
            OpenedRows::Scan(scan, request) => match (begin(scan, request)?, key) {
                ((schema, stream, None), _) => (schema, stream),
                ((schema, stream, Some(latest)), Some(key)) if key.keeps_together(&latest.ids) => {
                    return collect(schema, stream, Some(key), pool).await?.with_latest(latest).await;
                }
                ((schema, stream, Some(latest)), _) => {
                    (latest.schema(&schema)?, keep_latest(schema, stream, latest, pool).await?)
                }
            },
        };
        collect(schema, stream, key, pool).await
    }
}

/// Reads all tables of a plan concurrently: its inputs, then the samples of a root, then the current rows if the plan
/// compares. Returns them as a single part or, if they do not fit into the memory limit, as one for each partition.
///
/// The current rows are read from an earlier snapshot than the inputs: a sample that is written and processed in
/// between is processed again. In the other order its result would be taken for an orphan.
pub(crate) async fn read(
    plan: &IncrementPlan,
    source: &dyn PlanSource,
    samples: Option<Table>,
    pool: &Arc<MemoryPool>,
) -> Result<BoxStream<'static, Result<Part>>> {
    let current = match &plan.current {
        Some(current) => Some(OpenedRows::Scan(source.current(&current.request).await?, &current.request)),
        None => None,
    };
    let inputs = plan.inputs.iter().enumerate().map(|(index, input)| async move {
        let rows = match source.input(index).await? {
            InputScan::Table(scan) => OpenedRows::Scan(scan, &input.request),
            InputScan::Missing(schema) => OpenedRows::InMemory(Table::new(schema, Vec::new())?),
        };
        Ok::<_, Error>(Opened { input: Some(input), rows })
    });
    let mut tables = try_join_all(inputs).await?;
    let others = samples.map(OpenedRows::InMemory).into_iter().chain(current);
    tables.extend(others.map(|rows| Opened { input: None, rows }));
    let keys = partition_keys(plan, &tables).unwrap_or_default();
    let collected = tables.into_iter().enumerate().map(|(index, table)| table.collect(keys.get(index), pool));
    parts_of(try_join_all(collected).await?, &keys, pool).await
}

/// Returns the columns by which each table is partitioned, in the types in which they are compared: the join columns.
/// For groups (N:1) only those that are constant within a group, so that no group is divided. `None` if there are none.
fn partition_keys(plan: &IncrementPlan, tables: &[Opened<'_>]) -> Option<Vec<TypedKey>> {
    let names: Vec<&String> = plan.join_columns.iter().filter(|name| is_whole_in_groups(plan, name)).collect();
    if names.is_empty() || plan.inputs.iter().any(depends_on_all_rows) {
        return None;
    }
    let mut columns: Vec<(&str, DataType)> = Vec::with_capacity(names.len());
    for name in names {
        let mut types = tables.iter().map(|table| table.type_of(name));
        let first = types.next()??;
        let shared = types.try_fold(common_type(&first, &first)?, |shared, other| common_type(&shared, &other?))?;
        columns.push((name, shared));
    }
    let named = |table: &Opened<'_>, (name, data_type): &(&str, DataType)| {
        (table.source_of(name).to_owned(), data_type.clone())
    };
    Some(tables.iter().map(|table| columns.iter().map(|column| named(table, column)).collect()).collect())
}

/// Returns whether all rows of a group have the same value in a column.
fn is_whole_in_groups(plan: &IncrementPlan, name: &String) -> bool {
    plan.inputs.iter().all(|input| match &input.lineage {
        InputLineage::Rows => true,
        InputLineage::Groups { on, .. } => on.contains(name),
    })
}

/// Returns whether the hash of a group depends on rows of other groups: on whether all rows come from a single write.
fn depends_on_all_rows(input: &InputPlan) -> bool {
    matches!(input.lineage, InputLineage::Groups { order: GroupOrder::Arrival { .. }, .. })
}
