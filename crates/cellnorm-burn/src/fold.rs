//! Folding: a batch normalization with fixed statistics becomes part of the convolution or linear
//! layer beside it, and costs nothing.
//!
//! With fixed statistics a batch normalization is z = a·y + c for each channel, a = γ /
//! √(variance + ε) and c = β − a·mean. A layer that is linear in its channels takes it in:
//!
//! | the normalization is | W′ | b′ |
//! |---|---|---|
//! | after the layer, [`fold_after`](Fold::fold_after) | a\[o\] · W\[o, i, k\] | a\[o\] · b\[o\] + c\[o\] |
//! | before it, [`fold_before`](Fold::fold_before) | W\[o, i, k\] · a\[i\] | b\[o\] + Σ W\[o, i, k\] · c\[i\] |
//!
//! with output o, input i and tap k of the kernel, the sum over i and k. The layers are Burn's
//! `Conv1d`, `Conv2d`, `Conv3d`, `ConvTranspose1d`, `ConvTranspose2d`, `ConvTranspose3d` and
//! `Linear`, with groups, strides and dilation; the normalizations our [`BatchNorm`], Burn's own,
//! and any [`Affine`], such as the normalization of the data that a network gets.
//!
//! Numbers are computed in f64 ([`cellnorm::fold`]) and rounded once, to the type that the
//! parameter has. A parameter keeps its id, its device, its layout in records, and whether it
//! trains. The layer has a bias afterwards; a new one trains if the weight does. A reparametrized
//! weight, as by [`weights`](crate::weights), becomes a plain one: its effective value is folded.
//!
//! ```
//! use burn::nn::conv::Conv2dConfig;
//! use burn::nn::{BatchNormConfig, LinearConfig};
//! use burn::tensor::{Device, Distribution, Tensor, Tolerance};
//! use cellnorm_burn::fold::{Affine, Fold};
//!
//! let device = Device::flex();
//! let conv = Conv2dConfig::new([3, 8], [3, 3]).with_bias(false).init(&device);
//! let norm = cellnorm_burn::BatchNormConfig::new(8).init(&device); // or Burn's own
//! let x = Tensor::random([2, 3, 9, 9], Distribution::Default, &device);
//! let y = norm.forward(conv.forward(x.clone()));
//! let folded = conv.fold_after(&norm)?;
//! folded
//!     .forward(x)
//!     .into_data()
//!     .assert_approx_eq::<f32>(&y.into_data(), Tolerance::absolute(1e-5));
//!
//! // a normalization of the data, before the first layer, and Burn's layer after it
//! let data = Affine::standardize(&[0.5, 0.1], &[0.2, 3.0])?;
//! let norm = BatchNormConfig::new(4).init(&device);
//! let linear =
//!     LinearConfig::new(2, 4).init(&device).fold_before(&data)?.fold_after(&norm)?;
//! # assert!(linear.bias.is_some());
//! # Ok::<(), cellnorm_burn::cellnorm::Error>(())
//! ```

pub use cellnorm::fold::Affine;

use burn::module::{Module, Param, RunningState};
use burn::nn::conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
use burn::nn::{self, Linear, PaddingConfig1d, PaddingConfig2d, PaddingConfig3d};
use burn::tensor::{DType, Tensor, TensorData};
use cellnorm::fold::{Folding, Kernel};
use cellnorm::{Error, momentum::StatisticsFrom};

use crate::modules::BatchNorm;

/// A layer of Burn that can take a normalization in.
pub trait Fold: Sized {
    /// The layer that does what this one and then `norm` do.
    ///
    /// # Errors
    /// * If the normalization takes its statistics from the batch where it is: it is on a training
    ///   device and not frozen.
    /// * If its channels are not the outputs: their number or their axis is another one.
    /// * If a variance is negative, or a result is not finite in the type of the parameter.
    /// * If the weight or the bias is quantized: it would be rounded twice.
    fn fold_after(self, norm: &impl FixedNorm) -> Result<Self, Error>;

