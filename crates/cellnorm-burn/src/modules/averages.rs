//! Running averages as Burn holds them.

use burn::module::RunningState;
use burn::tensor::{Tensor, TensorData};
use cellnorm::norms::{Momentum, RunningVariance};
use cellnorm::tables::Tracked;

use crate::tables::Table;

/// A running average, flat; None where the layer keeps none.
pub(super) type Average = Option<RunningState<Tensor<1>>>;

/// A running mean and a running variance.
#[derive(Clone, Copy)]
pub(super) struct Averages<'a> {
    pub(super) mean: &'a RunningState<Tensor<1>>,
    pub(super) variance: &'a RunningState<Tensor<1>>,
    /// Where those that a forward pass looks at and moves begin, and how many they are; None for all.
    pub(super) part: Option<(usize, usize)>,
}

impl<'a> Averages<'a> {
    /// Those of a layer, where it keeps any.
    pub(super) fn of(mean: &'a Average, variance: &'a Average) -> Option<Self> {
        let pair = mean.as_ref().zip(variance.as_ref());
        pair.map(|(mean, variance)| Self { mean, variance, part: None })
    }

    /// The running mean and variance.
    pub(super) fn values(self) -> (Tensor<1>, Tensor<1>) {
        (self.value(self.mean), self.value(self.variance))
    }

    fn value(self, average: &RunningState<Tensor<1>>) -> Tensor<1> {
        let all = average.value_sync();
        match self.part {
            Some((start, len)) => all.narrow(0, start, len),
            None => all,
        }
    }

    fn update(self, average: &RunningState<Tensor<1>>, to: Tensor<1>) {
        average.update(match self.part {
            Some((start, len)) => average.value_sync().slice_assign(start..start + len, to),
            None => to,
        });
    }
}

/// How running averages move.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) momentum: Momentum,
    pub(super) variance: RunningVariance,
}

impl Pace {
    /// running += weight · (batch − running), where the batch has any values.
    pub(super) fn follow(self, averages: Averages<'_>, tracked: Tracked<Table>, epsilon: f64) {
        let Tracked { mean: Table(mean), variance: Table(variance), values } = tracked;
        let (device, dtype) = (mean.device(), mean.dtype());
        let table = |of: &dyn Fn(f64) -> f64| {
            let values: Vec<f64> = values.iter().map(|n| of(*n)).collect();
            Tensor::<1>::from_data(TensorData::new(values, [mean.dims()[0]]), (&device, dtype))
        };
        let weights = table(&|n| if n > 0.0 { self.momentum.weight(1) } else { 0.0 });
        let factors = table(&|n| self.variance.factor(n, epsilon));
        for (average, batch) in [(averages.mean, mean.clone()), (averages.variance, variance * factors)] {
            let kept = averages.value(average).to_device(&device);
            let running = kept.clone().cast(dtype);
            let moved = running.clone() + (batch.detach() - running) * weights.clone();
            averages.update(average, moved.cast(kept.dtype()).detach());
        }
    }
}

/// # Panics
/// If momentum is not in \[0, 1\], or cumulative.
pub(super) fn check(momentum: Momentum) {
    match momentum {
        Momentum::Step(given) | Momentum::Keep(given) => {
            assert!((0.0..=1.0).contains(&given), "momentum is {given}; it must be between 0 and 1");
        }
        Momentum::Cumulative => panic!(
            "cumulative momentum needs a count of steps, for which Burn's records have no place; use Step or Keep"
        ),
    }
}
