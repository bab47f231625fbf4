//! The calls of a store as spans of `tracing`. The front page of the crate lists them with their fields.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use arrow::array::RecordBatch;
use futures::Stream;
use tracing::field::display;
use tracing::{Instrument, Span};

use crate::deferred::Deferred;
use crate::engine::IncrementCounts;
use crate::error::{Error, Result};
use crate::plan::RowKind;
use crate::schema::bytes_of_rows;

use super::{Increment, LazyIncrement, MetadataStore, RowStream, Rows};

/// Begins a call: a span with the fields that are known. The others are recorded when it ends.
macro_rules! call {
    ($name:literal $(, $field:ident = $value:expr)* $(,)?) => {
        $crate::store::trace::Call::new(tracing::info_span!(
            $name,
            $($field = $value,)*
            rows = tracing::field::Empty,
            bytes = tracing::field::Empty,
            elapsed_ms = tracing::field::Empty,
            error = tracing::field::Empty,
        ))
    };
}
pub(super) use call;

/// A running call. Its span ends with it, and then has its duration.
pub(super) struct Call {
    span: Span,
    start: Instant,
}

impl Call {
    pub(super) fn new(span: Span) -> Self {
        Self { span, start: Instant::now() }
    }

    /// Runs a part of the call inside its span, and records the outcome.
    pub(super) async fn run<T: Outcome>(&self, part: impl Future<Output = Result<T>>) -> Result<T> {
        let outcome = part.instrument(self.span.clone()).await;
        match &outcome {
            Ok(value) if !self.span.is_disabled() => value.record(&self.span),
            Ok(_) => {}
            Err(error) => self.record_error(error),
        }
        outcome
    }

    fn record_error(&self, error: &Error) {
        self.span.record("error", display(error));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.span.record("elapsed_ms", self.start.elapsed().as_secs_f64() * 1e3);
    }
}

/// Returns the feature of a request, unless the request has an error.
pub(super) fn feature_of<T>(request: &Deferred<T>, feature: impl Fn(&T) -> String) -> Option<String> {
    request.get().ok().map(feature)
}

/// Records numbers as fields. They are signed, because OpenTelemetry has no others and would make them texts.
pub(super) fn record_numbers(span: &Span, fields: &[(&str, u64)]) {
    for (field, number) in fields {
        span.record(*field, i64::try_from(*number).unwrap_or(i64::MAX));
    }
}

/// The result of a call, as fields of its span.
pub(super) trait Outcome {
    fn record(&self, span: &Span);
}

impl Outcome for () {
    fn record(&self, _: &Span) {}
}

impl Outcome for RowStream {
    fn record(&self, _: &Span) {}
}

impl Outcome for LazyIncrement {
    fn record(&self, _: &Span) {}
}

impl Outcome for MetadataStore {
    fn record(&self, _: &Span) {}
}

/// An amount of rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Volume {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl Volume {
    pub(super) fn of<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Self {
        let mut all = Self::default();
        batches.into_iter().for_each(|batch| all.add(batch));
        all
    }

    pub(super) fn add(&mut self, batch: &RecordBatch) {
        *self += Self { rows: batch.num_rows() as u64, bytes: bytes_of_rows(batch) as u64 };
    }
}

impl std::ops::AddAssign for Volume {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

impl Outcome for Volume {
    fn record(&self, span: &Span) {
        record_numbers(span, &[("rows", self.rows), ("bytes", self.bytes)]);
    }
}

impl Outcome for Option<Volume> {
    fn record(&self, span: &Span) {
        if let Some(volume) = self {
            volume.record(span);
        }
    }
}

/// A number of files.
pub(super) struct Files(pub(super) u64);

impl Outcome for Files {
    fn record(&self, span: &Span) {
        record_numbers(span, &[("files", self.0)]);
    }
}

impl Outcome for IncrementCounts {
    fn record(&self, span: &Span) {
        let [new, stale, orphaned] = [self.new, self.stale, self.orphaned].map(|count| count as u64);
        record_numbers(span, &[("new", new), ("stale", stale), ("orphaned", orphaned)]);
    }
}

impl Outcome for Increment {
    fn record(&self, span: &Span) {
        let kinds = [&self.new, &self.stale, &self.orphaned];
        let [new, stale, orphaned] = kinds.map(Rows::num_rows);
        IncrementCounts { new, stale, orphaned }.record(span);
        Volume::of(kinds.into_iter().flat_map(Rows::batches)).record(span);
        span.record("basis", display(self.basis()));
    }
}

/// A part of a stream of rows.
pub(super) trait Part {
    fn batch(&self) -> &RecordBatch;

    /// Adds its rows to those of its kind, if it has one.
    fn count(&self, counts: &mut IncrementCounts) {
        let _ = counts;
    }
}

impl Part for RecordBatch {
    fn batch(&self) -> &RecordBatch {
        self
    }
}

impl Part for (RowKind, RecordBatch) {
    fn batch(&self) -> &RecordBatch {
        &self.1
    }

    fn count(&self, counts: &mut IncrementCounts) {
        let count = match self.0 {
            RowKind::New => &mut counts.new,
            RowKind::Stale => &mut counts.stale,
            RowKind::Orphaned => &mut counts.orphaned,
        };
        *count += self.1.num_rows();
    }
}

/// The rows of a call that are read by its caller. The span ends with the last row, or when the caller drops the
/// stream; either way it tells how many rows the caller has got.
pub(super) struct Passing<S> {
    stream: S,
    /// `None` once the call has ended.
    call: Option<Call>,
    passed: Volume,
    counts: IncrementCounts,
}

impl<S> Passing<S> {
    pub(super) fn new(call: Call, stream: S) -> Self {
        Self { stream, call: Some(call), passed: Volume::default(), counts: IncrementCounts::default() }
    }

    fn end(&mut self, complete: bool) {
        let Some(call) = self.call.take() else { return };
        self.passed.record(&call.span);
        self.counts.record(&call.span);
        call.span.record("complete", complete);
    }

    fn observe<P: Part>(&mut self, polled: &Poll<Option<Result<P>>>) {
        let Some(call) = &self.call else { return };
        match polled {
            Poll::Ready(Some(Ok(part))) if !call.span.is_disabled() => {
                self.passed.add(part.batch());
                part.count(&mut self.counts);
            }
            Poll::Ready(Some(Err(error))) => {
                call.record_error(error);
                self.end(false);
            }
            Poll::Ready(None) => self.end(true),
            _ => {}
        }
    }
}

impl<P: Part, S: Stream<Item = Result<P>> + Unpin> Stream for Passing<S> {
    type Item = Result<P>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { stream, call, .. } = &mut *self;
        let mut poll = || Pin::new(&mut *stream).poll_next(cx);
        let polled = match call {
            Some(call) => call.span.in_scope(poll),
            None => poll(),
        };
        self.observe(&polled);
        polled
    }
}

impl<S> Drop for Passing<S> {
    fn drop(&mut self) {
        self.end(false);
    }
}
