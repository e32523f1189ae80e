//! Tables of f64 that remember how they came about, and the gradients of what they led to.
//!
//! Reverse-mode differentiation (S. Linnainmaa, 1970), on tables instead of numbers. The tape holds
//! values and what made them; derivatives are computed from these on the way back, and only where a
//! gradient comes by.

use std::cell::{Ref, RefCell};
use std::ops::{Add, Div, Mul, Sub};

use super::Table;
use crate::shape::Labels;

/// The record of a computation on tables.
///
/// ```
/// use cellnorm::rule::{Table, Tape};
/// let tape = Tape::default();
/// let x = tape.table(vec![3.0, 4.0]);
/// let y = (x * x).sqrt() / x.plus(1.0);
/// assert_eq!(y.values(), [0.75, 0.8]);
/// let gradients = tape.backward(&[(y, vec![1.0, 1.0])]);
/// assert!((gradients.get(x)[0] - 1.0 / 16.0).abs() < 1e-15);
/// ```
#[derive(Debug, Default)]
pub struct Tape {
    nodes: RefCell<Vec<Node>>,
}

/// A table on a tape.
#[derive(Clone, Copy, Debug)]
pub struct Var<'t> {
    tape: &'t Tape,
    id: usize,
}

#[derive(Debug)]
struct Node {
    values: Vec<f64>,
    origin: Origin,
}

/// Which nodes a node was computed from, and how.
#[derive(Debug)]
enum Origin {
    Input,
    One(usize, Map),
    Two([usize; 2], Join),
    Take(usize, Labels),
    Sum(usize, Labels),
}

/// A function of each element.
#[derive(Clone, Copy, Debug)]
enum Map {
    Plus,
    Times(f64),
    Sqrt,
    Recip,
    Exp,
    Abs,
    Clamp(f64, f64),
}

/// A function of each pair of elements.
#[derive(Clone, Copy, Debug)]
enum Join {
    Add,
    Sub,
    Mul,
    Div,
}

/// The gradients of every table of a tape.
#[derive(Debug)]
pub struct TapeGradients(Vec<Vec<f64>>);

impl TapeGradients {
    /// The gradient of one table.
    pub fn get(&self, table: Var<'_>) -> &[f64] {
        &self.0[table.id]
    }
}

