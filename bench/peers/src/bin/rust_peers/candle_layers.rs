//! Candle's own layers on the CPU. Its fused layer and RMS normalization have no gradient, so
//! training takes the forms that have; it starts from dy as the gradient of Σ y · dy.

use std::rc::Rc;

use candle_core::{Device, Result, Tensor, Var};
use candle_nn::{BatchNorm, GroupNorm, Module, ModuleT, ops};
use cellnorm_peers::case::Norm;

use crate::Prepared;
use crate::inputs::{EPSILON, Inputs, Step, Task};

type Forward = Rc<dyn Fn(&Tensor) -> Result<Tensor>>;

/// None for what Candle does not have.
pub fn prepare(task: &Task, inputs: &Inputs) -> Option<Prepared> {
    if task.norm == Norm::Instance {
        return None;
    }
    ready(task, inputs).ok()
}

fn ready(task: &Task, inputs: &Inputs) -> Result<Prepared> {
    let tensor = |values: &[f32]| Tensor::from_slice(values, &task.shape[..], &Device::Cpu);
    let (x, dy) = (tensor(inputs.x.slice())?, tensor(inputs.dy.slice())?);
    let forward = layer(task, inputs)?;
    let values =
        |tensor: Tensor| tensor.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("f32");
    if task.step != Step::Training {
        let (again, same) = (forward.clone(), x.clone());
        return Ok(Prepared {
            run: Box::new(move || drop(std::hint::black_box(forward(&x).expect("ran before")))),
            results: Box::new(move || vec![values(again(&same).expect("a valid shape"))]),
        });
    }
    let x = Var::from_tensor(&x)?;
    let step = Rc::new(move || -> Result<(Tensor, Tensor)> {
        let y = forward(x.as_tensor())?;
        let gradients = (&y * &dy)?.backward()?;
        let dx = gradients.get(x.as_tensor()).expect("x is a variable").clone();
        Ok((y, dx))
    });
    let again = step.clone();
    Ok(Prepared {
        run: Box::new(move || drop(std::hint::black_box(step().expect("ran before")))),
        results: Box::new(move || {
            let (y, dx) = again().expect("a valid shape");
            vec![values(y), values(dx)]
        }),
    })
}

fn layer(task: &Task, inputs: &Inputs) -> Result<Forward> {
    let channels = task.channels();
    let vector = |values: Vec<f32>| Tensor::from_vec(values, channels, &Device::Cpu);
    let variable = |values: Vec<f32>| {
        Ok::<_, candle_core::Error>(Var::from_tensor(&vector(values)?)?.as_tensor().clone())
    };
    let single = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<f32>>();
    let training = task.step == Step::Training;
    let gamma = if training { variable(inputs.gamma_f32())? } else { vector(inputs.gamma_f32())? };
    let beta = || if training { variable(inputs.beta_f32()) } else { vector(inputs.beta_f32()) };
    Ok(match task.norm {
        Norm::Batch => {
            let (mean, variance) =
                (vector(single(&inputs.mean))?, vector(single(&inputs.variance))?);
            let layer = BatchNorm::new(channels, mean, variance, gamma, beta()?, EPSILON)?;
            let learns = task.step != Step::Inference;
            Rc::new(move |x| layer.forward_t(x, learns))
        }
        Norm::Group { groups } => {
            let layer = GroupNorm::new(gamma, beta()?, channels, groups, EPSILON)?;
            Rc::new(move |x| layer.forward(x))
        }
        Norm::Layer => {
            let beta = beta()?;
            let run = if training { ops::layer_norm_slow } else { ops::layer_norm };
            Rc::new(move |x| run(x, &gamma, &beta, EPSILON as f32))
        }
        Norm::Rms | Norm::Instance => {
            let run = if training { ops::rms_norm_slow } else { ops::rms_norm };
            Rc::new(move |x| run(x, &gamma, EPSILON as f32))
        }
    })
}
