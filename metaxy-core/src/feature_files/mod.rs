//! Feature files: definitions of features in TOML and JSON.
//!
//! `metaxy.toml` names the files, and [`MetaxyConfig::graph`](crate::MetaxyConfig::graph) returns their graph (see
//! [`config`](crate::config)). A file looks like this:
//!
//! ```toml
//! [[feature]]
//! key = "raw/video"
//! id_columns = ["video_id"]
//! fields = ["audio", "frames"]
//!
//! [[feature]]
//! key = "processed/transcript"
//! description = "What is said in a video"
//! id_columns = ["video_id"]
//! deps = ["raw/video", { feature = "raw/subtitles", optional = true, select = ["language"] }]
//! fields = [{ key = "text", code_version = "2", deps = ["raw/video.audio"] }, "language"]
//! metadata.owner = "speech"
//!
//! [[feature]]
//! key = "raw/subtitles"
//! id_columns = ["video_id"]
//! ```
//!
//! | key of a feature | value | default |
//! |---|---|---|
//! | `key` | `"raw/video"`, or a list of its parts | |
//! | `id_columns` | the columns that identify a sample | |
//! | `deps` | the dependencies: keys, or tables (see below) | none: a root |
//! | `fields` | the fields: keys, or tables (see below) | `["default"]` |
//! | `metadata` | a table of your own | empty |
//! | `description` | a text for people | none |
//! | `external` | another project owns the feature: what another version in the store is, `"warn"` or `"error"` | the feature is this project's own |
//!
//! | key of a dependency | value | default |
//! |---|---|---|
//! | `feature` | the key of the upstream feature | |
//! | `optional` | whether a sample exists without a row of the dependency | `false` |
//! | `rename` | new names of columns by old ones; all else uses the new ones: `{ path = "video_path" }` | none |
//! | `filters` | filters on upstream rows, all of which must be true: `["duration > 3"]` | none |
//! | `select` | the selected columns; `[]` for those that are needed | all |
//! | `lineage` | how samples relate to upstream samples (see below) | `"1:1"` |
//! | `fields_mapping` | the upstream fields of fields without `deps` (see below) | `"default"` |
//!
//! | key of a field | value | default |
//! |---|---|---|
//! | `key` | `"audio"`, `"audio/english"`, or a list of its parts | |
//! | `code_version` | a text that changes with the code that makes the field | the initial version |
//! | `deps` | the upstream fields (see below) | those of `fields_mapping` |
//!
//! - **`deps` of a field** lists `"raw/video.audio"`, `"raw/video"` for all of its fields, or
//!   `{ feature = "raw/video", fields = ["audio", "frames"] }`; `deps = "all"` stands for every field of every
//!   dependency.
//! - **`lineage`** is `"1:1"`, `"N:1"` (grouped by the feature's id columns), `{ type = "N:1", on = ["video_id"] }` or
//!   `{ type = "1:N", on = ["video_id"] }`; see [`Lineage`](crate::Lineage).
//! - **`fields_mapping`** is `"default"`, `"all"`, `"none"`,
//!   `{ type = "default", match_suffix = true, exclude_fields = ["logo"] }` or
//!   `{ type = "specific", mapping = { text = ["audio"] } }`; see [`FieldsMapping`](crate::FieldsMapping).
//! - **JSON files** have the same keys: an object with the list `feature` (or `features`), or a list of features. What
//!   [`FeatureSpec::to_json`] and the Python package write is read too, with their longer forms of `lineage`,
//!   `fields_mapping` and `deps`, and `sql_filters` for `filters`. `null` stands for a key that is left out.
//! - **One feature** may also be a file of its own, without `[[feature]]`.
//! - **The version of a feature** does not depend on the form in which it is written. Its definition version does where
//!   forms differ in their JSON form: two `deps` of a field that name one feature, in place of one with two fields.
//! - **Problems** are reported all at once ([`Error::FeatureFiles`]): one line each, as `file:line:column: message`.
//!   Unknown keys are problems.
//!
//! A program that does not use `metaxy.toml` reads files itself:
//!
//! ```
//! use metaxy_core::{FeatureFiles, FeatureGraph};
//! let text = "[[feature]]\nkey = 'raw/video'\nid_columns = ['video_id']\nfields = ['audio', 'frames']";
//! let graph = FeatureFiles::parse("video.toml", text).graph(FeatureGraph::builder())?;
//! assert_eq!(graph.spec("raw/video")?.fields.len(), 2);
//!
//! let misspelled = FeatureFiles::parse("video.toml", &text.replace("id_columns", "id_column"));
//! let error = misspelled.graph(FeatureGraph::builder()).unwrap_err().to_string();
//! assert!(error.starts_with("video.toml:3:1: unknown key `id_column`; did you mean `id_columns`?"));
//! # Ok::<(), metaxy_core::Error>(())
//! ```

