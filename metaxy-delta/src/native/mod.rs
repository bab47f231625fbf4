//! A whole resolve as one query of DataFusion, in this process or on a cluster: the second executor of plans.
//!
//! The query reads the inputs as a scan would, hashes, joins and compares them, and returns the rows that are new or
//! stale, and the keys of those that are orphaned, whose columns a second query reads. Where DataFusion compares, sorts
//! or writes values in another way than the Arrow engine, functions of the core take its place.

#[cfg(feature = "ballista")]
mod append;
#[cfg(feature = "ballista")]
mod cluster;
#[cfg(feature = "ballista")]
mod codec;
mod current;
mod expected;
mod forms;
mod functions;
mod group_hash;
mod hash;
mod hashed_rows;
mod input;
mod latest;
mod names;
mod only_input;
mod query;
#[cfg(feature = "ballista")]
mod ready;
mod relation;
mod rows;
mod run;
mod scan;
#[cfg(feature = "ballista")]
mod sent;
#[cfg(feature = "ballista")]
mod sent_part;
#[cfg(feature = "ballista")]
mod sent_predicate;
#[cfg(feature = "ballista")]
mod sent_write;
#[cfg(feature = "ballista")]
mod stock;
#[cfg(feature = "ballista")]
mod stock_condition;
#[cfg(feature = "ballista")]
mod stock_scan;
#[cfg(feature = "ballista")]
mod write_rows;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use deltalake::datafusion::error::DataFusionError;
use futures::future::ready;
use futures::lock::Mutex;
use futures::stream::{self, StreamExt, TryStreamExt};
use metaxy_core::backend::{NativeLimits, NativeOutcome, NativeRows};
use metaxy_core::plan::{IncrementPlan, RowKind};
use metaxy_core::{Error, FeatureKey, Result, executor};

use crate::catalog;
#[cfg(feature = "ballista")]
use crate::config::Executors;
use crate::connection::Session;
#[cfg(feature = "ballista")]
use crate::location::Root;
#[cfg(feature = "ballista")]
use crate::scheduler::SchedulerAddress;
use crate::table::log::Table;
use crate::table::log::state::{TableState, check_files};

#[cfg(feature = "ballista")]
pub(crate) use append::append;
#[cfg(feature = "ballista")]
pub(crate) use cluster::MESSAGE_BYTES;
#[cfg(feature = "ballista")]
pub(crate) use codec::{QueryCodec, StageCodec};
use current::CurrentRows;
use forms::Forms;
use query::Query;
use rows::Failure;
use run::Runner;
#[cfg(feature = "ballista")]
use stock_scan::{PlainTable, PlainTables};

/// The reason why a plan cannot run here.
#[derive(Debug)]
struct Declined(String);

impl From<String> for Declined {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

impl From<&str> for Declined {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

impl From<DataFusionError> for Declined {
    fn from(error: DataFusionError) -> Self {
        Self(format!("DataFusion cannot plan it: {}", error.strip_backtrace()))
    }
}

/// A table of the plan, at one version.
struct Part {
    key: FeatureKey,
    /// Where executors of a cluster find the table.
    #[cfg(feature = "ballista")]
    root: Root,
    table: Arc<Table>,
    state: Arc<TableState>,
    /// The number of shares of its files that are read on their own.
    shares: usize,
}

impl Part {
    async fn find(session: &Session, key: &FeatureKey) -> Result<Option<Arc<Self>>> {
        let Some((table, state)) = catalog::find(session, key).await? else { return Ok(None) };
        check_files(&table.name, &state.files)?;
        #[cfg(feature = "ballista")]
        let shares = session.scheduler.as_ref().map_or(1, |_| cluster::shares(&state.files));
        // In this process one reader uses all cores.
        #[cfg(not(feature = "ballista"))]
        let shares = 1;
        Ok(Some(Arc::new(Self {
            key: key.clone(),
            #[cfg(feature = "ballista")]
            root: session.root.clone(),
            table,
            state,
            shares,
        })))
    }

