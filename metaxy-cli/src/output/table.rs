//! Tables for people.

use comfy_table::{ContentArrangement, Table as Grid, presets};

use super::Table;

/// Returns a table as text.
pub fn text(table: &Table) -> String {
    if table.rows.is_empty() {
        super::note("nothing to show");
        return String::new();
    }
    let mut grid = Grid::new();
    grid.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    grid.set_header(table.header.iter().map(|name| name.replace('_', " ").to_uppercase()));
    grid.add_rows(table.rows.iter().map(|row| row.iter().map(|text| printable(text))));
    for column in grid.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = grid.to_string();
    lines.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Returns a text without control characters, which could change what a terminal shows.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}
