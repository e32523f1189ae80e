//! Prints the bits of 1,000 random layers, a line for each: two versions of the crate that print
//! the same lines compute the same bits.
//!
//! ```sh
//! cd bench/bits && cargo run --release > bits-before.txt
//! ```
//!
//! A line has twelve columns with a space between two:
//! `index normalization type shape layout mask mode y dx gradients running infer`. The last five
//! are FNV-1a hashes of bits. Where a call fails, its column is the hash of the message. A `-`
//! says that there is nothing to hash. On stderr, the program counts the lines and the failures of
//! each normalization.
//!
//! Every line has a random generator of its own, and each parameter of a layer another one, by its
//! name. So no line depends on another line, and no value on the order in which a layer names its
//! parameters. The number of threads and `CELLNORM_MACHINE` do not change a line either: with
//! `CELLNORM_MACHINE=cores=1,l1=4K,l2=16K,l3=64K,l3_cores=1,huge_page=0`, the small tensors take
//! the paths of large ones, which are shared among threads and streamed. Compare lines of one
//! machine: powers and the products of matrices come from libraries that may differ elsewhere.
//!
//! The file has four parts: the generator and the hash, the random cases, the calls of the
//! layers, and the run of a case. Only the third part knows the layers' fields and methods.

use std::collections::BTreeMap;
use std::fmt;

use cellnorm::{Element, Error, kernels::Real};
use half::{bf16, f16};
use ndarray::{ArrayD, ArrayViewMutD, Axis, CowArray, IxDyn, Slice};

use layers::Layer;

const CASES: u64 = 1000;

fn main() {
    let mut counts = BTreeMap::new();
    for index in 0..CASES {
        let case = Case::draw(index);
        let outcome = case.run();
        println!("{index} {case} {outcome}");
        let (lines, failures) = counts.entry(case.name).or_insert((0, 0));
        *lines += 1;
        *failures += usize::from(outcome.failed);
    }
    let (mut all, mut failed) = (0, 0);
    for (name, (lines, failures)) in counts {
        eprintln!("{name}: {lines} lines, {failures} of them with a failure");
        (all, failed) = (all + lines, failed + failures);
    }
    eprintln!("all: {all} lines, {failed} of them with a failure");
}

// The generator and the hash.

/// Random numbers by SplitMix64. They use additions and multiplications alone, since logarithms
/// and cosines differ between systems.
struct Draw(u64);

impl Draw {
    /// The numbers that belong to this name in this case.
    fn new(index: u64, name: &str) -> Self {
        let mut hash = Hash::default();
        hash.bytes(&index.to_le_bytes());
        hash.bytes(name.as_bytes());
        Self(hash.0)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to below `end`.
    fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// From `first` to `last`, both included.
    fn between(&mut self, first: usize, last: usize) -> usize {
        first + self.below(last + 1 - first)
    }

    /// True in so many of 100 draws.
    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// Mean 0 and variance 1, nearly normal: the sum of four uniform numbers.
    fn bell(&mut self) -> f64 {
        let sum = self.unit() + self.unit() + self.unit() + self.unit();
        (sum - 2.0) * 1.732_050_807_568_877_2
    }

    /// The numbers below `count` in a random order.
    fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }

    /// At least `least` and at most `most` of the axes of a tensor, in a random order. Some count
    /// from the last.
    fn axes(&mut self, rank: usize, least: usize, most: usize) -> Vec<isize> {
        let count = self.between(least, most);
        let order = self.order(rank);
        order[..count].iter().map(|axis| self.signed(*axis, rank)).collect()
    }

    /// An axis as it is, or counted from the last.
    fn signed(&mut self, axis: usize, rank: usize) -> isize {
        axis as isize - if self.percent(50) { rank as isize } else { 0 }
    }
}

/// FNV-1a of 64 bits.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Of values in the order of their indices.
    fn of_values<'a, T: Number>(values: impl IntoIterator<Item = &'a T>) -> u64 {
        let mut hash = Self::default();
        values.into_iter().for_each(|value| value.hash(&mut hash));
        hash.0
    }

    /// Of named values, ordered by name; None where there are none.
    fn of_named(named: impl IntoIterator<Item = (&'static str, Vec<f64>)>) -> Option<u64> {
        let named: BTreeMap<_, _> = named.into_iter().collect();
        let mut hash = Self::default();
        for (name, values) in &named {
            hash.bytes(name.as_bytes());
            hash.bytes(&Self::of_values(values).to_le_bytes());
        }
        (!named.is_empty()).then_some(hash.0)
    }

    fn of_text(text: &str) -> u64 {
        let mut hash = Self::default();
        hash.bytes(text.as_bytes());
        hash.0
    }
}

/// An element of a tensor.
trait Number: Element {
    /// The nearest number of this type.
    fn of(value: f64) -> Self;

    /// The same number as f64.
    fn wide(self) -> f64 {
        self.widen().to_f64()
    }

    /// Hashes the bits. All NaN count as one, since the language does not say what bits they have.
    fn hash(&self, hash: &mut Hash);
}

macro_rules! number {
    ($type:ty, $of:expr) => {
        impl Number for $type {
            fn of(value: f64) -> Self {
                $of(value)
            }

            fn hash(&self, hash: &mut Hash) {
                let value = if self.is_nan() { <$type>::NAN } else { *self };
                hash.bytes(&value.to_bits().to_le_bytes());
            }
        }
    };
}
number!(f32, |value| value as f32);
number!(f64, |value| value);
// rounded once: `f16::from_f64` goes by way of f32 in builds that find the processor's instructions
number!(f16, f16::from_f64_const);
number!(bf16, bf16::from_f64);

// The random cases. They are plain numbers and words, and no type of the crate.

/// A setting by its name.
type Word = &'static str;

