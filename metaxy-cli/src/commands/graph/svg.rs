//! The graph as a drawing, with an edge for each pair of fields.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::commands::status::Feature;

use super::Part;
use super::layout::{FIELD, Layout, Placed, WIDTH, height};

/// The state of each feature, if it was asked for.
pub type States = BTreeMap<String, Feature>;

const STYLE: &str = include_str!("drawing.css");

/// Returns the drawing as a file of its own.
pub fn file(part: &Part<'_>, states: &States) -> String {
    let drawing = drawing(part, states);
    drawing.replacen('>', &format!(" xmlns=\"http://www.w3.org/2000/svg\"><style>{STYLE}</style>"), 1)
}

/// Returns the drawing, to be put into a page.
pub fn drawing(part: &Part<'_>, states: &States) -> String {
    let layout = Layout::of(part);
    let (width, height) = (layout.width, layout.height);
    let mut text = format!(
        "<svg class=\"graph\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"Features and what they are made from\">\n"
    );
    for placed in &layout.features {
        add_edges(&mut text, &layout, placed);
    }
    for placed in &layout.features {
        add_feature(&mut text, placed, states.get(&placed.plan.spec.key.to_string()));
    }
    text.push_str("</svg>\n");
    text
}

fn add_edges(text: &mut String, layout: &Layout<'_>, to: &Placed<'_>) {
    for (position, (field, parents)) in to.plan.spec.fields.iter().zip(&to.plan.parents).enumerate() {
        for parent in parents {
            let Some(from) = layout.place(&parent.feature) else { continue };
            let Some(above) = from.plan.spec.fields.iter().position(|one| *one.key() == parent.field) else { continue };
            let (x1, y1, x2, y2) = (from.x + WIDTH, from.field_y(above), to.x, to.field_y(position));
            let bend = (x2 - x1) / 2;
            let _ = writeln!(
                text,
                "<path class=\"edge\" data-from=\"{parent}\" data-to=\"{}.{}\" d=\"M{x1} {y1} C{} {y1} {} {y2} {x2} \
                 {y2}\"/>",
                to.plan.spec.key,
                field.key(),
                x1 + bend,
                x2 - bend,
            );
        }
    }
}

fn add_feature(text: &mut String, placed: &Placed<'_>, state: Option<&Feature>) {
    let Placed { plan, x, y } = placed;
    let key = &plan.spec.key;
    let class = state.map_or("unknown", Feature::color);
    let about = escaped(plan.spec.description.as_deref().unwrap_or_default());
    let _ = writeln!(text, "<g class=\"feature {class}\" data-feature=\"{key}\"><title>{key}: {about}</title>");
    let _ = writeln!(
        text,
        "<rect class=\"box\" x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{}\" rx=\"6\"/>\
         <rect class=\"mark\" x=\"{x}\" y=\"{y}\" width=\"5\" height=\"{}\" rx=\"2\"/>",
        height(plan),
        height(plan),
    );
    let line = state.map_or_else(|| format!("version {}", plan.feature_version), Feature::line);
    let _ = writeln!(
        text,
        "<text class=\"name\" x=\"{}\" y=\"{}\">{}</text><text class=\"state\" x=\"{}\" y=\"{}\">{}</text>",
        x + 14,
        y + 21,
        shortened(&key.to_string(), 30),
        x + 14,
        y + 39,
        escaped(&shortened(&line, 36)),
    );
    for (position, field) in plan.spec.fields.iter().enumerate() {
        let middle = placed.field_y(position);
        let _ = writeln!(
            text,
            "<g class=\"field\" id=\"{key}.{field}\" tabindex=\"0\" role=\"button\"><rect x=\"{}\" y=\"{}\" \
             width=\"{}\" height=\"{FIELD}\" rx=\"4\"/><text x=\"{}\" y=\"{}\">{}</text></g>",
            x + 8,
            middle - FIELD / 2,
            WIDTH - 14,
            x + 18,
            middle + 4,
            shortened(&field.key().to_string(), 28),
            field = field.key(),
        );
    }
    text.push_str("</g>\n");
}

fn shortened(text: &str, length: usize) -> String {
    match text.chars().count() > length {
        true => text.chars().take(length - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// Returns a text as it stands in XML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
