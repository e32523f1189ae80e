//! The layers that take turns: Burn's, and ours of the same names and arguments.

use burn::module::Module;
use burn::nn;
use burn::tensor::{Device, Tensor};

use crate::calls::{Call, Work, keep, recording};
use crate::network::{EPSILON, Norms};

macro_rules! layers {
    ($($layer:ident: $config:ident($($size:ident),*);)*) => {
        $(
            #[derive(Module, Debug)]
            pub enum $layer {
                Theirs(nn::$layer),
                Ours(cellnorm_burn::$layer),
            }

            impl $layer {
                pub fn new(norms: Norms, $($size: usize,)* device: &Device) -> Self {
                    match norms {
                        Norms::Theirs => Self::Theirs(nn::$config::new($($size),*).with_epsilon(EPSILON).init(device)),
                        Norms::Ours => {
                            Self::Ours(cellnorm_burn::$config::new($($size),*).with_epsilon(EPSILON).init(device))
                        }
                    }
                }

                pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
                    if recording() {
                        keep(self.call(&x));
                    }
                    self.normalize(x)
                }

                fn normalize<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
                    match self {
                        Self::Theirs(layer) => layer.forward(x),
                        Self::Ours(layer) => layer.forward(x),
                    }
                }

                fn call<const D: usize>(&self, x: &Tensor<D>) -> Call {
                    let layer = self.clone();
                    Call {
                        norm: forward_and_backward(x, move |x| layer.normalize(x)),
                        identity: forward_and_backward(x, |x| x),
                    }
                }
            }
        )*
    };
}

layers! {
    BatchNorm: BatchNormConfig(channels);
    LayerNorm: LayerNormConfig(width);
    GroupNorm: GroupNormConfig(groups, channels);
}

fn forward_and_backward<const D: usize>(
    x: &Tensor<D>,
    layer: impl Fn(Tensor<D>) -> Tensor<D> + 'static,
) -> Work {
    let x = x.clone().detach();
    Box::new(move || {
        let x = x.clone().require_grad();
        let gradients = layer(x.clone()).backward();
        x.grad(&gradients).map(drop).ok_or_else(|| "the input got no gradient".into())
    })
}
