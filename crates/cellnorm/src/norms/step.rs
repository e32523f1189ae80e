//! Batch normalization of sequences with statistics of its own for each time step.
//!
//! y = γ (x − mean_{t,c}) / √(variance_{t,c} + ε) + β: at each step t, over the samples. Running
//! statistics are kept for `steps` steps; all later ones share the last. γ and β are shared by all
//! steps. x need not begin with the sequence: a recurrent cell gives one step at a time.
//!
//! Source: T. Cooijmans, N. Ballas, C. Laurent, Ç. Gülçehre, A. Courville, *Recurrent Batch
//! Normalization*, 2016, which starts with γ = 0.1 inside a recurrence.

use super::axes::{HasChannels, channel_axis, channels_of, of_batch};
use crate::arrays::axis_index;
use crate::error::Error;
use crate::semantics::Semantics;
use crate::tables::{
    Along, Coefficients, Figure, Given, Labels, Rule, Sharing, Slot, Table, TableNorm,
    TableNormConfig, Tracked,
};

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

/// Per-time-step batch normalization of tensors \[N, T, C\]; parameters gamma and beta, \[C\];
/// running averages \[steps, C\].
///
/// With sequences of different lengths, give [`Mask::lengths`](crate::tables::Mask::lengths).
///
/// ```
/// use cellnorm::{StepBatchNormConfig, tables::Mask};
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
pub type StepBatchNorm = TableNorm<Step>;

/// Makes a [`StepBatchNorm`].
pub type StepBatchNormConfig = TableNormConfig<Step>;

impl TableNormConfig<Step> {
    /// `channels` channels on the last axis and time on axis 1, with statistics for `steps` steps.
    pub fn new(channels: usize, steps: usize) -> Self {
        Self::of(Step { channels, channel_axis: -1, step_axis: 1, steps, first: 0 })
    }

    /// The axis of time; negative counts from the last. Default: 1 (NTC).
    pub fn step_axis(mut self, axis: isize) -> Self {
        self.rule.step_axis = axis;
        self
    }
}

impl Step {
    /// The step and the channel of each cell, by the rows of the running averages: also steps that
    /// no sequence reaches have one.
    fn sets<V: Table>(&self, figure: &Figure<'_, V>) -> Labels {
        let time = axis_index(self.step_axis, figure.shape.len()).expect("checked with the shape");
        let step = figure
            .over(|axis| axis == time)
            .map(self.steps, |t| self.first.saturating_add(t).min(self.steps - 1));
        step.and(&channels_of(figure, self.channel_axis))
    }
}

impl HasChannels for Step {
    fn channel_axis_mut(&mut self) -> &mut isize {
        &mut self.channel_axis
    }
}

impl Rule for Step {
    const NAME: &'static str = "per-time-step batch normalization";

    fn slots(&self) -> Vec<Slot> {
        Slot::affine(&[self.channels])
    }

    fn check(&self) -> Result<(), Error> {
        if self.steps == 0 {
            return Err(Error::Number { name: "steps", given: 0.0, expected: "at least 1" });
        }
        Ok(())
    }

    fn running(&self) -> Option<(Vec<usize>, f64)> {
        Some((vec![self.steps, self.channels], 1.0))
    }

    fn adopt(&mut self, semantics: &Semantics) {
        self.channel_axis = semantics.channel_axis;
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let channel = channel_axis(Self::NAME, shape, self.channel_axis, self.channels, 3)?;
        let time = axis_index(self.step_axis, shape.len())?;
        if time == channel {
            return Err(Error::AxisTwice {
                axis: time,
                axes: vec![self.step_axis, self.channel_axis],
            });
        }
        let mut steps = of_batch(shape, channel);
        steps.along[time] = Along::Tail((self.steps - 1).saturating_sub(self.first));
        Ok(vec![steps])
    }

    fn estimated(&self) -> Option<usize> {
        Some(0)
    }

    fn table<V: Table>(&self, figure: &Figure<'_, V>, given: &Given<'_, V>) -> Coefficients<V> {
        let sets = self.sets(figure);
        let of = given.statistics(figure, &sets).take(&sets);
        given.standardize(figure, of, &channels_of(figure, self.channel_axis))
    }

    fn tracked<V: Table>(
        &self,
        figure: &Figure<'_, V>,
        _given: &Given<'_, V>,
    ) -> Option<Tracked<V>> {
        Some(Tracked::merged(figure, &self.sets(figure)))
    }
}
