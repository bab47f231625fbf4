//! `metaxy history`

use metaxy_core::{AccessMode, PushedDefinition};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::context::Context;
use crate::failure::Result;
use crate::output::{Table, Tabular};

use super::Answer;

/// Lists the definitions that were pushed to the store, the newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  metaxy history raw/video")]
pub struct Args {
    /// Only these features
    features: Vec<String>,
}

#[derive(Serialize)]
struct History {
    definitions: Vec<Definition>,
}

#[derive(Serialize)]
struct Definition {
    recorded_at: String,
    project: String,
    project_version: String,
    feature: String,
    feature_version: String,
    definition_version: String,
    tags: Option<Map<String, Value>>,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let store = context.open_bare(AccessMode::ReadOnly).await?;
    let mut pushed = store.definitions();
    if let Some(project) = context.given_project() {
        pushed = pushed.project(project);
    }
    for feature in &args.features {
        pushed = pushed.feature(feature.as_str());
    }
    let definitions = pushed.history().await?.into_iter().map(Definition::of).collect();
    context.output().print(&History { definitions })?;
    Ok(Answer::Yes)
}

impl Definition {
    fn of(pushed: PushedDefinition) -> Self {
        Self {
            recorded_at: pushed.recorded_at_text(),
            // A row that cannot be read is listed all the same.
            tags: pushed.tags().ok(),
            project: pushed.project,
            project_version: pushed.project_version,
            feature: pushed.feature.to_string(),
            feature_version: pushed.feature_version,
            definition_version: pushed.definition_version,
        }
    }

    fn tags_text(&self) -> String {
        let tags = self.tags.iter().flatten().filter(|(name, _)| *name != "metaxy");
        let text = |(name, value): (&String, &Value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        };
        tags.map(text).collect::<Vec<_>>().join(", ")
    }
}

impl Tabular for History {
    fn table(&self) -> Table {
        let row = |one: &Definition| {
            vec![
                one.recorded_at.clone(),
                one.project.clone(),
                one.project_version.clone(),
                one.feature.clone(),
                one.feature_version.clone(),
                one.definition_version.clone(),
                one.tags_text(),
            ]
        };
        let header =
            vec!["recorded_at", "project", "project_version", "feature", "version", "definition_version", "tags"];
        Table { header, rows: self.definitions.iter().map(row).collect() }
    }
}
