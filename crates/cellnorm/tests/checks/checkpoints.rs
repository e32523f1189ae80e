//! Checkpoints that say something impossible are refused by name.

use cellnorm::state::{DType, Known, State, Tensor, Tensors};
use cellnorm::{BatchNormConfig, Error, Normalization, Semantics};
use ndarray::{ArrayD, array};

fn batch(name: &str) -> Semantics {
    Semantics::preset(name, Normalization::Batch).unwrap()
}

fn message<T>(result: Result<T, Error>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

/// A number of steps is a whole number; beyond u64 the next training step would overflow.
#[test]
fn steps_that_cannot_be() -> Result<(), Error> {
    let torch = batch("pytorch-2");
    let mut tensors = Tensors::new();
    BatchNormConfig::new(2).init()?.state().put(&mut tensors, "bn.", &torch, DType::F32)?;
    let mut with = |values: ArrayD<f64>| {
        tensors.insert("bn.num_batches_tracked".into(), Tensor::new(values, DType::F64));
        State::find(&tensors, "bn.", &torch)
    };
    for steps in [-1.0, 1.5, 1e300, f64::NAN] {
        let expected = format!("bn.num_batches_tracked holds {steps}; it must be one whole number of steps up to 2^53");
        assert_eq!(message(with(array![steps].into_dyn())), expected);
    }
    assert_eq!(with(array![3.0].into_dyn())?.steps, Some(3));
    assert!(message(with(array![3.0, 4.0].into_dyn())).ends_with("it must be one whole number of steps up to 2^53"));
    Ok(())
}

/// A statistic has a variance from two values on; between 1 and 1 + ε the legacy rule would turn it negative.
#[test]
fn a_batch_of_less_than_two_values() {
    let legacy = batch("keras-2.3");
    let state = State { variance: Some(array![1.0].into_dyn()), ..State::default() };
    let with = |values| state.to(&legacy, &batch("keras-3"), &Known { values: Some(values), channels: Some(1), groups: None });
    assert_eq!(message(with(1.0005)), "values is 1.0005; it must be finite and at least 2");
    assert!(with(2.0).is_ok());
}
