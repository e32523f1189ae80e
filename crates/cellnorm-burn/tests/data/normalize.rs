//! Floats, bytes and back, against the formula in f64.

use burn::module::Module;
use burn::tensor::{DType, Device, Distribution, Tensor, Tolerance};
use cellnorm_burn::cellnorm::Error;
use cellnorm_burn::data::{Normalize, NormalizeConfig};

fn random(shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::random(shape, Distribution::Uniform(0.0, 1.0), device)
}

fn list<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().unwrap()
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 89 + i / 7) as u8).collect()
}

#[test]
fn every_preset_is_sound() -> Result<(), Error> {
    let presets = [
        NormalizeConfig::imagenet(),
        NormalizeConfig::mnist(),
        NormalizeConfig::fashion_mnist(),
        NormalizeConfig::cifar10(),
        NormalizeConfig::half(4),
    ];
    for config in presets {
        let device = Device::flex();
        let layer = config.init(&device)?;
        let x = random([2, config.mean.len(), 3, 3], &device);
        let y = list(layer.forward(x.clone()));
        for (i, (y, x)) in y.iter().zip(list(x)).enumerate() {
            let channel = i / 9 % config.mean.len();
            let expected = (f64::from(x) - config.mean[channel]) / config.deviation[channel];
            assert!((f64::from(*y) - expected).abs() < 1e-6, "{config}: {y} is not {expected}");
        }
    }
    Ok(())
}

#[test]
fn inversion_gives_the_data_again() -> Result<(), Error> {
    let device = Device::flex();
    for axis in [1, -1] {
        let layer = NormalizeConfig::imagenet().with_channel_axis(axis).init(&device)?;
        let x = random(if axis == 1 { [2, 3, 5, 4] } else { [2, 5, 4, 3] }, &device);
        let again = layer.invert(layer.forward(x.clone()));
        again.into_data().assert_approx_eq::<f32>(&x.into_data(), Tolerance::absolute(2e-7));
    }
    Ok(())
}

#[test]
fn bytes_are_what_floats_are() -> Result<(), Error> {
    let device = Device::flex();
    let config = NormalizeConfig::cifar10();
    // the shape of the bytes, where their channels are, and how their axes lie in a tensor with the
    // channels where they should be
    let cases = [
        ([2, 5, 7, 3], -1, 1, [0, 3, 1, 2]),
        ([2, 3, 5, 7], 1, 1, [0, 1, 2, 3]),
        ([2, 5, 7, 3], 3, -1, [0, 1, 2, 3]),
        ([2, 3, 5, 7], 1, -1, [0, 2, 3, 1]),
        ([5, 7, 3, 2], 2, 0, [2, 0, 1, 3]),
    ];
    for (shape, from, to, axes) in cases {
        let layer = config.clone().with_channel_axis(to).init(&device)?;
        let bytes = bytes(shape.iter().product());
        let floats: Vec<f32> = bytes.iter().map(|v| f32::from(*v) / 255.0).collect();
        let floats =
            Tensor::<1>::from_floats(floats.as_slice(), &device).reshape(shape).permute(axes);
        let y: Tensor<4> = layer.pixels(from)?.tensor(&bytes, shape, &device)?;
        assert_eq!(y.dims(), floats.dims());
        y.into_data()
            .assert_approx_eq::<f32>(&layer.forward(floats).into_data(), Tolerance::absolute(1e-6));
    }
    Ok(())
}

#[test]
fn bytes_are_rounded_once() -> Result<(), Error> {
    let all: Vec<u8> = (0..=255).collect();
    let data = NormalizeConfig::mnist().with_channel_axis(0).pixels(0)?.data(&all, &[1, 256])?;
    for (v, y) in data.try_to_vec::<f32>().unwrap().into_iter().enumerate() {
        assert_eq!(y, ((v as f64 / 255.0 - 0.130_660_476_3) / 0.308_107_803_9) as f32);
    }
    let other = NormalizeConfig::half(1)
        .with_channel_axis(0)
        .with_full_scale(15.0)
        .pixels(0)?
        .data(&[0, 15], &[1, 2])?;
    assert_eq!(other.try_to_vec::<f32>().unwrap(), [-1.0, 1.0]);
    Ok(())
}

