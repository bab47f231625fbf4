//! The settings of a store.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;

use metaxy_core::secret::{MASK, mask_url, secrets_in};
use metaxy_core::{Error, Result};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::location::{Layout, Root};
use crate::scheduler::SchedulerAddress;

/// The location and the options of a Delta store.
///
/// ```
/// use metaxy_delta::{DeltaConfig, Layout};
/// let config = DeltaConfig::new("s3://bucket/metaxy").storage_option("AWS_REGION", "eu-west-1").layout(Layout::Flat);
/// config.check()?;
/// # Ok::<(), metaxy_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeltaConfig {
    /// The location of the tables: a path (relative paths and `~` are allowed), `file://`, `s3://`, and, as cargo
    /// features, `gs://` and `az://`.
    pub root_path: String,
    /// Credentials, endpoints and similar options, by their names in the `deltalake` crate.
    #[serde(default)]
    pub storage_options: BTreeMap<String, OptionValue>,
    /// The layout of the tables below the root.
    #[serde(default)]
    pub layout: Layout,
    /// The number of commits to a table after which a checkpoint of its log is written.
    #[serde(default = "default_checkpoint_interval")]
    pub checkpoint_interval: NonZeroU64,
    /// Whether small files of a table are compacted at the same time.
    #[serde(default = "default_auto_compact")]
    pub auto_compact: bool,
    /// Promises that no other program writes to this location under the lock settings in `storage_options` or in the
    /// environment (`AWS_S3_LOCKING_PROVIDER`, `AWS_S3_ALLOW_UNSAFE_RENAME`), so that they can be ignored. Otherwise a
    /// store with such settings can only be opened for reading.
    #[serde(default)]
    pub ignore_lock_settings: bool,
    /// The columns by which a new table is partitioned, if it has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_by: Vec<String>,
    /// The scheduler of a cluster of Apache Ballista that computes increments, such as `df://host:50050`. Needs the cargo
    /// feature `ballista`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// The executors of this cluster.
    #[serde(default, skip_serializing_if = "Executors::is_default")]
    pub executors: Executors,
    /// Options of the Python package's writer. `partition_by` is used here too; the other options are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta_write_options: Option<WriteOptions>,
}

/// The processes of the cluster that computes increments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Executors {
    /// `metaxy scheduler` and `metaxy executor`, which compute all increments.
    #[default]
    Metaxy,
    /// Those of Apache Ballista itself: queries have only what they know. They hash with MD5 or SHA-256, and read tables
    /// that are plain Parquet files. Other increments are computed in the calling process.
    Stock,
}

impl Executors {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Options of the Python package's writer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WriteOptions {
    /// The column or columns by which a new table is partitioned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_by: Option<ColumnNames>,
}

/// One column or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ColumnNames {
    /// `"column"`.
    One(String),
    /// `["one", "other"]`.
    Several(Vec<String>),
}

/// The value of a storage option; in configurations numbers and booleans need no quotes.
#[derive(Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum OptionValue {
    /// `"text"`.
    Text(String),
    /// `true` or `false`.
    Switch(bool),
    /// A whole number.
    Number(i64),
    /// Any other number.
    Fraction(f64),
}

impl<'de> Deserialize<'de> for OptionValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OptionVisitor)
    }
}

/// Reads an option; unlike that of an untagged enum, its error lists the accepted types.
struct OptionVisitor;

