//! A killed process loses no rows for which the buffered writer has returned.

use std::path::PathBuf;
use std::sync::Arc;

use metaxy_core::{Result, SharedBackend};
use metaxy_delta::{DeltaBackend, DeltaConfig};

async fn backend(location: PathBuf) -> Result<SharedBackend> {
    let settings = DeltaConfig::new(location.join("store").display().to_string());
    Ok(Arc::new(DeltaBackend::new(settings)?))
}

metaxy_testkit::writer_survives_kills!(backend);
