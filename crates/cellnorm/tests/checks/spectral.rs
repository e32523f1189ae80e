//! Spectral normalization against PyTorch's numbers, the singular value itself, and differences of
//! the loss.

use cellnorm::weights::{Iteration, SpectralNorm, SpectralNormConfig};
use cellnorm::{Error, norms::Floor};
use ndarray::{Array2, ArrayD, IxDyn, array};
use serde_json::Value;

use crate::common::{Numbers, distance};

fn numbers(json: &Value) -> Vec<f64> {
    json.as_array()
        .expect("an array")
        .iter()
        .map(|number| number.as_f64().expect("a number"))
        .collect()
}

/// The cases come from `fixtures/pytorch/generate_spectral.py`.
#[test]
fn agrees_with_pytorch() -> Result<(), Error> {
    let file: Value = serde_json::from_str(include_str!("../fixtures/pytorch/spectral.json"))
        .expect("valid JSON");
    let cases = file["cases"].as_array().expect("cases");
    assert_eq!((file["version"].as_str(), cases.len()), (Some("2.15.0"), 5));
    for case in cases {
        let shape: Vec<usize> = numbers(&case["shape"]).iter().map(|len| *len as usize).collect();
        let tensor =
            |json| ArrayD::from_shape_vec(IxDyn(&shape), numbers(json)).expect("as many values");
        let config = SpectralNormConfig::default()
            .axis(case["dim"].as_i64().unwrap() as isize)
            .iterations(case["iterations"].as_u64().unwrap() as usize);
        let mut layer = config.init(tensor(&case["steps"][0]["weight"]))?;
        (layer.u, layer.v) = (numbers(&case["u"]).into(), numbers(&case["v"]).into());
        for step in case["steps"].as_array().expect("steps") {
            layer.weight = tensor(&step["weight"]);
            let normalized =
                if step["training"] == true { layer.forward()? } else { layer.infer()? };
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
    for (seed, iteration) in
        (0..5).flat_map(|seed| [(seed, Iteration::LeftFirst), (seed, Iteration::RightFirst)])
    {
        let config = SpectralNormConfig::default().seed(seed).iteration(iteration);
        let normalized = config.init(weight.clone().into_dyn())?.infer()?;
        assert!((normalized.sigma - 5.0).abs() < 1e-8, "{}", normalized.sigma);
        assert!(distance(normalized.weight, weight.mapv(|w| w / 5.0).into_dyn()) < 1e-8);
    }
    Ok(())
}

#[test]
fn gradients_are_slopes_with_u_and_v_held() -> Result<(), Error> {
    let mut random = Numbers::new(11);
    for (shape, axis) in
        [(&[4, 3][..], 0), (&[3, 2, 4][..], 1), (&[2, 3, 2, 2][..], -1), (&[5][..], 0)]
    {
        let (weight, dy) = (random.tensor(shape, 0.0), random.tensor(shape, 0.0));
        // u and v of another weight: σ is no extremum over them, and its slope counts
        let mut layer = SpectralNormConfig::default().axis(axis).init(random.tensor(shape, 0.0))?;
        layer.weight = weight.clone();
        gradients_are_slopes(&layer, &dy)?;
    }
    Ok(())
}

/// The gradient of each weight is the slope of the loss that dy makes.
fn gradients_are_slopes(layer: &SpectralNorm, dy: &ArrayD<f64>) -> Result<(), Error> {
    let normalized = layer.infer()?;
    let (dweight, step) = (normalized.backward(dy.view())?, 1e-3 * normalized.sigma.abs());
    for (index, ours) in dweight.indexed_iter() {
        let at = |steps: f64| {
            let mut moved = layer.clone();
            moved.weight[&index] += steps * step;
            (moved.infer().unwrap().weight * dy).sum()
        };
        let slope = (at(-2.0) - at(2.0) + 8.0 * (at(1.0) - at(-1.0))) / (12.0 * step);
        assert!(
            (ours - slope).abs() <= 1e-9 * (1.0 + slope.abs()),
            "{ours} is not {slope}: {:?}",
            dweight.shape()
        );
    }
    Ok(())
}

/// Where u and v are the singular vectors, σ is stationary over them, and its gradient the whole
/// one.
#[test]
fn gradients_of_the_largest_singular_value_are_slopes() -> Result<(), Error> {
    let mut random = Numbers::new(12);
    for (shape, axis) in
        [(&[4, 3][..], 0), (&[3, 2, 4][..], 1), (&[2, 3, 2, 2][..], -1), (&[5][..], 0)]
    {
        let (weight, dy) = (random.tensor(shape, 0.0), random.tensor(shape, 0.0));
        let config = SpectralNormConfig::default()
            .axis(axis)
            .iteration(Iteration::RightFirst)
            .iterations(300);
        let layer = config.init(weight)?;
        gradients_are_slopes(&layer, &dy)?;
    }
    Ok(())
}

#[test]
fn the_right_vector_first_is_the_left_first_of_the_transposed_weight() -> Result<(), Error> {
    let mut random = Numbers::new(5);
    let (weight, u) = (random.tensor(&[4, 3], 0.0), array![0.3, -1.0, 0.4, 2.0]);
    let layer = |iteration, weight| {
        SpectralNormConfig::default().iteration(iteration).iterations(2).init(weight)
    };
    let mut right = layer(Iteration::RightFirst, weight.clone())?;
    let mut left = layer(Iteration::LeftFirst, weight.reversed_axes())?;
    (right.u, left.v) = (u.clone(), u);
    // what v was does not matter
    right.v.fill(7.0);
    let (before, ahead) = (right.clone(), right.infer()?);
    assert_eq!((&right.u, &right.v), (&before.u, &before.v), "inference keeps nothing");
    let (right_weight, left_weight) = (right.forward()?, left.forward()?);
    assert_eq!(ahead.weight, right_weight.weight, "inference iterates as training does");
    assert!(distance(right_weight.weight, left_weight.weight.reversed_axes()) < 1e-14);
    assert!(distance(right.u, left.v) < 1e-14 && distance(right.v, left.u) < 1e-14);
    Ok(())
}

#[test]
fn in_place_the_weight_itself_is_normalized() -> Result<(), Error> {
    let mut random = Numbers::new(3);
    let (weight, dy) = (random.tensor(&[4, 3], 0.0), random.tensor(&[4, 3], 0.0));
    for iteration in [Iteration::LeftFirst, Iteration::RightFirst] {
        let config = SpectralNormConfig::default().iteration(iteration);
        let mut beside = config.clone().init(weight.clone())?;
        let mut layer = config.in_place(true).init(weight.clone())?;
        assert_eq!(layer.weight, weight, "until the first step the weight is as given");
        let (normalized, expected) = (layer.forward()?, beside.forward()?);
        assert_eq!((normalized.sigma, &normalized.weight), (expected.sigma, &expected.weight));
        assert_eq!(layer.weight, normalized.weight);
        assert_eq!(normalized.backward(dy.view())?, dy, "the gradient is that of what is trained");
        assert!((layer.forward()?.sigma - 1.0).abs() < 1e-2, "it is normalized already");
        layer.weight.fill(0.5);
        let inferred = layer.infer()?;
        assert_eq!((inferred.sigma, inferred.weight), (1.0, layer.weight));
    }
    Ok(())
}

#[test]
fn floors_are_those_of_the_frameworks() -> Result<(), Error> {
    // one singular value, 0.01, which iterations find at once
    let weight = array![[0.0, 0.01], [0.0, 0.0]].into_dyn();
    let sigma = |floor| -> Result<f64, Error> {
        let config = SpectralNormConfig::default().iteration(Iteration::RightFirst).floor(floor);
        Ok(config.init(weight.clone())?.forward()?.sigma)
    };
    assert!((sigma(Floor::Max(1e-7))? - 0.01).abs() < 1e-15);
    assert!((sigma(Floor::None)? - 0.01).abs() < 1e-15);
    // v = 0.01 u₁ / r and u = 0.01 v / r with |u₁| = 1 after the warm-up: v has the length 0.01 c /
    // r, c that of u
    let root = |length: f64| (length * length + 1e-6_f64).sqrt();
    let mut length = 1.0;
    for _ in 0..200 {
        let v = 0.01 * length / root(0.01 * length);
        length = 0.01 * v / root(0.01 * v);
    }
    let v = 0.01 * length / root(0.01 * length);
    let expected = 0.01 * length * v;
    let mut layer = SpectralNormConfig::default()
        .iteration(Iteration::RightFirst)
        .floor(Floor::AddSquare(1e-6))
        .warm_up(200)
        .init(weight.clone())?;
    assert!((layer.forward()?.sigma - expected).abs() < 1e-9 * expected, "{expected}");
    // below a floor a length counts as 0, and the weight stays as it is
    assert_eq!((sigma(Floor::Max(0.1))?, sigma(Floor::MaxSquare(0.01))?), (1.0, 1.0));
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
    assert!(
        message(config.clone().floor(Floor::Max(0.0)), weight.clone())
            .starts_with("epsilon is 0; it must be finite")
    );
    assert!(message(config.clone(), ArrayD::zeros(IxDyn(&[2, 0]))).contains("an axis of length 0"));
    assert!(message(config.clone(), ArrayD::zeros(IxDyn(&[]))).contains("needs at least 1"));
    let nan = ArrayD::from_elem(IxDyn(&[2, 3]), f64::NAN);
    assert_eq!(
        message(config.clone(), nan),
        "the weight's sum of squares is NaN; it must be finite"
    );
    let huge = ArrayD::from_elem(IxDyn(&[2, 3]), 1e200);
    assert_eq!(
        message(config.clone(), huge),
        "the weight's sum of squares is inf; it must be finite"
    );

    let mut layer = config.init(weight)?;
    let gradient = layer.infer()?.backward(ArrayD::zeros(IxDyn(&[3, 2])).view()).unwrap_err();
    assert_eq!(
        gradient.to_string(),
        "the weight's gradient has the shape [3, 2]; it must be [2, 3]"
    );
    layer.weight = ArrayD::ones(IxDyn(&[2, 4]));
    assert_eq!(layer.forward().unwrap_err().to_string(), "v has the shape [3]; it must be [4]");
    Ok(())
}
