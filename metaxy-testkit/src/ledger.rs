//! What must be found, after calls of which some failed: a ledger of writes and deletions, kept by who makes the calls.

use std::collections::BTreeMap;

/// Writes and deletions of them, by the write's name.
#[derive(Debug, Default)]
pub struct Ledger {
    writes: BTreeMap<String, Progress>,
    deletes: BTreeMap<String, Progress>,
}

/// How far a call has come: one that has failed may have taken effect, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It was made.
    Begun,
    /// It has returned without an error.
    Done,
}

impl Ledger {
    /// Notes a write.
    pub fn write(&mut self, name: &str, progress: Progress) {
        self.writes.insert(name.to_owned(), progress);
    }

    /// Notes the deletion of a write.
    pub fn delete(&mut self, name: &str, progress: Progress) {
        self.deletes.insert(name.to_owned(), progress);
    }

    /// Returns how many writes have returned.
    pub fn written(&self) -> usize {
        self.writes.values().filter(|progress| **progress == Progress::Done).count()
    }

    /// Compares the ledger with how many rows of each write were found, of `rows` that each has.
    ///
    /// # Panics
    /// Where a write is there in part, unknown, lost, or back after its deletion.
    pub fn check(&self, found: &BTreeMap<String, usize>, rows: usize) {
        for (name, count) in found {
            assert_eq!(*count, rows, "write {name} is there in part, or more than once");
            assert!(self.writes.contains_key(name), "write {name} was never made");
            assert!(self.deletes.get(name) != Some(&Progress::Done), "write {name} was deleted, and is back");
        }
        let is_safe = |name: &String| self.writes[name] == Progress::Done && !self.deletes.contains_key(name);
        let lost: Vec<_> = self.writes.keys().filter(|name| is_safe(name) && !found.contains_key(*name)).collect();
        assert!(lost.is_empty(), "these writes had returned, and are lost: {lost:?}");
    }
}
