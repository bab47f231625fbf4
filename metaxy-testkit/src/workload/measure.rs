//! One round of the workload on one subject.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use metaxy_core::error::BoxError;
use metaxy_core::store::RowsToWrite;
use metaxy_core::{AccessMode, FeatureGraph, HashAlgorithm, IntoRows, MetadataStore, RowKind, SharedBackend};
use serde::{Deserialize, Serialize};

use super::changes::{self, Changes};
use super::data::{Case, LEAF, Scenario};
use super::floor;
use super::subject::{Phase, Probe, Subject};

/// How often the leaf is resolved again in an open store, and for how many samples at most.
const REPETITIONS: usize = 5;
const MOST_RESOLVED_AGAIN: usize = 100_000;

const FLOOR: &str = "scan and hash";

/// By phase, one value for each round.
pub(super) type Series = BTreeMap<String, Vec<f64>>;

/// The measurements of one process, or of several.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Measures {
    /// Seconds.
    pub(super) seconds: Series,
    /// Seconds of resolving again in an open store.
    #[serde(default)]
    pub(super) open: Series,
    /// Seconds of extras, by their names.
    pub(super) extras: BTreeMap<String, Series>,
    /// Growth of meters, by their names.
    pub(super) meters: BTreeMap<String, Series>,
    /// Peak memory of each process, in MB.
    pub(super) peaks: Vec<f64>,
    /// The number of stale samples.
    pub(super) stale_rows: Option<usize>,
    /// Increments since a checkpoint.
    #[serde(default)]
    pub(super) changes: Changes,
}

impl Measures {
    pub(super) fn extend(&mut self, other: Self) {
        let add = |own: &mut Series, other: Series| {
            other.into_iter().for_each(|(phase, values)| own.entry(phase).or_default().extend(values));
        };
        add(&mut self.seconds, other.seconds);
        add(&mut self.open, other.open);
        other.extras.into_iter().for_each(|(name, series)| add(self.extras.entry(name).or_default(), series));
        other.meters.into_iter().for_each(|(name, series)| add(self.meters.entry(name).or_default(), series));
        self.peaks.extend(other.peaks);
        self.stale_rows = self.stale_rows.or(other.stale_rows);
        for (share, other) in other.changes {
            let own = self.changes.entry(share).or_default();
            own.since.extend(other.since);
            own.all_rows.extend(other.all_rows);
            own.basis = other.basis;
        }
    }
}

/// Returns the median of some values.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// What is measured.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    /// Only the extras.
    pub(super) extras: bool,
    /// The floor too, with the extras.
    pub(super) floor: bool,
    /// Increments since a checkpoint too, with the extras.
    pub(super) changes: bool,
}

/// Runs all phases `rounds` times.
pub(super) fn measure(
    subject: &Subject,
    case: Case,
    hash: Option<HashAlgorithm>,
    rounds: usize,
    parts: Parts,
) -> Result<Measures, BoxError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let graph = case.scenario.graph()?;
    let mut measures = Measures::default();
    for _ in 0..rounds {
        let dir = tempfile::tempdir()?;
        let mut round = Round {
            subject,
            case,
            hash,
            roots: if subject.streamed { Vec::new() } else { case.roots()? },
            graph: &graph,
            dir: dir.path(),
            runtime: &runtime,
            kept: None,
            leaf: Vec::new(),
            extras: parts.extras,
            floor: parts.floor,
            changes: parts.changes,
            measures: &mut measures,
        };
        let outcome = round.run();
        if let Some(clean) = &subject.cleanup {
            clean(dir.path())?;
        }
        outcome?;
    }
    if !parts.extras {
        measures.peaks.extend(peak_memory());
    }
    Ok(measures)
}

struct Round<'a> {
    subject: &'a Subject,
    case: Case,
    hash: Option<HashAlgorithm>,
    /// Rows are freed when they are written, except for extras.
    roots: Vec<Vec<RecordBatch>>,
    graph: &'a FeatureGraph,
    dir: &'a Path,
    runtime: &'a tokio::runtime::Runtime,
    kept: Option<SharedBackend>,
    leaf: Vec<RecordBatch>,
    extras: bool,
    floor: bool,
    changes: bool,
    measures: &'a mut Measures,
}

