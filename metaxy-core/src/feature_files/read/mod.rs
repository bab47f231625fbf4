//! Reads definitions from the values of a file.

mod dep;
mod field;
mod key;
mod lineage;
mod mapping;
mod metadata;
mod table;

use crate::key::FeatureKey;
use crate::spec::{FeatureSpec, FieldSpec};

use super::item::{Entry, Item, Value};
use super::notes::Notes;

use table::{Table, list, text, texts};

/// The keys of a file with several features.
const FILE_KEYS: [&str; 2] = ["feature", "features"];

const FEATURE_KEYS: [&str; 7] = ["key", "id_columns", "deps", "fields", "metadata", "description", "external"];

/// What messages call a feature whose key cannot be read.
const UNNAMED: &str = "unnamed";

/// What it means that the store has another version of a feature than a file defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherVersion {
    /// It is told.
    Warning,
    Error,
}

/// A feature as far as it could be read.
#[derive(Debug)]
pub(super) struct FeatureItem {
    /// The key; none if it cannot be read, which is noted.
    pub(super) key: Option<FeatureKey>,
    /// The definition, unless a part without which it means nothing is missing.
    pub(super) spec: Option<FeatureSpec>,
    /// What another version in the store means, if another project owns the feature.
    pub(super) external: Option<OtherVersion>,
    /// Whether nothing is wrong with what was read.
    pub(super) is_sound: bool,
    /// What the file has.
    pub(super) item: Item,
}

impl FeatureItem {
    /// Returns the position that stands for the feature: that of its key.
    pub(super) fn at(&self) -> usize {
        self.item.locate(&["key".into()])
    }
}

/// Reads the features of a file.
pub(super) fn features(root: Item, notes: &mut Notes) -> Vec<FeatureItem> {
    feature_items(root, notes).into_iter().filter_map(|item| feature(item, notes)).collect()
}

/// Returns the values that define a feature each: the tables of `[[feature]]`, the items of a list, or the whole file.
fn feature_items(root: Item, notes: &mut Notes) -> Vec<Item> {
    let is_one_feature = root.get("key").is_some() && FILE_KEYS.iter().all(|key| root.get(key).is_none());
    let Value::Table(_) = &root.value else { return items_of(root) };
    if is_one_feature {
        return vec![root];
    }
    if Table::open(&root, "features", &FILE_KEYS, notes).is_none() {
        return Vec::new();
    }
    let Value::Table(entries) = root.value else { return Vec::new() };
    let entries: Vec<Entry> = entries.into_iter().filter(|entry| FILE_KEYS.contains(&entry.key.as_str())).collect();
    if let [_, second, ..] = entries.as_slice() {
        notes.add(second.at, "both `feature` and `features` are given; write all features under one of them");
    }
    entries.into_iter().flat_map(|entry| items_of(entry.item)).collect()
}

fn items_of(item: Item) -> Vec<Item> {
    match item.value {
        Value::List(items) => items,
        _ => vec![item],
    }
}

fn feature(item: Item, notes: &mut Notes) -> Option<FeatureItem> {
    let before = notes.count();
    let table = Table::open(&item, "a table that defines a feature", &FEATURE_KEYS, notes)?;
    let key = table.required("key", "the feature", notes).and_then(|item| key::feature_key(item, notes));
    // A missing list is an empty one, which the definition's own rules refuse.
    let no_columns = || (!table.is_misspelled("id_columns")).then(Vec::new);
    let id_columns = table.get("id_columns").map_or_else(no_columns, |item| texts(item, notes));
    let deps = table
        .get("deps")
        .map_or_else(|| Some(Vec::new()), |item| list("an array of dependencies", item, notes, dep::dep));
    let fields = table.get("fields").map_or_else(
        || Some(vec![FieldSpec::new("default")]),
        |item| list("an array of fields", item, notes, field::field),
    );
    let metadata = table.optional("metadata", notes, metadata::metadata).unwrap_or_default();
    let description = table.optional("description", notes, text);
    let external = table.optional("external", notes, other_version);
    // Without its key a definition still has rules to keep.
    let named = key.clone().or_else(|| FeatureKey::from_parts([UNNAMED]).ok())?;
    let spec = id_columns.zip(deps).zip(fields).map(|((id_columns, deps), fields)| FeatureSpec {
        key: named,
        id_columns,
        deps,
        fields,
        metadata,
        description,
    });
    Some(FeatureItem { key, spec, external, is_sound: notes.count() == before, item })
}

fn other_version(item: &Item, notes: &mut Notes) -> Option<OtherVersion> {
    match &item.value {
        Value::Text(text) if text == "warn" => Some(OtherVersion::Warning),
        Value::Text(text) if text == "error" => Some(OtherVersion::Error),
        Value::Text(text) => notes.refuse(item.at, format!("`{text}` is neither `warn` nor `error`")),
        _ => table::expected("`\"warn\"` or `\"error\"`", item, notes),
    }
}
