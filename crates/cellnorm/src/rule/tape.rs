//! Tables of f64 that remember how they came about, and the gradients of what they led to.
//!
//! Reverse-mode differentiation (S. Linnainmaa, 1970), on tables instead of numbers. The tape holds
//! values and the slopes of what made them, computed on the way back where a gradient comes by.

use std::cell::{Ref, RefCell};
use std::fmt;
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

struct Node {
    values: Vec<f64>,
    origin: Origin,
}

/// Adds to the gradient of an input, from the values of all inputs and the gradient of the result.
type Chain<const N: usize> = Box<dyn Fn([&[f64]; N], &[f64], &mut Vec<f64>) + Send>;

/// Which nodes a node was computed from, and how its gradient reaches them.
enum Origin {
    Input,
    One(usize, Chain<1>),
    Two([usize; 2], [Chain<2>; 2]),
    Take(usize, Labels),
    Sum(usize, Labels),
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.values.fmt(f)
    }
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
            let len = nodes[result.id].values.len();
            assert_eq!(gradient.len(), len, "a gradient as long as its table");
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
                Origin::One(input, chain) => {
                    chain([&nodes[*input].values], gradient, &mut before[*input]);
                }
                Origin::Two(inputs, chains) => {
                    let values = inputs.map(|input| nodes[input].values.as_slice());
                    for (input, chain) in inputs.iter().zip(chains) {
                        chain(values, gradient, &mut before[*input]);
                    }
                }
                Origin::Take(input, labels) => {
                    accumulate(&mut before[*input], labels.sums(gradient).into_iter())
                }
                Origin::Sum(input, labels) => {
                    accumulate(&mut before[*input], labels.take(gradient).into_iter());
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
    let share = |(dy, slope): (&f64, f64)| if *dy == 0.0 { 0.0 } else { dy * slope };
    accumulate(input_gradient, gradient.iter().zip(slopes).map(share));
}

impl<'t> Var<'t> {
    /// The numbers.
    pub fn values(&self) -> Vec<f64> {
        self.tape.nodes.borrow()[self.id].values.clone()
    }

    fn borrow(&self) -> Ref<'_, Vec<f64>> {
        Ref::map(self.tape.nodes.borrow(), |nodes| &nodes[self.id].values)
    }

    /// `f` of each element, with its slope there.
    fn map(self, f: impl Fn(f64) -> f64, slope: impl Fn(f64) -> f64 + Send + 'static) -> Self {
        let values = self.borrow().iter().map(|v| f(*v)).collect();
        let chain_rule: Chain<1> = Box::new(move |[input], gradient, input_gradient| {
            chain(gradient, input.iter().map(|v| slope(*v)), input_gradient);
        });
        self.tape.node(values, Origin::One(self.id, chain_rule))
    }

    /// `f` of each pair of elements, with its slopes by the first and by the second there.
    fn join(
        self,
        other: Self,
        f: impl Fn(f64, f64) -> f64,
        first: impl Fn(f64, f64) -> f64 + Send + 'static,
        second: impl Fn(f64, f64) -> f64 + Send + 'static,
    ) -> Self {
        let (a, b) = (self.borrow(), other.borrow());
        assert_eq!(a.len(), b.len(), "two tables of different lengths");
        let values = a.iter().zip(b.iter()).map(|(a, b)| f(*a, *b)).collect();
        drop((a, b));
        self.tape
            .node(values, Origin::Two([self.id, other.id], [pairwise(first), pairwise(second)]))
    }
}

/// The gradient of an input of a pair, from the slope by it.
fn pairwise(slope: impl Fn(f64, f64) -> f64 + Send + 'static) -> Chain<2> {
    Box::new(move |[a, b], gradient, input_gradient| {
        chain(gradient, a.iter().zip(b).map(|(a, b)| slope(*a, *b)), input_gradient);
    })
}

impl Add for Var<'_> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.join(other, |a, b| a + b, |_, _| 1.0, |_, _| 1.0)
    }
}

impl Sub for Var<'_> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.join(other, |a, b| a - b, |_, _| 1.0, |_, _| -1.0)
    }
}

impl Mul for Var<'_> {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        self.join(other, |a, b| a * b, |_, b| b, |a, _| a)
    }
}

impl Div for Var<'_> {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        self.join(other, |a, b| a / b, |_, b| 1.0 / b, |a, b| -a / b / b)
    }
}

impl Table for Var<'_> {
    fn constant(&self, values: Vec<f64>) -> Self {
        self.tape.table(values)
    }

    fn plus(self, number: f64) -> Self {
        self.map(|v| v + number, |_| 1.0)
    }

    fn times(self, number: f64) -> Self {
        self.map(|v| v * number, move |_| number)
    }

    fn sqrt(self) -> Self {
        self.map(f64::sqrt, |v| if v > 0.0 { 0.5 / v.sqrt() } else { 0.0 })
    }

    fn recip(self) -> Self {
        self.map(|v| 1.0 / v, |v| -1.0 / v / v)
    }

    fn exp(self) -> Self {
        self.map(f64::exp, f64::exp)
    }

    fn abs(self) -> Self {
        self.map(f64::abs, |v| if v < 0.0 { -1.0 } else { 1.0 })
    }

    fn clamp(self, low: f64, high: f64) -> Self {
        let within = move |v| if (low..=high).contains(&v) { 1.0 } else { 0.0 };
        self.map(|v| v.clamp(low, high), within)
    }

    fn take(&self, labels: &Labels) -> Self {
        let values = labels.take(&self.borrow());
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
