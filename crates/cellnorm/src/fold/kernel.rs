//! W′\[o, i, k\] = after.scale\[o\] · W\[o, i, k\] · before.scale\[i\], and b′\[o\] =
//! after.scale\[o\] · (b\[o\] + Σ W\[o, i, k\] · before.shift\[i\]) + after.shift\[o\], sums over i
//! and k, where `before` and `after` are the maps before and after the layer.

use super::affine::{Affine, same_length};
use crate::error::{Error, check_groups, check_numbers};

/// How the weight of a linear layer is laid out: two axes of channels, then taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    first: usize,
    second: usize,
    taps: usize,
    groups: usize,
    output_first: bool,
}

impl Kernel {
    /// A convolution's weight: (outputs, inputs / groups, taps…).
    ///
    /// # Errors
    /// If there are fewer than two axes, or the outputs cannot be split into the groups.
    pub fn convolution(shape: &[usize], groups: usize) -> Result<Self, Error> {
        Self::new("a convolution's weight", shape, groups, true)
    }

    /// A transposed convolution's weight: (inputs, outputs / groups, taps…).
    ///
    /// # Errors
    /// If there are fewer than two axes, or the inputs cannot be split into the groups.
    pub fn transposed_convolution(shape: &[usize], groups: usize) -> Result<Self, Error> {
        Self::new("a transposed convolution's weight", shape, groups, false)
    }

    /// A dense layer's weight as PyTorch has it: (outputs, inputs).
    ///
    /// # Errors
    /// None today: a shape of two axes is one of a dense layer.
    pub fn dense(shape: [usize; 2]) -> Result<Self, Error> {
        Self::new("a dense layer's weight", &shape, 1, true)
    }

    /// A dense layer's weight as Keras and Burn have it: (inputs, outputs).
    ///
    /// # Errors
    /// None today: a shape of two axes is one of a dense layer.
    pub fn dense_inputs_first(shape: [usize; 2]) -> Result<Self, Error> {
        Self::new("a dense layer's weight", &shape, 1, false)
    }

    fn new(
        layer: &'static str,
        shape: &[usize],
        groups: usize,
        output_first: bool,
    ) -> Result<Self, Error> {
        let [first, second, taps @ ..] = shape else {
            return Err(Error::Rank { layer, shape: shape.to_vec(), least: 2 });
        };
        check_groups(*first, groups)?;
        let taps = taps.iter().try_fold(1, |product: usize, tap| product.checked_mul(*tap));
        let elements = taps.and_then(|taps| first.checked_mul(*second)?.checked_mul(taps));
        let channels = second.checked_mul(groups);
        let (Some(taps), Some(_), Some(_)) = (taps, elements, channels) else {
            return Err(Error::TooLarge { shape: shape.to_vec() });
        };
        Ok(Self { first: *first, second: *second, taps, groups, output_first })
    }

    /// The number of output channels.
    pub fn outputs(&self) -> usize {
        if self.output_first { self.first } else { self.second * self.groups }
    }

    /// The number of input channels.
    pub fn inputs(&self) -> usize {
        if self.output_first { self.second * self.groups } else { self.first }
    }

    /// The number of weights.
    pub fn elements(&self) -> usize {
        self.first * self.second * self.taps
    }

    /// The output and the input channel of each run of [`taps`](Self::taps) weights, in the order
    /// of memory, from one run on.
    pub fn runs(&self, start: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        self.segments(start).flat_map(|segment| {
            let Segment { output, input, runs } = segment;
            (input..input + runs).map(move |input| (output, input))
        })
    }

    /// Runs of one output and of consecutive inputs, as long as possible, from one run on.
    pub fn segments(&self, start: usize) -> impl Iterator<Item = Segment> + use<> {
        let Self { first, second, groups, output_first, .. } = *self;
        // an empty axis has no runs, and no group either
        let in_group = (first / groups).max(1);
        let (begin, mut skip) = (start / second.max(1), start % second.max(1));
        (begin..first).flat_map(move |first_channel| {
            let base = first_channel / in_group * second;
            let from = std::mem::take(&mut skip);
            let (segments, runs) = if output_first {
                (from..second.min(from + 1), second - from)
            } else {
                (from..second, 1)
            };
            segments.map(move |second_channel| match output_first {
                true => Segment { output: first_channel, input: base + second_channel, runs },
                false => Segment { output: base + second_channel, input: first_channel, runs },
            })
        })
    }

    /// The weights of one pair of channels: they lie side by side.
    pub fn taps(&self) -> usize {
        self.taps
    }

    /// Folds a map after the layer.
    ///
    /// # Errors
    /// If it has not one channel for each output.
    pub fn fold_after(self, map: &Affine) -> Result<Folding, Error> {
        Folding::none(self).fold_after(map)
    }

