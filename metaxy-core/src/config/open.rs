//! Opens stores by name, with their fallback stores.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;

use crate::backend::{AccessMode, SharedBackend};
use crate::error::{Error, Result};
use crate::graph::FeatureGraph;
use crate::hash::HashAlgorithm;
use crate::store::{Fallback, MetadataStore, StoreBuilder};

use super::MetaxyConfig;
use super::store::{CommonSettings, StoreConfig};

impl MetaxyConfig {
    /// Opens a store. Its fallback stores are checked at the same time, and opened for reading when a feature is first
    /// searched for in them.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown store, an invalid setting, a `${VAR}` without a value (in a fallback store:
    /// when that store is needed), or fallback stores that form a cycle; [`Error::UnknownBackend`];
    /// [`Error::HashAlgorithmMismatch`]; and the errors of opening the store.
    pub async fn open_store(&self, name: &str, graph: FeatureGraph, mode: AccessMode) -> Result<MetadataStore> {
        self.check_graph(&graph)?;
        OpenPlan::new(self, graph).visit(name)?.open(mode).await
    }

    /// Opens the default store.
    ///
    /// # Errors
    /// The errors of [`MetaxyConfig::open_store`].
    pub async fn open_default_store(&self, graph: FeatureGraph, mode: AccessMode) -> Result<MetadataStore> {
        self.open_store(self.store(), graph, mode).await
    }

    /// Checks every store without opening one: types, settings, variables, and the chains of fallback stores.
    ///
    /// # Errors
    /// The first of the errors of [`MetaxyConfig::open_store`].
    pub fn check(&self) -> Result<()> {
        let graph = self.graph_builder().build()?;
        let mut plan = OpenPlan::new(self, graph);
        self.stores.keys().try_for_each(|name| plan.visit(name).map(drop))
    }

    /// Checks that the versions of the graph have the length that the configuration sets.
    fn check_graph(&self, graph: &FeatureGraph) -> Result<()> {
        let found = graph.hash_truncation_length();
        match self.fields.hash_truncation_length {
            Some(wanted) if wanted != found => {
                let key = "hash_truncation_length";
                let origin = self.origins.nearest(&[key.to_owned()]).cloned().unwrap_or_default();
                let reason = format!(
                    "the configuration keeps {wanted} characters of every version, the graph {found}; build the graph \
                     with `config.graph_builder()`"
                );
                Err(origin.error(key, reason))
            }
            _ => Ok(()),
        }
    }
}

/// The maximum length of a chain. Every store of it takes stack while a feature is searched for.
const MAX_CHAIN: usize = 100;

/// Prepares a store and its fallback stores for opening.
struct OpenPlan<'a> {
    config: &'a MetaxyConfig,
    graph: FeatureGraph,
    /// The stores that are prepared already: each once, even if several stores fall back on it.
    done: HashMap<&'a str, (Arc<StoreParts>, Fallback)>,
    /// The names from the first store to the current one.
    path: Vec<&'a str>,
}

/// The parts from which a store is opened.
struct StoreParts {
    name: String,
    config: StoreConfig,
    backend: SharedBackend,
    graph: FeatureGraph,
    common: CommonSettings,
    algorithm: HashAlgorithm,
    auto_create_tables: Option<bool>,
    materialization_id: Option<String>,
    project: Option<String>,
    enable_map_datatype: bool,
    fallbacks: Vec<Fallback>,
}

impl<'a> OpenPlan<'a> {
    fn new(config: &'a MetaxyConfig, graph: FeatureGraph) -> Self {
        Self { config, graph, done: HashMap::new(), path: Vec::new() }
    }

    /// Checks a store and its fallback stores, and creates their backends.
    fn visit(&mut self, name: &str) -> Result<Arc<StoreParts>> {
        let config = self.config;
        let Some((name, store)) = config.stores.get_key_value(name) else { return Err(config.unknown_store(name)) };
        if let Some((parts, _)) = self.done.get(name.as_str()) {
            return Ok(parts.clone());
        }
        let mut parts = self.prepare(name, store)?;
        self.path.push(name);
        for at in 0..parts.common.fallback_stores.len() {
            let fallback = self.visit_fallback(store, at, &parts)?;
            parts.fallbacks.push(fallback);
        }
        self.path.pop();
        let parts = Arc::new(parts);
        self.done.insert(name, (parts.clone(), parts.clone().into_fallback()));
        Ok(parts)
    }

