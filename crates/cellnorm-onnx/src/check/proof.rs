//! The proof of each fold: the layer before and after, on random numbers, in f64.
//!
//! Before: each map by its own operator's formula around Σ W·x + b with the file's weights. After:
//! Σ W′·x + b′ with the weights as they were written and read again. The maps are not multiplied
//! together for this, so it checks what the folding did. The two may differ by the rounding of W′
//! and b′ to their type, u·(Σ |W′·x| + |b′|), u being 2⁻²⁴ in f32, and by f64's own.

use std::hint::black_box;

use cellnorm::passes::vectorized;
use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, Malformed};
use crate::fold::{
    Context, Folded, FoldedLayer, Layer, Layers, Linear, NodeName, PART, Scope, Search, Shapes,
    Side, blocks,
};
use crate::proto::graph::Graph;
use crate::proto::model::Model;

/// What was found of one layer.
#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    /// The layer.
    pub layer: NodeName,
    /// How many maps became part of it.
    pub maps: usize,
    /// The largest difference between before and after.
    pub error: f64,
    /// The largest number that the layer made.
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
    let context = Context { opset: written.opset, inputs_are_constant: folded.inputs_are_constant };
    let mut index = 0;
    visit(&written.graph, None, context, &mut index, &mut |index, search| {
        let layers: Vec<&FoldedLayer<'_>> =
            folded.layers.iter().filter(|layer| layer.graph == index).collect();
        let of = |layer: &&FoldedLayer<'_>| {
            let after =
                search.scope.graph.find(&layer.output).and_then(|value| search.making(value));
            let after = after
                .and_then(Result::ok)
                .filter(|after| after.kernel == layer.layer.linear.kernel);
            let lost =
                || Malformed(format!("the written model lacks the layer of {:?}", layer.output));
            Ok(compare(layer.name.clone(), &layer.layer, &after.ok_or_else(lost)?))
        };
        proofs.extend(layers.par_iter().map(of).collect::<Result<Vec<Proof>, Error>>()?);
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
    let scope = Scope { graph, outer, inputs_are_constant: context.inputs_are_constant };
    let shapes = Shapes::infer(&scope, &graph.order()?);
    see(*index, &Search { scope, shapes: &shapes, opset: context.opset, layers: &Layers::new() })?;
    *index += 1;
    for inner in
        graph.nodes.iter().flat_map(|node| &node.attributes).flat_map(|attribute| &attribute.graphs)
    {
        visit(inner, Some(&scope), context, index, see)?;
    }
    Ok(())
}

/// What one output of a layer comes to before and after, and how large the parts of the sums are.
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

/// Sums side by side.
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
    // added up at the end as they are, the lanes would not be kept in vectors
    let (sums, sizes) = black_box((sums, sizes));
    let terms = || last.iter().zip(last_x).map(|(weight, x)| weight * x);
    [
        sums.iter().sum::<f64>() + terms().sum::<f64>(),
        sizes.iter().sum::<f64>() + terms().map(f64::abs).sum::<f64>(),
    ]
}

fn compare(name: NodeName, layer: &Layer<'_>, after: &Linear<'_>) -> Proof {
    let before = &layer.linear;
    let kernel = before.kernel;
    let (taps, outputs) = (kernel.taps(), kernel.outputs());
    let mut random = Random(0x5eed);
    let x: Vec<f64> = (0..kernel.inputs() * taps).map(|_| random.next()).collect();
    let ahead = |input: usize, x: f64| {
        // the last map that was folded ahead is the first that the data meet
        let maps = layer.maps.iter().rev().filter(|(side, _)| *side == Side::Ahead);
        maps.fold(x, |x, (_, map)| map.apply(input, x))
    };
    let mapped: Vec<f64> =
        x.iter().enumerate().map(|(place, x)| ahead(place / taps.max(1), *x)).collect();
    let behind = |output: usize, y: f64| {
        let maps = layer.maps.iter().filter(|(side, _)| *side == Side::Behind);
        maps.fold(y, |y, (_, map)| map.apply(output, y))
    };
    let mut sums = vec![Sums::default(); outputs];
    let in_part = (PART / taps.max(1)).max(1);
    let parts = blocks(&kernel, |start, runs| {
        vectorized(
            #[inline(always)]
            || {
                let (mut old, mut new) = (vec![0.0; in_part * taps], vec![0.0; in_part * taps]);
                let mut block: Vec<(usize, Sums)> = Vec::new();
                for part in (start..start + runs).step_by(in_part) {
                    let count = in_part.min(start + runs - part);
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
    for (output, part) in parts.into_iter().flatten() {
        sums[output].add(part, before.alpha, after.alpha);
    }
    let rows = |linear: &Linear<'_>| match linear.bias_rows() {
        rows if rows.is_empty() => vec![vec![0.0; outputs]],
        rows => rows,
    };
    let (old_rows, new_rows) = (rows(before), rows(after));
    let (unit, bias_unit) = (after.weight.values.float.unit(), layer.bias_float().unit());
    // what rounding to the smallest numbers of the type loses, which is no share of the number
    let least = after.weight.values.float.smallest() * (1 + taps * kernel.inputs()) as f64;
    let mut proof =
        Proof { layer: name, maps: layer.maps.len(), error: 0.0, scale: 0.0, share: 0.0 };
    for row in 0..old_rows.len().max(new_rows.len()) {
        let (old_row, new_row) = (&old_rows[row % old_rows.len()], &new_rows[row % new_rows.len()]);
        for (output, sum) in sums.iter().enumerate() {
            let (old, new, size) = match (&before.own, &after.own) {
                // the weight of a batch normalization is γ; its own formula holds the rest
                (Some(own), Some(new)) => {
                    let (old, new) = (own.apply(output, x[output]), new.apply(output, x[output]));
                    (old, new, new.abs() + new_row[output].abs())
                }
                _ => (sum.before + old_row[output], sum.after + new_row[output], sum.size_after),
            };
            let slope = (behind(output, 1.0) - behind(output, 0.0)).abs();
            let in_f64 = slope * (sum.size_before + old_row[output].abs() + old.abs())
                + behind(output, 0.0).abs()
                + size;
            let old = behind(output, old);
            let bound = unit * size + bias_unit * new_row[output].abs() + least + 1e-13 * in_f64;
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

/// Numbers between −1 and 1: SplitMix64 (G. Steele et al., 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ bits >> 31) as f64 / u64::MAX as f64 * 2.0 - 1.0
    }
}
