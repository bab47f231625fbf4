//! Collects what is wrong with a file.

/// Something wrong, and its position.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) at: usize,
    pub(super) message: String,
}

/// What is wrong with one file. Reading goes on after each note, so that all are found at once.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Note>);

impl Notes {
    pub(super) fn add(&mut self, at: usize, message: impl Into<String>) {
        self.0.push(Note { at, message: message.into() });
    }

    /// Adds a note, and returns nothing in place of the value that cannot be read.
    pub(super) fn refuse<T>(&mut self, at: usize, message: impl Into<String>) -> Option<T> {
        self.add(at, message);
        None
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn into_notes(self) -> Vec<Note> {
        self.0
    }
}
