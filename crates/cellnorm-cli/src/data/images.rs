//! Images: IDX files from a folder, or the subset in the program.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use flate2::read::MultiGzDecoder;

use super::idx::{self, CLASSES, SIDE};
use super::{Batch, DataError, Dataset, Samples};
use crate::input::InputError;

const PIXELS: usize = SIDE * SIDE;

/// The name of the embedded subset in results and reports.
const EMBEDDED: &str = "Fashion-MNIST, balanced subset";

pub struct Images {
    /// Pixels from 0 to 1, image after image.
    pixels: Vec<f32>,
    /// One class an image.
    labels: Vec<u8>,
}

impl Samples for Images {
    /// `[N, 1, 28, 28]`.
    type Input = Tensor<4>;

    const NOUN: &'static str = "images";
    const CLASSES: usize = CLASSES;
    const CHANNELS: usize = 1;

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn values(&mut self) -> &mut [f32] {
        &mut self.pixels
    }

    /// In the order of `indices`.
    fn batch(&self, indices: &[usize], device: &Device) -> Batch<Tensor<4>> {
        let mut pixels = Vec::with_capacity(indices.len() * PIXELS);
        for &i in indices {
            pixels.extend_from_slice(&self.pixels[i * PIXELS..(i + 1) * PIXELS]);
        }
        let labels: Vec<i64> = indices.iter().map(|&i| self.labels[i].into()).collect();
        let n = indices.len();
        Batch {
            x: Tensor::from_data(TensorData::new(pixels, [n, 1, SIDE, SIDE]), device),
            labels: Tensor::from_data(TensorData::new(labels, [n]), device),
        }
    }
}

impl Dataset<Images> {
    /// The IDX files in `folder`, or the embedded subset when there is none.
    pub fn load(folder: Option<&Path>) -> Result<Self, DataError> {
        let read = |name: &'static str| match folder {
            None => Ok((name.into(), embedded(name).to_vec())),
            Some(folder) => find(folder, name),
        };
        let train = split(["train-images-idx3-ubyte", "train-labels-idx1-ubyte"], read)?;
        let test = split(["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"], read)?;
        let name = folder.map_or(EMBEDDED.to_owned(), |folder| folder.display().to_string());
        Ok(Self::new(name, None, train, test))
    }
}

/// The file of that name in the subset that comes with the program (see `data/README.md`).
fn embedded(name: &'static str) -> &'static [u8] {
    match name {
        "train-images-idx3-ubyte" => include_bytes!("../../data/train-images-idx3-ubyte.gz"),
        "train-labels-idx1-ubyte" => include_bytes!("../../data/train-labels-idx1-ubyte.gz"),
        "t10k-images-idx3-ubyte" => include_bytes!("../../data/t10k-images-idx3-ubyte.gz"),
        _ => include_bytes!("../../data/t10k-labels-idx1-ubyte.gz"),
    }
}

/// Reads the images and labels of one part of a dataset.
fn split(
    [images_name, labels_name]: [&'static str; 2],
    read: impl Fn(&'static str) -> Result<(PathBuf, Vec<u8>), DataError>,
) -> Result<Images, DataError> {
    let (images_path, bytes) = read(images_name)?;
    let pixels = decode(bytes, &images_path, idx::images)?;
    let (labels_path, bytes) = read(labels_name)?;
    let labels = decode(bytes, &labels_path, idx::labels)?;
    if pixels.len() / PIXELS != labels.len() {
        return Err(DataError::Unpaired {
            images: pixels.len() / PIXELS,
            images_path,
            labels: labels.len(),
            labels_path,
        });
    }
    Ok(Images { pixels, labels })
}

fn decode<T>(
    bytes: Vec<u8>,
    path: &Path,
    parse: impl Fn(&[u8]) -> Result<T, idx::IdxError>,
) -> Result<T, DataError> {
    let bytes = unpack(bytes).map_err(InputError::read(path))?;
    parse(&bytes).map_err(|problem| DataError::Idx { path: path.to_owned(), problem })
}

/// More than any dataset of this kind; a gzip file can announce a thousand times its size.
const MOST_BYTES: u64 = 1 << 30;

/// Unpacks what begins like a gzip file, whatever its name ends in.
fn unpack(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(bytes.as_slice()).take(MOST_BYTES + 1).read_to_end(&mut unpacked)?;
    if unpacked.len() as u64 > MOST_BYTES {
        return Err(io::Error::other(format!("it unpacks to more than {} MiB", MOST_BYTES >> 20)));
    }
    Ok(unpacked)
}

/// Finds a file under one of the spellings it is distributed with.
fn find(folder: &Path, name: &'static str) -> Result<(PathBuf, Vec<u8>), DataError> {
    let dotted = name.replacen("-idx", ".idx", 1);
    for spelling in [name, &dotted] {
        for suffix in ["", ".gz"] {
            let path = folder.join(format!("{spelling}{suffix}"));
            if path.exists() {
                let bytes = fs::read(&path).map_err(InputError::read(&path))?;
                return Ok((path, bytes));
            }
        }
    }
    Err(DataError::Missing { folder: folder.to_owned(), name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_subset_is_balanced() {
        let data = Dataset::load(None).unwrap();
        for (split, per_class) in [(&data.train, 400), (&data.test, 100)] {
            let mut counts = [0; 10];
            for &label in &split.labels {
                counts[usize::from(label)] += 1;
            }
            assert_eq!(counts, [per_class; 10]);
            assert_eq!(split.pixels.len(), 10 * per_class * PIXELS);
            let (low, high) = split
                .pixels
                .iter()
                .fold((f32::MAX, f32::MIN), |(low, high), &x| (low.min(x), high.max(x)));
            assert_eq!((low, high), (0.0, 1.0));
        }
    }

    #[test]
    fn a_batch_holds_the_named_images_in_order() {
        let split = Images {
            pixels: (0..3 * PIXELS).map(|i| (i / PIXELS) as f32).collect(),
            labels: vec![7, 8, 9],
        };
        let batch = split.batch(&[2, 0], &Device::flex());
        assert_eq!(batch.labels.try_into_vec_as::<i64>().unwrap(), [9, 7]);
        let x = batch.x.try_into_vec_as::<f32>().unwrap();
        assert_eq!(x.len(), 2 * PIXELS);
        assert!(x[..PIXELS].iter().all(|&pixel| pixel == 2.0));
        assert!(x[PIXELS..].iter().all(|&pixel| pixel == 0.0));
    }
}
