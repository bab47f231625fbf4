//! Shares open files and connections among the stores of a process.
//!
//! Some storage systems let a process open a file only once, or lose locks when a second handle of it is closed. Their
//! backends keep open resources in [`Handles`], by the identity of the resource: for a file not its path, which links
//! and renames change, but its device and inode number.
//!
//! ```
//! use metaxy_core::Result;
//! use metaxy_core::shared::Handles;
//!
//! /// Every database of the process, by file.
//! static OPEN: Handles<String, Vec<u8>> = Handles::new();
//!
//! # fn main() -> Result<()> {
//! let first = OPEN.open("a.db".to_owned(), || Ok(vec![1, 2, 3]))?;
//! let second = OPEN.open("a.db".to_owned(), || unreachable!("it is open already"))?;
//! assert_eq!(*first, *second);
//! drop((first, second));                                        // closes it
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;

/// The open resources of a process, by identity.
pub struct Handles<K, T> {
    slots: Mutex<BTreeMap<K, Arc<Slot<T>>>>,
}

/// A slot of one resource, which is locked while the resource is opened or closed.
struct Slot<T>(Mutex<Option<Open<T>>>);

struct Open<T> {
    value: Arc<T>,
    users: usize,
}

/// A shared handle of an open resource, which is closed with the last handle.
pub struct Handle<T> {
    slot: Arc<Slot<T>>,
    /// `Some` until the handle is dropped.
    value: Option<Arc<T>>,
}

/// Locks a mutex. A panic elsewhere leaves nothing half done, because maps and values are replaced as a whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Ord, T> Handles<K, T> {
    /// Returns an empty set of handles.
    pub const fn new() -> Self {
        Self { slots: Mutex::new(BTreeMap::new()) }
    }

    /// Returns a handle of an open resource, or else of the resource that `open` opens. Other calls for the same
    /// resource wait for that; those for other resources do not.
    ///
    /// # Errors
    /// The errors of `open`.
    pub fn open(&self, identity: K, open: impl FnOnce() -> Result<T>) -> Result<Handle<T>> {
        let slot = self.slot(identity);
        let mut current = lock(&slot.0);
        let value = match current.as_mut() {
            Some(shared) => {
                shared.users += 1;
                shared.value.clone()
            }
            None => {
                let value = Arc::new(open()?);
                *current = Some(Open { value: value.clone(), users: 1 });
                value
            }
        };
        drop(current);
        Ok(Handle { slot, value: Some(value) })
    }

    fn slot(&self, identity: K) -> Arc<Slot<T>> {
        let mut slots = lock(&self.slots);
        // Slots that are no longer used.
        slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        slots.entry(identity).or_insert_with(|| Arc::new(Slot(Mutex::new(None)))).clone()
    }
}

impl<K: Ord, T> Default for Handles<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, T> fmt::Debug for Handles<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handles").field("open", &lock(&self.slots).len()).finish_non_exhaustive()
    }
}

impl<T> Deref for Handle<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.value {
            Some(value) => value,
            None => unreachable!("a share has its value until it is dropped"),
        }
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        if let Some(shared) = lock(&self.slot.0).as_mut() {
            shared.users += 1;
        }
        Self { slot: self.slot.clone(), value: self.value.clone() }
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        let mut current = lock(&self.slot.0);
        self.value = None;
        if let Some(shared) = current.as_mut() {
            shared.users -= 1;
            if shared.users == 0 {
                // Still locked: the resource is opened again only after it is closed.
                *current = None;
            }
        }
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
