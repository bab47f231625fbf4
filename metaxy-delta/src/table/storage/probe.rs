//! Whether an object store does what commits rely on: a put that fails if the key exists.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use metaxy_core::error::{Error, Result};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use uuid::Uuid;

use crate::error::{ErrorContext, chain};

/// The places of this process that have been found to do it.
static KNOWN: Mutex<Option<HashSet<u64>>> = Mutex::new(None);

/// Puts an object below the root twice, unless the place is known already, and removes it.
///
/// # Errors
/// [`Error::Unsupported`] if the second put is accepted, or conditional puts are not known; and what the store says.
pub(crate) async fn conditional_puts(
    store: &dyn ObjectStore,
    root: &Path,
    place: u64,
    context: &ErrorContext,
) -> Result<()> {
    if KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().contains(&place) {
        return Ok(());
    }
    // No table has a name that begins like this.
    let path = root.clone().join(format!("_metaxy-probe-{}", Uuid::new_v4()));
    let second = match put(store, &path).await {
        Ok(()) => put(store, &path).await,
        Err(error) => return Err(refused(context, error)),
    };
    if let Err(error) = store.delete(&path).await {
        tracing::debug!(error = context.redact(&chain(&error)), "a probe is left in the store");
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
        hint:
            "commits rely on conditional puts (`If-None-Match: *`), without which writers lose rows of each other; use \
               a server that has them, or open the store with AccessMode::ReadOnly"
                .to_owned(),
    }
}
