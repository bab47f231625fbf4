//! Floats as text, which is hashed if a data version is a float. The Python package hashes the text that Polars writes.

use std::fmt::LowerExp;

/// The lowest and the highest exponent of ten of numbers that are written without an exponent.
pub(super) const DOUBLE: (i32, i32) = (-5, 15);
pub(super) const SINGLE: (i32, i32) = (-6, 12);

/// Returns the shortest text that parses to this value: `1.0`, `0.00001`, `1e-7`, `1.5e+16`, `inf`, `NaN`.
pub(super) fn float_text<F: LowerExp + Copy + Into<f64>>(value: F, plain: (i32, i32)) -> String {
    let wide: f64 = value.into();
    if wide.is_nan() {
        return "NaN".to_owned();
    }
    if wide.is_infinite() {
        return if wide > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if exponent < plain.0 || exponent > plain.1 {
        let sign = if exponent > 0 { "+" } else { "" };
        return format!("{mantissa}e{sign}{exponent}");
    }
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |mantissa| ("-", mantissa));
    let digits = mantissa.replace('.', "");
    match usize::try_from(exponent) {
        Ok(whole) if digits.len() > whole + 1 => format!("{sign}{}.{}", &digits[..=whole], &digits[whole + 1..]),
        Ok(whole) => format!("{sign}{digits}{}.0", "0".repeat(whole + 1 - digits.len())),
        Err(_) => format!("{sign}0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float_texts_equal_those_of_polars() {
        for (value, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (123_456_789.125, "123456789.125"),
            (1e-5, "0.00001"),
            (3e-5, "0.00003"),
            (1.5e-6, "1.5e-6"),
            (1e-7, "1e-7"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-2.5e-10, "-2.5e-10"),
            (1.234_567_890_123_456_8e17, "1.2345678901234568e+17"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(float_text(value, DOUBLE), text);
        }
        for (value, text) in [
            (1e-6_f32, "0.000001"),
            (1.5e-6, "0.0000015"),
            (1e-7, "1e-7"),
            (123_456.7, "123456.7"),
            (33_554_432.0, "33554432.0"),
            (1e12, "1000000000000.0"),
            (1e13, "1e+13"),
            (3.4e38, "3.4e+38"),
        ] {
            assert_eq!(float_text(value, SINGLE), text);
        }
    }
}
