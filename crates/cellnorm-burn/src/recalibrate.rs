//! Population statistics: mean = Σ x / N and variance = Σ (x − mean)² / N over all values of all
//! batches, for inference.
//!
//! Running averages follow the last batches, while the weights still moved. Statistics of the
//! weights as they are now, over the data of one's choice, are what inference wants: after
//! training, after the weights were averaged, or for data of another kind.
//!
//! Y. Wu, J. Johnson, *Rethinking "Batch" in BatchNorm*, 2021, section 3 ("PreciseBN").

use std::collections::HashMap;

use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use cellnorm::{Error, OneValue, RunningVariance};

use crate::averages::{Recorded, Recording, Records};
use crate::fold::read;

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
/// let batches = [[[1.0], [3.0]], [[5.0], [7.0]]];
/// let batches = batches.map(|batch| Tensor::<2>::from_floats(batch, &device));
/// let report = recalibrate(&layer, batches, BatchNorm::forward)?;
/// assert_eq!(layer.running_mean.value().into_scalar::<f32>(), 4.0);
/// assert_eq!(layer.running_var.value().into_scalar::<f32>(), 20.0 / 3.0); // 20 / (4 − 1)
/// assert!((report[0].variance_ratio - 0.15).abs() < 1e-9); // it started with the variance 1
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
    let (layers, before) = search(module);
    let mut batches = batches.into_iter().peekable();
    let first = batches.peek().cloned().ok_or(Error::Unsupported {
        layer: "recalibrate",
        what: "was given no batch; statistics need at least one",
    })?;
    let mut leave = Leave { module, numbers: before? };
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
        if let Some(ids) = layer.ids()
            && let Some(recorded) = records.get(&ids[0])
        {
            report.push(settle((layer, ids), recorded, &leave.numbers, &mut settled)?);
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
    (layer, ids): (&Layer, [ParamId; 2]),
    recorded: &Recorded,
    before: &Numbers,
    settled: &mut Numbers,
) -> Result<Recalibrated, Error> {
    let [old_mean, old_variance] = ids.map(|id| before.get(&id).cloned().unwrap_or_default());
    let [mean, variance] = recorded.statistics(&old_mean, &old_variance);
    if let Some(at) =
        mean.iter().zip(&variance).position(|(mean, variance)| !(mean + variance).is_finite())
    {
        let name = format!("the batch normalization {:?}", layer.path);
        let problem = format!(
            "would have statistics that are not finite, first in channel {at}; look at what made \
             them"
        );
        return Err(Error::Tensor { name, problem });
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

/// Numbers of running statistics, by their id.
type Numbers = HashMap<ParamId, Vec<f64>>;

/// The types whose running statistics are those of plain batches.
const LAYERS: [&str; 3] = ["BatchNorm", "AxesBatchNorm", "StepBatchNorm"];

/// A batch normalization in a module, as Burn lets visitors see it.
#[derive(Debug, Default)]
struct Layer {
    path: String,
    /// Whether it is not frozen.
    trains: bool,
    mean: Option<ParamId>,
    variance: Option<ParamId>,
    /// Whether it is one of ours, which have a field more than Burn's.
    ours: bool,
}

impl Layer {
    /// The names of the running mean and variance.
    fn ids(&self) -> Option<[ParamId; 2]> {
        Some([self.mean?, self.variance?])
    }
}

/// The batch normalizations in the module's order, and the running statistics of all layers, of
/// whichever kind; an error if one of these is quantized.
fn search<M: Module>(module: &M) -> (Vec<Layer>, Result<Numbers, Error>) {
    // visitors do not see the last update of a running state until it is asked for
    module.valid();
    let mut search = Search { fields: vec![], layers: vec![], numbers: Ok(Numbers::default()) };
    module.visit(&mut search);
    (search.layers, search.numbers)
}

struct Search {
    /// The fields that the visit is in, and whether each is one of a batch normalization.
    fields: Vec<(String, bool)>,
    layers: Vec<Layer>,
    numbers: Result<Numbers, Error>,
}

impl Search {
    /// The name of the field that the visit is in, and the batch normalization that has it.
    fn field(&mut self) -> Option<(&str, &mut Layer)> {
        let ((field, true), outer) = self.fields.split_last()? else { return None };
        let path = outer.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(".");
        // the fields of a layer follow each other
        if self.layers.last().is_none_or(|layer| layer.path != path) {
            self.layers.push(Layer { path, ..Layer::default() });
        }
        self.layers.last_mut().map(|layer| (field.as_str(), layer))
    }
}

impl ModuleVisitor for Search {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        let is_layer =
            container_type.strip_prefix("Struct:").is_some_and(|layer| LAYERS.contains(&layer));
        self.fields.push((name.into(), is_layer));
        if let Some(("num_batches_tracked", layer)) = self.field() {
            layer.ours = true;
        }
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.fields.pop();
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        let enabled = flag.is_enabled();
        if let Some((_, layer)) = self.field() {
            layer.trains = enabled;
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        match self.field() {
            Some(("running_mean", layer)) => layer.mean = Some(param.id),
            Some(("running_var", layer)) => layer.variance = Some(param.id),
            _ => {}
        }
        let running = self
            .fields
            .last()
            .is_some_and(|(name, _)| name.starts_with("running_") || name == "num_batches_tracked");
        if running && let Ok(numbers) = &mut self.numbers {
            match read(param.val()) {
                Ok(values) => drop(numbers.insert(param.id, values)),
                Err(error) => self.numbers = Err(error),
            }
        }
    }
}

/// Sets running statistics, in all clones of the module.
fn write<M: Module>(module: &M, numbers: &Numbers) {
    // an update that still waits would undo it
    module.valid();
    module.clone().map(&mut Writer(numbers));
}

struct Writer<'a>(&'a Numbers);

impl ModuleMapper for Writer<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(numbers) = self.0.get(&param.id) else { return param };
        param.map(|old| {
            let data = TensorData::new(numbers.clone(), old.shape());
            Tensor::from_data(data, (&old.device(), old.dtype()))
        })
    }
}

