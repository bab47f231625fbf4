//! Lines and columns of positions in a text.

/// Finds the lines and columns of positions in a text.
#[derive(Debug)]
pub(super) struct Positions {
    text: String,
    /// Where each line starts.
    starts: Vec<usize>,
}

impl Positions {
    pub(super) fn of(text: String) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the line and the column, in characters, of a byte; both from 1.
    pub(super) fn line_and_column(&self, at: usize) -> (usize, usize) {
        let at = self.text.floor_char_boundary(at);
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        (line, 1 + self.text.get(start..at).map_or(0, |before| before.chars().count()))
    }

    /// Returns the byte of a line and a column in bytes, both from 1.
    pub(super) fn byte(&self, line: usize, column: usize) -> usize {
        let start = line.checked_sub(1).and_then(|line| self.starts.get(line)).copied().unwrap_or_default();
        (start + column.saturating_sub(1)).min(self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Positions;

    #[test]
    fn columns_count_characters() {
        let positions = Positions::of("a\nüb = 1\n\nc".to_owned());
        let expected = [(0, (1, 1)), (1, (1, 2)), (2, (2, 1)), (4, (2, 2)), (5, (2, 3)), (10, (3, 1)), (11, (4, 1))];
        for (at, place) in expected {
            assert_eq!(positions.line_and_column(at), place, "{at}");
        }
        assert_eq!(positions.line_and_column(100), (4, 2));
        assert_eq!((positions.byte(2, 3), positions.byte(9, 9), positions.byte(0, 0)), (4, 8, 0));
    }
}
