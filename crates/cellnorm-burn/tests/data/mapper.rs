//! Bytes in a data set of Burn's.

use burn::data::dataset::transform::MapperDataset;
use burn::data::dataset::{Dataset, InMemDataset};
use burn::tensor::TensorData;
use cellnorm_burn::cellnorm::Error;
use cellnorm_burn::data::NormalizeConfig;

#[test]
fn items_are_normalized_and_labels_stay() -> Result<(), Error> {
    let image = |v: u8| TensorData::new(vec![v, 0, 255, v, 0, 255], [1, 2, 3]);
    let items = InMemDataset::new(vec![(image(0), 7), (image(51), 8)]);
    let pixels = NormalizeConfig::half(3).with_channel_axis(-3).pixels(-1)?;
    let (data, label) = MapperDataset::new(items, pixels.clone()).get(1).unwrap()?;
    assert_eq!((data.shape().as_slice(), label), (&[3, 1, 2][..], 8));
    assert_eq!(data.try_to_vec::<f32>().unwrap(), [-0.6, -0.6, -1.0, -1.0, 1.0, 1.0]);
    let floats = InMemDataset::new(vec![TensorData::new(vec![1f32; 6], [1, 2, 3])]);
    let error = MapperDataset::new(floats, pixels).get(0).unwrap().unwrap_err();
    assert!(error.to_string().starts_with("the item holds no bytes of pixels, but F32"), "{error}");
    Ok(())
}