/// A layer, a tensor, and what to do with them.
struct Case {
    index: u64,
    name: Word,
    which: Which,
    options: Options,
    element: Word,
    shape: Vec<usize>,
    /// The axis of the channels; negative counts from the last.
    axis: isize,
    /// The channels that the layer is made for: in a few cases not as many as the tensor has.
    channels: usize,
    values: Word,
    layout: Layout,
    layout_of_dy: Layout,
    /// Whether dy, and x in inference, are handed over, so that a layer may write over them.
    owned: bool,
    mask: Mask,
    mode: Option<Mode>,
    /// Whether parameters and running averages are as they start; else they are random.
    fresh: bool,
    /// How often forward runs before backward.
    calls: usize,
}

/// The settings of one normalization.
#[derive(Debug)]
enum Which {
    BatchNorm,
    LayerNorm(Over),
    InstanceNorm,
    TrackedInstanceNorm,
    GroupNorm { groups: usize, per_group: bool },
    RmsNorm(Over),
    BatchInstanceNorm,
    SwitchableNorm,
    BatchRenorm { r_max: f64, d_max: f64, correction: Option<Word> },
    GhostBatchNorm { size: usize, interleaved: bool },
    StepBatchNorm { step_axis: isize, steps: usize, first: usize },
    AxesBatchNorm { axes: Vec<isize> },
    GraphNorm,
    AdaptiveNorm { groups: Option<usize> },
    FilterResponseNorm { learned_epsilon: bool },
    MeanVarianceNorm { axes: Vec<isize> },
    LpNorm { axes: Vec<isize>, p: f64, floor: Word },
    LocalResponseNorm { size: usize, alpha: f64, beta: f64, bias: f64, left: bool },
    Tlu { axes: Vec<isize>, affine: bool },
    WeightNorm { outputs: Option<isize> },
    WeightStandardization { outputs: isize },
    SpectralNorm { rows: isize, left_first: bool, rounds: [usize; 2], floor: Word, in_place: bool },
}

/// The axes of a layer or RMS normalization.
#[derive(Clone, Debug)]
enum Over {
    /// So many of the last axes.
    Last(usize),
    Axes(Vec<isize>),
    PerChannel,
}

/// The settings that most normalizations have; the others leave them alone.
struct Options {
    epsilon: f64,
    scale: bool,
    center: bool,
    one_value: Word,
    momentum: Word,
    variance: Word,
}

/// Whether forward takes the running statistics, whether it moves them, and whether backward gives
/// gradients of the parameters.
#[derive(Clone, Copy)]
struct Mode {
    running: bool,
    update: bool,
    train: bool,
}

/// Which values of x count.
enum Mask {
    None,
    Lengths { lengths: Vec<usize>, axis: isize },
    Values(ArrayD<bool>),
}

/// How a tensor lies in memory: first permuted, then with steps, then reversed.
#[derive(Clone, Default, PartialEq)]
struct Layout {
    /// The axes from the outermost to the innermost; none for row-major.
    order: Option<Vec<usize>>,
    reversed: Option<usize>,
    /// An axis of which memory holds more than the tensor, and the step along it.
    stepped: Option<(usize, isize)>,
}

/// The settings that all normalizations have.
#[derive(Clone, Copy, PartialEq)]
enum Family {
    /// Masks.
    Samples,
    /// Masks, modes, and running averages.
    Batch,
    /// Masks and modes.
    Rule,
    /// None of these, or running averages alone.
    Plain,
}

const NORMALIZATIONS: [(&str, Family); 22] = [
    ("BatchNorm", Family::Batch),
    ("LayerNorm", Family::Samples),
    ("GroupNorm", Family::Samples),
    ("RmsNorm", Family::Samples),
    ("InstanceNorm", Family::Samples),
    ("TrackedInstanceNorm", Family::Plain),
    ("BatchInstanceNorm", Family::Batch),
    ("SwitchableNorm", Family::Batch),
    ("BatchRenorm", Family::Batch),
    ("GhostBatchNorm", Family::Batch),
    ("StepBatchNorm", Family::Batch),
    ("AxesBatchNorm", Family::Batch),
    ("GraphNorm", Family::Rule),
    ("AdaptiveNorm", Family::Plain),
    ("FilterResponseNorm", Family::Rule),
    ("MeanVarianceNorm", Family::Rule),
    ("LpNorm", Family::Plain),
    ("LocalResponseNorm", Family::Plain),
    ("Tlu", Family::Plain),
    ("WeightNorm", Family::Rule),
    ("WeightStandardization", Family::Rule),
    ("SpectralNorm", Family::Plain),
];

/// So many of them, the first, are drawn more often: they have more settings.
const OFTEN: usize = 4;

const MOMENTA: [&str; 4] = ["step-0.1", "step-1", "keep-0.9", "cumulative"];

const FLOORS: [&str; 4] = ["max", "max-square", "add-square", "none"];

impl Case {
    fn draw(index: u64) -> Self {
        let draw = &mut Draw::new(index, "case");
        let often = draw.percent(15);
        let last = if often { OFTEN } else { NORMALIZATIONS.len() };
        let (name, family) = draw.pick(&NORMALIZATIONS[..last]);
        let shape = shape(draw, name);
        let rank = shape.len();
        let axis = match draw.below(10) {
            0 => draw.between(1, rank - 1),
            1..=5 => 1,
            _ => rank - 1,
        };
        let more = usize::from(draw.percent(2));
        let channels = shape[axis] + more;
        let which = Which::draw(draw, name, &shape, axis, channels);
        let element = match name {
            "SpectralNorm" => "f64",
            _ => draw.pick(&["f32", "f32", "f64", "f16", "bf16"]),
        };
        let options = Options::draw(draw, family);
        let layout = Layout::draw(draw, rank);
        let layout_of_dy = match draw.below(10) {
            0 => Layout::default(),
            1 => Layout::draw(draw, rank),
            _ => layout.clone(),
        };
        let (masks, modes) = match family {
            Family::Samples => (true, false),
            Family::Batch | Family::Rule => (true, true),
            Family::Plain => (false, false),
        };
        let mask = if masks { Mask::draw(draw, &shape) } else { Mask::None };
        let mode = modes.then(|| Mode::draw(draw));
        let values = values(draw, element);
        let axis = if axis == 1 { 1 } else { axis as isize - rank as isize };
        let [owned, fresh] = [30, 15].map(|percent| draw.percent(percent));
        let calls = draw.between(1, 2);
        Self {
            index,
            name,
            which,
            options,
            element,
            shape,
            axis,
            channels,
            values,
            layout,
            layout_of_dy,
            owned,
            mask,
            mode,
            fresh,
            calls,
        }
    }

