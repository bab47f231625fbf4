//! Runs an [`IncrementPlan`] on Arrow batches. All other executors of plans must give the results of this one.
//!
//! Tables that fit into the memory limit are processed as a whole. Others are divided by the hash of the join key: each
//! partition is a smaller plan, and the result is the stream of the results of all partitions.
//!
//! Rows stay in the batches in which they arrived and are addressed by number. Only keys and versions are read; user
//! columns are gathered at the end, for the rows that are new or stale.

mod by_field;
mod carry_over;
mod changed;
mod collect;
mod compare;
mod complete;
mod expected;
mod float_text;
mod groups;
mod increasing;
mod input;
mod join;
mod key_list;
mod key_type;
mod keys;
mod latest;
mod lookup;
mod merge;
mod orphans;
mod parallel;
mod partition;
mod parts;
mod pick;
mod provenance;
mod read;
mod rows;
mod scan;
mod sequence;
mod source;
mod spill;
mod stamped;
mod table;
mod typed_key;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::lock::Mutex;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use crate::blocking;
use crate::error::{Error, Result};
use crate::memory::MemoryPool;
use crate::plan::IncrementPlan;
use crate::plan::RowKind;
use crate::schema::plain_type;
use crate::spec::FeatureSpec;

pub(crate) use by_field::conform as conform_by_field;
pub use by_field::{member, text};
pub(crate) use carry_over::carry_over;
pub(crate) use changed::{with_all_fields, with_changed_fields};
pub(crate) use collect::collect;
pub(crate) use complete::{check_provenance, complete_versions};
pub(crate) use groups::{by_key, key_hashes, last_rows};
pub(crate) use increasing::ids_increase;
pub(crate) use key_list::KeyList;
pub use key_type::{common_type, comparable, compared_type};
pub(crate) use lookup::look_up;
pub(crate) use parallel::map;
pub(crate) use parts::tables_of;
pub(crate) use pick::{KeyEncoder, KeySet, columns_of};
pub(crate) use rows::provenance_of_batch;
pub(crate) use scan::finish;
pub(crate) use sequence::Sequence;
pub(crate) use source::{InputScan, PlanSource};
pub(crate) use stamped::check_ids;
pub use stamped::completed;
pub(crate) use table::{Table, batch_of};
pub(crate) use typed_key::TypedKey;

use compare::{Comparison, Current, compare};
use expected::{Expected, Samples};
use input::Input;
use orphans::OrphanKeys;
use parts::Tables;

/// The number of input units, and of those that are new. A unit is a distinct join key of expected rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Units {
    pub(crate) total: usize,
    pub(crate) missing: usize,
}

/// The number of new, stale and orphaned rows of an increment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IncrementCounts {
    /// Samples that have no row yet; for N:1 one row for each upstream row.
    pub new: usize,
    /// Samples whose row was made from different input versions.
    pub stale: usize,
    /// Rows that nothing upstream expects; for 1:N one for each parent.
    pub orphaned: usize,
}

/// A plan with everything that is needed to run it.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) plan: Arc<IncrementPlan>,
    pub(crate) source: Arc<dyn PlanSource>,
    /// The samples of a root, with complete versions.
    pub(crate) samples: Option<Table>,
    pub(crate) pool: Arc<MemoryPool>,
}

/// The result of a part of a plan.
struct Found {
    changed: Vec<(RowKind, RecordBatch)>,
    /// The keys of orphaned rows.
    orphaned: Option<RecordBatch>,
}

impl Run {
    /// Runs the plan and returns the rows of the wanted kinds, each batch with its kind; orphaned rows come last.
    pub(crate) fn rows(self, wanted: impl Fn(RowKind) -> bool + Send + Sync + 'static) -> KindStream {
        let orphans: Arc<Mutex<OrphanKeys>> = Arc::default();
        let (collecting, run, plan) = (orphans.clone(), self.clone(), self.plan.clone());
        let parts = self.parts(move |expected, current, found| {
            let mut changed = Vec::new();
            for (kind, rows) in [(RowKind::New, found.new), (RowKind::Stale, found.stale)] {
                if wanted(kind) {
                    changed.extend(expected.batches(&rows)?.into_iter().map(|batch| (kind, batch)));
                }
            }
            let orphaned = match current.filter(|_| wanted(RowKind::Orphaned)) {
                Some(current) => orphans::key_batch(&plan.join_columns, &current.key_columns, found.orphaned)?,
                None => None,
            };
            Ok(Found { changed, orphaned })
        });
        let (names, pool) = (run.plan.clone(), run.pool.clone());
        let changed = parts.and_then(move |found| {
            let (orphans, plan, pool) = (collecting.clone(), names.clone(), pool.clone());
            async move {
                if let Some(keys) = found.orphaned {
                    orphans.lock().await.add(keys, &plan.join_columns, &pool).await?;
                }
                Ok(stream::iter(found.changed.into_iter().map(Ok)))
            }
        });
        let orphaned = async move {
            let keys = std::mem::take(&mut *orphans.lock().await);
            Ok::<_, Error>(keys.rows(&run).await?.map_ok(|batch| (RowKind::Orphaned, batch)))
        };
        changed.try_flatten().chain(stream::once(orphaned).try_flatten()).boxed()
    }

