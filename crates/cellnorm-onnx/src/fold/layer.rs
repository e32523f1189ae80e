//! A layer and the maps that became part of it; its new numbers are computed in f64 from the
//! model's own and rounded once.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use cellnorm::fold::{Folding, Kernel};
use cellnorm::kernels::vectorized;
use rayon::prelude::*;

use super::{Direction, Formula, LayerKind, Linear, Map, Reason, Refusal};
use crate::proto::wire::Compute;
use crate::proto::{Float, NodeId, Values};

/// A layer with the maps that became part of it.
#[derive(Clone, Debug)]
pub struct Layer<'a> {
    /// The layer as it was.
    pub linear: Linear<'a>,
    /// The maps as one on each side.
    pub folding: Folding,
    /// The maps one by one, in the order in which they were folded.
    pub maps: Vec<(Direction, Map)>,
}

/// The layers of a graph that maps became part of, by node.
pub type Layers<'a> = BTreeMap<NodeId, Layer<'a>>;

/// No network has a larger weight than 2⁶⁴: weights are searched for the largest only where one of
/// this size would not fit. If there is a larger one all the same, the proof of the fold fails.
const LARGEST: f64 = (1_u128 << 64) as f64;

/// Weights that a thread takes at once.
const BLOCK: usize = 1 << 13;

impl<'a> Layer<'a> {
    /// A layer as it is.
    pub fn new(linear: Linear<'a>) -> Self {
        let folding = Folding::none(linear.kernel);
        Self { linear, folding, maps: Vec::new() }
    }

    /// The layer with one more map.
    pub fn plus(mut self, direction: Direction, map: &Map) -> Result<Self, Refusal> {
        let folding = match direction {
            Direction::Backward => self.folding.fold_after(&map.affine()),
            Direction::Forward => self.folding.fold_before(&map.affine()),
        };
        self.folding = folding.map_err(|error| Reason::Range.at(error))?;
        self.maps.push((direction, map.clone()));
        self.check_range()?;
        Ok(self)
    }

    /// Whether data that `map`, the first before the layer, takes near 0 leave the layer half of
    /// the digits of its type. Of data at a distance of r deviations from 0, Σ W·s·x and Σ W·t
    /// cancel, which are r times as large as their sum: it is off by r·u, where u is the unit of
    /// rounding, so r is at most 1/√u.
    ///
    /// A normalization says r = |mean| / deviation. Of other maps x·s + t it is |t|, if they take
    /// data to deviations of 1. Where they only subtract, data keep a deviation that is not known;
    /// a subtraction of up to 16/√u is taken for that of pixels, which deviate by far more, as is
    /// any shift up to 255.
    pub fn check_cancellation(&self, map: &Map) -> Result<(), Refusal> {
        let most = self.linear.weight.values.float.unit().sqrt().recip();
        let all = self.folding.map_before();
        let distances: Vec<(f64, f64)> = match &*map.formula {
            Formula::Norm { mean, variance, epsilon, .. } => {
                let of = |(mean, v): (&f64, &f64)| (mean.abs() / (v + epsilon).sqrt(), most);
                mean.iter().zip(variance).map(of).collect()
            }
            Formula::Data { mean, deviation } => {
                let of = |(mean, d): (&f64, &f64)| ((mean / d).abs(), most.max(255.0));
                mean.iter().zip(deviation).map(of).collect()
            }
            _ => {
                let of = |(scale, shift): (&f64, &f64)| {
                    let most = if scale.abs() == 1.0 { 16.0 * most } else { most };
                    (shift.abs(), most.max(255.0))
                };
                all.scale().iter().zip(all.shift()).map(of).collect()
            }
        };
        match distances.into_iter().find(|(distance, most)| distance > most) {
            Some((distance, most)) => Err(Reason::Cancellation
                .at(format!("data {distance:.0} deviations from 0; the limit is {most:.0}"))),
            None => Ok(()),
        }
    }

    /// Whether the weights are other numbers than before.
    pub fn changes_weight(&self) -> bool {
        self.linear.alpha != 1.0 || self.folding.factors(0).any(|factor| factor != 1.0)
    }

