//! Buckets: the object store of a URL, and its options.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use deltalake::logstore::{StorageConfig, object_store_factories};
use metaxy_core::error::{Error, Result};
use object_store::ObjectStore;
use url::Url;

use crate::config::DeltaConfig;
use crate::error::{ErrorContext, chain};
use crate::location::Root;

use super::locks;

/// Timeouts of requests. Those of `object_store` itself are minutes.
const LIMITS: [(&str, &str); 4] =
    [("max_retries", "6"), ("retry_timeout", "30s"), ("connect_timeout", "5s"), ("timeout", "30s")];

/// Opens the object store of a root that is a URL, without a request.
///
/// # Errors
/// [`Error::Config`] if an option has an invalid value.
pub(crate) fn open(
    config: &DeltaConfig,
    root: &Root,
    context: &ErrorContext,
) -> Result<(Arc<dyn ObjectStore>, StorageConfig)> {
    let invalid = |reason: String| Error::setting("storage_options", context.redact(&reason));
    let storage = StorageConfig::parse_options(options(config)).map_err(|error| invalid(chain(&error)))?;
    let scheme = Url::parse(&format!("{}://", root.url.scheme())).map_err(|error| invalid(chain(&error)))?;
    let factories = object_store_factories();
    let Some(factory) = factories.get(&scheme) else {
        return Err(invalid(format!("{scheme} is not compiled in")));
    };
    let (store, _) = factory.value().parse_url_opts(&root.url, &storage).map_err(|error| invalid(chain(&error)))?;
    Ok((store, storage))
}

/// Returns a number that identifies a location and its options.
pub(crate) fn fingerprint(config: &DeltaConfig, root: &Root) -> u64 {
    let mut hasher = DefaultHasher::new();
    (root.url.as_str(), options(config).into_iter().collect::<BTreeMap<_, _>>()).hash(&mut hasher);
    hasher.finish()
}

/// Returns the storage options of a store without lock settings, with default timeouts.
fn options(config: &DeltaConfig) -> HashMap<String, String> {
    let given = config.storage_options.iter().filter(|(name, _)| !locks::is_lock_option(name));
    let mut options: HashMap<String, String> = given.map(|(name, value)| (name.clone(), value.to_string())).collect();
    for (name, value) in LIMITS {
        if !options.keys().any(|given| without_service(given) == name) {
            options.insert(name.to_owned(), value.to_owned());
        }
    }
    options
}

/// Returns the name of an option without the prefix of a service: `AWS_TIMEOUT` is `timeout`.
fn without_service(name: &str) -> String {
    let name = name.to_lowercase();
    let plain = ["aws_", "google_", "azure_"].iter().find_map(|service| name.strip_prefix(service));
    plain.map_or_else(|| name.clone(), str::to_owned)
}
