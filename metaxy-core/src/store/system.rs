//! Tables of the store itself. They have no system columns, belong to one store, and are never read from a fallback.

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt};

use crate::backend::{BatchStream, ScanRequest, stream_of};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::key::FeatureKey;

use super::append::Preparation;
use super::{MetadataStore, SYSTEM_PREFIX};

impl MetadataStore {
    /// Reads some columns of a table, of the rows for which the filter is true. Optional columns that the table lacks are
    /// left out; the others have to be there. No rows are returned if there is no table.
    pub(crate) async fn read_system_table(
        &self,
        key: &FeatureKey,
        required: &[&str],
        optional: &[&str],
        filter: Option<&Filter>,
    ) -> Result<BatchStream> {
        let Some(schema) = self.own_table(key).await? else { return Ok(stream_of(Vec::new())) };
        let has = |name: &&&str| schema.column_with_name(name).is_some();
        if let Some(missing) = required.iter().find(|name| !has(name)) {
            let reason = format!("it has no column `{missing}`; drop it if another program has written it");
            return Err(Error::corrupt(key.table_name(), reason));
        }
        let columns = required.iter().chain(optional.iter().filter(has)).map(|name| (*name).to_owned()).collect();
        let row_filter = filter.map(|filter| filter.bind(&schema)).transpose()?;
        let request = ScanRequest { row_filter, columns: Some(columns), ..ScanRequest::default() };
        match self.scan(key, &request).await {
            Ok((_, stream)) => Ok(stream.map_err(Error::from).boxed()),
            // The table was dropped in the time between.
            Err(Error::FeatureNotFound { .. }) => Ok(stream_of(Vec::new())),
            Err(error) => Err(error),
        }
    }

    /// Appends rows to a table, all or none.
    pub(crate) async fn append_to_system_table(
        &self,
        key: &FeatureKey,
        rows: RecordBatch,
        operation: &'static str,
    ) -> Result<()> {
        debug_assert_eq!(key.parts().first().map(String::as_str), Some(SYSTEM_PREFIX));
        self.check_writable(operation)?;
        let table = self.table_or_permission(key).await?;
        let rows = self.prepare_for(key, table, vec![rows], Preparation::COMPLETE).await?;
        self.append(key, rows).await.map(drop)
    }
}
