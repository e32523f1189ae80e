//! The proof of each fold: the layer before and after, on random numbers, in f64.
//!
//! Before: each map by its own operator's formula before and after Σ W·x + b, with the file's
//! weights. After: Σ W′·x + b′ with the weights as they were written and read again. The maps are
//! not multiplied together here, so the proof is independent of the folding. Both may differ by the
//! rounding of W′ and b′ to their type, u·(Σ |W′·x| + |b′|), where u is 2⁻²⁴ in f32, and by that of
//! f64.
//!
//! ```text
//! x        random, one number for each input and tap
//! mapped   x after the maps before the layer
//! sums     for each output: Σ W·mapped, Σ W′·x, and the sums of their absolute terms
//! for each row of the biases, for each output:
//!     old    the maps after the layer, of Σ W·mapped + b
//!     new    Σ W′·x + b′
//!     share  |old − new| / bound; the fold is proven if it is at most 1
//! ```

use std::hint::black_box;

use cellnorm::kernels::vectorized;
use rayon::prelude::*;
use serde::Serialize;

use super::array::Random;
use crate::error::{Error, Malformed};
use crate::fold::{
    Context, Direction, Folded, FoldedLayer, Layer, Layers, Linear, NodeName, PART, Scope, Search,
    Shapes, blocks,
};
use crate::proto::{Graph, Model};

/// The proof of one layer's folds.
#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    /// The layer.
    pub layer: NodeName,
    /// How many maps became part of it.
    pub maps: usize,
    /// The largest difference between before and after.
    pub error: f64,
    /// The largest output of the layer.
    pub scale: f64,
    /// The largest share of its bound that a difference takes; the fold is proven if it is at
    /// most 1.
    pub share: f64,
}

/// Proves each fold of a model, as it was and as it was written.
///
/// # Errors
/// If the written model cannot be read, or lacks a layer.
pub fn prove(folded: &Folded<'_>, written: &Model<'_>) -> Result<Vec<Proof>, Error> {
    let mut proofs = Vec::new();
    let context = Context { opset: written.opset, ..folded.context };
    let mut index = 0;
    visit(&written.graph, None, context, &mut index, &mut |index, search| {
        let layers: Vec<&FoldedLayer<'_>> =
            folded.layers.iter().filter(|layer| layer.graph == index).collect();
        let prove_layer = |folded: &&FoldedLayer<'_>| {
            let FoldedLayer { output, name, layer, .. } = folded;
            let after = search.scope.graph.find(output).and_then(|value| search.maker(value));
            let after = after.and_then(Result::ok);
            let after = after.filter(|after| after.kernel == layer.linear.kernel);
            let lost = || Malformed(format!("the written model lacks the layer of {output:?}"));
            Ok(compare(name.clone(), layer, &after.ok_or_else(lost)?))
        };
        proofs.extend(layers.par_iter().map(prove_layer).collect::<Result<Vec<Proof>, Error>>()?);
        Ok(())
    })?;
    Ok(proofs)
}

/// Calls `see` with each graph and its number, the model's own first, then those inside nodes.
fn visit<'a>(
    graph: &Graph<'a>,
    outer: Option<&Scope<'_, 'a>>,
    context: Context,
    index: &mut usize,
    see: &mut dyn FnMut(usize, &Search<'_, 'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    let scope = Scope { graph, outer, context };
    let shapes = Shapes::infer(&scope, &graph.order()?);
    see(*index, &Search { scope, shapes: &shapes, layers: &Layers::new() })?;
    *index += 1;
    graph.inner_graphs().try_for_each(|inner| visit(inner, Some(&scope), context, index, see))
}

/// The sums of one output before and after, and the sums of their absolute terms.
#[derive(Clone, Copy, Default)]
struct Sums {
    before: f64,
    after: f64,
    size_before: f64,
    size_after: f64,
}

impl Sums {
    /// Adds others, whose weights have a factor besides.
    fn add(&mut self, others: Self, before: f64, after: f64) {
        self.before += before * others.before;
        self.after += after * others.after;
        self.size_before += before.abs() * others.size_before;
        self.size_after += after.abs() * others.size_after;
    }
}

/// Sums that are computed side by side.
const LANES: usize = 8;

/// Σ w·x and Σ |w·x|.
#[inline(always)]
fn sum(weights: &[f64], x: &[f64]) -> [f64; 2] {
    let ((weights, last), (x, last_x)) = (weights.as_chunks::<LANES>(), x.as_chunks::<LANES>());
    let (mut sums, mut sizes) = ([0.0; LANES], [0.0; LANES]);
    for (weights, x) in weights.iter().zip(x) {
        for lane in 0..LANES {
            let term = weights[lane] * x[lane];
            sums[lane] += term;
            sizes[lane] += term.abs();
        }
    }
    // without this, the compiler would not keep the lanes in vectors
    let (sums, sizes) = black_box((sums, sizes));
    let terms = || last.iter().zip(last_x).map(|(weight, x)| weight * x);
    [
        sums.iter().sum::<f64>() + terms().sum::<f64>(),
        sizes.iter().sum::<f64>() + terms().map(f64::abs).sum::<f64>(),
    ]
}