    /// The mean and the size of the values of x.
    fn scale(&self) -> (f64, f64) {
        match self.values {
            "shifted" => (3.0, 1.0),
            "far" => (100.0, 1.0),
            "small" => (0.0, 1e-3),
            "wide" => (0.0, 30.0),
            "huge" => (1e33, 1e33),
            "constant" => (2.5, 0.0),
            _ => (0.0, 1.0),
        }
    }

    fn x<T: Number>(&self) -> ArrayD<T> {
        let draw = &mut Draw::new(self.index, "x");
        let (mean, size) = self.scale();
        let number = || T::of(mean + size * draw.bell());
        let mut x = ArrayD::from_shape_simple_fn(IxDyn(&self.shape), number);
        if self.values == "nan" {
            let at = draw.below(x.len());
            *x.iter_mut().nth(at).expect("an index below the length") = T::of(f64::NAN);
        }
        self.layout.arranged(&x)
    }

    fn dy<T: Number>(&self) -> ArrayD<T> {
        let draw = &mut Draw::new(self.index, "dy");
        let mut shape = self.shape.clone();
        shape[0] += usize::from(self.values == "longer-dy");
        let mut dy = ArrayD::from_shape_simple_fn(IxDyn(&shape), || T::of(draw.bell()));
        if self.values == "infinite-dy" {
            let at = draw.below(dy.len());
            *dy.iter_mut().nth(at).expect("an index below the length") = T::of(f64::INFINITY);
        }
        self.layout_of_dy.arranged(&dy)
    }

    /// Random values of a parameter or of a running average.
    fn fill(&self, name: &'static str, mut values: ArrayViewMutD<'_, f64>) {
        let draw = &mut Draw::new(self.index, name);
        let (mean, size) = self.scale();
        let size = if size == 0.0 { 1.0 } else { size };
        for value in &mut values {
            *value = match name {
                "gamma" | "g" => 1.0 + 0.5 * draw.bell(),
                "rho" => 1.4 * draw.unit() - 0.2,
                "mean_scale" => 0.5 + draw.bell(),
                "learned_epsilon" => 1e-4 * draw.bell(),
                "running_mean" | "correction_mean" => mean + 0.3 * size * draw.bell(),
                "running_var" | "correction_var" => size * size * (0.5 + draw.unit()),
                // what spectral normalization was made with
                "u" | "v" | "weight" => *value,
                _ => draw.bell(),
            };
        }
    }
}

impl fmt::Display for Case {
    /// The columns from the normalization to the mode.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { epsilon, scale, center, one_value, momentum, variance } = &self.options;
        let flag = |on: bool, name| if on { name } else { "" };
        let mut which = format!("{:?};channels:{}@{}", self.which, self.channels, self.axis);
        which += &format!(";{epsilon:e}{}{}", flag(*scale, ";gamma"), flag(*center, ";beta"));
        which += &format!(";one-value:{one_value};{momentum};{variance}");
        which += &format!(";{};calls:{}{}", self.values, self.calls, flag(self.fresh, ";fresh"));
        which.retain(|letter| letter != ' ');
        let mut layout = self.layout.to_string();
        if self.layout_of_dy != self.layout {
            layout += &format!("|dy:{}", self.layout_of_dy);
        }
        layout += flag(self.owned, "|owned");
        let mask = match &self.mask {
            Mask::None => "-".to_string(),
            Mask::Lengths { axis, .. } => format!("lengths@{axis}"),
            Mask::Values(valid) => format!("values-{}", joined(valid.shape())),
        };
        let mode = self.mode.map_or("-".to_string(), |Mode { running, update, train }| {
            let from = if running { "running" } else { "batch" };
            format!("{from}{}{}", flag(update, "+update"), flag(train, "+train"))
        });
        let shape = joined(&self.shape);
        write!(f, "{which} {} {shape} {layout} {mask} {mode}", self.element)
    }
}

