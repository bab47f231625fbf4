//! A slow, simple model of a metadata store, with which real ones are compared.
//!
//! Rows are maps from column to value, tables are lists of rows, every result is computed from all rows. It is written
//! from the reference's rules only and shares nothing with the engine except the types of definitions: versions,
//! hashes, filters, joins and lineages are implemented again. If store and oracle disagree, one of them has misread the
//! rules.

mod definitions;
mod filter;
mod hashing;
mod history;
mod input;
mod resolve;
mod rows;
mod run;
mod store;

use std::collections::{BTreeMap, BTreeSet};

use metaxy_core::HashAlgorithm;
use serde_json::Value;

use crate::scenario::{Definitions, Expected, Row as JsonRow, Scenario, Step};

use definitions::Graph;

pub use run::{Disagreement, Histories};

/// A row: values by column; a missing column is null.
type Row = BTreeMap<String, Value>;

/// The model of one store.
#[derive(Clone, Debug)]
pub struct Oracle {
    algorithm: HashAlgorithm,
    truncation: usize,
    graph: Graph,
    tables: BTreeMap<String, Table>,
    /// The time of the current step; every step has its own.
    now: i64,
    /// Searched in this order for features that this store does not have.
    fallbacks: Vec<Oracle>,
}

/// A feature's table: all rows that were ever written, oldest first.
#[derive(Clone, Debug, Default)]
struct Table {
    rows: Vec<Row>,
    /// Every column of any write.
    columns: BTreeSet<String>,
}

/// The result of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Nothing: a write, a delete, new definitions.
    Done,
    /// Rows that were read.
    Rows(Vec<JsonRow>),
    /// An increment.
    Increment(Expected),
}

impl Oracle {
    /// Returns an empty store.
    ///
    /// # Errors
    /// What is wrong with the definitions.
    pub fn new(definitions: &Definitions, algorithm: HashAlgorithm, truncation: usize) -> Result<Self, String> {
        Ok(Self {
            algorithm,
            truncation,
            graph: Graph::new(definitions, truncation)?,
            tables: BTreeMap::new(),
            now: 0,
            fallbacks: Vec::new(),
        })
    }

    /// Adds a fallback store, after those added before.
    #[must_use]
    pub fn with_fallback(mut self, fallback: Self) -> Self {
        self.fallbacks.push(fallback);
        self
    }

    /// Returns the definitions with their expected versions.
    pub fn versioned(&self, definitions: &Definitions) -> Definitions {
        self.graph.versioned(definitions, self.truncation)
    }

    /// Runs a step.
    ///
    /// # Errors
    /// The reason why the step is not possible; nothing has changed in that case.
    pub fn take(&mut self, step: &Step) -> Result<Answer, String> {
        self.now += 1;
        match step {
            Step::Write(write) => self.write(&write.feature, &write.samples).map(|()| Answer::Done),
            Step::Delete(delete) => self.delete(delete).map(|()| Answer::Done),
            Step::Read(read) => self.answer_read(read).map(Answer::Rows),
            Step::Resolve(resolve) => self.resolve(resolve).map(Answer::Increment),
            Step::Redefine(definitions) => {
                self.graph = Graph::new(definitions, self.truncation)?;
                Ok(Answer::Done)
            }
        }
    }

    /// Returns whether the store itself has any row of a feature, of any version.
    pub fn has(&self, feature: &str) -> bool {
        self.tables.get(feature).is_some_and(|table| !table.rows.is_empty())
    }
}

/// Runs a scenario on the oracle alone, and returns it with the oracle's results instead of the recorded ones.
///
/// # Errors
/// The first step that is not possible.
pub fn answered(scenario: &Scenario) -> Result<Scenario, String> {
    let mut answered = scenario.clone();
    let mut oracle = Oracle::new(&scenario.definitions, scenario.hash_algorithm, scenario.hash_truncation_length)?;
    answered.definitions = oracle.versioned(&scenario.definitions);
    for (index, step) in answered.steps.iter_mut().enumerate() {
        let answer = oracle
            .take(step)
            .map_err(|error| format!("step {} ({} {}): {error}", index + 1, step.op(), step.feature()))?;
        note(step, answer, &oracle);
    }
    Ok(answered)
}

/// Records a result in its step.
fn note(step: &mut Step, answer: Answer, oracle: &Oracle) {
    match (step, answer) {
        (Step::Read(read), Answer::Rows(rows)) => read.expect = rows,
        (Step::Resolve(resolve), Answer::Increment(increment)) => resolve.expect = increment,
        (Step::Redefine(definitions), _) => *definitions = oracle.versioned(definitions),
        _ => {}
    }
}
