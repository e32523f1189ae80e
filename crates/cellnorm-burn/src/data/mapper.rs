//! (v/full_scale − mean)/deviation of each item of a data set of Burn's.

use burn::data::dataset::transform::Mapper;
use burn::tensor::TensorData;
use cellnorm::Error;

use super::Pixels;

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
impl<L: Clone> Mapper<(TensorData, L), Result<(TensorData, L), Error>> for Pixels {
    fn map(&self, (image, label): &(TensorData, L)) -> Result<(TensorData, L), Error> {
        Ok((self.map(image)?, label.clone()))
    }
}