fn joined(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// Mostly small tensors, some of up to 20,000 elements, and a few that several threads share.
fn shape(draw: &mut Draw, name: &str) -> Vec<usize> {
    // these take statistics of the positions alone, or need an axis of time
    let positions = ["InstanceNorm", "TrackedInstanceNorm", "GraphNorm", "StepBatchNorm"];
    let least = if positions.contains(&name) && draw.percent(95) { 3 } else { 2 };
    let rank = draw.between(least, 5);
    let mut shape: Vec<usize> = (0..rank)
        .map(|_| match draw.below(12) {
            0 => 1,
            1..=6 => draw.between(2, 7),
            7..=9 => draw.between(8, 40),
            10 => 16,
            _ => 32,
        })
        .collect();
    let (most, stretched) = match draw.below(100) {
        0..=1 => (300_000, true),
        2..=19 => (20_000, true),
        _ => (3_000, false),
    };
    while shape.iter().product::<usize>() > most {
        *shape.iter_mut().max().expect("at least two axes") /= 2;
    }
    if stretched {
        let axis = draw.below(rank);
        let others = shape.iter().product::<usize>() / shape[axis];
        shape[axis] = (most - draw.below(most / 4)).div_ceil(others);
    }
    shape
}

/// The kind of x and dy. In a few cases they hold a value that a layer refuses.
fn values(draw: &mut Draw, element: &str) -> Word {
    match draw.below(100) {
        0..=24 => "plain",
        25..=59 => "shifted",
        60..=69 => "far",
        70..=79 => "small",
        80..=89 => "wide",
        90..=92 if element != "f16" => "huge",
        93..=95 => "constant",
        96 => "nan",
        97 => "infinite-dy",
        98 => "longer-dy",
        _ => "plain",
    }
}

impl Which {
    /// For a tensor with this axis of channels.
    fn draw(draw: &mut Draw, name: &str, shape: &[usize], axis: usize, channels: usize) -> Self {
        let rank = shape.len();
        let divides = |of: &usize| channels.is_multiple_of(*of);
        let divisors: Vec<usize> = (1..=channels).filter(divides).collect();
        match name {
            "BatchNorm" => Self::BatchNorm,
            "LayerNorm" => Self::LayerNorm(Over::draw(draw, rank)),
            "InstanceNorm" => Self::InstanceNorm,
            "TrackedInstanceNorm" => Self::TrackedInstanceNorm,
            "GroupNorm" => {
                let (groups, per_group) = (draw.pick(&divisors), draw.percent(40));
                Self::GroupNorm { groups, per_group }
            }
            "RmsNorm" => Self::RmsNorm(Over::draw(draw, rank)),
            "BatchInstanceNorm" => Self::BatchInstanceNorm,
            "SwitchableNorm" => Self::SwitchableNorm,
            "BatchRenorm" => {
                let (r_max, d_max) = draw.pick(&[(1.0, 0.0), (1.5, 0.5), (3.0, 5.0)]);
                let correction = draw.percent(40).then(|| draw.pick(&MOMENTA));
                Self::BatchRenorm { r_max, d_max, correction }
            }
            "GhostBatchNorm" => {
                let (size, interleaved) = (draw.between(1, shape[0].max(2)), draw.percent(50));
                Self::GhostBatchNorm { size, interleaved }
            }
            "StepBatchNorm" => {
                let others: Vec<usize> = (0..rank).filter(|other| *other != axis).collect();
                let time = draw.pick(&others);
                let step_axis = draw.signed(time, rank);
                let steps = draw.between(1, shape[time] + 2);
                Self::StepBatchNorm { step_axis, steps, first: draw.pick(&[0, 0, 1, 3]) }
            }
            "AxesBatchNorm" => Self::AxesBatchNorm { axes: draw.axes(rank, 1, rank - 1) },
            "GraphNorm" => Self::GraphNorm,
            "AdaptiveNorm" => {
                let groups = draw.percent(60).then(|| draw.pick(&divisors));
                Self::AdaptiveNorm { groups }
            }
            "FilterResponseNorm" => Self::FilterResponseNorm { learned_epsilon: draw.percent(50) },
            "MeanVarianceNorm" => Self::MeanVarianceNorm { axes: draw.axes(rank, 1, rank) },
            "LpNorm" => {
                let axes = draw.axes(rank, 1, rank);
                let p = draw.pick(&[1.0, 1.5, 2.0, 3.0, f64::INFINITY]);
                Self::LpNorm { axes, p, floor: draw.pick(&FLOORS) }
            }
            "LocalResponseNorm" => {
                let (size, alpha) = (draw.between(1, 7), draw.pick(&[1e-4, 0.5, 3.0]));
                let (beta, bias) = (draw.pick(&[0.75, 0.5, 1.0, 0.7]), draw.pick(&[1.0, 2.0]));
                Self::LocalResponseNorm { size, alpha, beta, bias, left: draw.percent(50) }
            }
            "Tlu" => Self::Tlu { axes: draw.axes(rank, 1, rank), affine: draw.percent(50) },
            "WeightNorm" => {
                let axis = draw.between(0, rank - 1);
                Self::WeightNorm { outputs: draw.percent(80).then(|| draw.signed(axis, rank)) }
            }
            "WeightStandardization" => {
                let axis = draw.between(0, rank - 1);
                Self::WeightStandardization { outputs: draw.signed(axis, rank) }
            }
            "SpectralNorm" => {
                let axis = draw.between(0, rank - 1);
                let rows = draw.signed(axis, rank);
                let rounds = [draw.pick(&[0, 1, 15]), draw.between(1, 3)];
                let (left_first, in_place) = (draw.percent(50), draw.percent(40));
                Self::SpectralNorm { rows, left_first, rounds, floor: draw.pick(&FLOORS), in_place }
            }
            _ => unreachable!("{name} is no normalization"),
        }
    }
}

impl Over {
    fn draw(draw: &mut Draw, rank: usize) -> Self {
        match draw.below(3) {
            0 => Self::Last(draw.between(1, rank - 1)),
            1 => Self::Axes(draw.axes(rank, 1, rank)),
            _ => Self::PerChannel,
        }
    }
}

impl Options {
    fn draw(draw: &mut Draw, family: Family) -> Self {
        let mut one_value = draw.pick(&["error", "beta", "beta", "always-error", "running"]);
        if one_value == "running" && family != Family::Batch {
            one_value = "beta";
        }
        Self {
            epsilon: draw.pick(&[1e-5, 1e-5, 1e-3, 1e-8, 0.1]),
            scale: draw.percent(75),
            center: draw.percent(75),
            one_value,
            momentum: draw.pick(&MOMENTA),
            variance: draw.pick(&["unbiased", "biased", "legacy"]),
        }
    }
}

impl Mode {
    /// Each of the eight settings.
    fn draw(draw: &mut Draw) -> Self {
        let [running, update, train] = [35, 60, 75].map(|percent| draw.percent(percent));
        Self { running, update, train }
    }
}

impl Mask {
    fn draw(draw: &mut Draw, shape: &[usize]) -> Self {
        let rank = shape.len();
        match draw.below(10) {
            0..=1 => {
                let axis = draw.between(1, rank - 1);
                let lengths = (0..shape[0]).map(|_| draw.between(1, shape[axis])).collect();
                Self::Lengths { lengths, axis: draw.signed(axis, rank) }
            }
            2..=3 => {
                let along = shape.iter().map(|len| if draw.percent(70) { *len } else { 1 });
                let along = IxDyn(&along.collect::<Vec<_>>());
                let valid = draw.pick(&[50, 80, 95]);
                Self::Values(ArrayD::from_shape_simple_fn(along, || draw.percent(valid)))
            }
            _ => Self::None,
        }
    }
}

impl Layout {
    fn draw(draw: &mut Draw, rank: usize) -> Self {
        let [permuted, reversed, stepped] = match draw.below(20) {
            0..=7 => [false, false, false],
            8..=11 => [true, false, false],
            12..=13 => [false, true, false],
            14..=15 => [true, true, false],
            16..=17 => [false, false, true],
            _ => [true, false, true],
        };
        let order = permuted.then(|| match draw.percent(50) {
            // the channels innermost
            true => [0].into_iter().chain(2..rank).chain([1]).collect(),
            false => draw.order(rank),
        });
        let reversed = reversed.then(|| draw.below(rank));
        let stepped = stepped.then(|| (draw.below(rank), draw.pick(&[2, 3, -2])));
        Self { order, reversed, stepped }
    }

    /// The same values in this layout. The gaps between them hold NaN, so that a hash shows when
    /// one is read.
    fn arranged<T: Number>(&self, values: &ArrayD<T>) -> ArrayD<T> {
        let order = self.order.clone().unwrap_or((0..values.ndim()).collect());
        let mut shape = values.shape().to_vec();
        if let Some((axis, step)) = self.stepped {
            shape[axis] *= step.unsigned_abs();
        }
        let in_memory: Vec<usize> = order.iter().map(|axis| shape[*axis]).collect();
        let mut inverse = vec![0; order.len()];
        order.iter().enumerate().for_each(|(at, axis)| inverse[*axis] = at);
        let nan = ArrayD::from_elem(IxDyn(&in_memory), T::of(f64::NAN));
        let mut arranged = nan.permuted_axes(inverse);
        if let Some((axis, step)) = self.stepped {
            arranged.slice_axis_inplace(Axis(axis), Slice::new(0, None, step));
        }
        if let Some(axis) = self.reversed {
            arranged.invert_axis(Axis(axis));
        }
        arranged.assign(values);
        arranged
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("standard");
        }
        let mut parts = vec![];
        if let Some(order) = &self.order {
            let order: Vec<String> = order.iter().map(usize::to_string).collect();
            parts.push(format!("order-{}", order.concat()));
        }
        parts.extend(self.reversed.map(|axis| format!("reversed-{axis}")));
        parts.extend(self.stepped.map(|(axis, step)| format!("step-{step}@{axis}")));
        f.write_str(&parts.join("+"))
    }
}