mod graph;
mod item;
mod json;
mod notes;
mod position;
mod read;
mod toml;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::error::{Error, FileProblem, Result};
use crate::key::FeatureKey;
use crate::spec::FeatureSpec;
use crate::text_file;

use item::Item;
use notes::{Note, Notes};
use position::Positions;
use read::FeatureItem;
pub(crate) use read::OtherVersion;

/// The features that are defined in files, and the problems of the files.
///
/// Reading does not fail: the problems are returned by the methods that need what could not be read.
#[derive(Debug, Default)]
pub struct FeatureFiles {
    files: Vec<File>,
    /// Problems that no line of these files has: files that cannot be read, patterns that match nothing.
    elsewhere: Vec<FileProblem>,
}

/// A file with the features in it.
#[derive(Debug)]
struct File {
    path: PathBuf,
    positions: Positions,
    features: Vec<FeatureItem>,
    /// What is wrong with the file on its own.
    notes: Vec<Note>,
    /// Whether its features are known, sound or not.
    is_parsed: bool,
}

impl FeatureFiles {
    /// Reads files whose names end in `.toml` or `.json`.
    pub fn read<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        let mut files = Self::default();
        for path in paths {
            let path = path.into();
            match text_file::read(&path) {
                Ok(text) => files.files.push(File::parse(path, text)),
                Err(reason) => files.add_problem(whole_file(path, format!("the file cannot be read: {reason}"))),
            }
        }
        files
    }

    /// Parses a text as the file of a path, which is not read.
    pub fn parse(path: impl Into<PathBuf>, text: &str) -> Self {
        Self { files: vec![File::parse(path.into(), text.to_owned())], elsewhere: Vec::new() }
    }

    /// Adds the features, and the problems, of other files.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.files.extend(other.files);
        self.elsewhere.extend(other.elsewhere);
        self
    }

    /// Adds a problem of something other than the files.
    pub(crate) fn add_problem(&mut self, problem: FileProblem) {
        self.elsewhere.push(problem);
    }

    /// Returns the paths of the files that were read.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// Returns the definitions, in the order of the files. What they depend on is not checked.
    ///
    /// # Errors
    /// [`Error::FeatureFiles`] with all problems that the files have on their own.
    pub fn specs(&self) -> Result<Vec<&FeatureSpec>> {
        let problems = self.problems(Vec::new());
        if !problems.is_empty() {
            return Err(Error::FeatureFiles { problems });
        }
        Ok(self.features().filter_map(|(_, _, feature)| feature.spec.as_ref()).collect())
    }

    /// Returns the keys of the features, sound or not.
    pub(crate) fn keys(&self) -> BTreeSet<FeatureKey> {
        self.features().map(|(key, ..)| key.clone()).collect()
    }

    /// Returns the features that another project owns.
    pub(crate) fn externals(&self) -> BTreeMap<FeatureKey, OtherVersion> {
        self.features().filter_map(|(key, _, feature)| Some((key.clone(), feature.external?))).collect()
    }

    /// Leaves out the features with these keys that another project owns.
    pub(crate) fn without_externals(mut self, keys: &BTreeSet<FeatureKey>) -> Self {
        let stays = |feature: &FeatureItem| {
            feature.external.is_none() || feature.key.as_ref().is_none_or(|key| !keys.contains(key))
        };
        self.files.iter_mut().for_each(|file| file.features.retain(stays));
        self
    }

    /// Returns the keys on which the features depend, and which the files do not have.
    pub(crate) fn missing(&self) -> BTreeSet<FeatureKey> {
        let own = self.keys();
        let specs = self.features().filter_map(|(_, _, feature)| feature.spec.as_ref());
        let deps = specs.flat_map(|spec| &spec.deps).filter(|dep| dep.has_valid_key()).map(|dep| dep.feature());
        deps.filter(|key| !own.contains(key)).cloned().collect()
    }

    /// Returns the file, the line and the column in which a feature is defined.
    pub fn place(&self, feature: &FeatureKey) -> Option<(&Path, usize, usize)> {
        let (file, feature) = *self.by_key().get(feature)?;
        let (line, column) = file.positions.line_and_column(feature.at());
        Some((&file.path, line, column))
    }

    /// Returns the features whose keys could be read.
    fn features(&self) -> impl Iterator<Item = (&FeatureKey, &File, &FeatureItem)> {
        let items = self.files.iter().flat_map(|file| file.features.iter().map(move |item| (file, item)));
        items.filter_map(|(file, item)| Some((item.key.as_ref()?, file, item)))
    }

    /// Returns the first definition of each key.
    fn by_key(&self) -> BTreeMap<&FeatureKey, (&File, &FeatureItem)> {
        let mut first = BTreeMap::new();
        for (key, file, feature) in self.features() {
            first.entry(key).or_insert((file, feature));
        }
        first
    }

    /// Returns all problems in the order of their places: those of the files on their own, and others.
    fn problems(&self, others: Vec<FileProblem>) -> Vec<FileProblem> {
        let own = self.files.iter().flat_map(|file| file.notes.iter().map(|note| file.problem(note.at, &note.message)));
        let mut all: Vec<FileProblem> =
            self.elsewhere.iter().cloned().chain(own).chain(self.duplicates()).chain(others).collect();
        all.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        all
    }

    /// Returns the problems of features that are defined twice, at the later definition.
    fn duplicates(&self) -> Vec<FileProblem> {
        let first = self.by_key();
        let twice = self.features().filter_map(|(key, file, feature)| {
            let (first_file, first) = first.get(key).filter(|(_, first)| !std::ptr::eq(*first, feature))?;
            let (line, column) = first_file.positions.line_and_column(first.at());
            let message = format!(
                "feature `{key}` is defined twice, the first time in {}:{line}:{column}; give one of the two another key",
                first_file.path.display(),
            );
            Some(file.problem(feature.at(), &message))
        });
        twice.collect()
    }
}

