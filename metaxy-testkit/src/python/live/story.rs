//! What happens to the stores of a scenario.

use metaxy_core::{FeatureKey, FeatureSpec};

use super::{COPY, Live, Program, STORE};
use crate::scenario::{Expected, Resolve, Scenario, Step};

impl Live<'_> {
    pub(super) async fn tell(&mut self, scenario: &Scenario) -> Result<(), String> {
        self.define(&scenario.definitions.features).await?;
        for (index, step) in scenario.steps.iter().enumerate() {
            self.position = format!("step {} ({} {})", index + 1, step.op(), step.feature());
            self.step(step).await?;
        }
        self.position = "processing".to_owned();
        self.settle().await?;
        self.read_all(STORE).await?;
        self.position = "after a change of definitions".to_owned();
        self.upgrade().await?;
        self.read_all(STORE).await?;
        self.position = "copying".to_owned();
        let by = self.turn();
        self.copy(by).await?;
        self.read_all(COPY).await
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Read(step) => self.read(step).await,
            Step::Resolve(step) => self.resolve(step).await.map(drop),
            Step::Redefine(definitions) => self.define(&definitions.features).await,
            Step::Write(_) | Step::Delete(_) => {
                let by = self.turn();
                self.change(by, step.clone()).await
            }
        }
    }

    /// Processes every feature by one of the programs; then neither finds anything to do.
    async fn settle(&mut self) -> Result<(), String> {
        for key in self.made() {
            let resolve = Resolve { feature: key.to_string(), ..Resolve::default() };
            let found = self.resolve(&resolve).await?;
            let by = self.turn();
            self.process(by, &key, &found).await?;
            self.is_settled(by, &resolve).await?;
        }
        Ok(())
    }

    /// Changes the code of every feature, and carries their rows over; then neither program finds anything to do.
    async fn upgrade(&mut self) -> Result<(), String> {
        let before = self.graph.clone();
        let features: Vec<FeatureSpec> = before.features().map(|plan| upgraded(&plan.spec)).collect();
        self.define(&features).await?;
        for key in self.made() {
            let from = before.feature_version(&key).map_err(super::text)?;
            // The Python package carries no children over: it expects the columns of the child upstream.
            let by = if self.expands(&key)? { Program::Rust } else { self.turn() };
            self.rebase(by, &key, from).await?;
            self.is_settled(by, &Resolve { feature: key.to_string(), ..Resolve::default() }).await?;
        }
        Ok(())
    }

    async fn is_settled(&mut self, by: Program, resolve: &Resolve) -> Result<(), String> {
        let left = self.resolve(resolve).await?;
        match left == Expected::default() {
            true => Ok(()),
            false => Err(format!("{}: {by:?} has left {left:?}", resolve.feature)),
        }
    }

    /// Returns the features that are made from others, in the order in which they are made.
    fn made(&self) -> Vec<FeatureKey> {
        let is_made = |key: &&FeatureKey| self.graph.spec(*key).is_ok_and(|spec| !spec.is_root());
        self.graph.topological_order().iter().filter(is_made).cloned().collect()
    }
}

/// Returns the definition with other code, if it is made from others.
fn upgraded(spec: &FeatureSpec) -> FeatureSpec {
    let mut spec = spec.clone();
    if !spec.is_root() {
        spec.fields.iter_mut().for_each(|field| field.code_version.push_str("-next"));
    }
    spec
}
