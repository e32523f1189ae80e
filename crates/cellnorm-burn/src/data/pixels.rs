//! y = (v/full_scale − mean)/deviation for bytes v: 256 floats a channel say it all, so one pass
//! over memory looks them up.

#[cfg(feature = "dataset")]
use burn::data::dataset::transform::Mapper;
use burn::tensor::{Device, Tensor, TensorData};
use cellnorm::Error;
use cellnorm::shape::axis_index;

use super::index_of_channels;

/// Normalization of bytes: y = (v/full_scale − mean)/deviation for each channel, in f32, with the
/// channels moved to another axis.
///
/// It is made by [`Normalize::pixels`](super::Normalize::pixels) or
/// [`NormalizeConfig::pixels`](super::NormalizeConfig::pixels). Each value is computed in f64 and
/// rounded once.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    tables: Vec<[f32; 256]>,
    from: isize,
    to: isize,
}

impl Pixels {
    /// The numbers are sound: as many deviations as means, all above 0.
    pub(super) fn new(
        mean: &[f64],
        deviation: &[f64],
        full_scale: f64,
        from: isize,
        to: isize,
    ) -> Self {
        let table = |(mean, deviation): (&f64, &f64)| {
            std::array::from_fn(|v| ((v as f64 / full_scale - mean) / deviation) as f32)
        };
        Self { tables: mean.iter().zip(deviation).map(table).collect(), from, to }
    }

    /// The bytes of a tensor of this shape, normalized: f32 data with the channels on their new
    /// axis and the other axes in order.
    ///
    /// # Errors
    /// If the shape does not have the axes or has another number of channels, or there is not one
    /// byte for each of its places.
    ///
    /// ```
    /// use cellnorm_burn::data::NormalizeConfig;
    /// let config = NormalizeConfig::new(vec![0.0; 3], vec![1.0; 3]).with_full_scale(1.0);
    /// let pixels = config.with_channel_axis(0).pixels(-1)?;
    /// let data = pixels.data(&[1, 10, 100, 2, 20, 200], &[2, 3])?; // two pixels beside each other
    /// assert_eq!(data.try_to_vec::<f32>().unwrap(), [1.0, 2.0, 10.0, 20.0, 100.0, 200.0]);
    /// # Ok::<(), cellnorm_burn::cellnorm::Error>(())
    /// ```
    pub fn data(&self, pixels: &[u8], shape: &[usize]) -> Result<TensorData, Error> {
        let channels = self.tables.len();
        let from = index_of_channels(self.from, shape, channels)?;
        let to = axis_index(self.to, shape.len())?;
        let places = shape.iter().try_fold(1usize, |places, len| places.checked_mul(*len));
        let places = places.ok_or_else(|| Error::TooLarge { shape: shape.to_vec() })?;
        if pixels.len() != places {
            let problem = format!(
                "has {} bytes; the shape {shape:?} needs {places}, one for each value",
                pixels.len()
            );
            return Err(Error::Tensor { name: "the pixel data".into(), problem });
        }
        let mut moved = shape.to_vec();
        moved.remove(from);
        // the channels jump over the axes between their old place and the new one
        let (low, high) = (from.min(to), from.max(to));
        let [between, after] =
            [&moved[low..high], &moved[high..]].map(|axes| axes.iter().product::<usize>());
        moved.insert(to, channels);
        let mut values = vec![0.0; places];
        if places > 0 {
            let strides = |axis| {
                if axis == low { [between * after, after] } else { [after, channels * after] }
            };
            let block = channels * between * after;
            for (source, target) in pixels.chunks_exact(block).zip(values.chunks_exact_mut(block)) {
                self.look_up((source, strides(from)), (target, strides(to)), [between, after]);
            }
        }
        Ok(TensorData::new(values, moved))
    }

    /// [`data`](Self::data) as a tensor on a device, with the same errors.
    pub fn tensor<const D: usize>(
        &self,
        pixels: &[u8],
        shape: [usize; D],
        device: &Device,
    ) -> Result<Tensor<D>, Error> {
        Ok(Tensor::from_data(self.data(pixels, &shape)?, device))
    }

    /// The lengths are those of the axes between and after; strides are those of the channels and
    /// of the axes between.
    fn look_up(
        &self,
        (source, read): (&[u8], [usize; 2]),
        (target, write): (&mut [f32], [usize; 2]),
        [between, after]: [usize; 2],
    ) {
        for (channel, table) in self.tables.iter().enumerate() {
            for place in 0..between {
                let start =
                    |[of_channel, of_place]: [usize; 2]| channel * of_channel + place * of_place;
                let (source, target) =
                    (&source[start(read)..][..after], &mut target[start(write)..][..after]);
                for (y, v) in target.iter_mut().zip(source) {
                    *y = table[usize::from(*v)];
                }
            }
        }
    }
}

/// An image of bytes becomes one of f32, or the error says why not.
///
/// ```
/// use burn::data::dataset::transform::MapperDataset;
/// use burn::data::dataset::{Dataset, InMemDataset};
/// use burn::tensor::TensorData;
/// use cellnorm_burn::data::NormalizeConfig;
/// let images = InMemDataset::new(vec![TensorData::new(vec![255u8; 12], [2, 2, 3])]); // [H, W, C]
/// let pixels = NormalizeConfig::imagenet().with_channel_axis(-3).pixels(-1)?;
/// let image = MapperDataset::new(images, pixels).get(0).unwrap()?;
/// assert_eq!(image.shape().as_slice(), [3, 2, 2]);
/// # Ok::<(), cellnorm_burn::cellnorm::Error>(())
/// ```
#[cfg(feature = "dataset")]
impl Mapper<TensorData, Result<TensorData, Error>> for Pixels {
    fn map(&self, item: &TensorData) -> Result<TensorData, Error> {
        let bytes = item.as_slice::<u8>().map_err(|error| Error::Tensor {
            name: "the item".into(),
            problem: format!("holds no bytes of pixels, but {:?}: {error}", item.dtype()),
        })?;
        self.data(bytes, item.shape().as_slice())
    }
}

/// An image with a label, which stays as it is.
#[cfg(feature = "dataset")]
impl<L: Clone> Mapper<(TensorData, L), Result<(TensorData, L), Error>> for Pixels {
    fn map(&self, (image, label): &(TensorData, L)) -> Result<(TensorData, L), Error> {
        Ok((self.map(image)?, label.clone()))
    }
}