    /// Folds a map before the layer. The layer must pad no zeros unless the map is linear.
    ///
    /// # Errors
    /// If it has not one channel for each input.
    pub fn fold_before(self, map: &Affine) -> Result<Folding, Error> {
        Folding::none(self).fold_before(map)
    }
}

/// Consecutive runs of one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The output channel.
    pub output: usize,
    /// The input channel of the first run; the others follow.
    pub input: usize,
    /// How many runs there are.
    pub runs: usize,
}

/// A linear layer, with the maps that are to become part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Folding {
    kernel: Kernel,
    before: Affine,
    after: Affine,
    /// Whether no map before the layer scales an input.
    alike: bool,
}

/// The weight and bias of a linear layer after folding.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded {
    /// The weight, laid out as before.
    pub weight: Vec<f64>,
    /// One number for each output.
    pub bias: Vec<f64>,
}

impl Folding {
    /// With no map yet.
    pub fn none(kernel: Kernel) -> Self {
        let (before, after) =
            (Affine::identity(kernel.inputs()), Affine::identity(kernel.outputs()));
        Self { kernel, before, after, alike: true }
    }

    /// Folds one more map, after all the others.
    ///
    /// # Errors
    /// If it has not one channel for each output.
    pub fn fold_after(mut self, map: &Affine) -> Result<Self, Error> {
        self.after = self.after.then(map)?;
        Ok(self)
    }

    /// Folds one more map, before all the others.
    ///
    /// # Errors
    /// If it has not one channel for each input.
    pub fn fold_before(mut self, map: &Affine) -> Result<Self, Error> {
        self.before = map.then(&self.before)?;
        self.alike = self.before.scale().iter().all(|scale| *scale == 1.0);
        Ok(self)
    }

    /// The weight's layout.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// All maps before the layer as one.
    pub fn map_before(&self) -> &Affine {
        &self.before
    }

    /// All maps after the layer as one.
    pub fn map_after(&self) -> &Affine {
        &self.after
    }

    /// The factor of each run of [`taps`](Kernel::taps) weights, in memory order, from one run on.
    pub fn factors(&self, start: usize) -> impl Iterator<Item = f64> + '_ {
        let (after, before) = (self.after.scale(), self.before.scale());
        self.kernel.runs(start).map(|(output, input)| after[output] * before[input])
    }

    /// The same for consecutive runs with one factor: how many there are, and the factor.
    pub fn stretches(&self, start: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.kernel.segments(start).flat_map(move |Segment { output, input, runs }| {
            let after = self.after.scale()[output];
            let (stretches, runs) =
                if self.alike { (input..input + 1, runs) } else { (input..input + runs, 1) };
            stretches.map(move |input| (runs, after * self.before.scale()[input]))
        })
    }

    /// The new bias, from the old one (0 where absent) and what the maps before the layer add to
    /// each output, Σ W\[o, i, k\]·shift\[i\].
    ///
    /// # Errors
    /// If there is not one number for each output, or a result leaves f64.
    pub fn bias(&self, old: Option<&[f64]>, added: &[f64]) -> Result<Vec<f64>, Error> {
        let outputs = self.kernel.outputs();
        same_length("bias", old.map_or(outputs, <[f64]>::len), outputs)?;
        same_length("what the maps before the layer add", added.len(), outputs)?;
        let sum =
            (0..outputs).map(|output| old.map_or(0.0, |old| old[output]) + added[output]).collect();
        Ok(Affine::new(vec![1.0; outputs], sum)?.then(&self.after)?.shift().to_vec())
    }

    /// The new weight and bias.
    ///
    /// # Errors
    /// If the numbers of weights and biases are not those of the kernel, or a result leaves f64.
    pub fn fold(&self, weight: &[f64], bias: Option<&[f64]>) -> Result<Folded, Error> {
        same_length("weight", weight.len(), self.kernel.elements())?;
        let runs = || weight.chunks_exact(self.kernel.taps.max(1));
        let mut added = vec![0.0; self.kernel.outputs()];
        for ((output, input), run) in self.kernel.runs(0).zip(runs()) {
            added[output] += self.before.shift()[input] * run.iter().sum::<f64>();
        }
        let bias = self.bias(bias, &added)?;
        let scaled = runs().zip(self.factors(0));
        let scaled = scaled.flat_map(|(run, factor)| run.iter().map(move |value| value * factor));
        let scaled: Vec<f64> = scaled.collect();
        check_numbers("a folded weight", &scaled, f64::is_finite, "finite")?;
        Ok(Folded { weight: scaled, bias })
    }
}
