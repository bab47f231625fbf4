//! Reads configuration files, and the files that they extend.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::registry::Origin;
use crate::text_file;

use super::document::Node;
use super::ext;
use super::variables::{self, Environment};

pub(super) const PYPROJECT: &str = "pyproject.toml";

/// The maximum number of files in a chain.
const MAX_FILES: usize = 100;

/// Reads the settings of a file; of a `pyproject.toml` those of `[tool.metaxy]`, if there are any.
pub(super) fn read_file(path: &Path) -> Result<Option<Node>> {
    let text = text_file::read(path).map_err(|reason| unreadable(path, &reason))?;
    let mut root = Node::parse(&text, Some(path))?;
    if !path.ends_with(PYPROJECT) {
        ext::lift(&mut root)?;
        return Ok(Some(root));
    }
    let Some(section) = root.get("tool").and_then(|tool| tool.get("metaxy")) else { return Ok(None) };
    match section.as_table() {
        Some(table) if table.is_empty() => Ok(None),
        Some(_) => {
            let mut section = section.clone();
            ext::lift(&mut section)?;
            Ok(Some(section))
        }
        None => Err(section.error(&["tool", "metaxy"], format!("expected a table, found {}", section.describe()))),
    }
}

fn unreadable(path: &Path, reason: &str) -> Error {
    let origin = Origin { file: Some(path.to_owned()), ..Origin::default() };
    origin.error("", format!("the file cannot be read: {reason}"))
}

/// Reads a file, and merges it into the files that it extends.
pub(super) fn load(path: &Path, environment: &Environment) -> Result<Node> {
    let nothing = || Node::table(Origin { file: Some(path.to_owned()), ..Origin::default() });
    let node = read_file(path)?.unwrap_or_else(nothing);
    let chain = Chain { files: vec![path.to_owned()], seen: HashSet::from([real(path)]) };
    chain.resolve(node, parent(path).to_owned(), environment)
}

/// Parses a text, and merges it into the files that it extends, which are relative to a directory.
pub(super) fn load_text(text: &str, directory: &Path, environment: &Environment) -> Result<Node> {
    let mut node = Node::parse(text, None)?;
    ext::lift(&mut node)?;
    Chain::default().resolve(node, directory.to_owned(), environment)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Returns the real path of a file, with links resolved.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// A chain of files that extend each other.
#[derive(Default)]
struct Chain {
    files: Vec<PathBuf>,
    /// The same files, by their real paths.
    seen: HashSet<PathBuf>,
}

impl Chain {
    /// Merges settings into those that they extend, which are relative to a directory.
    fn resolve(mut self, mut node: Node, mut directory: PathBuf, environment: &Environment) -> Result<Node> {
        let mut layers = Vec::new();
        while let Some(extend) = node.as_table_mut().and_then(|table| table.shift_remove("extend")) {
            let path = directory.join(extended_path(&extend, environment)?);
            let base = self.follow(&path).map_err(|error| error.of(&extend))?;
            directory = parent(&path).to_owned();
            layers.push(std::mem::replace(&mut node, base));
        }
        while let Some(layer) = layers.pop() {
            node.extend_with(layer);
        }
        Ok(node)
    }

    /// Reads the settings of the next file.
    fn follow(&mut self, path: &Path) -> Result<Node, Refusal> {
        if self.files.len() >= MAX_FILES {
            return Err(Refusal::TooLong);
        }
        if !self.seen.insert(real(path)) {
            return Err(Refusal::Reason(self.cycle(path)));
        }
        if !path.exists() {
            return Err(Refusal::Reason(format!("{} does not exist", path.display())));
        }
        self.files.push(path.to_owned());
        read_file(path)?.ok_or_else(|| Refusal::Reason(format!("{} has no [tool.metaxy]", path.display())))
    }

    fn cycle(&self, path: &Path) -> String {
        let start = self.files.iter().position(|file| real(file) == real(path)).unwrap_or_default();
        let files = self.files[start..].iter().map(PathBuf::as_path).chain([path]);
        let files: Vec<String> = files.map(|file| file.display().to_string()).collect();
        format!("the files extend each other in a cycle: {}", files.join(" -> "))
    }
}

/// The reason why a file cannot be extended.
enum Refusal {
    TooLong,
    Reason(String),
    Of(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Of(error)
    }
}

impl Refusal {
    /// Returns the error of the setting that names the file.
    fn of(self, extend: &Node) -> Error {
        match self {
            Self::Of(error) => error,
            Self::Reason(reason) => extend.error(&["extend"], reason),
            Self::TooLong => Error::LimitExceeded {
                what: format!(
                    "the chain of files that extend each other ({})",
                    extend.error(&["extend"], "the next one")
                ),
                limit: format!("{MAX_FILES} files"),
                hint: "put the settings of several of them into one file".to_owned(),
            },
        }
    }
}

fn extended_path(extend: &Node, environment: &Environment) -> Result<PathBuf> {
    let Some(text) = extend.as_str() else {
        return Err(extend.error(&["extend"], format!("expected the path of a file, found {}", extend.describe())));
    };
    variables::expand_text(text, environment).map(PathBuf::from).map_err(|reason| extend.error(&["extend"], reason))
}
