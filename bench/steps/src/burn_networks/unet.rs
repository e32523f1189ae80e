//! A U-Net of two levels and a bottom, with group normalization.
//!
//! Source: O. Ronneberger, P. Fischer, T. Brox, *U-Net*, 2015.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::loss::{MseLoss, Reduction};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::norms::GroupNorm;
use super::{Learner, images};
use crate::inputs::{self, COLORS};
use crate::network::Norms;
use crate::network::unet::{GROUPS, WIDTHS};

#[derive(Module, Debug)]
pub struct Unet {
    down: [Convolutions; 2],
    pool: MaxPool2d,
    bottom: Convolutions,
    widen: [ConvTranspose2d; 2],
    up: [Convolutions; 2],
    head: Conv2d,
}

impl Unet {
    pub fn new(norms: Norms, device: &Device) -> Self {
        let [outer, inner, bottom] = WIDTHS;
        let twice = |channels| Convolutions::new(channels, norms, device);
        let widen = |channels| {
            ConvTranspose2dConfig::new(channels, [2, 2]).with_stride([2, 2]).init(device)
        };
        Self {
            down: [twice([COLORS, outer]), twice([outer, inner])],
            pool: MaxPool2dConfig::new([2, 2]).init(),
            bottom: twice([inner, bottom]),
            widen: [widen([inner, outer]), widen([bottom, inner])],
            up: [twice([2 * outer, outer]), twice([2 * inner, inner])],
            head: Conv2dConfig::new([outer, 1], [1, 1]).init(device),
        }
    }
}

impl Learner for Unet {
    type Batch = (Tensor<4>, Tensor<4>);

    fn batch(device: &Device) -> Self::Batch {
        let (x, target) = inputs::unet();
        (images(x, device), images(target, device))
    }

    fn loss(&self, (x, target): &Self::Batch) -> Tensor<1> {
        let outer = self.down[0].forward(x.clone());
        let inner = self.down[1].forward(self.pool.forward(outer.clone()));
        let bottom = self.bottom.forward(self.pool.forward(inner.clone()));
        let inner = self.up[1].forward(Tensor::cat(vec![inner, self.widen[1].forward(bottom)], 1));
        let outer = self.up[0].forward(Tensor::cat(vec![outer, self.widen[0].forward(inner)], 1));
        MseLoss::new().forward(self.head.forward(outer), target.clone(), Reduction::Mean)
    }
}

/// Twice a convolution, normalization and relu.
#[derive(Module, Debug)]
struct Convolutions {
    convs: [Conv2d; 2],
    norms: [GroupNorm; 2],
}

impl Convolutions {
    fn new([width, out]: [usize; 2], norms: Norms, device: &Device) -> Self {
        let conv = |width| {
            let conv = Conv2dConfig::new([width, out], [3, 3])
                .with_padding(PaddingConfig2d::Same)
                .with_bias(false);
            conv.init(device)
        };
        let norm = || GroupNorm::new(norms, GROUPS, out, device);
        Self { convs: [conv(width), conv(out)], norms: [norm(), norm()] }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let layers = self.convs.iter().zip(&self.norms);
        layers.fold(x, |x, (conv, norm)| relu(norm.forward(conv.forward(x))))
    }
}
