//! Resizing and cropping as torchvision does with images of Pillow: a triangle as wide as the
//! pixels that become one.
//!
//! Along each axis a new value is Σ w(x)·value(x) / Σ w(x) with w(x) = max(0, 1 − |x + ½ − centre|
//! / support), the columns first, then the rows, and the other way round where an image more than
//! twice as high as wide shrinks (Pillow 13.0.0). For bytes the weights are integers of 22 bits
//! after the point and each axis is rounded, as in Pillow's `Resample.c`: the result is the same to
//! the last bit.

use super::{Numbers, image::Pixels};

/// The image whose shorter side has this length; the longer one is rounded down.
pub fn resize(pixels: Pixels, side: u32) -> Result<Pixels, String> {
    let [height, width] = pixels.size;
    let (short, long) = (height.min(width), height.max(width));
    if short == 0 {
        return Err("it has no pixels".into());
    }
    let side = side as usize;
    if short == side {
        return Ok(pixels);
    }
    let too_large = || format!("it would be too large with a shorter side of {side}");
    let long = side.checked_mul(long).ok_or_else(too_large)? / short;
    let size = if height <= width { [side, long] } else { [long, side] };
    size[0].checked_mul(size[1]).filter(|pixels| *pixels <= MOST_PIXELS).ok_or_else(too_large)?;
    let channels = pixels.channels;
    let pixels = if pixels.has_alpha { premultiply(pixels) } else { pixels };
    let old = [height, width];
    let numbers = match &pixels.numbers {
        Numbers::U8(all) => both_axes(all, old, size, channels, weighted_bytes).into(),
        Numbers::U16(all) => {
            both_axes(all, old, size, channels, weighted_mean(|mean| mean.round() as u16)).into()
        }
        Numbers::F32(all) => {
            both_axes(all, old, size, channels, weighted_mean(|mean| mean as f32)).into()
        }
        Numbers::F64(all) => both_axes(all, old, size, channels, weighted_mean(|mean| mean)).into(),
    };
    let pixels = Pixels { size, numbers, ..pixels };
    Ok(if pixels.has_alpha { divide_alpha(pixels) } else { pixels })
}

/// Bytes times their transparency / 255, rounded as in Pillow's `Convert.c`: the colour of
/// invisible pixels must not shine through.
fn premultiply(pixels: Pixels) -> Pixels {
    each_colour(pixels, |colour, alpha| {
        let product = u32::from(colour) * u32::from(alpha) + 128;
        (((product >> 8) + product) >> 8) as u8
    })
}

/// The inverse of [`premultiply`].
fn divide_alpha(pixels: Pixels) -> Pixels {
    each_colour(pixels, |colour, alpha| match alpha {
        0 | 255 => colour,
        alpha => (u32::from(colour) * 255 / u32::from(alpha)).min(255) as u8,
    })
}

/// Replaces each colour by `map` of the colour and its pixel's transparency.
fn each_colour(mut pixels: Pixels, map: impl Fn(u8, u8) -> u8) -> Pixels {
    if let Numbers::U8(all) = &mut pixels.numbers {
        for pixel in all.chunks_exact_mut(pixels.channels) {
            if let Some((alpha, colours)) = pixel.split_last_mut() {
                colours.iter_mut().for_each(|colour| *colour = map(*colour, *alpha));
            }
        }
    }
    pixels
}

/// The most pixels of a resized image.
const MOST_PIXELS: usize = 1 << 28;

/// The first of the values that make a new one, and their weights.
type Weights = (usize, Vec<f64>);

/// The weights of each new place along an axis: a triangle around it.
fn triangles(from: usize, to: usize) -> Vec<Weights> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let triangle = |place: usize| {
        let centre = (place as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let weight = |x: usize| (1.0 - ((x as f64 - centre + 0.5) / support).abs()).max(0.0);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        (first, weights.into_iter().map(|weight| weight / sum).collect())
    };
    (0..to).map(triangle).collect()
}

/// Resizes columns, then rows; rows, then columns, of a tall image that shrinks.
fn both_axes<T: Copy + Default>(
    all: &[T],
    [height, width]: [usize; 2],
    [new_height, new_width]: [usize; 2],
    channels: usize,
    mean: impl Fn(&[f64], &mut dyn Iterator<Item = T>) -> T,
) -> Vec<T> {
    let rows_first = height > 2 * width && new_height < height;
    let along = |all: &[T], outer: usize, from: usize, to: usize, inner: usize| {
        let mut new = Vec::with_capacity(outer * to * inner);
        let triangles = triangles(from, to);
        for line in all.chunks_exact((from * inner).max(1)).take(outer) {
            for (first, weights) in &triangles {
                for place in 0..inner {
                    let values = line[first * inner + place..].iter().step_by(inner).copied();
                    new.push(mean(weights, &mut values.take(weights.len())));
                }
            }
        }
        new
    };
    let columns = |all: &[T], height: usize| match width == new_width {
        true => all.to_vec(),
        false => along(all, height, width, new_width, channels),
    };
    let rows = |all: &[T], width: usize| match height == new_height {
        true => all.to_vec(),
        false => along(all, 1, height, new_height, width * channels),
    };
    if rows_first {
        columns(&rows(all, width), new_height)
    } else {
        rows(&columns(all, height), new_width)
    }
}

/// The weighted mean of values, rounded by `round`.
fn weighted_mean<T: Into<f64>>(
    round: impl Fn(f64) -> T,
) -> impl Fn(&[f64], &mut dyn Iterator<Item = T>) -> T {
    move |weights, values| {
        round(weights.iter().zip(values).map(|(weight, value)| weight * value.into()).sum())
    }
}

/// Bits after the point of an integer weight.
const BITS: u32 = 22;

/// The weighted mean of bytes.
fn weighted_bytes(weights: &[f64], values: &mut dyn Iterator<Item = u8>) -> u8 {
    let whole = |weight: f64| (weight * f64::from(1_u32 << BITS) + 0.5) as i64;
    let sum: i64 =
        weights.iter().zip(values).map(|(weight, value)| whole(*weight) * i64::from(value)).sum();
    ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
}

/// The square of this side in the middle; an odd pixel is split as Python rounds, a half to the
/// even one.
pub fn crop(pixels: Pixels, side: usize) -> Result<Pixels, String> {
    let [height, width] = pixels.size;
    if height < side || width < side {
        return Err(format!(
            "it has {height} × {width} pixels, too few to cut out {side} × {side}; --resize comes \
             first"
        ));
    }
    let half = |rest: usize| (rest as f64 / 2.0).round_ties_even() as usize;
    let (top, left) = (half(height - side), half(width - side));
    let starts = (top..top + side).map(|row| (row * width + left) * pixels.channels);
    let numbers = pixels.numbers.select(starts.map(|start| start..start + side * pixels.channels));
    Ok(Pixels { size: [side, side], numbers, ..pixels })
}
