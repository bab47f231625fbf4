//! A slow, obvious model of a metadata store, to compare real ones with.
//!
//! Rows are maps from column to value, tables are lists of rows, every question is answered by looking at all rows. It
//! is written from the reference's rules alone and shares nothing with the engine but the types of definitions:
//! versions, hashes, filters, joins and lineages are all worked out here again. If store and oracle disagree, one of
//! them has misread the rules.

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

/// A row: values by column; a column that is not there is null.
type Row = BTreeMap<String, Value>;

/// The model of one store.
#[derive(Clone, Debug)]
pub struct Oracle {
    algorithm: HashAlgorithm,
    truncation: usize,
    graph: Graph,
    tables: BTreeMap<String, Table>,
    /// The time of the step that runs; every step has its own.
    now: i64,
    /// Asked in this order for features that this store does not have.
    fallbacks: Vec<Oracle>,
}

/// A feature's table: all rows that were ever written, oldest first.
#[derive(Clone, Debug, Default)]
struct Table {
    rows: Vec<Row>,
    /// Every column that any write has brought.
    columns: BTreeSet<String>,
}

/// What a step answers.
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

    /// Adds a store to fall back on, after those added before.
    #[must_use]
    pub fn with_fallback(mut self, fallback: Self) -> Self {
        self.fallbacks.push(fallback);
        self
    }

    /// Returns the definitions with the versions that they should have.
    pub fn versioned(&self, definitions: &Definitions) -> Definitions {
        self.graph.versioned(definitions, self.truncation)
    }

    /// Takes a step.
    ///
    /// # Errors
    /// Why the step is not possible; nothing has changed then.
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

    /// Returns whether the store itself has any row of a feature, of whatever version.
    pub fn has(&self, feature: &str) -> bool {
        self.tables.get(feature).is_some_and(|table| !table.rows.is_empty())
    }
}

/// Plays a scenario on the oracle alone, and returns it with the oracle's answers in place of the recorded ones.
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

/// Writes an answer into its step.
fn note(step: &mut Step, answer: Answer, oracle: &Oracle) {
    match (step, answer) {
        (Step::Read(read), Answer::Rows(rows)) => read.expect = rows,
        (Step::Resolve(resolve), Answer::Increment(increment)) => resolve.expect = increment,
        (Step::Redefine(definitions), _) => *definitions = oracle.versioned(definitions),
        _ => {}
    }
}