// The calls of the layers: all that a change of their fields and methods touches.

mod layers {
    use cellnorm::momentum::StatisticsFrom;
    use cellnorm::norms::{
        AdaptiveNorm, AdaptiveStatistics, BatchInstanceNormConfig, BatchRenormConfig,
        FilterResponseNormConfig, Floor, GhostBatchNormConfig, GraphNormConfig, LocalResponseNorm,
        LocalResponseNormConfig, LpNorm, LpNormConfig, MeanVarianceNormConfig, StepBatchNormConfig,
        SwitchableNormConfig, Tlu, TluConfig, Window,
    };
    use cellnorm::rule::{Norm, Rule, Running, Saved};
    use cellnorm::semantics::GroupParameters;
    use cellnorm::weights::{Iteration, SpectralNorm, SpectralNormConfig, SpectralWeight};
    use cellnorm::weights::{WeightNormConfig, WeightStandardizationConfig};
    use cellnorm::{BatchNormConfig, Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig};
    use cellnorm::{Mask, Mode, Momentum, OneValue, RmsNormConfig, RunningVariance};
    use ndarray::{Array2, ArrayD, ArrayViewD, ArrayViewMutD, CowArray, IxDyn};

    use super::{Case, Number, Outcome, Over, Which};

    pub type View<'a, T> = ArrayViewD<'a, T>;
    /// A tensor that is viewed, or handed over.
    pub type Given<'a, T> = CowArray<'a, T, IxDyn>;
    pub type Masked<'a> = Option<&'a Mask>;
    type Named = Vec<(&'static str, ArrayD<f64>)>;
    /// A tensor, and what comes with it.
    pub type Output<T, With> = Result<(ArrayD<T>, With), Error>;
    pub type Gradients<T> = Output<T, Named>;
    /// Sees the values of a parameter or of a running average under its name.
    pub type Visit<'a> = dyn FnMut(&'static str, ArrayViewMutD<f64>) + 'a;

    /// The calls of a case on a layer. The methods have other names than those of the layers, so
    /// that no call is ambiguous.
    pub trait Layer {
        /// The part of the forward pass that the gradients need.
        type Saved;

        /// Visits all parameters.
        fn parameters(&mut self, _visit: &mut Visit) {}

        /// Visits all that the forward pass moves.
        fn averages(&mut self, _visit: &mut Visit) {}

        fn set_mode(&mut self, _mode: Mode) {}

        /// y. A layer that knows no masks is never given one.
        fn output<T: Number>(&mut self, x: View<T>, mask: Masked) -> Output<T, Self::Saved>;

        /// dx, with the gradients of the parameters.
        fn dx<T: Number>(&self, of: &Self::Saved, x: View<T>, dy: Given<T>) -> Gradients<T>;

        /// y in inference: under the mask, but over all values where inference knows no masks.
        fn inference<T: Number>(&self, x: Given<T>, mask: Masked) -> Result<ArrayD<T>, Error>;
    }

    /// Whether a mode, and a mask in inference, are left out: the first version of this program was
    /// written for layers of single samples that had neither.
    fn is_single_sample<R: Rule>() -> bool {
        ["layer", "instance", "group", "RMS"].iter().any(|word| R::NAME.starts_with(word))
    }

    impl<R: Rule> Layer for Norm<R> {
        type Saved = Saved;

        fn parameters(&mut self, visit: &mut Visit) {
            for name in self.names().collect::<Vec<_>>() {
                visit_some(visit, name, self.parameter_mut(name));
            }
        }

