//! `metaxy list`

use clap::Subcommand;
use metaxy_core::{FeatureGraph, FeaturePlan, MetaxyConfig};
use serde::Serialize;

use crate::context::Context;
use crate::failure::Result;
use crate::output::{Table, Tabular};

use super::Answer;

/// Lists features or stores
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists the features: those of the feature files or, if there are none, those that were pushed to the store
    #[command(after_help = "Examples:\n  metaxy list features\n  metaxy list features --format json")]
    Features,
    /// Lists the stores of metaxy.toml
    #[command(after_help = "Example:\n  metaxy list stores")]
    Stores,
}

#[derive(Serialize)]
struct Feature {
    feature: String,
    feature_version: String,
    id_columns: Vec<String>,
    fields: Vec<String>,
    deps: Vec<String>,
    external: bool,
    description: Option<String>,
}

#[derive(Serialize)]
struct Features {
    project_version: String,
    features: Vec<Feature>,
}

#[derive(Serialize)]
struct Store {
    store: String,
    #[serde(rename = "type")]
    kind: String,
    default: bool,
    fallback_stores: Vec<String>,
}

#[derive(Serialize)]
struct Stores {
    stores: Vec<Store>,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    match args.what {
        What::Features => context.output().print(&Features::of(&context.graph().await?))?,
        What::Stores => context.output().print(&Stores::of(&context.config()?, context)?)?,
    }
    Ok(Answer::Yes)
}

impl Features {
    fn of(graph: &FeatureGraph) -> Self {
        let features = graph.features().map(Feature::of).collect();
        Self { project_version: graph.project_version().to_owned(), features }
    }
}

impl Feature {
    fn of(plan: &FeaturePlan) -> Self {
        let spec = &plan.spec;
        Self {
            feature: spec.key.to_string(),
            feature_version: plan.feature_version.clone(),
            id_columns: spec.id_columns.clone(),
            fields: spec.fields.iter().map(|field| field.key().to_string()).collect(),
            deps: spec.deps.iter().map(|dep| dep.feature().to_string()).collect(),
            external: plan.external,
            description: spec.description.clone(),
        }
    }
}

impl Stores {
    fn of(config: &MetaxyConfig, context: &Context) -> Result<Self> {
        let default = context.store_name(config);
        let store = |(name, store): (&str, &metaxy_core::config::StoreConfig)| {
            Ok(Store {
                store: name.to_owned(),
                kind: store.kind().to_owned(),
                default: name == default,
                fallback_stores: store.common()?.fallback_stores,
            })
        };
        Ok(Self { stores: config.stores().map(store).collect::<Result<_>>()? })
    }
}

impl Tabular for Features {
    fn table(&self) -> Table {
        let row = |one: &Feature| {
            let kind = if one.external { " (external)" } else { "" };
            vec![
                format!("{}{kind}", one.feature),
                one.feature_version.clone(),
                one.id_columns.join(", "),
                one.fields.join(", "),
                one.deps.join(", "),
            ]
        };
        Table {
            header: vec!["feature", "version", "ids", "fields", "made_from"],
            rows: self.features.iter().map(row).collect(),
        }
    }
}

impl Tabular for Stores {
    fn table(&self) -> Table {
        let row = |one: &Store| {
            let default = if one.default { "yes" } else { "" };
            vec![one.store.clone(), one.kind.clone(), default.to_owned(), one.fallback_stores.join(", ")]
        };
        Table {
            header: vec!["store", "type", "default", "fallback_stores"],
            rows: self.stores.iter().map(row).collect(),
        }
    }
}
