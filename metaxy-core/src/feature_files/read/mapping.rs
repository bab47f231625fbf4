//! Reads mappings of fields: `"all"`, or `{ type = "specific", mapping = { text = ["audio"] } }`.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use crate::key::{FieldKey, IntoFieldKey};
use crate::spec::FieldsMapping;

use super::super::item::{Item, Value};
use super::super::notes::Notes;
use super::key::{field_key, valid};
use super::table::{Table, expected, list, text, truth, unknown};

const WORDS: [&str; 4] = ["default", "specific", "all", "none"];

/// Reads a mapping in its short form, or in the JSON form with its envelope `mapping`.
pub(super) fn mapping(item: &Item, notes: &mut Notes) -> Option<FieldsMapping> {
    if let Value::Text(word) = &item.value {
        return of_kind(word, item, None, notes);
    }
    match item.get("mapping") {
        Some(inner) if item.get("type").is_none() => {
            Table::open(item, "a mapping", &["mapping"], notes)?;
            in_table(inner, notes)
        }
        _ => in_table(item, notes),
    }
}

fn in_table(item: &Item, notes: &mut Notes) -> Option<FieldsMapping> {
    let what = "a mapping: \"default\", \"all\", \"none\", or a table with `type`";
    let table = Table::open(item, what, &["type", "match_suffix", "exclude_fields", "mapping"], notes)?;
    let kind = table.required("type", "the mapping", notes)?;
    of_kind(&text(kind, notes)?, kind, Some(&table), notes)
}

/// Reads the settings of a kind of mapping, from a table if there is one.
fn of_kind(word: &str, kind: &Item, table: Option<&Table<'_>>, notes: &mut Notes) -> Option<FieldsMapping> {
    let get = |key| table.and_then(|table| table.get(key));
    let settings: &[&str] = match word {
        "default" => &["match_suffix", "exclude_fields"],
        "specific" => &["mapping"],
        _ => &[],
    };
    for key in ["match_suffix", "exclude_fields", "mapping"].into_iter().filter(|key| !settings.contains(key)) {
        if let Some(item) = get(key).filter(|_| WORDS.contains(&word)) {
            notes.add(item.at, format!("a mapping of type `{word}` has no `{key}`; leave it out"));
        }
    }
    match word {
        "default" => {
            let match_suffix = get("match_suffix").and_then(|item| truth(item, notes)).unwrap_or_default();
            let excluded = |item| list("an array of field keys", item, notes, field_key);
            Some(FieldsMapping::Default {
                match_suffix,
                exclude_fields: get("exclude_fields").and_then(excluded).unwrap_or_default(),
            })
        }
        "specific" => match get("mapping") {
            Some(item) => specific(item, notes).map(FieldsMapping::Specific),
            None => notes.refuse(kind.at, "a mapping of type `specific` lists upstream fields by field; add `mapping`"),
        },
        "all" => Some(FieldsMapping::All),
        "none" => Some(FieldsMapping::None),
        other => notes.refuse(kind.at, unknown("unknown mapping", other, &WORDS, "use one of")),
    }
}

fn specific(item: &Item, notes: &mut Notes) -> Option<IndexMap<FieldKey, BTreeSet<FieldKey>>> {
    let Value::Table(entries) = &item.value else {
        return expected("a table of upstream fields by field", item, notes);
    };
    let read = entries.iter().map(|entry| {
        let key = valid(entry.key.as_str().into_field_key(), entry.at, notes);
        let fields = list("an array of field keys", &entry.item, notes, field_key);
        key.zip(fields.map(BTreeSet::from_iter))
    });
    read.collect::<Vec<_>>().into_iter().collect()
}
