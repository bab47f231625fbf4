//! The definitions and options of a resolve as a hash: increments with different ones have nothing to do with each other.

use std::fmt::Write;

use crate::error::Result;
use crate::filter::Filter;
use crate::hash::definition_hash;
use crate::key::FeatureKey;
use crate::plan::ResolveOptions;

use super::super::MetadataStore;

/// The form of checkpoints; raised if what they mean changes.
const FORM: u32 = 1;
/// The number of characters of the hash.
const LENGTH: usize = 32;

/// Returns the hash of everything but the rows that an increment depends on.
pub(super) fn definition_of(store: &MetadataStore, key: &FeatureKey, options: &ResolveOptions) -> Result<String> {
    let feature = store.plan(key)?;
    let hasher = store.inner.hasher;
    let mut text = format!("{FORM}\n{} {}\n", hasher.algorithm().name(), hasher.truncation());
    let _ = writeln!(text, "{} {}", feature.feature_version, feature.spec.to_json());
    for upstream in &feature.upstream {
        let version = store.graph().feature_version(&upstream.key)?;
        let _ = writeln!(text, "{version} {}", upstream.to_json());
    }
    for (feature, filters) in &options.filters {
        push(&mut text, &feature.to_string(), filters);
    }
    push(&mut text, "target", &options.target_filters);
    push(&mut text, "global", &options.global_filters);
    push(&mut text, "staleness", &options.staleness_predicates);
    Ok(definition_hash([text.as_str()], LENGTH).to_string())
}

fn push(text: &mut String, of: &str, filters: &[Filter]) {
    for filter in filters {
        let _ = writeln!(text, "{of} {filter:?}");
    }
}
