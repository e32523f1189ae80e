//! Resizing and cropping as torchvision does with images of Pillow: a triangle as wide as the pixels that become one.

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::image::Pixels;
use super::numbers::Numbers;

/// The image whose shorter side has this length; the longer one is rounded down.
pub fn resize(pixels: Pixels, side: u32) -> Result<Pixels, String> {
    let [height, width] = pixels.size;
    let (short, long) = (height.min(width), height.max(width));
    if short == 0 {
        return Err("it has no pixels".into());
    }
    if short == side as usize {
        return Ok(pixels);
    }
    let long = u32::try_from(u64::from(side) * long as u64 / short as u64).map_err(|_| "it would be too large")?;
    let (new_height, new_width) = if height <= width { (side, long) } else { (long, side) };
    let unsuited = || "its pixels cannot be resized".to_owned();
    let (kind, bytes) = match (&pixels.numbers, pixels.channels) {
        (Numbers::U8(all), 1..=4) => {
            ([PixelType::U8, PixelType::U8x2, PixelType::U8x3, PixelType::U8x4][pixels.channels - 1], all.clone())
        }
        (Numbers::U16(all), 1..=4) => (
            [PixelType::U16, PixelType::U16x2, PixelType::U16x3, PixelType::U16x4][pixels.channels - 1],
            all.iter().flat_map(|value| value.to_ne_bytes()).collect(),
        ),
        (Numbers::F32(all), 1..=4) => (
            [PixelType::F32, PixelType::F32x2, PixelType::F32x3, PixelType::F32x4][pixels.channels - 1],
            all.iter().flat_map(|value| value.to_ne_bytes()).collect(),
        ),
        _ => return Err(unsuited()),
    };
    let from = Image::from_vec_u8(width as u32, height as u32, bytes, kind).map_err(|_| unsuited())?;
    let mut to = Image::new(new_width, new_height, kind);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    Resizer::new().resize(&from, &mut to, &options).map_err(|error| error.to_string())?;
    let bytes = to.into_vec();
    let numbers = match pixels.numbers {
        Numbers::U8(_) => Numbers::U8(bytes),
        Numbers::U16(_) => Numbers::U16(bytes.as_chunks().0.iter().map(|bytes| u16::from_ne_bytes(*bytes)).collect()),
        _ => Numbers::F32(bytes.as_chunks().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()),
    };
    Ok(Pixels { size: [new_height as usize, new_width as usize], numbers, ..pixels })
}

/// The square of this side in the middle; an odd pixel is split as Python rounds, a half to the even one.
pub fn crop(pixels: Pixels, side: usize) -> Result<Pixels, String> {
    let [height, width] = pixels.size;
    if height < side || width < side {
        return Err(format!(
            "it has {height} × {width} pixels, too few to cut out {side} × {side}; --resize comes first"
        ));
    }
    let half = |rest: usize| (rest as f64 / 2.0).round_ties_even() as usize;
    let (top, left) = (half(height - side), half(width - side));
    fn of<T: Copy>(all: &[T], row: usize, top: usize, left: usize, side: usize, channels: usize) -> Vec<T> {
        let rows = all.chunks_exact(row).skip(top).take(side);
        rows.flat_map(|row| &row[left * channels..(left + side) * channels]).copied().collect()
    }
    let (row, channels) = (width * pixels.channels, pixels.channels);
    let numbers = match &pixels.numbers {
        Numbers::U8(all) => Numbers::U8(of(all, row, top, left, side, channels)),
        Numbers::U16(all) => Numbers::U16(of(all, row, top, left, side, channels)),
        Numbers::F32(all) => Numbers::F32(of(all, row, top, left, side, channels)),
        Numbers::F64(all) => Numbers::F64(of(all, row, top, left, side, channels)),
    };
    Ok(Pixels { size: [side, side], numbers, ..pixels })
}
