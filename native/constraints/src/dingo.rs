//! The dynamic program over states × positions. Source: DINGO, arXiv 2505.23061.
//!
//! One pass forward finds the states that can be reached and from which the rest of the canvas can still be completed;
//! one pass backward gives each of them its message: the best log-probability of what follows (arg max), or the summed
//! probability (sampling); then the text is read off from the left. Behind an accepted text all positions hold the end
//! mark; only the first of them counts.

use crate::error::ConstraintError;
use crate::tokens::{FAR, Structure};

/// A position where nothing is settled.
pub const OPEN: u32 = u32::MAX;
/// Least weight of a token, and of what follows, in sampling: below what a sum of probabilities notices, above 0.
const LEAST: f64 = 1e-30;
const LEAST_REST: f64 = 1e-270;

/// A row of positions: what is settled, and log-probabilities of some consecutive positions.
#[derive(Clone, Copy, Debug)]
pub struct Canvas<'a> {
    /// Settled tokens, `OPEN` elsewhere.
    pub tokens: &'a [u32],
    /// Position of the first row of `scores`.
    pub first: usize,
    /// Row-major log-probabilities, one row per position, one column per token. Open positions without a row only have
    /// to be completable.
    pub scores: &'a [f32],
}

/// A text that is accepted and holds everything that is settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// One token per position.
    pub tokens: Vec<u32>,
    /// Probability of each token among those that are possible there, behind those before it; 0 without a row.
    pub confidence: Vec<f32>,
    /// Entropy in nats of that distribution; 0 without a row.
    pub entropy: Vec<f32>,
}

impl Structure {
    /// The most probable accepted text. Raises `Invalid` where none holds what is settled.
    pub fn best(&self, canvas: Canvas<'_>) -> Result<Path, ConstraintError> {
        self.path(canvas, &Pick::Best)
    }

    /// An accepted text drawn with its probability, given that it is accepted: one uniform in [0, 1) per position, from
    /// left to right by the inverse of the cumulative distribution over token ids.
    ///
    /// Raises `Invalid` where no text holds what is settled.
    pub fn draw(&self, canvas: Canvas<'_>, uniforms: &[f64]) -> Result<Path, ConstraintError> {
        if uniforms.len() != canvas.tokens.len() {
            return Err(shape("uniforms", canvas.tokens.len(), uniforms.len()));
        }
        self.path(canvas, &Pick::Draw(uniforms))
    }

    fn path(&self, canvas: Canvas<'_>, pick: &Pick<'_>) -> Result<Path, ConstraintError> {
        let width = self.vocabulary().size();
        if !canvas.scores.len().is_multiple_of(width) {
            return Err(shape("columns", width, canvas.scores.len() % width));
        }
        if canvas.first + canvas.scores.len() / width > canvas.tokens.len() {
            return Err(shape("rows at most", canvas.tokens.len(), canvas.first + canvas.scores.len() / width));
        }
        let lattice = Lattice::of(self, canvas)?;
        let messages = lattice.messages(pick);
        if messages[0][0] <= pick.nothing() {
            return Err(nothing_fits());
        }
        Ok(lattice.read(&messages, pick))
    }
}

fn nothing_fits() -> ConstraintError {
    ConstraintError::invalid("", "no accepted text that fits into the canvas holds what is settled")
}

fn shape(what: &str, expected: usize, came: usize) -> ConstraintError {
    ConstraintError::invalid("", format!("expected {expected} {what}, came {came}"))
}

enum Pick<'a> {
    Best,
    Draw(&'a [f64]),
}

impl Pick<'_> {
    /// The message of a state behind which nothing accepted follows.
    fn nothing(&self) -> f64 {
        if matches!(self, Self::Best) { f64::NEG_INFINITY } else { 0.0 }
    }
}

/// A way on from a state.
enum Way {
    /// The end mark.
    End,
    /// The token that is settled there.
    Settled,
    /// A token of this set.
    Of(u32),
}

/// The states that lie on the way to an accepted text, position by position, as far as something is known.
struct Lattice<'a> {
    structure: &'a Structure,
    canvas: Canvas<'a>,
    /// Position of the first layer: all before it is settled.
    start: usize,
    layers: Vec<Vec<u32>>,
}

