//! Numbers as people read them: one unit per column, thousands apart, and no more digits than the interval supports.

use crate::{record::Interval, statistics::Unit};

/// The unit in which a column or an axis is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    /// What one of the written unit is in the record's unit.
    pub(crate) factor: f64,
    /// The written unit, `ms`, `MiB`, `/s` or nothing.
    pub(crate) word: &'static str,
}

impl Scale {
    /// The unit that suits all values of a column.
    pub(crate) fn of(unit: Unit, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = bounds(values);
        let pick = |factor: f64, word: &'static str| Self { factor, word };
        match unit {
            Unit::Microseconds if high < 1_000.0 => pick(1.0, "µs"),
            Unit::Microseconds if low >= 1_000_000.0 => pick(1e6, "s"),
            Unit::Microseconds => pick(1e3, "ms"),
            Unit::PerSecond => pick(1.0, "/s"),
            Unit::Messages => pick(1.0, ""),
            Unit::Bytes if high < 1024.0 * 1024.0 => pick(1024.0, "KiB"),
            Unit::Bytes if low >= 10.0 * 1024.0 * 1024.0 * 1024.0 => pick(1024.0 * 1024.0 * 1024.0, "GiB"),
            Unit::Bytes => pick(1024.0 * 1024.0, "MiB"),
        }
    }

    /// A single value with its own best unit, `1.2 ms`.
    pub(crate) fn alone(unit: Unit, value: f64) -> String {
        let scale = Self::of(unit, [value]);
        with_unit(&significant(value / scale.factor, 3), scale.word)
    }

    /// A value and its interval in this unit.
    pub(crate) fn figure(self, interval: &Interval) -> Figure {
        let value = interval.median / self.factor;
        match interval.ci95 {
            None => Figure { value: significant(value, 3), interval: None },
            Some(ci95) => {
                let [low, high] = ci95.map(|bound| bound / self.factor);
                let decimals = decimals_for(value, (high - low) / 2.0);
                let interval = format!("{}–{}", rounded(low, decimals), rounded(high, decimals));
                Figure { value: rounded(value, decimals), interval: Some(interval) }
            }
        }
    }
}

/// A value as written, with its interval as written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Figure {
    pub(crate) value: String,
    pub(crate) interval: Option<String>,
}

/// `12` and `ms` as `12 ms`, `12` and `/s` as `12/s`.
pub(crate) fn with_unit(value: &str, word: &str) -> String {
    match word {
        "" => value.to_owned(),
        word if word.starts_with('/') => format!("{value}{word}"),
        word => format!("{value} {word}"),
    }
}

/// Decimals (negative: rounded to tens, hundreds, …) such that the last digit matters against the half width.
///
/// At least two significant digits are kept and at most three shown: histograms know no more.
fn decimals_for(value: f64, half_width: f64) -> i32 {
    let magnitude = magnitude(value);
    let most = 2 - magnitude;
    let least = 1 - magnitude;
    if half_width <= 0.0 {
        return most;
    }
    let width = self::magnitude(half_width);
    let leading = half_width / 10_f64.powi(width);
    // Of a half width 0.11 the second digit still matters, of 0.49 it does not.
    let decimals = if leading < 3.0 { 1 - width } else { -width };
    decimals.clamp(least, most)
}

/// A value with so many significant digits.
pub(crate) fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 { "0".to_owned() } else { rounded(value, digits - 1 - magnitude(value)) }
}

/// A value with so many decimals, or rounded to tens or hundreds by a negative number of them.
fn rounded(value: f64, decimals: i32) -> String {
    let unit = 10_f64.powi(-decimals);
    let value = if decimals < 0 { (value / unit).round() * unit } else { value };
    grouped(&format!("{value:.places$}", places = usize::try_from(decimals.max(0)).unwrap_or(0)))
}

/// Whole numbers with thousands apart.
pub(crate) fn count(value: u64) -> String {
    grouped(&value.to_string())
}

/// A rate in the words of a sentence, `2,000` or `1,450,000`.
pub(crate) fn rate(per_s: f64) -> String {
    let text = significant(per_s, 4);
    // A whole rate is one that somebody chose: `400`, not `400.0`.
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole.to_owned(),
        _ => text,
    }
}

fn grouped(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(w, f)| (w, Some(f)));
    let mut out = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// The power of ten at or below the value's size.
#[expect(clippy::cast_possible_truncation, reason = "the logarithm of a finite f64 is below 309")]
pub(crate) fn magnitude(value: f64) -> i32 {
    if value == 0.0 || !value.is_finite() { 0 } else { value.abs().log10().floor() as i32 }
}

/// Lowest and highest finite positive value; 1 and 1 of nothing.
pub(crate) fn bounds(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .into_iter()
        .filter(|value| value.is_finite() && *value > 0.0)
        .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    if low.is_finite() { (low, high) } else { (1.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn ms(median: f64, low: f64, high: f64) -> (String, String) {
        let scale = Scale { factor: 1e3, word: "ms" };
        let figure = scale.figure(&Interval { median, ci95: Some([low, high]), trials: 3 });
        (figure.value, figure.interval.unwrap())
    }

    #[test]
    fn a_figure_has_as_many_digits_as_its_interval_supports() {
        assert_eq!(ms(920.0, 810.0, 1_030.0), ("0.92".into(), "0.81–1.03".into()));
        assert_eq!(ms(4_123.0, 3_600.0, 4_600.0), ("4.1".into(), "3.6–4.6".into()));
        assert_eq!(ms(4_123.4, 4_123.0, 4_124.0), ("4.12".into(), "4.12–4.12".into()));
        assert_eq!(ms(21.3, 19.0, 24.0), ("0.0213".into(), "0.0190–0.0240".into()));
        assert_eq!(ms(4_123.4, 4_123.4, 4_123.4).0, "4.12");
    }

    #[test]
    fn large_figures_are_rounded_and_grouped() {
        let scale = Scale::of(Unit::PerSecond, [1.0]);
        let figure =
            scale.figure(&Interval { median: 118_234.0, ci95: Some([112_290.0, 124_110.0]), trials: 3 });
        assert_eq!(figure.value, "118,000");
        assert_eq!(figure.interval.unwrap(), "112,000–124,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(rate(2_000.0), "2,000");
    }

    #[test]
    fn one_unit_serves_a_whole_column() {
        assert_eq!(Scale::of(Unit::Microseconds, [21.0, 4_100.0]).word, "ms");
        assert_eq!(Scale::of(Unit::Microseconds, [21.0, 410.0]).word, "µs");
        assert_eq!(Scale::of(Unit::Microseconds, [2e6, 3e6]).word, "s");
        assert_eq!(Scale::alone(Unit::Microseconds, 41.0), "41.0 µs");
        assert_eq!(Scale::alone(Unit::Bytes, 66_060_288.0), "63.0 MiB");
        assert_eq!(significant(0.0, 3), "0");
    }
}
