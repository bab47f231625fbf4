//! The tables of a plan, side by side: whole, or divided into partitions that are worked on one after the other.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use futures::future::{OptionFuture, try_join_all};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use crate::backend::stream_of;
use crate::error::Result;
use crate::memory::{MemoryPool, Reservation};
use crate::plan::{GroupOrder, IncrementPlan, InputLineage, InputPlan};
use crate::scan::{Scan, ScanRequest};

use super::key_type::common_type;
use super::parallel::cores;
use super::partition::{Collected, PARTITIONS, PartitionKey, Partitions, collect};
use super::scan::finish;
use super::source::{InputScan, PlanSource};
use super::table::Table;

/// The rows that a plan, or a part of it, works on.
pub(crate) struct Rows {
    /// The rows of each input of the plan.
    pub(crate) inputs: Vec<Table>,
    /// The samples of a root, in place of inputs.
    pub(crate) samples: Option<Table>,
    /// The rows that are there, if the plan compares.
    pub(crate) current: Option<Table>,
    /// The memory that they take.
    _held: Vec<Reservation>,
}

/// One value for each table of a plan.
struct Sides<T> {
    inputs: Vec<T>,
    samples: Option<T>,
    current: Option<T>,
}

impl<T> Sides<T> {
    fn iter(&self) -> impl Iterator<Item = &T> {
        self.inputs.iter().chain(&self.samples).chain(&self.current)
    }

    /// Changes every side, all at once.
    async fn map<U, F: Future<Output = Result<U>>>(self, change: impl Fn(T) -> F) -> Result<Sides<U>> {
        let inputs = try_join_all(self.inputs.into_iter().map(&change));
        let samples: OptionFuture<_> = self.samples.map(&change).into();
        let current: OptionFuture<_> = self.current.map(&change).into();
        let (inputs, samples, current) =
            futures::try_join!(inputs, async { samples.await.transpose() }, async { current.await.transpose() })?;
        Ok(Sides { inputs, samples, current })
    }

    fn as_ref(&self) -> Sides<&T> {
        Sides { inputs: self.inputs.iter().collect(), samples: self.samples.as_ref(), current: self.current.as_ref() }
    }
}

/// A table that is about to be read.
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

/// Reads the tables of a plan, all at once. Gives them as one set of rows, or, if they do not fit into the memory, as one
/// for each partition.
///
/// The current rows are those of an earlier moment than the inputs: a sample that is written and processed between the two
/// is done once more. The other way round its result would be taken for an orphan.
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
        Ok::<_, crate::Error>(match source.input(index).await? {
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
                    None => Err(crate::Error::Task("a table without a key was divided".to_owned())),
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
        Collected::Divided(_) => Err(crate::Error::Task("a divided table was taken for a whole one".to_owned())),
    };
    let inputs = collected.inputs.into_iter().map(&mut table).collect::<Result<_>>()?;
    let samples = collected.samples.map(&mut table).transpose()?;
    let current = collected.current.map(&mut table).transpose()?;
    Ok(Rows { inputs, samples, current, _held: held })
}

fn pair<'k, T>(sides: Sides<T>, keys: Option<&'k Sides<PartitionKey>>) -> Sides<(T, Option<&'k PartitionKey>)> {
    let key = |index: usize| keys.and_then(|keys| keys.inputs.get(index));
    Sides {
        inputs: sides.inputs.into_iter().enumerate().map(|(index, side)| (side, key(index))).collect(),
        samples: sides.samples.map(|side| (side, keys.and_then(|keys| keys.samples.as_ref()))),
        current: sides.current.map(|side| (side, keys.and_then(|keys| keys.current.as_ref()))),
    }
}

/// Returns the columns by which each table is divided, in the types in which they are compared: join columns, of which
/// those of groups (N:1) alone, so that no group is divided. `None` if there are none.
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

/// Returns whether all rows of a group agree in a column.
fn is_whole_in_groups(plan: &IncrementPlan, name: &String) -> bool {
    plan.inputs.iter().all(|input| match &input.lineage {
        InputLineage::Rows => true,
        InputLineage::Groups { on, .. } => on.contains(name),
    })
}

/// Returns whether the hash of a group depends on rows of other groups: whether all come from a single write.
fn depends_on_all_rows(input: &InputPlan) -> bool {
    matches!(input.lineage, InputLineage::Groups { order: GroupOrder::Arrival { .. }, .. })
}

/// Partitions up to this size are not divided again, however little memory there is.
const SMALL_PARTITION: usize = 64 << 10;

/// The partitions that are still to be worked on.
struct Queue {
    waiting: Vec<(Arc<Sides<Partitions>>, usize)>,
    /// Partitions above this size are divided again.
    limit: usize,
}

impl Queue {
    fn new(sides: Sides<Partitions>, pool: &Arc<MemoryPool>) -> Self {
        let mut queue = Self { waiting: Vec::new(), limit: pool.share(cores()).max(SMALL_PARTITION) };
        queue.add(sides);
        queue
    }

    fn add(&mut self, sides: Sides<Partitions>) {
        let sides = Arc::new(sides);
        self.waiting.extend((0..PARTITIONS).rev().map(|partition| (sides.clone(), partition)));
    }

    async fn next(&mut self) -> Result<Option<Rows>> {
        while let Some((sides, partition)) = self.waiting.pop() {
            let bytes: usize = sides.iter().map(|side| side.bytes(partition)).sum();
            if bytes == 0 {
                continue;
            }
            if bytes > self.limit && sides.iter().all(Partitions::can_divide) {
                self.add(sides.as_ref().as_ref().map(|side| side.divide(partition)).await?);
                continue;
            }
            let Sides { inputs, samples, current } = sides.as_ref().as_ref().map(|side| side.table(partition)).await?;
            return Ok(Some(Rows { inputs, samples, current, _held: Vec::new() }));
        }
        Ok(None)
    }

    fn into_stream(self) -> BoxStream<'static, Result<Rows>> {
        stream::try_unfold(self, |mut queue| async move { Ok(queue.next().await?.map(|rows| (rows, queue))) }).boxed()
    }
}

/// Gives the rows of one table that has been collected, whole or partition by partition.
pub(crate) fn tables_of(collected: Collected, pool: &Arc<MemoryPool>) -> BoxStream<'static, Result<Table>> {
    match collected {
        Collected::Whole(table, held) => stream::once(async move {
            let _held = held;
            Ok(table)
        })
        .boxed(),
        Collected::Divided(partitions) => {
            let sides = Sides { inputs: vec![partitions], samples: None, current: None };
            let tables = Queue::new(sides, pool).into_stream();
            tables.try_filter_map(|mut rows| async move { Ok(rows.inputs.pop()) }).boxed()
        }
    }
}
