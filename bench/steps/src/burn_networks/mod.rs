//! The networks in Burn, on its CPU backend Flex with autodiff, trained by plain stochastic
//! gradient descent.

mod convnext;
mod norms;
mod resnet18;
mod transformer;
mod unet;

use std::time::Instant;

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::calls::{Call, record};
use crate::inputs::Images;
use crate::network::{LEARNING_RATE, Network, Norms};
use crate::training::{Error, Step, Training, Trainings};

/// A network with a loss.
trait Learner: Module + 'static {
    type Batch;

    fn batch(device: &Device) -> Self::Batch;

    fn loss(&self, batch: &Self::Batch) -> Tensor<1>;
}

/// Theirs and ours, from equal weights.
pub fn trainings(network: Network) -> Trainings {
    match network {
        Network::Resnet18 => trainers(resnet18::Resnet18::new),
        Network::Convnext => trainers(convnext::Convnext::new),
        Network::Transformer => trainers(transformer::Encoder::new),
        Network::Unet => trainers(unet::Unet::new),
    }
}

fn trainers<L: Learner>(new: fn(Norms, &Device) -> L) -> Trainings {
    let device = Device::flex().autodiff();
    Norms::ALL.map(|norms| -> Box<dyn Training> {
        device.seed(1);
        let (network, batch) = (new(norms, &device), L::batch(&device));
        // weights are drawn where they are first used: now, from the seed
        let (_, norms) = record(|| network.loss(&batch));
        Box::new(Trainer {
            network: Some(network),
            optimizer: SgdConfig::new().init(),
            batch,
            norms,
        })
    })
}

struct Trainer<L: Learner> {
    /// Always some between steps: the optimizer consumes it, and gives it back.
    network: Option<L>,
    optimizer: ModuleOptimizer,
    batch: L::Batch,
    norms: Vec<Call>,
}

impl<L: Learner> Training for Trainer<L> {
    fn step(&mut self) -> Result<Step, Error> {
        let network = self.network.take().ok_or("the step before has failed")?;
        let start = Instant::now();
        let loss = network.loss(&self.batch);
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        self.network = Some(self.optimizer.step(LEARNING_RATE, network, gradients));
        let seconds = start.elapsed().as_secs_f64();
        Ok(Step { loss: f64::from(loss.into_scalar::<f32>()), seconds })
    }

    fn norms(&self) -> &[Call] {
        &self.norms
    }
}

fn images(Images { shape, values }: Images, device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn numbers<const D: usize>(values: Vec<u32>, shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    let values: Vec<i64> = values.into_iter().map(i64::from).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}
