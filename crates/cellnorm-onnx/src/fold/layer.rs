//! A layer and the maps that became part of it; its new numbers are computed in f64 from the
//! model's own and rounded once.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use cellnorm::fold::{Folding, Kernel};
use cellnorm::passes::vectorized;
use rayon::prelude::*;

use super::linear::{Kind, Linear};
use super::map::{Formula, Map};
use super::reason::{Reason, Refusal};
use super::walk::{Side, Target};
use crate::proto::graph::NodeId;
use crate::proto::rope::Compute;
use crate::proto::values::{Float, Values};

/// A layer with the maps that became part of it.
#[derive(Clone, Debug)]
pub struct Layer<'a> {
    /// The layer as it was.
    pub linear: Linear<'a>,
    /// The maps as one on each side.
    pub folding: Folding,
    /// The maps one by one, in the order in which they were folded.
    pub maps: Vec<(Side, Map)>,
}

/// The layers of a graph that maps became part of, by node.
pub type Layers<'a> = BTreeMap<NodeId, Layer<'a>>;

/// No network has a weight beyond this, 2⁶⁴: they are looked through only where one of this size
/// would not fit. If there is one all the same, the proof of the fold fails.
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
    pub fn with(&self, target: &Target<'a>) -> Result<Self, Refusal> {
        let mut layer = self.clone();
        let map = target.map.affine();
        let folding = match target.side {
            Side::Behind => layer.folding.and_behind(&map),
            Side::Ahead => layer.folding.and_ahead(&map),
        };
        layer.folding = folding.map_err(|error| Refusal::new(Reason::Range, error.to_string()))?;
        layer.maps.push((target.side, target.map.clone()));
        layer.check_range()?;
        Ok(layer)
    }

    /// Whether the weights are other numbers than before.
    pub fn changes_weight(&self) -> bool {
        self.linear.alpha != 1.0 || self.folding.factors(0).any(|factor| factor != 1.0)
    }

    /// The new weights.
    pub fn weight(&self) -> Numbers<'a> {
        match self.linear.kind {
            Kind::BatchNorm => Numbers::Listed(self.linear.weight.values.float, self.norm().0),
            _ => Numbers::Scaled(Scaled {
                weight: self.linear.weight.values.clone(),
                folding: self.folding.clone(),
                alpha: self.linear.alpha,
            }),
        }
    }

    /// The new bias, as rows of one number for each output.
    pub fn bias_rows(&self) -> Result<Vec<Vec<f64>>, Refusal> {
        if self.linear.kind == Kind::BatchNorm {
            return Ok(vec![self.norm().1]);
        }
        let added = self.added();
        let row = |old: Option<&[f64]>| {
            self.folding
                .bias(old, &added)
                .map_err(|error| Refusal::new(Reason::Range, error.to_string()))
        };
        match self.linear.bias_rows().as_slice() {
            [] => Ok(vec![row(None)?]),
            rows => rows.iter().map(|old| row(Some(old))).collect(),
        }
    }

    /// The type of the bias.
    pub fn bias_float(&self) -> Float {
        self.linear
            .bias
            .as_ref()
            .map_or(self.linear.weight.values.float, |bias| bias.constant.values.float)
    }

    /// γ and β of a batch normalization that does what it did and then the maps behind.
    fn norm(&self) -> (Vec<f64>, Vec<f64>) {
        let own = self.linear.own.as_ref().map(|own| (own.affine(), &*own.formula));
        let Some((affine, Formula::Norm { mean, variance, epsilon, .. })) = own else {
            return (Vec::new(), Vec::new());
        };
        // the check of the range has seen that this is finite
        let all = affine.then(self.folding.map_behind()).unwrap_or(affine);
        let root = |channel: usize| (variance[channel] + epsilon).sqrt();
        let gamma = (0..mean.len()).map(|channel| all.scale()[channel] * root(channel)).collect();
        let beta = (0..mean.len())
            .map(|channel| all.shift()[channel] + all.scale()[channel] * mean[channel])
            .collect();
        (gamma, beta)
    }

    /// What the maps ahead add to each output, Σ W\[o, i, k\]·shift\[i\].
    fn added(&self) -> Vec<f64> {
        let kernel = self.folding.kernel();
        let shift = self.folding.map_ahead().shift();
        let mut added = vec![0.0; kernel.outputs()];
        if !self.folding.map_ahead().is_linear() {
            let parts = blocks(kernel, |start, runs| {
                let weights = self.read(start, runs);
                let mut part = vec![0.0; kernel.outputs()];
                for ((output, input), run) in
                    kernel.runs(start).zip(weights.chunks_exact(kernel.taps()))
                {
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
        if self.linear.kind == Kind::BatchNorm {
            let gamma = self.norm().0;
            fits(gamma.iter().copied(), float, "gamma")?;
            keeps_digits(gamma.into_iter(), float, "gamma")?;
        } else {
            let factors =
                || self.folding.factors(0).map(|factor| (self.linear.alpha * factor).abs());
            let largest = factors().fold(0.0, f64::max);
            let may_be_large = largest > 1.0
                && !fit(largest * LARGEST, float)
                && !fit(largest * self.linear.weight.values.largest(), float);
            let may_be_small =
                float.full_from() > 0.0 && factors().any(|factor| factor != 0.0 && factor < 1.0);
            if may_be_large || may_be_small {
                let [of_outputs, of_inputs] = self.largest_weights();
                fits(of_outputs.iter().copied(), float, "a weight")?;
                keeps_digits(of_outputs.into_iter(), float, "the largest weight of an output")?;
                keeps_digits(of_inputs.into_iter(), float, "the largest weight of an input")?;
            }
        }
        fits(self.bias_rows()?.concat().into_iter(), self.bias_float(), "a bias")
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
        // what is not negative is ordered as its bits
        let zeros = |count| (0..count).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let (of_outputs, of_inputs) = (zeros(kernel.outputs()), zeros(kernel.inputs()));
        blocks(kernel, |start, runs| {
            let weights = self.read(start, runs);
            let runs = self.folding.factors(start).zip(weights.chunks_exact(kernel.taps()));
            for ((output, input), (factor, run)) in kernel.runs(start).zip(runs) {
                let largest =
                    run.iter().fold(0.0, |largest: f64, weight| largest.max(weight.abs()));
                let bits = ((self.linear.alpha * factor).abs() * largest).to_bits();
                for place in [&of_outputs[output], &of_inputs[input]] {
                    // most are no larger, and reading is cheap
                    if place.load(Ordering::Relaxed) < bits {
                        place.fetch_max(bits, Ordering::Relaxed);
                    }
                }
            }
        });
        [of_outputs, of_inputs]
            .map(|all| all.into_iter().map(|bits| f64::from_bits(bits.into_inner())).collect())
    }
}

/// Whether a number is finite in its type; what is less than half a step above the largest number
/// is rounded to it.
fn fit(value: f64, float: Float) -> bool {
    float.round(value).is_finite()
}

fn fits(mut values: impl Iterator<Item = f64>, float: Float, what: &str) -> Result<(), Refusal> {
    match values.find(|value| !fit(*value, float)) {
        Some(value) => Err(Refusal::new(
            Reason::Range,
            format!("{what} would be {value:.3e} in {}", float.name()),
        )),
        None => Ok(()),
    }
}

/// Whether numbers keep as many digits as their type has.
fn keeps_digits(
    mut values: impl Iterator<Item = f64>,
    float: Float,
    what: &str,
) -> Result<(), Refusal> {
    let least = float.full_from();
    match values.find(|value| *value != 0.0 && value.abs() < least) {
        Some(value) => Err(Refusal::new(
            Reason::Range,
            format!(
                "{what} would be {value:.3e} in {}, which has fewer digits below {least:.1e}",
                float.name()
            ),
        )),
        None => Ok(()),
    }
}

/// What each block of whole runs of weights comes to, given its first run and how many there are;
/// on all threads, in order.
pub fn blocks<T: Send>(kernel: &Kernel, of: impl Fn(usize, usize) -> T + Sync) -> Vec<T> {
    if kernel.elements() == 0 {
        return Vec::new();
    }
    let runs = kernel.elements() / kernel.taps();
    let in_block = (BLOCK / kernel.taps()).max(1);
    let starts = (0..runs.div_ceil(in_block)).into_par_iter().map(|block| block * in_block);
    starts.map(|start| of(start, in_block.min(runs - start))).collect()
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
            Self::Listed(float, values) => {
                let mut bytes = vec![0; values.len() * float.size()];
                float.store(values, &mut bytes);
                out.write_all(&bytes)
            }
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

/// Weights that are computed before they are written: few enough that memory holds little, enough
/// for all threads.
const WINDOW: usize = 1 << 16;

/// Weights that are converted at once: few enough for the first cache.
pub const PART: usize = 1 << 9;

impl Scaled<'_> {
    /// The new weights from one run on, as bytes.
    fn scale(&self, start: usize, bytes: &mut [u8]) {
        let (taps, float) = (self.folding.kernel().taps(), self.weight.float);
        let in_part = (PART / taps).max(1);
        vectorized(
            #[inline(always)]
            || {
                let mut weights = vec![0.0; in_part * taps];
                for (part, bytes) in bytes.chunks_mut(in_part * taps * float.size()).enumerate() {
                    let (start, weights) =
                        (start + part * in_part, &mut weights[..bytes.len() / float.size()]);
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
        let (in_window, in_block) = ((WINDOW / taps).max(1), (BLOCK / taps).max(1));
        let compute = |window: usize, bytes: &mut Vec<u8>| {
            let count = runs.saturating_sub(window).min(in_window) * taps;
            bytes.resize(count * float.size(), 0);
            let blocks = bytes.par_chunks_mut(in_block * taps * float.size()).enumerate();
            blocks.for_each(|(block, bytes)| self.scale(window + block * in_block, bytes));
        };
        // one window is written while the next is computed
        let (mut ready, mut next) = (Vec::new(), Vec::new());
        compute(0, &mut ready);
        for window in (0..runs).step_by(in_window) {
            let (compute, after) = (&compute, &mut next);
            rayon::in_place_scope(|scope| {
                scope.spawn(move |_| compute(window + in_window, after));
                out.write_all(&ready)
            })?;
            std::mem::swap(&mut ready, &mut next);
        }
        Ok(())
    }
}
