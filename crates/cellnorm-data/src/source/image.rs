//! An image is one sample: height, width, colours.

use std::fs;
use std::io::Cursor;
use std::ops::Range;
use std::path::PathBuf;

use image::{DynamicImage, ImageFormat, ImageReader};

use super::resize::{crop, resize};
use super::{Block, Give, Numbers, Source};
use crate::error::text;
use crate::files::File;
use crate::settings::{Alpha, Colour, Settings};

/// An image file.
pub struct Image {
    path: PathBuf,
    settings: Settings,
}

impl Image {
    /// The image of a file, which is not opened yet.
    pub fn new(file: &File, settings: &Settings) -> Self {
        Self { path: file.path.clone(), settings: settings.clone() }
    }
}

impl Source for Image {
    fn parts(&self) -> Vec<Range<u64>> {
        vec![Range { start: 0, end: 1 }]
    }

    fn read(&self, _: &Range<u64>, give: &mut Give<'_>) -> Result<(), String> {
        let file = fs::read(&self.path).map_err(text)?;
        give(0, &decode(&file, &self.settings)?)
    }

    fn samples(&self) -> Option<u64> {
        Some(1)
    }
}

/// The image in some bytes, prepared as the settings ask.
pub fn decode(bytes: &[u8], settings: &Settings) -> Result<Block, String> {
    // the content says the format, not the name
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(text)?;
    if reader.format() == Some(ImageFormat::Jpeg) && !jpeg_ends(bytes) {
        return Err("it cannot be decoded: the file is cut off".into());
    }
    let image = reader.decode().map_err(|error| format!("it cannot be decoded: {error}"))?;
    Pixels::new(image)?.prepare(settings)
}

/// Whether a JPEG has its end, ITU-T T.81, B.1: the decoder fills missing pixels with grey and
/// reports no error.
fn jpeg_ends(bytes: &[u8]) -> bool {
    const START: u8 = 0xd8;
    const END: u8 = 0xd9;
    // nearly always it is also the end of the file
    if bytes.ends_with(&[0xff, END]) {
        return true;
    }
    let mut rest = bytes;
    // segments between markers say their length; the data after a scan's header do not, and in them
    // 0xff is followed by 0 or by the number of a restart
    let is_marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff | 0xd0..=0xd7);
    while let Some(place) = rest.windows(2).position(is_marker) {
        let (marker, after) = (rest[place + 1], &rest[place + 2..]);
        rest = match (marker, after) {
            (END, _) => return true,
            (START | 0x01, _) => after,
            (_, [high, low, ..]) => {
                after.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default()
            }
            _ => return false,
        };
    }
    false
}

/// Pixels with their colours side by side.
pub struct Pixels {
    /// Height and width.
    pub size: [usize; 2],
    /// Numbers of a pixel, its transparency last.
    pub channels: usize,
    /// Whether the last of them is transparency.
    pub has_alpha: bool,
    /// The numbers, row by row.
    pub numbers: Numbers,
}

impl Pixels {
    fn new(image: DynamicImage) -> Result<Self, String> {
        let size = [image.height() as usize, image.width() as usize];
        let (channels, has_alpha) =
            (usize::from(image.color().channel_count()), image.color().has_alpha());
        let numbers = match image {
            DynamicImage::ImageLuma8(image) => image.into_raw().into(),
            DynamicImage::ImageLumaA8(image) => image.into_raw().into(),
            DynamicImage::ImageRgb8(image) => image.into_raw().into(),
            DynamicImage::ImageRgba8(image) => image.into_raw().into(),
            DynamicImage::ImageLuma16(image) => image.into_raw().into(),
            DynamicImage::ImageLumaA16(image) => image.into_raw().into(),
            DynamicImage::ImageRgb16(image) => image.into_raw().into(),
            DynamicImage::ImageRgba16(image) => image.into_raw().into(),
            DynamicImage::ImageRgb32F(image) => image.into_raw().into(),
            DynamicImage::ImageRgba32F(image) => image.into_raw().into(),
            other => return Err(format!("it has pixels of type {:?}", other.color())),
        };
        Ok(Self { size, channels, has_alpha, numbers })
    }

