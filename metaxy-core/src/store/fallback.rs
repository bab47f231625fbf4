//! Stores to read from when a feature is not in the own one.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::OnceCell;

use crate::error::Result;

use super::MetadataStore;

type Opener = Box<dyn Fn() -> BoxFuture<'static, Result<MetadataStore>> + Send + Sync>;

/// A store to fall back on: open already, or opened (for reading) when it is first needed.
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
    /// A store that `open` opens when a feature is first looked for in it. A failed attempt is made again next time.
    pub fn lazy(
        name: impl Into<String>,
        open: impl Fn() -> BoxFuture<'static, Result<MetadataStore>> + Send + Sync + 'static,
    ) -> Self {
        let inner = Inner { name: name.into(), store: OnceCell::new(), opener: Some(Box::new(open)) };
        Self { inner: Arc::new(inner) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The store, where it is open.
    pub(super) fn opened(&self) -> Option<&MetadataStore> {
        self.inner.store.get()
    }

    /// The store, opened if it was not.
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
