//! Settings of other programs that commit under a lock, or without any protection, instead of conditional puts.
//!
//! A commit of this crate is a put that fails if the key exists. A program that commits under its own lock, or by an
//! unconditional rename, does not detect such a put: each would overwrite commits of the other.

use metaxy_core::error::{Error, Result};

use crate::config::DeltaConfig;

/// The lock service (`dynamodb`).
const PROVIDER: &str = "AWS_S3_LOCKING_PROVIDER";
/// Allows commits by a rename without any lock.
const UNSAFE_RENAME: &str = "AWS_S3_ALLOW_UNSAFE_RENAME";

/// Returns whether a storage option is one of these settings.
pub(crate) fn is_lock_option(name: &str) -> bool {
    [PROVIDER, UNSAFE_RENAME].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Refuses to write to a location where other programs commit in another way.
///
/// # Errors
/// [`Error::Config`] if the options or the environment require a lock service or unsafe renames, unless
/// `ignore_lock_settings` is set.
pub(crate) fn check(config: &DeltaConfig) -> Result<()> {
    let asks = |name: &'static str| value_of(config, name).is_some_and(|value| is_asked_for(&value));
    let Some(name) = [PROVIDER, UNSAFE_RENAME].into_iter().find(|name| asks(name)) else { return Ok(()) };
    if config.ignore_lock_settings {
        tracing::debug!(option = name, "ignored: commits are conditional puts");
        return Ok(());
    }
    Err(Error::setting(
        format!("storage_options.{name}"),
        format!(
            "commits here are conditional puts, and programs that follow {name} commit in another way: each would \
             overwrite commits of the other. Remove the option (or the environment variable) from all programs that \
             write to this location; if no other program writes to it, set `ignore_lock_settings = true`"
        ),
    ))
}

/// Returns the option, or the environment variable of the same name.
pub(super) fn value_of(config: &DeltaConfig, name: &str) -> Option<String> {
    let option = config.storage_options.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    option.map(|(_, value)| value.to_string()).or_else(|| std::env::var(name).ok())
}

fn is_asked_for(value: &str) -> bool {
    !["", "0", "false", "f", "no", "n", "off", "none"].contains(&value.trim().to_lowercase().as_str())
}
