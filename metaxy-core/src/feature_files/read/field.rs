//! Reads fields.

use crate::key::{FieldKey, IntoFeatureKey, IntoFieldKey};
use crate::spec::{FieldDep, FieldDeps, FieldSelection, FieldSpec};

use super::super::item::{Item, Value};
use super::super::notes::Notes;
use super::key::{self, feature_key, field_key, valid};
use super::table::{Table, expected, list, text};

/// The words that mean "all": one for people, and that of the JSON form.
const ALL: [&str; 2] = ["all", "__METAXY_ALL_DEP__"];

/// Reads a field: a key, or a table with settings. An invalid key is kept for the definition's own rules.
pub(super) fn field(item: &Item, notes: &mut Notes) -> Option<FieldSpec> {
    let Value::Table(_) = item.value else {
        return key::parts(item, notes).map(FieldSpec::new);
    };
    let table = Table::open(item, "a field", &["key", "code_version", "deps"], notes)?;
    let key = table.required("key", "the field", notes).and_then(|item| key::parts(item, notes));
    let code_version = table.optional("code_version", notes, text);
    let deps = table.optional("deps", notes, field_deps).unwrap_or_default();
    let mut field = FieldSpec::new(key?);
    field.deps = deps;
    if let Some(version) = code_version {
        field.code_version = version;
    }
    Some(field)
}

fn field_deps(item: &Item, notes: &mut Notes) -> Option<FieldDeps> {
    if is_all(item) {
        return Some(FieldDeps::All);
    }
    list("an array of upstream fields, or \"all\"", item, notes, field_dep).map(FieldDeps::Listed)
}

fn is_all(item: &Item) -> bool {
    matches!(&item.value, Value::Text(word) if ALL.contains(&word.as_str()))
}

/// Reads upstream fields: `"raw/video.audio"`, `"raw/video"` for all of its fields, or a table.
fn field_dep(item: &Item, notes: &mut Notes) -> Option<FieldDep> {
    match &item.value {
        Value::Text(text) => short_dep(text, item.at, notes),
        Value::Table(_) => {
            let table = Table::open(item, "upstream fields", &["feature", "fields"], notes)?;
            let feature = table.required("feature", "the dependency", notes).and_then(|item| feature_key(item, notes));
            let fields = table.get("fields").map_or(Some(FieldSelection::All), |item| selection(item, notes));
            feature.zip(fields).map(|(feature, fields)| FieldDep { feature, fields })
        }
        _ => expected("\"feature.field\", \"feature\", or a table with `feature` and `fields`", item, notes),
    }
}

fn short_dep(text: &str, at: usize, notes: &mut Notes) -> Option<FieldDep> {
    let (feature, field) = text.split_once('.').map_or((text, None), |(feature, field)| (feature, Some(field)));
    let feature = valid(feature.into_feature_key(), at, notes);
    let field: Option<Option<FieldKey>> = match field {
        Some(field) => valid(field.into_field_key(), at, notes).map(Some),
        None => Some(None),
    };
    let fields = field?.map_or(FieldSelection::All, |field| FieldSelection::Only(vec![field]));
    Some(FieldDep { feature: feature?, fields })
}

fn selection(item: &Item, notes: &mut Notes) -> Option<FieldSelection> {
    if is_all(item) {
        return Some(FieldSelection::All);
    }
    list("an array of field keys, or \"all\"", item, notes, field_key).map(FieldSelection::Only)
}