    /// The image after the steps that the settings ask for: colours, resizing, cropping,
    /// transparency.
    fn prepare(self, settings: &Settings) -> Result<Block, String> {
        let mut pixels = self.recolour(settings.colour);
        if pixels.has_alpha && settings.alpha == Alpha::Ignore {
            let colours = pixels.channels - 1;
            let numbers = drop_alpha(&pixels.numbers, pixels.channels);
            pixels = Self { channels: colours, has_alpha: false, numbers, ..pixels };
        }
        if let Some(side) = settings.resize {
            pixels = resize(pixels, side)?;
        }
        if let Some(side) = settings.crop {
            pixels = crop(pixels, side as usize)?;
        }
        let Self { size: [height, width], channels, has_alpha, numbers } = pixels;
        let colours = channels - usize::from(has_alpha);
        let (channels, numbers, valid) = match settings.alpha {
            Alpha::Channel if !has_alpha => (channels + 1, add_alpha(&numbers, channels), None),
            Alpha::Mask if has_alpha => {
                let visible = numbers
                    .to_f64()
                    .chunks_exact(channels)
                    .flat_map(|pixel| std::iter::repeat_n(pixel[colours] != 0.0, colours))
                    .collect();
                (colours, drop_alpha(&numbers, channels), Some(visible))
            }
            _ => (channels, numbers, None),
        };
        Ok(Block { shape: vec![height, width, channels], channel_axis: Some(2), numbers, valid })
    }

    /// The image in grey or in colour.
    fn recolour(self, colour: Colour) -> Self {
        let colours = self.channels - usize::from(self.has_alpha);
        let wanted = match colour {
            Colour::First => colours,
            Colour::Rgb => 3,
            Colour::Grey => 1,
        };
        if wanted == colours {
            return self;
        }
        let channels = wanted + usize::from(self.has_alpha);
        let counts = (self.channels, colours);
        let numbers = match &self.numbers {
            Numbers::U8(all) => recolour(all, counts, |rgb| luma(rgb.map(u32::from)) as u8).into(),
            Numbers::U16(all) => {
                recolour(all, counts, |rgb| luma(rgb.map(u32::from)) as u16).into()
            }
            Numbers::F32(all) => {
                recolour(all, counts, |[r, g, b]| 0.299 * r + 0.587 * g + 0.114 * b).into()
            }
            Numbers::F64(_) => self.numbers,
        };
        Self { channels, numbers, ..self }
    }
}

/// The luma of ITU-R BT.601 in fixed point, as Pillow rounds it.
fn luma([r, g, b]: [u32; 3]) -> u32 {
    ((u64::from(r) * 19_595 + u64::from(g) * 38_470 + u64::from(b) * 7_471 + 0x8000) >> 16) as u32
}

/// Pixels with one colour instead of three, or three instead of one; transparency stays.
fn recolour<T: Copy>(
    all: &[T],
    (channels, colours): (usize, usize),
    grey: impl Fn([T; 3]) -> T,
) -> Vec<T> {
    let pixels = all.chunks_exact(channels);
    let recoloured = |pixel: &[T]| -> Vec<T> {
        let colour = match pixel[..colours] {
            [r, g, b] => vec![grey([r, g, b])],
            _ => vec![pixel[0]; 3],
        };
        [colour, pixel[colours..].to_vec()].concat()
    };
    pixels.flat_map(recoloured).collect()
}

/// Pixels without the last of their numbers.
fn drop_alpha(numbers: &Numbers, channels: usize) -> Numbers {
    let pixels = (0..numbers.len() / channels).map(|pixel| pixel * channels);
    numbers.select(pixels.map(|start| start..start + channels - 1))
}

/// Pixels that are fully opaque.
fn add_alpha(numbers: &Numbers, channels: usize) -> Numbers {
    fn add<T: Copy>(all: &[T], channels: usize, opaque: T) -> Vec<T> {
        let pixels = all.chunks_exact(channels);
        pixels.flat_map(|pixel| pixel.iter().copied().chain([opaque])).collect()
    }
    match numbers {
        Numbers::U8(all) => add(all, channels, u8::MAX).into(),
        Numbers::U16(all) => add(all, channels, u16::MAX).into(),
        Numbers::F32(all) => add(all, channels, 1.0).into(),
        Numbers::F64(all) => add(all, channels, 1.0).into(),
    }
}