impl File {
    fn parse(path: PathBuf, text: String) -> Self {
        let (positions, mut notes) = (Positions::of(text), Notes::default());
        let root = root(&path, &positions, &mut notes);
        let is_parsed = root.is_some();
        let features = root.map(|root| read::features(root, &mut notes)).unwrap_or_default();
        Self { path, positions, features, notes: notes.into_notes(), is_parsed }.with_faults()
    }

    /// Adds the faults that the definitions have on their own.
    fn with_faults(mut self) -> Self {
        for feature in &mut self.features {
            let faults = feature.spec.as_ref().map(FeatureSpec::faults).unwrap_or_default();
            feature.is_sound &= faults.is_empty();
            let item = &feature.item;
            self.notes.extend(
                faults.iter().map(|fault| Note { at: item.locate(&fault.part), message: graph::message(&fault.error) }),
            );
        }
        self
    }

    fn problem(&self, at: usize, message: &str) -> FileProblem {
        let (line, column) = self.positions.line_and_column(at);
        FileProblem {
            file: Some(self.path.clone()),
            line: Some(line),
            column: Some(column),
            message: on_one_line(message),
        }
    }
}

/// Parses a text in the format that the name of its file tells.
fn root(path: &Path, positions: &Positions, notes: &mut Notes) -> Option<Item> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml::parse(positions.text(), notes),
        Some("json") => json::parse(positions, notes),
        _ => notes.refuse(0, "the name of a feature file ends in `.toml` or `.json`; rename it"),
    }
}

/// Escapes the control characters of a message, which may quote names of any characters.
fn on_one_line(message: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    message.chars().map(escape).collect()
}

/// Returns the problem of a whole file.
fn whole_file(path: PathBuf, message: String) -> FileProblem {
    FileProblem { file: Some(path), line: None, column: None, message }
}
