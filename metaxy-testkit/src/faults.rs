//! A backend with injected faults.
//!
//! ```
//! use std::sync::Arc;
//! use metaxy_testkit::faults::{Fault, FaultyBackend, Operation};
//! use metaxy_testkit::memory::MemoryBackend;
//!
//! let backend = Arc::new(FaultyBackend::new(MemoryBackend::new()));
//! // The second append takes effect, but its result is lost.
//! backend.inject(Fault::fail(Operation::Append).after().at(2));
//! ```

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use metaxy_core::backend::{Appended, BatchStream, NativeOutcome, NativeRequest, Position};
use metaxy_core::filter::Predicate;
use metaxy_core::plan::IncrementPlan;
use metaxy_core::store::IntoBackend;
use metaxy_core::{AccessMode, BackendInfo, Error, FeatureKey, Result, Scan, ScanRequest, SharedBackend, StoreBackend};

/// A call on a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Any call.
    Any,
    /// [`StoreBackend::open`].
    Open,
    /// [`StoreBackend::close`].
    Close,
    /// [`StoreBackend::schema`].
    Schema,
    /// [`StoreBackend::append`] and [`StoreBackend::append_stream`].
    Append,
    /// [`StoreBackend::scan`], and the reading of its stream.
    Scan,
    /// [`StoreBackend::delete`].
    Delete,
    /// [`StoreBackend::drop_table`].
    DropTable,
    /// [`StoreBackend::tables`].
    Tables,
    /// [`StoreBackend::has_held_rows`].
    HasHeldRows,
    /// [`StoreBackend::newest_stamp`].
    NewestStamp,
    /// A call of `position`.
    Position,
    /// [`StoreBackend::appended`].
    Appended,
    /// [`StoreBackend::resolve_natively`].
    Resolve,
    /// [`StoreBackend::compact`].
    Compact,
    /// [`StoreBackend::vacuum`].
    Vacuum,
}

/// The moment at which a fault occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Before,
    During,
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Fail,
    Delay(Duration),
}

/// A fault: by default it occurs before the call, at the next one, once.
#[derive(Clone, Debug)]
pub struct Fault {
    operation: Operation,
    effect: Effect,
    moment: Moment,
    /// The number of calls before the fault occurs.
    spared: usize,
    /// The remaining number of faults; `None` for no limit.
    left: Option<usize>,
    progress: usize,
    transient: bool,
}

impl Fault {
    /// Returns a fault that makes the call fail.
    pub fn fail(operation: Operation) -> Self {
        Self::new(operation, Effect::Fail)
    }

    /// Returns a fault that makes the call take longer.
    pub fn delay(operation: Operation, time: Duration) -> Self {
        Self::new(operation, Effect::Delay(time))
    }

    fn new(operation: Operation, effect: Effect) -> Self {
        Self { operation, effect, moment: Moment::Before, spared: 0, left: Some(1), progress: 0, transient: false }
    }

    /// Occurs before the call is made, which has no effect. The default.
    #[must_use]
    pub fn before(mut self) -> Self {
        self.moment = Moment::Before;
        self
    }

    /// Occurs while the call runs. The future of a failing call is polled once more than `progress` and then dropped,
    /// like that of a caller who no longer waits. The stream of a scan fails after `progress` batches; a delay holds up
    /// each batch after those.
    #[must_use]
    pub fn during(mut self, progress: usize) -> Self {
        self.moment = Moment::During;
        self.progress = progress;
        self
    }

    /// Occurs after the call has taken effect: its result is lost or late. The stream of a scan fails after its last
    /// batch.
    #[must_use]
    pub fn after(mut self) -> Self {
        self.moment = Moment::After;
        self
    }

    /// Occurs first at the `touch`-th call from now, counted from 1.
    #[must_use]
    pub fn at(mut self, touch: usize) -> Self {
        self.spared = touch.saturating_sub(1);
        self
    }

    /// Occurs at this number of consecutive calls.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.left = Some(times);
        self
    }

    /// Occurs at every call from then on.
    #[must_use]
    pub fn forever(mut self) -> Self {
        self.left = None;
        self
    }

    /// Makes the error transient: the same call may succeed later.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    fn error(&self) -> Error {
        let when = match self.moment {
            Moment::Before => "before the call",
            Moment::During => "during the call",
            Moment::After => "after the call had taken effect",
        };
        Error::backend("faulty", operation_name(self.operation), format!("a fault was injected {when}"))
            .with_transient(self.transient)
    }
}

fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Any => "a call",
        Operation::Open => "open",
        Operation::Close => "close",
        Operation::Schema => "schema",
        Operation::Append => "append",
        Operation::Scan => "scan",
        Operation::Delete => "delete",
        Operation::DropTable => "drop_table",
        Operation::Tables => "tables",
        Operation::HasHeldRows => "has_held_rows",
        Operation::NewestStamp => "newest_stamp",
        Operation::Position => "position",
        Operation::Appended => "appended",
        Operation::Resolve => "resolve_natively",
        Operation::Compact => "compact",
        Operation::Vacuum => "vacuum",
    }
}

/// A backend that passes every call to another one, unless a [`Fault`] occurs.
pub struct FaultyBackend {
    inner: SharedBackend,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    calls: Vec<(Operation, Instant)>,
    struck: usize,
}

impl FaultyBackend {
    /// Wraps a backend. No fault occurs until one is injected.
    pub fn new(inner: impl IntoBackend) -> Self {
        Self { inner: inner.into_backend(), state: Mutex::default() }
    }

    /// Adds a fault. Of several faults for one call, the first one added occurs.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Returns the number of calls of an operation so far.
    pub fn calls(&self, operation: Operation) -> usize {
        self.times(operation).len()
    }

    /// Returns the times of all calls of an operation.
    pub fn times(&self, operation: Operation) -> Vec<Instant> {
        self.state().calls.iter().filter(|(call, _)| matches(operation, *call)).map(|(_, at)| *at).collect()
    }

    /// Returns the number of calls with a fault.
    pub fn struck(&self) -> usize {
        self.state().struck
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, and returns the fault that occurs. Faults that are not due yet come one call closer.
    fn touch(&self, operation: Operation) -> Option<Fault> {
        let mut state = self.state();
        state.calls.push((operation, Instant::now()));
        let mut striking: Option<Fault> = None;
        for fault in state.faults.iter_mut().filter(|fault| matches(fault.operation, operation)) {
            if fault.spared > 0 {
                fault.spared -= 1;
            } else if striking.is_none() && fault.left != Some(0) {
                fault.left = fault.left.map(|left| left - 1);
                striking = Some(Fault { operation, ..fault.clone() });
            }
        }
        state.struck += usize::from(striking.is_some());
        striking
    }

    async fn call<T>(&self, operation: Operation, inner: impl Future<Output = Result<T>>) -> Result<T> {
        match self.touch(operation) {
            None => inner.await,
            Some(fault) => strike(&fault, inner).await,
        }
    }
}

fn matches(wanted: Operation, found: Operation) -> bool {
    wanted == Operation::Any || wanted == found
}

async fn strike<T>(fault: &Fault, inner: impl Future<Output = Result<T>>) -> Result<T> {
    match (fault.effect, fault.moment) {
        (Effect::Delay(time), Moment::After) => {
            let answer = inner.await;
            tokio::time::sleep(time).await;
            answer
        }
        (Effect::Delay(time), _) => {
            tokio::time::sleep(time).await;
            inner.await
        }
        (Effect::Fail, Moment::Before) => Err(fault.error()),
        (Effect::Fail, Moment::During) => {
            // A call that ends earlier has taken effect, or returns its own error.
            if let Some(answer) = abandoned_after(fault.progress + 1, inner).await {
                answer?;
            }
            Err(fault.error())
        }
        (Effect::Fail, Moment::After) => {
            inner.await?;
            Err(fault.error())
        }
    }
}

/// Polls a future `polls` times, then drops it, like a caller who no longer waits. Returns its result, if it was ready
/// by then. Calls with 1, 2, 3 ... until there is a result drop the future at every point at which it waits.
pub async fn abandoned_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Returns the stream of a scan with a fault.
fn struck_stream(fault: Fault, stream: BatchStream) -> BatchStream {
    match (fault.effect, fault.moment) {
        (Effect::Delay(time), Moment::During) => stream
            .enumerate()
            .then(move |(index, batch)| async move {
                if index >= fault.progress {
                    tokio::time::sleep(time).await;
                }
                batch
            })
            .boxed(),
        (Effect::Fail, Moment::During) => {
            let error = fault.error();
            stream.take(fault.progress).chain(futures::stream::once(async { Err(error) })).boxed()
        }
        (Effect::Fail, Moment::After) => {
            let error = fault.error();
            stream.chain(futures::stream::once(async { Err(error) })).boxed()
        }
        _ => stream,
    }
}

#[async_trait]
impl StoreBackend for FaultyBackend {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    async fn open(&self, mode: AccessMode) -> Result<()> {
        self.call(Operation::Open, self.inner.open(mode)).await
    }