        fn averages(&mut self, visit: &mut Visit) {
            if let Some(running) = &mut self.running {
                visit_running(visit, ["running_mean", "running_var"], running);
            }
            if let Some(correction) = &mut self.correction {
                let running = &mut correction.averages;
                visit_running(visit, ["correction_mean", "correction_var"], running);
            }
        }

        fn set_mode(&mut self, mode: Mode) {
            if !is_single_sample::<R>() {
                self.mode = mode;
            }
        }

        fn output<T: Number>(&mut self, x: View<T>, mask: Masked) -> Output<T, Self::Saved> {
            match mask {
                Some(mask) => self.forward_masked(x, mask),
                None => self.forward(x),
            }
        }

        fn dx<T: Number>(&self, of: &Self::Saved, x: View<T>, dy: Given<T>) -> Gradients<T> {
            let of = self.backward(of, x, dy)?;
            let gradient = |name| Some((name, of.parameter(name)?.clone()));
            let gradients = self.names().filter_map(gradient).collect();
            Ok((of.dx, gradients))
        }

        fn inference<T: Number>(&self, x: Given<T>, mask: Masked) -> Result<ArrayD<T>, Error> {
            match mask.filter(|_| !is_single_sample::<R>()) {
                Some(mask) => self.infer_masked(x, mask),
                None => self.infer(x),
            }
        }
    }

    /// An adaptive normalization with the parameters that it is given at each call.
    struct Adapted {
        layer: AdaptiveNorm,
        gamma: Array2<f64>,
        beta: Array2<f64>,
    }

    impl Layer for Adapted {
        type Saved = Saved;

        fn parameters(&mut self, visit: &mut Visit) {
            visit("gamma", self.gamma.view_mut().into_dyn());
            visit("beta", self.beta.view_mut().into_dyn());
        }

        fn averages(&mut self, visit: &mut Visit) {
            if let Some(running) = self.layer.running() {
                visit_running(visit, ["running_mean", "running_var"], running);
            }
        }

        fn output<T: Number>(&mut self, x: View<T>, _mask: Masked) -> Output<T, Self::Saved> {
            self.layer.forward(x, self.gamma.view(), self.beta.view())
        }

        fn dx<T: Number>(&self, of: &Self::Saved, x: View<T>, dy: Given<T>) -> Gradients<T> {
            let of = self.layer.backward(of, x, self.gamma.view(), dy)?;
            let gradients = ["gamma", "beta"].map(|name| (name, of.parameter(name).cloned()));
            Ok((of.dx, some(gradients)))
        }

        fn inference<T: Number>(&self, x: Given<T>, _mask: Masked) -> Result<ArrayD<T>, Error> {
            self.layer.infer(x, self.gamma.view(), self.beta.view())
        }
    }

    /// Normalizations of lines, which have no parameters.
    macro_rules! lines {
        ($layer:ty) => {
            impl Layer for $layer {
                type Saved = ();

                fn output<T: Number>(
                    &mut self,
                    x: View<T>,
                    _mask: Masked,
                ) -> Output<T, Self::Saved> {
                    Ok((self.forward(x)?, ()))
                }

                fn dx<T: Number>(&self, _of: &(), x: View<T>, dy: Given<T>) -> Gradients<T> {
                    Ok((self.backward(x, dy.view())?, vec![]))
                }

                fn inference<T: Number>(
                    &self,
                    x: Given<T>,
                    _mask: Masked,
                ) -> Result<ArrayD<T>, Error> {
                    self.forward(x.view())
                }
            }
        };
    }
    lines!(LpNorm);
    lines!(LocalResponseNorm);

    impl Layer for Tlu {
        type Saved = ();

        fn parameters(&mut self, visit: &mut Visit) {
            visit("tau", self.tau.view_mut());
            visit_some(visit, "alpha", self.alpha.as_mut());
        }

        fn output<T: Number>(&mut self, x: View<T>, _mask: Masked) -> Output<T, Self::Saved> {
            Ok((self.forward(x)?, ()))
        }

        fn dx<T: Number>(&self, _of: &(), x: View<T>, dy: Given<T>) -> Gradients<T> {
            let of = self.backward(x, dy.view())?;
            Ok((of.dx, some([("tau", Some(of.dtau)), ("alpha", of.dalpha)])))
        }

        fn inference<T: Number>(&self, x: Given<T>, _mask: Masked) -> Result<ArrayD<T>, Error> {
            self.forward(x.view())
        }
    }

    /// It keeps its weight, which was x when the layer was made. Its cases are f64.
    impl Layer for SpectralNorm {
        type Saved = SpectralWeight;

        fn averages(&mut self, visit: &mut Visit) {
            visit("u", self.u.view_mut().into_dyn());
            visit("v", self.v.view_mut().into_dyn());
            visit("weight", self.weight.view_mut());
        }

        fn output<T: Number>(&mut self, _x: View<T>, _mask: Masked) -> Output<T, Self::Saved> {
            let normalized = self.forward()?;
            Ok((normalized.weight.mapv(T::of), normalized))
        }

        fn dx<T: Number>(&self, of: &Self::Saved, _x: View<T>, dy: Given<T>) -> Gradients<T> {
            let dweight = of.backward(dy.mapv(T::wide).view())?;
            Ok((dweight.mapv(T::of), vec![]))
        }

        fn inference<T: Number>(&self, _x: Given<T>, _mask: Masked) -> Result<ArrayD<T>, Error> {
            Ok(self.infer()?.weight.mapv(T::of))
        }
    }

    fn visit_some(visit: &mut Visit, name: &'static str, values: Option<&mut ArrayD<f64>>) {
        if let Some(values) = values {
            visit(name, values.view_mut());
        }
    }

