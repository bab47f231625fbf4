//! Checks that an object store supports conditional puts, on which commits rely: a put must fail if the key exists.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use metaxy_core::error::{Error, Result};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use uuid::Uuid;

use crate::error::{ErrorContext, chain};

/// The locations for which this process has checked it.
static KNOWN: Mutex<Option<HashSet<u64>>> = Mutex::new(None);

/// Puts an object below the root twice, unless the location is already known, and removes it.
///
/// # Errors
/// [`Error::Unsupported`] if the second put is accepted, or conditional puts are not supported; and the errors of the
/// store.
pub(crate) async fn conditional_puts(
    store: &dyn ObjectStore,
    root: &Path,
    place: u64,
    context: &ErrorContext,
) -> Result<()> {
    if KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().contains(&place) {
        return Ok(());
    }
    // No table has a name with this prefix.
    let path = root.clone().join(format!("_metaxy-probe-{}", Uuid::new_v4()));
    let second = match put(store, &path).await {
        Ok(()) => put(store, &path).await,
        Err(error) => return Err(refused(context, error)),
    };
    if let Err(error) = store.delete(&path).await {
        tracing::debug!(error = context.redact(&chain(&error)), "a probe could not be removed from the store");
    }
    match second {
        Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
            KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(place);
            Ok(())
        }
        Ok(()) => Err(unsupported(context, "the server accepts a put that must fail because the key exists")),
        Err(error) => Err(refused(context, error)),
    }
}

async fn put(store: &dyn ObjectStore, path: &Path) -> Result<(), StoreError> {
    let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    store.put_opts(path, "probe".into(), create).await.map(drop)
}

fn refused(context: &ErrorContext, error: StoreError) -> Error {
    match error {
        StoreError::NotImplemented { .. } => unsupported(context, "conditional puts are not available"),
        error => context.store("write", None, error),
    }
}

fn unsupported(context: &ErrorContext, reason: &str) -> Error {
    Error::Unsupported {
        what: format!("writing to {}: {reason}", context.location),
        hint: "commits rely on conditional puts (`If-None-Match: *`), without which writers would overwrite each \
               other's rows; use a server that supports them, or open the store with AccessMode::ReadOnly"
            .to_owned(),
    }
}
