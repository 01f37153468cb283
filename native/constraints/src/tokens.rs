use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::dfa::Language;
use crate::error::ConstraintError;

/// Nodes of the vocabulary's tree visited while a structure is built.
const MOST_WORK: usize = 1 << 25;
/// Tokens of all sets together.
const MOST_MEMBERS: usize = 1 << 21;
const MOST_EDGES: usize = 1 << 19;
pub(crate) const FAR: u32 = u32::MAX;

/// What the tokens of a model say.
#[derive(Debug)]
pub struct Vocabulary {
    texts: Vec<Vec<u8>>,
    end: u32,
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    children: Vec<(u8, u32)>,
    tokens: Vec<u32>,
}

impl Vocabulary {
    /// Tokens by id as bytes, empty for marks that no text holds; `end` is the mark that ends a text and fills what is
    /// left of a canvas.
    pub fn new(texts: Vec<Vec<u8>>, end: u32) -> Result<Self, ConstraintError> {
        if texts.get(end as usize).is_none_or(|text| !text.is_empty()) {
            let message = format!("the end {end} is a text or no token; expected an id whose text is empty");
            return Err(ConstraintError::invalid("", message));
        }
        let mut nodes = vec![Node::default()];
        for (token, text) in texts.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
            let mut at = 0;
            for &byte in text {
                let known = nodes[at].children.iter().find(|(other, _)| *other == byte).map(|(_, child)| *child);
                at = known.unwrap_or_else(|| {
                    nodes.push(Node::default());
                    let child = nodes.len() as u32 - 1;
                    nodes[at].children.push((byte, child));
                    child
                }) as usize;
            }
            nodes[at].tokens.push(token as u32);
        }
        Ok(Self { texts, end, nodes })
    }

    /// Number of ids.
    pub fn size(&self) -> usize {
        self.texts.len()
    }

    /// The id that ends a text.
    pub fn end(&self) -> u32 {
        self.end
    }

    pub(crate) fn text(&self, token: u32) -> &[u8] {
        self.texts.get(token as usize).map_or(&[], Vec::as_slice)
    }
}

/// A language over the tokens of a vocabulary: from each state sets of tokens lead to other states.
///
/// States that differ only in how far they are (the n-th character of a bounded string) share their sets, so that the
/// dynamic program looks at each set once per position.
#[derive(Debug)]
pub struct Structure {
    language: Language,
    vocabulary: Arc<Vocabulary>,
    edges: Vec<(u32, u32)>,
    starts: Vec<u32>,
    members: Vec<u32>,
    bounds: Vec<u32>,
    distance: Vec<u32>,
}

impl Structure {
    /// The automaton of `language` over tokens. Raises `TooLarge`, and `Invalid` where the tokens cannot write it.
    pub fn new(language: Language, vocabulary: Arc<Vocabulary>) -> Result<Self, ConstraintError> {
        let mut sets: HashMap<Vec<u32>, u32> = HashMap::new();
        let (mut members, mut bounds) = (Vec::new(), vec![0]);
        let (mut edges, mut starts) = (Vec::new(), vec![0]);
        let mut work = 0;
        for state in 0..language.states() as u32 {
            for (next, tokens) in successors(&language, &vocabulary, state, &mut work) {
                let fresh = sets.len() as u32;
                let set = *sets.entry(tokens).or_insert_with_key(|tokens| {
                    members.extend(tokens);
                    bounds.push(members.len() as u32);
                    fresh
                });
                edges.push((set, next));
            }
            starts.push(edges.len() as u32);
            if work > MOST_WORK || members.len() > MOST_MEMBERS || edges.len() > MOST_EDGES {
                return Err(ConstraintError::TooLarge(format!(
                    "the automaton of {} states is too large over {} tokens",
                    language.states(),
                    vocabulary.size()
                )));
            }
        }
        let mut structure = Self { language, vocabulary, edges, starts, members, bounds, distance: Vec::new() };
        structure.distance = structure.distances();
        if structure.needed() == FAR {
            return Err(ConstraintError::invalid("", "the vocabulary cannot write any text that is allowed"));
        }
        Ok(structure)
    }

    /// Number of states.
    pub fn states(&self) -> usize {
        self.language.states()
    }

    /// Tokens of the shortest accepted text.
    pub fn needed(&self) -> u32 {
        self.distance[0]
    }

    /// Whether the whole text is accepted.
    pub fn accepts(&self, text: &[u8]) -> bool {
        self.language.accepts(text)
    }

    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    pub(crate) fn is_accepting(&self, state: u32) -> bool {
        self.language.is_accepting(state)
    }

    /// Sets of tokens and where they lead.
    pub(crate) fn edges(&self, state: u32) -> &[(u32, u32)] {
        &self.edges[self.starts[state as usize] as usize..self.starts[state as usize + 1] as usize]
    }

    /// Tokens of a set, ascending.
    pub(crate) fn set(&self, set: u32) -> &[u32] {
        &self.members[self.bounds[set as usize] as usize..self.bounds[set as usize + 1] as usize]
    }

    pub(crate) fn sets(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Tokens to the end of an accepted text; `FAR` where none is reached.
    pub(crate) fn distance(&self, state: u32) -> u32 {
        self.distance[state as usize]
    }

    /// The state behind a token that says something.
    pub(crate) fn after(&self, state: u32, token: u32) -> Option<u32> {
        let text = self.vocabulary.text(token);
        if text.is_empty() { None } else { self.language.walk(state, text) }
    }

    fn distances(&self) -> Vec<u32> {
        let count = self.states() as u32;
        let mut sources: Vec<Vec<u32>> = vec![Vec::new(); count as usize];
        for state in 0..count {
            for &(_, next) in self.edges(state) {
                sources[next as usize].push(state);
            }
        }
        let mut open: VecDeque<u32> = (0..count).filter(|&state| self.is_accepting(state)).collect();
        let mut distance = vec![FAR; count as usize];
        for &state in &open {
            distance[state as usize] = 0;
        }
        while let Some(state) = open.pop_front() {
            for &source in &sources[state as usize] {
                if distance[source as usize] == FAR {
                    distance[source as usize] = distance[state as usize] + 1;
                    open.push_back(source);
                }
            }
        }
        distance
    }
}

/// The states that one token leads to from `state`, with those tokens, ascending.
fn successors(language: &Language, vocabulary: &Vocabulary, state: u32, work: &mut usize) -> BTreeMap<u32, Vec<u32>> {
    let mut found: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut open = vec![(0, state)];
    while let Some((node, state)) = open.pop() {
        let node = &vocabulary.nodes[node as usize];
        *work += 1;
        if !node.tokens.is_empty() {
            found.entry(state).or_default().extend(&node.tokens);
        }
        for &(byte, child) in &node.children {
            if let Some(next) = language.step(state, byte) {
                open.push((child, next));
            }
        }
    }
    for tokens in found.values_mut() {
        tokens.sort_unstable();
    }
    found
}
