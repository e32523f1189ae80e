//! Every layer that is a rule, and every layer under a mask, gives in Burn what it gives on arrays:
//! y, gradients, running averages.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Gradients, Tensor};
use cellnorm_burn as ours;
use cellnorm_burn::cellnorm::Mask;
use cellnorm_burn::cellnorm::shape::Excluded;
use cellnorm_burn::cellnorm::{self, Normalization, Semantics};

use crate::common::{bools, close, devices, list, randomize, tensor, values};

/// The gradients of a module's parameters, by name.
struct Named<'a>(&'a Gradients, Vec<(String, Vec<f32>)>, String);

impl ModuleVisitor for Named<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.2 = name.to_string();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.0) {
            self.1.push((self.2.clone(), list(gradient)));
        }
    }
}

const LENGTHS: [usize; 4] = [2, 1, 2, 2];
const SHAPE: [usize; 4] = [4, 3, 2, 3];

/// A Burn layer against the layer on arrays that it was made from.
macro_rules! agrees {
    ($layer:ident, $config:expr, $shape:expr, $axis:expr) => {{
        let mut arrays = $config.init().unwrap();
        randomize(&mut arrays);
        for device in devices() {
            for excluded in [None, Some(Excluded::Zero), Some(Excluded::Normalized)] {
                let (mut arrays, masked) = (arrays.clone(), excluded.is_some());
                arrays.excluded = excluded.unwrap_or_default();
                let what = format!("{}, masked {excluded:?}, {device:?}", stringify!($layer));
                let layer = ours::$layer::from_arrays(&arrays, &device);
                let (x, dy) = (values(&$shape, 3), values(&$shape, 4));
                let mask = Mask::lengths(&LENGTHS, $axis);
                let bools = bools(&mask, $shape, &device);
                let input = tensor::<{ $shape.len() }>(&x, &device).require_grad();
                let y = if masked {
                    layer.forward_masked(input.clone(), bools)
                } else {
                    layer.forward(input.clone())
                };
                let gradients = (y.clone() * tensor(&dy, &device)).sum().backward();
                let (expected, saved) = if masked {
                    arrays.forward_masked(x.view(), &mask).unwrap()
                } else {
                    arrays.forward(x.view()).unwrap()
                };
                let of_arrays = arrays.backward(&saved, x.view(), dy).unwrap();
                close(list(y), &expected, &format!("y of {what}"));
                close(
                    list(input.grad(&gradients).unwrap()),
                    &of_arrays.dx,
                    &format!("dx of {what}"),
                );
                let mut named = Named(&gradients, vec![], String::new());
                layer.visit(&mut named);
                for (name, gradient) in &named.1 {
                    close(
                        gradient.clone(),
                        of_arrays.parameter(name).unwrap(),
                        &format!("{name} of {what}"),
                    );
                }
                assert_eq!(named.1.len(), arrays.names().count(), "parameters of {what}");
                if let Some(running) = &arrays.running {
                    let [mean, variance] = [&layer.running_mean, &layer.running_var]
                        .map(|of| list(of.as_ref().unwrap().value_sync()));
                    close(mean, &running.mean, &format!("running mean of {what}"));
                    close(variance, &running.variance, &format!("running variance of {what}"));
                }
            }
        }
    }};
}

#[test]
fn rules_agree_with_arrays() {
    agrees!(BatchInstanceNorm, cellnorm::norms::BatchInstanceNormConfig::new(3), SHAPE, 3);
    agrees!(GraphNorm, cellnorm::norms::GraphNormConfig::new(3), SHAPE, 3);
    agrees!(GemmaRmsNorm, cellnorm::norms::GemmaRmsNormConfig::new(&[SHAPE[3]]), SHAPE, 3);
    agrees!(
        BatchInstanceNorm,
        cellnorm::norms::BatchInstanceNormConfig::new(3).channel_axis(-1),
        SHAPE,
        1
    );
    agrees!(SwitchableNorm, cellnorm::norms::SwitchableNormConfig::new(3), SHAPE, 3);
    agrees!(BatchRenorm, cellnorm::norms::BatchRenormConfig::new(3), SHAPE, 3);
    let authors_code = cellnorm::norms::SwitchableNormConfig::preset("switchnorm-2d", 3).unwrap();
    agrees!(SwitchableNorm, authors_code.clone(), SHAPE, 3);
    agrees!(SwitchableNorm, authors_code.momentum(cellnorm::Momentum::Pooled), SHAPE, 3);
    let rms_scaling = cellnorm::norms::RmsScalingNormConfig::new(&SHAPE[2..]);
    agrees!(RmsScalingNorm, rms_scaling.center(true), SHAPE, 3);
    agrees!(RmsScalingNorm, cellnorm::norms::RmsScalingNormConfig::per_channel(3), SHAPE, 3);
    agrees!(GhostBatchNorm, cellnorm::norms::GhostBatchNormConfig::new(3, 2), SHAPE, 3);
    agrees!(StepBatchNorm, cellnorm::norms::StepBatchNormConfig::new(5, 3), [4, 4, 5], 1);
    agrees!(
        FilterResponseNorm,
        cellnorm::norms::FilterResponseNormConfig::new(3).learned_epsilon(true),
        SHAPE,
        3
    );
    agrees!(MeanVarianceNorm, cellnorm::norms::MeanVarianceNormConfig::new(&[0, 2, 3]), SHAPE, 3);
}

