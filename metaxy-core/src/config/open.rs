//! Opens stores by name, with the stores that they fall back on.

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
    /// Opens a store. The stores it falls back on are checked with it, and opened for reading when a feature is first
    /// looked for in them.
    ///
    /// # Errors
    /// [`Error::Config`] for a store that is not there, a setting that does not fit, a `${VAR}` without a value (in a
    /// fallback store: when that is needed), or fallback stores that form a circle; [`Error::UnknownBackend`];
    /// [`Error::HashAlgorithmMismatch`]; and what opening the store gives.
    pub async fn open_store(&self, name: &str, graph: FeatureGraph, mode: AccessMode) -> Result<MetadataStore> {
        self.check_graph(&graph)?;
        OpenPlan::new(self, graph).visit(name)?.open(mode).await
    }

    /// Opens the store that is used where none is named.
    ///
    /// # Errors
    /// As [`MetaxyConfig::open_store`].
    pub async fn open_default_store(&self, graph: FeatureGraph, mode: AccessMode) -> Result<MetadataStore> {
        self.open_store(self.store(), graph, mode).await
    }

    /// Checks every store without opening one: types, settings, variables, and the chains of fallback stores.
    ///
    /// # Errors
    /// As [`MetaxyConfig::open_store`], the first that is found.
    pub fn check(&self) -> Result<()> {
        let graph = self.graph_builder().build()?;
        let mut plan = OpenPlan::new(self, graph);
        self.stores.keys().try_for_each(|name| plan.visit(name).map(drop))
    }

    /// Versions of one length in the definitions and another in the configuration would fit nobody else's.
    fn check_graph(&self, graph: &FeatureGraph) -> Result<()> {
        let found = graph.hash_truncation_length();
        match self.fields.hash_truncation_length {
            Some(wanted) if wanted != found => {
                let key = "hash_truncation_length";
                let place = self.places.nearest(&[key.to_owned()]).cloned().unwrap_or_default();
                let reason = format!(
                    "the configuration keeps {wanted} characters of every version, the graph {found}; build the graph \
                     with `config.graph_builder()`"
                );
                Err(place.error(key, reason))
            }
            _ => Ok(()),
        }
    }
}

/// Every link takes its place on the stack while a feature is looked for.
const MAX_CHAIN: usize = 100;

/// Makes what opening takes, for a store and all that it falls back on.
struct OpenPlan<'a> {
    config: &'a MetaxyConfig,
    graph: FeatureGraph,
    /// Each store is made once, however many ways lead to it.
    done: HashMap<&'a str, (Arc<StoreParts>, Fallback)>,
    /// The names that led to the store that is looked at.
    path: Vec<&'a str>,
}

/// What a store is opened from.
struct StoreParts {
    name: String,
    config: StoreConfig,
    backend: SharedBackend,
    graph: FeatureGraph,
    common: CommonSettings,
    algorithm: HashAlgorithm,
    auto_create_tables: Option<bool>,
    materialization_id: Option<String>,
    enable_map_datatype: bool,
    fallbacks: Vec<Fallback>,
}

impl<'a> OpenPlan<'a> {
    fn new(config: &'a MetaxyConfig, graph: FeatureGraph) -> Self {
        Self { config, graph, done: HashMap::new(), path: Vec::new() }
    }

    /// Checks a store and those that it falls back on, and makes their backends.
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
        // What is said for the whole project is said of SQL tables: it forbids no directories.
        let of_project = self.config.auto_create_tables().filter(|create| *create || info.flat_names);
        Ok(StoreParts {
            name: name.to_owned(),
            config: store.clone(),
            graph: self.graph.clone(),
            algorithm: common.hash_algorithm.unwrap_or(info.default_hash),
            auto_create_tables: common.auto_create_tables.or(of_project),
            materialization_id: self.config.materialization_id_of(&common).map(str::to_owned),
            enable_map_datatype: self.config.enable_map_datatype(),
            fallbacks: Vec::new(),
            backend,
            common,
        })
    }

    /// A fallback must be there, must not lead back, and must hash alike.
    fn visit_fallback(&mut self, store: &StoreConfig, at: usize, parent: &StoreParts) -> Result<Fallback> {
        let name = &parent.common.fallback_stores[at];
        let place = ["fallback_stores".to_owned(), format!("[{at}]")];
        if let Some(start) = self.path.iter().position(|visited| visited == name) {
            let circle: Vec<&str> = self.path[start..].iter().copied().chain([name.as_str()]).collect();
            return Err(store.error_at(&place, format!("the fallback stores form a circle: {}", circle.join(" -> "))));
        }
        if self.path.len() >= MAX_CHAIN {
            return Err(store.error_at(&place, format!("the chain of fallback stores is longer than {MAX_CHAIN}")));
        }
        let Some(target) = self.config.stores.get(name) else {
            return Err(store.error_at(&place, self.config.missing_store(name)));
        };
        if let Err(error) = target.check_variables() {
            tracing::warn!(store = parent.name, fallback = name, %error, "a fallback store cannot be opened as things are");
            return Ok(self.open_later(name));
        }
        let parts = self.visit(name)?;
        if parts.algorithm != parent.algorithm {
            return Err(Error::HashAlgorithmMismatch {
                store: parent.name.clone(),
                expected: parent.algorithm,
                fallback: parts.name.clone(),
                found: parts.algorithm,
                place: Some(store.place_of(&place)),
            });
        }
        match self.done.get(name.as_str()) {
            Some((_, fallback)) => Ok(fallback.clone()),
            None => Ok(parts.into_fallback()),
        }
    }
}

impl OpenPlan<'_> {
    /// A fallback that is looked at only when it is needed: somebody without the passwords of `prod` may still work in
    /// `dev`.
    fn open_later(&self, name: &str) -> Fallback {
        let (config, graph, store) = (self.config.clone(), self.graph.clone(), name.to_owned());
        Fallback::lazy(name, move || {
            let (config, graph, store) = (config.clone(), graph.clone(), store.clone());
            async move { config.open_store(&store, graph, AccessMode::ReadOnly).await }.boxed()
        })
    }
}

impl StoreParts {
    /// Some settings are only found not to fit when the storage system sees them.
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
        let builder = match &self.materialization_id {
            Some(id) => builder.materialization_id(id),
            None => builder,
        };
        let builder = match self.auto_create_tables {
            Some(create) => builder.auto_create_tables(create),
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
