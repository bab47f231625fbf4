//! Collects the spans of `tracing` that have ended, with their fields.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// A span that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its name.
    pub name: &'static str,
    /// The name of the span in which it began.
    pub parent: Option<&'static str>,
    /// Its fields, as text.
    pub fields: BTreeMap<&'static str, String>,
}

/// The spans that have ended since [`collect`], in the order of their ends.
#[derive(Clone, Debug, Default)]
pub struct Spans(Arc<Mutex<Vec<Ended>>>);

/// Collects the spans that begin on this thread, until the guard is dropped.
pub fn collect() -> (Spans, DefaultGuard) {
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    (spans, tracing::subscriber::set_default(subscriber))
}

impl Ended {
    /// Returns the value of a field; empty if it was not recorded.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Returns the value of a numeric field; `None` if it was not recorded or is no number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.field(name).parse().ok()
    }
}

impl Spans {
    /// Returns the collected spans, and forgets them.
    pub fn take(&self) -> Vec<Ended> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The fields of a span that has not ended.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let fields = span.extensions_mut().remove::<Fields>().unwrap_or_default().0;
        let ended = Ended { name: span.name(), parent: span.parent().map(|parent| parent.name()), fields };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
    }
}
