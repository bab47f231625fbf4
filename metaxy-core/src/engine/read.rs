//! Reads the tables of a plan: as a whole, or divided into partitions that are processed one after the other.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::{self, BoxStream};

use crate::backend::stream_of;
use crate::error::{Error, Result};
use crate::memory::MemoryPool;
use crate::plan::{GroupOrder, IncrementPlan, InputLineage, InputPlan};
use crate::scan::{Scan, ScanRequest};

use super::key_type::common_type;
use super::partition::{Collected, PartitionKey, collect};
use super::scan::finish;
use super::sides::{Queue, Rows, Sides};
use super::source::{InputScan, PlanSource};
use super::table::Table;

/// A table whose scan has begun.
enum Opened<'a> {
    Scan(Scan, &'a ScanRequest),
    Rows(Table),
}

impl Opened<'_> {
    fn schema(&self) -> &Schema {
        match self {
            Self::Scan(scan, _) => &scan.schema,
            Self::Rows(table) => &table.schema,
        }
    }

    async fn collect(self, key: Option<&PartitionKey>, pool: &Arc<MemoryPool>) -> Result<Collected> {
        let (schema, stream) = match self {
            Self::Scan(scan, request) => finish(scan, request, pool).await?,
            Self::Rows(table) => (table.schema.clone(), stream_of(table.into_batches())),
        };
        collect(schema, stream, key, pool).await
    }
}

/// Reads all tables of a plan concurrently. Returns them as one set of rows or, if they do not fit into the memory
/// limit, as one set for each partition.
///
/// The current rows are read from an earlier snapshot than the inputs: a sample that is written and processed in
/// between is processed again. In the other order its result would be taken for an orphan.
pub(crate) async fn read(
    plan: &IncrementPlan,
    source: &dyn PlanSource,
    samples: Option<Table>,
    pool: &Arc<MemoryPool>,
) -> Result<BoxStream<'static, Result<Rows>>> {
    let current = match &plan.current {
        Some(current) => Some(Opened::Scan(source.current(&current.request).await?, &current.request)),
        None => None,
    };
    let inputs = plan.inputs.iter().enumerate().map(|(index, input)| async move {
        Ok::<_, Error>(match source.input(index).await? {
            InputScan::Table(scan) => Opened::Scan(scan, &input.request),
            InputScan::Missing(schema) => Opened::Rows(Table::new(schema, Vec::new())?),
        })
    });
    let opened = Sides { inputs: try_join_all(inputs).await?, samples: samples.map(Opened::Rows), current };
    let keys = partition_keys(plan, &opened);
    let keyed = pair(opened, keys.as_ref());
    let collected = keyed.map(|(opened, key)| opened.collect(key, pool)).await?;
    match keys {
        Some(keys) if !collected.iter().all(Collected::is_whole) => {
            let keyed = pair(collected, Some(&keys));
            let divided = keyed.map(|(side, key)| async move {
                match key {
                    Some(key) => side.divided(key, pool).await,
                    None => Err(Error::Task("a table without a key was partitioned".to_owned())),
                }
            });
            Ok(Queue::new(divided.await?, pool).into_stream())
        }
        _ => {
            let rows = whole(collected);
            Ok(stream::once(async move { rows }).boxed())
        }
    }
}

fn whole(collected: Sides<Collected>) -> Result<Rows> {
    let mut held = Vec::new();
    let mut table = |side: Collected| match side {
        Collected::Whole(table, reservation) => {
            held.push(reservation);
            Ok(table)
        }
        Collected::Divided(_) => Err(Error::Task("a partitioned table was used as a whole".to_owned())),
    };
    let inputs = collected.inputs.into_iter().map(&mut table).collect::<Result<_>>()?;
    let samples = collected.samples.map(&mut table).transpose()?;
    let current = collected.current.map(&mut table).transpose()?;
    Ok(Rows { inputs, samples, current, _held: held })
}

fn pair<T>(sides: Sides<T>, keys: Option<&Sides<PartitionKey>>) -> Sides<(T, Option<&PartitionKey>)> {
    let key = |index: usize| keys.and_then(|keys| keys.inputs.get(index));
    Sides {
        inputs: sides.inputs.into_iter().enumerate().map(|(index, side)| (side, key(index))).collect(),
        samples: sides.samples.map(|side| (side, keys.and_then(|keys| keys.samples.as_ref()))),
        current: sides.current.map(|side| (side, keys.and_then(|keys| keys.current.as_ref()))),
    }
}

/// Returns the columns by which each table is partitioned, in the types in which they are compared: the join columns.
/// For groups (N:1) only those that are constant within a group, so that no group is divided. `None` if there are none.
fn partition_keys(plan: &IncrementPlan, opened: &Sides<Opened<'_>>) -> Option<Sides<PartitionKey>> {
    let names: Vec<&String> = plan.join_columns.iter().filter(|name| is_whole_in_groups(plan, name)).collect();
    if names.is_empty() || plan.inputs.iter().any(depends_on_all_rows) {
        return None;
    }
    let type_of = |side: &Opened<'_>, name: &str| Some(side.schema().field_with_name(name).ok()?.data_type().clone());
    let mut columns = Vec::with_capacity(names.len());
    for name in names {
        let inputs = plan.inputs.iter().zip(&opened.inputs).map(|(input, side)| type_of(side, input.source_of(name)));
        let others = opened.samples.iter().chain(&opened.current).map(|side| type_of(side, name));
        let mut types = inputs.chain(others);
        let first = types.next()??;
        let shared = types.try_fold(common_type(&first, &first)?, |shared, other| common_type(&shared, &other?))?;
        columns.push((name.as_str(), shared));
    }
    let key = |source: &dyn Fn(&str) -> String| -> PartitionKey {
        columns.iter().map(|(name, data_type): &(&str, DataType)| (source(name), data_type.clone())).collect()
    };
    let own = |name: &str| name.to_owned();
    Some(Sides {
        inputs: plan.inputs.iter().map(|input| key(&|name| input.source_of(name).to_owned())).collect(),
        samples: opened.samples.as_ref().map(|_| key(&own)),
        current: opened.current.as_ref().map(|_| key(&own)),
    })
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
