//! `metaxy describe`

use std::fmt::Write as _;

use metaxy_core::{FeatureGraph, FeaturePlan, Lineage};
use serde::Serialize;
use serde_json::Value;

use crate::context::Context;
use crate::failure::Result;
use crate::output::{Table, Tabular};

use super::Answer;

/// Shows the definition of a feature, its versions, and its place in the graph
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  metaxy describe processed/transcript")]
pub struct Args {
    /// The feature
    feature: String,
}

#[derive(Serialize)]
struct Description {
    feature: String,
    description: Option<String>,
    external: bool,
    id_columns: Vec<String>,
    feature_version: String,
    code_version: String,
    spec_version: String,
    definition_version: String,
    table: String,
    fields: Vec<Field>,
    deps: Vec<Dep>,
    dependents: Vec<String>,
    /// The whole definition, as it is pushed.
    spec: Value,
}

#[derive(Serialize)]
struct Field {
    field: String,
    code_version: String,
    version: String,
    /// The upstream fields from which it is made.
    made_from: Vec<String>,
}

#[derive(Serialize)]
struct Dep {
    feature: String,
    lineage: &'static str,
    optional: bool,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    let graph = context.graph().await?;
    let description = Description::of(&graph, graph.plan(args.feature.as_str())?);
    context.output().print_or(&description, || description.text())?;
    Ok(Answer::Yes)
}

impl Description {
    fn of(graph: &FeatureGraph, plan: &FeaturePlan) -> Self {
        let spec = &plan.spec;
        let field = |(field, parents): (&metaxy_core::FieldSpec, &Vec<metaxy_core::FqFieldKey>)| Field {
            field: field.key().to_string(),
            code_version: field.code_version.clone(),
            version: plan.field_versions.get(field.key()).cloned().unwrap_or_default(),
            made_from: parents.iter().map(ToString::to_string).collect(),
        };
        let dep = |dep: &metaxy_core::FeatureDep| Dep {
            feature: dep.feature().to_string(),
            lineage: match dep.lineage {
                Lineage::Identity => "1:1",
                Lineage::Aggregation { .. } => "N:1",
                Lineage::Expansion { .. } => "1:N",
            },
            optional: dep.optional,
        };
        Self {
            feature: spec.key.to_string(),
            description: spec.description.clone(),
            external: plan.external,
            id_columns: spec.id_columns.clone(),
            feature_version: plan.feature_version.clone(),
            code_version: plan.code_version.clone(),
            spec_version: plan.spec_version.clone(),
            definition_version: plan.definition_version.clone(),
            table: spec.key.table_name(),
            fields: spec.fields.iter().zip(&plan.parents).map(field).collect(),
            deps: spec.deps.iter().map(dep).collect(),
            dependents: graph.dependents(&spec.key).map(ToString::to_string).collect(),
            spec: serde_json::from_str(&spec.to_json()).unwrap_or_default(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.feature);
        let mut line = |name: &str, value: &str| {
            if !value.is_empty() {
                let _ = writeln!(text, "  {name:<12}{value}");
            }
        };
        line("about", self.description.as_deref().unwrap_or_default());
        line("ids", &self.id_columns.join(", "));
        line("version", &self.feature_version);
        line("definition", &self.definition_version);
        line("table", &self.table);
        line("owner", if self.external { "another project" } else { "" });
        for dep in &self.deps {
            let optional = if dep.optional { ", optional" } else { "" };
            line("made from", &format!("{} ({}{optional})", dep.feature, dep.lineage));
        }
        line("read by", &self.dependents.join(", "));
        for field in &self.fields {
            let made_from = match field.made_from.is_empty() {
                true => String::new(),
                false => format!(" from {}", field.made_from.join(", ")),
            };
            line("field", &format!("{} {} (code {}){made_from}", field.field, field.version, field.code_version));
        }
        text
    }
}

/// A row for each field.
impl Tabular for Description {
    fn table(&self) -> Table {
        let row = |field: &Field| {
            let Field { field, code_version, version, made_from } = field;
            vec![self.feature.clone(), field.clone(), version.clone(), code_version.clone(), made_from.join(", ")]
        };
        Table {
            header: vec!["feature", "field", "version", "code_version", "made_from"],
            rows: self.fields.iter().map(row).collect(),
        }
    }
}