    async fn close(&self) -> Result<()> {
        self.call(Operation::Close, self.inner.close()).await
    }

    async fn schema(&self, table: &FeatureKey) -> Result<Option<SchemaRef>> {
        self.call(Operation::Schema, self.inner.schema(table)).await
    }

    async fn append(&self, table: &FeatureKey, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
        self.call(Operation::Append, self.inner.append(table, schema, batches)).await
    }

    async fn append_stream(&self, table: &FeatureKey, schema: SchemaRef, batches: BatchStream) -> Result<()> {
        self.call(Operation::Append, self.inner.append_stream(table, schema, batches)).await
    }

    fn check(&self, table: &FeatureKey, rows: &RecordBatch) -> Result<()> {
        self.inner.check(table, rows)
    }

    async fn scan(&self, table: &FeatureKey, request: &ScanRequest) -> Result<Scan> {
        let Some(fault) = self.touch(Operation::Scan) else { return self.inner.scan(table, request).await };
        if fault.moment == Moment::Before {
            return strike(&fault, self.inner.scan(table, request)).await;
        }
        let scan = self.inner.scan(table, request).await?;
        Ok(Scan { stream: struck_stream(fault, scan.stream), ..scan })
    }

    async fn delete(&self, table: &FeatureKey, predicate: &Predicate) -> Result<u64> {
        self.call(Operation::Delete, self.inner.delete(table, predicate)).await
    }

    async fn drop_table(&self, table: &FeatureKey) -> Result<()> {
        self.call(Operation::DropTable, self.inner.drop_table(table)).await
    }

    async fn tables(&self) -> Result<Vec<String>> {
        self.call(Operation::Tables, self.inner.tables()).await
    }

    async fn has_held_rows(&self, table: &FeatureKey) -> Result<bool> {
        self.call(Operation::HasHeldRows, self.inner.has_held_rows(table)).await
    }

    async fn newest_stamp(&self, table: &FeatureKey) -> Result<Option<i64>> {
        self.call(Operation::NewestStamp, self.inner.newest_stamp(table)).await
    }

    async fn position(&self, table: &FeatureKey) -> Result<Option<Position>> {
        self.call(Operation::Position, self.inner.position(table)).await
    }

    async fn appended(&self, table: &FeatureKey, since: &Position, columns: &[String]) -> Result<Appended> {
        self.call(Operation::Appended, self.inner.appended(table, since, columns)).await
    }

    fn notifications(&self, tables: &[FeatureKey]) -> Option<BoxStream<'static, ()>> {
        self.inner.notifications(tables)
    }

    fn prefers_native(&self, plan: &IncrementPlan) -> bool {
        self.inner.prefers_native(plan)
    }

    fn computes_on_cluster(&self) -> bool {
        self.inner.computes_on_cluster()
    }

    fn reaches(&self, other: &dyn StoreBackend) -> bool {
        self.inner.reaches(other)
    }

    async fn resolve_natively(&self, request: NativeRequest<'_>) -> Result<NativeOutcome> {
        self.call(Operation::Resolve, self.inner.resolve_natively(request)).await
    }

    async fn compact(&self, table: &FeatureKey) -> Result<()> {
        self.call(Operation::Compact, self.inner.compact(table)).await
    }

    async fn vacuum(&self, table: &FeatureKey, retention: Duration) -> Result<u64> {
        self.call(Operation::Vacuum, self.inner.vacuum(table, retention)).await
    }
}

impl fmt::Debug for FaultyBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyBackend").field("inner", &self.inner).finish_non_exhaustive()
    }
}
