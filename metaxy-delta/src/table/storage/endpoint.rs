//! The URL of an S3 server. `object_store` panics at its first request if it is not a URL.

use metaxy_core::error::{Error, Result};
use url::Url;

use super::locks::value_of;
use crate::config::DeltaConfig;

/// The options and environment variables with the URL.
const NAMES: [&str; 5] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "endpoint_url", "endpoint"];

/// Refuses values that are not URLs. The message does not show the value, which may hold a user and a password.
///
/// # Errors
/// [`Error::Config`] with the name of the option or variable.
pub(crate) fn check(settings: &DeltaConfig) -> Result<()> {
    let is_bad = |name: &&&str| value_of(settings, name).is_some_and(|value| !is_url(&value));
    let Some(name) = NAMES.iter().find(is_bad) else { return Ok(()) };
    Err(Error::setting(
        format!("storage_options.{name}"),
        "the option (or the environment variable) is not a URL such as https://s3.example.org:9000; percent-encode \
         spaces and other special characters",
    ))
}

fn is_url(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c);
    text.is_empty() || (text.chars().all(is_plain) && Url::parse(text).is_ok_and(|url| url.has_host()))
}
