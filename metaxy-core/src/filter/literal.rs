//! The values in the text or the builders of a filter, before they are converted into the type of a column.

use std::fmt;
use std::str::FromStr;

use arrow::datatypes::i256;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};

/// A value in a filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Literal {
    /// `NULL`
    Null,
    /// `TRUE`, `FALSE`
    Boolean(bool),
    /// A number, exact.
    Number(Number),
    /// `FLOAT 'NaN'`; it equals itself and is greater than every other number.
    NaN,
    /// `FLOAT 'inf'`
    Infinity,
    /// `FLOAT '-inf'`
    NegInfinity,
    /// `'text'`; also a date or a time, if the column has that type.
    Text(String),
    /// `x'00ff'`
    Binary(Vec<u8>),
    /// `DATE '2026-01-31'`
    Date(NaiveDate),
    /// `TIME '12:30:00'`
    Time(NaiveTime),
    /// `TIMESTAMP '2026-01-31T12:30:00Z'`; a text without a zone means UTC.
    Timestamp(DateTime<Utc>),
}

/// A decimal number: up to 38 digits, times a power of ten. A float becomes the shortest decimal that parses to it, so
/// that `0.1` always means one tenth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Number {
    /// Not divisible by ten; zero has exponent zero.
    mantissa: i128,
    exponent: i32,
}

/// The position of a value on the grid of the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GridPoint {
    /// On a point.
    On(i256),
    /// Between this point and the next.
    After(i256),
    /// Beyond the upper end.
    Above,
    /// Beyond the lower end.
    Below,
}

impl GridPoint {
    /// Returns the position of `value / divisor`, for a positive divisor.
    pub(super) fn divide(value: i256, divisor: i256) -> Self {
        let (quotient, rest) = (value.wrapping_div(divisor), value.wrapping_rem(divisor));
        match rest.cmp(&i256::ZERO) {
            std::cmp::Ordering::Equal => Self::On(quotient),
            std::cmp::Ordering::Greater => Self::After(quotient),
            std::cmp::Ordering::Less => Self::After(quotient.wrapping_sub(i256::ONE)),
        }
    }

    /// Returns the position on a grid that ends at `min` and `max`.
    pub(super) fn within(self, min: i256, max: i256) -> Self {
        match self {
            Self::On(point) | Self::After(point) if point < min => Self::Below,
            Self::On(point) if point > max => Self::Above,
            Self::After(point) if point >= max => Self::Above,
            inside => inside,
        }
    }
}

/// Returns a power of ten, if it fits into 256 bits.
pub(super) fn power_of_ten(exponent: i64) -> Option<i256> {
    let exponent = u32::try_from(exponent).ok().filter(|exponent| *exponent <= 76)?;
    i256::from_i128(10).checked_pow(exponent)
}

impl Number {
    fn new(mantissa: i128, exponent: i64) -> Option<Self> {
        let (mut mantissa, mut exponent) = (mantissa, if mantissa == 0 { 0 } else { exponent });
        while mantissa != 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            exponent += 1;
        }
        Some(Self { mantissa, exponent: i32::try_from(exponent).ok()? })
    }

    /// Returns the nearest float.
    pub fn to_f64(self) -> f64 {
        // Formatting and parsing rounds correctly, which arithmetic on floats would not.
        format!("{}e{}", self.mantissa, self.exponent).parse().unwrap_or(f64::NAN)
    }

    /// Returns its position among the multiples of `10^-scale`.
    pub(super) fn on_grid(self, scale: i8) -> GridPoint {
        let mantissa = i256::from_i128(self.mantissa);
        let shift = i64::from(self.exponent) + i64::from(scale);
        let beyond = if self.mantissa < 0 { GridPoint::Below } else { GridPoint::Above };
        if shift >= 0 {
            let product = power_of_ten(shift).and_then(|power| mantissa.checked_mul(power));
            return product.map_or(beyond, GridPoint::On);
        }
        match power_of_ten(-shift) {
            Some(divisor) => GridPoint::divide(mantissa, divisor),
            None if self.mantissa < 0 => GridPoint::After(i256::MINUS_ONE),
            None => GridPoint::After(i256::ZERO),
        }
    }
}

