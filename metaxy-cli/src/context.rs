//! What a command works with: the configuration, the graph, and the store.

use std::collections::BTreeMap;

use metaxy_core::config::{ChangedExternal, LinkedGraph};
use metaxy_core::{AccessMode, Error, FeatureGraph, FeatureKey, IntoFeatureKey, MetadataStore, MetaxyConfig};

use crate::failure::{Failure, Result};
use crate::options::Options;
use crate::output::{Output, note};

/// The options of a call, and its output.
#[derive(Clone, Debug)]
pub struct Context {
    options: Options,
    output: Output,
}

impl Context {
    /// Returns the context of a call with these options.
    pub fn new(options: Options) -> Self {
        Self { output: Output::new(options.format), options }
    }

    /// Returns where data is printed.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Returns the context of another store; of the same one if none is named.
    #[cfg(feature = "mcp")]
    pub fn of_store(&self, name: Option<&str>) -> Self {
        let store = name.map(str::to_owned).or_else(|| self.options.store.clone());
        Self { options: Options { store, ..self.options.clone() }, output: self.output.clone() }
    }

    /// Loads the configuration.
    pub fn config(&self) -> Result<MetaxyConfig> {
        let loader = MetaxyConfig::loader();
        let loader = match &self.options.config_file {
            Some(file) => loader.file(file),
            None => loader,
        };
        Ok(loader.load()?)
    }

    /// Returns the name of the store.
    pub fn store_name<'a>(&'a self, config: &'a MetaxyConfig) -> &'a str {
        self.options.store.as_deref().unwrap_or(config.store())
    }

    /// Returns whether the store keeps checkpoints of increments in a directory.
    pub fn keeps_checkpoints(&self) -> Result<bool> {
        let config = self.config()?;
        Ok(config.store_config(self.store_name(&config))?.common()?.checkpoints.is_some())
    }

    /// Returns the options of the store for buckets, if it has any.
    pub fn storage_options(&self) -> Result<BTreeMap<String, String>> {
        let config = self.config()?;
        let settings = config.store_config(self.store_name(&config))?.settings();
        let options = settings.get("storage_options").and_then(toml::Value::as_table).cloned().unwrap_or_default();
        let text = |value: toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(options.into_iter().map(|(name, value)| (name, text(value))).collect())
    }

    /// Returns the project that was named on the command line.
    pub fn given_project(&self) -> Option<&str> {
        self.options.project.as_deref()
    }

    /// Returns the project.
    pub fn project<'a>(&'a self, config: &'a MetaxyConfig) -> Option<&'a str> {
        self.given_project().or(config.project())
    }

    /// Returns the features: those of the feature files, with those of other projects; or, if the configuration names
    /// none, those that were pushed to the store.
    pub async fn graph(&self) -> Result<FeatureGraph> {
        let config = self.config()?;
        if config.feature_patterns().is_some() && !config.needs_other_projects()? {
            return Ok(config.graph()?);
        }
        match self.open_with(&config, AccessMode::ReadOnly).await {
            Ok(store) => Ok(store.graph().clone()),
            // The lock file may have all that is needed.
            Err(Failure::Absent { .. }) if config.feature_patterns().is_some() => Ok(config.graph()?),
            Err(failure) => Err(failure),
        }
    }

    /// Opens the store with its features.
    pub async fn open(&self, mode: AccessMode) -> Result<MetadataStore> {
        self.open_with(&self.config()?, mode).await
    }

    /// Opens the store without features.
    pub async fn open_bare(&self, mode: AccessMode) -> Result<MetadataStore> {
        let config = self.config()?;
        let graph = config.graph_builder().build()?;
        open(&config, self.store_name(&config), graph, mode).await
    }

    /// Opens another store of the configuration for reading, with the same features.
    pub async fn open_other(&self, name: &str, graph: FeatureGraph) -> Result<MetadataStore> {
        open(&self.config()?, name, graph, AccessMode::ReadOnly).await
    }

    async fn open_with(&self, config: &MetaxyConfig, mode: AccessMode) -> Result<MetadataStore> {
        let name = self.store_name(config);
        if config.feature_patterns().is_some() {
            if !config.needs_other_projects()? {
                return open(config, name, config.graph()?, mode).await;
            }
            let store = open(config, name, config.graph_builder().build()?, mode).await?;
            let linked = config.graph_with(&store).await?;
            tell(&linked, name);
            return Ok(store.with_graph(linked.graph)?);
        }
        let store = open(config, name, config.graph_builder().build()?, mode).await?;
        let pushed = match self.project(config) {
            Some(project) => store.definitions().project(project),
            None => store.definitions(),
        };
        match pushed.graph().await {
            Ok(graph) => Ok(store.with_graph(graph)?),
            Err(error @ Error::NotPushed { .. }) => Err(Failure::usage(format!(
                "there are no features: the configuration names no feature files (`features = [\"features/*.toml\"]` \
                 under [ext.rust]), and {error}"
            ))),
            Err(error) => Err(error.into()),
        }
    }
}

/// Tells what differs from the lock file.
fn tell(linked: &LinkedGraph, store: &str) {
    for one in &linked.changed {
        let ChangedExternal { feature, expected, found, .. } = one;
        note(format!(
            "warning: `{feature}` of another project has the version {found} in store `{store}`, not {expected} as is \
             expected; `metaxy lock` writes the lock file again"
        ));
    }
    for feature in &linked.absent {
        note(format!("warning: store `{store}` does not have the feature `{feature}` of another project"));
    }
}

/// Opens a store.
async fn open(config: &MetaxyConfig, name: &str, graph: FeatureGraph, mode: AccessMode) -> Result<MetadataStore> {
    match config.open_store(name, graph, mode).await {
        // The library's hint names its own call.
        Err(Error::LocationNotFound { location, .. }) if mode == AccessMode::ReadOnly => {
            Err(Failure::Absent { store: name.to_owned(), location })
        }
        opened => Ok(opened?),
    }
}

/// Returns the keys of features that the graph has: the named ones or, if none are named, all, upstream first.
pub fn features_of(graph: &FeatureGraph, names: &[String]) -> Result<Vec<FeatureKey>> {
    if names.is_empty() {
        return Ok(graph.topological_order().to_vec());
    }
    names
        .iter()
        .map(|name| {
            Ok(graph.plan(name.as_str().into_feature_key().map_err(metaxy_core::Error::from)?)?.spec.key.clone())
        })
        .collect()
}