    fn data_type(&self, name: &str) -> Result<&DataType, Declined> {
        let column = self.state.schema.column(name);
        let column = column.ok_or_else(|| Declined(format!("`{}` has no column `{name}`", self.key)))?;
        Ok(column.logical.data_type())
    }
}

/// A plan that can run.
struct Prepared {
    query: Query,
    /// How orphaned rows are found.
    current: Option<CurrentRows>,
    runner: Runner,
    /// What reads orphaned rows.
    reader: Runner,
}

/// Runs a plan whose inputs are in these stores.
pub(crate) async fn resolve(
    session: &Arc<Session>,
    inputs: &[Arc<Session>],
    plan: &IncrementPlan,
    limits: &NativeLimits,
) -> Result<NativeOutcome> {
    Ok(match prepared(session, inputs, plan, limits).await? {
        Ok(prepared) => NativeOutcome::Rows(run(prepared)),
        Err(Declined(reason)) => NativeOutcome::Declined(reason),
    })
}

/// Opens the tables of a plan, and makes its query.
async fn prepared(
    session: &Arc<Session>,
    inputs: &[Arc<Session>],
    plan: &IncrementPlan,
    limits: &NativeLimits,
) -> Result<Result<Prepared, Declined>> {
    let own = plan.current.iter().map(|_| (session, &plan.feature));
    let mut parts = Vec::new();
    for (session, key) in inputs.iter().zip(plan.inputs.iter().map(|input| &input.feature)).chain(own) {
        match Part::find(session, key).await? {
            Some(part) => parts.push(part),
            None => return Ok(Err(Declined(format!("`{key}` has no table")))),
        }
    }
    let failure = Failure::default();
    let here = Runner::new(&parts, &session.context, plan.feature.table_name(), limits, failure.clone())?;
    let ours = Forms::Ours(failure);
    #[cfg(feature = "ballista")]
    if let Some(scheduler) = &session.scheduler {
        if session.executors == Executors::Stock {
            return on_stock(plan, parts, ours, here, scheduler).await;
        }
        let runner = here.on(scheduler, &parts);
        return Ok(prepare(plan, parts, &ours, &ours, runner.clone(), runner));
    }
    Ok(prepare(plan, parts, &ours, &ours, here.clone(), here))
}

/// Makes a query for a cluster of plain Ballista; orphaned rows are read in this process.
#[cfg(feature = "ballista")]
async fn on_stock(
    plan: &IncrementPlan,
    parts: Vec<Arc<Part>>,
    ours: Forms,
    here: Runner,
    scheduler: &SchedulerAddress,
) -> Result<Result<Prepared, Declined>> {
    let requests = plan.inputs.iter().map(|input| &input.request).chain(plan.current.iter().map(|own| &own.request));
    let mut tables = PlainTables::default();
    for (part, request) in parts.iter().zip(requests) {
        match PlainTable::new(part, request).await? {
            Ok(table) => tables.0.push(table),
            Err(declined) => return Ok(Err(declined)),
        }
    }
    let counts = match tables.counts() {
        Ok(counts) => counts,
        Err(declined) => return Ok(Err(declined)),
    };
    let runner = here.clone().on_stock(scheduler, &parts, counts);
    Ok(prepare(plan, parts, &Forms::Stock(Arc::new(tables)), &ours, runner, here))
}

/// Makes the query, and says how orphaned rows are found: in the form `own`, by `reader`.
fn prepare(
    plan: &IncrementPlan,
    mut parts: Vec<Arc<Part>>,
    forms: &Forms,
    own: &Forms,
    runner: Runner,
    reader: Runner,
) -> Result<Prepared, Declined> {
    let keys = plan.join_columns.iter().map(|name| Ok((name.clone(), key_type(plan, &parts, name)?)));
    let keys = keys.collect::<Result<Vec<_>, Declined>>()?;
    let current = plan.current.as_ref().and_then(|current| Some((current, parts.pop()?)));
    let current = current.map(|(current, part)| CurrentRows {
        plan: current.clone(),
        part,
        keys: keys.clone(),
        forms: own.clone(),
    });
    let query = Query::new(plan, &parts, current.as_ref(), &keys, forms)?;
    Ok(Prepared { query, current, runner, reader })
}

/// Returns the type in which all tables compare a join column. `parts` are those of the inputs and, last, the feature's.
fn key_type(plan: &IncrementPlan, parts: &[Arc<Part>], name: &str) -> Result<DataType, Declined> {
    let names = plan.inputs.iter().map(|input| input.source_of(name)).chain(plan.current.iter().map(|_| name));
    let mut shared: Option<DataType> = None;
    for (part, own) in parts.iter().zip(names) {
        let data_type = part.data_type(own)?;
        let common = executor::common_type(shared.as_ref().unwrap_or(data_type), data_type);
        let unlike =
            || Declined(format!("rows are matched by `{name}`, whose values in `{}` are {data_type}", part.key));
        shared = Some(common.ok_or_else(unlike)?);
    }
    shared.ok_or_else(|| Declined::from("a root has no inputs in the store"))
}

/// Runs the query, and after it that of the orphaned rows.
fn run(prepared: Prepared) -> NativeRows {
    let Prepared { query, current, runner, reader } = prepared;
    let orphaned: Arc<Mutex<Vec<RecordBatch>>> = Arc::default();
    let found = orphaned.clone();
    let changed = runner.rows(query.query.clone()).and_then(move |batch| {
        let split = query.split(&batch);
        let found = found.clone();
        async move {
            let split = split?;
            found.lock().await.extend(split.orphaned);
            Ok(stream::iter(split.rows.into_iter().map(Ok)))
        }
    });
    let orphans = async move {
        let keys = std::mem::take(&mut *orphaned.lock().await);
        let Some(current) = current.filter(|_| !keys.is_empty()) else { return Ok(stream::empty().boxed()) };
        let query = current.of_keys(keys).map_err(|Declined(reason)| Error::Unsupported {
            what: format!("reading orphaned rows of `{}` with DataFusion", current.part.key),
            hint: format!("{reason}; use versioning_engine `arrow`"),
        })?;
        let rows = reader.rows(query).and_then(move |batch| ready(current.named(&batch)));
        Ok::<_, Error>(rows.map_ok(|batch| (RowKind::Orphaned, batch)).boxed())
    };
    NativeRows::new(changed.try_flatten().chain(stream::once(orphans).try_flatten()).boxed())
}
