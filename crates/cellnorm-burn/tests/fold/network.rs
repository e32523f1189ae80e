//! A network after some steps of training, folded from end to end.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{self, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use cellnorm_burn::cellnorm::Error;
use cellnorm_burn::fold::Fold;
use cellnorm_burn::{BatchNorm, BatchNormConfig};

use super::common::{assert_near, random};

/// x → first → batch → up → theirs → relu → ahead → last → behind.
#[derive(Module, Debug)]
struct Network {
    first: Conv2d,
    batch: BatchNorm,
    up: ConvTranspose2d,
    theirs: nn::BatchNorm,
    ahead: BatchNorm,
    last: Linear,
    behind: nn::BatchNorm,
}

/// The same without normalizations.
#[derive(Module, Debug)]
struct Folded {
    first: Conv2d,
    up: ConvTranspose2d,
    last: Linear,
}

impl Network {
    fn new(device: &Device) -> Self {
        let first =
            Conv2dConfig::new([3, 8], [3, 3]).with_padding(PaddingConfig2d::Same).with_bias(false);
        let up = ConvTranspose2dConfig::new([8, 4], [2, 2]).with_stride([2, 2]).with_groups(2);
        Self {
            first: first.init(device),
            batch: BatchNormConfig::new(8).init(device),
            up: up.init(device),
            theirs: nn::BatchNormConfig::new(4).init(device),
            ahead: BatchNormConfig::new(4 * 12 * 12).with_channel_axis(-1).init(device),
            last: LinearConfig::new(4 * 12 * 12, 5).with_bias(false).init(device),
            behind: nn::BatchNormConfig::new(5).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.batch.forward(self.first.forward(x));
        let x = relu(self.theirs.forward(self.up.forward(x)));
        let x = self.ahead.forward(x.flatten::<2>(1, 3));
        self.behind.forward(self.last.forward(x))
    }

    fn fold(self) -> Result<Folded, Error> {
        Ok(Folded {
            first: self.first.fold_after(&self.batch)?,
            up: self.up.fold_after(&self.theirs)?,
            last: self.last.fold_before(&self.ahead)?.fold_after(&self.behind)?,
        })
    }
}

impl Folded {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.up.forward(self.first.forward(x)));
        self.last.forward(x.flatten::<2>(1, 3))
    }
}

#[test]
fn a_trained_network() -> Result<(), Error> {
    let device = Device::flex().autodiff();
    let mut network = Network::new(&device);
    let mut optimizer = SgdConfig::new().init();
    for _ in 0..6 {
        let x = random([16, 3, 6, 6], &device);
        // something to learn: the sign of the sum of a channel moves one output
        let target = x.clone().sum_dim(3).sum_dim(2).flatten::<2>(1, 3).sign();
        let y = network.forward(x).narrow(1, 0, 3);
        let loss = (y - target).square().mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        network = optimizer.step(0.05, network, gradients);
    }
    let moved = network.batch.running_mean.value_sync().abs().max().into_scalar::<f32>();
    assert!(moved > 0.01, "the statistics are not those of the start: {moved}");
    assert!(network.clone().fold().is_err(), "it trains still");

    let network = network.valid();
    let x = random([7, 3, 6, 6], &Device::flex());
    let expected = network.forward(x.clone());
    let parameters = network.num_params();
    let folded = network.fold()?;
    // without γ, β and the running statistics, but with three biases instead of one
    println!("{parameters} parameters before, {} after", folded.num_params());
    assert_eq!(folded.num_params(), 8 * 3 * 9 + 8 + 8 * 2 * 4 + 4 + 4 * 12 * 12 * 5 + 5);
    assert_near(folded.forward(x), expected, "the network");
    Ok(())
}