    fn visit_running(visit: &mut Visit, names: [&'static str; 2], running: &mut Running) {
        visit(names[0], running.mean.view_mut());
        visit(names[1], running.variance.view_mut());
    }

    /// The arrays that are there.
    fn some<const N: usize>(named: [(&'static str, Option<ArrayD<f64>>); N]) -> Named {
        named.into_iter().filter_map(|(name, values)| Some((name, values?))).collect()
    }

    pub fn mode(of: &super::Mode) -> Mode {
        let statistics = if of.running { StatisticsFrom::Running } else { StatisticsFrom::Batch };
        Mode { statistics, update: of.update, train_parameters: of.train }
    }

    pub fn mask(of: &super::Mask) -> Option<Mask> {
        match of {
            super::Mask::None => None,
            super::Mask::Lengths { lengths, axis } => Some(Mask::lengths(lengths, *axis)),
            super::Mask::Values(valid) => Some(Mask::new(valid.view())),
        }
    }

    fn one_value(name: &str) -> OneValue {
        match name {
            "beta" => OneValue::Beta,
            "always-error" => OneValue::AlwaysError,
            "running" => OneValue::UseRunning,
            _ => OneValue::Error,
        }
    }

    fn momentum(name: &str) -> Momentum {
        match name {
            "step-0.1" => Momentum::Step(0.1),
            "step-1" => Momentum::Step(1.0),
            "keep-0.9" => Momentum::Keep(0.9),
            _ => Momentum::Cumulative,
        }
    }

    fn variance(name: &str) -> RunningVariance {
        match name {
            "unbiased" => RunningVariance::Unbiased,
            "biased" => RunningVariance::Biased,
            _ => RunningVariance::KerasLegacy,
        }
    }

    fn floor(name: &str) -> Floor {
        match name {
            "max" => Floor::Max(1e-12),
            "max-square" => Floor::MaxSquare(1e-24),
            "add-square" => Floor::AddSquare(1e-12),
            _ => Floor::None,
        }
    }

    /// Makes the layer of a case, and runs the case with it. The tensors are x and dy.
    pub fn run<T: Number>(case: &Case, tensors: [&ArrayD<T>; 2]) -> Outcome {
        let Case { shape, axis, channels, options, .. } = case;
        let (axis, channels, rank) = (*axis, *channels, shape.len());
        let (momentum_of, variance_of) = (momentum(options.momentum), variance(options.variance));
        // the lengths of axes in the order of the tensor
        let lengths = |axes: &[isize]| -> Vec<usize> {
            let index = |axis: &isize| axis.rem_euclid(rank as isize) as usize;
            let mut indices: Vec<usize> = axes.iter().map(index).collect();
            indices.sort_unstable();
            indices.into_iter().map(|at| shape[at]).collect()
        };
        // runs the case with a layer that may not have been made
        macro_rules! run {
            ($made:expr) => {
                super::outcome(case, $made, tensors)
            };
        }
        // the options of all configs that have any
        macro_rules! common {
            ($config:expr) => {{
                let config = $config.epsilon(options.epsilon).scale(options.scale);
                config.center(options.center).one_value(one_value(options.one_value))
            }};
        }
        // the same, of configs that have running averages, too
        macro_rules! tracking {
            ($config:expr) => {{
                let config = common!($config).momentum(momentum_of);
                config.running_variance(variance_of).init()
            }};
        }
        // layer and RMS normalization
        macro_rules! features {
            ($config:ident, $over:expr) => {{
                let config = match $over {
                    Over::Last(count) => $config::new(&shape[rank - count..]),
                    Over::Axes(axes) => $config::over(axes, &lengths(axes)),
                    Over::PerChannel => $config::per_channel(channels).channel_axis(axis),
                };
                run!(common!(config).init())
            }};
        }
        match &case.which {
            Which::BatchNorm => {
                let config = BatchNormConfig::new(channels).channel_axis(axis);
                run!(tracking!(config))
            }
            Which::LayerNorm(over) => features!(LayerNormConfig, over),
            Which::RmsNorm(over) => features!(RmsNormConfig, over),
            Which::InstanceNorm => {
                let config = InstanceNormConfig::new(channels).channel_axis(axis);
                run!(common!(config).init())
            }
            Which::TrackedInstanceNorm => {
                let config = InstanceNormConfig::new(channels).channel_axis(axis);
                run!(common!(config).init().and_then(|norm| {
                    let mut layer = norm.track(momentum_of)?;
                    layer.running_variance = variance_of;
                    Ok(layer)
                }))
            }
            Which::GroupNorm { groups, per_group } => {
                let per = match per_group {
                    true => GroupParameters::PerGroup,
                    false => GroupParameters::PerChannel,
                };
                let config = GroupNormConfig::new(*groups, channels).channel_axis(axis);
                run!(common!(config.parameters(per)).init())
            }
            Which::BatchInstanceNorm => {
                let config = BatchInstanceNormConfig::new(channels).channel_axis(axis);
                run!(tracking!(config))
            }
            Which::SwitchableNorm => {
                let config = SwitchableNormConfig::new(channels).channel_axis(axis);
                run!(tracking!(config))
            }
            Which::BatchRenorm { r_max, d_max, correction } => {
                let config = BatchRenormConfig::new(channels).bounds(*r_max, *d_max);
                let config = match correction {
                    Some(name) => config.correction_momentum(momentum(name)),
                    None => config,
                };
                run!(tracking!(config.channel_axis(axis)))
            }
            Which::GhostBatchNorm { size, interleaved } => {
                let config = GhostBatchNormConfig::new(channels, *size).interleaved(*interleaved);
                run!(tracking!(config.channel_axis(axis)))
            }
            Which::StepBatchNorm { step_axis, steps, first } => {
                let config = StepBatchNormConfig::new(channels, *steps).step_axis(*step_axis);
                run!(tracking!(config.channel_axis(axis)).map(|mut layer| {
                    layer.rule_mut().first = *first;
                    layer
                }))
            }
            Which::AxesBatchNorm { axes } => {
                let config = BatchNormConfig::over(axes, &lengths(axes));
                run!(tracking!(config))
            }
            Which::GraphNorm => {
                let config = GraphNormConfig::new(channels).channel_axis(axis);
                run!(tracking!(config))
            }
            Which::AdaptiveNorm { groups } => {
                let statistics =
                    groups.map_or(AdaptiveStatistics::Batch, AdaptiveStatistics::Groups);
                run!(AdaptiveNorm::new(channels, statistics).map(|layer| {
                    let layer = layer.channel_axis(axis).epsilon(options.epsilon);
                    let layer = layer.running_averages(momentum_of, variance_of);
                    let of_each = (shape[0], channels);
                    Adapted { layer, gamma: Array2::ones(of_each), beta: Array2::zeros(of_each) }
                }))
            }
            Which::FilterResponseNorm { learned_epsilon } => {
                let config = FilterResponseNormConfig::new(channels).channel_axis(axis);
                run!(tracking!(config.learned_epsilon(*learned_epsilon)))
            }
            Which::MeanVarianceNorm { axes } => {
                let config = MeanVarianceNormConfig::new(axes);
                run!(tracking!(config))
            }
            Which::LpNorm { axes, p, floor: name } => {
                let config = LpNormConfig::new(axes).p(*p).floor(floor(name));
                run!(config.init())
            }
            Which::LocalResponseNorm { size, alpha, beta, bias, left } => {
                let window = if *left { Window::Left } else { Window::Right };
                let config = LocalResponseNormConfig::new(*size).window(window).alpha(*alpha);
                run!(config.beta(*beta).bias(*bias).channel_axis(axis).init())
            }
            Which::Tlu { axes, affine } => {
                let config = TluConfig::over(axes, &lengths(axes)).affine(*affine);
                run!(config.init())
            }
            Which::WeightNorm { outputs } => {
                let made = WeightNormConfig::of_weight(tensors[0].view(), *outputs);
                run!(made)
            }
            Which::WeightStandardization { outputs } => {
                let config = WeightStandardizationConfig::new(lengths(&[*outputs])[0]);
                run!(tracking!(config.output_axis(*outputs)))
            }
            Which::SpectralNorm { rows, left_first, rounds, floor: name, in_place } => {
                let iteration = match left_first {
                    true => Iteration::LeftFirst,
                    false => Iteration::RightFirst,
                };
                let config = SpectralNormConfig::default().axis(*rows).iteration(iteration);
                let config = config.warm_up(rounds[0]).iterations(rounds[1]).in_place(*in_place);
                let config = config.floor(floor(name)).seed(case.index);
                run!(config.init(tensors[0].mapv(T::wide)))
            }
        }
    }
}

// The run of a case.

/// The hashes of what a layer gives; None where there is nothing.
#[derive(Default)]
struct Outcome {
    y: Option<u64>,
    dx: Option<u64>,
    gradients: Option<u64>,
    running: Option<u64>,
    infer: Option<u64>,
    /// Whether a call failed.
    failed: bool,
}

impl Case {
    fn run(&self) -> Outcome {
        match self.element {
            "f32" => layers::run::<f32>(self, [&self.x(), &self.dy()]),
            "f64" => layers::run::<f64>(self, [&self.x(), &self.dy()]),
            "f16" => layers::run::<f16>(self, [&self.x(), &self.dy()]),
            _ => layers::run::<bf16>(self, [&self.x(), &self.dy()]),
        }
    }

    /// A tensor for a call that may write over it.
    fn given<'a, T: Number>(&self, tensor: &'a ArrayD<T>) -> layers::Given<'a, T> {
        if self.owned { CowArray::from(tensor.clone()) } else { CowArray::from(tensor.view()) }
    }
}

/// Runs forward, backward and inference of a layer, if it could be made.
fn outcome<L, T>(case: &Case, made: Result<L, Error>, tensors: [&ArrayD<T>; 2]) -> Outcome
where
    L: Layer,
    T: Number,
{
    let [x, dy] = tensors;
    let mut outcome = Outcome::default();
    let mut layer = match made {
        Ok(layer) => layer,
        Err(error) => {
            outcome.y = outcome.failure(&error);
            return outcome;
        }
    };
    if !case.fresh {
        layer.parameters(&mut |name, values| case.fill(name, values));
        layer.averages(&mut |name, values| case.fill(name, values));
    }
    if let Some(mode) = &case.mode {
        layer.set_mode(layers::mode(mode));
    }
    let mask = layers::mask(&case.mask);
    let mut forward = layer.output(x.view(), mask.as_ref());
    for _ in 1..case.calls {
        forward = layer.output(x.view(), mask.as_ref());
    }
    match forward {
        Ok((y, saved)) => {
            outcome.y = Some(Hash::of_values(&y));
            match layer.dx(&saved, x.view(), case.given(dy)) {
                Ok((dx, gradients)) => {
                    outcome.dx = Some(Hash::of_values(&dx));
                    let flat = |(name, of): (_, ArrayD<f64>)| (name, of.into_iter().collect());
                    outcome.gradients = Hash::of_named(gradients.into_iter().map(flat));
                }
                Err(error) => outcome.dx = outcome.failure(&error),
            }
        }
        Err(error) => outcome.y = outcome.failure(&error),
    }
    let mut averages = vec![];
    layer.averages(&mut |name, values| averages.push((name, values.iter().copied().collect())));
    outcome.running = Hash::of_named(averages);
    outcome.infer = match layer.inference(case.given(x), mask.as_ref()) {
        Ok(y) => Some(Hash::of_values(&y)),
        Err(error) => outcome.failure(&error),
    };
    outcome
}

impl Outcome {
    /// The hash of what an error says.
    fn failure(&mut self, error: &Error) -> Option<u64> {
        self.failed = true;
        Some(Hash::of_text(&error.to_string()))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = [self.y, self.dx, self.gradients, self.running, self.infer];
        let text = |bits: Option<u64>| bits.map_or("-".to_string(), |bits| format!("{bits:016x}"));
        f.write_str(&columns.map(text).join(" "))
    }
}