#[test]
fn records_keep_the_numbers() -> Result<(), Error> {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("normalize");
    let layer = NormalizeConfig::imagenet().init(&device)?;
    let x = random([2, 3, 4, 4], &device);
    let expected = layer.forward(x.clone());
    layer.save_file(&path).unwrap();
    let loaded: Normalize = NormalizeConfig::half(3).init(&device)?.load_file(&path);
    loaded.forward(x).into_data().assert_eq(&expected.into_data(), true);
    let bytes = bytes(12);
    let of_config = NormalizeConfig::imagenet().pixels(-1)?.data(&bytes, &[1, 2, 2, 3])?;
    let of_record = loaded.pixels(-1)?.data(&bytes, &[1, 2, 2, 3])?;
    of_record.assert_approx_eq::<f32>(&of_config, Tolerance::absolute(1e-6));
    Ok(())
}

#[test]
fn constants_do_not_train_and_gradients_pass() -> Result<(), Error> {
    let training = Device::flex().autodiff();
    // the module on either device, x on either device
    for device in [Device::flex(), training.clone()] {
        let layer = NormalizeConfig::new(vec![1.0], vec![4.0]).init(&device)?.unfreeze();
        let x = Tensor::<2>::from_floats([[1.0], [5.0]], &training).require_grad();
        let gradients = layer.forward(x.clone()).sum().backward();
        assert_eq!(list(x.grad(&gradients).unwrap()), [0.25, 0.25]);
        assert!(
            !layer.mean.value().is_require_grad() && !layer.deviation.value().is_require_grad()
        );
        assert!(!layer.forward(x.without_autodiff()).is_autodiff());
    }
    Ok(())
}

#[test]
fn other_types_stay_what_they_are() -> Result<(), Error> {
    let device = Device::flex();
    let layer = NormalizeConfig::imagenet().init(&device)?;
    let x = random([1, 3, 2, 2], &device);
    let expected = layer.forward(x.clone());
    for (dtype, near) in [(DType::F16, 3e-3), (DType::BF16, 3e-2), (DType::F64, 1e-6)] {
        let y = layer.forward(x.clone().cast(dtype));
        assert_eq!(y.dtype(), dtype);
        y.cast(DType::F32)
            .into_data()
            .assert_approx_eq::<f32>(&expected.to_data(), Tolerance::absolute(near));
    }
    Ok(())
}

#[test]
fn errors_say_what_would_be_right() -> Result<(), Error> {
    let device = Device::flex();
    let config =
        |mean: &[f64], deviation: &[f64]| NormalizeConfig::new(mean.to_vec(), deviation.to_vec());
    let refused = [
        (config(&[0.0, 0.0], &[1.0]), "deviation has the shape [1]; it must be [2]"),
        (config(&[], &[]), "mean has the shape [0]; it must be [1]"),
        (config(&[0.0], &[0.0]), "deviation is 0; it must be above 0 and finite"),
        (config(&[0.0], &[-1.0]), "deviation is -1; it must be above 0 and finite"),
        (config(&[0.0], &[f64::INFINITY]), "deviation is inf; it must be above 0 and finite"),
        (config(&[f64::NAN], &[1.0]), "shift is NaN; it must be finite in every channel"),
        (
            config(&[0.0], &[1.0]).with_full_scale(0.0),
            "full_scale is 0; it must be above 0 and finite, such as 255",
        ),
    ];
    for (config, message) in refused {
        assert_eq!(config.init(&device).unwrap_err().to_string(), message);
        assert_eq!(config.pixels(1).unwrap_err().to_string(), message);
    }
    assert!(config(&[0.0], &[1e-60]).init(&device).is_err(), "no f32 has it");
    let pixels = NormalizeConfig::imagenet().pixels(-1)?;
    let messages: [(&[usize], &str); 4] = [
        (
            &[1, 2, 3],
            "the pixel data has 12 bytes; the shape [1, 2, 3] needs 6, one for each value",
        ),
        (
            &[1, 3, 4],
            "axis 2 of the shape [1, 3, 4] has length 4, but the layer was made for 3 channels",
        ),
        (&[], "axis -1 does not exist in a tensor of 0 axes"),
        (&[usize::MAX, 2, 3], "too many elements"),
    ];
    for (shape, message) in messages {
        let error = pixels.data(&[0; 12], shape).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    assert_eq!(pixels.data(&[], &[0, 2, 2, 3])?.shape().as_slice(), [0, 3, 2, 2]);
    Ok(())
}

#[test]
#[should_panic(expected = "the layer was made for 3 channels")]
fn another_number_of_channels() {
    let device = Device::flex();
    let layer = NormalizeConfig::imagenet().init(&device).unwrap();
    layer.forward(random([2, 4, 2, 2], &device));
}
