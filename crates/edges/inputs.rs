//! The layers, the inputs at the edges of what they take, and the numbers beside them, for the
//! tests of all adapters, each with its own `DType`.

use super::DType;

pub const EPSILON: f64 = 1e-5;
const TYPES: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];
pub const GROUPS: usize = 3;
/// Where an input that is not finite is not: in sample 0 and channel 1.
pub const PLACE: usize = 7;

const SHAPE: [usize; 3] = [4, 6, 5];
const SHARES: [f64; 7] = [1.0, -1.0, 0.5, -0.25, 0.75, -0.5, 0.25];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Layer,
    Rms,
    Group,
    Instance,
    Batch,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Layer, Self::Rms, Self::Group, Self::Instance, Self::Batch];

    pub fn name(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Rms => "RMS",
            Self::Group => "group",
            Self::Instance => "instance",
            Self::Batch => "batch",
        }
    }

    /// The statistic of the value of this index.
    pub fn set(self, [_, channels, length]: [usize; 3], i: usize) -> usize {
        let (row, sample) = (i / length, i / length / channels);
        match self {
            Self::Layer | Self::Rms | Self::Instance => row,
            Self::Group => sample * GROUPS + row % channels / (channels / GROUPS),
            Self::Batch => row % channels,
        }
    }

    /// The index of its γ and β.
    pub fn parameter(self, [_, channels, length]: [usize; 3], i: usize) -> usize {
        if self.is_last() { i % length } else { i / length % channels }
    }

    fn is_last(self) -> bool {
        matches!(self, Self::Layer | Self::Rms)
    }
}

/// A tensor of values that its type holds exactly.
pub struct Input {
    pub name: &'static str,
    pub layer: Kind,
    pub dtype: DType,
    pub shape: [usize; 3],
    /// The shape in memory: axes of length 1 are broadcast.
    pub stored: [usize; 3],
    /// In memory.
    pub values: Vec<f64>,
}

/// The rows of all inputs; `merge` takes a row that differs in its type alone into the one before.
pub fn rows<R>(row: impl Fn(&Input) -> R, merge: impl Fn(&mut R, &R) -> bool) -> Vec<R> {
    let mut rows: Vec<R> = vec![];
    for layer in Kind::ALL {
        let types = TYPES.map(|dtype| inputs(layer, dtype));
        for i in 0..types[0].len() {
            for row in types.iter().map(|inputs| row(&inputs[i])) {
                if !rows.last_mut().is_some_and(|last| merge(last, &row)) {
                    rows.push(row);
                }
            }
        }
    }
    rows
}

fn inputs(layer: Kind, dtype: DType) -> Vec<Input> {
    let input = |name, shape: [usize; 3], value: &dyn Fn(usize) -> f64| {
        let values = (0..shape.iter().product()).map(value).collect();
        Input { name, layer, dtype, shape, stored: shape, values }
    };
    // of seven bits, which every type holds
    let plain = |i: usize| ((i * 37 + 11) % 201) as f64 / 32.0 - 3.125;
    let at_place = |name, odd| input(name, SHAPE, &|i| if i == PLACE { odd } else { plain(i) });
    let [largest, smallest] = range(dtype);
    let zero_rows = |i: usize| i / 30 == 0 || (i / 5).is_multiple_of(6);
    let one_value = match layer {
        Kind::Group => [4, GROUPS, 1],
        Kind::Batch => [1, 6, 1],
        _ => [4, 6, 1],
    };
    let stride = Input { shape: SHAPE, ..input("stride 0", [1, 6, 5], &plain) };
    vec![
        input("no samples", [0, 6, 5], &plain),
        input("one value a statistic", one_value, &plain),
        at_place("a NaN", f64::NAN),
        at_place("an ∞", f64::INFINITY),
        at_place("a −∞", f64::NEG_INFINITY),
        input("largest numbers, ±", SHAPE, &|i| largest * SHARES[i % 7]),
        input("largest number, constant", SHAPE, &|_| largest),
        input("smallest numbers, ±", SHAPE, &|i| smallest * 4.0 * SHARES[i % 7]),
        input("rows of zeros", SHAPE, &|i| if zero_rows(i) { 0.0 } else { plain(i) }),
        stride,
        input("constant", SHAPE, &|_| 100.0),
    ]
}

impl Input {
    /// The values of the tensor.
    pub fn broadcast(&self) -> Vec<f64> {
        (0..self.count()).map(|i| self.values[i % self.values.len().max(1)]).collect()
    }

    /// The gradient of what lies in memory, from that of each value.
    pub fn gather(&self, dx: Vec<f64>) -> Vec<f64> {
        let mut sums = vec![0.0; self.values.len()];
        dx.into_iter().enumerate().for_each(|(i, dx)| sums[i % self.values.len()] += dx);
        sums
    }

    fn count(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn dy(&self) -> Vec<f64> {
        (0..self.count()).map(|i| ((i * 53 + 7) % 101) as f64 / 32.0 - 1.5).collect()
    }

    /// γ and β.
    pub fn affine(&self) -> [Vec<f64>; 2] {
        let count = self.shape[if self.layer.is_last() { 2 } else { 1 }];
        let beta = (0..count).map(|i| (i % 3) as f64 * 0.25 - 0.25);
        [(0..count).map(|i| (i % 4) as f64 * 0.25 + 0.5).collect(), beta.collect()]
    }

    /// The running mean and variance at first.
    pub fn running(&self) -> [Vec<f64>; 2] {
        let channel = |c: usize| (c % 3) as f64 * 0.25;
        let channels = || 0..self.shape[1];
        [channels().map(channel).collect(), channels().map(|c| channel(c) + 4.0).collect()]
    }
}

/// The largest and the smallest number of a type.
pub fn range(dtype: DType) -> [f64; 2] {
    match dtype {
        DType::F16 => [65504.0, 2.0_f64.powi(-24)],
        DType::BF16 => [(2.0 - 2.0_f64.powi(-7)) * 2.0_f64.powi(127), 2.0_f64.powi(-133)],
        DType::F32 => [f32::MAX.into(), 2.0_f64.powi(-149)],
        _ => [f64::MAX, f64::from_bits(1)],
    }
}