/// The proof of a layer: see the pseudocode above.
fn compare(name: NodeName, layer: &Layer<'_>, after: &Linear<'_>) -> Proof {
    let before = &layer.linear;
    let kernel = before.kernel;
    let (taps, outputs) = (kernel.taps(), kernel.outputs());
    let mut random = Random(0x5eed);
    let x: Vec<f64> = (0..kernel.inputs() * taps).map(|_| random.uniform() * 2.0 - 1.0).collect();
    // the map before the layer that was folded last is the first that the data meet
    let maps_before =
        || layer.maps.iter().rev().filter(|(direction, _)| *direction == Direction::Forward);
    let mapped = |(place, x): (usize, &f64)| {
        maps_before().fold(*x, |x, (_, map)| map.apply(place / taps.max(1), x))
    };
    let mapped: Vec<f64> = x.iter().enumerate().map(mapped).collect();
    let maps_after = |output: usize, y: f64| {
        let maps = layer.maps.iter().filter(|(direction, _)| *direction == Direction::Backward);
        maps.fold(y, |y, (_, map)| map.apply(output, y))
    };
    let sums = sums(before, after, &mapped, &x);
    let rows = |linear: &Linear<'_>| match linear.bias_rows() {
        rows if rows.is_empty() => vec![vec![0.0; outputs]],
        rows => rows,
    };
    let (old_rows, new_rows) = (rows(before), rows(after));
    let (unit, bias_unit) = (after.weight.values.float.unit(), layer.bias_float().unit());
    // rounding to the smallest numbers of the type loses an amount that is no share of the number
    let least = after.weight.values.float.smallest() * (1 + taps * kernel.inputs()) as f64;
    let mut proof =
        Proof { layer: name, maps: layer.maps.len(), error: 0.0, scale: 0.0, share: 0.0 };
    for row in 0..old_rows.len().max(new_rows.len()) {
        let (old_row, new_row) = (&old_rows[row % old_rows.len()], &new_rows[row % new_rows.len()]);
        for (output, sum) in sums.iter().enumerate() {
            let (old_bias, new_bias) = (old_row[output], new_row[output]);
            let (old, new, size) = match (&before.own, &after.own) {
                // the weight of a batch normalization is γ; its own formula holds the rest
                (Some(own), Some(new)) => {
                    let (old, new) = (own.apply(output, x[output]), new.apply(output, x[output]));
                    (old, new, new.abs() + new_bias.abs())
                }
                _ => (sum.before + old_bias, sum.after + new_bias, sum.size_after),
            };
            let shift = maps_after(output, 0.0);
            let slope = (maps_after(output, 1.0) - shift).abs();
            let in_f64 =
                slope * (sum.size_before + old_bias.abs() + old.abs()) + shift.abs() + size;
            let old = maps_after(output, old);
            let bound = unit * size + bias_unit * new_bias.abs() + least + 1e-13 * in_f64;
            let error = (old - new).abs();
            proof.error = proof.error.max(error);
            proof.scale = proof.scale.max(old.abs());
            let share = if error == 0.0 { 0.0 } else { error / bound };
            // an infinite number on both sides proves nothing
            proof.share = proof.share.max(if share.is_nan() { f64::INFINITY } else { share });
        }
    }
    proof
}

/// The sums of each output: the old weights times `mapped`, and the new ones times `x`.
fn sums(before: &Linear<'_>, after: &Linear<'_>, mapped: &[f64], x: &[f64]) -> Vec<Sums> {
    let kernel = before.kernel;
    let taps = kernel.taps();
    let part_runs = (PART / taps.max(1)).max(1);
    let parts = blocks(&kernel, |start, runs| {
        vectorized(
            #[inline(always)]
            || {
                let (mut old, mut new) = (vec![0.0; part_runs * taps], vec![0.0; part_runs * taps]);
                let mut block: Vec<(usize, Sums)> = Vec::new();
                for part in (start..start + runs).step_by(part_runs) {
                    let count = part_runs.min(start + runs - part);
                    let place = part * taps..(part + count) * taps;
                    before.weight.values.read(place.clone(), &mut old[..place.len()]);
                    after.weight.values.read(place.clone(), &mut new[..place.len()]);
                    let mut done = 0;
                    for segment in kernel.segments(part) {
                        let runs = segment.runs.min(count - done);
                        let weights = done * taps..(done + runs) * taps;
                        let inputs = segment.input * taps..(segment.input + runs) * taps;
                        let [before, size_before] =
                            sum(&old[weights.clone()], &mapped[inputs.clone()]);
                        let [after, size_after] = sum(&new[weights], &x[inputs]);
                        let sums = Sums { before, after, size_before, size_after };
                        // outputs follow each other in most layouts
                        match block.last_mut().filter(|(last, _)| *last == segment.output) {
                            Some((_, all)) => all.add(sums, 1.0, 1.0),
                            None => block.push((segment.output, sums)),
                        }
                        done += runs;
                        if done == count {
                            break;
                        }
                    }
                }
                block
            },
        )
    });
    let mut sums = vec![Sums::default(); kernel.outputs()];
    for (output, part) in parts.into_iter().flatten() {
        sums[output].add(part, before.alpha, after.alpha);
    }
    sums
}
