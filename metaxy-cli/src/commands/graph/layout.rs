//! Where features and fields stand in a drawing: what is made from others stands to the right of them.

use std::collections::BTreeMap;

use metaxy_core::{FeatureKey, FeaturePlan};

use super::Part;

/// The width of a feature, and the space between columns.
pub const WIDTH: i32 = 230;
const ACROSS: i32 = 110;
/// The height of a feature's head and of a field, and the space between features.
pub const HEAD: i32 = 50;
pub const FIELD: i32 = 24;
const BETWEEN: i32 = 28;
const MARGIN: i32 = 20;

/// A feature in its place.
pub struct Placed<'a> {
    pub plan: &'a FeaturePlan,
    pub x: i32,
    pub y: i32,
}

/// The places of all features, and the size of the drawing.
pub struct Layout<'a> {
    pub features: Vec<Placed<'a>>,
    pub width: i32,
    pub height: i32,
}

impl<'a> Layout<'a> {
    /// Places the features of a graph.
    pub fn of(part: &Part<'a>) -> Self {
        let mut layers: Vec<Vec<&'a FeaturePlan>> = Vec::new();
        let mut layer_of: BTreeMap<&FeatureKey, usize> = BTreeMap::new();
        for plan in &part.features {
            let above = plan.spec.deps.iter().filter_map(|dep| layer_of.get(dep.feature()));
            let layer = above.max().map_or(0, |layer| layer + 1);
            layer_of.insert(&plan.spec.key, layer);
            layers.resize_with(layers.len().max(layer + 1), Vec::new);
            layers[layer].push(plan);
        }
        let mut layout = Self { features: Vec::new(), width: MARGIN, height: MARGIN };
        for layer in layers {
            layout.add(layer);
        }
        layout.width += MARGIN - ACROSS;
        layout.height += MARGIN - BETWEEN;
        layout
    }

    /// Adds a column. Features stand at the height of what they are made from, so that few edges cross.
    fn add(&mut self, mut layer: Vec<&'a FeaturePlan>) {
        layer.sort_by_cached_key(|plan| {
            let ups = plan.spec.deps.iter().filter_map(|dep| self.place(dep.feature())).map(|up| up.y);
            let ups: Vec<i32> = ups.collect();
            (ups.iter().sum::<i32>() / i32::try_from(ups.len().max(1)).unwrap_or(1), plan.spec.key.clone())
        });
        let mut y = MARGIN;
        for plan in layer {
            self.features.push(Placed { plan, x: self.width, y });
            y += height(plan) + BETWEEN;
        }
        self.width += WIDTH + ACROSS;
        self.height = self.height.max(y);
    }

    /// Returns the place of a feature, if it is shown.
    pub fn place(&self, key: &FeatureKey) -> Option<&Placed<'a>> {
        self.features.iter().find(|placed| placed.plan.spec.key == *key)
    }
}

impl Placed<'_> {
    /// Returns the height of the middle of a field.
    pub fn field_y(&self, position: usize) -> i32 {
        self.y + HEAD + FIELD * i32::try_from(position).unwrap_or(i32::MAX / FIELD) + FIELD / 2
    }
}

/// Returns the height of a feature.
pub fn height(plan: &FeaturePlan) -> i32 {
    HEAD + FIELD * i32::try_from(plan.spec.fields.len()).unwrap_or(i32::MAX / FIELD) + 6
}
