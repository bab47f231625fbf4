//! PostgreSQL's `numeric` in its binary form: groups of four decimal digits.

use arrow::datatypes::DataType;

const NEGATIVE: u16 = 0x4000;

/// Returns the Arrow type of a `numeric(p, s)`, from the modifier in the catalog; `None` if it has no precision, or one
/// outside the range of Arrow.
pub(crate) fn type_of(modifier: i32) -> Option<DataType> {
    let modifier = modifier.checked_sub(4).filter(|modifier| *modifier >= 0)?;
    let precision = u8::try_from(modifier >> 16).ok()?;
    // The scale is a signed number of eleven bits.
    let scale = i8::try_from(((modifier & 0x7ff) ^ 0x400) - 0x400).ok()?;
    match precision {
        1..=38 => Some(DataType::Decimal128(precision, scale)),
        39..=76 => Some(DataType::Decimal256(precision, scale)),
        _ => None,
    }
}

/// Appends a decimal number, given as the digits of an integer (with a sign) and the number of digits after the decimal
/// point.
pub(crate) fn encode(integer: &str, scale: i32, out: &mut Vec<u8>) {
    let (negative, digits) = match integer.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, integer),
    };
    let mut text = digits.trim_start_matches('0').to_owned();
    let scale = match usize::try_from(scale) {
        Ok(scale) => scale,
        Err(_) => {
            if !text.is_empty() {
                text.extend(std::iter::repeat_n('0', scale.unsigned_abs() as usize));
            }
            0
        }
    };
    text.extend(std::iter::repeat_n('0', scale.next_multiple_of(4) - scale));
    let fraction_groups = scale.div_ceil(4);
    let padding = text.len().next_multiple_of(4).max(4 * fraction_groups) - text.len();
    text.insert_str(0, &"0".repeat(padding));
    let groups: Vec<i16> = text
        .as_bytes()
        .chunks(4)
        .map(|group| group.iter().fold(0, |value, digit| value * 10 + i16::from(digit - b'0')))
        .collect();
    let leading = groups.iter().take_while(|group| **group == 0).count();
    let trailing = groups.iter().skip(leading).rev().take_while(|group| **group == 0).count();
    let kept = &groups[leading..groups.len() - trailing];
    let weight = groups.len() as i64 - fraction_groups as i64 - 1 - leading as i64;
    out.extend((kept.len() as i16).to_be_bytes());
    out.extend((if kept.is_empty() { 0 } else { weight as i16 }).to_be_bytes());
    out.extend((if negative && !kept.is_empty() { NEGATIVE } else { 0 }).to_be_bytes());
    out.extend((scale as u16).to_be_bytes());
    kept.iter().for_each(|group| out.extend(group.to_be_bytes()));
}

/// Returns the value times ten to the power of `scale`, as the digits of an integer.
pub(crate) fn decode(bytes: &[u8], scale: i32) -> Result<String, String> {
    let short = || "a numeric value is truncated".to_owned();
    let word = |index: usize| -> Result<u16, String> {
        let pair = bytes.get(2 * index..2 * index + 2).ok_or_else(short)?;
        Ok(u16::from_be_bytes([pair[0], pair[1]]))
    };
    let (count, weight, sign) = (word(0)? as usize, i32::from(word(1)? as i16), word(2)?);
    if sign != 0 && sign != NEGATIVE {
        return Err("it holds a numeric that is NaN or infinite, which Arrow's decimals cannot represent".to_owned());
    }
    let mut digits = String::with_capacity(4 * count + 1);
    for index in 0..count {
        digits.push_str(&format!("{:04}", word(4 + index)?));
    }
    let shift = 4 * (weight - count as i32 + 1) + scale;
    match usize::try_from(shift) {
        Ok(zeros) => digits.extend(std::iter::repeat_n('0', zeros)),
        Err(_) => {
            let cut = digits.len().saturating_sub(shift.unsigned_abs() as usize);
            if digits.split_off(cut).bytes().any(|digit| digit != b'0') {
                return Err(format!("it holds a numeric with more than {scale} digits after the decimal point"));
            }
        }
    }
    let digits = digits.trim_start_matches('0');
    Ok(match digits {
        "" => "0".to_owned(),
        digits if sign == NEGATIVE => format!("-{digits}"),
        digits => digits.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decoded_unchanged() {
        for (integer, scale) in [
            ("0", 0),
            ("1", 0),
            ("-1", 4),
            ("12345", 2),
            ("-99999999999999999999999999999999999999", 38),
            ("10000", 0),
            ("100000000", 3),
            ("7", 9),
            ("18446744073709551615", 0),
            ("5", -3),
        ] {
            let mut bytes = Vec::new();
            encode(integer, scale, &mut bytes);
            assert_eq!(decode(&bytes, scale).as_deref(), Ok(integer), "{integer} {scale}");
        }
    }

    #[test]
    fn modifiers_contain_precision_and_scale() {
        assert_eq!(type_of((10 << 16 | 2) + 4), Some(DataType::Decimal128(10, 2)));
        assert_eq!(type_of((50 << 16) + 4), Some(DataType::Decimal256(50, 0)));
        assert_eq!(type_of(-1), None);
    }
}
