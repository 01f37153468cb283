//! Numbers between two bounds, digit by digit, without exponents and without zeros that say nothing.

use std::rc::Rc;

use crate::expression::Expression;

/// Digits behind the point.
pub(crate) const DECIMALS: u32 = 4;
/// What a decimal is counted in: 10⁻⁴.
pub(crate) const UNITS: i32 = 10_i32.pow(DECIMALS);

/// Whole numbers from `low` to `high`.
pub(crate) fn integers(low: i64, high: i64) -> Rc<Expression> {
    signed(low, high, naturals)
}

/// Decimals from `low` to `high`, in units of 10⁻⁴.
pub(crate) fn decimals(low: i64, high: i64) -> Rc<Expression> {
    signed(low, high, |low, high| {
        let units = i64::from(UNITS);
        let (first, last) = (low / units, high / units);
        let (head, tail) = (low % units, high % units);
        let part = |whole: Rc<Expression>, from, to| Expression::sequence([whole, fraction(from, to)]);
        if first == last {
            return part(naturals(first, first), head, tail);
        }
        Expression::either([
            part(naturals(first, first), head, units - 1),
            part(naturals(first + 1, last - 1), 0, units - 1),
            part(naturals(last, last), 0, tail),
        ])
    })
}

fn signed(low: i64, high: i64, natural: impl Fn(i64, i64) -> Rc<Expression>) -> Rc<Expression> {
    let mut parts = Vec::new();
    if low < 0 && low <= high {
        parts.push(Expression::sequence([Expression::text("-"), natural((-high).max(1), -low)]));
    }
    if high >= 0 && low <= high {
        parts.push(natural(low.max(0), high));
    }
    Expression::either(parts)
}

/// Whole numbers from `low` ≥ 0 to `high`, one alternative per number of digits.
fn naturals(low: i64, high: i64) -> Rc<Expression> {
    let widths = (1..19_u32).map(|width| {
        let least = if width == 1 { 0 } else { 10_i64.pow(width - 1) };
        fixed(low.max(least), high.min(10_i64.pow(width) - 1), width, false)
    });
    Expression::either(widths.flatten())
}

/// Nothing, or a point and 1 to 4 digits of which the last is not 0: from `low` to `high` of 10⁻⁴.
fn fraction(low: i64, high: i64) -> Rc<Expression> {
    let digits = (1..=DECIMALS).filter_map(|width| {
        let scale = 10_i64.pow(DECIMALS - width);
        let digits = fixed((low + scale - 1) / scale, high / scale, width, true)?;
        Some(Expression::sequence([Expression::text("."), digits]))
    });
    let none = (low == 0).then(|| Expression::text(""));
    Expression::either(none.into_iter().chain(digits))
}

/// Numbers of exactly `width` digits, zeros before included; `ends` says that the last digit is not 0.
fn fixed(low: i64, high: i64, width: u32, ends: bool) -> Option<Rc<Expression>> {
    if low > high {
        return None;
    }
    if width == 1 {
        let low = if ends { low.max(1) } else { low };
        return (low <= high).then(|| digit(low, high));
    }
    let rest = 10_i64.pow(width - 1);
    let (first, last) = (low / rest, high / rest);
    let part = |from: i64, to: i64, low: i64, high: i64| {
        (from <= to)
            .then(|| fixed(low, high, width - 1, ends).map(|tail| Expression::sequence([digit(from, to), tail])))
    };
    let parts = if first == last {
        vec![part(first, last, low % rest, high % rest)]
    } else if low % rest == 0 && high % rest == rest - 1 {
        vec![part(first, last, 0, rest - 1)]
    } else {
        vec![
            part(first, first, low % rest, rest - 1),
            part(first + 1, last - 1, 0, rest - 1),
            part(last, last, 0, high % rest),
        ]
    };
    let parts: Vec<_> = parts.into_iter().flatten().flatten().collect();
    (!parts.is_empty()).then(|| Expression::either(parts))
}

fn digit(low: i64, high: i64) -> Rc<Expression> {
    let byte = |digit: i64| b'0' + digit.unsigned_abs() as u8;
    Rc::new(Expression::Class(vec![vec![(byte(low), byte(high))]]))
}
