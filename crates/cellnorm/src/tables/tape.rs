//! Tables of f64 that remember how they came about, and the gradients of what they led to.
//!
//! Reverse-mode differentiation (S. Linnainmaa, 1970), on tables instead of numbers.

use std::cell::{Ref, RefCell};
use std::ops::{Add, Div, Mul, Sub};

use super::{Labels, Table};

/// The record of a computation on tables.
///
/// ```
/// use cellnorm::tables::{Table, Tape};
/// let tape = Tape::default();
/// let x = tape.table(vec![3.0, 4.0]);
/// let y = (x * x).sqrt() / x.plus(1.0);
/// assert_eq!(y.values(), [0.75, 0.8]);
/// let gradients = tape.backward(&[(y, vec![1.0, 1.0])]);
/// assert!((gradients.of(x)[0] - 1.0 / 16.0).abs() < 1e-15);
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
    from: From,
}

/// The inputs of a node, with the derivative of its values by theirs.
#[derive(Debug)]
enum From {
    Nothing,
    One(usize, Slope),
    Two([usize; 2], [Slope; 2]),
    Take(usize, Labels),
    Sum(usize, Labels),
}

/// The derivative of a table by another of as many elements, element by element.
#[derive(Debug)]
enum Slope {
    /// The same number for each.
    Number(f64),
    /// The values of this table.
    Of(usize),
    /// One for each.
    Each(Vec<f64>),
}

/// The gradients of every table of a tape.
#[derive(Debug)]
pub struct TapeGradients(Vec<Vec<f64>>);

impl TapeGradients {
    /// The gradient of one table.
    pub fn of(&self, table: Var<'_>) -> &[f64] {
        &self.0[table.id]
    }
}

impl Tape {
    /// A table to start from.
    pub fn table(&self, values: Vec<f64>) -> Var<'_> {
        self.node(values, From::Nothing)
    }

    fn node(&self, values: Vec<f64>, from: From) -> Var<'_> {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(Node { values, from });
        Var { tape: self, id: nodes.len() - 1 }
    }

    /// The gradients of all tables, from those of some results.
    pub fn backward(&self, results: &[(Var<'_>, Vec<f64>)]) -> TapeGradients {
        let nodes = self.nodes.borrow();
        let mut gradients: Vec<Vec<f64>> = nodes.iter().map(|node| vec![0.0; node.values.len()]).collect();
        for (result, gradient) in results {
            accumulate(&mut gradients[result.id], gradient.iter().copied());
        }
        for (id, node) in nodes.iter().enumerate().rev() {
            let (before, here) = gradients.split_at_mut(id);
            let gradient = &here[0];
            // an infinite derivative times a zero gradient is not a gradient
            let share = |gradient: f64, slope: f64| if gradient == 0.0 { 0.0 } else { gradient * slope };
            let each = |slopes: &[f64], input: &mut Vec<f64>| {
                accumulate(input, gradient.iter().zip(slopes).map(|(gradient, slope)| share(*gradient, *slope)));
            };
            let chain = |slope: &Slope, input: &mut Vec<f64>| match slope {
                Slope::Number(slope) => accumulate(input, gradient.iter().map(|gradient| share(*gradient, *slope))),
                Slope::Of(table) => each(&nodes[*table].values, input),
                Slope::Each(slopes) => each(slopes, input),
            };
            match &node.from {
                From::Nothing => {}
                From::One(input, slope) => chain(slope, &mut before[*input]),
                From::Two(inputs, slopes) => {
                    for (input, slope) in inputs.iter().zip(slopes) {
                        chain(slope, &mut before[*input]);
                    }
                }
                From::Take(input, labels) => accumulate(&mut before[*input], labels.sums(gradient).into_iter()),
                From::Sum(input, labels) => {
                    accumulate(&mut before[*input], labels.of().iter().map(|label| gradient[*label as usize]));
                }
            }
        }
        TapeGradients(gradients)
    }
}

fn accumulate(all: &mut [f64], part: impl Iterator<Item = f64>) {
    for (all, part) in all.iter_mut().zip(part) {
        *all += part;
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
    fn map(self, f: impl Fn(f64) -> f64, slope: Slope) -> Self {
        let values = self.borrow().iter().map(|v| f(*v)).collect();
        self.tape.node(values, From::One(self.id, slope))
    }

    /// `f` of each element, with a slope of its own.
    fn map_each(self, f: impl Fn(f64) -> f64, slope: impl Fn(f64) -> f64) -> Self {
        let slopes = self.borrow().iter().map(|v| slope(*v)).collect();
        self.map(f, Slope::Each(slopes))
    }

    /// `f` of each pair of elements.
    fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64, slopes: [Slope; 2]) -> Self {
        let values = self.pairs(other, f);
        self.tape.node(values, From::Two([self.id, other.id], slopes))
    }

    fn pairs(&self, other: Self, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let (a, b) = (self.borrow(), other.borrow());
        assert_eq!(a.len(), b.len(), "two tables of different lengths");
        a.iter().zip(b.iter()).map(|(a, b)| f(*a, *b)).collect()
    }
}

impl Add for Var<'_> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b, [Slope::Number(1.0), Slope::Number(1.0)])
    }
}

impl Sub for Var<'_> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b, [Slope::Number(1.0), Slope::Number(-1.0)])
    }
}

impl Mul for Var<'_> {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b, [Slope::Of(other.id), Slope::Of(self.id)])
    }
}

impl Div for Var<'_> {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let by_a = other.borrow().iter().map(|b| 1.0 / b).collect();
        let by_b = self.pairs(other, |a, b| -a / b / b);
        self.zip(other, |a, b| a / b, [Slope::Each(by_a), Slope::Each(by_b)])
    }
}

impl Table for Var<'_> {
    fn constant(&self, values: Vec<f64>) -> Self {
        self.tape.table(values)
    }

    fn plus(self, number: f64) -> Self {
        self.map(|v| v + number, Slope::Number(1.0))
    }

    fn times(self, number: f64) -> Self {
        self.map(|v| v * number, Slope::Number(number))
    }

    fn sqrt(self) -> Self {
        self.map_each(f64::sqrt, |v| if v > 0.0 { 0.5 / v.sqrt() } else { 0.0 })
    }

    fn exp(self) -> Self {
        self.map_each(f64::exp, f64::exp)
    }

    fn abs(self) -> Self {
        self.map_each(f64::abs, |v| if v < 0.0 { -1.0 } else { 1.0 })
    }

    fn clamp(self, low: f64, high: f64) -> Self {
        self.map_each(|v| v.clamp(low, high), |v| if (low..=high).contains(&v) { 1.0 } else { 0.0 })
    }

    fn take(&self, labels: &Labels) -> Self {
        let of_sets = self.borrow();
        let values = labels.of().iter().map(|label| of_sets[*label as usize]).collect();
        drop(of_sets);
        self.tape.node(values, From::Take(self.id, labels.clone()))
    }

    fn sum(&self, labels: &Labels) -> Self {
        let values = labels.sums(&self.borrow());
        self.tape.node(values, From::Sum(self.id, labels.clone()))
    }

    fn detach(self) -> Self {
        self.tape.table(self.values())
    }
}