    /// The layer that does what `norm` and then this one do.
    ///
    /// ```
    /// use burn::nn::PaddingConfig1d;
    /// use burn::nn::conv::Conv1dConfig;
    /// use burn::tensor::Device;
    /// use cellnorm_burn::fold::{Affine, Fold};
    /// let padded =
    ///     Conv1dConfig::new(2, 2, 3).with_padding(PaddingConfig1d::Same).init(&Device::flex());
    /// let shift = Affine::new(vec![1.0, 1.0], vec![0.5, 0.0])?;
    /// let error = padded.clone().fold_before(&shift).unwrap_err();
    /// assert!(error.to_string().starts_with("Conv1d pads with zeros"));
    /// assert!(padded.fold_before(&shift.without_shift()).is_ok());
    /// # Ok::<(), cellnorm_burn::cellnorm::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`fold_after`](Self::fold_after), for the inputs; and if some c is not 0 and not every
    /// output sees it through the whole kernel, for then no single bias stands for it: a
    /// convolution pads with zeros, or a transposed convolution has a border or gaps where fewer
    /// taps meet. It has neither with stride 1 and a padding of dilation · (kernel − 1) +
    /// padding_out or more.
    fn fold_before(self, norm: &impl FixedNorm) -> Result<Self, Error>;
}

/// A layer that is the same affine map of each channel for every input.
///
/// ```
/// use burn::module::Module;
/// use burn::tensor::Device;
/// use cellnorm_burn::{BatchNormConfig, fold::FixedNorm};
/// let norm = BatchNormConfig::new(2).with_epsilon(3.0).init(&Device::flex().autodiff());
/// let error = norm.affine().unwrap_err(); // it still trains
/// assert!(error.to_string().contains("valid()"));
/// assert_eq!(norm.valid().affine()?.scale(), [0.5, 0.5]); // 1 / √(1 + 3)
/// # Ok::<(), cellnorm_burn::cellnorm::Error>(())
/// ```
pub trait FixedNorm {
    /// z = scale·y + shift for each channel.
    ///
    /// # Errors
    /// If the map is not fixed, because statistics come from the batch or still move, or if a
    /// number is not finite or a variance is negative.
    fn affine(&self) -> Result<Affine, Error>;

    /// The axis of the channels; negative counts from the last.
    fn channel_axis(&self) -> isize {
        1
    }
}

/// Our own layer, in inference or frozen.
impl FixedNorm for BatchNorm {
    fn affine(&self) -> Result<Affine, Error> {
        if !self.running_statistics {
            return Err(Error::Unsupported {
                layer: "batch normalization",
                what: "normalizes with the statistics of x in inference, too, since it has no \
                       running_statistics, so it is no fixed map",
            });
        }
        let mode = self.mode_on(&self.running_mean.value().device());
        unless(mode.statistics == StatisticsFrom::Batch || mode.update)?;
        let parameters = [self.gamma.as_ref(), self.beta.as_ref()];
        of_batch_norm(parameters, [&self.running_mean, &self.running_var], self.epsilon)
    }

    fn channel_axis(&self) -> isize {
        self.channel_axis
    }
}

/// Burn's own layer, in inference or frozen. Its channels are on axis 1.
impl FixedNorm for nn::BatchNorm {
    fn affine(&self) -> Result<Affine, Error> {
        unless(self.running_mean.value().is_autodiff() && self.training.is_enabled())?;
        let parameters = [Some(&self.gamma), Some(&self.beta)];
        of_batch_norm(parameters, [&self.running_mean, &self.running_var], self.epsilon)
    }
}

/// A map as it is, on whichever axis the layer has its channels.
impl FixedNorm for Affine {
    fn affine(&self) -> Result<Affine, Error> {
        Ok(self.clone())
    }
}

/// An error where the statistics move.
fn unless(moving: bool) -> Result<(), Error> {
    if !moving {
        return Ok(());
    }
    Err(Error::Unsupported {
        layer: "batch normalization",
        what: "takes its statistics from the batch or moves them: it is on a training device and \
               not frozen, so it is no fixed map; fold what valid() or freeze() gives",
    })
}

fn of_batch_norm(
    parameters: [Option<&Param<Tensor<1>>>; 2],
    running: [&RunningState<Tensor<1>>; 2],
    epsilon: f64,
) -> Result<Affine, Error> {
    let [gamma, beta] =
        parameters.map(|parameter| parameter.map(|parameter| read(parameter.val())).transpose());
    // with what the last steps of training brought
    let [mean, variance] = running.map(|statistic| read(statistic.value_sync()));
    Affine::of_batch_norm(gamma?.as_deref(), beta?.as_deref(), &mean?, &variance?, epsilon)
}

