//! Sends the spans of a store to OpenTelemetry. They are printed here; an OTLP exporter takes the place of
//! `opentelemetry_stdout` in a service.
//!
//! `cargo run --manifest-path metaxy-core/examples/opentelemetry/Cargo.toml`

use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, MetadataStore, Result, structs};
use metaxy_sqlite::SqliteBackend;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter};
use serde::Serialize;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

#[derive(Serialize)]
struct Video {
    video_id: i64,
    version: &'static str,
}

#[tokio::main]
async fn main() -> Result<()> {
    let provider = export_to(opentelemetry_stdout::SpanExporter::default());
    pipeline().await?;
    // The spans that have not been sent yet are sent now.
    if let Err(error) = provider.shutdown() {
        eprintln!("some spans could not be exported: {error}");
    }
    Ok(())
}

/// Sends all spans of the level `INFO` and above to an exporter.
fn export_to(exporter: impl SpanExporter + 'static) -> SdkTracerProvider {
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("films"));
    tracing_subscriber::registry().with(spans.with_filter(LevelFilter::INFO)).init();
    provider
}

async fn pipeline() -> Result<()> {
    let graph = FeatureGraph::new([
        FeatureSpec::builder("raw/video").id_columns(["video_id"]).build()?,
        FeatureSpec::builder("processed/transcript").id_columns(["video_id"]).dep("raw/video").build()?,
    ])?;
    let store = MetadataStore::builder(SqliteBackend::in_memory(), graph).open(AccessMode::ReadWrite).await?;
    let videos = [Video { video_id: 1, version: "a" }, Video { video_id: 2, version: "b" }];
    let rows = structs(&videos).versions_in([("default", "version")]);
    store.write_rows("raw/video", rows).await?;
    let increment = store.resolve_update("processed/transcript").await?;
    store.write("processed/transcript", increment.new).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use opentelemetry::Value;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SpanData};

    use super::*;

    #[tokio::test]
    async fn the_spans_of_the_pipeline_are_exported() {
        let exporter = InMemorySpanExporter::default();
        let provider = export_to(exporter.clone());
        pipeline().await.unwrap();
        provider.force_flush().unwrap();
        let spans = exporter.get_finished_spans().unwrap();
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_ref()).collect();
        assert_eq!(names, ["open", "append", "write", "resolve", "append", "write"]);
        assert_eq!(attribute(&spans[3], "feature"), Some(Value::from("processed/transcript")));
        assert_eq!(attribute(&spans[3], "rows"), Some(Value::from(2)));
        assert_eq!(spans[1].parent_span_id, spans[2].span_context.span_id());
    }

    fn attribute(span: &SpanData, name: &str) -> Option<Value> {
        let attribute = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
        attribute.map(|attribute| attribute.value.clone())
    }
}
