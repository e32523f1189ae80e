//! A few samples as pictures, before and after normalization.

use std::io::Cursor;

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

use crate::source::{Block, peek};
use crate::{apply::Normalization, files::Listing, settings::Settings};

/// A sample as two PNG files.
pub struct Picture {
    /// The name of its file.
    pub name: String,
    /// The sample.
    pub before: Vec<u8>,
    /// The normalized sample, from −3 (black) to 3 (white) deviations from the mean.
    pub after: Vec<u8>,
}

/// Pictures of at most `count` samples, spread over the files; empty if the samples are no
/// pictures.
pub fn pictures(
    listing: &Listing,
    settings: &Settings,
    normalization: &Normalization,
    count: usize,
) -> Vec<Picture> {
    let mut all = Vec::new();
    let step = listing.files.len().div_ceil(count.max(1)).max(1);
    for file in listing.files.iter().step_by(step) {
        let wanted =
            if listing.files.len() == 1 { count } else { count.div_ceil(listing.files.len()) };
        let mut taken = 0;
        peek(file, settings, |block| {
            for sample in (0..).map_while(|sample| block.sample(sample)) {
                if taken == wanted || all.len() == count {
                    return false;
                }
                all.extend(picture(&file.name, &sample, settings, normalization));
                taken += 1;
            }
            true
        });
    }
    all
}

fn picture(
    name: &str,
    sample: &Block,
    settings: &Settings,
    normalization: &Normalization,
) -> Option<Picture> {
    let full = sample.numbers.full_scale();
    let values: Vec<f64> = sample.numbers.to_f64().iter().map(|value| value / full).collect();
    let after = normalization.apply(sample, settings).ok()?;
    let after: Vec<f64> = after.iter().map(|value| f64::from(*value) / 6.0 + 0.5).collect();
    let png = |values: &[f64]| png(values, &sample.shape);
    Some(Picture { name: name.to_owned(), before: png(&values)?, after: png(&after)? })
}

/// A PNG file of numbers between 0 and 1, for shapes that are pictures.
fn png(values: &[f64], shape: &[usize]) -> Option<Vec<u8>> {
    // the distances of neighbouring pixels, and of a pixel's neighbouring channels
    let (height, width, channels, steps) = match *shape {
        [height, width] => (height, width, 1, [1, 1]),
        [height, width, channels @ (1 | 3)] => (height, width, channels, [channels, 1]),
        [channels @ (1 | 3), height, width] => (height, width, channels, [1, height * width]),
        _ => return None,
    };
    let byte = |place: usize| (values[place].clamp(0.0, 1.0) * 255.0).round() as u8;
    let places = (0..height * width)
        .flat_map(|pixel| (0..channels).map(move |channel| pixel * steps[0] + channel * steps[1]));
    let bytes: Vec<u8> = places.map(byte).collect();
    let mut file = Cursor::new(Vec::new());
    let colour = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    PngEncoder::new(&mut file).write_image(&bytes, width as u32, height as u32, colour).ok()?;
    Some(file.into_inner())
}
