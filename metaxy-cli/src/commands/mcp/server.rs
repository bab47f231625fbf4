//! The tools, with the names and the answers of the Python package's.

use metaxy_core::{AccessMode, FeaturePlan};
use rmcp::handler::server::wrapper::Parameters;
use rmcp::{ServerHandler, schemars, tool, tool_handler, tool_router};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::failure::{Failure, Result};

use super::read::{Query, rows};

/// The server: it loads what it answers at every call.
#[derive(Clone)]
pub struct Server {
    context: Context,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct ListFeatures {
    /// Only the features of this project.
    project: Option<String>,
    /// Adds dependencies of features and fields.
    #[serde(default)]
    verbose: bool,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct GetFeature {
    /// The key of the feature, such as `video/processing`.
    feature_key: String,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct GetStore {
    /// The name of the store.
    store_name: String,
}

#[tool_router]
impl Server {
    /// Returns the server of a project.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    #[tool(description = "Returns the effective configuration, with secrets masked.")]
    async fn get_config(&self) -> Result<String, String> {
        told(self.config())
    }

    #[tool(description = "Lists the features with their versions and fields; verbose adds dependencies.")]
    async fn list_features(&self, Parameters(asked): Parameters<ListFeatures>) -> Result<String, String> {
        told(self.features(&asked).await)
    }

    #[tool(description = "Returns the whole definition of a feature.")]
    async fn get_feature(&self, Parameters(asked): Parameters<GetFeature>) -> Result<String, String> {
        told(self.feature(&asked.feature_key).await)
    }

    #[tool(description = "Lists the configured stores with their types.")]
    async fn list_stores(&self) -> Result<String, String> {
        told(self.stores())
    }

    #[tool(description = "Returns the type and the location of a store.")]
    async fn get_store(&self, Parameters(asked): Parameters<GetStore>) -> Result<String, String> {
        told(self.store(&asked.store_name).await)
    }

    #[tool(description = "Returns rows of a feature from a store, with filters such as \"duration > 3\".")]
    async fn get_metadata(&self, Parameters(query): Parameters<Query>) -> Result<String, String> {
        told(rows(&self.context, &query).await)
    }

    fn config(&self) -> Result<Value> {
        let config = self.context.config()?;
        let settings: toml::Table = config.to_toml()?.parse().map_err(|error: toml::de::Error| {
            Failure::usage(format!("the configuration cannot be read: {}", error.message()))
        })?;
        let mut answer = json!(settings);
        answer["config_file"] = json!(config.file().map(|file| file.display().to_string()));
        Ok(answer)
    }

    async fn features(&self, asked: &ListFeatures) -> Result<Value> {
        let config = self.context.config()?;
        let own = self.context.project(&config).map(str::to_owned);
        let graph = self.context.graph().await?;
        let project = |plan: &FeaturePlan| own.clone().filter(|_| !plan.external);
        let wanted = graph.features().filter(|plan| asked.project.is_none() || project(plan) == asked.project);
        let features: Vec<Value> = wanted.map(|plan| described(plan, project(plan), asked.verbose)).collect();
        Ok(json!({"feature_count": features.len(), "features": features}))
    }

    async fn feature(&self, key: &str) -> Result<Value> {
        let graph = self.context.graph().await?;
        Ok(serde_json::from_str(&graph.spec(key)?.to_json()).unwrap_or_default())
    }

    fn stores(&self) -> Result<Value> {
        let config = self.context.config()?;
        let stores = config.stores().map(|(name, store)| json!({"name": name, "type": store.kind()}));
        Ok(stores.collect())
    }

    async fn store(&self, name: &str) -> Result<Value> {
        let store = self.context.of_store(Some(name)).open_bare(AccessMode::ReadOnly).await?;
        let info = store.backend().info();
        Ok(Value::String(format!("{} at {}", info.kind, info.location)))
    }
}

#[tool_handler(
    name = "metaxy",
    instructions = "Metaxy stores metadata about samples, feature by feature, and knows which of them have to be \
                    processed again. These tools show the features of this project and the rows of their stores."
)]
impl ServerHandler for Server {}

/// Returns an answer as the text of a tool, or its error.
fn told(answer: Result<Value>) -> Result<String, String> {
    match answer {
        Ok(Value::String(text)) => Ok(text),
        Ok(value) => Ok(value.to_string()),
        Err(failure) => Err(failure.to_string()),
    }
}

fn described(plan: &FeaturePlan, project: Option<String>, verbose: bool) -> Value {
    let fields = plan.spec.fields.iter().zip(&plan.parents).map(|(field, parents)| {
        let mut described = json!({
            "key": field.key().to_string(),
            "code_version": field.code_version,
            "version": plan.field_versions.get(field.key()),
        });
        if verbose && !parents.is_empty() {
            let mut deps: Map<String, Value> = Map::new();
            for parent in parents {
                let fields = deps.entry(parent.feature.to_string()).or_insert_with(|| json!([]));
                fields.as_array_mut().into_iter().for_each(|fields| fields.push(json!(parent.field.to_string())));
            }
            let deps = deps.into_iter().map(|(feature, fields)| json!({"feature": feature, "fields": fields}));
            described["deps"] = deps.collect();
        }
        described
    });
    let fields: Vec<Value> = fields.collect();
    let mut described = json!({
        "key": plan.spec.key.to_string(),
        "version": plan.feature_version,
        "is_root": plan.spec.is_root(),
        "project": project,
        // The class that defines a feature in Python.
        "import_path": null,
        "field_count": fields.len(),
        "fields": fields,
    });
    if verbose && !plan.spec.deps.is_empty() {
        described["deps"] = plan.spec.deps.iter().map(|dep| json!(dep.feature().to_string())).collect();
    }
    described
}
