//! Parameters that are applied, and that no gradient reaches.

use candle_core::{DType, Tensor, Var};
use candle_nn::{Module, ModuleT, VarBuilder, VarMap};
use cellnorm_candle::cellnorm::{
    InstanceNormConfig, Normalization, Semantics, norms::BatchInstanceNormConfig,
};
use cellnorm_candle::{instance_norm, layer_norm, rule_norm};
use ndarray::ArrayD;

use super::common::*;

fn array(x: &Tensor) -> ArrayD<f64> {
    ArrayD::from_shape_vec(x.dims(), values(x)).unwrap()
}

/// MXNet's instance normalization, whose γ is applied and not learned.
fn gluon() -> Semantics {
    Semantics::preset("mxnet-1.9-gluon", Normalization::Instance).unwrap()
}

/// A variable of the map, set to a number.
fn set(map: &VarMap, name: &str, value: f64) -> Var {
    let var = map.data().lock().unwrap()[name].clone();
    var.set(&(var.ones_like().unwrap() * value).unwrap()).unwrap();
    var
}

#[test]
fn mxnet_applies_a_gamma_that_is_not_learned() {
    let (x, dy) = (var(&[2, 3, 5], 1, DType::F64), tensor(&[2, 3, 5], 2, DType::F64));
    let mut arrays = InstanceNormConfig::new(3).semantics(&gluon()).init().unwrap();
    arrays.gamma.as_mut().unwrap().fill(2.0);
    let (expected, saved) = arrays.forward(array(&x).view()).unwrap();
    let of_arrays = arrays.backward(&saved, array(&x).view(), array(&dy)).unwrap();
    let elements = |array: &ArrayD<f64>| array.iter().copied().collect::<Vec<_>>();

    let (map, other) = (VarMap::new(), VarMap::new());
    let vb = VarBuilder::from_varmap(&map, DType::F64, CPU);
    let made = rule_norm(InstanceNormConfig::new(3).semantics(&gluon()), vb).unwrap();
    let vb = VarBuilder::from_varmap(&other, DType::F64, CPU);
    let later = instance_norm(3, 1e-5, vb).unwrap().with_semantics(&gluon()).unwrap();
    let forwards: [(&VarMap, &Forward); 2] =
        [(&map, &|x| made.forward_t(x, true)), (&other, &|x| later.forward(x))];
    for (map, forward) in forwards {
        // after the layer was made
        let gamma = set(map, "weight", 2.0);
        let y = forward(&x).unwrap();
        assert_eq!(values(&y), elements(&expected));
        let gradients = backward(&y, &dy);
        assert!(gradients.get(&gamma).is_none());
        assert_eq!(values(gradients.get(&x).unwrap()), elements(&of_arrays.dx));
        let beta = map.data().lock().unwrap()["bias"].clone();
        let dbeta = of_arrays.dbeta.as_ref().unwrap();
        assert_eq!(values(gradients.get(&beta).unwrap()), elements(dbeta));
    }
    // stored under its name
    let stored = [("gamma", 2.0), ("beta", 0.0)]
        .map(|(name, value)| (name.to_owned(), Tensor::full(value, 3, CPU).unwrap()));
    let vb = VarBuilder::from_tensors(stored.into(), DType::F64, CPU);
    let loaded = rule_norm(InstanceNormConfig::new(3).semantics(&gluon()), vb).unwrap();
    assert_eq!(values(&loaded.forward_t(&x, false).unwrap()), elements(&expected));
}

/// The parameters come as one tensor there.
#[test]
fn one_of_three_parameters() {
    let (x, dy) = (var(&[2, 3, 5], 1, DType::F64), tensor(&[2, 3, 5], 2, DType::F64));
    let config = || BatchInstanceNormConfig::new(3).semantics(&gluon());
    let map = VarMap::new();
    let layer = rule_norm(config(), VarBuilder::from_varmap(&map, DType::F64, CPU)).unwrap();
    let mut arrays = config().init().unwrap();
    let vars = [("weight", "gamma", 2.0), ("bias", "beta", 0.5), ("rho", "rho", 0.25)];
    let vars = vars.map(|(stored, name, value)| {
        arrays.parameter_mut(name).unwrap().fill(value);
        (name, set(&map, stored, value))
    });
    let (_, saved) = arrays.forward(array(&x).view()).unwrap();
    let expected = arrays.backward(&saved, array(&x).view(), array(&dy)).unwrap();
    let gradients = backward(&layer.forward_t(&x, true).unwrap(), &dy);
    for (name, var) in &vars {
        let expected = expected.parameter(name).map(|of| of.iter().copied().collect());
        assert_eq!(gradients.get(var).map(values), expected, "{name}");
        assert_eq!(gradients.get(var).is_none(), *name == "gamma");
    }
}

#[test]
fn any_parameter_can_be_frozen() {
    let x = var(&[2, 5], 1, DType::F64);
    let dy = tensor(&[2, 5], 2, DType::F64);
    for (frozen, stored, other) in [("gamma", "weight", "bias"), ("beta", "bias", "weight")] {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F64, CPU);
        let layer = layer_norm(5, 1e-5, vb).unwrap();
        let all = backward(&layer.forward(&x).unwrap(), &dy);
        let layer = layer.with_frozen(frozen).unwrap();
        let some = backward(&layer.forward(&x).unwrap(), &dy);
        let data = map.data().lock().unwrap();
        assert!(some.get(&data[stored]).is_none());
        let of_other = [&all, &some].map(|of| values(of.get(&data[other]).unwrap()));
        assert_eq!(of_other[0], of_other[1]);
        assert_eq!(values(some.get(&x).unwrap()), values(all.get(&x).unwrap()));
    }
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F64, CPU);
    let refused = layer_norm(5, 1e-5, vb).unwrap().with_frozen("rho").unwrap_err().to_string();
    assert!(refused.contains("which has: gamma, beta"), "{refused}");
}
