//! Reads lineages: `"N:1"`, or `{ type = "N:1", on = [...] }`.

use crate::spec::Lineage;

use super::super::item::{Item, Value};
use super::super::notes::Notes;
use super::table::{Table, text, texts, unknown};

/// The kinds of lineage, by the word of the JSON form and by the one that people use.
const WORDS: [&str; 6] = ["1:1", "N:1", "1:N", "identity", "aggregation", "expansion"];

/// Reads a lineage in its short form, or in the JSON form with its envelope `relationship`.
pub(super) fn lineage(item: &Item, notes: &mut Notes) -> Option<Lineage> {
    if let Value::Text(word) = &item.value {
        return of_kind(word, item, None, notes);
    }
    if let Some(inner) = item.get("relationship") {
        Table::open(item, "a lineage", &["relationship"], notes)?;
        return in_table(inner, notes);
    }
    in_table(item, notes)
}

fn in_table(item: &Item, notes: &mut Notes) -> Option<Lineage> {
    let what = "a lineage: \"1:1\", \"N:1\", \"1:N\", or a table with `type` and `on`";
    let table = Table::open(item, what, &["type", "on", "id_generation_pattern"], notes)?;
    let kind = table.required("type", "the lineage", notes)?;
    of_kind(&text(kind, notes)?, kind, Some(&table), notes)
}

/// Reads the settings of a kind of lineage, from a table if there is one.
fn of_kind(word: &str, kind: &Item, table: Option<&Table<'_>>, notes: &mut Notes) -> Option<Lineage> {
    let get = |key: &str| table.and_then(|table| table.get(key));
    let settings: &[&str] = match word {
        "1:1" | "identity" => &[],
        "N:1" | "aggregation" => &["on"],
        _ => &["on", "id_generation_pattern"],
    };
    for key in ["on", "id_generation_pattern"].into_iter().filter(|key| !settings.contains(key)) {
        if let Some(item) = get(key) {
            notes.add(item.at, format!("a lineage of type `{word}` has no `{key}`; leave it out"));
        }
    }
    match word {
        "1:1" | "identity" => Some(Lineage::Identity),
        "N:1" | "aggregation" => {
            let on = get("on").map_or(Some(None), |item| texts(item, notes).map(Some))?;
            Some(Lineage::Aggregation { on })
        }
        "1:N" | "expansion" => {
            let Some(on) = get("on") else {
                let message = "a lineage of type `1:N` names the columns of the parent: { type = \"1:N\", on = [...] }";
                return notes.refuse(kind.at, message);
            };
            let on = texts(on, notes);
            let id_generation_pattern = get("id_generation_pattern").and_then(|item| text(item, notes));
            Some(Lineage::Expansion { on: on?, id_generation_pattern })
        }
        other => notes.refuse(kind.at, unknown("unknown lineage", other, &WORDS, "use one of")),
    }
}
