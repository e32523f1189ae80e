//! Gradients of replicas, added up.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use cellnorm::Error;
use cellnorm::ranks::{Communicator, exchange};

/// The sums over ranks of the gradients of a module's parameters, the same bits on every rank. A parameter that only some ranks have a
/// gradient of counts as 0 on the others.
///
/// # Errors
/// If a rank has another module, or is gone.
///
/// ```
/// use burn::{optim::GradientsParams, tensor::{Device, Tensor}};
/// use cellnorm_burn::{LayerNormConfig, ranks::{Alone, sum_gradients}};
/// let device = Device::flex().autodiff();
/// let layer = LayerNormConfig::new(3).init(&device);
/// let loss = layer.forward(Tensor::<2>::ones([2, 3], &device)).sum();
/// let gradients = sum_gradients(&layer, GradientsParams::from_grads(loss.backward(), &layer), &Alone)?;
/// let beta = layer.beta.as_ref().unwrap().id;
/// assert_eq!(gradients.get::<1>(beta).unwrap().into_data().to_vec::<f32>().unwrap(), [2.0; 3]);
/// # Ok::<(), cellnorm_burn::cellnorm::Error>(())
/// ```
pub fn sum_gradients<M: Module>(
    module: &M,
    gradients: GradientsParams,
    over: &dyn Communicator,
) -> Result<GradientsParams, Error> {
    let mut taken = Taken { gradients, numbers: vec![], shapes: vec![] };
    module.visit(&mut taken);
    let Taken { gradients, mut numbers, shapes } = taken;
    exchange::<Error>(over, &format!("the sum of the gradients of parameters {shapes:?}"), Ok(vec![]))?;
    over.sum(&mut numbers)?;
    let mut given = Given { gradients, numbers: &numbers };
    module.visit(&mut given);
    Ok(given.gradients)
}

/// For each parameter, how many ranks have a gradient, and its numbers.
struct Taken {
    gradients: GradientsParams,
    numbers: Vec<f64>,
    shapes: Vec<Vec<usize>>,
}

impl ModuleVisitor for Taken {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.shapes.push(param.val().dims().to_vec());
        match self.gradients.get::<D>(param.id) {
            Some(gradient) => {
                self.numbers.push(1.0);
                self.numbers.extend(gradient.into_data().iter::<f64>());
            }
            None => {
                let len = param.val().shape().num_elements();
                self.numbers.extend(std::iter::repeat_n(0.0, 1 + len));
            }
        }
    }
}

struct Given<'a> {
    gradients: GradientsParams,
    numbers: &'a [f64],
}

impl ModuleVisitor for Given<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let (ranks, rest) = self.numbers.split_at(1);
        let (numbers, rest) = rest.split_at(value.shape().num_elements());
        self.numbers = rest;
        if ranks[0] == 0.0 {
            return;
        }
        let device = value.device().inner();
        let sum = Tensor::<D>::from_data(TensorData::new(numbers.to_vec(), value.shape()), (&device, value.dtype()));
        self.gradients.remove::<D>(param.id);
        self.gradients.register(param.id, sum);
    }
}