impl FromStr for Number {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const NOT_A_NUMBER: &str = "not a number";
        const TOO_LONG: &str = "a number has at most 38 digits";
        let (digits, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i64>().map_err(|_| NOT_A_NUMBER)?),
            None => (text, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let unsigned = whole.strip_prefix('-').unwrap_or(whole);
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if unsigned.len() + fraction.len() == 0 || !all_digits(unsigned) || !all_digits(fraction) {
            return Err(NOT_A_NUMBER);
        }
        let all = format!("{unsigned}{fraction}");
        // Zeros at the end only move the point.
        let significant = all.trim_end_matches('0');
        let moved = i64::try_from(all.len() - significant.len()).map_err(|_| TOO_LONG)?
            - i64::try_from(fraction.len()).map_err(|_| TOO_LONG)?;
        let significant = significant.trim_start_matches('0');
        let sign = &whole[..whole.len() - unsigned.len()];
        let mantissa = match significant {
            "" => 0,
            digits => format!("{sign}{digits}").parse::<i128>().map_err(|_| TOO_LONG)?,
        };
        let exponent = exponent.checked_add(moved).ok_or("the exponent is too large")?;
        Self::new(mantissa, exponent).ok_or("the exponent is too large")
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PLAIN: u32 = 25;
        let digits = self.mantissa.unsigned_abs().to_string();
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let places = usize::try_from(self.exponent.unsigned_abs().min(PLAIN)).unwrap_or_default();
        match self.exponent {
            exponent if exponent.unsigned_abs() > PLAIN => write!(f, "{sign}{digits}e{exponent}"),
            0.. => write!(f, "{sign}{digits}{}", "0".repeat(places)),
            _ => {
                let padded = format!("{digits:0>width$}", width = places + 1);
                let (whole, fraction) = padded.split_at(padded.len() - places);
                write!(f, "{sign}{whole}.{fraction}")
            }
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Boolean(true) => f.write_str("TRUE"),
            Self::Boolean(false) => f.write_str("FALSE"),
            Self::Number(number) => number.fmt(f),
            Self::NaN => f.write_str("FLOAT 'NaN'"),
            Self::Infinity => f.write_str("FLOAT 'inf'"),
            Self::NegInfinity => f.write_str("FLOAT '-inf'"),
            Self::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Self::Binary(bytes) => {
                f.write_str("x'")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("'")
            }
            Self::Date(date) => write!(f, "DATE '{date}'"),
            Self::Time(time) => write!(f, "TIME '{time}'"),
            Self::Timestamp(moment) => write!(f, "TIMESTAMP '{}Z'", moment.naive_utc().format("%Y-%m-%dT%H:%M:%S%.f")),
        }
    }
}

macro_rules! from_integer {
    ($($type:ty),*) => { $(
        impl From<$type> for Number {
            fn from(value: $type) -> Self {
                // An exponent below 40 always fits.
                Self::new(i128::from(value), 0).unwrap_or(Self { mantissa: i128::from(value), exponent: 0 })
            }
        }

        impl From<$type> for Literal {
            fn from(value: $type) -> Self {
                Self::Number(value.into())
            }
        }
    )* };
}
from_integer!(i8, i16, i32, i64, i128, u8, u16, u32, u64);

macro_rules! from_float {
    ($($type:ty),*) => { $(
        impl From<$type> for Literal {
            fn from(value: $type) -> Self {
                match format!("{value:e}").parse() {
                    Ok(number) => Self::Number(number),
                    Err(_) if value.is_nan() => Self::NaN,
                    Err(_) if value > 0.0 => Self::Infinity,
                    Err(_) => Self::NegInfinity,
                }
            }
        }
    )* };
}
from_float!(f32, f64);

macro_rules! from_value {
    ($($type:ty => $build:expr),* $(,)?) => { $(
        impl From<$type> for Literal {
            fn from(value: $type) -> Self {
                $build(value)
            }
        }
    )* };
}
from_value! {
    bool => Literal::Boolean,
    usize => |value: usize| Literal::from(u64::try_from(value).unwrap_or(u64::MAX)),
    &str => |value: &str| Literal::Text(value.to_owned()),
    String => Literal::Text,
    &String => |value: &String| Literal::Text(value.clone()),
    Vec<u8> => Literal::Binary,
    &[u8] => |value: &[u8]| Literal::Binary(value.to_vec()),
    NaiveDate => Literal::Date,
    NaiveTime => Literal::Time,
    NaiveDateTime => |value: NaiveDateTime| Literal::Timestamp(value.and_utc()),
    DateTime<Utc> => Literal::Timestamp,
    Number => Literal::Number,
}

impl<T: Into<Literal>> From<Option<T>> for Literal {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Returns whether chrono can represent the fraction of a second. It cuts off all after nine digits.
fn nanoseconds_suffice(text: &str) -> bool {
    let fraction = text.rsplit_once('.').map_or("", |(_, fraction)| fraction);
    fraction.bytes().take_while(u8::is_ascii_digit).count() <= 9
}

/// Reads `2026-01-31`.
pub(super) fn parse_date(text: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()
}

/// Reads `12:30`, `12:30:00` or `12:30:00.123456789`.
pub(super) fn parse_time(text: &str) -> Option<NaiveTime> {
    let formats = ["%H:%M:%S%.f", "%H:%M"];
    formats.iter().find_map(|format| NaiveTime::parse_from_str(text, format).ok()).filter(|_| nanoseconds_suffice(text))
}

/// Reads a date, or a date and a time with or without a zone (then UTC), separated by a space or a `T`.
pub(super) fn parse_timestamp(text: &str) -> Option<DateTime<Utc>> {
    if let Some(date) = parse_date(text) {
        return Some(date.and_time(NaiveTime::MIN).and_utc());
    }
    let spaced = text.trim().replacen(['T', 't'], " ", 1);
    let local = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let zoned = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f %#z"];
    let without_z = spaced.strip_suffix(['Z', 'z']).unwrap_or(&spaced);
    let in_utc = || local.iter().find_map(|format| NaiveDateTime::parse_from_str(without_z, format).ok());
    let with_zone = || zoned.iter().find_map(|format| DateTime::parse_from_str(&spaced, format).ok());
    in_utc()
        .map(|moment| moment.and_utc())
        .or_else(|| with_zone().map(|moment| moment.to_utc()))
        .filter(|_| nanoseconds_suffice(text))
}

/// Reads `NaN`, `Infinity` and the like, in any case.
pub(super) fn parse_float(text: &str) -> Option<Literal> {
    text.parse::<f64>().ok().map(Literal::from)
}
