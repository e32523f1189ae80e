//! How Burn's layers hold their weights, and which of them show every output the whole kernel.

use burn::nn::conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
use burn::nn::{Linear, PaddingConfig1d, PaddingConfig2d, PaddingConfig3d};
use cellnorm::Error;
use cellnorm::fold::{Affine, Kernel};

use super::numbers::fold;
use super::{FixedNorm, Fold};

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
                let [stride, dilation] = [layer.stride, layer.dilation].map($list);
                let [padding, padding_out] = [layer.padding, layer.padding_out].map($list);
                // an output p has tap k from x at p + padding − dilation·k, if x has that place;
                // the padding cuts off those outputs where it has not for some k
                let whole = layer.weight.dims()[2..].iter().enumerate().all(|(axis, taps)| {
                    stride[axis] == 1 && padding[axis] >= dilation[axis] * taps.saturating_sub(1) + padding_out[axis]
                });
                (!whole).then_some(PARTIAL)
            }
        );
    )*};
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
