//! The graph as a flowchart of Mermaid.

use std::fmt::Write as _;

use metaxy_core::FeatureKey;

use super::Part;

/// Returns the flowchart.
pub fn text(part: &Part<'_>) -> String {
    let mut text = "flowchart LR\n".to_owned();
    for plan in &part.features {
        let key = &plan.spec.key;
        if part.fields {
            let _ = writeln!(text, "    subgraph {}[\"{key}\"]", id(key));
            for field in &plan.spec.fields {
                let _ = writeln!(text, "        {}[\"{}\"]", field_id(&format!("{key}.{}", field.key())), field.key());
            }
            text.push_str("    end\n");
        } else {
            let _ = writeln!(text, "    {}[\"{key}\"]", id(key));
        }
    }
    for (from, to) in part.edges() {
        if !part.fields {
            let _ = writeln!(text, "    {} --> {}", id(from), id(to));
            continue;
        }
        for (from, to) in part.field_edges(from, to) {
            let _ = writeln!(text, "    {} --> {}", field_id(&from), field_id(&to));
        }
    }
    text
}

/// Returns the id of a feature; different features have different ones, because no part of a key has two `_` in a row.
fn id(key: &FeatureKey) -> String {
    key.parts().join("__")
}

/// Returns the id of a field, `feature.field`.
fn field_id(name: &str) -> String {
    name.replace('/', "__").replace('.', "___")
}
