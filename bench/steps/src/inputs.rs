//! The batches, the same in both frameworks.

use crate::network::{CLASSES, convnext, resnet18, transformer, unet};

/// Colours of an image.
pub const COLORS: usize = 3;

pub struct Images {
    pub shape: [usize; 4],
    /// Uniform in −√3..√3: mean 0, variance 1.
    pub values: Vec<f32>,
}

/// Images and their classes.
pub fn resnet18() -> (Images, Vec<u32>) {
    (images(resnet18::BATCH, resnet18::SIDE, COLORS), classes(resnet18::BATCH))
}

/// Images and their classes.
pub fn convnext() -> (Images, Vec<u32>) {
    (images(convnext::BATCH, convnext::SIDE, COLORS), classes(convnext::BATCH))
}

/// Sequences of symbols and their classes.
pub fn transformer() -> (Vec<u32>, Vec<u32>) {
    let mut random = Random::new(2);
    let symbol = |_| (random.next() * transformer::SYMBOLS as f64) as u32;
    (
        (0..transformer::BATCH * transformer::LENGTH).map(symbol).collect(),
        classes(transformer::BATCH),
    )
}

/// Images and what is to be made of them, one colour.
pub fn unet() -> (Images, Images) {
    (images(unet::BATCH, unet::SIDE, COLORS), images(unet::BATCH, unet::SIDE, 1))
}

fn images(batch: usize, side: usize, colors: usize) -> Images {
    let (shape, mut random) = ([batch, colors, side, side], Random::new(1));
    let value = |_| (12_f64.sqrt() * (random.next() - 0.5)) as f32;
    Images { shape, values: (0..shape.iter().product()).map(value).collect() }
}

fn classes(batch: usize) -> Vec<u32> {
    (0..batch).map(|sample| (sample % CLASSES) as u32).collect()
}

/// Xorshift: uniform numbers in 0..1.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(0x9E37_79B9_7F4A_7C15 * seed)
    }

    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
