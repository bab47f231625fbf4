//! Reads a statement batch by batch, on any thread.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use duckdb::{ArrowStream, Connection, Statement};

/// A running statement together with its connection. DuckDB computes only while the cursor is read, and occupies no
/// thread otherwise.
///
/// The binding's streams borrow their statement, and statements borrow their connection, so that none can be kept or
/// sent to another thread without the others. The cursor owns all three.
pub(crate) struct Cursor<L: AsRef<Connection>> {
    /// Borrows from the statement; `Some` until the cursor is dropped.
    chunks: Option<ArrowStream<'static>>,
    /// Borrows from the connection.
    statement: NonNull<Statement<'static>>,
    link: NonNull<L>,
}

// SAFETY: DuckDB lets a connection, its statements and their results go from thread to thread as long as one at a time
// uses them. A cursor owns all three, gives out none of them, and is no `Sync`.
unsafe impl<L: AsRef<Connection> + Send> Send for Cursor<L> {}

impl<L: AsRef<Connection> + 'static> Cursor<L> {
    /// Runs a statement on a connection, which the cursor keeps.
    pub(crate) fn new(link: L, sql: &str) -> duckdb::Result<Self> {
        let link = NonNull::from(Box::leak(Box::new(link)));
        // SAFETY: the value lives on the heap until `drop` or the error below frees it, after everything that borrows
        // it.
        let connection: &'static Connection = unsafe { link.as_ref() }.as_ref();
        let statement = match connection.prepare(sql) {
            Ok(statement) => NonNull::from(Box::leak(Box::new(statement))),
            Err(error) => {
                // SAFETY: it was leaked above, and nothing borrows it.
                drop(unsafe { Box::from_raw(link.as_ptr()) });
                return Err(error);
            }
        };
        let mut cursor = Self { chunks: None, statement, link };
        // SAFETY: as for the connection; the cursor is the only one that uses the statement.
        let statement: &'static mut Statement<'static> = unsafe { cursor.statement.as_mut() };
        cursor.chunks = Some(statement.stream_arrow([])?);
        Ok(cursor)
    }

    /// Returns the batches that have not been read yet.
    pub(crate) fn chunks(&mut self) -> Option<&mut ArrowStream<'static>> {
        self.chunks.as_mut()
    }
}

impl<L: AsRef<Connection>> Drop for Cursor<L> {
    fn drop(&mut self) {
        self.chunks = None;
        // SAFETY: both were leaked in `new`; the borrower is dropped first.
        unsafe {
            drop(Box::from_raw(self.statement.as_ptr()));
            drop(Box::from_raw(self.link.as_ptr()));
        }
    }
}
