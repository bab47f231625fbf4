//! The rows of an increment by kind: as they are computed, into files, or printed.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use clap::ValueEnum;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use metaxy_core::{Increment, Lineage, MetadataStore, RowKind, RowStream};

use crate::failure::Result;
use crate::files::{FileFormat, Target, Writers};
use crate::output::{Output, Progress};

use super::{Args, Resolving};

/// A kind of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Kind {
    /// Without a row
    New,
    /// With a row that was made from something else
    Stale,
    /// With a row that nothing upstream asks for
    Orphaned,
}

impl Kind {
    const ALL: [Self; 3] = [Self::New, Self::Stale, Self::Orphaned];

    fn of(kind: RowKind) -> Self {
        match kind {
            RowKind::New => Self::New,
            RowKind::Stale => Self::Stale,
            RowKind::Orphaned => Self::Orphaned,
        }
    }

    fn name(self) -> &'static str {
        ["new", "stale", "orphaned"][self as usize]
    }
}

/// The rows of an increment, as they are computed.
pub(super) struct Rows {
    schemas: [SchemaRef; 3],
    stream: KindStream,
}

type KindStream = BoxStream<'static, metaxy_core::Result<(Kind, RecordBatch)>>;

impl Rows {
    pub(super) async fn of(resolving: Resolving, args: &Args, store: &MetadataStore) -> Result<Self> {
        let plan = store.graph().plan(args.feature.as_str())?;
        let in_groups = plan.spec.deps.iter().any(|dep| matches!(dep.lineage, Lineage::Aggregation { .. }));
        let groups = args.limit.filter(|_| in_groups && args.only != Some(Kind::Orphaned));
        let request = match resolving {
            Resolving::Done(increment) => return Self::of_increment(&increment, args, groups),
            Resolving::Lazy(request) if groups.is_some() || args.changed_fields => {
                return Self::of_increment(&(*request).await?, args, groups);
            }
            Resolving::Lazy(request) => request,
        };
        let increment = request.lazy().await?;
        let increment = match args.limit {
            Some(limit) => increment.limit(limit),
            None => increment,
        };
        let orphaned = increment.orphaned_rows();
        let schemas = [increment.schema().clone(), increment.schema().clone(), orphaned.schema().clone()];
        let of = |kind: Kind, rows: RowStream| rows.map_ok(move |batch| (kind, batch)).boxed();
        let stream = match args.only {
            None => increment.stream().map_ok(|(kind, batch)| (Kind::of(kind), batch)).boxed(),
            Some(Kind::New) => of(Kind::New, increment.new_rows()),
            Some(Kind::Stale) => of(Kind::Stale, increment.stale_rows()),
            Some(Kind::Orphaned) => of(Kind::Orphaned, orphaned),
        };
        Ok(Self { schemas, stream })
    }

    /// Returns the rows of an increment, in whole groups if their number is limited.
    fn of_increment(increment: &Increment, args: &Args, groups: Option<usize>) -> Result<Self> {
        if let Some(limit) = groups {
            return Self::of_groups(increment, args.only, limit);
        }
        let kinds = Kind::ALL.into_iter().zip([&increment.new, &increment.stale, &increment.orphaned]);
        let (mut left, mut rows) = (args.limit.unwrap_or(usize::MAX), Vec::new());
        for (kind, of_kind) in kinds.filter(|(kind, _)| args.only.is_none_or(|only| only == *kind)) {
            for batch in of_kind.batches() {
                let batch = batch.slice(0, batch.num_rows().min(left));
                left -= batch.num_rows();
                rows.push(Ok((kind, batch)));
            }
        }
        Ok(Self { schemas: schemas_of(increment), stream: futures::stream::iter(rows).boxed() })
    }

    /// Returns whole groups, up to a number of rows, and at least one group.
    fn of_groups(increment: &Increment, only: Option<Kind>, limit: usize) -> Result<Self> {
        let (mut taken, mut seen, mut rows) = (0, 0, Vec::new());
        for group in increment.groups()? {
            let kind = if seen < increment.new.num_rows() { Kind::New } else { Kind::Stale };
            seen += group.num_rows();
            if only.is_some_and(|only| only != kind) {
                continue;
            }
            if taken > 0 && taken + group.num_rows() > limit {
                break;
            }
            taken += group.num_rows();
            rows.push(Ok((kind, group)));
        }
        Ok(Self { schemas: schemas_of(increment), stream: futures::stream::iter(rows).boxed() })
    }

    fn schema(&self, kind: Kind) -> &SchemaRef {
        &self.schemas[kind as usize]
    }
}

fn schemas_of(increment: &Increment) -> [SchemaRef; 3] {
    [&increment.new, &increment.stale, &increment.orphaned].map(|rows| rows.schema().clone())
}

/// Writes a file for each kind, also of none, so that a file of an earlier call is not taken for one of this call.
pub(super) async fn to_files(mut rows: Rows, target: Target, format: FileFormat) -> Result<([usize; 3], Vec<String>)> {
    let named = Kind::ALL.map(|kind| (kind.name(), rows.schema(kind)));
    let mut writers = target.create(format, &named).await?;
    if let Err(failure) = written(&mut rows.stream, &mut writers).await {
        return Err(writers.abandon(failure).await);
    }
    let (files, mut counts) = (writers.files(), [0; 3]);
    counts.copy_from_slice(&writers.finish().await?);
    Ok((counts, files))
}

async fn written(rows: &mut KindStream, writers: &mut Writers) -> Result<()> {
    let progress = Progress::of_rows("resolving");
    while let Some((kind, batch)) = rows.try_next().await? {
        progress.add(batch.num_rows());
        writers.write(kind as usize, &batch).await?;
    }
    Ok(())
}

pub(super) async fn print_kind(mut rows: Rows, kind: Kind, output: &Output) -> Result<()> {
    let mut writer = output.rows(rows.schema(kind).clone())?;
    while let Some((of, batch)) = rows.stream.try_next().await? {
        if of == kind {
            writer.write(&batch)?;
        }
    }
    writer.finish()
}