/// A layer's name and kernel, the axes that hold its channels, and why a shift before it is no
/// bias, if it is not.
macro_rules! folds {
    ($layer:ident, $kernel:expr, $on_axis:expr, $obstacle:expr) => {
        impl Fold for $layer {
            fn fold_after(mut self, norm: &impl FixedNorm) -> Result<Self, Error> {
                let kernel = $kernel(&self)?;
                let map = fitting(norm, stringify!($layer), $on_axis, kernel.outputs())?;
                (self.weight, self.bias) = fold(self.weight, self.bias, &kernel.fold_after(&map)?)?;
                Ok(self)
            }

            fn fold_before(mut self, norm: &impl FixedNorm) -> Result<Self, Error> {
                let kernel = $kernel(&self)?;
                let map = fitting(norm, stringify!($layer), $on_axis, kernel.inputs())?;
                if let Some(what) = $obstacle(&self, kernel.taps()).filter(|_| !map.is_linear()) {
                    return Err(Error::Unsupported { layer: stringify!($layer), what });
                }
                (self.weight, self.bias) =
                    fold(self.weight, self.bias, &kernel.fold_before(&map)?)?;
                Ok(self)
            }
        }
    };
}

/// Convolutions, with the number of axes of x and the padding that is none.
macro_rules! convolutions {
    ($($layer:ident: $rank:literal, $padding:ident::Explicit$zeros:tt;)*) => {$(
        folds!(
            $layer,
            |layer: &$layer| Kernel::convolution(&layer.weight.dims(), layer.groups),
            |axis| axis == 1 || axis == 1 - $rank,
            |layer: &$layer, taps| {
                let padding = &layer.padding;
                let none = [$padding::Valid, $padding::Explicit$zeros].contains(padding);
                // where the kernel has one tap, the same size needs no padding
                let same = *padding == $padding::Same && taps == 1;
                (!none && !same).then_some(PADS)
            }
        );
    )*};
}

const PADS: &str = "pads with zeros, which are not shifted, so a shift ahead of it reaches the \
                    outputs at the border in part and is no bias; keep the normalization, or \
                    build the network with it behind the convolution or without padding";

convolutions! {
    Conv1d: 3, PaddingConfig1d::Explicit(0, 0);
    Conv2d: 4, PaddingConfig2d::Explicit(0, 0, 0, 0);
    Conv3d: 5, PaddingConfig3d::Explicit(0, 0, 0);
}

/// Transposed convolutions, with the number of axes of x and how their sizes become a list.
macro_rules! transposed {
    ($($layer:ident: $rank:literal, $list:expr;)*) => {$(
        folds!(
            $layer,
            |layer: &$layer| Kernel::transposed_convolution(&layer.weight.dims(), layer.groups),
            |axis| axis == 1 || axis == 1 - $rank,
            |layer: &$layer, _| {
                let sizes = [layer.stride, layer.dilation, layer.padding, layer.padding_out];
                partial(&layer.weight.dims()[2..], sizes.map($list))
            }
        );
    )*};
}

/// An output p of a transposed convolution has tap k from x at p + padding − dilation·k, if x has
/// that place; the padding cuts off those outputs where it has not for some k.
fn partial<const N: usize>(
    taps: &[usize],
    [stride, dilation, padding, padding_out]: [[usize; N]; 4],
) -> Option<&'static str> {
    let whole = taps.iter().enumerate().all(|(axis, taps)| {
        let reach = dilation[axis] * taps.saturating_sub(1) + padding_out[axis];
        stride[axis] == 1 && padding[axis] >= reach
    });
    (!whole).then_some(PARTIAL)
}

const PARTIAL: &str = "has outputs, at the border or between strides, that see a part of the \
                       kernel, so a shift ahead of it is no bias; keep the normalization, or \
                       build the network with it behind, or with stride 1 and a padding of at \
                       least dilation * (kernel - 1) + padding_out";

transposed! {
    ConvTranspose1d: 3, |size| [size];
    ConvTranspose2d: 4, |sizes| sizes;
    ConvTranspose3d: 5, |sizes| sizes;
}

folds!(
    Linear,
    // in both of Burn's layouts: the other one is transposed in records alone
    |layer: &Linear| Kernel::dense_inputs_first(layer.weight.dims()),
    // x may have any number of axes, so a positive axis is taken at its word: the features are on
    // the last
    |axis| axis == -1 || axis > 0,
    |_, _| None::<&'static str>
);

/// The map of the normalization, if its channels are those of the layer.
fn fitting(
    norm: &impl FixedNorm,
    layer: &'static str,
    on_axis: impl Fn(isize) -> bool,
    channels: usize,
) -> Result<Affine, Error> {
    if !on_axis(norm.channel_axis()) {
        let what = "has its channels on another axis than the normalization: those of a \
                    convolution are on axis 1, those of a linear layer on the last; set \
                    channel_axis";
        return Err(Error::Unsupported { layer, what });
    }
    let map = norm.affine()?;
    if map.channels() != channels {
        let (given, expected) = (vec![map.channels()], vec![channels]);
        return Err(Error::Parameter {
            name: "the normalization at this side of the layer",
            given,
            expected,
        });
    }
    Ok(map)
}

