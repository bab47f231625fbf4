//! Problems in files that people write.

use std::fmt;
use std::path::PathBuf;

/// A problem in a file, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// The file; `None` for a setting that no file holds.
    pub file: Option<PathBuf>,
    /// The line, from 1; `None` if the whole file is meant.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong and what to do, on one line.
    pub message: String,
}

/// Shows the problem as `file:line:column: message`.
impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            for number in [self.line, self.column].into_iter().flatten() {
                write!(f, "{number}:")?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.message)
    }
}

/// Shows one problem a line.
pub(super) fn lines(problems: &[FileProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
