//! `metaxy graph`

mod diff;
mod dot;
mod html;
mod layout;
mod mermaid;
mod svg;
mod tree;

use std::collections::BTreeSet;

use clap::{Subcommand, ValueEnum};
use metaxy_core::{AccessMode, FeatureGraph, FeatureKey, FeaturePlan, MetadataStore};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Table, Tabular};

use super::Answer;
use svg::States;

/// Shows which features are made from which
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:\n  metaxy graph\n  metaxy graph raw/video --as mermaid --fields\n  \
                  metaxy graph --as dot\n  metaxy graph --as html --status > graph.html")]
pub struct Args {
    /// Only this feature, what it is made from, and what is made from it
    feature: Option<String>,
    /// The notation of the graph, unless `--format` asks for data
    #[arg(long = "as", value_enum, default_value_t = Notation::Tree)]
    notation: Notation,
    /// Shows fields, and which fields they are made from
    #[arg(long)]
    fields: bool,
    /// Shows how many samples are stored, new, stale and orphaned, in `svg` and `html`
    #[arg(long)]
    status: bool,
    #[command(subcommand)]
    diff: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    Diff(diff::Args),
}

/// A notation of graphs.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Notation {
    /// A tree of text, roots first
    Tree,
    /// A flowchart of Mermaid, which Markdown shows
    Mermaid,
    /// A digraph of Graphviz
    Dot,
    /// A drawing, with an edge for each pair of fields
    Svg,
    /// The drawing as a page: a click on a field follows it upstream and downstream
    Html,
}

/// The features that are shown.
struct Part<'a> {
    graph: &'a FeatureGraph,
    /// The shown features, each after those that it depends on.
    features: Vec<&'a FeaturePlan>,
    fields: bool,
}

#[derive(Serialize)]
struct Shown {
    features: Vec<Feature>,
    edges: Vec<Edge>,
}

#[derive(Serialize)]
struct Feature {
    feature: String,
    feature_version: String,
    external: bool,
    fields: Vec<String>,
}

/// A feature or field, and one that is made from it.
#[derive(Serialize)]
struct Edge {
    from: String,
    to: String,
    /// The fields, as `feature.field`.
    fields: Vec<(String, String)>,
}

/// Runs the command.
pub async fn run(args: &Args, context: &Context) -> Result<Answer> {
    if let Some(What::Diff(args)) = &args.diff {
        return diff::run(args, context).await;
    }
    if args.status && !matches!(args.notation, Notation::Svg | Notation::Html) {
        return Err(Failure::usage("`--status` needs `--as svg` or `--as html`; `metaxy status` prints a table"));
    }
    let (graph, states) = match args.status {
        false => (context.graph().await?, States::new()),
        true => {
            let store = context.open(AccessMode::ReadOnly).await?;
            (store.graph().clone(), states(&store).await?)
        }
    };
    let part = Part { features: around(&graph, args.feature.as_deref())?, graph: &graph, fields: args.fields };
    context.output().print_or(&Shown::of(&part), || match args.notation {
        Notation::Tree => tree::text(&part),
        Notation::Mermaid => mermaid::text(&part),
        Notation::Dot => dot::text(&part),
        Notation::Svg => svg::file(&part, &states),
        Notation::Html => html::text(&part, &states, &title(context)),
    })?;
    Ok(Answer::Yes)
}

/// Returns the state of each feature.
async fn states(store: &MetadataStore) -> Result<States> {
    let mut states = States::new();
    for key in store.graph().topological_order() {
        states.insert(key.to_string(), super::status::Feature::of(store, key).await?);
    }
    Ok(states)
}

/// Returns the title of the page.
fn title(context: &Context) -> String {
    let project = context.config().ok().and_then(|config| context.project(&config).map(str::to_owned));
    project.map_or_else(|| "Features".to_owned(), |project| format!("Features of {project}"))
}

/// Returns a feature with everything upstream and downstream of it; or all features.
fn around<'a>(graph: &'a FeatureGraph, feature: Option<&str>) -> Result<Vec<&'a FeaturePlan>> {
    let order = graph.topological_order();
    let plans = order.iter().filter_map(|key| graph.plan(key).ok());
    let Some(feature) = feature else { return Ok(plans.collect()) };
    let key = &graph.plan(feature)?.spec.key;
    let deps_in = |keys: &BTreeSet<&FeatureKey>, plan: &FeaturePlan| {
        plan.spec.deps.iter().any(|dep| keys.contains(dep.feature()))
    };
    let mut downstream = BTreeSet::from([key]);
    for plan in plans.clone() {
        if deps_in(&downstream, plan) {
            downstream.insert(&plan.spec.key);
        }
    }
    let mut upstream = BTreeSet::from([key]);
    for plan in plans.clone().collect::<Vec<_>>().into_iter().rev() {
        if upstream.contains(&plan.spec.key) {
            upstream.extend(plan.spec.deps.iter().map(metaxy_core::FeatureDep::feature));
        }
    }
    Ok(plans.filter(|plan| downstream.contains(&plan.spec.key) || upstream.contains(&plan.spec.key)).collect())
}

impl Part<'_> {
    /// Returns pairs of a shown feature and another one that is made from it.
    fn edges(&self) -> impl Iterator<Item = (&FeatureKey, &FeatureKey)> {
        self.features
            .iter()
            .flat_map(|plan| plan.spec.deps.iter().map(|dep| (dep.feature(), &plan.spec.key)))
            .filter(|(from, _)| self.features.iter().any(|plan| plan.spec.key == **from))
    }

    /// Returns pairs of a field and another one that is made from it, as `feature.field`, between two features.
    fn field_edges(&self, from: &FeatureKey, to: &FeatureKey) -> Vec<(String, String)> {
        let Ok(plan) = self.graph.plan(to) else { return Vec::new() };
        let fields = plan.spec.fields.iter().zip(&plan.parents);
        let pairs = fields.flat_map(|(field, parents)| {
            let own = format!("{to}.{}", field.key());
            parents.iter().filter(|parent| parent.feature == *from).map(move |parent| (parent.to_string(), own.clone()))
        });
        pairs.collect()
    }
}

impl Shown {
    fn of(part: &Part<'_>) -> Self {
        let feature = |plan: &&FeaturePlan| Feature {
            feature: plan.spec.key.to_string(),
            feature_version: plan.feature_version.clone(),
            external: plan.external,
            fields: plan.spec.fields.iter().map(|field| field.key().to_string()).collect(),
        };
        let edge = |(from, to): (&FeatureKey, &FeatureKey)| Edge {
            from: from.to_string(),
            to: to.to_string(),
            fields: part.field_edges(from, to),
        };
        Self { features: part.features.iter().map(feature).collect(), edges: part.edges().map(edge).collect() }
    }
}

/// A row for each edge between fields.
impl Tabular for Shown {
    fn table(&self) -> Table {
        let row = |(from, to): &(String, String)| vec![from.clone(), to.clone()];
        Table { header: vec!["from", "to"], rows: self.edges.iter().flat_map(|edge| &edge.fields).map(row).collect() }
    }
}
