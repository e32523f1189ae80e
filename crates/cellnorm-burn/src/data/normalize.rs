//! y = (x − mean)/deviation, and back: x = y · deviation + mean.

use burn::config::Config;
use burn::module::{Module, RunningState};
use burn::tensor::{Device, Tensor};
use cellnorm::Error;
use cellnorm::data::known::{CIFAR10, FASHION_MNIST, IMAGENET, IMAGENET_POOLED, Known, MNIST};
use cellnorm::fold::Affine;

use super::{Pixels, index_of_channels};
use crate::averages::state;
use crate::composed::at_least_single;
use crate::fold::read;

/// Makes a [`Normalize`], or [`Pixels`] alone.
#[derive(Config, Debug)]
pub struct NormalizeConfig {
    /// The mean of each channel, in units of full scale.
    pub mean: Vec<f64>,
    /// The standard deviation of each channel, in units of full scale.
    pub deviation: Vec<f64>,
    /// The axis of the channels; negative counts from the last. Default: 1. −3 serves an image \[C,
    /// H, W\] and a batch of them alike
    #[config(default = 1)]
    pub channel_axis: isize,
    /// The integer that stands for 1. Default: 255
    #[config(default = 255.0)]
    pub full_scale: f64,
}

/// Normalization of data: y = (x − mean)/deviation for each channel.
///
/// The numbers are constants, which never train, and part of the record.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use cellnorm_burn::data::NormalizeConfig;
/// let device = Device::flex();
/// let layer = NormalizeConfig::new(vec![1.0, 0.0], vec![2.0, 0.5]).init(&device)?;
/// let y = layer.forward(Tensor::<2>::from_floats([[5.0, 1.0], [1.0, -1.0]], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [2.0, 2.0, 0.0, -2.0]);
/// # Ok::<(), cellnorm_burn::cellnorm::Error>(())
/// ```
#[derive(Module, Debug)]
pub struct Normalize {
    /// The mean of each channel, `[channels]`.
    pub mean: RunningState<Tensor<1>>,
    /// The deviation of each channel, `[channels]`.
    pub deviation: RunningState<Tensor<1>>,
    /// The axis of the channels.
    pub channel_axis: isize,
    /// The integer that stands for 1.
    pub full_scale: f64,
}

/// Means and deviations of well-known data sets, for pixels in \[0, 1\].
impl NormalizeConfig {
    /// Statistics of a name, which say where they come from.
    pub fn known(known: &Known) -> Self {
        Self::new(known.mean.to_vec(), known.deviation.to_vec())
    }

    /// ImageNet, red, green, blue: mean 0.485, 0.456, 0.406, deviation 0.229, 0.224, 0.225.
    ///
    /// The numbers that torchvision's models are trained with. The deviations are means of the
    /// deviations within single images of a subset; those of all pixels together are about 19 %
    /// larger ([`imagenet_pooled`](Self::imagenet_pooled)). A network that was trained with the
    /// former needs them.
    pub fn imagenet() -> Self {
        Self::known(&IMAGENET)
    }

    /// ImageNet, all pixels together: deviation 0.2724, 0.2637, 0.2761.
    pub fn imagenet_pooled() -> Self {
        Self::known(&IMAGENET_POOLED)
    }

    /// MNIST: mean 0.1306604763, deviation 0.3081078039; usually written 0.1307 and 0.3081.
    pub fn mnist() -> Self {
        Self::known(&MNIST)
    }

    /// Fashion-MNIST: mean 0.2860405970, deviation 0.3530242445.
    pub fn fashion_mnist() -> Self {
        Self::known(&FASHION_MNIST)
    }

    /// CIFAR-10, red, green, blue: mean 0.4914, 0.4822, 0.4465, deviation 0.2470, 0.2435, 0.2616.
    pub fn cifar10() -> Self {
        Self::known(&CIFAR10)
    }

    /// \[0, 1\] to \[−1, 1\]: mean 0.5 and deviation 0.5 for each of so many channels.
    ///
    /// ```
    /// use cellnorm_burn::data::NormalizeConfig;
    /// let ends = NormalizeConfig::half(1).pixels(0)?.data(&[0, 255], &[1, 2])?;
    /// assert_eq!(ends.try_to_vec::<f32>().unwrap(), [-1.0, 1.0]);
    /// # Ok::<(), cellnorm_burn::cellnorm::Error>(())
    /// ```
    pub fn half(channels: usize) -> Self {
        Self::new(vec![0.5; channels], vec![0.5; channels])
    }
}

