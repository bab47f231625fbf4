//! Filters: conditions on the rows of a feature, written with builders or as SQL text.
//!
//! A [`Filter`] names columns without a table. [`Filter::bind`] checks it against a schema and returns a [`Predicate`],
//! whose values have the types of their columns. A predicate is evaluated on record batches ([`Predicate::evaluate`])
//! or rendered for a database ([`to_sql`]). Both follow SQL's three-valued logic: a row passes only if the result is
//! true.
//!
//! ```
//! # use metaxy_core::filter::{Filter, col};
//! # fn main() -> metaxy_core::Result<()> {
//! let built = col("score").gt(3) & !col("name").is_in(["a", "b"]);
//! let parsed = Filter::parse("score > 3 AND name NOT IN ('a', 'b')")?;
//! assert_eq!(built, parsed);
//! # Ok(())
//! # }
//! ```

mod bind;
mod column;
mod display;
mod eval;
mod in_list;
mod literal;
mod parse;
mod predicate;
mod sql;
mod tokens;

use std::collections::BTreeSet;
use std::ops::{BitAnd, BitOr, Not};
use std::str::FromStr;

use crate::error::{Error, Result};

pub use column::{Column, CompareOp, Operand, col};
pub use in_list::InList;
pub use literal::{Literal, Number};
pub use predicate::{BoundColumn, Predicate, Scalar};
pub use sql::{SqlDialect, StandardSql, to_sql};

/// A condition on rows, not yet bound to a schema.
///
/// Combine filters with `&`, `|` and `!`, or parse them from text. `Display` writes text that parses to the same
/// filter. A filter has at most [`MAX_LEVELS`] levels of nested conditions. A deeper one can be built, but not used.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    node: Node,
    /// The number of levels of nested conditions.
    levels: usize,
}

/// The maximum number of levels of conditions nested by `AND` and `OR`. The functions on filters recurse as deep.
pub const MAX_LEVELS: usize = 100;

/// The tree of a filter. And and Or have two or more parts, none of the same kind; the part of Not is never a Not.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Constant(Option<bool>),
    Column(Column),
    Compare {
        column: Column,
        op: CompareOp,
        operand: Operand,
    },
    In {
        column: Column,
        values: Vec<Literal>,
    },
    IsNull(Column),
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    /// Replaces a filter with too many levels.
    TooDeep,
}

impl Filter {
    /// Parses the text of a condition: `= != <> < <= > >=`, `AND`, `OR`, `NOT`, `[NOT] IN`, `[NOT] BETWEEN`,
    /// `IS [NOT] NULL`, parentheses, columns (`name`, `"any name"`, `struct.member`), strings, numbers, `TRUE`,
    /// `FALSE`, `NULL`, bytes (`x'00ff'`), `DATE '..'`, `TIME '..'`, `TIMESTAMP '..'`, and a boolean column alone.
    /// `x = NULL` means `x IS NULL`, `x != NULL` means `x IS NOT NULL`.
    ///
    /// # Errors
    /// [`Error::FilterSyntax`], which shows the position.
    pub fn parse(text: &str) -> Result<Self> {
        parse::parse(text)?.check_levels()
    }

    /// Returns a filter that is true if all the filters are true; without filters it is true for every row.
    pub fn all(filters: impl IntoIterator<Item = Filter>) -> Self {
        Self::join(filters, Some(true), Node::And, |filter| match filter.node {
            Node::And(parts) => Ok(parts),
            other => Err(Filter::of(other)),
        })
    }

    /// Returns the columns that it uses (for a member of a struct: the struct), each once, sorted.
    pub fn columns(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.visit(&mut |column| {
            names.insert(column.root().to_owned());
        });
        names
    }

    /// Returns the same filter on other column names. If `rename` returns none, the name stays.
    #[must_use]
    pub fn rename(&self, rename: &dyn Fn(&str) -> Option<String>) -> Self {
        let parts = |parts: &[Filter]| parts.iter().map(|part| part.rename(rename)).collect();
        Self::of(match &self.node {
            Node::Constant(value) => Node::Constant(*value),
            Node::Column(column) => Node::Column(column.renamed(rename)),
            Node::Compare { column, op, operand } => {
                let operand = match operand {
                    Operand::Column(other) => Operand::Column(other.renamed(rename)),
                    literal => literal.clone(),
                };
                Node::Compare { column: column.renamed(rename), op: *op, operand }
            }
            Node::In { column, values } => Node::In { column: column.renamed(rename), values: values.clone() },
            Node::IsNull(column) => Node::IsNull(column.renamed(rename)),
            Node::And(all) => Node::And(parts(all)),
            Node::Or(any) => Node::Or(parts(any)),
            Node::Not(inner) => Node::Not(Box::new(inner.rename(rename))),
            Node::TooDeep => Node::TooDeep,
        })
    }

