//! The graph of the features in files.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::{Error, FileProblem, Result};
use crate::graph::{FeatureGraph, FeatureGraphBuilder, Specs, faults};
use crate::key::FeatureKey;
use crate::spec::Fault;

use super::read::FeatureItem;
use super::{FeatureFiles, File};

impl FeatureFiles {
    /// Adds the features to those of a builder, and returns the graph.
    ///
    /// # Errors
    /// [`Error::FeatureFiles`] with all problems of all files, and the errors of [`FeatureGraphBuilder::build`] in
    /// features that are defined elsewhere.
    pub fn graph(&self, builder: FeatureGraphBuilder) -> Result<FeatureGraph> {
        let problems = self.problems(self.graph_problems(&builder));
        if !problems.is_empty() {
            return Err(Error::FeatureFiles { problems });
        }
        let external = self.externals();
        let (others, own): (Vec<_>, Vec<_>) =
            self.specs()?.into_iter().cloned().partition(|spec| external.contains_key(&spec.key));
        builder.features(own).external(others).build()
    }

    /// Returns the problems that the features have with each other.
    fn graph_problems(&self, builder: &FeatureGraphBuilder) -> Vec<FileProblem> {
        let mut specs = Specs::new();
        let mut broken = BTreeSet::new();
        for spec in builder.specs() {
            specs.insert(spec.key.clone(), Arc::new(spec.clone()));
        }
        for (key, _, feature) in self.features() {
            if !feature.is_sound {
                broken.insert(key.clone());
            }
            if let Some(spec) = &feature.spec {
                specs.entry(key.clone()).or_insert_with(|| Arc::new(spec.clone()));
            }
        }
        let is_complete = self.elsewhere.is_empty() && self.files.iter().all(|file| file.is_parsed);
        // A missing feature may be in the file that could not be read.
        let counts = |fault: &Fault| is_complete || !matches!(fault.error, Error::MissingDependency { .. });
        let by_key = self.by_key();
        // The faults of features that are defined elsewhere are returned when the graph is built.
        let problem = |(key, fault): (FeatureKey, Fault)| {
            let (file, feature) = by_key.get(&key)?;
            Some(file.problem(feature.item.locate(&fault.part), &message(&fault.error)))
        };
        let found = faults(&specs, &broken).into_iter().filter(|(_, fault)| counts(fault));
        found.filter_map(problem).chain(self.defined_elsewhere(builder)).collect()
    }

    /// Returns the problems of features that the builder has too.
    fn defined_elsewhere(&self, builder: &FeatureGraphBuilder) -> Vec<FileProblem> {
        let elsewhere: BTreeSet<&FeatureKey> = builder.specs().iter().map(|spec| &spec.key).collect();
        let twice = self.features().filter(|(key, ..)| elsewhere.contains(key));
        let problem = |(key, file, feature): (&FeatureKey, &File, &FeatureItem)| {
            let message = format!("feature `{key}` is defined in the program too; give one of the two another key");
            file.problem(feature.at(), &message)
        };
        twice.map(problem).collect()
    }
}

/// Returns the message of an error on one line.
pub(super) fn message(error: &Error) -> String {
    match error {
        Error::FilterSyntax { message, column, .. } => {
            format!("the filter does not parse at its character {}: {message}", column + 1)
        }
        other => other.to_string().lines().collect::<Vec<_>>().join("; "),
    }
}
