//! Patterns of `regex-syntax` as expressions over bytes.

use std::rc::Rc;

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use crate::error::ConstraintError;
use crate::expression::Expression;
use crate::strings::{Writing, class};

const HINT: &str = "write ^ and $ only at the ends; leave out look-around, word boundaries and back-references";
/// Bytes of a pattern.
const MOST_BYTES: usize = 8192;
const ALL: (char, char) = ('\0', char::MAX);

/// The texts that match from beginning to end.
pub(crate) fn plain(pattern: &str) -> Result<Rc<Expression>, ConstraintError> {
    exactly(&parsed(pattern)?, Writing::Plain, Ends { first: true, last: true })
}

/// The insides of JSON strings in which the pattern is found, as the keyword `pattern` means it.
pub(crate) fn found_in_json(pattern: &str) -> Result<Rc<Expression>, ConstraintError> {
    somewhere(&parsed(pattern)?)
}

fn parsed(pattern: &str) -> Result<Hir, ConstraintError> {
    if pattern.len() > MOST_BYTES {
        return Err(ConstraintError::TooLarge(format!(
            "the pattern has {} bytes; expected at most {MOST_BYTES}",
            pattern.len()
        )));
    }
    ParserBuilder::new().nest_limit(100).build().parse(&in_ascii(pattern)).map_err(|error| {
        let reason = match &error {
            regex_syntax::Error::Parse(error) => error.kind().to_string(),
            regex_syntax::Error::Translate(error) => error.kind().to_string(),
            _ => error.to_string(),
        };
        ConstraintError::unsupported("", format!("the pattern {pattern:?} is not supported: {reason}"), HINT)
    })
}

/// The pattern with `\d`, `\w` and `\s` standing for ASCII only, and no sets inside of sets.
fn in_ascii(pattern: &str) -> String {
    let mut written = String::new();
    let mut bracketed = false;
    let mut rest = pattern.chars();
    while let Some(sign) = rest.next() {
        match sign {
            '\\' => {
                let escaped = rest.next();
                let members = match escaped {
                    Some('d') => Some("0-9"),
                    Some('w') => Some("0-9A-Za-z_"),
                    Some('s') => Some(r" \t\n\r\f\v"),
                    _ => None,
                };
                match members {
                    Some(members) if bracketed => written.push_str(members),
                    Some(members) => written.extend(["[", members, "]"]),
                    None => written.extend(std::iter::once('\\').chain(escaped)),
                }
                continue;
            }
            '[' | '&' | '~' if bracketed => written.push('\\'),
            '[' => bracketed = true,
            ']' => bracketed = false,
            _ => {}
        }
        written.push(sign);
    }
    written
}

/// Whether an expression begins or ends the pattern, where ^ and $ say nothing new.
#[derive(Clone, Copy)]
struct Ends {
    first: bool,
    last: bool,
}

const INSIDE: Ends = Ends { first: false, last: false };

/// What has the pattern somewhere in it, unless ^ or $ say where.
fn somewhere(hir: &Hir) -> Result<Rc<Expression>, ConstraintError> {
    let parts = match hir.kind() {
        HirKind::Alternation(parts) => {
            let parts = parts.iter().map(somewhere).collect::<Result<Vec<_>, _>>()?;
            return Ok(Expression::either(parts));
        }
        HirKind::Capture(group) => return somewhere(&group.sub),
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(hir),
    };
    let is = |part: Option<&Hir>, look| part.is_some_and(|part| *part.kind() == HirKind::Look(look));
    let begins = is(parts.first(), Look::Start);
    let parts = &parts[usize::from(begins)..];
    let stops = is(parts.last(), Look::End);
    let parts = &parts[..parts.len() - usize::from(stops)];
    let anything = |missing: bool| missing.then(|| Expression::repeat(class([ALL], Writing::Json), 0, None));
    let inner = parts.iter().map(|part| exactly(part, Writing::Json, INSIDE)).collect::<Result<Vec<_>, _>>()?;
    Ok(Expression::sequence(anything(!begins).into_iter().chain(inner).chain(anything(!stops))))
}

fn exactly(hir: &Hir, writing: Writing, ends: Ends) -> Result<Rc<Expression>, ConstraintError> {
    match hir.kind() {
        HirKind::Empty => Ok(Expression::text("")),
        HirKind::Look(Look::Start) if ends.first => Ok(Expression::text("")),
        HirKind::Look(Look::End) if ends.last => Ok(Expression::text("")),
        HirKind::Look(look) => {
            Err(ConstraintError::unsupported("", format!("the pattern looks around inside ({look:?})"), HINT))
        }
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0)
                .map_err(|_| ConstraintError::unsupported("", "the pattern matches bytes that are not UTF-8", HINT))?;
            Ok(Expression::sequence(text.chars().map(|sign| class([(sign, sign)], writing))))
        }
        HirKind::Class(Class::Unicode(set)) => {
            Ok(class(set.ranges().iter().map(|range| (range.start(), range.end())), writing))
        }
        HirKind::Class(Class::Bytes(set)) => {
            let ranges = set.ranges().iter().map(|range| (char::from(range.start()), char::from(range.end())));
            Ok(class(ranges, writing))
        }
        HirKind::Repetition(times) => {
            Ok(Expression::repeat(exactly(&times.sub, writing, INSIDE)?, times.min, times.max))
        }
        HirKind::Capture(group) => exactly(&group.sub, writing, ends),
        HirKind::Concat(parts) => {
            let last = parts.len() - 1;
            let parts = parts.iter().enumerate().map(|(i, part)| {
                exactly(part, writing, Ends { first: ends.first && i == 0, last: ends.last && i == last })
            });
            Ok(Expression::sequence(parts.collect::<Result<Vec<_>, _>>()?))
        }
        HirKind::Alternation(parts) => {
            let parts = parts.iter().map(|part| exactly(part, writing, ends));
            Ok(Expression::either(parts.collect::<Result<Vec<_>, _>>()?))
        }
    }
}
