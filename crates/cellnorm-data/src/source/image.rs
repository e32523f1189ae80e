//! An image is a sample of its own: height, width, colours.

use std::fs;
use std::io::Cursor;
use std::ops::Range;
use std::path::PathBuf;

use image::{DynamicImage, ImageFormat, ImageReader};

use super::Source;
use super::numbers::{Block, Numbers};
use super::resize::{crop, resize};
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

    fn read(
        &self,
        _: &Range<u64>,
        give: &mut dyn FnMut(u64, &Block) -> Result<(), String>,
    ) -> Result<(), String> {
        let file = fs::read(&self.path).map_err(|error| error.to_string())?;
        give(0, &decode(&file, &self.settings)?)
    }

    fn samples(&self) -> Option<u64> {
        Some(1)
    }
}

/// The image that some bytes are.
pub fn decode(bytes: &[u8], settings: &Settings) -> Result<Block, String> {
    // the content says the format, not the name
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| error.to_string())?;
    if reader.format() == Some(ImageFormat::Jpeg) && !jpeg_ends(bytes) {
        return Err("it cannot be decoded: the file is cut off".into());
    }
    let image = reader.decode().map_err(|error| format!("it cannot be decoded: {error}"))?;
    Pixels::of(image)?.prepared(settings)
}

/// Whether a JPEG has its end, ITU-T T.81, B.1: the decoder makes grey of what is missing, and says
/// nothing.
fn jpeg_ends(bytes: &[u8]) -> bool {
    const START: u8 = 0xd8;
    const END: u8 = 0xd9;
    // nearly always it is the end of the file, too
    if bytes.ends_with(&[0xff, END]) {
        return true;
    }
    let mut rest = bytes;
    // between markers lie segments, which say their length, and after a scan's header its data, in
    // which 0xff is followed by 0 or by the number of a restart
    while let Some(at) = rest
        .windows(2)
        .position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff | 0xd0..=0xd7))
    {
        let (marker, behind) = (rest[at + 1], &rest[at + 2..]);
        rest = match (marker, behind) {
            (END, _) => return true,
            (START | 0x01, _) => behind,
            (_, [high, low, ..]) => {
                behind.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default()
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
    fn of(image: DynamicImage) -> Result<Self, String> {
        let size = [image.height() as usize, image.width() as usize];
        let (channels, has_alpha) =
            (usize::from(image.color().channel_count()), image.color().has_alpha());
        let numbers = match image {
            DynamicImage::ImageLuma8(image) => Numbers::U8(image.into_raw()),
            DynamicImage::ImageLumaA8(image) => Numbers::U8(image.into_raw()),
            DynamicImage::ImageRgb8(image) => Numbers::U8(image.into_raw()),
            DynamicImage::ImageRgba8(image) => Numbers::U8(image.into_raw()),
            DynamicImage::ImageLuma16(image) => Numbers::U16(image.into_raw()),
            DynamicImage::ImageLumaA16(image) => Numbers::U16(image.into_raw()),
            DynamicImage::ImageRgb16(image) => Numbers::U16(image.into_raw()),
            DynamicImage::ImageRgba16(image) => Numbers::U16(image.into_raw()),
            DynamicImage::ImageRgb32F(image) => Numbers::F32(image.into_raw()),
            DynamicImage::ImageRgba32F(image) => Numbers::F32(image.into_raw()),
            other => return Err(format!("it has pixels of type {:?}", other.color())),
        };
        Ok(Self { size, channels, has_alpha, numbers })
    }

    /// What the settings ask for: colours, resizing, cropping, transparency.
    fn prepared(self, settings: &Settings) -> Result<Block, String> {
        let mut pixels = self.coloured(settings.colour);
        if pixels.has_alpha && settings.alpha == Alpha::Ignore {
            let colours = pixels.channels - 1;
            let numbers = chosen(&pixels.numbers, pixels.channels, colours);
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
            Alpha::Channel if !has_alpha => (channels + 1, with_alpha(&numbers, channels), None),
            Alpha::Mask if has_alpha => {
                let seen =
                    opaque(&numbers, channels).flat_map(|seen| std::iter::repeat_n(seen, colours));
                (colours, chosen(&numbers, channels, colours), Some(seen.collect()))
            }
            _ => (channels, numbers, None),
        };
        Ok(Block { shape: vec![height, width, channels], channel_axis: Some(2), numbers, valid })
    }

    /// Grey or in colour.
    fn coloured(self, colour: Colour) -> Self {
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
        let numbers = match &self.numbers {
            Numbers::U8(all) => Numbers::U8(recolour(all, self.channels, colours, |rgb| {
                luma(rgb.map(u32::from)) as u8
            })),
            Numbers::U16(all) => Numbers::U16(recolour(all, self.channels, colours, |rgb| {
                luma(rgb.map(u32::from)) as u16
            })),
            Numbers::F32(all) => {
                Numbers::F32(recolour(all, self.channels, colours, |[r, g, b]| {
                    0.299 * r + 0.587 * g + 0.114 * b
                }))
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

/// Pixels of the other number of colours; what follows the colours stays.
fn recolour<T: Copy>(
    all: &[T],
    channels: usize,
    colours: usize,
    grey: impl Fn([T; 3]) -> T,
) -> Vec<T> {
    let pixels = all.chunks_exact(channels);
    let of = |pixel: &[T]| -> Vec<T> {
        let colour = match pixel[..colours] {
            [r, g, b] => vec![grey([r, g, b])],
            _ => vec![pixel[0]; 3],
        };
        [colour, pixel[colours..].to_vec()].concat()
    };
    pixels.flat_map(of).collect()
}

/// The first numbers of each pixel.
fn chosen(numbers: &Numbers, channels: usize, colours: usize) -> Numbers {
    fn of<T: Copy>(all: &[T], channels: usize, colours: usize) -> Vec<T> {
        all.chunks_exact(channels).flat_map(|pixel| &pixel[..colours]).copied().collect()
    }
    match numbers {
        Numbers::U8(all) => Numbers::U8(of(all, channels, colours)),
        Numbers::U16(all) => Numbers::U16(of(all, channels, colours)),
        Numbers::F32(all) => Numbers::F32(of(all, channels, colours)),
        Numbers::F64(all) => Numbers::F64(of(all, channels, colours)),
    }
}

/// Pixels that are fully opaque.
fn with_alpha(numbers: &Numbers, channels: usize) -> Numbers {
    fn of<T: Copy>(all: &[T], channels: usize, most: T) -> Vec<T> {
        all.chunks_exact(channels).flat_map(|pixel| pixel.iter().copied().chain([most])).collect()
    }
    match numbers {
        Numbers::U8(all) => Numbers::U8(of(all, channels, u8::MAX)),
        Numbers::U16(all) => Numbers::U16(of(all, channels, u16::MAX)),
        Numbers::F32(all) => Numbers::F32(of(all, channels, 1.0)),
        Numbers::F64(all) => Numbers::F64(of(all, channels, 1.0)),
    }
}

/// Whether each pixel can be seen.
fn opaque(numbers: &Numbers, channels: usize) -> impl Iterator<Item = bool> {
    let all = numbers.to_f64();
    (0..all.len() / channels).map(move |pixel| all[pixel * channels + channels - 1] != 0.0)
}
