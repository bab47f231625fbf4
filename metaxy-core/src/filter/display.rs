//! Writes a filter as text that parses to the same filter.

use std::fmt;

use super::{Column, Filter, Node, Operand};

/// Words that need quotes as the name of a column.
pub(super) const RESERVED: [&str; 9] = ["AND", "BETWEEN", "FALSE", "IN", "IS", "NOT", "NULL", "OR", "TRUE"];

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::Constant(value) => f.write_str(match value {
                Some(true) => "TRUE",
                Some(false) => "FALSE",
                None => "NULL",
            }),
            Node::TooDeep => f.write_str("(a condition of too many levels)"),
            Node::Column(column) => column.fmt(f),
            Node::Compare { column, op, operand } => write!(f, "{column} {} {operand}", op.as_sql()),
            Node::In { .. } => self.write_in(f, "IN"),
            Node::IsNull(column) => write!(f, "{column} IS NULL"),
            Node::And(parts) => write_joined(f, parts, " AND "),
            Node::Or(parts) => write_joined(f, parts, " OR "),
            Node::Not(inner) => match &inner.node {
                Node::IsNull(column) => write!(f, "{column} IS NOT NULL"),
                Node::In { .. } => inner.write_in(f, "NOT IN"),
                Node::Column(_) | Node::Constant(_) => write!(f, "NOT {inner}"),
                _ => write!(f, "NOT ({inner})"),
            },
        }
    }
}

impl Filter {
    fn write_in(&self, f: &mut fmt::Formatter<'_>, word: &str) -> fmt::Result {
        let Node::In { column, values } = &self.node else { return Ok(()) };
        write!(f, "{column} {word} (")?;
        for (index, value) in values.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{value}")?;
        }
        f.write_str(")")
    }
}

fn write_joined(f: &mut fmt::Formatter<'_>, parts: &[Filter], separator: &str) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        match part.node {
            Node::And(_) | Node::Or(_) => write!(f, "({part})")?,
            _ => write!(f, "{part}")?,
        }
    }
    Ok(())
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(column) => column.fmt(f),
            Self::Literal(literal) => literal.fmt(f),
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_path(f, &self.path)
    }
}

/// Writes a dotted name, with quotes if they are needed.
pub(super) fn write_path(f: &mut dyn fmt::Write, path: &[String]) -> fmt::Result {
    for (index, name) in path.iter().enumerate() {
        if index > 0 {
            f.write_char('.')?;
        }
        if needs_quotes(name) {
            write!(f, "\"{}\"", name.replace('"', "\"\""))?;
        } else {
            f.write_str(name)?;
        }
    }
    Ok(())
}

fn needs_quotes(name: &str) -> bool {
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    !starts_well || !plain || RESERVED.iter().any(|word| word.eq_ignore_ascii_case(name))
}
