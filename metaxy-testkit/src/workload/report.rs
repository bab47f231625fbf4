//! The table, and the lines of JSON.

use std::fs::File;
use std::io::Write;

use metaxy_core::error::BoxError;
use serde_json::json;

use super::data::Case;
use super::measure::{Measures, Series, median};
use super::options::Options;
use super::subject::{Phase, Subject};

const NAME_WIDTH: usize = 34;
const WIDTH: usize = 12;

pub(super) struct Report {
    json: Option<File>,
    hash: Option<metaxy_core::HashAlgorithm>,
}

impl Report {
    pub(super) fn new(options: &Options) -> Result<Self, BoxError> {
        let json = options.json.as_ref().map(|path| File::options().create(true).append(true).open(path));
        Ok(Self { json: json.transpose()?, hash: options.hash })
    }

    /// Prints one case.
    pub(super) fn case(
        &mut self,
        case: Case,
        subjects: &[(usize, &Subject)],
        own: &[Measures],
        references: &[(&str, &Subject, Measures)],
    ) -> Result<(), BoxError> {
        let stale = own.iter().find_map(|measures| measures.stale_rows).unwrap_or_default();
        println!("\n{}, {} records ({} stale)", case.scenario, grouped(case.size as f64), grouped(stale as f64));
        let heads: Vec<String> =
            Phase::ALL.iter().map(|phase| phase.name().to_owned()).chain(["peak MB".to_owned()]).collect();
        line("", &heads);
        for (kind, _, measures) in references {
            self.seconds(&format!("Python {kind}"), None, case, &measures.seconds, &measures.peaks)?;
        }
        for ((_, subject), measures) in subjects.iter().zip(own) {
            let hash = subject.algorithm(self.hash).map(|hash| hash.to_string());
            self.seconds(&subject.name, hash, case, &measures.seconds, &measures.peaks)?;
            let rate = |phase: &Phase| {
                middle(&measures.seconds, *phase).map_or_else(dash, |s| grouped(case.size as f64 / s.max(1e-9)))
            };
            line("  rows per second", &Phase::ALL.iter().map(rate).collect::<Vec<_>>());
            if !measures.open.is_empty() {
                let time = |phase: &Phase| {
                    middle(&measures.open, *phase).map_or_else(dash, |seconds| format!("{:.1} ms", seconds * 1e3))
                };
                line("  again in an open store", &Phase::ALL.iter().map(time).collect::<Vec<_>>());
            }
            for (name, series) in &measures.meters {
                let growth = |phase: &Phase| middle(series, *phase).map_or_else(dash, grouped);
                line(&format!("  {name}"), &Phase::ALL.iter().map(growth).collect::<Vec<_>>());
            }
            let python = references.iter().find(|(kind, _, _)| subject.compares_with(kind));
            changes(measures, python.and_then(|(_, _, measures)| middle(&measures.seconds, Phase::Noop)));
            for (kind, _, reference) in references.iter().filter(|(kind, _, _)| subject.compares_with(kind)) {
                ratios(&format!("  / Python {kind}"), measures, &reference.seconds, &reference.peaks);
            }
            for (name, series) in &measures.extras {
                self.seconds(&format!("  {name}"), None, case, series, &[])?;
                ratios(&format!("  / {name}"), measures, series, &[]);
            }
        }
        Ok(())
    }

    /// Returns a row of medians in seconds.
    fn seconds(
        &mut self,
        name: &str,
        hash: Option<String>,
        case: Case,
        seconds: &Series,
        peaks: &[f64],
    ) -> Result<(), BoxError> {
        let time = |phase: &Phase| middle(seconds, *phase).map_or_else(dash, |seconds| format!("{seconds:.3} s"));
        let peak = median(peaks);
        let mut cells: Vec<String> = Phase::ALL.iter().map(time).collect();
        cells.push(peak.map_or_else(dash, grouped));
        line(&hash.as_ref().map_or_else(|| name.to_owned(), |hash| format!("{name} ({hash})")), &cells);
        if let Some(file) = &mut self.json {
            let medians: serde_json::Map<String, serde_json::Value> =
                seconds.iter().filter_map(|(phase, values)| Some((phase.clone(), json!(median(values)?)))).collect();
            let entry = json!({
                "subject": name.trim(), "hash": hash, "scenario": case.scenario.to_string(), "size": case.size,
                "seconds": medians, "peak_mb": peak,
            });
            writeln!(file, "{entry}")?;
        }
        Ok(())
    }
}

impl Subject {
    fn compares_with(&self, kind: &str) -> bool {
        self.reference.as_deref() == Some(kind)
    }
}

/// Prints the ratios of time and memory to those of a reference.
fn ratios(name: &str, own: &Measures, seconds: &Series, peaks: &[f64]) {
    let ratio = |own: Option<f64>, other: Option<f64>| match (own, other) {
        (Some(own), Some(other)) if other > 0.0 => format!("{:.2}x", own / other),
        _ => dash(),
    };
    let mut cells: Vec<String> =
        Phase::ALL.iter().map(|phase| ratio(middle(&own.seconds, *phase), middle(seconds, *phase))).collect();
    cells.push(ratio(median(&own.peaks), median(peaks)));
    line(name, &cells);
}

/// Prints the increments since a checkpoint; `noop` is the time of the Python package for an increment without changes.
fn changes(measures: &Measures, noop: Option<f64>) {
    for (share, change) in &measures.changes {
        let (since, all) = (median(&change.since).unwrap_or_default(), median(&change.all_rows).unwrap_or_default());
        let of_python = noop.map_or_else(String::new, |noop| format!(", {:.4} of Python's noop", since / noop));
        let (share, basis) = (*share as f64 / 10_000.0, &change.basis);
        println!(
            "  {share}% changed: {:.1} ms since, {:.1} ms from all rows: {:.4}{of_python} ({basis})",
            since * 1e3,
            all * 1e3,
            since / all.max(1e-9),
        );
    }
}

fn middle(series: &Series, phase: Phase) -> Option<f64> {
    median(series.get(phase.name())?)
}

fn line(name: &str, cells: &[String]) {
    let cells: String = cells.iter().map(|cell| format!("{cell:>WIDTH$}")).collect();
    println!("{}", format!("{name:<NAME_WIDTH$}{cells}").trim_end());
}

fn dash() -> String {
    "-".to_owned()
}

/// Returns a whole number with a comma between thousands.
pub(super) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands() {
        assert_eq!([0.4, 999.0, 1000.0, 1_234_567.0].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
