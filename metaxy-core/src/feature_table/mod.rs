//! Features as tables of [DataFusion](datafusion), for SQL and data frames over the rows of a store (cargo feature
//! `datafusion`).
//!
//! ```
//! # use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, MetadataStore};
//! use metaxy_core::datafusion::prelude::SessionContext;
//!
//! # async fn example(store: MetadataStore) -> Result<(), Box<dyn std::error::Error>> {
//! let context = SessionContext::new();
//! context.register_table("videos", store.table("raw/video").await?)?;
//! context.sql("SELECT path FROM videos WHERE seconds > 60 LIMIT 10").await?.show().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A table has the rows of a [`read`](MetadataStore::read): the latest row of each sample, from the store or the
//! fallback that serves the feature, at the time of each query. It can be read, not written.
//!
//! Queries read only the columns that they name, and end when their limit is reached. Comparisons of a column with
//! values (`=`, `<>`, `<`, `<=`, `>`, `>=`, `IN`, `IS NULL`, joined by `AND`, `OR` and `NOT`) are filters of the read
//! if the column has integers, texts, booleans, dates or timestamps: the store evaluates these exactly as DataFusion
//! does. DataFusion itself evaluates all other conditions.

mod filters;
mod scan;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::StreamingTableExec;

use crate::error::Result;
use crate::key::{FeatureKey, IntoFeatureKey};
use crate::store::MetadataStore;

use filters::pushed;
use scan::FeatureScan;

/// The current rows of a feature as a table of DataFusion. See [the module](self).
#[derive(Clone, Debug)]
pub struct FeatureTable {
    store: MetadataStore,
    feature: FeatureKey,
    schema: SchemaRef,
}

impl MetadataStore {
    /// Returns a feature as a table of DataFusion. Its columns are those that the feature has now; its rows are read by
    /// each query.
    ///
    /// # Errors
    /// [`Error::UnknownFeature`](crate::Error::UnknownFeature),
    /// [`Error::FeatureNotFound`](crate::Error::FeatureNotFound), and those of the backend.
    pub async fn table(&self, feature: impl IntoFeatureKey) -> Result<Arc<FeatureTable>> {
        let feature = feature.into_feature_key()?;
        let schema = self.schema_of_rows(&feature).await?;
        Ok(Arc::new(FeatureTable { store: self.clone(), feature, schema }))
    }
}

#[async_trait]
impl TableProvider for FeatureTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        let support = |filter: &&Expr| match pushed(filter, &self.schema) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => self.schema.clone(),
        };
        let filters = filters.iter().filter_map(|filter| pushed(filter, &self.schema)).collect();
        let scan = FeatureScan::new(self.store.clone(), self.feature.clone(), schema.clone(), filters);
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(scan)], None, [], false, limit)?))
    }
}
