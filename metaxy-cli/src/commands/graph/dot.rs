//! The graph as a digraph of Graphviz.

use std::fmt::Write as _;

use super::Part;

/// Returns the digraph.
pub fn text(part: &Part<'_>) -> String {
    let mut text = "digraph features {\n    rankdir=LR;\n    node [shape=box];\n".to_owned();
    for plan in &part.features {
        let key = &plan.spec.key;
        if part.fields {
            let _ = writeln!(text, "    subgraph \"cluster_{key}\" {{\n        label=\"{key}\";");
            for field in &plan.spec.fields {
                let _ = writeln!(text, "        \"{key}.{field}\" [label=\"{field}\"];", field = field.key());
            }
            text.push_str("    }\n");
        } else {
            let _ = writeln!(text, "    \"{key}\";");
        }
    }
    for (from, to) in part.edges() {
        if !part.fields {
            let _ = writeln!(text, "    \"{from}\" -> \"{to}\";");
            continue;
        }
        for (from, to) in part.field_edges(from, to) {
            let _ = writeln!(text, "    \"{from}\" -> \"{to}\";");
        }
    }
    text.push_str("}\n");
    text
}
