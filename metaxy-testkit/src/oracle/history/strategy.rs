//! The distribution of drafts. Everything shrinks to fewer and smaller numbers.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::{Strategy, any, prop_oneof};

use super::{AtomDraft, DepDraft, Draft, FeatureDraft, FieldDraft, FilterDraft, RowDraft, StepDraft};

/// Histories of one to six features.
pub(in crate::oracle) fn drafts() -> impl Strategy<Value = Draft, Tree: Send> {
    let features = prop_oneof![1 => vec(features(), 1..=2), 5 => vec(features(), 2..=6)];
    (0..6u8, 0..3u8, features, vec(steps(), 1..=12)).prop_map(|(algorithm, truncation, features, steps)| Draft {
        algorithm,
        truncation,
        features,
        steps,
    })
}

fn features() -> impl Strategy<Value = FeatureDraft, Tree: Send> {
    let ids = prop_oneof![4 => 1..=1u8, 3 => 2..=2u8, 2 => 3..=3u8];
    let deps = prop_oneof![1 => vec(deps(), 0..=0), 3 => vec(deps(), 1..=3)];
    let looks = (ids, weighted(0.25, 0..1u8), 0..16u8, any::<bool>());
    (looks, vec(fields(), 1..=4), deps, vec(rows(), 0..=8)).prop_map(
        |((ids, other_names, columns, passes_on), fields, deps, start)| FeatureDraft {
            ids,
            other_names: other_names.is_some(),
            columns,
            passes_on,
            fields,
            deps,
            start,
        },
    )
}

fn fields() -> impl Strategy<Value = FieldDraft, Tree: Send> {
    (0..8u8, 0..3u8, 0..6u8, any::<u8>()).prop_map(|(key, code_version, deps, picks)| FieldDraft {
        key,
        code_version,
        deps,
        picks,
    })
}

fn deps() -> impl Strategy<Value = DepDraft, Tree: Send> {
    (
        (0..6u8, 0..4u8, weighted(0.3, 1..16u8), 0..8u8, any::<u8>()),
        (weighted(0.25, filters()), weighted(0.3, 0..1u8), weighted(0.3, 0..1u8), any::<bool>()),
    )
        .prop_map(|((feature, select, renames, mapping, picks), (filter, optional, grouped, explicit))| DepDraft {
            feature,
            select,
            renames: renames.unwrap_or_default(),
            mapping,
            picks,
            filter,
            optional: optional.is_some(),
            grouped: grouped.is_some(),
            explicit,
        })
}

fn filters() -> impl Strategy<Value = FilterDraft, Tree: Send> {
    (vec(atoms(), 1..=3), any::<u8>()).prop_map(|(atoms, shape)| FilterDraft { atoms, shape })
}

fn atoms() -> impl Strategy<Value = AtomDraft, Tree: Send> {
    (any::<u8>(), 0..12u8, 0..8u8).prop_map(|(column, operator, value)| AtomDraft { column, operator, value })
}

fn rows() -> impl Strategy<Value = RowDraft, Tree: Send> {
    ([0..5u8, 0..3u8, 0..2u8], 0..4u8, any::<u8>()).prop_map(|(ids, provenance, values)| RowDraft {
        ids,
        provenance,
        values,
    })
}

fn steps() -> impl Strategy<Value = StepDraft, Tree: Send> {
    let feature = || 0..6u8;
    prop_oneof![
        6 => (feature(), vec(rows(), 1..=8), weighted(0.2, 0..1u8)).prop_map(|(feature, rows, data_versions)| {
            StepDraft::Write { feature, rows, data_versions: data_versions.is_some() }
        }),
        6 => (feature(), 0..4u8, any::<u8>(), weighted(0.2, 0..1u8)).prop_map(
            |(feature, part, values, data_versions)| {
                StepDraft::Process { feature, part, values, data_versions: data_versions.is_some() }
            }
        ),
        4 => (feature(), vec(rows(), 1..=4), vec((0..8u8, filters()), 0..=2), weighted(0.1, 0..1u8)).prop_map(
            |(feature, rows, filters, skip)| {
                StepDraft::Resolve { feature, rows, filters, skip_comparison: skip.is_some() }
            }
        ),
        2 => (feature(), 0..8u8, any::<u8>(), weighted(0.5, filters()))
            .prop_map(|(feature, flags, columns, filter)| StepDraft::Read { feature, flags, columns, filter }),
        2 => (feature(), weighted(0.8, filters()), any::<bool>())
            .prop_map(|(feature, filter, soft)| StepDraft::Delete { feature, filter, soft }),
        1 => (feature(), 0..8u8, any::<u8>())
            .prop_map(|(feature, change, value)| StepDraft::Redefine { feature, change, value }),
    ]
}