    /// Counts the new, stale and orphaned rows.
    pub(crate) async fn counts(self) -> Result<IncrementCounts> {
        let parts = self.parts(|_, _, found| {
            Ok(IncrementCounts { new: found.new.len(), stale: found.stale.len(), orphaned: found.orphaned.len() })
        });
        let add = |sum: IncrementCounts, part: IncrementCounts| async move {
            Ok(IncrementCounts {
                new: sum.new + part.new,
                stale: sum.stale + part.stale,
                orphaned: sum.orphaned + part.orphaned,
            })
        };
        parts.try_fold(IncrementCounts::default(), add).await
    }

    /// Counts the input units.
    pub(crate) async fn units(self) -> Result<Units> {
        let parts = self.parts(|expected, _, found| {
            let total = keys::count_distinct((0..expected.len()).map(|row| expected.key(row)));
            let missing = keys::count_distinct(found.new.iter().map(|row| expected.key(*row as usize)));
            Ok(Units { total, missing })
        });
        let add = |sum: Units, part: Units| async move {
            Ok(Units { total: sum.total + part.total, missing: sum.missing + part.missing })
        };
        parts.try_fold(Units::default(), add).await
    }

    /// Runs the plan part by part outside the async threads, as many parts at once as there are cores; `finish` gets
    /// the result of each.
    fn parts<T: Send + 'static>(
        self,
        finish: impl Fn(&Expected<'_>, Option<&Current>, Comparison) -> Result<T> + Send + Sync + 'static,
    ) -> BoxStream<'static, Result<T>> {
        let finish = Arc::new(finish);
        let Self { plan, source, samples, pool } = self;
        let reading = plan.clone();
        stream::once(async move { read::read(&reading, source.as_ref(), samples, &pool).await })
            .try_flatten()
            .map(move |part| {
                let (plan, finish) = (plan.clone(), finish.clone());
                async move {
                    let part = part?;
                    blocking::run(move || compare_part(&plan, part.load()?, finish.as_ref())).await
                }
            })
            .buffered(blocking::cores())
            .boxed()
    }
}

/// A stream of the rows of an increment, each batch with its kind.
pub(crate) type KindStream = BoxStream<'static, Result<(RowKind, RecordBatch)>>;

/// Compares the expected rows of a part with the stored ones.
fn compare_part<T>(
    plan: &IncrementPlan,
    mut part: Tables,
    finish: &(impl Fn(&Expected<'_>, Option<&Current>, Comparison) -> Result<T> + ?Sized),
) -> Result<T> {
    let stored = plan.current.as_ref().and_then(|current| Some((current, part.tables.pop()?)));
    let current = stored.map(|(current, table)| Current::new(current, &plan.join_columns, table)).transpose()?;
    let key_types: Vec<DataType> =
        current.iter().flat_map(|current| &current.key_columns).map(|array| array.data_type().clone()).collect();
    let finish = |expected: &Expected<'_>| finish(expected, current.as_ref(), compare(expected, current.as_ref())?);
    if plan.inputs.is_empty()
        && let Some(samples) = part.tables.pop()
    {
        return finish(&Expected::Given(Box::new(Samples::new(plan, samples, &key_types)?)));
    }
    let work: Vec<_> = plan.inputs.iter().zip(part.tables.drain(..)).collect();
    let inputs = parallel::map(work, |(input, table)| Input::new(input, table, plan.recipe.hasher))?;
    let joined = join::join(plan, &inputs, &key_types)?;
    finish(&Expected::joined(plan, &inputs, &joined))
}

/// Returns the schema of the new and stale rows of a feature; `inputs` has the schemas of its inputs in plan order.
pub(crate) fn expected_schema(plan: &IncrementPlan, spec: &FeatureSpec, inputs: &[SchemaRef]) -> Result<SchemaRef> {
    let mut fields = Vec::new();
    for (input, column) in plan.expected_columns() {
        let field = inputs[input].field_with_name(&column.source)?;
        fields.push(Field::new(&column.name, plain_type(field.data_type()), true));
    }
    for name in crate::columns::VERSIONS {
        fields.extend(crate::columns::field(name, spec.struct_keys()));
    }
    Ok(Arc::new(Schema::new(fields)))
}
