//! Numbers, tensors of them, devices, and what counts as equal.

use burn::tensor::{Bool, Device, Tensor, TensorData};
use cellnorm_burn::cellnorm::Mask;
use cellnorm_burn::cellnorm::rule::{Norm, Rule};
use ndarray::{ArrayD, IxDyn};

/// Values without a pattern that a layer could hide behind.
pub fn values(shape: &[usize], seed: usize) -> ArrayD<f64> {
    let mut at = seed;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(((at >> 40) as f32) / 8_388_608.0 - 0.7)
    })
}

pub fn tensor<const D: usize>(of: &ArrayD<f64>, device: &Device) -> Tensor<D> {
    let data: Vec<f32> = of.iter().map(|v| *v as f32).collect();
    Tensor::from_data(TensorData::new(data, of.shape().to_vec()), device)
}

pub fn close(ours: Vec<f32>, theirs: &ArrayD<f64>, what: &str) {
    let scale = theirs.iter().fold(1.0, |scale: f64, v| scale.max(v.abs()));
    for (a, b) in ours.iter().zip(theirs) {
        assert!((f64::from(*a) - b).abs() <= 3e-6 * scale, "{what}: {a} is not {b}");
    }
    assert_eq!(ours.len(), theirs.len(), "{what}");
}

pub fn list<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().unwrap()
}

/// A mask as Burn takes it.
pub fn bools<const D: usize>(mask: &Mask, shape: [usize; D], device: &Device) -> Tensor<D, Bool> {
    let valid: Vec<bool> = mask.over(&shape).unwrap().iter().copied().collect();
    Tensor::from_data(TensorData::new(valid, shape), device)
}

/// Flex, and a device without the fused operations.
#[expect(deprecated, reason = "the only other backend that builds without a GPU")]
pub fn devices() -> [Device; 2] {
    [Device::flex(), Device::ndarray()].map(Device::autodiff)
}

/// Gives every parameter other numbers than it started with.
pub fn randomize<R: Rule>(layer: &mut Norm<R>) {
    for (seed, name) in layer.names().collect::<Vec<_>>().into_iter().enumerate() {
        let parameter = layer.parameter_mut(name).unwrap();
        let random = values(parameter.shape(), 50 + seed);
        parameter.assign(&random.mapv(|v| 0.3 + 0.5 * v.abs()));
    }
}
