//! Burn's own layers on its CPU backend Flex. Training starts from dy as the gradient of Σ y · dy.

use burn::module::{Param, RunningState};
use burn::nn;
use burn::tensor::{Device, Tensor, TensorData};
use cellnorm_peers::case::Norm;

use crate::Prepared;
use crate::inputs::{EPSILON, Inputs, Step, Task};

pub fn prepare(task: &Task, inputs: &Inputs) -> Option<Prepared> {
    let channels = task.channels();
    Some(if task.is_rows() {
        ready(task, inputs, [inputs.x.slice().len() / channels, channels])
    } else {
        ready::<4>(task, inputs, task.shape[..].try_into().ok()?)
    })
}

fn ready<const D: usize>(task: &Task, inputs: &Inputs, shape: [usize; D]) -> Prepared {
    // batch normalization learns from the batch only where a gradient can be asked for
    let plain = Device::flex();
    let learns =
        task.step == Step::Training || (task.norm == Norm::Batch && task.step == Step::Forward);
    let device = if learns { plain.autodiff() } else { plain };
    let forward = std::rc::Rc::new(layer::<D>(task, inputs, &device));
    let tensor =
        |values: &[f32]| Tensor::<D>::from_data(TensorData::new(values.to_vec(), shape), &device);
    let (x, dy) = (tensor(inputs.x.slice()), tensor(inputs.dy.slice()));
    let values = |tensor: Tensor<D>| tensor.into_data().try_to_vec::<f32>().expect("f32");
    if task.step != Step::Training {
        let (again, same) = (forward.clone(), x.clone());
        return Prepared {
            run: Box::new(move || drop(std::hint::black_box(forward(x.clone())))),
            results: Box::new(move || vec![values(again(same.clone()))]),
        };
    }
    let x = x.require_grad();
    let step = move || {
        let y = forward(x.clone());
        let gradients = (y.clone() * dy.clone()).backward();
        (y, x.grad(&gradients).expect("x requires a gradient"))
    };
    let step = std::rc::Rc::new(step);
    let again = step.clone();
    Prepared {
        run: Box::new(move || drop(std::hint::black_box(step()))),
        results: Box::new(move || {
            let (y, dx) = again();
            vec![values(y), values(dx)]
        }),
    }
}

fn layer<const D: usize>(
    task: &Task,
    inputs: &Inputs,
    device: &Device,
) -> Box<dyn Fn(Tensor<D>) -> Tensor<D>> {
    let channels = task.channels();
    let vector =
        |values: Vec<f32>| Tensor::<1>::from_data(TensorData::new(values, [channels]), device);
    let single = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<f32>>();
    let gamma = Param::from_tensor(vector(inputs.gamma_f32()));
    let beta = || Param::from_tensor(vector(inputs.beta_f32()));
    match task.norm {
        Norm::Batch => {
            let mut layer = nn::BatchNormConfig::new(channels).with_epsilon(EPSILON).init(device);
            (layer.gamma, layer.beta) = (gamma, beta());
            layer.running_mean = RunningState::new(vector(single(&inputs.mean)));
            layer.running_var = RunningState::new(vector(single(&inputs.variance)));
            Box::new(move |x| layer.forward(x))
        }
        Norm::Group { groups } => {
            let mut layer =
                nn::GroupNormConfig::new(groups, channels).with_epsilon(EPSILON).init(device);
            (layer.gamma, layer.beta) = (Some(gamma), Some(beta()));
            Box::new(move |x| layer.forward(x))
        }
        Norm::Instance => {
            let mut layer =
                nn::InstanceNormConfig::new(channels).with_epsilon(EPSILON).init(device);
            (layer.gamma, layer.beta) = (Some(gamma), Some(beta()));
            Box::new(move |x| layer.forward(x))
        }
        Norm::Layer => {
            let mut layer = nn::LayerNormConfig::new(channels).with_epsilon(EPSILON).init(device);
            (layer.gamma, layer.beta) = (gamma, Some(beta()));
            Box::new(move |x| layer.forward(x))
        }
        Norm::Rms => {
            let mut layer = nn::RmsNormConfig::new(channels).with_epsilon(EPSILON).init(device);
            layer.gamma = gamma;
            Box::new(move |x| layer.forward(x))
        }
    }
}
