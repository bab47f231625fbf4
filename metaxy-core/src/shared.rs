//! Shares open files and connections among the stores of a process.
//!
//! Some storage systems let a process open a file once only, or lose locks when a second handle of it is closed. Their
//! backends keep open resources in [`Handles`], by the identity of the resource: for files a [`FileId`], because links
//! and renames change their paths.
//!
//! ```
//! # use std::path::Path;
//! # use metaxy_core::Error;
//! use metaxy_core::Result;
//! use metaxy_core::shared::{FileId, Handle, Handles};
//!
//! /// Every database of the process, by file.
//! static OPEN: Handles<FileId, Vec<u8>> = Handles::new();
//!
//! fn open(path: &Path) -> Result<Handle<Vec<u8>>> {
//!     let failed = |error| Error::of_io(path.display(), "open", error);
//!     OPEN.open(FileId::of(path).map_err(failed)?, || std::fs::read(path).map_err(failed))
//! }
//!
//! # let file = tempfile::NamedTempFile::new().unwrap();
//! # std::fs::write(&file, [1, 2, 3]).unwrap();
//! # let path = file.path();
//! # fn example(path: &Path) -> Result<()> {
//! let (first, second) = (open(path)?, open(path)?);             // the second one shares what the first one has opened
//! assert_eq!(first.as_ptr(), second.as_ptr());
//! drop((first, second));                                        // closes it
//! # Ok(())
//! # }
//! # example(path).unwrap();
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::Path;
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

/// The identity of a file, whatever its path: its device and its number there. If the system has no such numbers, the
/// hash of its canonical path replaces them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u64, u64);

impl FileId {
    /// Returns the identity of the file at a path.
    ///
    /// # Errors
    /// Those of the file system, for example if there is no file.
    #[cfg(unix)]
    pub fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).map(|file| Self(file.dev(), file.ino()))
    }

    /// Returns the identity of the file at a path.
    ///
    /// # Errors
    /// Those of the file system, for example if there is no file.
    #[cfg(not(unix))]
    pub fn of(path: &Path) -> io::Result<Self> {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        path.canonicalize()?.hash(&mut hasher);
        Ok(Self(0, hasher.finish()))
    }
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
