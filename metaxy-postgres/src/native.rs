//! A whole resolve as one SQL statement.

use std::sync::Arc;

use metaxy_core::Result;
use metaxy_core::backend::NativeIncrement;
use metaxy_core::plan::IncrementPlan;

use crate::backend::PostgresBackend;
use crate::session::Session;

pub(crate) async fn resolve(
    _backend: &PostgresBackend,
    _session: Arc<Session>,
    _plan: &IncrementPlan,
) -> Result<Result<NativeIncrement, String>> {
    Ok(Err("not yet".to_owned()))
}
