//! The paper's workload, which measures a backend and compares it with the Python package in one run.
//!
//! One or two root features and a leaf that depends on them go through five phases: `write` (the roots), `new` (resolve
//! the leaf: every sample is new), `write_leaf`, `noop` (resolve again: nothing) and `stale` (a tenth of the first
//! root's samples have another `audio`: resolve again). The store is opened again for each phase, and the time of a
//! phase includes opening and closing it. Every measurement runs in a separate process, which has its own peak memory;
//! glibc is set to keep little freed memory (`MALLOC_ARENA_MAX=2`, `MALLOC_MMAP_THRESHOLD_=1048576`), also for the
//! Python package. Rows are freed when they have been written. For up to 100,000 records, a row shows how long an open
//! store takes to resolve again.
//!
//! A backend's `benches/workload.rs` (with `harness = false`) is a few lines:
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use metaxy_core::SharedBackend;
//! # fn my_backend(path: std::path::PathBuf) -> metaxy_core::Result<SharedBackend> { unimplemented!() }
//! use metaxy_testkit::workload::{self, Subject};
//!
//! fn main() -> std::process::ExitCode {
//!     workload::run([Subject::new("mine", |dir| Ok(my_backend(dir.join("bench.db"))?)).reference("delta")])
//! }
//! ```
//!
//! `cargo bench` measures; `cargo test --benches` makes one small round, to check that it works. Options are given as
//! arguments after `--` or in the environment:
//!
//! | argument | variable | meaning | default |
//! |---|---|---|---|
//! | `--sizes` | `METAXY_BENCH_SIZES` | records of each root; `10k` and `1M` are understood | `10k,100k,1M` |
//! | `--scenarios` | `METAXY_BENCH_SCENARIOS` | `simple`, `wide`, `long_ids`, `thumbnails` | the first two |
//! | `--rounds` | `METAXY_BENCH_ROUNDS` | how often everything is measured; medians are shown | 3 |
//! | `--subjects` | `METAXY_BENCH_SUBJECTS` | only subjects whose name contains one of these | all |
//! | `--hash` | `METAXY_BENCH_HASH` | the hash algorithm of all subjects | the subject's |
//! | `--reference` | `METAXY_BENCH_REFERENCE` | `off` leaves the Python package out | `auto` |
//! | `--floor` | `METAXY_BENCH_FLOOR` | `on` also measures a scan and a hash of what a resolve needs | `off` |
//! | `--changes` | `METAXY_BENCH_CHANGES` | `on` also measures increments since a checkpoint, by the share of changed samples | `off` |
//! | `--json` | `METAXY_BENCH_JSON` | a file that gets every median as a line of JSON | none |
//!
//! The Python package runs if `METAXY_REFERENCE_PYTHON` names an interpreter that has it (or `python3` has it), with
//! the script in `METAXY_REFERENCE_BASELINE` (or `../shared/reference/baseline.py` beside the workspace).

mod changes;
mod data;
mod floor;
mod measure;
mod options;
mod process;
mod reference;
mod report;
mod subject;
mod writer;

use std::process::ExitCode;

use data::Case;
use measure::Measures;
use options::Options;
use reference::Reference;
use report::Report;

pub use data::Scenario;
pub use metaxy_core::error::BoxError;
pub use subject::{Phase, Probe, Subject};
pub use writer::run_writer;

/// Returns whether this process measures for another one, which has done all shared set-up.
pub fn is_child() -> bool {
    process::is_child() || writer::is_child()
}

/// Measures the subjects and prints a table. It is called by the `main` of a `benches/workload.rs`.
pub fn run(subjects: impl IntoIterator<Item = Subject>) -> ExitCode {
    let subjects: Vec<Subject> = subjects.into_iter().collect();
    let result = match process::task() {
        Ok(Some(task)) => process::answer(&subjects, &task),
        Ok(None) => Options::read().and_then(|options| match options {
            Some(options) => measure_all(&subjects, &options),
            None => Ok(()),
        }),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn measure_all(subjects: &[Subject], options: &Options) -> Result<(), BoxError> {
    let chosen: Vec<(usize, &Subject)> =
        subjects.iter().enumerate().filter(|(_, subject)| options.wants(&subject.name)).collect();
    let reference = if options.reference { Reference::find() } else { Err("it is switched off".to_owned()) };
    if let (Err(reason), false) = (&reference, options.smoke) {
        println!("Without the Python package: {reason}.");
    }
    let reference = reference.ok();
    let mut report = Report::new(options)?;
    for &scenario in &options.scenarios {
        for &size in &options.sizes {
            let case = Case { scenario, size };
            measure_case(&chosen, options, reference.as_ref(), case, &mut report)?;
        }
    }
    Ok(())
}

/// Measures one case; the subjects and the reference take turns.
fn measure_case(
    subjects: &[(usize, &Subject)],
    options: &Options,
    reference: Option<&Reference>,
    case: Case,
    report: &mut Report,
) -> Result<(), BoxError> {
    let mut own = vec![Measures::default(); subjects.len()];
    let mut kinds: Vec<(&str, &Subject, Measures)> = Vec::new();
    for (_, subject) in subjects {
        if let (Some(kind), Some(_)) = (&subject.reference, reference)
            && !kinds.iter().any(|(known, _, _)| known == kind)
        {
            kinds.push((kind, subject, Measures::default()));
        }
    }
    for _ in 0..options.rounds {
        for (slot, (index, subject)) in own.iter_mut().zip(subjects) {
            slot.extend(process::measure(*index, subject, case, options, false)?);
            if !subject.extras.is_empty() || options.floor || options.changes {
                slot.extend(process::measure(*index, subject, case, options, true)?);
            }
        }
        for (kind, subject, measures) in &mut kinds {
            if let Some(reference) = reference {
                measures.extend(reference.measure(kind, subject, case)?);
            }
        }
    }
    report.case(case, subjects, &own, &kinds)
}
