//! A ledger of writes and deletions, some of which have failed, to check the rows that must be stored.

use std::collections::BTreeMap;

/// Writes, and deletions of their rows, by the write's name.
#[derive(Debug, Default)]
pub struct Ledger {
    writes: BTreeMap<String, Progress>,
    deletes: BTreeMap<String, Progress>,
}

/// The progress of a call; one that has failed may have taken effect or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It was started.
    Begun,
    /// It has returned without an error.
    Done,
}

impl Ledger {
    /// Records a write.
    pub fn write(&mut self, name: &str, progress: Progress) {
        self.writes.insert(name.to_owned(), progress);
    }

    /// Records the deletion of a write.
    pub fn delete(&mut self, name: &str, progress: Progress) {
        self.deletes.insert(name.to_owned(), progress);
    }

    /// Returns the number of writes that have returned.
    pub fn written(&self) -> usize {
        self.writes.values().filter(|progress| **progress == Progress::Done).count()
    }

    /// Compares the ledger with the number of rows that were found of each write; each write has `rows` rows.
    ///
    /// # Panics
    /// If a write is incomplete, unknown, lost, or read again after its deletion.
    pub fn check(&self, found: &BTreeMap<String, usize>, rows: usize) {
        for (name, count) in found {
            assert_eq!(*count, rows, "write {name} is incomplete, or stored more than once");
            assert!(self.writes.contains_key(name), "write {name} was never made");
            assert!(self.deletes.get(name) != Some(&Progress::Done), "write {name} was deleted, and is read again");
        }
        let is_safe = |name: &String| self.writes[name] == Progress::Done && !self.deletes.contains_key(name);
        let lost: Vec<_> = self.writes.keys().filter(|name| is_safe(name) && !found.contains_key(*name)).collect();
        assert!(lost.is_empty(), "these writes had returned, and are lost: {lost:?}");
    }
}
