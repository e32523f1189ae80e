//! A U-Net of two levels and a bottom, with group normalization.
//!
//! Source: O. Ronneberger, P. Fischer, T. Brox, *U-Net*, 2015.

use candle_core::{Result, Tensor};
use candle_nn::loss::mse;
use candle_nn::{
    Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig, Module, VarBuilder,
    conv_transpose2d, conv2d, conv2d_no_bias,
};

use super::norms::{Norm, group_norm};
use super::{Loss, images};
use crate::inputs::{self, COLORS};
use crate::network::Norms;
use crate::network::unet::{GROUPS, WIDTHS};

pub fn loss(norms: Norms, vb: VarBuilder) -> Result<Loss> {
    let (x, target) = inputs::unet();
    let (x, target) = (images(x)?, images(target)?);
    let network = Unet::new(norms, vb)?;
    Ok(Box::new(move || mse(&network.forward(&x)?, &target)))
}

struct Unet {
    down: [Convolutions; 2],
    bottom: Convolutions,
    widen: [ConvTranspose2d; 2],
    up: [Convolutions; 2],
    head: Conv2d,
}

impl Unet {
    fn new(norms: Norms, vb: VarBuilder) -> Result<Self> {
        let [outer, inner, bottom] = WIDTHS;
        let twice = |channels, name| Convolutions::new(channels, norms, vb.pp(name));
        let config = ConvTranspose2dConfig { stride: 2, ..Default::default() };
        let widen =
            |[width, out]: [usize; 2], name| conv_transpose2d(width, out, 2, config, vb.pp(name));
        Ok(Self {
            down: [twice([COLORS, outer], "down0")?, twice([outer, inner], "down1")?],
            bottom: twice([inner, bottom], "bottom")?,
            widen: [widen([inner, outer], "widen0")?, widen([bottom, inner], "widen1")?],
            up: [twice([2 * outer, outer], "up0")?, twice([2 * inner, inner], "up1")?],
            head: conv2d(outer, 1, 1, Conv2dConfig::default(), vb.pp("head"))?,
        })
    }
}

impl Module for Unet {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let outer = self.down[0].forward(x)?;
        let inner = self.down[1].forward(&outer.max_pool2d(2)?)?;
        let bottom = self.bottom.forward(&inner.max_pool2d(2)?)?;
        let inner =
            self.up[1].forward(&Tensor::cat(&[inner, self.widen[1].forward(&bottom)?], 1)?)?;
        let outer =
            self.up[0].forward(&Tensor::cat(&[outer, self.widen[0].forward(&inner)?], 1)?)?;
        self.head.forward(&outer)
    }
}

/// Twice a convolution, normalization and relu.
struct Convolutions([(Conv2d, Norm); 2]);

impl Convolutions {
    fn new([width, out]: [usize; 2], norms: Norms, vb: VarBuilder) -> Result<Self> {
        let layer = |width, vb: VarBuilder| -> Result<_> {
            let config = Conv2dConfig { padding: 1, ..Default::default() };
            let conv = conv2d_no_bias(width, out, 3, config, vb.pp("conv"))?;
            Ok((conv, group_norm(norms, GROUPS, out, vb.pp("norm"))?))
        };
        Ok(Self([layer(width, vb.pp("first"))?, layer(out, vb.pp("second"))?]))
    }
}

impl Module for Convolutions {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.iter().try_fold(x.clone(), |x, (conv, norm)| norm(&conv.forward(&x)?)?.relu())
    }
}