    /// The new weights.
    pub fn weight(&self) -> Numbers<'a> {
        match self.linear.kind {
            LayerKind::BatchNorm => {
                Numbers::Listed(self.linear.weight.values.float, self.gamma_and_beta().0)
            }
            _ => Numbers::Scaled(Scaled {
                weight: self.linear.weight.values.clone(),
                folding: self.folding.clone(),
                alpha: self.linear.alpha,
            }),
        }
    }

    /// The new bias, as rows of one number for each output.
    pub fn bias_rows(&self) -> Result<Vec<Vec<f64>>, Refusal> {
        if self.linear.kind == LayerKind::BatchNorm {
            return Ok(vec![self.gamma_and_beta().1]);
        }
        let added = self.shifted_inputs();
        let row = |old: Option<&[f64]>| {
            self.folding.bias(old, &added).map_err(|error| Reason::Range.at(error))
        };
        match self.linear.bias_rows().as_slice() {
            [] => Ok(vec![row(None)?]),
            rows => rows.iter().map(|old| row(Some(old))).collect(),
        }
    }

    /// The type of the bias.
    pub fn bias_float(&self) -> Float {
        let Linear { weight, bias, .. } = &self.linear;
        bias.as_ref().map_or(weight, |bias| &bias.constant).values.float
    }

    /// The new γ and β of a batch normalization with the maps after it: they are chosen so that
    /// γ·(x − mean)/√(variance + ε) + β is the old result and then the maps.
    fn gamma_and_beta(&self) -> (Vec<f64>, Vec<f64>) {
        let own = self.linear.own.as_ref().map(|own| (own.affine(), &*own.formula));
        let Some((affine, Formula::Norm { mean, variance, epsilon, .. })) = own else {
            return (Vec::new(), Vec::new());
        };
        // the check of the range has seen that this is finite
        let all = affine.then(self.folding.map_after()).unwrap_or(affine);
        let gamma = all.scale().iter().zip(variance).map(|(a, v)| a * (v + epsilon).sqrt());
        let beta = all.shift().iter().zip(all.scale()).zip(mean).map(|((c, a), mean)| c + a * mean);
        (gamma.collect(), beta.collect())
    }

    /// Σ W\[o, i, k\]·shift\[i\], which the maps before the layer add to each output.
    fn shifted_inputs(&self) -> Vec<f64> {
        let kernel = self.folding.kernel();
        let shift = self.folding.map_before().shift();
        let mut added = vec![0.0; kernel.outputs()];
        if !self.folding.map_before().is_linear() {
            let parts = blocks(kernel, |start, runs| {
                let weights = self.read(start, runs);
                let mut part = vec![0.0; kernel.outputs()];
                let runs = kernel.runs(start).zip(weights.chunks_exact(kernel.taps()));
                for ((output, input), run) in runs {
                    part[output] += self.linear.alpha * shift[input] * run.iter().sum::<f64>();
                }
                part
            });
            for part in parts {
                added.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
        added
    }

    /// Whether every new number fits its type.
    fn check_range(&self) -> Result<(), Refusal> {
        let float = self.linear.weight.values.float;
        if self.linear.kind == LayerKind::BatchNorm {
            let (gamma, _) = self.gamma_and_beta();
            check_finite(&gamma, float, "gamma")?;
            check_digits(&gamma, float, "gamma")?;
        } else {
            let alpha = self.linear.alpha;
            let factors = || self.folding.factors(0).map(|factor| (alpha * factor).abs());
            let largest = factors().fold(0.0, f64::max);
            let may_be_large = largest > 1.0
                && !is_finite(largest * LARGEST, float)
                && !is_finite(largest * self.linear.weight.values.largest(), float);
            let may_be_small = float.smallest_normal() > 0.0
                && factors().any(|factor| factor != 0.0 && factor < 1.0);
            if may_be_large || may_be_small {
                let [outputs, inputs] = self.largest_weights();
                check_finite(&outputs, float, "a weight")?;
                check_digits(&outputs, float, "the largest weight of an output")?;
                check_digits(&inputs, float, "the largest weight of an input")?;
            }
        }
        check_finite(&self.bias_rows()?.concat(), self.bias_float(), "a bias")
    }

    /// The weights of some runs.
    fn read(&self, start: usize, runs: usize) -> Vec<f64> {
        let taps = self.folding.kernel().taps();
        let mut weights = vec![0.0; runs * taps];
        self.linear.weight.values.read(start * taps..(start + runs) * taps, &mut weights);
        weights
    }

    /// The largest new weight of each output and of each input.
    fn largest_weights(&self) -> [Vec<f64>; 2] {
        let kernel = self.folding.kernel();
        // floats that are not negative have the order of their bits
        let zeros = |count| (0..count).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let (outputs, inputs) = (zeros(kernel.outputs()), zeros(kernel.inputs()));
        blocks(kernel, |start, runs| {
            let weights = self.read(start, runs);
            let runs = self.folding.factors(start).zip(weights.chunks_exact(kernel.taps()));
            for ((output, input), (factor, run)) in kernel.runs(start).zip(runs) {
                let largest =
                    run.iter().fold(0.0, |largest: f64, weight| largest.max(weight.abs()));
                let bits = ((self.linear.alpha * factor).abs() * largest).to_bits();
                for place in [&outputs[output], &inputs[input]] {
                    // most are no larger, and reading is cheap
                    if place.load(Ordering::Relaxed) < bits {
                        place.fetch_max(bits, Ordering::Relaxed);
                    }
                }
            }
        });
        [outputs, inputs]
            .map(|all| all.into_iter().map(|bits| f64::from_bits(bits.into_inner())).collect())
    }
}

/// Whether a number is finite in its type, to which it is rounded.
fn is_finite(value: f64, float: Float) -> bool {
    float.round(value).is_finite()
}

/// An error if a number is not finite in its type.
fn check_finite(values: &[f64], float: Float, name: &str) -> Result<(), Refusal> {
    let refused =
        |value: &f64| Reason::Range.at(format!("{name} would be {value:.3e} in {}", float.name()));
    values
        .iter()
        .find(|value| !is_finite(**value, float))
        .map_or(Ok(()), |value| Err(refused(value)))
}

/// An error if a number has fewer digits than its type.
fn check_digits(values: &[f64], float: Float, name: &str) -> Result<(), Refusal> {
    let (least, float) = (float.smallest_normal(), float.name());
    let problem = |value: &f64| {
        format!("{name} would be {value:.3e} in {float}, which has fewer digits below {least:.1e}")
    };
    let small = values.iter().find(|value| **value != 0.0 && value.abs() < least);
    small.map_or(Ok(()), |value| Err(Reason::Range.at(problem(value))))
}

/// Calls `compute` with the first run and the number of runs of each block of a kernel's weights,
/// on all threads; the results are in order.
pub fn blocks<T: Send>(kernel: &Kernel, compute: impl Fn(usize, usize) -> T + Sync) -> Vec<T> {
    if kernel.elements() == 0 {
        return Vec::new();
    }
    let runs = kernel.elements() / kernel.taps();
    let block = (BLOCK / kernel.taps()).max(1);
    let starts = (0..runs.div_ceil(block)).into_par_iter().map(|index| index * block);
    starts.map(|start| compute(start, block.min(runs - start))).collect()
}

/// New numbers of a tensor.
pub enum Numbers<'a> {
    /// One by one.
    Listed(Float, Vec<f64>),
    /// Computed when they are written.
    Scaled(Scaled<'a>),
}

impl Numbers<'_> {
    /// Their type.
    pub fn float(&self) -> Float {
        match self {
            Self::Listed(float, _) => *float,
            Self::Scaled(scaled) => scaled.weight.float,
        }
    }
}