impl Tape {
    /// A table to start from.
    pub fn table(&self, values: Vec<f64>) -> Var<'_> {
        self.node(values, Origin::Input)
    }

    fn node(&self, values: Vec<f64>, origin: Origin) -> Var<'_> {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(Node { values, origin });
        Var { tape: self, id: nodes.len() - 1 }
    }

    /// The gradients of all tables, from those of some results.
    ///
    /// # Panics
    /// If a gradient is not as long as its table.
    pub fn backward(&self, results: &[(Var<'_>, Vec<f64>)]) -> TapeGradients {
        let nodes = self.nodes.borrow();
        // empty as long as no gradient has come
        let mut gradients: Vec<Vec<f64>> = vec![vec![]; nodes.len()];
        for (result, gradient) in results {
            assert_eq!(
                gradient.len(),
                nodes[result.id].values.len(),
                "a gradient as long as its table"
            );
            accumulate(&mut gradients[result.id], gradient.iter().copied());
        }
        for (id, node) in nodes.iter().enumerate().rev() {
            let (before, here) = gradients.split_at_mut(id);
            let gradient = &mut here[0];
            if gradient.is_empty() {
                gradient.resize(node.values.len(), 0.0);
                continue;
            }
            match &node.origin {
                Origin::Input => {}
                Origin::One(input, map) => {
                    map.chain(&nodes[*input].values, gradient, &mut before[*input])
                }
                Origin::Two(inputs, join) => {
                    let [a, b] = inputs.map(|input| nodes[input].values.as_slice());
                    join.chain_first([a, b], gradient, &mut before[inputs[0]]);
                    join.chain_second([a, b], gradient, &mut before[inputs[1]]);
                }
                Origin::Take(input, labels) => {
                    accumulate(&mut before[*input], labels.sums(gradient).into_iter())
                }
                Origin::Sum(input, labels) => {
                    accumulate(
                        &mut before[*input],
                        labels.as_slice().iter().map(|label| gradient[*label as usize]),
                    );
                }
            }
        }
        TapeGradients(gradients)
    }
}

fn accumulate(all: &mut Vec<f64>, part: impl Iterator<Item = f64>) {
    if all.is_empty() {
        // no −0
        return all.extend(part.map(|part| 0.0 + part));
    }
    for (all, part) in all.iter_mut().zip(part) {
        *all += part;
    }
}

/// The gradient of an input, from that of the result and the slope at each element.
fn chain(gradient: &[f64], slopes: impl Iterator<Item = f64>, input_gradient: &mut Vec<f64>) {
    // an infinite slope times a zero gradient is not a gradient
    let share =
        |(gradient, slope): (&f64, f64)| if *gradient == 0.0 { 0.0 } else { gradient * slope };
    accumulate(input_gradient, gradient.iter().zip(slopes).map(share));
}

impl Map {
    fn chain(self, input: &[f64], gradient: &[f64], input_gradient: &mut Vec<f64>) {
        let input = input.iter();
        match self {
            Self::Plus => chain(gradient, input.map(|_| 1.0), input_gradient),
            Self::Times(number) => chain(gradient, input.map(|_| number), input_gradient),
            Self::Sqrt => chain(
                gradient,
                input.map(|v| if *v > 0.0 { 0.5 / v.sqrt() } else { 0.0 }),
                input_gradient,
            ),
            Self::Recip => chain(gradient, input.map(|v| -1.0 / v / v), input_gradient),
            Self::Exp => chain(gradient, input.map(|v| v.exp()), input_gradient),
            Self::Abs => {
                chain(gradient, input.map(|v| if *v < 0.0 { -1.0 } else { 1.0 }), input_gradient)
            }
            Self::Clamp(low, high) => {
                let within = |v: &f64| if (low..=high).contains(v) { 1.0 } else { 0.0 };
                chain(gradient, input.map(within), input_gradient);
            }
        }
    }
}

impl Join {
    fn chain_first(self, [_, b]: [&[f64]; 2], gradient: &[f64], of_a: &mut Vec<f64>) {
        match self {
            Self::Add | Self::Sub => chain(gradient, b.iter().map(|_| 1.0), of_a),
            Self::Mul => chain(gradient, b.iter().copied(), of_a),
            Self::Div => chain(gradient, b.iter().map(|b| 1.0 / b), of_a),
        }
    }

    fn chain_second(self, [a, b]: [&[f64]; 2], gradient: &[f64], of_b: &mut Vec<f64>) {
        match self {
            Self::Add => chain(gradient, a.iter().map(|_| 1.0), of_b),
            Self::Sub => chain(gradient, a.iter().map(|_| -1.0), of_b),
            Self::Mul => chain(gradient, a.iter().copied(), of_b),
            Self::Div => chain(gradient, a.iter().zip(b).map(|(a, b)| -a / b / b), of_b),
        }
    }
}

impl<'t> Var<'t> {
    /// The numbers.
    pub fn values(&self) -> Vec<f64> {
        self.tape.nodes.borrow()[self.id].values.clone()
    }

    fn borrow(&self) -> Ref<'_, Vec<f64>> {
        Ref::map(self.tape.nodes.borrow(), |nodes| &nodes[self.id].values)
    }

    /// `f` of each element.
    fn map(self, map: Map, f: impl Fn(f64) -> f64) -> Self {
        let values = self.borrow().iter().map(|v| f(*v)).collect();
        self.tape.node(values, Origin::One(self.id, map))
    }

    /// `f` of each pair of elements.
    fn join(self, other: Self, join: Join, f: impl Fn(f64, f64) -> f64) -> Self {
        let (a, b) = (self.borrow(), other.borrow());
        assert_eq!(a.len(), b.len(), "two tables of different lengths");
        let values = a.iter().zip(b.iter()).map(|(a, b)| f(*a, *b)).collect();
        drop((a, b));
        self.tape.node(values, Origin::Two([self.id, other.id], join))
    }
}

impl Add for Var<'_> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.join(other, Join::Add, |a, b| a + b)
    }
}

impl Sub for Var<'_> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.join(other, Join::Sub, |a, b| a - b)
    }
}

impl Mul for Var<'_> {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        self.join(other, Join::Mul, |a, b| a * b)
    }
}

impl Div for Var<'_> {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        self.join(other, Join::Div, |a, b| a / b)
    }
}

impl Table for Var<'_> {
    fn constant(&self, values: Vec<f64>) -> Self {
        self.tape.table(values)
    }

    fn plus(self, number: f64) -> Self {
        self.map(Map::Plus, |v| v + number)
    }

    fn times(self, number: f64) -> Self {
        self.map(Map::Times(number), |v| v * number)
    }

    fn sqrt(self) -> Self {
        self.map(Map::Sqrt, f64::sqrt)
    }

    fn recip(self) -> Self {
        self.map(Map::Recip, |v| 1.0 / v)
    }

    fn exp(self) -> Self {
        self.map(Map::Exp, f64::exp)
    }

    fn abs(self) -> Self {
        self.map(Map::Abs, f64::abs)
    }

    fn clamp(self, low: f64, high: f64) -> Self {
        self.map(Map::Clamp(low, high), |v| v.clamp(low, high))
    }

    fn take(&self, labels: &Labels) -> Self {
        let sets = self.borrow();
        let values = labels.as_slice().iter().map(|label| sets[*label as usize]).collect();
        drop(sets);
        self.tape.node(values, Origin::Take(self.id, labels.clone()))
    }

    fn sum(&self, labels: &Labels) -> Self {
        let values = labels.sums(&self.borrow());
        self.tape.node(values, Origin::Sum(self.id, labels.clone()))
    }

    fn detach(self) -> Self {
        self.tape.table(self.values())
    }
}