#[test]
fn layers_under_a_mask_agree_with_arrays() {
    let shape = [4, 6, 3];
    let (mut x, dy) = (values(&shape, 8), values(&shape, 9));
    // two values a statistic at least: the gradient of one is 0, as a difference of two large
    // numbers
    let mask = Mask::lengths(&[3, 2, 2, 3], 2);
    let valid = mask.over(&shape).unwrap();
    // what is masked may hold anything
    ndarray::Zip::from(&mut x)
        .and(&valid)
        .for_each(|x, valid| *x = if *valid { *x } else { f64::NAN });
    for device in devices() {
        let bools = bools(&mask, shape, &device);
        macro_rules! agrees {
            ($what:expr, $layer:expr, $arrays:expr) => {{
                let input = tensor::<3>(&x, &device).require_grad();
                let y = $layer.forward_masked(input.clone(), bools.clone());
                let gradients = (y.clone() * tensor(&dy, &device)).sum().backward();
                let mut arrays = $arrays;
                let (expected, saved) = arrays.forward_masked(x.view(), &mask).unwrap();
                let of_arrays = arrays.backward(&saved, x.view(), dy.view()).unwrap();
                close(list(y), &expected, $what);
                close(list(input.grad(&gradients).unwrap()), &of_arrays.dx, $what);
                let gamma = $layer.gamma.as_ref().unwrap().val().grad(&gradients).unwrap();
                close(list(gamma), &of_arrays.dgamma.unwrap(), $what);
                arrays
            }};
        }
        let batch = ours::BatchNormConfig::new(6).init(&device);
        let arrays = agrees!("batch", batch, cellnorm::BatchNormConfig::new(6).init().unwrap());
        let running = arrays.running.unwrap();
        close(list(batch.running_mean.value_sync()), &running.mean, "running mean");
        close(list(batch.running_var.value_sync()), &running.variance, "running variance");
        let instance = ours::InstanceNormConfig::new(6).init(&device);
        #[allow(unused_mut, reason = "the same lines serve a layer that changes")]
        {
            agrees!("instance", instance, cellnorm::InstanceNormConfig::new(6).init().unwrap());
            let group = ours::GroupNormConfig::new(3, 6).init(&device);
            agrees!("group", group, cellnorm::GroupNormConfig::new(3, 6).init().unwrap());
            let layer = ours::LayerNormConfig::per_channel(6).init(&device);
            agrees!("layer", layer, cellnorm::LayerNormConfig::per_channel(6).init().unwrap());
            let rms = ours::RmsNormConfig::new(3).init(&device);
            agrees!("rms", rms, cellnorm::RmsNormConfig::new(&[3]).init().unwrap());
        }
    }
}

#[test]
fn a_frozen_batch_norm_stays_so_in_training() {
    let device = Device::flex().autodiff();
    let mut layer = ours::BatchNormConfig::new(3).init(&device);
    layer.mode = cellnorm::Mode::frozen(cellnorm::momentum::Frozen::Inference);
    let x = tensor::<3>(&values(&[4, 3, 5], 1), &device).require_grad();
    let y = layer.forward(x.clone());
    assert_eq!(list(layer.running_mean.value_sync()), [0.0; 3]);
    close(
        list(y.clone()),
        &values(&[4, 3, 5], 1).mapv(|v| v / (1.0 + 1e-5_f64).sqrt()),
        "running statistics",
    );
    let gradients = y.square().sum().backward();
    assert!(layer.gamma.as_ref().unwrap().val().grad(&gradients).is_none());
    assert!(x.grad(&gradients).is_some());
}

#[test]
fn semantics_set_every_layer() {
    let device = Device::flex().autodiff();
    let of = |name, of| Semantics::preset(name, of).unwrap();
    let group = ours::GroupNormConfig::new(2, 6)
        .with_semantics(&of("mxnet-1.9-gluon", Normalization::Group))
        .init(&device);
    assert_eq!(group.gamma.as_ref().unwrap().val().dims(), [2], "a factor for each group");
    let y = group.forward(tensor::<3>(&values(&[2, 6, 4], 1), &device));
    assert_eq!(y.dims(), [2, 6, 4]);
    let keras = ours::BatchNormConfig::new(3)
        .with_semantics(&of("keras-3", Normalization::Batch))
        .init(&device);
    assert_eq!((keras.epsilon, keras.momentum), (1e-3, cellnorm::Momentum::Keep(0.99)));
    let per_channel =
        ours::LayerNormConfig::per_channel(3).with_semantics(&of("keras-3", Normalization::Layer));
    assert_eq!(per_channel.features, ours::Features::PerChannel { channel_axis: -1 });
    // a value a channel is β in Keras, and an error in PyTorch
    assert_eq!(
        keras.forward(Tensor::<2>::ones([1, 3], &device)).into_data().try_to_vec::<f32>().unwrap(),
        [0.0; 3]
    );
}

#[test]
fn parameters_of_rules_are_found() {
    let device = Device::flex();
    let layer = ours::SwitchableNormConfig::new(3).init(&device);
    let found: Vec<ParamId> = ours::parameters::norm_parameters(&layer);
    assert_eq!(found.len(), 4);
}
