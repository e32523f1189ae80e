//! A normalization as a rule, and the layer that every rule has.
//!
//! A [`Rule`] says which values share each statistic, which parameters there are, and one formula
//! on small tables. It sees a tensor as [`CellTables`]: cells with a count, a mean and a variance
//! each. It answers with two numbers for each cell, scale and offset, and the tensor becomes, with
//! the cell's own mean as the center,
//!
//! y = (x − center) · scale + offset.
//!
//! The formula is written once, over any [`Table`]: as f64 with a [`tape`](Tape), which gives the
//! gradients of x and of every parameter, or as tensors of a framework, whose own differentiation
//! does. Backward, with S1 = Σ dy and S2 = Σ dy (x − center) of each cell of n values, the tape
//! takes ∂L/∂offset = S1 and ∂L/∂scale = S2 back to ∂L/∂mean and ∂L/∂variance, and
//!
//! dx = scale · dy + (2/n) ∂L/∂variance · (x − center) + (1/n) ∂L/∂mean.
//!
//! In the plain case, one mean and one variance a set, the formula has a [closed form](ClosedForm),
//! which serves tensors without a mask on one rank.

mod arrays;
mod cell_tables;
mod closed_form;
mod config;
mod formula;
mod layer;
mod parameter_rules;
mod region;
#[expect(clippy::module_inception, reason = "the trait that the module is named for")]
mod rule;
mod running;
mod tape;

pub use crate::error::check_epsilon;
pub(crate) use arrays::{Arranged, like, typed};
pub use cell_tables::{CellTables, Grid, Merged, Statistics};
pub use closed_form::ClosedForm;
pub use config::NormConfig;
pub use formula::{Formula, FormulaGradients, FormulaOutput, NamedValues, Settings};
pub use layer::{Gradients, Norm, Saved};
pub use parameter_rules::{ParameterRules, Rules};
pub use region::Region;
pub use rule::{Coefficients, Context, ParameterSpec, Rule, Tracked};
pub use running::{Correction, Running, RunningTables};
pub use tape::{Tape, TapeGradients, Var};

use std::ops::{Add, Div, Mul, Sub};

use crate::shape::Labels;

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
