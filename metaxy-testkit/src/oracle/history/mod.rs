//! Random histories: definitions and steps that are valid together.
//!
//! Proptest draws a [`Draft`], which consists of small numbers, so that it shrinks well. [`Draft::scenario`] converts
//! it into a scenario with the help of the oracle: the meaning of a number depends on the content of the store, and
//! impossible steps are left out. The expected results are the oracle's, so the scenario can be run on any store.
//!
//! Some results are undefined by the reference's rules, so such steps are never drawn: two rows of one sample in one
//! write, children of one parent with different provenance in one write, floats as ids.

mod features;
mod filters;
mod steps;
mod strategy;
mod values;

use metaxy_core::HashAlgorithm;

use crate::scenario::{Definitions, Read, Scenario, Step};

use super::{Oracle, note};
use features::{Built, build};

pub(super) use strategy::drafts;

/// A history, as numbers.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    algorithm: u8,
    truncation: u8,
    features: Vec<FeatureDraft>,
    steps: Vec<StepDraft>,
}

#[derive(Clone, Debug)]
struct FeatureDraft {
    /// The number of its id columns.
    ids: u8,
    /// Whether its id columns have other names than most features'.
    other_names: bool,
    /// Which of the own columns it has.
    columns: u8,
    /// Whether its rows include the columns of its dependencies.
    passes_on: bool,
    fields: Vec<FieldDraft>,
    deps: Vec<DepDraft>,
    /// The first write of a root; any other feature is processed once.
    start: Vec<RowDraft>,
}

#[derive(Clone, Debug)]
struct FieldDraft {
    key: u8,
    code_version: u8,
    deps: u8,
    picks: u8,
}

#[derive(Clone, Debug)]
struct DepDraft {
    feature: u8,
    select: u8,
    renames: u8,
    mapping: u8,
    picks: u8,
    filter: Option<FilterDraft>,
    optional: bool,
    grouped: bool,
    explicit: bool,
}

/// One to three comparisons and their combination.
#[derive(Clone, Debug)]
struct FilterDraft {
    atoms: Vec<AtomDraft>,
    shape: u8,
}

#[derive(Clone, Debug)]
struct AtomDraft {
    column: u8,
    operator: u8,
    value: u8,
}

#[derive(Clone, Debug)]
struct RowDraft {
    ids: [u8; 3],
    provenance: u8,
    values: u8,
}

#[derive(Clone, Debug)]
enum StepDraft {
    Write { feature: u8, rows: Vec<RowDraft>, data_versions: bool },
    Process { feature: u8, part: u8, values: u8, data_versions: bool },
    Resolve { feature: u8, rows: Vec<RowDraft>, filters: Vec<(u8, FilterDraft)>, skip_comparison: bool },
    Read { feature: u8, flags: u8, columns: u8, filter: Option<FilterDraft> },
    Delete { feature: u8, filter: Option<FilterDraft>, soft: bool },
    Redefine { feature: u8, change: u8, value: u8 },
}

impl Draft {
    /// Returns the history as a scenario, with the oracle's results.
    pub(super) fn scenario(&self) -> Result<Scenario, String> {
        let algorithm = HashAlgorithm::ALL[usize::from(self.algorithm) % HashAlgorithm::ALL.len()];
        let truncation = [8, 16, 64][usize::from(self.truncation) % 3];
        let mut drafts = self.features.clone();
        let mut built = build(&drafts)?;
        let definitions = Definitions { features: specs(&built), ..Definitions::default() };
        let mut oracle = Oracle::new(&definitions, algorithm, truncation)?;
        let definitions = oracle.versioned(&definitions);
        let mut steps = Vec::new();
        for (feature, draft) in built.iter().zip(&self.features) {
            if let Some(step) = steps::start(feature, &draft.start, &oracle) {
                take(&mut oracle, step, &mut steps);
            }
        }
        for draft in &self.steps {
            if let StepDraft::Redefine { feature, change, value } = draft {
                steps::redefine(&mut drafts, *feature, *change, *value);
                built = build(&drafts)?;
            }
            let Some(step) = steps::step(draft, &built, &oracle)? else { continue };
            take(&mut oracle, step, &mut steps);
        }
        for feature in &built {
            take(&mut oracle, everything(&feature.key), &mut steps);
            if let Some(step) = steps::plain_resolve(feature) {
                take(&mut oracle, step, &mut steps);
            }
        }
        Ok(Scenario {
            name: "random".to_owned(),
            about: "a random history with the oracle's results".to_owned(),
            hash_algorithm: algorithm,
            hash_truncation_length: truncation,
            definitions,
            steps,
        })
    }
}

