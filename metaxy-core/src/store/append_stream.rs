//! The way into a table for rows that may not fit into memory: they wait in a temporary file until all of them have come
//! and are known to be one row for each sample.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use crate::backend::{BatchStream, stream_of};
use crate::engine::{self, Sequence, Table, TypedKey};
use crate::error::{Error, Result};
use crate::graph::FeaturePlan;
use crate::key::FeatureKey;
use crate::schema::{align, compact};

use super::append::{Preparation, Prepared};
use super::checks::check_ids;
use super::duplicates::one_row_each;
use super::{Duplicates, MetadataStore};

impl MetadataStore {
    /// Prepares the rows of a stream, which is read to its end. Rows that exceed the memory limit wait in a temporary file.
    pub(crate) async fn prepare_stream(
        &self,
        key: &FeatureKey,
        rows: BatchStream,
        preparation: Preparation,
    ) -> Result<Prepared> {
        let plan = self.plan(key)?;
        let (store, feature) = (self.clone(), key.clone());
        let checked = rows.and_then(move |batch| {
            let checked = store.plan(&feature).and_then(|plan| check_ids(plan, &batch));
            std::future::ready(checked.map(|()| batch))
        });
        let ids = &plan.spec.id_columns;
        let rows = match Sequence::collect(checked.boxed(), ids, &self.inner.pool).await?.in_memory() {
            Ok(batches) => return self.prepare(key, batches, preparation).await.map(Prepared::Rows),
            Err(rows) => rows,
        };
        let table = self.table_to_write(key).await?;
        // With a batch of each schema, every part of the rows gets the columns of all.
        let of_each_schema: Vec<_> = rows.schemas().iter().cloned().map(RecordBatch::new_empty).collect();
        let schema = self.prepare_for(key, table.clone(), of_each_schema.clone(), preparation.clone()).await?.schema;
        let duplicates = preparation.duplicates.filter(|_| !rows.ids_increase());
        if duplicates == Some(Duplicates::Error) {
            self.refuse_duplicates(plan, &schema, rows.stream()).await?;
        }
        let preparation = preparation.keeping_duplicates();
        let (store, key) = (self.clone(), key.clone());
        let batches = rows.stream().and_then(move |batch| {
            let (store, key, table, preparation) = (store.clone(), key.clone(), table.clone(), preparation.clone());
            let part = of_each_schema.iter().cloned().chain([batch]).collect();
            async move { Ok(stream_of(store.prepare_for(&key, table, part, preparation).await?.batches)) }
        });
        let batches = batches.try_flatten().try_filter(|batch| std::future::ready(batch.num_rows() > 0)).boxed();
        match duplicates {
            Some(Duplicates::Last) => {
                Ok(Prepared::Stream(schema.clone(), self.last_rows(plan, schema, batches).await?))
            }
            _ => Ok(Prepared::Stream(schema, batches)),
        }
    }

    /// Returns the error for rows of which several have the same ids. Only their ids are held.
    async fn refuse_duplicates(&self, plan: &FeaturePlan, schema: &Schema, rows: BatchStream) -> Result<()> {
        let spec = &plan.spec;
        let columns = spec.id_columns.iter().map(|id| schema.index_of(id)).collect::<Result<Vec<_>, _>>()?;
        let schema = Arc::new(schema.project(&columns)?);
        let (key, names, ids) = (spec.key.clone(), spec.id_columns.clone(), schema.clone());
        let rows = rows.and_then(move |batch| {
            let columns = names.iter().map(|id| batch.schema_ref().index_of(id)).collect::<Result<Vec<_>, _>>();
            let rows = columns.and_then(|columns| batch.project(&columns)).map_err(Error::from).and_then(compact);
            std::future::ready(rows.and_then(|rows| Ok(stream_of(align(&key, Some(&ids), vec![rows])?.1))))
        });
        let mut parts = self.by_sample(plan, &schema, rows.try_flatten().boxed()).await?;
        while let Some(part) = parts.try_next().await? {
            one_row_each(spec, &schema, part.into_batches(), Duplicates::Error)?;
        }
        Ok(())
    }

    /// Returns the last row of each sample.
    async fn last_rows(&self, plan: &FeaturePlan, schema: SchemaRef, rows: BatchStream) -> Result<BatchStream> {
        let parts = self.by_sample(plan, &schema, rows).await?;
        let spec = plan.spec.clone();
        let last = move |part: Table| {
            let rows = one_row_each(&spec, &schema, part.into_batches(), Duplicates::Last);
            std::future::ready(rows.map(stream_of))
        };
        Ok(parts.and_then(last).try_flatten().boxed())
    }

    /// Returns rows in parts that fit into the memory limit, all rows of a sample in the same part.
    async fn by_sample(
        &self,
        plan: &FeaturePlan,
        schema: &SchemaRef,
        rows: BatchStream,
    ) -> Result<BoxStream<'static, Result<Table>>> {
        let key = TypedKey::within(schema, &plan.spec.id_columns)?;
        let collected = engine::collect(schema.clone(), rows, Some(&key), &self.inner.pool).await?;
        engine::tables_of(collected, &key, &self.inner.pool).await
    }
}
