use std::collections::HashMap;

use crate::error::ConstraintError;
use crate::expression::Expression;
use crate::nfa::Nfa;
use crate::{regex, schema};

/// States that a language may have, and its structure over tokens.
pub const MOST_STATES: usize = 8192;
/// States of the undetermined automaton looked at while it is made deterministic.
const MOST_WORK: usize = 1 << 23;
pub(crate) const DEAD: u32 = u32::MAX;

/// A regular language of bytes as a deterministic automaton. Every state lies on the way to an accepted text.
#[derive(Debug)]
pub struct Language {
    kinds: [u8; 256],
    width: usize,
    next: Vec<u32>,
    accepting: Vec<bool>,
}

impl Language {
    /// The JSON texts that a schema allows; see the README for keywords and the form in which they are written.
    pub fn of_schema(schema: &str) -> Result<Self, ConstraintError> {
        Self::of(&*schema::expression(schema)?)
    }

    /// The texts that a pattern matches from beginning to end.
    pub fn of_regex(pattern: &str) -> Result<Self, ConstraintError> {
        Self::of(&*regex::plain(pattern)?)
    }

    pub(crate) fn of(expression: &Expression) -> Result<Self, ConstraintError> {
        let language = determined(&Nfa::of(expression)?)?.trimmed();
        if language.accepting.is_empty() {
            return Err(ConstraintError::invalid("", "nothing satisfies it; expected at least one text"));
        }
        Ok(language)
    }

    /// Number of states; state 0 is the start.
    pub fn states(&self) -> usize {
        self.accepting.len()
    }

    /// Whether the whole text is of the language.
    pub fn accepts(&self, text: &[u8]) -> bool {
        self.walk(0, text).is_some_and(|state| self.is_accepting(state))
    }

    pub(crate) fn is_accepting(&self, state: u32) -> bool {
        self.accepting[state as usize]
    }

    pub(crate) fn step(&self, state: u32, byte: u8) -> Option<u32> {
        let next = self.next[state as usize * self.width + usize::from(self.kinds[usize::from(byte)])];
        (next != DEAD).then_some(next)
    }

    pub(crate) fn walk(&self, state: u32, bytes: &[u8]) -> Option<u32> {
        bytes.iter().try_fold(state, |state, &byte| self.step(state, byte))
    }

    /// Without the states from which nothing is accepted; the others keep their order.
    fn trimmed(self) -> Self {
        let count = self.states();
        let mut sources: Vec<Vec<u32>> = vec![Vec::new(); count];
        for state in 0..count {
            for &next in &self.next[state * self.width..][..self.width] {
                if next != DEAD {
                    sources[next as usize].push(state as u32);
                }
            }
        }
        let mut alive = self.accepting.clone();
        let mut open: Vec<u32> = (0..count as u32).filter(|&state| alive[state as usize]).collect();
        while let Some(state) = open.pop() {
            for &source in &sources[state as usize] {
                if !std::mem::replace(&mut alive[source as usize], true) {
                    open.push(source);
                }
            }
        }
        let mut renamed = vec![DEAD; count];
        let kept: Vec<usize> = (0..count).filter(|&state| alive[0] && alive[state]).collect();
        for (new, &old) in kept.iter().enumerate() {
            renamed[old] = new as u32;
        }
        let to = |next: u32| if next == DEAD { DEAD } else { renamed[next as usize] };
        let rows = kept.iter().flat_map(|&old| &self.next[old * self.width..][..self.width]);
        let next = rows.map(|&next| to(next)).collect();
        let accepting = kept.iter().map(|&old| self.accepting[old]).collect();
        Self { next, accepting, ..self }
    }
}

/// Subset construction over kinds of bytes that no move tells apart.
fn determined(nfa: &Nfa) -> Result<Language, ConstraintError> {
    let (kinds, width) = kinds_of(nfa);
    let mut work = 0;
    let mut closed = Closure { nfa, seen: vec![0; nfa.states.len()], round: 0 };
    let start = closed.of(&[0], &mut work)?;
    let mut known: HashMap<Vec<u32>, u32> = HashMap::from([(start.clone(), 0)]);
    let mut sets = vec![start];
    let mut next = Vec::new();
    let mut reached: Vec<Vec<u32>> = vec![Vec::new(); width];
    let mut at = 0;
    while at < sets.len() {
        for &state in &sets[at] {
            for &((low, high), to) in &nfa.states[state as usize].moves {
                for kind in kinds[usize::from(low)]..=kinds[usize::from(high)] {
                    reached[usize::from(kind)].push(to);
                }
            }
        }
        for states in &mut reached {
            if states.is_empty() {
                next.push(DEAD);
                continue;
            }
            let set = closed.of(states, &mut work)?;
            states.clear();
            let id = *known.entry(set).or_insert_with_key(|set| {
                sets.push(set.clone());
                sets.len() as u32 - 1
            });
            next.push(id);
        }
        if sets.len() > MOST_STATES {
            return Err(too_large());
        }
        at += 1;
    }
    let accepting = sets.iter().map(|set| set.contains(&nfa.accepting)).collect();
    Ok(Language { kinds, width, next, accepting })
}

fn too_large() -> ConstraintError {
    ConstraintError::TooLarge(format!("the automaton has more than {MOST_STATES} states"))
}

struct Closure<'a> {
    nfa: &'a Nfa,
    seen: Vec<u32>,
    round: u32,
}

impl Closure<'_> {
    /// The states reached silently that read a byte or accept, in order.
    fn of(&mut self, from: &[u32], work: &mut usize) -> Result<Vec<u32>, ConstraintError> {
        self.round += 1;
        let mut found = Vec::new();
        let mut open = from.to_vec();
        while let Some(state) = open.pop() {
            if std::mem::replace(&mut self.seen[state as usize], self.round) == self.round {
                continue;
            }
            *work += 1;
            let rest = &self.nfa.states[state as usize];
            open.extend(&rest.silent);
            if !rest.moves.is_empty() || state == self.nfa.accepting {
                found.push(state);
            }
        }
        if *work > MOST_WORK {
            return Err(too_large());
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// The kind of each byte, and how many kinds there are.
fn kinds_of(nfa: &Nfa) -> ([u8; 256], usize) {
    let mut begins = [false; 257];
    for ((low, high), _) in nfa.states.iter().flat_map(|state| &state.moves) {
        begins[usize::from(*low)] = true;
        begins[usize::from(*high) + 1] = true;
    }
    let mut kinds = [0; 256];
    let mut kind = 0;
    for byte in 1..256 {
        kind += u8::from(begins[byte]);
        kinds[byte] = kind;
    }
    (kinds, usize::from(kind) + 1)
}
