//! TEMPORARY stand-in so that the crate compiles; helper-1 replaces this whole directory (same public API, more of it).
#![allow(missing_docs)]
use crate::error::{Error, Result, nearest};
use arrow::array::*;
use arrow::compute::kernels::cmp;
use arrow::compute::{and_kleene, cast, is_not_null, is_null, not, or_kleene};
use arrow::datatypes::{DataType, Schema};
use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;
use std::collections::BTreeSet;
use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}
impl From<i32> for Literal {
    fn from(v: i32) -> Self {
        Self::Int(v.into())
    }
}
impl From<i64> for Literal {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}
impl From<f64> for Literal {
    fn from(v: f64) -> Self {
        Self::Float(v)
    }
}
impl From<bool> for Literal {
    fn from(v: bool) -> Self {
        Self::Bool(v)
    }
}
impl From<&str> for Literal {
    fn from(v: &str) -> Self {
        Self::Text(v.into())
    }
}
impl From<String> for Literal {
    fn from(v: String) -> Self {
        Self::Text(v)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    Column(String),
    Const(Option<bool>),
    Cmp(String, &'static str, Literal),
    In(String, Vec<Literal>),
    IsNull(String),
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
}
pub struct Column(String);
pub fn col(name: &str) -> Column {
    Column(name.into())
}
impl Column {
    pub fn eq(self, v: impl Into<Literal>) -> Filter {
        Filter::Cmp(self.0, "=", v.into())
    }
    pub fn lt(self, v: impl Into<Literal>) -> Filter {
        Filter::Cmp(self.0, "<", v.into())
    }
    pub fn gt(self, v: impl Into<Literal>) -> Filter {
        Filter::Cmp(self.0, ">", v.into())
    }
    pub fn is_null(self) -> Filter {
        Filter::IsNull(self.0)
    }
}
impl std::ops::BitOr for Filter {
    type Output = Filter;
    fn bitor(self, o: Filter) -> Filter {
        Filter::Or(vec![self, o])
    }
}
impl std::ops::BitAnd for Filter {
    type Output = Filter;
    fn bitand(self, o: Filter) -> Filter {
        Filter::And(vec![self, o])
    }
}
pub trait IntoFilter {
    fn into_filter(self) -> Result<Filter>;
}
impl IntoFilter for Filter {
    fn into_filter(self) -> Result<Filter> {
        Ok(self)
    }
}
impl IntoFilter for &Filter {
    fn into_filter(self) -> Result<Filter> {
        Ok(self.clone())
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
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
impl Filter {
    pub fn all(parts: impl IntoIterator<Item = Filter>) -> Filter {
        Filter::And(parts.into_iter().collect())
    }
    pub fn parse(text: &str) -> Result<Filter> {
        let bad = |m: String| Error::FilterSyntax { filter: text.into(), message: m, column: 0 };
        let mut p = Parser::new(&GenericDialect).try_with_sql(text).map_err(|e| bad(e.to_string()))?;
        let e = p.parse_expr().map_err(|e| bad(e.to_string()))?;
        conv(&e).ok_or_else(|| bad(format!("unsupported {e}")))
    }
    pub fn columns(&self) -> BTreeSet<String> {
        let mut s = BTreeSet::new();
        self.walk(&mut |c| {
            s.insert(c.to_owned());
        });
        s
    }
    fn walk(&self, f: &mut dyn FnMut(&str)) {
        match self {
            Self::Column(c) | Self::Cmp(c, _, _) | Self::In(c, _) | Self::IsNull(c) => f(c),
            Self::And(p) | Self::Or(p) => p.iter().for_each(|p| p.walk(f)),
            Self::Not(p) => p.walk(f),
            Self::Const(_) => {}
        }
    }
    pub fn rename(&self, r: &dyn Fn(&str) -> Option<String>) -> Filter {
        let n = |c: &String| r(c).unwrap_or_else(|| c.clone());
        match self {
            Self::Column(c) => Self::Column(n(c)),
            Self::Cmp(c, o, l) => Self::Cmp(n(c), o, l.clone()),
            Self::In(c, l) => Self::In(n(c), l.clone()),
            Self::IsNull(c) => Self::IsNull(n(c)),
            Self::And(p) => Self::And(p.iter().map(|p| p.rename(r)).collect()),
            Self::Or(p) => Self::Or(p.iter().map(|p| p.rename(r)).collect()),
            Self::Not(p) => Self::Not(Box::new(p.rename(r))),
            Self::Const(b) => Self::Const(*b),
        }
    }
    pub fn bind(&self, schema: &Schema) -> Result<Predicate> {
        for c in self.columns() {
            if schema.column_with_name(&c).is_none() {
                let available: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
                return Err(Error::FilterColumn {
                    filter: self.to_string(),
                    nearest: nearest(&c, available.iter().map(String::as_str)),
                    column: c,
                    available,
                });
            }
        }
        Ok(Predicate(self.clone()))
    }
}
fn conv(e: &Expr) -> Option<Filter> {
    let lit = |e: &Expr| -> Option<Literal> {
        match e {
            Expr::Value(v) => match &v.value {
                Value::Number(n, _) => n.parse().map(Literal::Int).or_else(|_| n.parse().map(Literal::Float)).ok(),
                Value::SingleQuotedString(s) => Some(Literal::Text(s.clone())),
                Value::Boolean(b) => Some(Literal::Bool(*b)),
                Value::Null => Some(Literal::Null),
                _ => None,
            },
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match &**expr {
                Expr::Value(v) => match &v.value {
                    Value::Number(n, _) => format!("-{n}")
                        .parse()
                        .map(Literal::Int)
                        .or_else(|_| format!("-{n}").parse().map(Literal::Float))
                        .ok(),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    };
    let name = |e: &Expr| -> Option<String> {
        match e {
            Expr::Identifier(i) => Some(i.value.clone()),
            Expr::CompoundIdentifier(p) => Some(p.iter().map(|i| i.value.clone()).collect::<Vec<_>>().join(".")),
            _ => None,
        }
    };
    Some(match e {
        Expr::Nested(e) => conv(e)?,
        Expr::Identifier(i) => Filter::Column(i.value.clone()),
        Expr::Value(v) => match v.value {
            Value::Boolean(b) => Filter::Const(Some(b)),
            Value::Null => Filter::Const(None),
            _ => return None,
        },
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => Filter::Not(Box::new(conv(expr)?)),
        Expr::IsNull(e) => Filter::IsNull(name(e)?),
        Expr::IsNotNull(e) => Filter::Not(Box::new(Filter::IsNull(name(e)?))),
        Expr::InList { expr, list, negated } => {
            let f = Filter::In(name(expr)?, list.iter().map(lit).collect::<Option<_>>()?);
            if *negated { Filter::Not(Box::new(f)) } else { f }
        }
        Expr::BinaryOp { left, op, right } => match op {
            BinaryOperator::And => Filter::And(vec![conv(left)?, conv(right)?]),
            BinaryOperator::Or => Filter::Or(vec![conv(left)?, conv(right)?]),
            op => {
                let o = match op {
                    BinaryOperator::Eq => "=",
                    BinaryOperator::NotEq => "!=",
                    BinaryOperator::Lt => "<",
                    BinaryOperator::LtEq => "<=",
                    BinaryOperator::Gt => ">",
                    BinaryOperator::GtEq => ">=",
                    _ => return None,
                };
                let (n, l) = (name(left)?, lit(right)?);
                match (o, &l) {
                    ("=", Literal::Null) => Filter::IsNull(n),
                    ("!=", Literal::Null) => Filter::Not(Box::new(Filter::IsNull(n))),
                    _ => Filter::Cmp(n, o, l),
                }
            }
        },
        _ => return None,
    })
}
#[derive(Clone, Debug)]
pub struct Predicate(Filter);
impl Predicate {
    pub fn columns(&self) -> Vec<String> {
        self.0.columns().into_iter().collect()
    }
    pub fn and(self, o: Predicate) -> Predicate {
        Predicate(Filter::And(vec![self.0, o.0]))
    }
    pub fn evaluate(&self, b: &RecordBatch) -> Result<BooleanArray> {
        eval(&self.0, b)
    }
}
fn lit_array(l: &Literal, t: &DataType) -> Result<ArrayRef> {
    let a: ArrayRef = match l {
        Literal::Null => new_null_array(t, 1),
        Literal::Bool(b) => std::sync::Arc::new(BooleanArray::from(vec![*b])),
        Literal::Int(i) => std::sync::Arc::new(Int64Array::from(vec![*i])),
        Literal::Float(i) => std::sync::Arc::new(Float64Array::from(vec![*i])),
        Literal::Text(s) => std::sync::Arc::new(StringArray::from(vec![s.clone()])),
    };
    Ok(cast(&a, t)?)
}
fn eval(f: &Filter, b: &RecordBatch) -> Result<BooleanArray> {
    let n = b.num_rows();
    let column = |c: &str| Ok::<_, Error>(b.column(b.schema().index_of(c)?).clone());
    Ok(match f {
        Filter::Const(v) => BooleanArray::from(vec![*v; n]),
        Filter::Column(c) => column(c)?.as_boolean().clone(),
        Filter::IsNull(c) => is_null(&column(c)?)?,
        Filter::Not(f) => match &**f {
            Filter::IsNull(c) => is_not_null(&column(c)?)?,
            f => not(&eval(f, b)?)?,
        },
        Filter::And(p) => p
            .iter()
            .try_fold(BooleanArray::from(vec![true; n]), |a, p| Ok::<_, Error>(and_kleene(&a, &eval(p, b)?)?))?,
        Filter::Or(p) => p
            .iter()
            .try_fold(BooleanArray::from(vec![false; n]), |a, p| Ok::<_, Error>(or_kleene(&a, &eval(p, b)?)?))?,
        Filter::In(c, l) => l.iter().try_fold(BooleanArray::from(vec![false; n]), |a, l| {
            Ok::<_, Error>(or_kleene(&a, &eval(&Filter::Cmp(c.clone(), "=", l.clone()), b)?)?)
        })?,
        Filter::Cmp(c, o, l) => {
            let mut a = column(c)?;
            if let (Literal::Float(_), true) = (l, a.data_type().is_integer()) {
                a = cast(&a, &DataType::Float64)?;
            }
            let s = Scalar::new(lit_array(l, a.data_type())?);
            match *o {
                "=" => cmp::eq(&a, &s)?,
                "!=" => cmp::neq(&a, &s)?,
                "<" => cmp::lt(&a, &s)?,
                "<=" => cmp::lt_eq(&a, &s)?,
                ">" => cmp::gt(&a, &s)?,
                _ => cmp::gt_eq(&a, &s)?,
            }
        }
    })
}
