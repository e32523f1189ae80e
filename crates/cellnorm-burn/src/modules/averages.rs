//! Running averages as Burn holds them.
//!
//! running += weight · (batch − running), with the weight that [`Momentum`] says: cumulative, 1
//! over the number of batches so far.

use std::ops::{Add, Mul, Neg};

use burn::module::RunningState;
use burn::tensor::{Device, Tensor, TensorData};
use cellnorm::OneValue;
use cellnorm::momentum::{Momentum, RunningVariance};
use cellnorm::rule::Tracked;

use super::recording::record;
use crate::ops::is_fused;
use crate::tables::{Table, numbers};

/// A running average, flat; None where the layer keeps none.
pub(super) type Average = Option<RunningState<Tensor<1>>>;

/// A running mean and a running variance.
#[derive(Clone, Copy)]
pub(super) struct Averages<'a> {
    pub(super) mean: &'a RunningState<Tensor<1>>,
    pub(super) variance: &'a RunningState<Tensor<1>>,
    /// How often they have moved; there is one where momentum is cumulative.
    pub(super) batches: Option<&'a RunningState<Tensor<1>>>,
    /// Where those that a forward pass looks at and moves begin, and how many they are; None for
    /// all.
    pub(super) part: Option<(usize, usize)>,
}

impl<'a> Averages<'a> {
    /// The averages of a layer, where it keeps any.
    pub(super) fn of(
        mean: &'a Average,
        variance: &'a Average,
        batches: &'a Average,
    ) -> Option<Self> {
        let pair = mean.as_ref().zip(variance.as_ref());
        pair.map(|(mean, variance)| Self { mean, variance, batches: batches.as_ref(), part: None })
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
        let start = self.part.map_or(0, |(start, _)| start);
        // into the tensor that was there, which keeps its place on a training device
        let len = to.dims()[0];
        average.update(average.value_sync().slice_assign(start..start + len, to));
    }
}

/// The number of batches so far, where momentum needs it: other layers' records stay those of
/// Burn's own.
pub(super) fn batches(momentum: Momentum, so_far: u64, device: &Device) -> Average {
    (momentum == Momentum::Cumulative)
        .then(|| RunningState::new(Tensor::full([1], so_far as f64, device)))
}

/// How running averages move.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) momentum: Momentum,
    pub(super) variance: RunningVariance,
}

impl Pace {
    /// running += weight · (batch − running), where the batch has any values; the variance where
    /// there is one to move toward ([`RunningVariance::moves`]).
    ///
    /// # Panics
    /// If momentum is cumulative and the layer has no count.
    pub(super) fn follow(
        self,
        averages: Averages<'_>,
        tracked: Tracked<Table>,
        epsilon: f64,
        one_value: OneValue,
    ) {
        if record(averages, &tracked, self, epsilon, one_value) {
            return;
        }
        let Tracked { mean: Table(mean), variance: Table(variance), values } = tracked;
        // a batch without values is no step
        if values.iter().all(|n| *n == 0.0) {
            return;
        }
        // no gradient flows here, and each operation on a training device has a price
        let (mean, variance) = (mean.without_autodiff(), variance.without_autodiff());
        let (device, dtype) = (mean.device(), mean.dtype());
        let counted = match (self.momentum, averages.batches) {
            (Momentum::Cumulative, None) => panic!(
                "cumulative momentum counts the batches, and this layer has no \
                 num_batches_tracked; name it in the config, so that the layer is made with one"
            ),
            (Momentum::Cumulative, Some(batches)) => {
                let counted = batches.value_sync() + 1.0;
                batches.update(counted.clone());
                Some(counted.without_autodiff())
            }
            _ => None,
        };
        let factor = |n: f64| self.variance.factor(n, epsilon);
        let moves = [&|n: f64| n > 0.0, &|n: f64| self.variance.moves(n, one_value)]
            as [&dyn Fn(f64) -> bool; 2];
        if is_fused(device.as_dispatch()) {
            // a loop over the numbers, where an operation costs more than all of them
            let weight =
                counted.map_or(self.momentum.weight(1), |counted| numbers(counted)[0].recip());
            let variance =
                numbers(variance).into_iter().zip(&values).map(|(of, n)| of * factor(*n)).collect();
            let pairs = [(averages.mean, numbers(mean)), (averages.variance, variance)];
            for ((average, batch), moves) in pairs.into_iter().zip(moves) {
                let kept = averages.value(average).without_autodiff();
                let (device, dtype) = (kept.device(), kept.dtype());
                let share = values.iter().map(|n| f64::from(moves(*n)) * weight);
                let kept = numbers(kept);
                let shape = [kept.len()];
                let all = kept.into_iter().zip(batch).zip(share);
                let moved: Vec<f64> =
                    all.map(|((running, batch), share)| moved(running, batch, share)).collect();
                averages.update(
                    average,
                    Tensor::from_data(TensorData::new(moved, shape), (&device, dtype)),
                );
            }
            return;
        }
        let table = |of: &dyn Fn(f64) -> f64| {
            let values: Vec<f64> = values.iter().map(|n| of(*n)).collect();
            Tensor::<1>::from_data(TensorData::new(values, [mean.dims()[0]]), (&device, dtype))
        };
        let weight = match counted {
            Some(counted) => counted.to_device(&device).cast(dtype).recip(),
            None => Tensor::full([1], self.momentum.weight(1), (&device, dtype)),
        };
        let pairs = [(averages.mean, mean.clone()), (averages.variance, variance * table(&factor))];
        for ((average, batch), moves) in pairs.into_iter().zip(moves) {
            let kept = averages.value(average).without_autodiff();
            let running = kept.clone().to_device(&device).cast(dtype);
            let share = table(&|n| f64::from(moves(n))) * weight.clone();
            let moved = moved(running, batch, share);
            averages.update(average, moved.cast(kept.dtype()).to_device(&kept.device()));
        }
    }
}

/// Where a running average stands after a step; as a difference, a full step would round a small
/// batch away.
fn moved<V>(running: V, batch: V, share: V) -> V
where
    V: Clone + Neg<Output = V> + Mul<Output = V> + Add<Output = V> + Add<f64, Output = V>,
{
    running * (-share.clone() + 1.0) + batch * share
}
