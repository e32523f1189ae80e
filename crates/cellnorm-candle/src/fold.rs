//! Folding: a batch normalization in inference becomes part of the convolution or linear layer
//! beside it, and costs nothing.
//!
//! With its running statistics a batch normalization is z = a·y + c for each channel, a = γ /
//! √(variance + ε) and c = β − a·mean. A layer that is linear in its channels takes it in:
//!
//! | the normalization is | W′ | b′ |
//! |---|---|---|
//! | [after the layer](Fold::fold_after) | a\[o\] · W\[o, i, k\] | a\[o\] · b\[o\] + c\[o\] |
//! | [before it](Fold::fold_before) | W\[o, i, k\] · a\[i\] | b\[o\] + Σ W\[o, i, k\] · c\[i\] |
//!
//! with output o, input i and tap k of the kernel, the sum over i and k. The layers are Candle's
//! `Conv1d`, `Conv2d`, `ConvTranspose1d`, `ConvTranspose2d` and `Linear`; the normalizations our
//! [`BatchNorm`], candle-nn's, and any [`Affine`], such as the normalization of the data that a
//! network gets. Numbers are computed in f64 ([`cellnorm::fold`]) and rounded once. The folded
//! layer is for inference: its weight and bias are constants.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::{Module, ModuleT, VarBuilder, VarMap, conv2d_no_bias};
//! use cellnorm_candle::{batch_norm, fold::Fold};
//! let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
//! let conv = conv2d_no_bias(3, 8, 3, Default::default(), vb.pp("conv"))?;
//! let norm = batch_norm(8, 1e-5, vb.pp("norm"))?;
//! let x = Tensor::randn(0f32, 1., (2, 3, 9, 9), &Device::Cpu)?;
//! norm.forward_t(&conv.forward(&x)?, true)?; // some training
//! let y = norm.forward_t(&conv.forward(&x)?, false)?;
//! let folded = conv.fold_after(&norm)?;
//! assert!((folded.forward(&x)? - y)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
//! # Ok::<(), candle_core::Error>(())
//! ```

pub use cellnorm::fold::Affine;

use candle_core::{Result, Tensor};
use candle_nn::{Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, Linear};
use cellnorm::fold::{Folding, Kernel};
use cellnorm::{Activation, Error};

use crate::layers::BatchNorm;
use crate::numbers::{tensor, values, wrong};
use crate::weights::Weighted;

/// A layer of Candle that can take a normalization in.
pub trait Fold: Sized {
    /// The layer that does what this one and then `norm` do.
    ///
    /// # Errors
    /// If the normalization's channels are not the outputs (their number or their axis is another
    /// one), a variance is negative, or a result is not finite in the type of the weight.
    fn fold_after(&self, norm: &impl FixedNorm) -> Result<Self>;

    /// The layer that does what `norm` and then this one do.
    ///
    /// # Errors
    /// Same errors as [`fold_after`](Self::fold_after), for the inputs; also if some c is not 0
    /// and not every output sees it through the whole kernel: then no single bias stands for it. A
    /// convolution pads with zeros, or a transposed convolution has a border or gaps where fewer
    /// taps meet. It has neither with stride 1 and a padding of dilation · (kernel − 1) +
    /// output_padding or more.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{Conv1dConfig, VarBuilder, VarMap, conv1d};
    /// use cellnorm_candle::fold::{Affine, Fold};
    /// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    /// let padded = conv1d(2, 2, 3, Conv1dConfig { padding: 1, ..Default::default() }, vb)?;
    /// let shift = Affine::new(vec![1.0, 1.0], vec![0.5, 0.0]).unwrap();
    /// let error = padded.fold_before(&shift).unwrap_err();
    /// assert!(error.to_string().starts_with("Conv1d pads with zeros"));
    /// assert!(padded.fold_before(&shift.without_shift()).is_ok());
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    fn fold_before(&self, norm: &impl FixedNorm) -> Result<Self>;
}