impl Visitor<'_> for OptionVisitor {
    type Value = OptionValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number, or true or false")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OptionValue, E> {
        Ok(OptionValue::Text(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, switch: bool) -> Result<OptionValue, E> {
        Ok(OptionValue::Switch(switch))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<OptionValue, E> {
        Ok(OptionValue::Number(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<OptionValue, E> {
        i64::try_from(number).map(OptionValue::Number).map_err(|_| E::custom("the number is too large"))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<OptionValue, E> {
        Ok(OptionValue::Fraction(number))
    }
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Switch(switch) => switch.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Fraction(number) => number.fmt(f),
        }
    }
}

impl fmt::Debug for OptionValue {
    /// Masks the value, because any option may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

fn default_checkpoint_interval() -> NonZeroU64 {
    const COMMITS: NonZeroU64 = NonZeroU64::new(50).unwrap();
    COMMITS
}

fn default_auto_compact() -> bool {
    true
}

impl DeltaConfig {
    /// Creates settings for a location, with defaults for everything else.
    pub fn new(root_path: impl Into<String>) -> Self {
        Self {
            root_path: root_path.into(),
            storage_options: BTreeMap::new(),
            layout: Layout::default(),
            checkpoint_interval: default_checkpoint_interval(),
            auto_compact: default_auto_compact(),
            ignore_lock_settings: false,
            partition_by: Vec::new(),
            scheduler: None,
            executors: Executors::default(),
            delta_write_options: None,
        }
    }

    /// Adds a storage option.
    #[must_use]
    pub fn storage_option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.storage_options.insert(name.into(), OptionValue::Text(value.into()));
        self
    }

    /// Sets the layout of the tables below the root.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Sets the number of commits to a table after which a checkpoint of its log is written.
    #[must_use]
    pub fn checkpoint_interval(mut self, commits: NonZeroU64) -> Self {
        self.checkpoint_interval = commits;
        self
    }

    /// Sets whether small files of a table are compacted when a checkpoint is written.
    #[must_use]
    pub fn auto_compact(mut self, compact: bool) -> Self {
        self.auto_compact = compact;
        self
    }

    /// Sets whether lock settings of other programs are ignored; see [`DeltaConfig::ignore_lock_settings`].
    #[must_use]
    pub fn ignore_lock_settings(mut self, ignore: bool) -> Self {
        self.ignore_lock_settings = ignore;
        self
    }

    /// Sets the columns by which a new table is partitioned, if it has them.
    #[must_use]
    pub fn partition_by(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.partition_by = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Lets a cluster of Apache Ballista compute increments; see [`DeltaConfig::scheduler`].
    #[must_use]
    pub fn scheduler(mut self, address: impl Into<String>) -> Self {
        self.scheduler = Some(address.into());
        self
    }

    /// Sets the executors of the cluster; see [`DeltaConfig::executors`].
    #[must_use]
    pub fn executors(mut self, executors: Executors) -> Self {
        self.executors = executors;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`](metaxy_core::Error::Config), which names the setting.
    pub fn check(&self) -> Result<()> {
        if self.scheduler_address()?.is_none() && self.executors != Executors::default() {
            return Err(Error::setting("executors", "there is no cluster; name its `scheduler`, or remove it"));
        }
        self.root().map(drop)
    }

    /// Returns the address in `scheduler`.
    pub(crate) fn scheduler_address(&self) -> Result<Option<SchedulerAddress>> {
        self.scheduler.as_deref().map(SchedulerAddress::parse).transpose()
    }

    /// Returns the location in `root_path`.
    pub(crate) fn root(&self) -> Result<Root> {
        Root::parse(&self.root_path, self.layout)
    }

    /// Returns the secrets, which no message may show.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let options = self.storage_options.iter().flat_map(|(name, value)| secrets_in(name, &value.to_string()));
        options.chain(secrets_in("root_path", &self.root_path)).collect()
    }

    /// Returns the columns by which new tables are partitioned.
    pub(crate) fn partition_columns(&self) -> Vec<String> {
        let options = self.delta_write_options.as_ref().and_then(|options| options.partition_by.clone());
        let others = match options {
            Some(ColumnNames::One(name)) => vec![name],
            Some(ColumnNames::Several(names)) => names,
            None => Vec::new(),
        };
        self.partition_by.iter().cloned().chain(others).collect()
    }
}

impl fmt::Debug for DeltaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaConfig")
            .field("root_path", &mask_url(&self.root_path))
            .field("storage_options", &self.storage_options)
            .field("layout", &self.layout)
            .field("checkpoint_interval", &self.checkpoint_interval)
            .field("auto_compact", &self.auto_compact)
            .field("partition_by", &self.partition_by)
            .field("scheduler", &self.scheduler.as_deref().map(mask_url))
            .field("executors", &self.executors)
            .field("delta_write_options", &self.delta_write_options)
            .field("ignore_lock_settings", &self.ignore_lock_settings)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_refuses_an_invalid_root_path() {
        DeltaConfig::new("/data/store").check().unwrap();
        for root_path in ["", "http://host/store", "s3://bucket/run?1"] {
            let error = DeltaConfig::new(root_path).check().unwrap_err();
            assert!(matches!(&error, metaxy_core::Error::Config { key, .. } if key == "root_path"), "{error:?}");
        }
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let config = DeltaConfig::new("s3://user:secret@bucket/x?token=hidden").storage_option("any", "hidden");
        let shown = format!("{config:?}");
        assert!(shown.contains("s3://user:***@bucket/x") && !shown.contains("secret"), "{shown}");
        assert!(!shown.contains("hidden"), "{shown}");
    }
}
