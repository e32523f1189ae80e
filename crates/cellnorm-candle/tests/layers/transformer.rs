//! Every variable of a transformer gets its gradient with our layers; with candle-nn's, only what
//! comes after the last norm.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Module, VarBuilder, VarMap, ops};
use cellnorm_candle::debug::unreached;

use self::model::{MakeNorm, Sizes, Transformer};
use super::common::*;

#[path = "../../examples/char_transformer/model.rs"]
mod model;

const SIZES: Sizes = Sizes { symbols: 11, length: 6, width: 16, heads: 2, blocks: 2 };

/// The loss of a transformer of two blocks over the variables of a map.
fn loss_of(variables: &VarMap, norm: MakeNorm) -> Result<Tensor> {
    let vb = VarBuilder::from_varmap(variables, DType::F32, CPU);
    let symbols =
        (0..3 * (SIZES.length as u32 + 1)).map(|i| i * i % SIZES.symbols as u32).collect();
    Transformer::new(SIZES, norm, vb)?.loss(&Tensor::from_vec(symbols, (3, SIZES.length + 1), CPU)?)
}

/// candle-nn's formulation by tensor operations, which has a gradient.
struct Composed(Tensor, Option<Tensor>);

impl Module for Composed {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.1 {
            Some(bias) => ops::layer_norm_slow(x, &self.0, bias, 1e-5),
            None => ops::rms_norm_slow(x, &self.0, 1e-5),
        }
    }
}

/// That every variable gets a gradient, the one of the composed formulation.
fn check(norm: MakeNorm, composed: MakeNorm) -> std::result::Result<(), String> {
    let variables = VarMap::new();
    let loss = loss_of(&variables, norm).unwrap();
    let missing = unreached(&loss, &variables).unwrap();
    if !missing.is_empty() {
        return Err(format!("no gradient reaches {}", missing.join(", ")));
    }
    let (ours, theirs) =
        (loss.backward().unwrap(), loss_of(&variables, composed).unwrap().backward().unwrap());
    for (name, var) in variables.data().lock().unwrap().iter() {
        let apart = difference(ours.get(var).unwrap(), theirs.get(var).unwrap());
        if apart > 1e-5 || apart.is_nan() {
            return Err(format!("the gradient of {name} is off by {apart}"));
        }
    }
    Ok(())
}

const COMPOSED_LAYER: MakeNorm = |width, vb| {
    let theirs = candle_nn::layer_norm(width, 1e-5, vb)?;
    Ok(Box::new(Composed(theirs.weight().clone(), theirs.bias().cloned())))
};
const COMPOSED_RMS: MakeNorm = |width, vb| {
    Ok(Box::new(Composed(candle_nn::rms_norm(width, 1e-5, vb)?.weight().clone(), None)))
};

#[test]
fn layer_norm_trains_all_of_a_transformer() {
    check(|width, vb| Ok(Box::new(cellnorm_candle::layer_norm(width, 1e-5, vb)?)), COMPOSED_LAYER)
        .unwrap();
}

#[test]
fn rms_norm_trains_all_of_a_transformer() {
    check(|width, vb| Ok(Box::new(cellnorm_candle::rms_norm(width, 1e-5, vb)?)), COMPOSED_RMS)
        .unwrap();
}

/// The two tests above on candle-nn's own layers, which fail them: once this fails, candle has
/// mended them.
#[test]
fn candle_nn_trains_what_comes_after_the_last_norm() {
    let layer =
        check(|width, vb| Ok(Box::new(candle_nn::layer_norm(width, 1e-5, vb)?)), COMPOSED_LAYER)
            .unwrap_err();
    let rms = check(|width, vb| Ok(Box::new(candle_nn::rms_norm(width, 1e-5, vb)?)), COMPOSED_RMS)
        .unwrap_err();
    for (message, count) in [(layer, 28), (rms, 23)] {
        assert_eq!(message.matches(", ").count() + 1, count, "{message}");
        assert!(!message.contains("head") && message.contains("symbols.weight"), "{message}");
    }
}