/// Leaves the module with these running statistics, however it is left: a pass may return early or
/// panic.
struct Leave<'a, M: Module> {
    module: &'a M,
    numbers: Numbers,
}

impl<M: Module> Drop for Leave<'_, M> {
    fn drop(&mut self) {
        write(self.module, &self.numbers);
    }
}

/// So far from any batch that the batch does not show beside it.
const FAR: f64 = (1u64 << 60) as f64;

/// Burn's own batch normalizations, and the moments of single batches: running = (1 − w)·before +
/// w·batch, where w is unknown. From before = 2⁶⁰, a pass leaves (1 − w)·2⁶⁰ and so tells
/// w; from before = 0 it leaves w·batch.
struct Theirs {
    /// The ids of mean and variance, and w.
    layers: Vec<([ParamId; 2], f64)>,
    zeros: Numbers,
    records: Records,
}

impl Theirs {
    /// By a pass, if the module has any.
    ///
    /// # Errors
    /// If running statistics are quantized.
    fn find<M: Module>(module: &M, layers: &[Layer], pass: impl FnOnce()) -> Result<Self, Error> {
        let theirs = layers.iter().filter(|layer| !layer.ours && layer.trains);
        let theirs: Vec<[ParamId; 2]> = theirs.filter_map(Layer::ids).collect();
        let mut found =
            Self { layers: vec![], zeros: Numbers::default(), records: Records::default() };
        if theirs.is_empty() {
            return Ok(found);
        }
        let before = search(module).1?;
        let lens = |id: ParamId| before.get(&id).map_or(0, Vec::len);
        write(module, &theirs.iter().map(|[mean, _]| (*mean, vec![FAR; lens(*mean)])).collect());
        pass();
        let after = search(module).1?;
        for ids in theirs {
            let kept =
                after.get(&ids[0]).and_then(|means| means.first()).map_or(1.0, |mean| mean / FAR);
            // f32 knows it to half of 10⁻⁷, and who chose it wrote no more digits
            let weight = ((1.0 - kept) * 1e7).round() / 1e7;
            if weight != 0.0 {
                found.layers.push((ids, weight));
                found.zeros.extend(ids.map(|id| (id, vec![0.0; lens(id)])));
            }
        }
        write(module, &before);
        Ok(found)
    }

    /// Before a pass.
    fn prepare<M: Module>(&self, module: &M) {
        if !self.layers.is_empty() {
            write(module, &self.zeros);
        }
    }

    /// After a pass over a batch of so many samples.
    ///
    /// # Errors
    /// If running statistics are quantized.
    fn take<M: Module>(&mut self, module: &M, samples: usize) -> Result<(), Error> {
        if self.layers.is_empty() {
            return Ok(());
        }
        let (batch, count) = (search(module).1?, samples as f64);
        for ([mean, variance], weight) in &self.layers {
            let (Some(means), Some(variances)) = (batch.get(mean), batch.get(variance)) else {
                continue;
            };
            let new =
                || Recorded::new(means.len(), RunningVariance::Biased, 0.0, OneValue::default());
            let batch = means.iter().zip(variances);
            let recorded = self.records.entry(*mean).or_insert_with(new);
            recorded
                .merge(0, batch.map(|(mean, variance)| (count, mean / weight, variance / weight)));
        }
        Ok(())
    }
}
