//! Filters: conditions on the rows of a feature, written with builders or as SQL text.
//!
//! A [`Filter`] names columns but knows no table. [`Filter::bind`] checks it against a schema and gives a
//! [`Predicate`], whose values have the types of their columns. A predicate is evaluated on record batches
//! ([`Predicate::evaluate`]) or rendered for a database ([`to_sql`]); both follow SQL's three-valued logic: a row
//! passes only where the result is true.
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
mod display;
mod eval;
mod in_list;
mod literal;
mod parse;
mod predicate;
mod sql;

use std::collections::BTreeSet;
use std::ops::{BitAnd, BitOr, Not};
use std::str::FromStr;

use crate::error::{Error, Result};

pub use in_list::InList;
pub use literal::{Literal, Number};
pub use predicate::{BoundColumn, Predicate, Scalar};
pub use sql::{SqlDialect, StandardSql, to_sql};

/// A condition on rows, not yet bound to a schema.
///
/// Combine filters with `&`, `|` and `!`, or parse them from text. `Display` writes text that parses back to the same
/// filter.
/// A filter has at most [`MAX_LEVELS`] levels of conditions in conditions. A deeper one can be put together, but not used.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    node: Node,
    /// How many conditions stand in each other.
    levels: usize,
}

/// How deep conditions joined by `AND` and `OR` may stand in each other: what looks at a filter calls itself as often.
pub const MAX_LEVELS: usize = 100;

/// The tree under a filter. And and Or have two or more parts, none of their own kind; Not never holds a Not.
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
    /// In the place of a filter of more levels than are taken.
    TooDeep,
}

/// A column's name, or the path to a member of a struct column. See [`col`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Column {
    path: Vec<String>,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `=`
    Eq,
    /// `!=`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
}

/// What a column is compared with: a value or another column.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// Another column of the same row.
    Column(Column),
    /// A value.
    Literal(Literal),
}

impl From<Column> for Operand {
    fn from(column: Column) -> Self {
        Self::Column(column)
    }
}

impl<T: Into<Literal>> From<T> for Operand {
    fn from(value: T) -> Self {
        Self::Literal(value.into())
    }
}

/// Names a column; a dotted name is also the path to a member of a struct column (`meta.size`). When the filter is
/// bound, a column whose whole name is the dotted text comes first.
pub fn col(name: impl AsRef<str>) -> Column {
    let name = name.as_ref();
    let parts: Vec<String> = name.split('.').map(str::to_owned).collect();
    let path = if parts.iter().any(String::is_empty) { vec![name.to_owned()] } else { parts };
    Column { path }
}

impl Column {
    /// The column's name, then the names of the struct members that lead to the value.
    pub fn path(&self) -> &[String] {
        &self.path
    }

    /// `column = operand`; equal to NULL means [`Column::is_null`].
    pub fn eq(self, operand: impl Into<Operand>) -> Filter {
        self.compare(CompareOp::Eq, operand.into())
    }

    /// `column != operand`; unequal to NULL means [`Column::is_not_null`].
    pub fn ne(self, operand: impl Into<Operand>) -> Filter {
        self.compare(CompareOp::NotEq, operand.into())
    }

    /// `column < operand`.
    pub fn lt(self, operand: impl Into<Operand>) -> Filter {
        self.compare(CompareOp::Lt, operand.into())
    }

    /// `column <= operand`.
    pub fn le(self, operand: impl Into<Operand>) -> Filter {
        self.compare(CompareOp::LtEq, operand.into())
    }

    /// `column > operand`.
    pub fn gt(self, operand: impl Into<Operand>) -> Filter {
        self.compare(CompareOp::Gt, operand.into())
    }

    /// `column >= operand`.
    pub fn ge(self, operand: impl Into<Operand>) -> Filter {
        self.compare(CompareOp::GtEq, operand.into())
    }

    /// `column IS NULL`.
    pub fn is_null(self) -> Filter {
        Filter::of(Node::IsNull(self))
    }

    /// `column IS NOT NULL`.
    pub fn is_not_null(self) -> Filter {
        !self.is_null()
    }

    /// `column IN (values)`; never true where there are none.
    pub fn is_in<T: Into<Literal>>(self, values: impl IntoIterator<Item = T>) -> Filter {
        Filter::of(Node::In { column: self, values: values.into_iter().map(Into::into).collect() })
    }

    /// `column NOT IN (values)`; as SQL has it, never true where one of the values is NULL.
    pub fn not_in<T: Into<Literal>>(self, values: impl IntoIterator<Item = T>) -> Filter {
        !self.is_in(values)
    }

