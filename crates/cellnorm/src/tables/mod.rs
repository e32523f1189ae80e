//! Normalizations as arithmetic on small tables.
//!
//! A [`Rule`] sees a tensor as a [`Figure`]: cells with a count, a mean and a variance each. It
//! answers with two numbers for each cell, scale and offset, and the tensor becomes, with the
//! cell's own mean as the center,
//!
//! y = (x − center) · scale + offset.
//!
//! A rule is written once, over any [`Table`]: as f64 with a [`tape`](Tape), which gives the
//! gradients of x and of every parameter, or as tensors of a framework, whose own differentiation
//! does. Backward, with S1 = Σ dy and S2 = Σ dy (x − center) of each cell of n values, the tape
//! takes ∂L/∂offset = S1 and ∂L/∂scale = S2 back to ∂L/∂mean and ∂L/∂variance, and
//!
//! dx = scale · dy + (2/n) ∂L/∂variance · (x − center) + (1/n) ∂L/∂mean.

mod config;
mod figure;
mod formula;
mod labels;
mod layer;
mod mask;
mod pass;
mod region;
mod rule;
mod running;
mod standard;
mod tape;

pub use crate::sharing::{Along, Measure, Sharing};
pub use config::TableNormConfig;
pub use figure::{Figure, Statistics};
pub use formula::{Answer, Formula, Parameters, Terms};
pub use labels::Labels;
pub use layer::{TableGradients, TableNorm, TableSaved};
pub use mask::Mask;
pub use region::Region;
pub use rule::{Coefficients, Given, Rule, Slot, Tracked};
pub use running::{Correction, Running};
pub use tape::{Tape, Var};

pub(crate) use pass::{Forward, Kept, Pass};
pub(crate) use rule::STANDARDIZE;
pub(crate) use running::Remembered;
pub use standard::Standard;

use std::ops::{Add, Div, Mul, Sub};

use crate::cells::Cells;
use crate::plan::{self, Axis};

/// The set of each cell, for each of some statistics; the coordinates are those of [`cells_of`].
///
/// # Panics
/// If a statistic is not shared along an axis that lies inside the cells, or shared in windows,
/// which are no sets.
///
/// ```
/// use cellnorm::tables::{Measure, Sharing, cells_of, sets_of};
/// let shape = [2, 3, 4];
/// let (cells, coordinates) = cells_of(&shape, &[true, true, false]);
/// let of_channels = Sharing::over("batch", Measure::MeanVariance, &shape, |axis| axis == 1);
/// assert_eq!(
///     sets_of(&[of_channels], &coordinates, cells.count())[0].of(),
///     [0, 1, 2, 0, 1, 2]
/// );
/// ```
pub fn sets_of(sharings: &[Sharing], coordinates: &[Option<Labels>], cells: usize) -> Vec<Labels> {
    sharings.iter().map(|sharing| Labels::of_sets(sharing, coordinates, cells)).collect()
}

/// The cells of a row-major tensor that are numbered by some of its axes, and the index of each
/// cell along these.
///
/// ```
/// use cellnorm::tables::cells_of;
/// // channels-last images: sample and channel number the cells
/// let (cells, coordinates) = cells_of(&[2, 4, 4, 3], &[true, false, false, true]);
/// assert_eq!((cells.outer, cells.positions, cells.inner), (2, 16, 3));
/// assert_eq!(coordinates[3].as_ref().unwrap().of(), [0, 1, 2, 0, 1, 2]);
/// ```
pub fn cells_of(shape: &[usize], numbered: &[bool]) -> (Cells, Vec<Option<Labels>>) {
    plan::grid(&Axis::row_major(shape, |axis| (!numbered[axis], false)))
        .expect("row-major has no gaps")
}

/// A small table of numbers, one for each cell, set or channel, and the arithmetic on it.
///
/// Operations between tables go element by element, and both are equally long; [`take`](Self::take)
/// and [`sum`](Self::sum) go from sets to their members and back.
pub trait Table:
    Clone
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + std::fmt::Debug
{
    /// A table of these numbers, which has no gradient.
    fn constant(&self, values: Vec<f64>) -> Self;

    /// Each value plus a number.
    fn plus(self, number: f64) -> Self;

    /// Each value times a number.
    fn times(self, number: f64) -> Self;

    /// Square roots; the gradient at 0 is 0.
    fn sqrt(self) -> Self;

    /// Powers of e.
    fn exp(self) -> Self;

    /// Values without their sign.
    fn abs(self) -> Self;

    /// Values kept within bounds; the gradient passes where they are within.
    fn clamp(self, low: f64, high: f64) -> Self;

    /// The value of each member's set: out\[i\] = self\[label(i)\].
    fn take(&self, labels: &Labels) -> Self;

    /// The sum over each set's members: out\[k\] = Σ_{label(i) = k} self\[i\].
    fn sum(&self, labels: &Labels) -> Self;

    /// The same values, through which no gradient flows.
    fn detach(self) -> Self;

    /// 1 / √value.
    fn rsqrt(self) -> Self {
        self.sqrt().recip()
    }

    /// 1 / value.
    fn recip(self) -> Self {
        let one = self.clone().detach().times(0.0).plus(1.0);
        one / self
    }
}
