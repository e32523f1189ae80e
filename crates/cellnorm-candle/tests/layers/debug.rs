//! `unreached` names what no gradient reaches, and nothing else.

use candle_core::DType;
use candle_nn::{Module, ModuleT, VarBuilder, VarMap, linear};
use cellnorm_candle::debug::{unreached, unreached_by};

use super::common::*;

#[test]
fn running_averages_are_not_named_and_unused_variables_are() {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, CPU);
    let norm = cellnorm_candle::batch_norm(3, 1e-5, vb.pp("norm")).unwrap();
    linear(3, 3, vb.pp("unused")).unwrap();
    let first = linear(3, 3, vb.pp("first")).unwrap();
    let x = tensor(&[4, 3], 1, DType::F32);
    let loss =
        norm.forward_t(&first.forward(&x).unwrap(), true).and_then(|y| y.sqr()?.sum_all()).unwrap();
    assert_eq!(unreached(&loss, &map).unwrap(), ["unused.bias", "unused.weight"]);
    assert_eq!(unreached_by(&loss.backward().unwrap(), &map), ["unused.bias", "unused.weight"]);
}