fn specs(built: &[Built]) -> Vec<metaxy_core::FeatureSpec> {
    built.iter().map(|feature| feature.spec.clone()).collect()
}

/// Adds a step, if it is possible, and after a change a read of all rows.
fn take(oracle: &mut Oracle, mut step: Step, steps: &mut Vec<Step>) {
    let Ok(answer) = oracle.take(&step) else { return };
    note(&mut step, answer, oracle);
    let changed = matches!(step, Step::Write(_) | Step::Delete(_)).then(|| step.feature().to_owned());
    steps.push(step);
    if let Some(feature) = changed {
        take(oracle, everything(&feature), steps);
    }
}

/// Returns a read of all rows of all versions, including deleted ones.
fn everything(feature: &str) -> Step {
    Step::Read(Read {
        feature: feature.to_owned(),
        with_feature_history: Some(true),
        with_sample_history: Some(true),
        include_soft_deleted: Some(true),
        ..Read::default()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    use super::*;

    /// Checks that histories reach every kind of step, so that a change of the generator does not reduce them
    /// unnoticed.
    #[test]
    fn histories_reach_every_step() {
        let mut runner = TestRunner::deterministic();
        let mut reached: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..400 {
            let scenario = drafts().new_tree(&mut runner).unwrap().current().scenario().unwrap();
            for step in &scenario.steps {
                let mut reach = |what: String| *reached.entry(what).or_default() += 1;
                reach(step.op().to_owned());
                if let Step::Resolve(resolve) = step {
                    let spec =
                        scenario.definitions.features.iter().find(|spec| spec.key.to_string() == resolve.feature);
                    let kinds: Vec<String> = spec.unwrap().deps.iter().map(kind).collect();
                    let parts = [
                        ("new", &resolve.expect.new),
                        ("stale", &resolve.expect.stale),
                        ("orphaned", &resolve.expect.orphaned),
                    ];
                    for (part, _) in parts.into_iter().filter(|(_, rows)| !rows.is_empty()) {
                        reach(format!("{part} of {}", if kinds.is_empty() { "a root" } else { "a derived feature" }));
                        kinds.iter().for_each(|kind| reach(format!("{part} of {kind}")));
                    }
                }
            }
        }
        eprintln!("{reached:#?}");
        let mut expected: Vec<String> = ["write", "read", "delete", "redefine"].map(str::to_owned).into();
        for part in ["new", "stale", "orphaned"] {
            for kind in ["1:1", "N:1", "N:1 on", "1:N", "optional 1:1", "optional N:1", "optional 1:N", "a root"] {
                expected.push(format!("{part} of {kind}"));
            }
        }
        let missing: Vec<_> =
            expected.into_iter().filter(|what| reached.get(what).copied().unwrap_or_default() < 3).collect();
        assert!(missing.is_empty(), "hardly ever or never reached: {missing:?}");
    }

    fn kind(dep: &metaxy_core::FeatureDep) -> String {
        let kind = match &dep.lineage {
            metaxy_core::Lineage::Identity => "1:1",
            metaxy_core::Lineage::Aggregation { on: None } => "N:1",
            metaxy_core::Lineage::Aggregation { on: Some(_) } if !dep.optional => "N:1 on",
            metaxy_core::Lineage::Aggregation { on: Some(_) } => "N:1",
            metaxy_core::Lineage::Expansion { .. } => "1:N",
        };
        format!("{}{kind}", if dep.optional { "optional " } else { "" })
    }
}
