//! The request that the options describe.

use arrow::array::RecordBatch;
use metaxy_core::MetadataStore;
use metaxy_core::store::ResolveRequest;

use crate::failure::{Failure, Result};
use crate::files::{Columns, Source};
use crate::versions::Completion;

use super::Args;

/// Returns the request of the library.
pub(super) async fn request(args: &Args, store: &MetadataStore) -> Result<ResolveRequest> {
    let mut request = store.resolve_update(args.feature.as_str());
    if !args.samples.is_empty() {
        request = request.samples(samples(args, store).await?);
    }
    for (feature, filter) in &args.filter {
        request = request.filter(feature.as_str(), filter.as_str());
    }
    request = args.target_filter.iter().fold(request, |request, filter| request.target_filter(filter));
    request = args.global_filter.iter().fold(request, |request, filter| request.global_filter(filter));
    request = args.stale_if.iter().fold(request, |request, filter| request.staleness(filter));
    request = if args.changed_fields { request.with_changed_fields() } else { request };
    Ok(if args.skip_comparison { request.skip_comparison() } else { request })
}

async fn samples(args: &Args, store: &MetadataStore) -> Result<Vec<RecordBatch>> {
    let spec = &store.graph().plan(args.feature.as_str())?.spec;
    let completion = Completion::new(spec, &args.versions)?;
    let texts = args.text.iter().cloned().chain(completion.columns()).collect();
    let columns = Columns { stored: store.backend().schema(&spec.key).await?, texts };
    let mut samples = Vec::new();
    for file in &args.samples {
        for batch in Source::new(file, None).open(&columns)? {
            samples.push(completion.apply(batch.map_err(|error| Failure::file(file, error))?)?);
        }
    }
    Ok(samples)
}

/// Parses FEATURE:FILTER.
pub(super) fn feature_filter(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((feature, filter)) => Ok((feature.trim().to_owned(), filter.trim().to_owned())),
        None => Err(format!("`{text}` is not FEATURE:FILTER, such as \"raw/video:duration > 3\"")),
    }
}
