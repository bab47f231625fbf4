//! Columns, and the builders of conditions on them.

use serde::{Deserialize, Serialize};

use super::literal::Literal;
use super::{Filter, Node};

/// The name of a column, or the path to a member of a struct column. See [`col`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Column {
    pub(super) path: Vec<String>,
}

/// A comparison of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// The right side of a comparison: a value or another column.
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

/// Returns the column of a name. A dotted name is also the path to a member of a struct column (`meta.size`); when the
/// filter is bound, a column whose whole name is the dotted text comes first.
pub fn col(name: impl AsRef<str>) -> Column {
    let name = name.as_ref();
    let parts: Vec<String> = name.split('.').map(str::to_owned).collect();
    let path = if parts.iter().any(String::is_empty) { vec![name.to_owned()] } else { parts };
    Column { path }
}

impl Column {
    /// Returns the name of the column, then the names of the struct members that lead to the value.
    pub fn path(&self) -> &[String] {
        &self.path
    }

    /// Returns `column = operand`; equal to NULL means [`Column::is_null`].
    pub fn eq(self, operand: impl Into<Operand>) -> Filter {
        self.compare(CompareOp::Eq, operand.into())
    }

    /// Returns `column != operand`; unequal to NULL means [`Column::is_not_null`].
    pub fn ne(self, operand: impl Into<Operand>) -> Filter {
        self.compare(CompareOp::NotEq, operand.into())
    }

    /// Returns `column < operand`.
    pub fn lt(self, operand: impl Into<Operand>) -> Filter {
        self.compare(CompareOp::Lt, operand.into())
    }

    /// Returns `column <= operand`.
    pub fn le(self, operand: impl Into<Operand>) -> Filter {
        self.compare(CompareOp::LtEq, operand.into())
    }

    /// Returns `column > operand`.
    pub fn gt(self, operand: impl Into<Operand>) -> Filter {
        self.compare(CompareOp::Gt, operand.into())
    }

    /// Returns `column >= operand`.
    pub fn ge(self, operand: impl Into<Operand>) -> Filter {
        self.compare(CompareOp::GtEq, operand.into())
    }

    /// Returns `column IS NULL`.
    pub fn is_null(self) -> Filter {
        Filter::of(Node::IsNull(self))
    }

    /// Returns `column IS NOT NULL`.
    pub fn is_not_null(self) -> Filter {
        !self.is_null()
    }

    /// Returns `column IN (values)`, which is never true if there are no values.
    pub fn is_in<T: Into<Literal>>(self, values: impl IntoIterator<Item = T>) -> Filter {
        Filter::of(Node::In { column: self, values: values.into_iter().map(Into::into).collect() })
    }

    /// Returns `column NOT IN (values)`, which as in SQL is never true if one of the values is NULL.
    pub fn not_in<T: Into<Literal>>(self, values: impl IntoIterator<Item = T>) -> Filter {
        !self.is_in(values)
    }

    /// Returns the condition that a boolean column is true.
    pub fn is_true(self) -> Filter {
        Filter::of(Node::Column(self))
    }

    pub(super) fn compare(self, op: CompareOp, operand: Operand) -> Filter {
        match (op, operand) {
            (CompareOp::Eq, Operand::Literal(Literal::Null)) => self.is_null(),
            (CompareOp::NotEq, Operand::Literal(Literal::Null)) => self.is_not_null(),
            (op, operand) => Filter::of(Node::Compare { column: self, op, operand }),
        }
    }

    pub(super) fn root(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }

    pub(super) fn dotted(&self) -> String {
        self.path.join(".")
    }

    pub(super) fn renamed(&self, rename: &dyn Fn(&str) -> Option<String>) -> Self {
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
    /// Returns the operator in SQL.
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

    /// Returns the operator that means the same with the sides exchanged: `3 < x` is `x > 3`.
    pub(super) fn mirrored(self) -> Self {
        match self {
            Self::Lt => Self::Gt,
            Self::LtEq => Self::GtEq,
            Self::Gt => Self::Lt,
            Self::GtEq => Self::LtEq,
            same => same,
        }
    }
}