/// A normalization that is the same affine map of each channel for every input.
pub trait FixedNorm {
    /// z = scale·y + shift for each channel.
    ///
    /// # Errors
    /// If a number is not finite, a variance is negative, or there are no running statistics.
    fn affine(&self) -> Result<Affine>;

    /// The axis of the channels; negative counts from the last.
    fn channel_axis(&self) -> isize {
        1
    }
}

impl FixedNorm for BatchNorm {
    fn affine(&self) -> Result<Affine> {
        let what = match (self.activation(), &self.rule().axes[..], self.running()) {
            (Activation::Identity, [_], Some((mean, variance))) => {
                let parameters = [self.parameter("gamma"), self.parameter("beta")];
                return channel_map(parameters, [mean, variance], self.eps());
            }
            (Activation::Identity, [_], None) => {
                "has no running statistics, so that it is another map for every input"
            }
            (Activation::Identity, ..) => {
                "has statistics for several axes, and a layer to fold has channels on one"
            }
            _ => "has an activation, which is no linear map; fold it without, and apply it after",
        };
        Err(wrong(Error::Unsupported { layer: "batch normalization", what }))
    }

    fn channel_axis(&self) -> isize {
        BatchNorm::channel_axis(self)
    }
}

/// candle-nn's own layer. Its channels are on axis 1.
impl FixedNorm for candle_nn::BatchNorm {
    fn affine(&self) -> Result<Affine> {
        let (gamma, beta) = self.weight_and_bias().unzip();
        channel_map([gamma, beta], [self.running_mean(), self.running_var()], self.eps())
    }
}

/// A map as it is, of channels on axis 1.
impl FixedNorm for Affine {
    fn affine(&self) -> Result<Affine> {
        Ok(self.clone())
    }
}

fn channel_map(
    parameters: [Option<&Tensor>; 2],
    running: [&Tensor; 2],
    epsilon: f64,
) -> Result<Affine> {
    let read = |tensor: &Tensor| values(tensor, "batch normalization");
    let [gamma, beta] = parameters.map(|tensor| tensor.map(read).transpose());
    let ([mean, variance], gamma, beta) = (running.map(read), gamma?, beta?);
    Affine::of_batch_norm(gamma.as_deref(), beta.as_deref(), &mean?, &variance?, epsilon)
        .map_err(wrong)
}

const PADS: &str = "pads with zeros, which are not shifted, so a shift ahead of it reaches the \
                    outputs at the border in part and is no bias; keep the normalization, or \
                    build the network with it behind the convolution or without padding";

const PARTIAL: &str = "has outputs, at the border or between strides, that see a part of the \
                       kernel, so a shift ahead of it is no bias; keep the normalization, or \
                       build the network with it behind, or with stride 1 and a padding of at \
                       least dilation * (kernel - 1) + output_padding";

/// Each layer with the axes that hold its channels, its kernel, and why a shift before it is no
/// bias, if it is not.
macro_rules! folds {
    ($($this:ident: $layer:ident, $on_axis:expr, $kernel:expr, $obstacle:expr;)*) => {$(
        impl Fold for $layer {
            fn fold_after(&self, norm: &impl FixedNorm) -> Result<Self> {
                let $this = self;
                let kernel: Kernel = $kernel.map_err(wrong)?;
                let map = fitting(norm, stringify!($layer), $on_axis, kernel.outputs())?;
                folded(self, &kernel.fold_after(&map).map_err(wrong)?)
            }

            fn fold_before(&self, norm: &impl FixedNorm) -> Result<Self> {
                let $this = self;
                let kernel: Kernel = $kernel.map_err(wrong)?;
                let map = fitting(norm, stringify!($layer), $on_axis, kernel.inputs())?;
                let obstacle: Option<&'static str> = $obstacle;
                if let Some(what) = obstacle.filter(|_| !map.is_linear()) {
                    return Err(wrong(Error::Unsupported { layer: stringify!($layer), what }));
                }
                folded(self, &kernel.fold_before(&map).map_err(wrong)?)
            }
        }
    )*};
}

