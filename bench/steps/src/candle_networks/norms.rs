//! The layers that take turns: candle-nn's and ours of the same names and arguments.
//!
//! `candle_nn::LayerNorm` runs a fused operation without a gradient where it can, so theirs is
//! `candle_nn::ops::layer_norm_slow`, which has one.

use std::cmp::Reverse;
use std::rc::Rc;

use candle_core::{Result, Tensor, Var};
use candle_nn::{Init, Module, ModuleT, VarBuilder, ops};

use crate::calls::{Call, Work, keep, recording};
use crate::network::{EPSILON, Norms};

pub type Norm = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

pub fn batch_norm(norms: Norms, channels: usize, vb: VarBuilder) -> Result<Norm> {
    Ok(match norms {
        Norms::Theirs => {
            let layer = candle_nn::batch_norm(channels, EPSILON, vb)?;
            recorded(move |x| layer.forward_t(x, true))
        }
        Norms::Ours => {
            let layer = cellnorm_candle::batch_norm(channels, EPSILON, vb)?;
            recorded(move |x| layer.forward_t(x, true))
        }
    })
}

pub fn layer_norm(norms: Norms, width: usize, vb: VarBuilder) -> Result<Norm> {
    Ok(match norms {
        Norms::Theirs => {
            let gamma = vb.get_with_hints(width, "weight", Init::Const(1.0))?;
            let beta = vb.get_with_hints(width, "bias", Init::Const(0.0))?;
            recorded(move |x| ops::layer_norm_slow(x, &gamma, &beta, EPSILON as f32))
        }
        Norms::Ours => {
            let layer = cellnorm_candle::layer_norm(width, EPSILON, vb)?;
            recorded(move |x| layer.forward(x))
        }
    })
}

pub fn group_norm(norms: Norms, groups: usize, channels: usize, vb: VarBuilder) -> Result<Norm> {
    Ok(match norms {
        Norms::Theirs => {
            let layer = candle_nn::group_norm(groups, channels, EPSILON, vb)?;
            recorded(move |x| layer.forward(x))
        }
        Norms::Ours => {
            let layer = cellnorm_candle::group_norm(groups, channels, EPSILON, vb)?;
            recorded(move |x| layer.forward(x))
        }
    })
}

/// The layer as a function whose calls can be recorded.
fn recorded(layer: impl Fn(&Tensor) -> Result<Tensor> + 'static) -> Norm {
    let layer = Rc::new(layer);
    Box::new(move |x| {
        if recording() {
            keep(call(layer.clone(), x)?);
        }
        layer(x)
    })
}

fn call(layer: Rc<impl Fn(&Tensor) -> Result<Tensor> + 'static>, x: &Tensor) -> Result<Call> {
    Ok(Call {
        norm: forward_and_backward(x, move |x| layer(x))?,
        identity: forward_and_backward(x, |x| Ok(x.clone()))?,
    })
}

/// `layer` on a variable whose values lie in memory as those of x.
fn forward_and_backward(
    x: &Tensor,
    layer: impl Fn(&Tensor) -> Result<Tensor> + 'static,
) -> Result<Work> {
    let mut order: Vec<usize> = (0..x.rank()).collect();
    order.sort_by_key(|&axis| Reverse(x.stride()[axis]));
    let mut back = vec![0; x.rank()];
    order.iter().enumerate().for_each(|(at, &axis)| back[axis] = at);
    // a variable is contiguous, so it is permuted
    let variable = Var::from_tensor(&x.detach().permute(order)?)?;
    Ok(Box::new(move || {
        let gradients = layer(&variable.permute(&back[..])?)?.backward()?;
        gradients.get(&variable).map(drop).ok_or_else(|| "the input got no gradient".into())
    }))
}
