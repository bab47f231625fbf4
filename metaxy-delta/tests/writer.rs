//! A process that is killed loses nothing that its buffered writer had promised to keep.

use std::path::PathBuf;
use std::sync::Arc;

use metaxy_core::{Result, SharedBackend};
use metaxy_delta::{DeltaBackend, DeltaConfig};

async fn backend(location: PathBuf) -> Result<SharedBackend> {
    let settings = DeltaConfig::new(location.join("store").display().to_string());
    Ok(Arc::new(DeltaBackend::new(settings)?))
}

metaxy_testkit::writer_survives_kills!(backend);
