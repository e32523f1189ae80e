//! The IDX format: a big-endian magic number, the sizes, then one byte a value.

use thiserror::Error;

use crate::format::counted;

/// Width and height of an image in pixels.
pub const SIDE: usize = 28;

pub const CLASSES: usize = 10;

const IMAGES_MAGIC: u32 = 0x803;
const LABELS_MAGIC: u32 = 0x801;

/// Why some bytes are not the IDX file they should be.
#[derive(Debug, Error, PartialEq)]
pub enum IdxError {
    #[error("it holds {}, fewer than the {header} of its header", counted(*found, "byte"))]
    Header { found: usize, header: usize },
    #[error("it starts with {found:#010x} instead of {expected:#010x}")]
    Magic { found: u32, expected: u32 },
    #[error("its header announces {}, but {found} follow", counted(*announced, "value"))]
    Size { announced: u64, found: u64 },
    #[error("its images have {rows} × {columns} pixels instead of {SIDE} × {SIDE}")]
    Pixels { rows: u32, columns: u32 },
    /// A label that names no class; `number` counts from 1.
    #[error("its label number {number} is {label}")]
    Label { number: usize, label: u8 },
    #[error("it is empty")]
    Empty,
}

impl IdxError {
    pub fn help(&self) -> &'static str {
        match self {
            Self::Header { .. } | Self::Size { .. } => {
                "the file is cut off or damaged: fetch it again"
            }
            Self::Magic { .. } => {
                "images start with 0x00000803 and labels with 0x00000801: check that the file has \
                 the right name"
            }
            Self::Pixels { .. } => "use a dataset with the shape of MNIST: grey, 28 × 28 pixels",
            Self::Label { .. } => "labels must be between 0 and 9: use a dataset of 10 classes",
            Self::Empty => "at least one image is needed",
        }
    }
}

/// The pixels of a file of images, scaled to 0 to 1.
pub fn images(bytes: &[u8]) -> Result<Vec<f32>, IdxError> {
    let ([count, rows, columns], values) = parse::<3>(bytes, IMAGES_MAGIC)?;
    if (rows as usize, columns as usize) != (SIDE, SIDE) {
        return Err(IdxError::Pixels { rows, columns });
    }
    if count == 0 {
        return Err(IdxError::Empty);
    }
    Ok(values.iter().map(|&pixel| f32::from(pixel) / 255.0).collect())
}

/// The classes of a file of labels.
pub fn labels(bytes: &[u8]) -> Result<Vec<u8>, IdxError> {
    let ([count], values) = parse::<1>(bytes, LABELS_MAGIC)?;
    if count == 0 {
        return Err(IdxError::Empty);
    }
    match values.iter().position(|&label| usize::from(label) >= CLASSES) {
        Some(index) => Err(IdxError::Label { number: index + 1, label: values[index] }),
        None => Ok(values.to_vec()),
    }
}

/// The sizes and the values of an IDX file of bytes with `D` dimensions.
fn parse<const D: usize>(bytes: &[u8], expected: u32) -> Result<([u32; D], &[u8]), IdxError> {
    let words: Vec<u32> =
        bytes.as_chunks::<4>().0.iter().take(1 + D).map(|word| u32::from_be_bytes(*word)).collect();
    if let Some(&found) = words.first()
        && found != expected
    {
        return Err(IdxError::Magic { found, expected });
    }
    let header = 4 * (1 + D);
    let (Some(values), Some(Ok(sizes))) =
        (bytes.get(header..), words.get(1..).map(<[u32; D]>::try_from))
    else {
        return Err(IdxError::Header { found: bytes.len(), header });
    };
    let announced = sizes.iter().fold(1u64, |product, &size| product.saturating_mul(size.into()));
    let found = values.len() as u64;
    if announced != found {
        return Err(IdxError::Size { announced, found });
    }
    Ok((sizes, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idx(words: &[u32], values: &[u8]) -> Vec<u8> {
        let header = words.iter().flat_map(|word| word.to_be_bytes());
        header.chain(values.iter().copied()).collect()
    }

    #[test]
    fn pixels_are_scaled_and_labels_kept() {
        let mut pixels = vec![0; 784];
        pixels[1] = 255;
        pixels[2] = 51;
        let read = images(&idx(&[0x803, 1, 28, 28], &pixels)).unwrap();
        assert_eq!(read.len(), 784);
        assert_eq!(read[..4], [0.0, 1.0, 0.2, 0.0]);
        assert_eq!(labels(&idx(&[0x801, 3], &[9, 0, 4])).unwrap(), [9, 0, 4]);
    }

    #[test]
    fn a_cut_header_is_named() {
        let whole = idx(&[0x803, 1, 28, 28], &[]);
        for found in [0, 3, 4, 15] {
            let error = images(&whole[..found]).unwrap_err();
            assert_eq!(error, IdxError::Header { found, header: 16 });
        }
    }

    #[test]
    fn every_fault_is_named_with_its_place_and_numbers() {
        for (words, values, message) in [
            (
                &[0x801, 1, 28, 28][..],
                &[0; 784][..],
                "it starts with 0x00000801 instead of 0x00000803",
            ),
            (&[0x803, 2, 28, 28], &[0; 784], "its header announces 1,568 values, but 784 follow"),
            (&[0x803, 1, 2, 3], &[0; 6], "its images have 2 × 3 pixels instead of 28 × 28"),
        ] {
            assert_eq!(images(&idx(words, values)).unwrap_err().to_string(), message);
        }
        let message = |bytes: &[u8]| labels(bytes).unwrap_err().to_string();
        assert_eq!(message(&[0, 0, 8]), "it holds 3 bytes, fewer than the 8 of its header");
        assert_eq!(message(&idx(&[0x801, 3], &[9, 10, 11])), "its label number 2 is 10");
    }

    #[test]
    fn sizes_that_disagree_are_refused_without_overflow() {
        let error = labels(&idx(&[0x801, 1], &[1, 2])).unwrap_err();
        assert_eq!(error, IdxError::Size { announced: 1, found: 2 });
        let most = u32::MAX;
        let error = images(&idx(&[0x803, most, most, most], &[])).unwrap_err();
        assert_eq!(error, IdxError::Size { announced: u64::MAX, found: 0 });
    }

    #[test]
    fn nothing_is_not_enough() {
        assert_eq!(images(&idx(&[0x803, 0, 28, 28], &[])), Err(IdxError::Empty));
        assert_eq!(labels(&idx(&[0x801, 0], &[])), Err(IdxError::Empty));
    }
}
