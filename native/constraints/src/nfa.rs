use std::collections::HashMap;

use crate::error::ConstraintError;
use crate::expression::{Expression, Member, Span};

/// States of the automaton before it is made deterministic.
const MOST_STATES: usize = 1 << 16;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) moves: Vec<(Span, u32)>,
    pub(crate) silent: Vec<u32>,
}

/// Thompson's construction (CACM 11(6), 1968). State 0 is the start.
#[derive(Debug)]
pub(crate) struct Nfa {
    pub(crate) states: Vec<State>,
    pub(crate) accepting: u32,
}

impl Nfa {
    /// Raises `TooLarge`.
    pub(crate) fn of(expression: &Expression) -> Result<Self, ConstraintError> {
        let mut nfa = Self { states: vec![State::default()], accepting: 0 };
        nfa.accepting = nfa.emit(expression, 0)?;
        Ok(nfa)
    }

    fn fresh(&mut self) -> Result<u32, ConstraintError> {
        if self.states.len() >= MOST_STATES {
            return Err(ConstraintError::TooLarge(format!(
                "the automaton has more than {MOST_STATES} states before it is made deterministic"
            )));
        }
        self.states.push(State::default());
        Ok(self.states.len() as u32 - 1)
    }

    fn moves(&mut self, from: u32, span: Span, to: u32) {
        self.states[from as usize].moves.push((span, to));
    }

    fn silently(&mut self, from: u32, to: u32) {
        self.states[from as usize].silent.push(to);
    }

    /// The state in which the expression has been read from `from`.
    fn emit(&mut self, expression: &Expression, from: u32) -> Result<u32, ConstraintError> {
        match expression {
            Expression::Bytes(bytes) => bytes.iter().try_fold(from, |at, &byte| {
                let next = self.fresh()?;
                self.moves(at, (byte, byte), next);
                Ok(next)
            }),
            Expression::Class(sequences) => self.class(sequences, from),
            Expression::Sequence(parts) => parts.iter().try_fold(from, |at, part| self.emit(part, at)),
            Expression::Either(parts) => {
                let end = self.fresh()?;
                for part in parts {
                    let begin = self.fresh()?;
                    self.silently(from, begin);
                    let stop = self.emit(part, begin)?;
                    self.silently(stop, end);
                }
                Ok(end)
            }
            Expression::Repeat { inner, least, most } => self.repeat(inner, *least, *most, from),
            Expression::Members(members) => self.members(members, from),
        }
    }

    /// Ends of sequences that are alike share their states.
    fn class(&mut self, sequences: &[Vec<Span>], from: u32) -> Result<u32, ConstraintError> {
        let end = self.fresh()?;
        let mut before: HashMap<&[Span], u32> = HashMap::from([(&[][..], end)]);
        for sequence in sequences {
            for start in (1..sequence.len()).rev() {
                if !before.contains_key(&sequence[start..]) {
                    let state = self.fresh()?;
                    self.moves(state, sequence[start], before[&sequence[start + 1..]]);
                    before.insert(&sequence[start..], state);
                }
            }
            self.moves(from, sequence[0], before[&sequence[1..]]);
        }
        Ok(end)
    }

    fn repeat(&mut self, inner: &Expression, least: u32, most: Option<u32>, from: u32) -> Result<u32, ConstraintError> {
        let mut at = from;
        for _ in 0..least {
            let before = self.states.len();
            at = self.emit(inner, at)?;
            if self.states.len() == before {
                break; // it reads nothing, however often
            }
        }
        let end = self.fresh()?;
        let Some(most) = most else {
            self.silently(at, end);
            let again = self.emit(inner, end)?;
            self.silently(again, end);
            return Ok(end);
        };
        for _ in least..most {
            self.silently(at, end);
            let begin = self.fresh()?;
            self.silently(at, begin);
            at = self.emit(inner, begin)?;
        }
        self.silently(at, end);
        Ok(end)
    }

    /// Two tracks, nothing written yet and something written: only the second puts `, ` before a member.
    fn members(&mut self, members: &[Member], from: u32) -> Result<u32, ConstraintError> {
        let (mut bare, mut written) = (Some(from), None);
        for member in members {
            let name = self.fresh()?;
            if let Some(bare) = bare {
                self.silently(bare, name);
            }
            if let Some(written) = written {
                let comma = self.emit(&Expression::Bytes(b", ".to_vec()), written)?;
                self.silently(comma, name);
            }
            let value = self.emit(&Expression::Bytes(member.name.clone()), name)?;
            let stop = self.emit(&member.value, value)?;
            let after = self.fresh()?;
            self.silently(stop, after);
            if member.required {
                bare = None;
            } else if let Some(written) = written {
                self.silently(written, after);
            }
            written = Some(after);
        }
        let end = self.fresh()?;
        for state in [bare, written].into_iter().flatten() {
            self.silently(state, end);
        }
        Ok(end)
    }
}
