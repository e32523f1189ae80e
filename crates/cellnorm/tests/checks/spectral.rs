//! Spectral normalization against PyTorch's numbers, the singular value itself, and differences of the loss.

use cellnorm::Error;
use cellnorm::weights::SpectralNormConfig;
use ndarray::{Array2, ArrayD, IxDyn, array};
use serde_json::Value;

use crate::common::{Numbers, distance};

fn numbers(json: &Value) -> Vec<f64> {
    json.as_array().expect("an array").iter().map(|number| number.as_f64().expect("a number")).collect()
}

/// The cases come from `fixtures/pytorch/generate_spectral.py`.
#[test]
fn agrees_with_pytorch() -> Result<(), Error> {
    let file: Value = serde_json::from_str(include_str!("../fixtures/pytorch/spectral.json")).expect("valid JSON");
    let cases = file["cases"].as_array().expect("cases");
    assert_eq!((file["version"].as_str(), cases.len()), (Some("2.15.0"), 5));
    for case in cases {
        let shape: Vec<usize> = numbers(&case["shape"]).iter().map(|len| *len as usize).collect();
        let tensor = |json| ArrayD::from_shape_vec(IxDyn(&shape), numbers(json)).expect("as many values");
        let config = SpectralNormConfig::default()
            .axis(case["dim"].as_i64().unwrap() as isize)
            .iterations(case["iterations"].as_u64().unwrap() as usize);
        let mut layer = config.init(tensor(&case["steps"][0]["weight"]))?;
        (layer.u, layer.v) = (numbers(&case["u"]).into(), numbers(&case["v"]).into());
        for step in case["steps"].as_array().expect("steps") {
            layer.weight = tensor(&step["weight"]);
            let normalized = if step["training"] == true { layer.forward()? } else { layer.infer()? };
            let dweight = normalized.backward(tensor(&step["dy"]).view())?;
            let pairs = [
                (normalized.weight, "y"),
                (dweight, "dweight"),
                (layer.u.clone().into_dyn(), "u"),
                (layer.v.clone().into_dyn(), "v"),
            ];
            for (ours, name) in pairs {
                let error = distance(ours, numbers(&step[name]));
                assert!(error <= 1e-13, "{name} is off by {error:e}: {shape:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn iterations_find_the_largest_singular_value() -> Result<(), Error> {
    // a rotation by 0.3, stretched by 5, 2 and 1, and rotated by −0.7
    let rotation = |angle: f64| {
        let (sin, cos) = angle.sin_cos();
        array![[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]
    };
    let weight = rotation(0.3).dot(&Array2::from_diag(&array![5.0, 2.0, 1.0])).dot(&rotation(-0.7));
    for seed in 0..5 {
        let normalized = SpectralNormConfig::default().seed(seed).init(weight.clone().into_dyn())?.infer()?;
        assert!((normalized.sigma - 5.0).abs() < 1e-8, "{}", normalized.sigma);
        assert!(distance(normalized.weight, weight.mapv(|w| w / 5.0).into_dyn()) < 1e-8);
    }
    Ok(())
}

#[test]
fn gradients_are_slopes_with_u_and_v_held() -> Result<(), Error> {
    let mut random = Numbers::new(11);
    for (shape, axis) in [(&[4, 3][..], 0), (&[3, 2, 4][..], 1), (&[2, 3, 2, 2][..], -1), (&[5][..], 0)] {
        let (weight, dy) = (random.tensor(shape, 0.0), random.tensor(shape, 0.0));
        // u and v of another weight: σ is no extremum over them, and its slope counts
        let mut layer = SpectralNormConfig::default().axis(axis).init(random.tensor(shape, 0.0))?;
        layer.weight = weight.clone();
        let normalized = layer.infer()?;
        let (dweight, step) = (normalized.backward(dy.view())?, 1e-3 * normalized.sigma.abs());
        for (index, ours) in dweight.indexed_iter() {
            let at = |steps: f64| {
                let mut moved = layer.clone();
                moved.weight[&index] += steps * step;
                (moved.infer().unwrap().weight * &dy).sum()
            };
            let slope = (at(-2.0) - at(2.0) + 8.0 * (at(1.0) - at(-1.0))) / (12.0 * step);
            assert!((ours - slope).abs() <= 1e-9 * (1.0 + slope.abs()), "{ours} is not {slope}: {shape:?}");
        }
    }
    Ok(())
}

#[test]
fn inference_moves_nothing() -> Result<(), Error> {
    let mut random = Numbers::new(2);
    let mut layer = SpectralNormConfig::default().init(random.tensor(&[6, 5], 0.0))?;
    layer.weight = random.tensor(&[6, 5], 0.0);
    let (first, second) = (layer.infer()?, layer.infer()?);
    assert_eq!((first.sigma, &first.weight), (second.sigma, &second.weight));
    let (u, raw) = (layer.u.clone(), layer.weight.clone());
    layer.forward()?;
    assert!(layer.u != u, "training moves u");
    assert_eq!(layer.weight, raw, "and leaves the weight as it is trained");
    Ok(())
}

#[test]
fn zeros_stay_zeros_and_recover() -> Result<(), Error> {
    let mut layer = SpectralNormConfig::default().init(ArrayD::zeros(IxDyn(&[3, 2])))?;
    let normalized = layer.forward()?;
    assert_eq!((normalized.sigma, normalized.weight.sum()), (1.0, 0.0));
    let dy = array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]].into_dyn();
    assert_eq!(normalized.backward(dy.view())?, dy);
    // with a weight again, σ is found as if nothing had been
    layer.weight = array![[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]].into_dyn();
    for _ in 0..30 {
        layer.forward()?;
    }
    assert!((layer.infer()?.sigma - 2.0).abs() < 1e-9);
    Ok(())
}

#[test]
fn weights_that_do_not_suit() -> Result<(), Error> {
    let message = |config: SpectralNormConfig, weight| config.init(weight).unwrap_err().to_string();
    let (config, weight) = (SpectralNormConfig::default(), ArrayD::ones(IxDyn(&[2, 3])));
    assert!(message(config.clone().axis(2), weight.clone()).starts_with("axis 2 does not exist"));
    assert_eq!(
        message(config.clone().iterations(0), weight.clone()),
        "the number of power iterations is 0; it must be at least 1"
    );
    assert!(message(config.clone().epsilon(0.0), weight.clone()).starts_with("epsilon is 0; it must be finite"));
    assert!(message(config.clone(), ArrayD::zeros(IxDyn(&[2, 0]))).contains("an axis of length 0"));
    assert!(message(config.clone(), ArrayD::zeros(IxDyn(&[]))).contains("needs at least 1"));
    let nan = ArrayD::from_elem(IxDyn(&[2, 3]), f64::NAN);
    assert_eq!(message(config.clone(), nan), "the weight's sum of squares is NaN; it must be finite");
    let huge = ArrayD::from_elem(IxDyn(&[2, 3]), 1e200);
    assert_eq!(message(config.clone(), huge), "the weight's sum of squares is inf; it must be finite");

    let mut layer = config.init(weight)?;
    let gradient = layer.infer()?.backward(ArrayD::zeros(IxDyn(&[3, 2])).view()).unwrap_err();
    assert_eq!(gradient.to_string(), "the weight's gradient has the shape [3, 2]; it must be [2, 3]");
    layer.weight = ArrayD::ones(IxDyn(&[2, 4]));
    assert_eq!(layer.forward().unwrap_err().to_string(), "v has the shape [3]; it must be [4]");
    Ok(())
}