    /// Counts the levels of a filter. A filter with too many loses its conditions, so that no function recurses into
    /// them.
    fn of(node: Node) -> Self {
        let levels = match &node {
            Node::And(parts) | Node::Or(parts) => 1 + parts.iter().map(|part| part.levels).max().unwrap_or_default(),
            Node::Not(inner) => inner.levels,
            _ => 0,
        };
        let is_deep = levels > MAX_LEVELS || matches!(&node, Node::Not(inner) if inner.node == Node::TooDeep);
        if is_deep { Self { node: Node::TooDeep, levels: MAX_LEVELS } } else { Self { node, levels } }
    }

    /// Refuses a filter with too many levels. A filter that contains one has lost its conditions too.
    fn check_levels(self) -> Result<Self> {
        if self.node == Node::TooDeep { Err(too_deep()) } else { Ok(self) }
    }

    fn any(filters: impl IntoIterator<Item = Filter>) -> Self {
        Self::join(filters, Some(false), Node::Or, |filter| match filter.node {
            Node::Or(parts) => Ok(parts),
            other => Err(Filter::of(other)),
        })
    }

    /// Joins filters into one flat node; `unfold` returns the parts of a node of that kind.
    fn join(
        filters: impl IntoIterator<Item = Filter>,
        empty: Option<bool>,
        node: fn(Vec<Filter>) -> Node,
        unfold: fn(Filter) -> Result<Vec<Filter>, Filter>,
    ) -> Self {
        let mut parts = Vec::new();
        for filter in filters {
            match unfold(filter) {
                Ok(more) => parts.extend(more),
                Err(one) => parts.push(one),
            }
        }
        match parts.len() {
            0 => Self::of(Node::Constant(empty)),
            1 => parts.remove(0),
            _ => Self::of(node(parts)),
        }
    }

    fn visit(&self, seen: &mut dyn FnMut(&Column)) {
        match &self.node {
            Node::Constant(_) | Node::TooDeep => {}
            Node::Column(column) | Node::In { column, .. } | Node::IsNull(column) => seen(column),
            Node::Compare { column, operand, .. } => {
                seen(column);
                if let Operand::Column(other) = operand {
                    seen(other);
                }
            }
            Node::And(parts) | Node::Or(parts) => parts.iter().for_each(|part| part.visit(seen)),
            Node::Not(inner) => inner.visit(seen),
        }
    }
}

fn too_deep() -> Error {
    Error::LimitExceeded {
        what: "the nesting of a filter".to_owned(),
        limit: format!("{MAX_LEVELS} levels"),
        hint: "join conditions of one kind side by side, or look for values with IN".to_owned(),
    }
}

impl BitAnd for Filter {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self::all([self, other])
    }
}

impl BitOr for Filter {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self::any([self, other])
    }
}

impl Not for Filter {
    type Output = Self;

    fn not(self) -> Self {
        match self.node {
            Node::Not(inner) => *inner,
            other => Self::of(Node::Not(Box::new(Self::of(other)))),
        }
    }
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// A value that is a filter: a [`Filter`], or its text.
pub trait IntoFilter {
    /// Returns the filter.
    ///
    /// # Errors
    /// [`Error::FilterSyntax`] for a text that does not parse.
    fn into_filter(self) -> Result<Filter>;
}

impl IntoFilter for Filter {
    fn into_filter(self) -> Result<Filter> {
        self.check_levels()
    }
}

impl IntoFilter for &Filter {
    fn into_filter(self) -> Result<Filter> {
        self.clone().check_levels()
    }
}

impl IntoFilter for &str {
    fn into_filter(self) -> Result<Filter> {
        Filter::parse(self)
    }
}

impl IntoFilter for String {
    fn into_filter(self) -> Result<Filter> {
        Filter::parse(&self)
    }
}

impl IntoFilter for &String {
    fn into_filter(self) -> Result<Filter> {
        Filter::parse(self)
    }
}
