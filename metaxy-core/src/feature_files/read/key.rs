//! Reads keys: `"raw/video"`, or a list of parts.

use crate::key::{FeatureKey, FieldKey, IntoFeatureKey, IntoFieldKey, InvalidKey};

use super::super::item::{Item, Value};
use super::super::notes::Notes;
use super::table::{expected, texts};

/// Reads the parts of a key, which may not be allowed in keys.
pub(super) fn parts(item: &Item, notes: &mut Notes) -> Option<Vec<String>> {
    match &item.value {
        Value::Text(text) => Some(text.split('/').map(str::to_owned).collect()),
        Value::List(_) => texts(item, notes),
        _ => expected("a key", item, notes),
    }
}

/// Reads the key of a feature.
pub(super) fn feature_key(item: &Item, notes: &mut Notes) -> Option<FeatureKey> {
    parts(item, notes).and_then(|parts| valid(parts.into_feature_key(), item.at, notes))
}

/// Reads the key of a field.
pub(super) fn field_key(item: &Item, notes: &mut Notes) -> Option<FieldKey> {
    parts(item, notes).and_then(|parts| valid(parts.into_field_key(), item.at, notes))
}

/// Returns the key, or notes why it is none.
pub(super) fn valid<K>(key: Result<K, InvalidKey>, at: usize, notes: &mut Notes) -> Option<K> {
    key.map_err(|invalid| notes.add(at, invalid.to_string())).ok()
}
