//! Reads dependencies on features.

use indexmap::IndexMap;

use crate::spec::FeatureDep;

use super::super::item::{Item, Value};
use super::super::notes::Notes;
use super::table::{Table, expected, text, texts, truth};
use super::{key, lineage, mapping};

const KEYS: [&str; 8] =
    ["feature", "select", "rename", "fields_mapping", "filters", "sql_filters", "lineage", "optional"];

/// Reads a dependency: a key, or a table with settings. An invalid key is kept for the definition's own rules.
pub(super) fn dep(item: &Item, notes: &mut Notes) -> Option<FeatureDep> {
    let Value::Table(_) = item.value else {
        return key::parts(item, notes).map(FeatureDep::new);
    };
    let table = Table::open(item, "a dependency", &KEYS, notes)?;
    let feature = table.required("feature", "the dependency", notes).and_then(|item| key::parts(item, notes));
    // The settings are read even if the key is not, so that everything wrong with them is noted.
    let mut dep = FeatureDep::new(feature.clone().unwrap_or_default());
    dep.select = table.optional("select", notes, texts);
    dep.rename = table.optional("rename", notes, renames);
    dep.fields_mapping = table.optional("fields_mapping", notes, mapping::mapping).unwrap_or_default();
    dep.filters = filters(&table, notes);
    dep.lineage = table.optional("lineage", notes, lineage::lineage).unwrap_or_default();
    dep.optional = table.optional("optional", notes, truth).unwrap_or_default();
    feature.map(|_| dep)
}

/// Reads the filters, which have a short name and the one of the JSON form.
fn filters(table: &Table<'_>, notes: &mut Notes) -> Option<Vec<String>> {
    let (short, long) = (table.get("filters"), table.get("sql_filters"));
    if let (Some(_), Some(long)) = (short, long) {
        notes.add(long.at, "both `filters` and `sql_filters` are given; write all filters under one of them");
    }
    short.or(long).and_then(|item| texts(item, notes))
}

fn renames(item: &Item, notes: &mut Notes) -> Option<IndexMap<String, String>> {
    let Value::Table(entries) = &item.value else {
        return expected("a table of new names by old ones", item, notes);
    };
    let names = entries.iter().map(|entry| Some((entry.key.clone(), text(&entry.item, notes)?)));
    names.collect::<Vec<_>>().into_iter().collect()
}
