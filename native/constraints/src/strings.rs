//! Characters as bytes: UTF-8 as they are, or as they stand inside a JSON string.

use std::rc::Rc;

use regex_syntax::utf8::Utf8Sequences;

use crate::expression::{Expression, Span};

/// How characters are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// UTF-8.
    Plain,
    /// Inside a JSON string, as `json.dumps(text, ensure_ascii=False)` writes it. Control characters that have no
    /// short escape are not written.
    Json,
}

const ESCAPES: [(char, u8); 7] =
    [('"', b'"'), ('\\', b'\\'), ('\u{8}', b'b'), ('\u{c}', b'f'), ('\n', b'n'), ('\r', b'r'), ('\t', b't')];
/// Counted characters are written in ASCII where more of them than this are counted: fewer states.
pub(crate) const MOST_COUNTED: u32 = 64;

/// One character of these ranges.
pub(crate) fn class(ranges: impl IntoIterator<Item = (char, char)>, writing: Writing) -> Rc<Expression> {
    let mut sequences: Vec<Vec<Span>> = Vec::new();
    for (low, high) in ranges {
        match writing {
            Writing::Plain => plain(low, high, &mut sequences),
            Writing::Json => {
                let escaped = ESCAPES.iter().filter(|(character, _)| (low..=high).contains(character));
                sequences.extend(escaped.map(|&(_, sign)| vec![(b'\\', b'\\'), (sign, sign)]));
                for (first, last) in [(' ', '!'), ('#', '['), (']', char::MAX)] {
                    plain(low.max(first), high.min(last), &mut sequences);
                }
            }
        }
    }
    Rc::new(Expression::Class(sequences))
}

fn plain(low: char, high: char, sequences: &mut Vec<Vec<Span>>) {
    if low <= high {
        let found = Utf8Sequences::new(low, high);
        sequences.extend(found.map(|each| each.as_slice().iter().map(|range| (range.start, range.end)).collect()));
    }
}

/// The inside of a JSON string of `least` to `most` characters.
pub(crate) fn characters(least: u32, most: Option<u32>) -> Rc<Expression> {
    let any = class([('\0', char::MAX)], Writing::Json);
    let counted = if most.unwrap_or(least) > MOST_COUNTED {
        class([(' ', '~'), ('\n', '\n'), ('\t', '\t')], Writing::Json)
    } else {
        Rc::clone(&any)
    };
    match most {
        Some(most) => Expression::repeat(counted, least, Some(most)),
        None => {
            Expression::sequence([Expression::repeat(counted, least, Some(least)), Expression::repeat(any, 0, None)])
        }
    }
}

/// A string of which `inside` is the inside.
pub(crate) fn quoted(inside: Rc<Expression>) -> Rc<Expression> {
    Expression::sequence([Expression::text("\""), inside, Expression::text("\"")])
}