impl<'a> Lattice<'a> {
    fn of(structure: &'a Structure, canvas: Canvas<'a>) -> Result<Self, ConstraintError> {
        let tokens = canvas.tokens;
        let start = tokens.iter().position(|&token| token == OPEN).unwrap_or(tokens.len());
        let settled = tokens.iter().rposition(|&token| token != OPEN).map_or(0, |last| last + 1);
        let rows = canvas.first + canvas.scores.len() / structure.vocabulary().size();
        let stop = settled.max(rows).max(start);
        let mut lattice = Self { structure, canvas, start: 0, layers: vec![vec![0]] };
        let mut seen = vec![usize::MAX; structure.states() + 1];
        for position in 0..stop {
            let mut layer = Vec::new();
            for &state in &lattice.layers[lattice.layers.len() - 1] {
                lattice.each_next(position, state, |next| {
                    let known = std::mem::replace(&mut seen[next as usize], position) == position;
                    if !known && lattice.completable(next, position + 1) {
                        layer.push(next);
                    }
                });
            }
            if layer.is_empty() {
                return Err(nothing_fits());
            }
            if position < start {
                lattice.layers.clear();
                lattice.start = position + 1;
            }
            lattice.layers.push(layer);
        }
        if lattice.completable(lattice.layers[0][0], lattice.start) {
            return Ok(lattice);
        }
        Err(nothing_fits())
    }

    /// The state behind an accepted text, which holds end marks only.
    fn done(&self) -> u32 {
        self.structure.states() as u32
    }

    fn may_end(&self, state: u32) -> bool {
        state == self.done() || self.structure.is_accepting(state)
    }

    fn completable(&self, state: u32, position: usize) -> bool {
        let left = self.canvas.tokens.len() - position;
        state == self.done() || {
            let needed = self.structure.distance(state);
            needed != FAR && needed as usize <= left
        }
    }

    fn each_next(&self, position: usize, state: u32, mut visit: impl FnMut(u32)) {
        let token = self.canvas.tokens[position];
        if token != OPEN && token != self.structure.vocabulary().end() {
            if state != self.done()
                && let Some(next) = self.structure.after(state, token)
            {
                visit(next);
            }
            return;
        }
        if self.may_end(state) {
            visit(self.done());
        }
        if token == OPEN && state != self.done() {
            for &(_, next) in self.structure.edges(state) {
                visit(next);
            }
        }
    }