/// The weight and the bias after folding.
///
/// # Errors
/// If a number is not finite, or would not be in the parameter's type, or a parameter is quantized.
fn fold<const D: usize>(
    weight: Param<Tensor<D>>,
    bias: Option<Param<Tensor<1>>>,
    folding: &Folding,
) -> Result<(Param<Tensor<D>>, Option<Param<Tensor<1>>>), Error> {
    let numbers = read(weight.val())?;
    let bias = bias.unwrap_or_else(|| zeros(&weight, folding.kernel().outputs()));
    let folded = folding.fold(&numbers, Some(&read(bias.val())?))?;
    Ok((with(weight, &folded.weight)?, Some(with(bias, &folded.bias)?)))
}

/// The numbers of a tensor.
///
/// # Errors
/// If it is quantized.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f64>, Error> {
    if let DType::QFloat(_) = tensor.dtype() {
        let what = "would be rounded twice; fold first, and quantize the folded layer";
        return Err(Error::Unsupported { layer: "a quantized layer", what });
    }
    Ok(tensor.into_data().convert::<f64>().try_to_vec().expect("converted to f64"))
}

/// A bias for a layer that has none: as the weight in type, device, and whether it trains.
fn zeros<const D: usize>(weight: &Param<Tensor<D>>, outputs: usize) -> Param<Tensor<1>> {
    let value = weight.val();
    let bias = Param::from_tensor(Tensor::zeros([outputs], (&value.device(), value.dtype())));
    // outside training a parameter says whether it would train only by going there
    bias.set_require_grad(weight.clone().train().is_require_grad())
}

/// The parameter with these numbers.
fn with<const D: usize>(
    param: Param<Tensor<D>>,
    numbers: &[f64],
) -> Result<Param<Tensor<D>>, Error> {
    let value = param.val();
    let (dtype, device) = (value.dtype(), value.device());
    let largest = dtype.finfo().map_or(f64::MAX, |info| info.max);
    if let Some(given) = numbers.iter().copied().find(|number| number.abs() > largest) {
        return Err(Error::Number {
            name: "a folded number",
            given,
            expected: "finite in the layer's own type",
        });
    }
    let data = match dtype {
        // Burn goes through f32 to the small types, which would be a second rounding
        DType::F16 | DType::BF16 => TensorData::new(
            numbers.iter().copied().map(to_odd).collect::<Vec<f32>>(),
            value.shape(),
        ),
        _ => TensorData::new(numbers.to_vec(), value.shape()),
    };
    let new = Tensor::from_data(data, (&device, dtype));
    // the id, the mappers of records and whether it trains stay, and a reparametrization goes
    Ok(param.map(|old| new.set_require_grad(old.is_require_grad())))
}

/// The f32 next to the number whose last bit is 1, unless it is an f32 itself. A smaller type then
/// rounds it as it would round the number: none of its own numbers or of the middles between them
/// has that bit.
///
/// S. Boldo, G. Melquiond, *Emulation of FMA and Correctly Rounded Sums: Proved Algorithms Using
/// Rounding to Odd*, 2008.
fn to_odd(number: f64) -> f32 {
    let near = number as f32;
    let exact = f64::from(near);
    if exact == number || near.to_bits() & 1 == 1 {
        return near;
    }
    let outward = number.abs() > exact.abs();
    f32::from_bits(if outward { near.to_bits() + 1 } else { near.to_bits() - 1 })
}

#[cfg(test)]
mod tests {
    use super::to_odd;
    use burn::tensor::f16;

    #[test]
    fn half_precision_is_rounded_once() {
        let (one, next) = (1.0, 1.0 + 2f64.powi(-10));
        // a little above the middle of two halves, by less than f32 can tell
        let above = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
        assert_eq!(f16::from_f32(above as f32).to_f64(), one, "rounded twice it is wrong");
        assert_eq!(f16::from_f32(to_odd(above)).to_f64(), next);
        assert_eq!(f16::from_f32(to_odd(-above)).to_f64(), -next);
        let below = 1.0 + 3.0 * 2f64.powi(-11) - 2f64.powi(-40);
        assert_eq!(f16::from_f32(to_odd(below)).to_f64(), next);
        assert_eq!([to_odd(0.0), to_odd(1.5), to_odd(-1e-60)], [0.0, 1.5, -f32::from_bits(1)]);
    }
}