impl Round<'_> {
    fn run(&mut self) -> Result<(), BoxError> {
        self.write_roots()?;
        let (new, stale) = match self.subject.streamed {
            true => self.stream_leaf()?,
            false => self.write_leaf()?,
        };
        expect("new", new, self.case.size)?;
        expect("stale", stale, 0)?;
        let (new, stale) = self.resolve(Phase::Noop)?;
        expect("new", new, 0)?;
        expect("stale", stale, 0)?;
        self.resolve_again(Phase::Noop)?;
        self.rewrite()?;
        let (new, stale) = self.resolve(Phase::Stale)?;
        expect("new", new, 0)?;
        self.resolve_again(Phase::Stale)?;
        self.measures.stale_rows = Some(stale);
        if stale == 0 && self.case.size >= 100 {
            return Err("nothing is stale after the change".into());
        }
        if self.changes {
            let case = self.case;
            self.measures.changes = self.with_store(|store| Box::pin(changes::measure(store, case)))?;
        }
        Ok(())
    }

    fn write_roots(&mut self) -> Result<(), BoxError> {
        let rows: Result<Vec<RowsToWrite>, _> = match (self.subject.streamed, self.extras) {
            (true, _) => self.case.root_streams().into_iter().map(IntoRows::into_rows).collect(),
            (false, true) => self.roots.clone().into_iter().map(IntoRows::into_rows).collect(),
            (false, false) => std::mem::take(&mut self.roots).into_iter().map(IntoRows::into_rows).collect(),
        };
        let roots = self.case.scenario.roots().iter().zip(rows?);
        self.phase(Phase::Write, |store| {
            Box::pin(async move {
                for (root, rows) in roots {
                    store.write(*root, rows).await?;
                }
                Ok(())
            })
        })
    }

    /// Resolves the leaf and writes it. Returns the numbers of new and stale samples.
    fn write_leaf(&mut self) -> Result<(usize, usize), BoxError> {
        let increment = self.phase(Phase::New, |store| Box::pin(async move { store.resolve_update(LEAF).await }))?;
        let counts = (increment.new.num_rows(), increment.stale.num_rows());
        let leaf = increment.new;
        if self.extras {
            self.leaf = leaf.batches().to_vec();
        }
        self.resolve_again(Phase::New)?;
        self.phase(Phase::WriteLeaf, |store| Box::pin(async move { store.write(LEAF, leaf).await.map(|_| ()) }))?;
        Ok(counts)
    }

    /// Like [`Self::write_leaf`], but the rows go from one stream into the other.
    fn stream_leaf(&mut self) -> Result<(usize, usize), BoxError> {
        let counts = self.resolve(Phase::New)?;
        self.resolve_again(Phase::New)?;
        self.phase(Phase::WriteLeaf, |store| {
            Box::pin(async move {
                let leaf = store.resolve_update(LEAF).lazy().await?;
                store.write(LEAF, leaf.new_rows()).await.map(|_| ())
            })
        })?;
        Ok(counts)
    }

    /// Resolves the leaf. Returns the numbers of new and stale samples.
    fn resolve(&mut self, phase: Phase) -> Result<(usize, usize), BoxError> {
        let streamed = self.subject.streamed;
        self.phase(phase, |store| {
            Box::pin(async move {
                if !streamed {
                    let increment = store.resolve_update(LEAF).await?;
                    return Ok((increment.new.num_rows(), increment.stale.num_rows()));
                }
                let (mut new, mut stale) = (0, 0);
                let mut rows = store.resolve_update(LEAF).lazy().await?.stream();
                while let Some((kind, batch)) = rows.try_next().await? {
                    match kind {
                        RowKind::New => new += batch.num_rows(),
                        RowKind::Stale => stale += batch.num_rows(),
                        RowKind::Orphaned => {}
                    }
                }
                Ok((new, stale))
            })
        })
    }

    /// Measures how long the leaf is resolved in a store that has resolved it before, unless there are many samples.
    fn resolve_again(&mut self, phase: Phase) -> Result<(), BoxError> {
        let is_small = matches!(self.case.scenario, Scenario::Simple | Scenario::Wide);
        if self.extras || !is_small || self.case.size > MOST_RESOLVED_AGAIN {
            return Ok(());
        }
        let seconds = self.with_store(|store| {
            Box::pin(async move {
                let mut seconds = Vec::with_capacity(REPETITIONS);
                store.resolve_update(LEAF).from_all_rows().await?;
                for _ in 0..REPETITIONS {
                    let start = Instant::now();
                    store.resolve_update(LEAF).from_all_rows().await?;
                    seconds.push(start.elapsed().as_secs_f64());
                }
                Ok(seconds)
            })
        })?;
        self.measures.open.entry(phase.name().to_owned()).or_default().extend(seconds);
        Ok(())
    }

    /// Writes the first root again, changed. Its time is not measured.
    fn rewrite(&mut self) -> Result<(), BoxError> {
        let Some(root) = self.case.scenario.roots().first() else { return Ok(()) };
        let changed = self.case.changed();
        self.with_store(|store| Box::pin(async move { store.write(*root, changed).await.map(|_| ()) }))
    }

    /// Measures a phase, with its meters.
    fn phase<T>(
        &mut self,
        phase: Phase,
        work: impl FnOnce(MetadataStore) -> BoxFuture<'static, metaxy_core::Result<T>>,
    ) -> Result<T, BoxError> {
        let before = self.read_meters()?;
        let start = Instant::now();
        let answer = self.with_store(work)?;
        let elapsed = start.elapsed();
        let after = self.read_meters()?;
        if self.extras {
            self.run_extras(phase)?;
            return Ok(answer);
        }
        push(&mut self.measures.seconds, phase, elapsed.as_secs_f64());
        for ((name, _), (before, after)) in self.subject.meters.iter().zip(before.into_iter().zip(after)) {
            let series = self.measures.meters.entry(name.clone()).or_default();
            push(series, phase, after.saturating_sub(before) as f64);
        }
        Ok(answer)
    }

    fn read_meters(&self) -> Result<Vec<u64>, BoxError> {
        self.subject.meters.iter().map(|(_, read)| read(self.dir)).collect()
    }

    fn run_extras(&mut self, phase: Phase) -> Result<(), BoxError> {
        for (name, run) in &self.subject.extras {
            let probe = Probe {
                dir: self.dir,
                phase,
                scenario: self.case.scenario,
                size: self.case.size,
                roots: &self.roots,
                leaf: &self.leaf,
            };
            if let Some(elapsed) = run(&probe)? {
                push(self.measures.extras.entry(name.clone()).or_default(), phase, Duration::as_secs_f64(&elapsed));
            }
        }
        if self.floor && matches!(phase, Phase::New | Phase::Noop | Phase::Stale) {
            let scenario = self.case.scenario;
            let elapsed = self.with_store(|store| Box::pin(floor::measure(store, scenario)))?;
            push(self.measures.extras.entry(FLOOR.to_owned()).or_default(), phase, elapsed.as_secs_f64());
        }
        Ok(())
    }

    /// Opens the store, runs the work, and closes it.
    fn with_store<T>(
        &mut self,
        work: impl FnOnce(MetadataStore) -> BoxFuture<'static, metaxy_core::Result<T>>,
    ) -> Result<T, BoxError> {
        let backend = match &self.kept {
            Some(backend) => Arc::clone(backend),
            None => (self.subject.factory)(self.dir)?,
        };
        if self.subject.kept_open {
            self.kept = Some(Arc::clone(&backend));
        }
        let mut builder = MetadataStore::builder(backend, self.graph.clone())
            .auto_create_tables(true)
            .versioning_engine(self.subject.engine);
        if let Some(algorithm) = self.hash {
            builder = builder.hash_algorithm(algorithm);
        }
        let store = self.runtime.block_on(builder.open(AccessMode::ReadWrite))?;
        let work = work(store.clone());
        let answer = self.runtime.block_on(work)?;
        if !self.subject.kept_open {
            self.runtime.block_on(store.close())?;
        }
        Ok(answer)
    }
}

fn push(series: &mut Series, phase: Phase, value: f64) {
    series.entry(phase.name().to_owned()).or_default().push(value);
}

fn expect(what: &str, found: usize, wanted: usize) -> Result<(), BoxError> {
    if found == wanted {
        return Ok(());
    }
    Err(format!("{found} samples are {what}, not {wanted}").into())
}

/// Returns the peak memory of this process, in MB; only Linux reports it.
pub(super) fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
