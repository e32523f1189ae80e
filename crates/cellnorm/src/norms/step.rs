//! Batch normalization of sequences with statistics of its own for each time step.
//!
//! y = γ (x − mean_{t,c}) / √(variance_{t,c} + ε) + β: at each step t, over the samples. Running
//! statistics are kept for `steps` steps; all later ones share the last. γ and β are shared by all
//! steps. x need not begin with the sequence: a recurrent cell gives one step at a time.
//!
//! Source: T. Cooijmans, N. Ballas, C. Laurent, Ç. Gülçehre, A. Courville, *Recurrent Batch
//! Normalization*, 2016, which starts with γ = 0.1 inside a recurrence.

use super::axes::{HasChannels, batch_sharing, cell_channels, channel_axis};
use crate::error::{Error, check_number};
use crate::rule::{Coefficients, Context, Grid, Norm, NormConfig, ParameterSpec, Rule, Table};
use crate::shape::{Along, Labels, Roles, Sharing, axis_index};

/// The values of one channel at one time step share statistics.
#[derive(Clone, Debug)]
pub struct Step {
    /// The number of channels.
    pub channels: usize,
    /// Their axis; negative counts from the last.
    pub channel_axis: isize,
    /// The axis of time; negative counts from the last.
    pub step_axis: isize,
    /// The number of steps with statistics of their own.
    pub steps: usize,
    /// The number of the first step in x, 0 where x begins with the sequence; a recurrent cell sets
    /// it before each step, forward and backward.
    pub first: usize,
}

/// Per-time-step batch normalization of \[N, T, C\]; gamma and beta, \[C\]; averages \[steps, C\].
///
/// With sequences of different lengths, give [`Mask::lengths`](crate::Mask::lengths).
///
/// ```
/// use cellnorm::{Mask, norms::StepBatchNormConfig};
/// let x = ndarray::Array3::from_shape_fn((4, 3, 2), |(n, t, c)| {
///     ((5 * n + 3 * t + c) % 7) as f32
/// });
/// let mut layer = StepBatchNormConfig::new(2, 3).init()?;
/// let (y, _) = layer.forward_masked(x.view(), &Mask::lengths(&[3, 3, 2, 1], 1))?;
/// assert_eq!(y[[3, 2, 0]], 0.0);
/// assert_eq!(layer.running.as_ref().unwrap().mean.shape(), [3, 2]);
/// // a recurrent cell knows the steps one after another
/// for t in 0..3 {
///     layer.rule_mut().first = t;
///     layer.forward(x.slice(ndarray::s![.., t..t + 1, ..]))?;
/// }
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type StepBatchNorm = Norm<Step>;

/// Makes a [`StepBatchNorm`].
pub type StepBatchNormConfig = NormConfig<Step>;

impl NormConfig<Step> {
    /// `channels` channels on the last axis and time on axis 1, with statistics for `steps` steps.
    pub fn new(channels: usize, steps: usize) -> Self {
        Self::custom(Step { channels, channel_axis: -1, step_axis: 1, steps, first: 0 })
    }

    /// The axis of time; negative counts from the last. Default: 1 (NTC).
    pub fn step_axis(mut self, axis: isize) -> Self {
        self.rule.step_axis = axis;
        self
    }
}

impl HasChannels for Step {}

impl Rule for Step {
    const NAME: &'static str = "per-time-step batch normalization";

    fn parameters(&self) -> Vec<ParameterSpec> {
        ParameterSpec::affine(&[self.channels])
    }

    fn check(&self) -> Result<(), Error> {
        check_number("steps", self.steps as f64, self.steps > 0, "at least 1")
    }

    fn running(&self) -> Option<(Vec<usize>, f64)> {
        Some((vec![self.steps, self.channels], 1.0))
    }

    fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        Some(&mut self.channel_axis)
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let channel = channel_axis(Self::NAME, shape, self.channel_axis, self.channels, 3)?;
        let time = axis_index(self.step_axis, shape.len())?;
        if time == channel {
            let axes = vec![self.step_axis, self.channel_axis];
            return Err(Error::AxisTwice { axis: time, axes });
        }
        let mut steps = batch_sharing(shape, channel);
        steps.along[time] = Along::Tail(self.steps.saturating_sub(1).saturating_sub(self.first));
        Ok(vec![steps])
    }

    /// With statistics for one step, all steps share them: plain batch normalization.
    fn roles(&self, shape: &[usize], _affine: bool) -> Result<Option<Roles>, Error> {
        if self.steps != 1 {
            return Ok(None);
        }
        self.sharings(shape)?;
        let channel = axis_index(self.channel_axis, shape.len())?;
        let axes = (0..shape.len()).map(|axis| (axis != channel, axis == channel));
        Ok(Some(Roles::new(axes)))
    }

    /// By the rows of the running averages: also steps that no sequence reaches have a set.
    fn sets(&self, grid: &Grid<'_>) -> Result<Vec<Labels>, Error> {
        let channels = cell_channels(grid, self.channel_axis);
        if self.steps == 1 {
            return Ok(vec![channels]);
        }
        let time = axis_index(self.step_axis, grid.shape.len())?;
        let row = |t: usize| self.first.saturating_add(t).min(self.steps - 1);
        let step = grid.labels(|axis| axis == time).map(self.steps, row);
        Ok(vec![step.and(&channels)])
    }

    fn table<V: Table>(&self, context: &Context<'_, V>) -> Coefficients<V> {
        let cells = context.cells;
        let statistics = context.statistics(0).take(&cells.sets[0]);
        context.standardize(statistics, &cell_channels(&cells.grid, self.channel_axis))
    }
}