    fn row(&self, position: usize) -> Option<&'a [f32]> {
        let width = self.structure.vocabulary().size();
        let row = position.checked_sub(self.canvas.first)?;
        self.canvas.scores.get(row * width..(row + 1) * width)
    }

    /// Per layer and state what follows is worth: log-probability, or weight relative to the layer's largest.
    fn messages(&self, pick: &Pick<'_>) -> Vec<Vec<f64>> {
        let best = matches!(pick, Pick::Best);
        let mut messages = vec![vec![if best { 0.0 } else { 1.0 }; self.layers[self.layers.len() - 1].len()]];
        let nothing = pick.nothing();
        let mut behind = vec![nothing; self.structure.states() + 1];
        let mut worth = Worth::new(self.structure.sets());
        for layer in (0..self.layers.len() - 1).rev() {
            for (&state, &message) in self.layers[layer + 1].iter().zip(&messages[messages.len() - 1]) {
                behind[state as usize] = message;
            }
            worth.begin(self.row(self.start + layer));
            let of = |&state: &u32| {
                if best {
                    self.most(layer, state, &behind, &mut worth)
                } else {
                    self.sum(layer, state, &behind, &mut worth)
                }
            };
            let mut found: Vec<f64> = self.layers[layer].iter().map(of).collect();
            if !best {
                let largest = found.iter().copied().fold(0.0, f64::max);
                let scaled = |message: f64| if message > 0.0 { (message / largest).max(LEAST_REST) } else { 0.0 };
                for message in &mut found {
                    *message = scaled(*message);
                }
            }
            for &state in &self.layers[layer + 1] {
                behind[state as usize] = nothing;
            }
            messages.push(found);
        }
        messages.reverse();
        messages
    }

    /// Log-probability of an end mark: it is free behind the first, where it is settled, and where nothing is known.
    fn end_score(&self, layer: usize, state: u32) -> f32 {
        let position = self.start + layer;
        let end = self.structure.vocabulary().end();
        match self.row(position) {
            Some(row) if state != self.done() && self.canvas.tokens[position] == OPEN => row[end as usize],
            _ => 0.0,
        }
    }

    fn most(&self, layer: usize, state: u32, behind: &[f64], worth: &mut Worth<'_>) -> f64 {
        let mut most = f64::NEG_INFINITY;
        self.each_way(layer, state, |way, next| {
            let rest = behind[next as usize];
            if rest > f64::NEG_INFINITY {
                let score = match way {
                    Way::End => f64::from(self.end_score(layer, state)),
                    Way::Settled => 0.0,
                    Way::Of(set) => worth.best(self.structure, set),
                };
                most = most.max(score + rest);
            }
        });
        most
    }

    fn sum(&self, layer: usize, state: u32, behind: &[f64], worth: &mut Worth<'_>) -> f64 {
        let known = self.row(self.start + layer).is_some();
        let mut sum: f64 = 0.0;
        self.each_way(layer, state, |way, next| {
            let rest = behind[next as usize];
            if rest > 0.0 {
                let weight = match way {
                    Way::End => weight(self.end_score(layer, state)),
                    Way::Settled => 1.0,
                    Way::Of(set) => worth.sum(self.structure, set),
                };
                sum = if known { sum + weight * rest } else { sum.max(rest) };
            }
        });
        sum
    }

    /// The ways on, and the states they lead to.
    fn each_way(&self, layer: usize, state: u32, mut visit: impl FnMut(Way, u32)) {
        let token = self.canvas.tokens[self.start + layer];
        if token != OPEN && token != self.structure.vocabulary().end() {
            self.each_next(self.start + layer, state, |next| visit(Way::Settled, next));
            return;
        }
        if self.may_end(state) {
            visit(Way::End, self.done());
        }
        if token == OPEN && state != self.done() {
            for &(set, next) in self.structure.edges(state) {
                visit(Way::Of(set), next);
            }
        }
    }

    /// The text from left to right, and the shortest end behind what is known.
    fn read(&self, messages: &[Vec<f64>], pick: &Pick<'_>) -> Path {
        let length = self.canvas.tokens.len();
        let mut path = Path {
            tokens: self.canvas.tokens[..self.start].to_vec(),
            confidence: vec![0.0; length],
            entropy: vec![0.0; length],
        };
        let nothing = pick.nothing();
        let mut behind = vec![nothing; self.structure.states() + 1];
        let mut state = self.layers[0][0];
        for layer in 0..self.layers.len() - 1 {
            let position = self.start + layer;
            for (&state, &message) in self.layers[layer + 1].iter().zip(&messages[layer + 1]) {
                behind[state as usize] = message;
            }
            let (token, next) = match pick {
                Pick::Best => self.best_way(layer, state, &behind),
                Pick::Draw(uniforms) => self.drawn_way(layer, state, &behind, uniforms[position]),
            };
            if let Some(row) = self.row(position) {
                let (confidence, entropy) = self.certainty(layer, state, token, &behind, nothing, row);
                (path.confidence[position], path.entropy[position]) = (confidence as f32, entropy as f32);
            }
            for &state in &self.layers[layer + 1] {
                behind[state as usize] = nothing;
            }
            path.tokens.push(token);
            state = next;
        }
        while path.tokens.len() < length {
            let (token, next) = self.shortest_way(state);
            path.tokens.push(token);
            state = next;
        }
        path
    }

    fn best_way(&self, layer: usize, state: u32, behind: &[f64]) -> (u32, u32) {
        let row = self.row(self.start + layer);
        let mut most = (f64::NEG_INFINITY, 0, state);
        self.each_way(layer, state, |way, next| {
            let rest = behind[next as usize];
            let mut offer = |score: f64, token: u32| {
                let better = score + rest > most.0 || (score + rest).total_cmp(&most.0).is_eq() && token < most.1;
                if rest > f64::NEG_INFINITY && better {
                    most = (score + rest, token, next);
                }
            };
            match way {
                Way::End => offer(f64::from(self.end_score(layer, state)), self.structure.vocabulary().end()),
                Way::Settled => offer(0.0, self.canvas.tokens[self.start + layer]),
                Way::Of(set) => {
                    for &token in self.structure.set(set) {
                        offer(row.map_or(0.0, |row| f64::from(row[token as usize])), token);
                    }
                }
            }
        });
        (most.1, most.2)
    }

    fn drawn_way(&self, layer: usize, state: u32, behind: &[f64], uniform: f64) -> (u32, u32) {
        let row = self.row(self.start + layer);
        let Some(row) = row else { return self.heaviest_way(layer, state, behind) };
        let mut ways = vec![(0.0, state); row.len()];
        self.each_way(layer, state, |way, next| {
            let rest = behind[next as usize];
            let mut offer = |weight: f64, token: u32| ways[token as usize] = (weight * rest, next);
            match way {
                Way::End => offer(weight(self.end_score(layer, state)), self.structure.vocabulary().end()),
                Way::Settled => offer(1.0, self.canvas.tokens[self.start + layer]),
                Way::Of(set) => {
                    self.structure.set(set).iter().for_each(|&token| offer(weight(row[token as usize]), token));
                }
            }
        });
        let mut left = uniform * ways.iter().map(|way| way.0).sum::<f64>();
        let mut drawn = (0, state);
        for (token, &(weight, next)) in (0_u32..).zip(&ways).filter(|(_, way)| way.0 > 0.0) {
            drawn = (token, next);
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        drawn
    }

    /// Where nothing is known of a position: any token behind which most follows.
    fn heaviest_way(&self, layer: usize, state: u32, behind: &[f64]) -> (u32, u32) {
        let mut most = (0.0, 0, state);
        self.each_way(layer, state, |way, next| {
            let token = match way {
                Way::End => self.structure.vocabulary().end(),
                Way::Settled => self.canvas.tokens[self.start + layer],
                Way::Of(set) => self.structure.set(set)[0],
            };
            if behind[next as usize] > most.0 {
                most = (behind[next as usize], token, next);
            }
        });
        (most.1, most.2)
    }

    fn shortest_way(&self, state: u32) -> (u32, u32) {
        if self.may_end(state) {
            return (self.structure.vocabulary().end(), self.done());
        }
        let nearer = |&&(_, next): &&(u32, u32)| self.structure.distance(next) < self.structure.distance(state);
        let edge = self.structure.edges(state).iter().find(nearer);
        let &(set, next) = edge.expect("a state that is not the end and can be completed has a nearer one");
        (self.structure.set(set)[0], next)
    }

    /// Probability of `token` among the tokens behind which something accepted follows, and their entropy.
    fn certainty(&self, layer: usize, state: u32, token: u32, behind: &[f64], nothing: f64, row: &[f32]) -> (f64, f64) {
        let mut total = Sum::default();
        let mut own = 1.0;
        self.each_way(layer, state, |way, next| {
            if behind[next as usize] > nothing {
                match way {
                    Way::End => {
                        total.add(self.end_score(layer, state));
                        if token == self.structure.vocabulary().end() {
                            own = weight(self.end_score(layer, state));
                        }
                    }
                    Way::Settled => total.add(0.0),
                    Way::Of(set) => {
                        self.structure.set(set).iter().for_each(|&token| total.add(row[token as usize]));
                    }
                }
            }
        });
        let end = self.structure.vocabulary().end();
        if token != end && self.canvas.tokens[self.start + layer] == OPEN {
            own = weight(row[token as usize]);
        }
        ((own / total.weight).min(1.0), (total.weight.ln() - total.moment / total.weight).max(0.0))
    }
}

