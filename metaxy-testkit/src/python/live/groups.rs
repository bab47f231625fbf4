//! Groups whose hash does not depend on the order of their rows.

use std::borrow::Cow;
use std::collections::BTreeSet;

use metaxy_core::{FeatureDep, Lineage, columns};
use serde_json::Value;

use crate::scenario::{Row, Scenario, Step};

/// Returns the scenario with equal versions for all samples of a feature that another one aggregates. The Python package
/// hashes the rows of a group in the order in which it finds them, which changes from call to call; it should be that of
/// their ids.
pub(super) fn without_order(scenario: &Scenario) -> Cow<'_, Scenario> {
    let aggregates = |dep: &&FeatureDep| matches!(dep.lineage, Lineage::Aggregation { .. });
    let deps = scenario.definitions.features.iter().flat_map(|spec| &spec.deps);
    let aggregated: BTreeSet<String> = deps.filter(aggregates).map(|dep| dep.feature().to_string()).collect();
    if aggregated.is_empty() {
        return Cow::Borrowed(scenario);
    }
    let mut scenario = scenario.clone();
    for step in &mut scenario.steps {
        if let Step::Write(write) = step
            && aggregated.contains(&write.feature)
        {
            write.samples.rows.iter_mut().for_each(equal_versions);
        }
    }
    Cow::Owned(scenario)
}

fn equal_versions(row: &mut Row) {
    for name in [columns::PROVENANCE_BY_FIELD, columns::DATA_VERSION_BY_FIELD] {
        let members = row.get_mut(name).and_then(Value::as_object_mut);
        members.into_iter().flat_map(|members| members.values_mut()).for_each(|version| *version = "equal".into());
    }
}
