//! Reads tables with known keys, and lists.

use crate::error::nearest;

use super::super::item::{Entry, Item, Value};
use super::super::notes::Notes;

/// A table whose keys are known.
pub(super) struct Table<'a> {
    item: &'a Item,
    entries: &'a [Entry],
    /// The known keys that unknown ones probably stand for.
    meant: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// Opens a table, and notes every key that is not known.
    pub(super) fn open(item: &'a Item, what: &str, known: &[&'static str], notes: &mut Notes) -> Option<Self> {
        let Value::Table(entries) = &item.value else {
            return notes.refuse(item.at, format!("expected {what}, found {}", item.describe()));
        };
        let mut meant = Vec::new();
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            notes.add(entry.at, unknown("unknown key", &entry.key, known, "known keys:"));
            meant.extend(similar(&entry.key, known));
        }
        Some(Self { item, entries, meant })
    }

    /// Returns whether a key is absent because it is misspelled, which is noted already.
    pub(super) fn is_misspelled(&self, key: &str) -> bool {
        self.get(key).is_none() && self.meant.contains(&key)
    }

    /// Returns the value of a key; null is no value.
    pub(super) fn get(&self, key: &str) -> Option<&'a Item> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(&entry.item).filter(|item| !matches!(item.value, Value::Null))
    }

    /// Returns the value of a key that has to be there.
    pub(super) fn required(&self, key: &str, what: &str, notes: &mut Notes) -> Option<&'a Item> {
        let found = self.get(key);
        if found.is_none() && !self.is_misspelled(key) {
            notes.add(self.item.at, format!("{what} has no `{key}`; add one"));
        }
        found
    }

    /// Reads the value of a key that may be absent; a value that cannot be read is noted, and counts as absent.
    pub(super) fn optional<T>(
        &self,
        key: &str,
        notes: &mut Notes,
        read: impl FnOnce(&Item, &mut Notes) -> Option<T>,
    ) -> Option<T> {
        self.get(key).and_then(|item| read(item, notes))
    }
}

/// Describes an unknown name, and the one that was probably meant.
pub(super) fn unknown(what: &str, given: &str, known: &[&'static str], list: &str) -> String {
    match similar(given, known) {
        Some(name) => format!("{what} `{given}`; did you mean `{name}`?"),
        None => {
            let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            format!("{what} `{given}`; {list} {}", known.join(", "))
        }
    }
}

/// Returns the known name that differs in its case only; or else the only one that contains the given name, or is
/// contained in it; or else the nearest.
fn similar(given: &str, known: &[&'static str]) -> Option<&'static str> {
    if let Some(same) = known.iter().find(|name| name.eq_ignore_ascii_case(given)) {
        return Some(same);
    }
    let given = given.to_lowercase();
    let contains = |name: &&&'static str| given.len() >= 3 && (name.contains(&given) || given.contains(**name));
    let mut alike = known.iter().filter(contains);
    match (alike.next(), alike.next()) {
        (Some(only), None) => Some(only),
        _ => nearest(&given, known.iter().copied()).and_then(|near| known.iter().copied().find(|name| *name == near)),
    }
}

/// Notes that a value is of another kind than `wanted`.
pub(super) fn expected<T>(wanted: &str, item: &Item, notes: &mut Notes) -> Option<T> {
    notes.refuse(item.at, format!("expected {wanted}, found {}", item.describe()))
}

/// Reads every item of a list. If one cannot be read, there is no list.
pub(super) fn list<T>(
    wanted: &str,
    item: &Item,
    notes: &mut Notes,
    mut read: impl FnMut(&Item, &mut Notes) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::List(items) = &item.value else { return expected(wanted, item, notes) };
    // Every item is read before the first failure counts, so that all of them are noted.
    let read: Vec<Option<T>> = items.iter().map(|item| read(item, notes)).collect();
    read.into_iter().collect()
}

/// Reads a string.
pub(super) fn text(item: &Item, notes: &mut Notes) -> Option<String> {
    match &item.value {
        Value::Text(text) => Some(text.clone()),
        Value::Number(number) => {
            notes.refuse(item.at, format!("expected a string, found {}; write \"{number}\"", item.describe()))
        }
        _ => expected("a string", item, notes),
    }
}

/// Reads a list of strings.
pub(super) fn texts(item: &Item, notes: &mut Notes) -> Option<Vec<String>> {
    list("an array of strings", item, notes, text)
}

/// Reads a truth value.
pub(super) fn truth(item: &Item, notes: &mut Notes) -> Option<bool> {
    match item.value {
        Value::Bool(value) => Some(value),
        _ => expected("`true` or `false`", item, notes),
    }
}
