//! An increment that is computed while it is read.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::{Stream, StreamExt, TryStreamExt, future, stream};
use tracing::field::Empty;

use crate::engine::{IncrementCounts, KindStream};
use crate::error::{Error, Result};
use crate::plan::RowKind;

use super::resolve::Resolve;
use super::trace::{Passing, call};
use super::{Increment, RowStream, VersioningEngine};

/// An increment that is not computed yet: the tables are located and the plan is made.
///
/// Each method that reads it runs the plan; dropping a stream stops the work. Tables that exceed `memory_limit` are
/// partitioned into temporary files. Not bounded are tables that cannot be partitioned:
/// those of a feature that aggregates (N:1) an input whose `select` drops id columns.
///
/// ```no_run
/// # async fn run(store: metaxy_core::MetadataStore) -> metaxy_core::Result<()> {
/// use futures::TryStreamExt;
/// use metaxy_core::plan::RowKind;
///
/// let increment = store.resolve_update("processed/transcript").lazy().await?;
/// println!("{:?}", increment.counts().await?);
/// let mut rows = increment.stream();
/// while let Some((kind, batch)) = rows.try_next().await? {
///     if kind != RowKind::Orphaned { /* process the samples of the batch */ }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LazyIncrement {
    resolve: Arc<Resolve>,
    limit: Option<usize>,
    engine: VersioningEngine,
}

impl LazyIncrement {
    pub(super) fn new(resolve: Resolve) -> Self {
        Self { resolve: Arc::new(resolve), limit: None, engine: VersioningEngine::Arrow }
    }

    /// Creates an increment that the storage system computes; if `engine` allows it, the Arrow engine takes over what the
    /// storage system declines.
    pub(super) fn native(resolve: Resolve, engine: VersioningEngine) -> Self {
        Self { engine, ..Self::new(resolve) }
    }

    /// Limits the number of rows, of any kind; the work stops there.
    #[must_use]
    pub fn limit(mut self, rows: usize) -> Self {
        self.limit = Some(rows);
        self
    }

    /// Returns the schema of new and stale rows.
    pub fn schema(&self) -> &SchemaRef {
        self.resolve.expected_schema()
    }

    /// Returns all rows in one pass, each batch with its kind. Orphaned rows come last.
    pub fn stream(&self) -> IncrementStream {
        self.stream_of(|_| true)
    }

    /// Returns only the new rows.
    pub fn new_rows(&self) -> RowStream {
        self.rows_of(RowKind::New)
    }

    /// Returns only the stale rows.
    pub fn stale_rows(&self) -> RowStream {
        self.rows_of(RowKind::Stale)
    }

    /// Returns only the orphaned rows.
    pub fn orphaned_rows(&self) -> RowStream {
        self.rows_of(RowKind::Orphaned)
    }

    /// Counts the rows without building them. A limit does not apply.
    ///
    /// # Errors
    /// The errors of the backends.
    pub async fn counts(&self) -> Result<IncrementCounts> {
        let call =
            call!("count", feature = self.resolve.feature().to_string(), new = Empty, stale = Empty, orphaned = Empty);
        call.run(self.count()).await
    }

    /// Returns all rows in memory.
    ///
    /// # Errors
    /// The errors of the backends.
    pub async fn collect(&self) -> Result<Increment> {
        self.resolve.collect(self.stream()).await
    }

    /// Writes the new and stale rows to the table of the feature as they are, and returns their number. That makes a feature
    /// whose rows only select, rename or join those upstream; the results of other features are
    /// [written](super::MetadataStore::write) with [`made_from`](super::WriteRequest::made_from).
    ///
    /// All rows are written or none. If the settings of the store name a cluster, its executors write them and one commit
    /// adds them all; otherwise they pass through this process.
    ///
    /// # Errors
    /// The errors of reading, and those of [`MetadataStore::write`](super::MetadataStore::write): a feature whose increment
    /// lacks some of its ids (1:N), or has several rows of one sample (N:1), is refused.
    pub async fn write(&self) -> Result<u64> {
        if self.limit.is_none()
            && let Some(rows) = self.resolve.append_natively(self.engine).await?
        {
            return Ok(rows);
        }
        let rows = self.stream_of(|kind| kind != RowKind::Orphaned).map_ok(|(_, batch)| batch);
        self.resolve.store().write(self.resolve.feature(), rows.boxed()).await
    }

