//! Filters as text.

use super::values::{literal, type_of};
use super::{AtomDraft, FilterDraft};

impl FilterDraft {
    /// Returns the filter on some of these columns; `None` if there are none.
    pub(super) fn text(&self, columns: &[String]) -> Option<String> {
        let mut text = String::new();
        for (index, atom) in self.atoms.iter().enumerate() {
            let column = columns.get(usize::from(atom.column) % columns.len().max(1))?;
            let negated = if self.shape & (1 << index) != 0 && atom.value % 2 == 0 { "NOT " } else { "" };
            let atom = format!("{negated}{}", atom.text(column));
            let connector = if self.shape & (8 << index) != 0 { "OR" } else { "AND" };
            text = match (index, self.shape & 64 != 0) {
                (0, _) => atom,
                (_, true) => format!("({text}) {connector} {atom}"),
                (_, false) => format!("{text} {connector} {atom}"),
            };
        }
        Some(if self.shape & 128 != 0 { format!("NOT ({text})") } else { text })
    }
}

impl AtomDraft {
    fn text(&self, column: &str) -> String {
        let (one, other) = (literal(column, self.value), literal(column, self.value + 1));
        let is_bool = type_of(column) == "bool";
        match self.operator {
            0 => format!("{column} = {one}"),
            1 => format!("{column} != {one}"),
            2 if is_bool => column.to_owned(),
            3 if is_bool => format!("{column} = TRUE"),
            4 if is_bool => format!("{column} <> FALSE"),
            2 => format!("{column} < {one}"),
            3 => format!("{column} >= {one}"),
            4 => format!("{column} <> {one}"),
            5 => format!("{column} IS NULL"),
            6 => format!("{column} IS NOT NULL"),
            7 => format!("{column} IN ({one}, {other})"),
            8 => format!("{column} NOT IN ({one})"),
            9 => format!("{column} = NULL"),
            10 => format!("{column} != NULL"),
            _ if is_bool => format!("NOT {column}"),
            _ => format!("({column} > {one} OR {column} <= {other})"),
        }
    }
}
