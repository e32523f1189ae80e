//! A batch without samples: y and dx are empty and the gradients of the parameters 0, where no
//! statistic is over no values. Layers whose samples share statistics refuse it in training.

use candle_core::{DType, IndexOp, Tensor, Var};
use candle_nn::{ModuleT, VarBuilder, VarMap};
use cellnorm_candle::*;

use super::common::*;

/// These share statistics among samples.
const REFUSED: [&str; 4] = ["batch", "batch with an activation", "batch-instance", "switchable"];

#[test]
fn samples_with_statistics_of_their_own_give_an_empty_tensor() {
    for dtype in [DType::F32, DType::BF16] {
        // made for three samples
        for case in cases(DType::F32).iter().filter(|case| case.name != "layer of axes apart") {
            let shape = [&[0], &case.shape[1..]].concat();
            let [samples, rows, width] = case.shape[..] else { panic!("three axes") };
            let (whole, wide) =
                (tensor(&case.shape, 1, dtype), tensor(&[samples, rows, width + 1], 1, dtype));
            let lies = [
                Tensor::zeros(&*shape, dtype, CPU).unwrap(),
                whole.narrow(0, 1, 0).unwrap(),
                // starts after the last value
                wide.narrow(2, 1, width).and_then(|x| x.narrow(0, samples, 0)).unwrap(),
                whole.i(..1).and_then(|x| x.broadcast_as(whole.shape())?.i(2..2)).unwrap(),
            ];
            for (i, x) in lies.iter().enumerate() {
                let what = format!("{}, {dtype:?}, {i}", case.name);
                let shape = x.dims();
                let var = Var::from_tensor(&Tensor::zeros(shape, dtype, CPU).unwrap()).unwrap();
                let x = if i == 0 { var.as_tensor() } else { x };
                let y = (case.layer)(x);
                if REFUSED.contains(&case.name) {
                    let message = y.unwrap_err().to_string();
                    assert!(message.contains("a statistic over no values"), "{what}: {message}");
                    continue;
                }
                let y = y.unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!((y.dims(), y.dtype()), (shape, dtype), "{what}");
                let gradients = backward(&y, &y.zeros_like().unwrap());
                if i == 0 {
                    assert_eq!(gradients.get(&var).unwrap().dims(), shape, "{what}");
                }
                for (name, parameter) in &case.parameters {
                    let gradient = gradients.get(parameter).unwrap_or_else(|| panic!("{what}"));
                    assert_eq!(gradient.dims(), parameter.dims(), "{what}, {name}");
                    assert!(values(gradient).iter().all(|value| *value == 0.0), "{what}, {name}");
                }
            }
        }
    }
}

#[test]
fn the_shapes_of_the_reports() {
    let w = Tensor::ones(8, DType::F32, CPU).unwrap();
    let (layer, rms) = (LayerNorm::new(w.clone(), w.clone(), 1e-5), RmsNorm::new(w.clone(), 1e-5));
    let empty = |shape: &[usize]| Tensor::zeros(shape, DType::F32, CPU).unwrap();
    use candle_nn::Module;
    for shape in [&[0, 8][..], &[2, 0, 8], &[0, 3, 8]] {
        assert_eq!(layer.forward(&empty(shape)).unwrap().dims(), shape);
        assert_eq!(rms.forward(&empty(shape)).unwrap().dims(), shape);
    }
    let none = empty(&[2, 0]);
    let of_none = LayerNorm::new_no_bias(empty(&[0]), 1e-5).forward(&none);
    assert!(of_none.unwrap_err().to_string().contains("a statistic over no values"));
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, CPU);
    let batch = batch_norm(3, 1e-5, vb).unwrap();
    let x = empty(&[0, 3, 2, 2]);
    assert_eq!(batch.forward_t(&x, false).unwrap().dims(), x.dims());
    assert!(batch.forward_t(&x, true).is_err());
    assert_eq!((values(batch.running_mean()), batch.num_batches_tracked()), (vec![0.0; 3], 0));
}