folds! {
    layer: Conv1d, |axis| axis == 1 || axis == -2,
        Kernel::convolution(layer.weight().dims(), layer.config().groups),
        (layer.config().padding > 0).then_some(PADS);
    layer: Conv2d, |axis| axis == 1 || axis == -3,
        Kernel::convolution(layer.weight().dims(), layer.config().groups),
        (layer.config().padding > 0).then_some(PADS);
    layer: ConvTranspose1d, |axis| axis == 1 || axis == -2,
        Kernel::transposed_convolution(layer.weight().dims(), layer.config().groups), {
            let c = layer.config();
            partial(layer.weight(), [c.stride, c.dilation, c.padding, c.output_padding])
        };
    layer: ConvTranspose2d, |axis| axis == 1 || axis == -3,
        Kernel::transposed_convolution(layer.weight().dims(), 1), {
            let c = layer.config();
            partial(layer.weight(), [c.stride, c.dilation, c.padding, c.output_padding])
        };
    // x may have any number of axes, so a positive axis is taken at its word: the features are on
    // the last
    layer: Linear, |axis| axis == -1 || axis > 0,
        layer.weight().dims2().map_err(wrong).and_then(|(outputs, inputs)| {
            Kernel::dense([outputs, inputs]).map_err(wrong)
        }),
        None;
}

/// An output p of a transposed convolution has tap k from x at p + padding − dilation·k, if x has
/// that place; the padding cuts off those outputs where it has not for some k.
fn partial(
    weight: &Tensor,
    [stride, dilation, padding, output_padding]: [usize; 4],
) -> Option<&'static str> {
    let reaches = |taps: &usize| padding >= dilation * taps.saturating_sub(1) + output_padding;
    let whole = stride == 1 && weight.dims()[2..].iter().all(reaches);
    (!whole).then_some(PARTIAL)
}

/// The map of the normalization, if its channels are those of the layer.
fn fitting(
    norm: &impl FixedNorm,
    layer: &'static str,
    on_axis: impl Fn(isize) -> bool,
    channels: usize,
) -> Result<Affine> {
    if !on_axis(norm.channel_axis()) {
        let what = "has its channels on another axis than the normalization: those of a \
                    convolution are on axis 1, those of a linear layer on the last; set \
                    with_channel_axis";
        return Err(wrong(Error::Unsupported { layer, what }));
    }
    let map = norm.affine()?;
    if map.channels() != channels {
        let name = "the normalization at this side of the layer";
        let (given, expected) = (vec![map.channels()], vec![channels]);
        return Err(wrong(Error::Parameter { name, given, expected }));
    }
    Ok(map)
}

/// The layer with the folded weight and bias.
fn folded<L: Weighted>(layer: &L, folding: &Folding) -> Result<L> {
    let (weight, bias, config) = layer.parts();
    let read = |tensor: &Tensor| values(tensor, "a layer to fold");
    let numbers =
        folding.fold(&read(weight)?, bias.map(read).transpose()?.as_deref()).map_err(wrong)?;
    let shape = [folding.kernel().outputs()];
    let new_weight = rounded("weight", numbers.weight, weight.dims(), weight)?;
    let new_bias = rounded("bias", numbers.bias, &shape, bias.unwrap_or(weight))?;
    Ok(L::of(new_weight, Some(new_bias), config))
}

/// The numbers in the type and on the device of a parameter, where they fit.
fn rounded(name: &'static str, exact: Vec<f64>, shape: &[usize], like: &Tensor) -> Result<Tensor> {
    let rounded = tensor(exact, &shape.into(), like.dtype(), like.device())?;
    let expected = "finite in the type of the layer; fold in f32";
    match values(&rounded, name)?.into_iter().find(|value| !value.is_finite()) {
        Some(given) => Err(wrong(Error::Number { name, given, expected })),
        None => Ok(rounded),
    }
}