    fn prepare(&self, name: &str, store: &StoreConfig) -> Result<StoreParts> {
        let settings = store.backend_settings()?;
        let common = store.common()?;
        let backend = (store.registration()?.create)(settings).map_err(|error| store.locate(error))?;
        let info = backend.info();
        // The setting of the project is about SQL tables; it does not apply to directories.
        let of_project = self.config.auto_create_tables().filter(|create| *create || info.flat_names);
        Ok(StoreParts {
            name: name.to_owned(),
            config: store.clone(),
            graph: self.graph.clone(),
            algorithm: common.hash_algorithm.unwrap_or(info.default_hash),
            auto_create_tables: common.auto_create_tables.or(of_project),
            materialization_id: self.config.materialization_id_of(&common).map(str::to_owned),
            project: self.config.project().map(str::to_owned),
            enable_map_datatype: self.config.enable_map_datatype(),
            fallbacks: Vec::new(),
            backend,
            common,
        })
    }

    /// Checks a fallback store: it has to exist, must not form a cycle, and needs the same hash algorithm.
    fn visit_fallback(&mut self, store: &StoreConfig, at: usize, parent: &StoreParts) -> Result<Fallback> {
        let name = &parent.common.fallback_stores[at];
        let setting = ["fallback_stores".to_owned(), format!("[{at}]")];
        if let Some(start) = self.path.iter().position(|visited| visited == name) {
            let cycle: Vec<&str> = self.path[start..].iter().copied().chain([name.as_str()]).collect();
            return Err(store.error_at(&setting, format!("the fallback stores form a cycle: {}", cycle.join(" -> "))));
        }
        if self.path.len() >= MAX_CHAIN {
            return Err(store.error_at(&setting, format!("the chain of fallback stores is longer than {MAX_CHAIN}")));
        }
        let Some(target) = self.config.stores.get(name) else {
            return Err(store.error_at(&setting, self.config.missing_store(name)));
        };
        if let Err(error) = target.check_variables() {
            tracing::warn!(store = parent.name, fallback = name, %error, "a fallback store cannot be opened now");
            return Ok(self.open_later(name));
        }
        let parts = self.visit(name)?;
        if parts.algorithm != parent.algorithm {
            return Err(Error::HashAlgorithmMismatch {
                store: parent.name.clone(),
                expected: parent.algorithm,
                fallback: parts.name.clone(),
                found: parts.algorithm,
                origin: Some(store.origin_of(&setting)),
            });
        }
        match self.done.get(name.as_str()) {
            Some((_, fallback)) => Ok(fallback.clone()),
            None => Ok(parts.into_fallback()),
        }
    }
}

impl OpenPlan<'_> {
    /// Returns a fallback that is checked only when it is needed: without the passwords of `prod`, `dev` can still be
    /// used.
    fn open_later(&self, name: &str) -> Fallback {
        let (config, graph, store) = (self.config.clone(), self.graph.clone(), name.to_owned());
        Fallback::lazy(name, move || {
            let (config, graph, store) = (config.clone(), graph.clone(), store.clone());
            async move { config.open_store(&store, graph, AccessMode::ReadOnly).await }.boxed()
        })
    }
}

impl StoreParts {
    /// Adds the origin of a setting to an error that only the storage system could find.
    async fn open(&self, mode: AccessMode) -> Result<MetadataStore> {
        self.builder().open(mode).await.map_err(|error| self.config.locate(error))
    }

    fn builder(&self) -> StoreBuilder {
        let builder = MetadataStore::builder(self.backend.clone(), self.graph.clone())
            .name(&self.name)
            .hash_algorithm(self.algorithm)
            .versioning_engine(self.common.versioning_engine)
            .duplicates(self.common.duplicates)
            .enable_map_datatype(self.enable_map_datatype);
        let builder = match self.common.hash_truncation_length {
            Some(length) => builder.hash_truncation_length(length),
            None => builder,
        };
        let builder = match &self.project {
            Some(project) => builder.project(project),
            None => builder,
        };
        let builder = match &self.materialization_id {
            Some(id) => builder.materialization_id(id),
            None => builder,
        };
        let builder = match self.auto_create_tables {
            Some(create) => builder.auto_create_tables(create),
            None => builder,
        };
        let builder = match self.common.memory_limit {
            Some(bytes) => builder.memory_limit(bytes),
            None => builder,
        };
        let builder = match &self.common.temp_dir {
            Some(directory) => builder.temp_dir(directory),
            None => builder,
        };
        let builder = match &self.common.checkpoints {
            Some(directory) => builder.checkpoints(directory),
            None => builder,
        };
        self.fallbacks.iter().cloned().fold(builder, StoreBuilder::fallback)
    }

    fn into_fallback(self: Arc<Self>) -> Fallback {
        let name = self.name.clone();
        Fallback::lazy(name, move || {
            let parts = self.clone();
            async move { parts.open(AccessMode::ReadOnly).await }.boxed()
        })
    }
}