impl Compute for Numbers<'_> {
    fn length(&self) -> u64 {
        let count = match self {
            Self::Listed(_, values) => values.len(),
            Self::Scaled(scaled) => scaled.weight.len(),
        };
        (count * self.float().size()) as u64
    }

    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Listed(float, values) => out.write_all(&float.bytes(values)),
            Self::Scaled(scaled) => scaled.write_to(out),
        }
    }
}

/// Weights times what the maps multiply them by.
pub struct Scaled<'a> {
    weight: Values<'a>,
    folding: Folding,
    alpha: f64,
}

/// Weights that are computed before they are written: few enough for little memory, enough for all
/// threads.
const WINDOW: usize = 1 << 16;

/// Weights that are converted at once: few enough for the first cache.
pub const PART: usize = 1 << 9;

impl Scaled<'_> {
    /// The new weights from one run on, as bytes.
    fn scale(&self, start: usize, bytes: &mut [u8]) {
        let (taps, float) = (self.folding.kernel().taps(), self.weight.float);
        let part_runs = (PART / taps).max(1);
        vectorized(
            #[inline(always)]
            || {
                let mut weights = vec![0.0; part_runs * taps];
                let parts = bytes.chunks_mut(part_runs * taps * float.size());
                for (start, bytes) in (start..).step_by(part_runs).zip(parts) {
                    let weights = &mut weights[..bytes.len() / float.size()];
                    self.weight.read(start * taps..start * taps + weights.len(), weights);
                    let mut left = &mut *weights;
                    for (runs, factor) in self.folding.stretches(start) {
                        let (stretch, rest) = left.split_at_mut((runs * taps).min(left.len()));
                        let factor = self.alpha * factor;
                        stretch.iter_mut().for_each(|weight| *weight *= factor);
                        left = rest;
                        if left.is_empty() {
                            break;
                        }
                    }
                    float.store(weights, bytes);
                }
            },
        );
    }

    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        let (kernel, float) = (self.folding.kernel(), self.weight.float);
        let taps = kernel.taps();
        if kernel.elements() == 0 {
            return Ok(());
        }
        let runs = kernel.elements() / taps;
        let (window, block) = ((WINDOW / taps).max(1), (BLOCK / taps).max(1));
        let compute = |start: usize, bytes: &mut Vec<u8>| {
            let count = runs.saturating_sub(start).min(window) * taps;
            bytes.resize(count * float.size(), 0);
            let blocks = bytes.par_chunks_mut(block * taps * float.size()).enumerate();
            blocks.for_each(|(index, bytes)| self.scale(start + index * block, bytes));
        };
        // one window is written while the next is computed
        let (mut ready, mut next) = (Vec::new(), Vec::new());
        compute(0, &mut ready);
        for start in (0..runs).step_by(window) {
            let (compute, following) = (&compute, &mut next);
            rayon::in_place_scope(|scope| {
                scope.spawn(move |_| compute(start + window, following));
                out.write_all(&ready)
            })?;
            std::mem::swap(&mut ready, &mut next);
        }
        Ok(())
    }
}