    async fn count(&self) -> Result<IncrementCounts> {
        let Some(mut rows) = self.resolve.native_rows(self.engine).await? else {
            return self.resolve.run().counts().await;
        };
        let mut counts = IncrementCounts::default();
        while let Some((kind, batch)) = rows.try_next().await? {
            match kind {
                RowKind::New => counts.new += batch.num_rows(),
                RowKind::Stale => counts.stale += batch.num_rows(),
                RowKind::Orphaned => counts.orphaned += batch.num_rows(),
            }
        }
        Ok(counts)
    }

    fn rows_of(&self, kind: RowKind) -> RowStream {
        let rows = self.stream_of(move |other| other == kind).map_ok(|(_, batch)| batch);
        RowStream::new(self.resolve.schema_of(kind), rows.boxed())
    }

    fn stream_of(&self, wanted: impl Fn(RowKind) -> bool + Send + Sync + 'static) -> IncrementStream {
        let resolve = self.resolve.clone();
        let rows = match self.engine {
            VersioningEngine::Arrow => resolve.run().rows(wanted),
            engine => native_rows(resolve.clone(), engine, wanted),
        };
        let rows = rows.map(move |item| {
            let (kind, batch) = item?;
            Ok((kind, resolve.shown(kind, batch)?))
        });
        let limited = Limited { stream: rows.boxed(), left: self.limit };
        let call = call!(
            "increment",
            feature = self.resolve.feature().to_string(),
            new = Empty,
            stale = Empty,
            orphaned = Empty,
            complete = Empty
        );
        IncrementStream { rows: Passing::new(call, limited) }
    }
}

/// Returns the rows of the wanted kinds of an increment that the storage system computes, if it can.
fn native_rows(
    resolve: Arc<Resolve>,
    engine: VersioningEngine,
    wanted: impl Fn(RowKind) -> bool + Send + Sync + 'static,
) -> KindStream {
    let rows = async move {
        Ok::<_, Error>(match resolve.native_rows(engine).await? {
            Some(rows) => rows.try_filter(move |(kind, _)| future::ready(wanted(*kind))).boxed(),
            None => resolve.run().rows(wanted),
        })
    };
    stream::once(rows).try_flatten().boxed()
}

impl fmt::Debug for LazyIncrement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyIncrement").field("feature", self.resolve.feature()).finish_non_exhaustive()
    }
}

/// The rows of an increment as they are computed, each batch with its kind.
pub struct IncrementStream {
    rows: Passing<Limited>,
}

impl Stream for IncrementStream {
    type Item = Result<(RowKind, RecordBatch)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.rows).poll_next(cx)
    }
}

impl fmt::Debug for IncrementStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncrementStream").finish_non_exhaustive()
    }
}

/// Rows up to a limit.
struct Limited {
    stream: KindStream,
    /// The number of rows that are still to be returned.
    left: Option<usize>,
}

impl Stream for Limited {
    type Item = Result<(RowKind, RecordBatch)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == Some(0) {
            self.stream = futures::stream::empty().boxed();
            return Poll::Ready(None);
        }
        let polled = self.stream.as_mut().poll_next(cx);
        let (Some(left), Poll::Ready(Some(Ok((kind, batch))))) = (self.left, &polled) else { return polled };
        let batch = batch.slice(0, batch.num_rows().min(left));
        self.left = Some(left - batch.num_rows());
        Poll::Ready(Some(Ok((*kind, batch))))
    }
}
