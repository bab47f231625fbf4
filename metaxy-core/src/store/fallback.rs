//! Stores that are read if the own store does not have a feature.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::OnceCell;

use crate::error::Result;

use super::MetadataStore;

type Opener = Box<dyn Fn() -> BoxFuture<'static, Result<MetadataStore>> + Send + Sync>;

/// A fallback store: already open, or opened (for reading) when it is first needed.
#[derive(Clone)]
pub struct Fallback {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    store: OnceCell<MetadataStore>,
    opener: Option<Opener>,
}

impl Fallback {
    /// Creates a fallback that `open` opens when a feature is first looked up in it. After a failure the next lookup
    /// tries again.
    pub fn lazy(
        name: impl Into<String>,
        open: impl Fn() -> BoxFuture<'static, Result<MetadataStore>> + Send + Sync + 'static,
    ) -> Self {
        let inner = Inner { name: name.into(), store: OnceCell::new(), opener: Some(Box::new(open)) };
        Self { inner: Arc::new(inner) }
    }

    /// Returns the store's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the store if it is open.
    pub(super) fn opened(&self) -> Option<&MetadataStore> {
        self.inner.store.get()
    }

    /// Returns the store, and opens it if necessary.
    pub(super) async fn open(&self) -> Result<MetadataStore> {
        let open = || async {
            match &self.inner.opener {
                Some(open) => open().await,
                None => unreachable!("a fallback is either open or has an opener"),
            }
        };
        self.inner.store.get_or_try_init(open).await.cloned()
    }
}

impl From<MetadataStore> for Fallback {
    fn from(store: MetadataStore) -> Self {
        let inner = Inner { name: store.name().to_owned(), store: OnceCell::new_with(Some(store)), opener: None };
        Self { inner: Arc::new(inner) }
    }
}

impl From<&MetadataStore> for Fallback {
    fn from(store: &MetadataStore) -> Self {
        store.clone().into()
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fallback").field(&self.inner.name).finish()
    }
}
