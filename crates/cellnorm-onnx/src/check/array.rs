//! Inputs and outputs of models, and random inputs.

use std::iter;

use crate::proto::{Float, Model, product};

/// A tensor, whatever its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its shape.
    pub shape: Vec<usize>,
    /// ONNX's number of the type of its elements.
    pub element: i32,
    /// Its numbers.
    pub numbers: Vec<f64>,
}

/// The inputs of a model by name.
pub type Feed = Vec<(String, Array)>;

/// Lengths for axes that a model leaves open: the first, and all others. Multiples of 32, since
/// many networks halve their images five times.
const OPEN: [(usize, usize); 2] = [(1, 64), (2, 96)];

/// The most numbers of an input.
const MOST: usize = 1 << 28;

/// Random inputs for a model: normal numbers, of two shapes if it leaves lengths open.
///
/// # Errors
/// If the model does not say what it reads, or reads something other than numbers.
pub fn random_feeds(model: &Model<'_>, seed: u64) -> Result<Vec<Feed>, String> {
    let inputs = || model.graph.values.iter().filter(|value| value.input_only());
    let is_open = inputs().any(|input| input.shape.iter().flatten().any(|length| length.is_none()));
    let mut random = Random(seed);
    let mut feed = |(first, others): (usize, usize)| -> Result<Feed, String> {
        inputs()
            .map(|input| {
                let shape = input.shape.as_ref().ok_or_else(|| {
                    format!("the model does not say the shape of {:?}", input.name)
                })?;
                let lengths = shape.iter().zip(iter::once(first).chain(iter::repeat(others)));
                let shape: Vec<usize> =
                    lengths.map(|(length, open)| length.unwrap_or(open)).collect();
                let count = product(shape.iter().copied()).filter(|count| *count <= MOST);
                let count = count.ok_or_else(|| {
                    format!("the input {:?} of shape {shape:?} is too large", input.name)
                })?;
                let element = input.element;
                let numbers = match (Float::from_onnx(element), element) {
                    (Some(float), _) => (0..count).map(|_| float.round(random.normal())).collect(),
                    // integers are lengths, places or words: 0 and 1 are valid in most models
                    (None, 2..=9 | 12 | 13) => (0..count).map(|place| (place % 2) as f64).collect(),
                    _ => return Err(format!("the input {:?} is no tensor of numbers", input.name)),
                };
                Ok((input.name.to_string(), Array { shape, element, numbers }))
            })
            .collect()
    };
    OPEN.into_iter().take(if is_open { 2 } else { 1 }).map(&mut feed).collect()
}

/// Random numbers: SplitMix64 (G. Steele et al., 2014).
pub struct Random(pub u64);

impl Random {
    /// A normal number: the sum of twelve uniform ones less 6.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// A number between 0 and 1.
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ bits >> 31) as f64 / u64::MAX as f64
    }
}
