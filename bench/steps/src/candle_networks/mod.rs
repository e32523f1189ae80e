//! The networks in Candle on the CPU, trained by plain stochastic gradient descent.

mod convnext;
mod norms;
mod resnet18;
mod transformer;
mod unet;

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Optimizer, SGD, VarBuilder, VarMap};

use crate::calls::{Call, record};
use crate::inputs::Images;
use crate::network::{LEARNING_RATE, Network, Norms};
use crate::training::{Error, Step, Training, Trainings};

/// The loss of a network on its batch.
type Loss = Box<dyn Fn() -> Result<Tensor>>;

/// Theirs and ours, from equal weights.
pub fn trainings(network: Network) -> std::result::Result<Trainings, Error> {
    let new = match network {
        Network::Resnet18 => resnet18::loss,
        Network::Convnext => convnext::loss,
        Network::Transformer => transformer::loss,
        Network::Unet => unet::loss,
    };
    let (theirs, ours) = (Trainer::new(new, Norms::Theirs)?, Trainer::new(new, Norms::Ours)?);
    ours.take_weights_of(&theirs)?;
    Ok([Box::new(theirs), Box::new(ours)])
}

struct Trainer {
    variables: VarMap,
    loss: Loss,
    optimizer: SGD,
    norms: Vec<Call>,
}

impl Trainer {
    fn new(loss: fn(Norms, VarBuilder) -> Result<Loss>, norms: Norms) -> Result<Self> {
        let variables = VarMap::new();
        let loss = loss(norms, VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
        let optimizer = SGD::new(variables.all_vars(), LEARNING_RATE)?;
        let (first, norms) = record(&loss);
        first?;
        Ok(Self { variables, loss, optimizer, norms })
    }

    fn take_weights_of(&self, other: &Trainer) -> Result<()> {
        let from = other.variables.data().lock().expect("no thread panicked");
        let to = self.variables.data().lock().expect("no thread panicked");
        to.iter().try_for_each(|(name, variable)| variable.set(&from[name]))
    }
}

impl Training for Trainer {
    fn step(&mut self) -> std::result::Result<Step, Error> {
        let start = Instant::now();
        let loss = (self.loss)()?;
        let gradients = loss.backward()?;
        self.optimizer.step(&gradients)?;
        drop(gradients);
        let seconds = start.elapsed().as_secs_f64();
        Ok(Step { loss: f64::from(loss.to_scalar::<f32>()?), seconds })
    }

    fn norms(&self) -> &[Call] {
        &self.norms
    }
}

fn images(Images { shape, values }: Images) -> Result<Tensor> {
    Tensor::from_vec(values, &shape, &Device::Cpu)
}