    /// A boolean column, as a condition.
    pub fn is_true(self) -> Filter {
        Filter::of(Node::Column(self))
    }

    fn compare(self, op: CompareOp, operand: Operand) -> Filter {
        match (op, operand) {
            (CompareOp::Eq, Operand::Literal(Literal::Null)) => self.is_null(),
            (CompareOp::NotEq, Operand::Literal(Literal::Null)) => self.is_not_null(),
            (op, operand) => Filter::of(Node::Compare { column: self, op, operand }),
        }
    }

    fn root(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }

    fn dotted(&self) -> String {
        self.path.join(".")
    }

    fn renamed(&self, rename: &dyn Fn(&str) -> Option<String>) -> Self {
        // The whole dotted name first: binding looks it up in the same order.
        if let (true, Some(name)) = (self.path.len() > 1, rename(&self.dotted())) {
            return Self { path: vec![name] };
        }
        let mut path = self.path.clone();
        if let Some(root) = path.first_mut() {
            *root = rename(root).unwrap_or_else(|| std::mem::take(root));
        }
        Self { path }
    }
}

impl CompareOp {
    /// The operator as SQL writes it.
    pub fn as_sql(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::NotEq => "<>",
            Self::Lt => "<",
            Self::LtEq => "<=",
            Self::Gt => ">",
            Self::GtEq => ">=",
        }
    }

    /// The operator that says the same with the sides exchanged: `3 < x` is `x > 3`.
    fn mirrored(self) -> Self {
        match self {
            Self::Lt => Self::Gt,
            Self::LtEq => Self::GtEq,
            Self::Gt => Self::Lt,
            Self::GtEq => Self::LtEq,
            same => same,
        }
    }
}

impl Filter {
    /// Parses the text of a condition: `= != <> < <= > >=`, `AND`, `OR`, `NOT`, `[NOT] IN`, `[NOT] BETWEEN`,
    /// `IS [NOT] NULL`, parentheses, columns (`name`, `"any name"`, `struct.member`), strings, numbers, `TRUE`,
    /// `FALSE`, `NULL`, bytes (`x'00ff'`), `DATE '..'`, `TIME '..'`, `TIMESTAMP '..'`, and a boolean column alone.
    /// `x = NULL` means `x IS NULL`, `x != NULL` means `x IS NOT NULL`.
    ///
    /// # Errors
    /// [`Error::FilterSyntax`], which points at the place.
    pub fn parse(text: &str) -> Result<Self> {
        parse::parse(text)?.check_levels()
    }

    /// True where all the filters are true; true for every row where there are none.
    pub fn all(filters: impl IntoIterator<Item = Filter>) -> Self {
        Self::join(filters, Some(true), Node::And, |filter| match filter.node {
            Node::And(parts) => Ok(parts),
            other => Err(Filter::of(other)),
        })
    }

    /// The columns that it looks at (for a struct's member: the struct), each once, sorted.
    pub fn columns(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.visit(&mut |column| {
            names.insert(column.root().to_owned());
        });
        names
    }

    /// The same filter on other column names. Where `rename` gives none, the name stays.
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

    /// A filter with its levels counted. One that has too many lets go of them, so that nothing ever walks through them.
    fn of(node: Node) -> Self {
        let levels = match &node {
            Node::And(parts) | Node::Or(parts) => 1 + parts.iter().map(|part| part.levels).max().unwrap_or_default(),
            Node::Not(inner) => inner.levels,
            _ => 0,
        };
        let is_deep = levels > MAX_LEVELS || matches!(&node, Node::Not(inner) if inner.node == Node::TooDeep);
        if is_deep { Self { node: Node::TooDeep, levels: MAX_LEVELS } } else { Self { node, levels } }
    }

    /// Refuses a filter of too many levels; what holds one has let go of its own too.
    fn check_levels(self) -> Result<Self> {
        if self.node == Node::TooDeep { Err(too_deep()) } else { Ok(self) }
    }

    fn any(filters: impl IntoIterator<Item = Filter>) -> Self {
        Self::join(filters, Some(false), Node::Or, |filter| match filter.node {
            Node::Or(parts) => Ok(parts),
            other => Err(Filter::of(other)),
        })
    }

    /// Joins filters into one flat node; `unfold` takes one of that kind apart.
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

/// What can stand where a filter is asked for: a [`Filter`], or its text.
pub trait IntoFilter {
    /// The filter.
    ///
    /// # Errors
    /// [`Error::FilterSyntax`] where it is a text that does not parse.
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