fn weight(score: f32) -> f64 {
    f64::from(score.exp()).max(LEAST)
}

/// Σ w and Σ w log w of some tokens.
#[derive(Clone, Copy, Default)]
struct Sum {
    weight: f64,
    moment: f64,
}

impl Sum {
    fn add(&mut self, score: f32) {
        let weight = weight(score);
        self.weight += weight;
        self.moment += weight * f64::from(score.max(-70.0));
    }
}

/// What the sets are worth at one position, each computed when it is first asked for.
struct Worth<'a> {
    row: Option<&'a [f32]>,
    round: u32,
    asked: Vec<u32>,
    values: Vec<f64>,
    /// Of all tokens of the row; made with the first sum.
    weights: Vec<f64>,
}

impl<'a> Worth<'a> {
    fn new(sets: usize) -> Self {
        Self { row: None, round: 0, asked: vec![0; sets], values: vec![0.0; sets], weights: Vec::new() }
    }

    fn begin(&mut self, row: Option<&'a [f32]>) {
        self.row = row;
        self.round += 1;
        self.weights.clear();
    }

    fn best(&mut self, structure: &Structure, set: u32) -> f64 {
        self.value(set, |row| {
            f64::from(structure.set(set).iter().map(|&token| row[token as usize]).fold(f32::NEG_INFINITY, f32::max))
        })
    }

    fn sum(&mut self, structure: &Structure, set: u32) -> f64 {
        if self.weights.is_empty() {
            self.weights.extend(self.row.unwrap_or_default().iter().map(|&score| weight(score)));
        }
        let weights = std::mem::take(&mut self.weights);
        let sum = self.value(set, |_| structure.set(set).iter().map(|&token| weights[token as usize]).sum());
        self.weights = weights;
        sum
    }

    fn value(&mut self, set: u32, compute: impl FnOnce(&[f32]) -> f64) -> f64 {
        let Some(row) = self.row else { return 0.0 };
        let known = std::mem::replace(&mut self.asked[set as usize], self.round) == self.round;
        if !known {
            self.values[set as usize] = compute(row);
        }
        self.values[set as usize]
    }
}
