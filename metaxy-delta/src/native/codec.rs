//! How Ballista sends our functions, tables and operators from process to process; everything else as it does itself.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use ballista_core::serde::{BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec};
use datafusion_proto::logical_plan::{AsLogicalPlan, LogicalExtensionCodec};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use datafusion_proto::protobuf::LogicalPlanNode;
use deltalake::datafusion::catalog::TableProvider;
use deltalake::datafusion::common::TableReference;
use deltalake::datafusion::datasource::MemTable;
use deltalake::datafusion::datasource::file_format::FileFormatFactory;
use deltalake::datafusion::error::{DataFusionError, Result};
use deltalake::datafusion::execution::TaskContext;
use deltalake::datafusion::logical_expr::{AggregateUDF, Extension, LogicalPlan, ScalarUDF};
use deltalake::datafusion::physical_plan::ExecutionPlan;

use super::functions::CoreFunction;
use super::group_hash::GroupHash;
use super::rows::LiveRows;
use super::scan::ReadRows;
use super::sent::{self, Table};
use super::write_rows::{WriteRows, WrittenFiles};

/// Sends queries.
#[derive(Debug, Default)]
pub(crate) struct QueryCodec(BallistaLogicalExtensionCodec);

/// Sends the stages of queries.
#[derive(Debug, Default)]
pub(crate) struct StageCodec(BallistaPhysicalExtensionCodec);

fn encode_function(function: &ScalarUDF, out: &mut Vec<u8>) -> Result<()> {
    match function.inner().downcast_ref::<CoreFunction>() {
        Some(ours) => sent::function(&ours.function, out),
        None => Ok(()),
    }
}

fn decode_function(bytes: &[u8]) -> Result<Arc<ScalarUDF>> {
    Ok(Arc::new(ScalarUDF::from(CoreFunction::new(sent::read_function(bytes)?))))
}

fn encode_aggregate(function: &AggregateUDF, out: &mut Vec<u8>) -> Result<()> {
    match function.inner().downcast_ref::<GroupHash>() {
        Some(ours) => sent::hasher(ours.hasher, out),
        None => Ok(()),
    }
}

fn decode_aggregate(bytes: &[u8]) -> Result<Arc<AggregateUDF>> {
    Ok(Arc::new(AggregateUDF::from(GroupHash::new(sent::read_hasher(bytes)?))))
}

fn encode_keys(keys: &MemTable, out: &mut Vec<u8>) -> Result<()> {
    let mut batches = Vec::new();
    for partition in &keys.batches {
        let in_use = |_| DataFusionError::Internal("the keys of a query are being changed".to_owned());
        batches.extend(partition.try_read().map_err(in_use)?.iter().cloned());
    }
    sent::keys(&keys.schema(), &batches, out)
}

impl LogicalExtensionCodec for QueryCodec {
    fn try_decode(&self, bytes: &[u8], inputs: &[LogicalPlan], context: &TaskContext) -> Result<Extension> {
        self.0.try_decode(bytes, inputs, context)
    }

    fn try_encode(&self, node: &Extension, out: &mut Vec<u8>) -> Result<()> {
        self.0.try_encode(node, out)
    }

    fn try_decode_table_provider(
        &self,
        bytes: &[u8],
        name: &TableReference,
        schema: SchemaRef,
        context: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        if !sent::is_ours(bytes) {
            return self.0.try_decode_table_provider(bytes, name, schema, context);
        }
        Ok(match sent::read_table(bytes)? {
            Table::Rows(rows) => Arc::new(rows),
            Table::Keys(schema, batches) => Arc::new(MemTable::try_new(schema, vec![batches])?),
            Table::Write(write, query) => {
                let query = LogicalPlanNode::try_decode(&query)?.try_into_logical_plan(context, self)?;
                Arc::new(WrittenFiles::new(query, *write))
            }
        })
    }

    fn try_encode_table_provider(
        &self,
        name: &TableReference,
        table: Arc<dyn TableProvider>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if let Some(rows) = table.downcast_ref::<LiveRows>() {
            return sent::rows(rows, out);
        }
        if let Some(files) = table.downcast_ref::<WrittenFiles>() {
            let mut query = Vec::new();
            LogicalPlanNode::try_from_logical_plan(&files.query, self)?.try_encode(&mut query)?;
            return sent::write(&files.write, &query, out);
        }
        match table.downcast_ref::<MemTable>() {
            Some(keys) => encode_keys(keys, out),
            None => self.0.try_encode_table_provider(name, table, out),
        }
    }

    fn try_decode_file_format(&self, bytes: &[u8], context: &TaskContext) -> Result<Arc<dyn FileFormatFactory>> {
        self.0.try_decode_file_format(bytes, context)
    }

    fn try_encode_file_format(&self, out: &mut Vec<u8>, format: Arc<dyn FileFormatFactory>) -> Result<()> {
        self.0.try_encode_file_format(out, format)
    }

    fn try_decode_udf(&self, _: &str, bytes: &[u8]) -> Result<Arc<ScalarUDF>> {
        decode_function(bytes)
    }

    fn try_encode_udf(&self, function: &ScalarUDF, out: &mut Vec<u8>) -> Result<()> {
        encode_function(function, out)
    }

    fn try_decode_udaf(&self, _: &str, bytes: &[u8]) -> Result<Arc<AggregateUDF>> {
        decode_aggregate(bytes)
    }

    fn try_encode_udaf(&self, function: &AggregateUDF, out: &mut Vec<u8>) -> Result<()> {
        encode_aggregate(function, out)
    }
}

impl PhysicalExtensionCodec for StageCodec {
    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !sent::is_ours(bytes) {
            return self.0.try_decode(bytes, inputs, context, converter);
        }
        match (sent::read_table(bytes)?, inputs) {
            (Table::Rows(rows), [shares]) => Ok(Arc::new(ReadRows::new(shares.clone(), rows))),
            (Table::Write(write, _), [rows]) => Ok(Arc::new(WriteRows::new(rows.clone(), *write))),
            _ => Err(DataFusionError::Plan("a stage of a query lacks its input".to_owned())),
        }
    }

    fn try_encode(
        &self,
        operator: Arc<dyn ExecutionPlan>,
        out: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        if let Some(writes) = operator.downcast_ref::<WriteRows>() {
            return sent::write(&writes.write, &[], out);
        }
        match operator.downcast_ref::<ReadRows>() {
            Some(reads) => sent::rows(&reads.rows, out),
            None => self.0.try_encode(operator, out, converter),
        }
    }

    fn try_decode_udf(&self, _: &str, bytes: &[u8]) -> Result<Arc<ScalarUDF>> {
        decode_function(bytes)
    }

    fn try_encode_udf(&self, function: &ScalarUDF, out: &mut Vec<u8>) -> Result<()> {
        encode_function(function, out)
    }

    fn try_decode_udaf(&self, _: &str, bytes: &[u8]) -> Result<Arc<AggregateUDF>> {
        decode_aggregate(bytes)
    }

    fn try_encode_udaf(&self, function: &AggregateUDF, out: &mut Vec<u8>) -> Result<()> {
        encode_aggregate(function, out)
    }
}
