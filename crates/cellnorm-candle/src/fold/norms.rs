//! What batch normalizations do to each channel in inference.

use candle_core::{Result, Tensor};
use cellnorm::fold::Affine;

use super::FixedNorm;
use crate::BatchNorm;
use crate::numbers::{of_tensor, wrong};

const NAME: &str = "batch normalization";

impl FixedNorm for BatchNorm {
    fn affine(&self) -> Result<Affine> {
        of_batch_norm(self.weight_and_bias(), [self.running_mean(), self.running_var()], self.eps())
    }

    fn channel_axis(&self) -> isize {
        BatchNorm::channel_axis(self)
    }
}

/// candle-nn's own layer. Its channels are on axis 1.
impl FixedNorm for candle_nn::BatchNorm {
    fn affine(&self) -> Result<Affine> {
        of_batch_norm(self.weight_and_bias(), [self.running_mean(), self.running_var()], self.eps())
    }
}

/// A map as it is, of channels on axis 1.
impl FixedNorm for Affine {
    fn affine(&self) -> Result<Affine> {
        Ok(self.clone())
    }
}

fn of_batch_norm(
    parameters: Option<(&Tensor, &Tensor)>,
    running: [&Tensor; 2],
    epsilon: f64,
) -> Result<Affine> {
    let read = |tensor: &Tensor| of_tensor(tensor, NAME);
    let (gamma, beta) = parameters
        .map(|(gamma, beta)| Ok::<_, candle_core::Error>((read(gamma)?, read(beta)?)))
        .transpose()?
        .unzip();
    let [mean, variance] = running.map(read);
    Affine::of_batch_norm(gamma.as_deref(), beta.as_deref(), &mean?, &variance?, epsilon)
        .map_err(wrong)
}
