//! How Candle's layers hold their weights, and which of them show every output the whole kernel.

use candle_core::{Result, Tensor};
use candle_nn::{Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, Linear};
use cellnorm::Error;
use cellnorm::fold::{Affine, Folding, Kernel};

use super::{FixedNorm, Fold};
use crate::numbers::{of_tensor, tensor, wrong};
use crate::weights::Weighted;

const PADS: &str = "pads with zeros, which are not shifted, so a shift ahead of it reaches the \
                    outputs at the border in part and is no bias; keep the normalization, or \
                    build the network with it behind the convolution or without padding";

const PARTIAL: &str = "has outputs, at the border or between strides, that see a part of the \
                       kernel, so a shift ahead of it is no bias; keep the normalization, or \
                       build the network with it behind, or with stride 1 and a padding of at \
                       least dilation * (kernel - 1) + output_padding";

/// A layer's kernel, the axes that hold its channels, and why a shift ahead of it is no bias, if it
/// is not.
macro_rules! folds {
    ($($layer:ident: $kernel:expr, $on_axis:expr, $obstacle:expr;)*) => {$(
        impl Fold for $layer {
            fn fold_behind(&self, norm: &impl FixedNorm) -> Result<Self> {
                let kernel: Kernel = $kernel(self).map_err(wrong)?;
                let map = fitting(norm, stringify!($layer), $on_axis, kernel.outputs())?;
                folded(self, &kernel.fold_after(&map).map_err(wrong)?)
            }

            fn fold_ahead(&self, norm: &impl FixedNorm) -> Result<Self> {
                let kernel: Kernel = $kernel(self).map_err(wrong)?;
                let map = fitting(norm, stringify!($layer), $on_axis, kernel.inputs())?;
                let obstacle: Option<&'static str> = $obstacle(self);
                if let Some(what) = obstacle.filter(|_| !map.is_linear()) {
                    return Err(wrong(Error::Unsupported { layer: stringify!($layer), what }));
                }
                folded(self, &kernel.fold_before(&map).map_err(wrong)?)
            }
        }
    )*};
}

folds! {
    Conv1d:
        |layer: &Conv1d| Kernel::convolution(layer.weight().dims(), layer.config().groups),
        |axis| axis == 1 || axis == -2,
        |layer: &Conv1d| (layer.config().padding > 0).then_some(PADS);
    Conv2d:
        |layer: &Conv2d| Kernel::convolution(layer.weight().dims(), layer.config().groups),
        |axis| axis == 1 || axis == -3,
        |layer: &Conv2d| (layer.config().padding > 0).then_some(PADS);
    ConvTranspose1d:
        |layer: &ConvTranspose1d| Kernel::transposed_convolution(layer.weight().dims(), layer.config().groups),
        |axis| axis == 1 || axis == -2,
        |layer: &ConvTranspose1d| {
            let of = layer.config();
            partial(layer.weight(), [of.stride, of.dilation, of.padding, of.output_padding])
        };
    ConvTranspose2d:
        |layer: &ConvTranspose2d| Kernel::transposed_convolution(layer.weight().dims(), 1),
        |axis| axis == 1 || axis == -3,
        |layer: &ConvTranspose2d| {
            let of = layer.config();
            partial(layer.weight(), [of.stride, of.dilation, of.padding, of.output_padding])
        };
    Linear:
        |layer: &Linear| layer.weight().dims2().map_err(|e| e.to_string()).and_then(|(outputs, inputs)| Kernel::dense([outputs, inputs]).map_err(|e| e.to_string())),
        // x may have any number of axes, so a positive axis is taken at its word: the features are
        // on the last
        |axis| axis == -1 || axis > 0,
        |_: &Linear| None;
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

/// What the normalization does, if its channels are those of the layer.
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
        let (given, expected) = (vec![map.channels()], vec![channels]);
        return Err(wrong(Error::Parameter {
            name: "the normalization at this side of the layer",
            given,
            expected,
        }));
    }
    Ok(map)
}

/// The layer with the folded weight and bias.
fn folded<L: Weighted>(layer: &L, folding: &Folding) -> Result<L> {
    let (weight, bias, config) = layer.parts();
    let read = |tensor: &Tensor| of_tensor(tensor, "a layer to fold");
    let numbers =
        folding.fold(&read(weight)?, bias.map(read).transpose()?.as_deref()).map_err(wrong)?;
    let shape = [folding.kernel().outputs()];
    let new_weight = rounded("weight", numbers.weight, weight.dims(), weight)?;
    let new_bias = rounded("bias", numbers.bias, &shape, bias.unwrap_or(weight))?;
    Ok(L::of(new_weight, Some(new_bias), config))
}

/// The numbers in the type and on the device of a parameter, where they fit.
fn rounded(name: &'static str, values: Vec<f64>, shape: &[usize], like: &Tensor) -> Result<Tensor> {
    let rounded = tensor(values, &shape.into(), like.dtype(), like.device())?;
    match of_tensor(&rounded, name)?.into_iter().find(|value| !value.is_finite()) {
        Some(given) => Err(wrong(Error::Number {
            name,
            given,
            expected: "finite in the type of the layer; fold in f32",
        })),
        None => Ok(rounded),
    }
}
