//! A few samples as pictures, as they are and normalized.

use std::io::Cursor;

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

use crate::apply::Normalization;
use crate::files::Listing;
use crate::settings::Settings;
use crate::source::{Block, open};

/// A sample as two PNG files.
pub struct Picture {
    /// Its file.
    pub name: String,
    /// As it is.
    pub before: Vec<u8>,
    /// Normalized: from −3 (black) to 3 (white) deviations from the mean.
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
        let Ok(source) = open(file, settings) else { continue };
        let Some(part) = source.parts().first().cloned() else { continue };
        let wanted =
            if listing.files.len() == 1 { count } else { count.div_ceil(listing.files.len()) };
        let mut from_here = 0;
        // refusing a block ends the reading; whatever went wrong has been told already
        let _ = source.read(&part, &mut |_, block| {
            for sample in (0..).map_while(|sample| block.sample(sample)) {
                if from_here == wanted || all.len() == count {
                    return Err("enough".into());
                }
                all.extend(picture(&file.name, &sample, settings, normalization));
                from_here += 1;
            }
            Ok(())
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
    let (height, width, channels, first) = match *shape {
        [height, width] => (height, width, 1, false),
        [height, width, channels @ (1 | 3)] => (height, width, channels, false),
        [channels @ (1 | 3), height, width] => (height, width, channels, true),
        _ => return None,
    };
    let byte = |value: f64| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    let pixels = height * width;
    let place = |pixel: usize, channel: usize| {
        if first { channel * pixels + pixel } else { pixel * channels + channel }
    };
    let bytes =
        (0..pixels).flat_map(|pixel| (0..channels).map(move |channel| place(pixel, channel)));
    let bytes: Vec<u8> = bytes.map(|place| byte(values[place])).collect();
    let mut file = Cursor::new(Vec::new());
    let colour = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    PngEncoder::new(&mut file).write_image(&bytes, width as u32, height as u32, colour).ok()?;
    Some(file.into_inner())
}
