//! Population statistics: mean = Σ x / N and variance = Σ (x − mean)² / N over all values of all
//! batches, for inference.
//!
//! Running averages follow the last batches, while the weights still moved. Statistics of the
//! weights as they are now, over the data of one's choice, are what inference wants: after
//! training, after the weights were averaged, or for data of another kind.
//!
//! Y. Wu, J. Johnson, *Rethinking "Batch" in BatchNorm*, 2021, section 3 ("PreciseBN").

mod layers;
mod theirs;

use burn::module::Module;
use burn::tensor::Tensor;
use cellnorm::Error;

use crate::modules::recording::{Recorded, Recording};
use layers::{Layer, Leave, Numbers, batch_norms, running};
use theirs::Theirs;

/// How far the running statistics of a layer were off.
#[derive(Clone, Debug, PartialEq)]
pub struct Recalibrated {
    /// The path of the layer in the module, such as `blocks.0.norm`; empty for the module itself.
    pub path: String,
    /// The largest |running mean − mean| of a channel, in units of its deviation. Infinite where
    /// the deviation is 0 and the mean was another one.
    pub mean_distance: f64,
    /// Running variance / variance, of the channel where it is farthest from 1. Infinite where the
    /// variance is 0 and the running one was not.
    pub variance_ratio: f64,
}

/// Sets the running statistics of the batch normalizations in a module to those of the batches, all
/// of them together.
///
/// `forward` runs the module as in training, so it must be on a training device
/// (`device.autodiff()`), and returns a tensor with the batch's samples on axis 0, such as the
/// output. Each layer normalizes with the statistics of the batch at hand, so batches should be as
/// large as those of training, or larger. Layers with random numbers, such as dropout, do what they
/// do in training.
///
/// Layers are [`BatchNorm`](crate::BatchNorm), [`AxesBatchNorm`](crate::AxesBatchNorm),
/// [`StepBatchNorm`](crate::StepBatchNorm) and Burn's own `BatchNorm`. Ours report their moments
/// and counts in full, which are merged in f64 ([`Moments`](cellnorm::Moments)); the variance is
/// that which the layer keeps, M2 / (N − 1) by default, of N values over all batches. Burn's own
/// keep M2 / N, weigh a batch by its samples, and each must run once a pass; the first batch runs
/// twice, to find their momentum. As in training, clones of the module have the same statistics.
///
/// Everything else stays as it is: parameters, momentum, counts of batches, running statistics of
/// other layers, and of those that are frozen or that no batch reached. So do all of them after an
/// error.
///
/// Returns how far each layer was off, in the order of the module.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use cellnorm_burn::{BatchNorm, BatchNormConfig, recalibrate};
/// let device = Device::flex().autodiff();
/// let layer = BatchNormConfig::new(1).init(&device);
/// let batches = [[[1.0], [3.0]], [[5.0], [7.0]]].map(|batch| Tensor::<2>::from_floats(batch, &device));
/// let report = recalibrate(&layer, batches, BatchNorm::forward)?;
/// assert_eq!(layer.running_mean.value().into_scalar::<f32>(), 4.0);
/// assert_eq!(layer.running_var.value().into_scalar::<f32>(), 20.0 / 3.0); // 20 / (4 − 1)
/// assert!((report[0].variance_ratio - 0.15).abs() < 1e-9); // the layer started with the variance 1
/// # Ok::<(), cellnorm_burn::cellnorm::Error>(())
/// ```
///
/// # Errors
/// * If there are no batches.
/// * If no batch normalization took statistics from a batch: there is none, or it is frozen or not
///   on a training device.
/// * If statistics are not finite.
///
/// # Panics
/// If `forward` does.
pub fn recalibrate<M: Module, B: Clone, const D: usize>(
    module: &M,
    batches: impl IntoIterator<Item = B>,
    mut forward: impl FnMut(&M, B) -> Tensor<D>,
) -> Result<Vec<Recalibrated>, Error> {
    let layers = batch_norms(module);
    let mut batches = batches.into_iter().peekable();
    let first = batches.peek().cloned().ok_or(Error::Unsupported {
        layer: "recalibrate",
        what: "was given no batch; statistics need at least one",
    })?;
    let mut leave = Leave { module, numbers: running(module)? };
    let mut theirs = Theirs::find(module, &layers, || {
        let _as_they_are = Recording::start();
        forward(module, first);
    })?;
    let recording = Recording::start();
    for batch in batches {
        theirs.prepare(module);
        let samples = forward(module, batch).dims()[0];
        theirs.take(module, samples)?;
    }
    let mut records = recording.finish();
    records.extend(theirs.records);
    let (mut report, mut settled) = (vec![], Numbers::default());
    for layer in layers.iter().filter(|layer| layer.trains) {
        if let Some(recorded) = records.get(&layer.mean) {
            report.push(settle(layer, recorded, &leave.numbers, &mut settled)?);
        }
    }
    if report.is_empty() {
        return Err(Error::Unsupported {
            layer: "recalibrate",
            what: "found no batch normalization that took its statistics from a batch; give a \
                   module that has one, on a training device (train(), and batches on \
                   device.autodiff()) and not frozen",
        });
    }
    leave.numbers.extend(settled);
    Ok(report)
}

/// Adds the statistics of a layer, and says how far its running ones were off.
fn settle(
    layer: &Layer,
    recorded: &Recorded,
    before: &Numbers,
    settled: &mut Numbers,
) -> Result<Recalibrated, Error> {
    let ids = [layer.mean, layer.variance];
    let [old_mean, old_variance] = ids.map(|id| before.get(&id).cloned().unwrap_or_default());
    let [mean, variance] = recorded.statistics(&old_mean, &old_variance);
    if let Some(at) =
        mean.iter().zip(&variance).position(|(mean, variance)| !(mean + variance).is_finite())
    {
        let problem = format!(
            "would have statistics that are not finite, first in channel {at}; look at what made \
             them"
        );
        return Err(Error::Tensor {
            name: format!("the batch normalization {:?}", layer.path),
            problem,
        });
    }
    let mut report =
        Recalibrated { path: layer.path.clone(), mean_distance: 0.0, variance_ratio: 1.0 };
    for channel in 0..mean.len() {
        let distance =
            quotient((old_mean[channel] - mean[channel]).abs(), variance[channel].sqrt(), 0.0);
        report.mean_distance = report.mean_distance.max(distance);
        let ratio = quotient(old_variance[channel], variance[channel], 1.0);
        if ratio.ln().abs() > report.variance_ratio.ln().abs() {
            report.variance_ratio = ratio;
        }
    }
    settled.extend(ids.into_iter().zip([mean, variance]));
    Ok(report)
}

/// a / b; of two zeros it is what it would be if nothing was off, and of what was no number
/// infinite.
fn quotient(a: f64, b: f64, of_zeros: f64) -> f64 {
    match a / b {
        _ if a == 0.0 && b == 0.0 => of_zeros,
        quotient if quotient.is_nan() => f64::INFINITY,
        quotient => quotient,
    }
}