impl NormalizeConfig {
    /// The module, with f32 numbers.
    ///
    /// # Errors
    /// If there is no channel, not one deviation for each mean, a deviation or full scale is not
    /// above 0 and finite, or a mean is not finite, all of them as f32.
    pub fn init(&self, device: &Device) -> Result<Normalize, Error> {
        let [mean, deviation] = [&self.mean, &self.deviation]
            .map(|of| of.iter().map(|number| f64::from(*number as f32)).collect::<Vec<f64>>());
        check(&mean, &deviation, self.full_scale)?;
        Ok(Normalize {
            mean: state(&mean, device),
            deviation: state(&deviation, device),
            channel_axis: self.channel_axis,
            full_scale: self.full_scale,
        })
    }

    /// The same normalization for bytes whose channels lie on the axis `from`, such as −1; they
    /// come out on `channel_axis`.
    ///
    /// # Errors
    /// As [`init`](Self::init), in f64.
    pub fn pixels(&self, from: isize) -> Result<Pixels, Error> {
        check(&self.mean, &self.deviation, self.full_scale)?;
        Ok(Pixels::new(&self.mean, &self.deviation, self.full_scale, from, self.channel_axis))
    }
}

impl Normalize {
    /// (x − mean)/deviation, of the type of x; computed in f32 where x has fewer digits. Gradients
    /// flow to x.
    ///
    /// # Panics
    /// If x has no such channel axis or another number of channels.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let [mean, deviation] = self.against(&x);
        at_least_single(x, |x| (x.clone() - like(mean, &x)) / like(deviation, &x))
    }

    /// The data again, y · deviation + mean, as for showing them; with the panics of
    /// [`forward`](Self::forward).
    pub fn invert<const D: usize>(&self, y: Tensor<D>) -> Tensor<D> {
        let [mean, deviation] = self.against(&y);
        at_least_single(y, |y| y.clone() * like(deviation, &y) + like(mean, &y))
    }

    /// The same normalization for bytes whose channels lie on the axis `from`, such as −1; they
    /// come out on `channel_axis`.
    ///
    /// # Errors
    /// If the numbers of the module, as from a record, are none that [`NormalizeConfig::init`]
    /// takes.
    pub fn pixels(&self, from: isize) -> Result<Pixels, Error> {
        let Self { channel_axis, full_scale, .. } = *self;
        let (mean, deviation) = (read(self.mean.value_sync())?, read(self.deviation.value_sync())?);
        NormalizeConfig { mean, deviation, channel_axis, full_scale }.pixels(from)
    }

    /// Mean and deviation in the shape that broadcasts to x.
    ///
    /// # Panics
    /// If x does not have the channels.
    fn against<const D: usize>(&self, x: &Tensor<D>) -> [Tensor<D>; 2] {
        let tables = [&self.mean, &self.deviation].map(RunningState::value_sync);
        let channels = tables[0].dims()[0];
        let axis = index_of_channels(self.channel_axis, &x.dims(), channels)
            .unwrap_or_else(|error| panic!("{error}"));
        let mut shape = [1; D];
        shape[axis] = channels;
        tables.map(|table| table.reshape(shape))
    }
}

/// The table where x is and of its type: a batch may be on another device than the network, or
/// outside training.
fn like<const D: usize>(table: Tensor<D>, x: &Tensor<D>) -> Tensor<D> {
    let (table, device) = (table.without_autodiff(), x.device());
    let table = if device.is_autodiff() { Tensor::from_inner(table) } else { table };
    table.to_device(&device).cast(x.dtype())
}

fn check(mean: &[f64], deviation: &[f64], full_scale: f64) -> Result<(), Error> {
    if mean.is_empty() {
        return Err(Error::Parameter {
            name: "mean",
            given: vec![0],
            expected: vec![deviation.len().max(1)],
        });
    }
    if !(full_scale > 0.0 && full_scale.is_finite()) {
        return Err(Error::Number {
            name: "full_scale",
            given: full_scale,
            expected: "above 0 and finite, such as 255",
        });
    }
    Affine::standardize(mean, deviation).map(|_| ())
}
