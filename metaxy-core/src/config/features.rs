//! Finds the feature files that a configuration names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use serde_json::Value;

use crate::error::{FileProblem, Result};
use crate::feature_files::FeatureFiles;
use crate::graph::{FeatureGraph, FeatureGraphBuilder};
use crate::registry::{Origin, Origins};
use crate::spec::FeatureSpec;

use super::MetaxyConfig;

/// The field that names feature files.
pub(super) const FIELD: &str = "features";

/// A wildcard matches no hidden file, such as one that an editor leaves behind.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// A pattern of paths, and its origin.
#[derive(Clone, Debug)]
pub(super) struct FilePattern {
    /// The pattern as it was given.
    given: String,
    /// The pattern with the directory to which it is relative; or why there is none.
    full: Result<String, String>,
    origin: Origin,
}

impl FilePattern {
    /// Returns the patterns of a configuration. They are relative to the file that has them; else to a directory.
    pub(super) fn all(given: &[String], origins: &Origins, directory: &Path) -> Vec<Self> {
        let pattern = |(at, given): (usize, &String)| {
            let origin = origins.nearest(&[FIELD.to_owned(), format!("[{at}]")]).cloned().unwrap_or_default();
            let of_file = origin.file.as_deref().map(|file| file.parent().unwrap_or(Path::new("")));
            Self { given: given.clone(), full: absolute(of_file.unwrap_or(directory), given), origin }
        };
        given.iter().enumerate().map(pattern).collect()
    }

    /// Returns the pattern with its directory, for printing.
    pub(super) fn full(&self) -> &str {
        self.full.as_ref().unwrap_or(&self.given)
    }

    /// Returns the files that match; or what is wrong.
    fn files(&self) -> Result<Vec<PathBuf>, String> {
        let wrong = |error: glob::PatternError| format!("`{}` is not a pattern of paths: {}", self.given, error.msg);
        Pattern::new(&self.given).map_err(wrong)?;
        let full = self.full.clone()?;
        let found = glob::glob_with(&full, OPTIONS).map_err(wrong)?;
        let found: Vec<PathBuf> = found.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let is_empty = found.is_empty();
        let files: Vec<PathBuf> = found.into_iter().filter(|path| !path.is_dir()).collect();
        match files.is_empty() {
            false => Ok(files),
            true if is_empty => Err(format!("no file matches `{}`; name files that exist", self.given)),
            true => Err(format!("`{}` matches directories only; name files, as in `features/*.toml`", self.given)),
        }
    }

    fn problem(&self, at: usize, reason: &str) -> FileProblem {
        let variable = self.origin.variable.as_deref();
        let source = variable.map(|name| format!(" (set by the environment variable {name})")).unwrap_or_default();
        FileProblem {
            file: self.origin.file.clone(),
            line: self.origin.line,
            column: None,
            message: format!("`{FIELD}[{at}]`: {reason}{source}"),
        }
    }
}

/// Returns a pattern with the directory to which it is relative.
fn absolute(directory: &Path, pattern: &str) -> Result<String, String> {
    if directory.as_os_str().is_empty() {
        return Ok(pattern.to_owned());
    }
    let Some(directory) = directory.to_str() else {
        return Err(format!("`{pattern}` is relative to {}, whose name is not UTF-8 text", directory.display()));
    };
    let full = Path::new(&Pattern::escape(directory)).join(pattern);
    Ok(full.to_string_lossy().into_owned())
}

impl MetaxyConfig {
    /// Returns the patterns of feature files, with the directories to which they are relative; `None` if the
    /// configuration names no feature files.
    pub fn feature_patterns(&self) -> Option<Vec<&str>> {
        self.fields.features.as_ref()?;
        Some(self.features.iter().map(FilePattern::full).collect())
    }

    /// Finds and reads the feature files, sorted by path. Problems are returned by the methods of [`FeatureFiles`].
    pub fn feature_files(&self) -> FeatureFiles {
        let mut paths: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
        let mut problems = Vec::new();
        for (at, pattern) in self.features.iter().enumerate() {
            match pattern.files() {
                Ok(files) => {
                    for path in files {
                        // A file is read once, even if two patterns match it.
                        paths.entry(path.canonicalize().unwrap_or_else(|_| path.clone())).or_insert(path);
                    }
                }
                Err(reason) => problems.push(pattern.problem(at, &reason)),
            }
        }
        let mut files = FeatureFiles::read(paths.into_values().collect::<BTreeSet<_>>());
        problems.into_iter().for_each(|problem| files.add_problem(problem));
        files
    }

    /// Returns the graph of the features that are defined in the feature files.
    ///
    /// ```
    /// use metaxy_core::MetaxyConfig;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    /// # write("metaxy.toml", "features = ['*.features.toml']");
    /// # let video = "[[feature]]\nkey = 'raw/video'\nid_columns = ['video_id']\nfields = ['audio', 'frames']";
    /// # write("raw.features.toml", video);
    /// # std::env::set_current_dir(&directory).unwrap();
    /// let graph = MetaxyConfig::load()?.graph()?;
    /// assert_eq!(graph.spec("raw/video")?.fields.len(), 2);
    /// # Ok::<(), metaxy_core::Error>(())
    /// ```
    ///
    /// The features of other projects are those of the lock file, if there is one;
    /// [`graph_with`](Self::graph_with) takes them from a store.
    ///
    /// # Errors
    /// [`Error::FeatureFiles`](crate::Error::FeatureFiles) with all problems of all files;
    /// [`Error::Config`](crate::Error::Config) if the configuration names no feature files, or if the lock file cannot be
    /// used.
    pub fn graph(&self) -> Result<FeatureGraph> {
        self.check_names_features()?;
        let files = self.feature_files();
        let builder =
            self.with_externals(&files, self.locked_features()?.into_iter().map(|locked| locked.into_external()));
        files.graph(builder)
    }

    pub(super) fn check_names_features(&self) -> Result<()> {
        if self.fields.features.is_some() {
            return Ok(());
        }
        let origin = Origin { file: self.file.clone(), ..Origin::default() };
        let reason = "the configuration names no feature files; add `features = [\"features/*.toml\"]`";
        Err(origin.error(FIELD, reason))
    }

    /// Returns a builder with the features of other projects. A feature of the files is none of them.
    pub(super) fn with_externals(
        &self,
        files: &FeatureFiles,
        externals: impl Iterator<Item = (FeatureSpec, Value)>,
    ) -> FeatureGraphBuilder {
        let own = files.keys();
        externals.filter(|(spec, _)| !own.contains(&spec.key)).fold(self.graph_builder(), |builder, (spec, schema)| {
            builder.schema(spec.key.clone(), schema).external([spec])
        })
    }
}
