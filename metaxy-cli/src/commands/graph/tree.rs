//! The graph as a tree of text. A feature with several dependencies stands below each of them; what is below it is
//! shown the first time.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use metaxy_core::{FeatureKey, FeaturePlan};

use super::Part;

/// Returns the tree.
pub fn text(part: &Part<'_>) -> String {
    let mut tree = Tree { part, text: String::new(), shown: BTreeSet::new() };
    for plan in &part.features {
        if part.edges().all(|(_, to)| *to != plan.spec.key) {
            tree.add(plan, "", "");
        }
    }
    tree.text
}

struct Tree<'a> {
    part: &'a Part<'a>,
    text: String,
    shown: BTreeSet<&'a FeatureKey>,
}

impl<'a> Tree<'a> {
    /// Adds a feature and everything below it.
    fn add(&mut self, plan: &'a FeaturePlan, branch: &str, indent: &str) {
        let key = &plan.spec.key;
        let below: Vec<&FeaturePlan> = self.below(key);
        let is_repeated = !self.shown.insert(key) && !below.is_empty();
        let more = if is_repeated { " (see above)" } else { "" };
        let external = if plan.external { " (external)" } else { "" };
        let _ = writeln!(self.text, "{branch}{key} {}{external}{more}", plan.feature_version);
        if is_repeated {
            return;
        }
        if self.part.fields {
            self.add_fields(plan, indent, !below.is_empty());
        }
        let last = below.len().saturating_sub(1);
        for (at, plan) in below.into_iter().enumerate() {
            let (branch, more) = if at == last { ("└── ", "    ") } else { ("├── ", "│   ") };
            self.add(plan, &format!("{indent}{branch}"), &format!("{indent}{more}"));
        }
    }

    fn add_fields(&mut self, plan: &FeaturePlan, indent: &str, goes_on: bool) {
        let line = if goes_on { "│" } else { " " };
        for (field, parents) in plan.spec.fields.iter().zip(&plan.parents) {
            let parents: Vec<String> = parents.iter().map(ToString::to_string).collect();
            let from = if parents.is_empty() { String::new() } else { format!(" ← {}", parents.join(", ")) };
            let _ = writeln!(self.text, "{indent}{line}   · {}{from}", field.key());
        }
    }

    /// Returns the features that are made from one, in the order of the graph.
    fn below(&self, key: &FeatureKey) -> Vec<&'a FeaturePlan> {
        let part = self.part;
        let is_below = |plan: &&&FeaturePlan| plan.spec.deps.iter().any(|dep| dep.feature() == key);
        part.features.iter().filter(is_below).copied().collect()
    }
}
