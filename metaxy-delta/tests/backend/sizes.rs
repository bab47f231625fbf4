//! Thousands of concurrent writes, hundreds of unread streams, thousands of features.

use std::path::PathBuf;
use std::sync::Arc;

use metaxy_core::{Result, SharedBackend};
use metaxy_delta::DeltaBackend;

use crate::local;

async fn backend(location: PathBuf) -> Result<SharedBackend> {
    Ok(Arc::new(DeltaBackend::new(local(&location.join("store")))?))
}

metaxy_testkit::sizes!(backend);
