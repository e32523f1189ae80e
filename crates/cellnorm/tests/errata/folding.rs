//! Batch normalization folded into the layer before it: w' = w γ / √(variance + ε), b' = (b − mean)
//! γ / √(variance + ε) + β.

use std::collections::BTreeMap;

use cellnorm::rule::Running;
use cellnorm::{BatchNormConfig, Error};
use ndarray::{
    Array, Array1, Array2, Array3, Array4, ArrayD, Axis, Dimension, RemoveAxis, array, s,
};

use crate::{Erratum, Numbers, distance};

/// A convolution without padding: x \[I, H, W\] and w \[O, I, h, w\] to \[O, H − h + 1, W − w +
/// 1\].
fn convolve(x: &Array3<f64>, w: &Array4<f64>, b: &Array1<f64>) -> Array3<f64> {
    let ((outputs, _, kh, kw), (_, height, width)) = (w.dim(), x.dim());
    Array3::from_shape_fn((outputs, height + 1 - kh, width + 1 - kw), |(o, i, j)| {
        b[o] + (&x.slice(s![.., i..i + kh, j..j + kw]) * &w.index_axis(Axis(0), o)).sum()
    })
}

const EPSILON: f64 = 1e-3;

/// Batch normalization after training.
struct Trained {
    gamma: Array1<f64>,
    beta: Array1<f64>,
    mean: Array1<f64>,
    variance: Array1<f64>,
}

impl Trained {
    fn three_channels() -> Self {
        let (gamma, beta) = (array![1.5, -0.5, 2.0], array![0.1, 0.2, -0.3]);
        Self { gamma, beta, mean: array![1.0, -2.0, 0.5], variance: array![4.0, 0.5, 2.0] }
    }

    /// The result for the output of a layer, \[C, …\].
    fn infer<D: Dimension>(&self, z: Array<f64, D>) -> Result<ArrayD<f64>, Error> {
        let mut layer = BatchNormConfig::new(self.gamma.len()).epsilon(EPSILON).init()?;
        (layer.gamma, layer.beta) =
            (Some(self.gamma.clone().into_dyn()), Some(self.beta.clone().into_dyn()));
        let (mean, variance) = (self.mean.clone().into_dyn(), self.variance.clone().into_dyn());
        layer.running = Some(Running { mean, variance });
        Ok(layer.infer(z.into_dyn().insert_axis(Axis(0)))?.index_axis_move(Axis(0), 0))
    }

    /// γ / √(variance + ε).
    fn factor(&self) -> Array1<f64> {
        &self.gamma / (&self.variance + EPSILON).mapv(f64::sqrt)
    }

    /// The bias of the folded layer, where each channel is multiplied by its `factor`.
    fn bias(&self, b: &Array1<f64>, factor: &Array1<f64>) -> Array1<f64> {
        (b - &self.mean) * factor + &self.beta
    }
}

/// w with each index of `axis` times its factor.
fn scaled<D: RemoveAxis>(w: &Array<f64, D>, axis: usize, factor: &Array1<f64>) -> Array<f64, D> {
    let mut w = w.clone();
    for (mut part, factor) in w.axis_iter_mut(Axis(axis)).zip(factor) {
        part *= *factor;
    }
    w
}

fn fixed<D: Dimension>(array: ArrayD<f64>) -> Array<f64, D> {
    array.into_dimensionality().expect("an array of this rank")
}

fn tensor<D: Dimension>(seed: u64, shape: &[usize]) -> Array<f64, D> {
    fixed(Numbers::new(seed).tensor(shape, 0.0))
}

/// E5: dividing by the variance instead of its root; one weight first, then a 3 × 3 convolution.
#[test]
fn folding_divides_by_the_root() -> Result<(), Error> {
    let (x, w, b) = (2.0, 3.0, 1.0);
    let (gamma, beta, mean, variance) = (2.0, 0.5, 3.0, 4.0);
    let [of_gamma, of_beta, of_mean, of_variance] =
        [gamma, beta, mean, variance].map(|v| array![v]);
    let norm = Trained { gamma: of_gamma, beta: of_beta, mean: of_mean, variance: of_variance };
    let cellnorm = norm.infer(array![w * x + b])?[[0]];
    let tutorial = gamma * w / variance * x + gamma * (b - mean) / variance + beta;
    Erratum { cellnorm, right: 4.49950, tutorial, wrong: 2.5, within: 1e-5 }.check();
    let factor = norm.factor();
    crate::close(factor[0] * w * x + norm.bias(&array![b], &factor)[0], cellnorm, 1e-14);

    let norm = Trained::three_channels();
    let (x, w, b) = (tensor(1, &[2, 6, 6]), tensor(2, &[3, 2, 3, 3]), tensor(3, &[3]));
    let expected = norm.infer(convolve(&x, &w, &b))?;
    let folded = |factor: Array1<f64>| {
        convolve(&x, &scaled(&w, 0, &factor), &norm.bias(&b, &factor)).into_dyn()
    };
    assert!(distance(&folded(norm.factor()), &expected) < 1e-13);
    assert!(distance(&folded(&norm.gamma / &norm.variance), &expected) > 1.0);
    Ok(())
}

/// E6: a fold over a checkpoint's names that runs: γ, β and the bias may be absent, and what
/// belongs to no batch normalization stays as it is.
#[test]
fn a_checkpoint_is_folded_by_its_names() -> Result<(), Error> {
    let norm = Trained::three_channels();
    let (w1, w2): (Array4<f64>, Array4<f64>) = (tensor(4, &[3, 2, 3, 3]), tensor(5, &[3, 3, 2, 2]));
    let b2: Array1<f64> = tensor(6, &[3]);
    // TensorFlow's kernels are [h, w, I, O]
    let hwio = |w: &Array4<f64>| w.view().permuted_axes([2, 3, 1, 0]).into_owned().into_dyn();
    let mut checkpoint = BTreeMap::from([
        ("net/conv1/weights:0".to_owned(), hwio(&w1)),
        ("net/conv2/kernel:0".to_owned(), hwio(&w2)),
        ("net/conv2/bias:0".to_owned(), b2.clone().into_dyn()),
        ("net/conv2/gamma:0".to_owned(), norm.gamma.clone().into_dyn()),
        ("net/conv2/beta:0".to_owned(), norm.beta.clone().into_dyn()),
        ("net/dense/kernel:0".to_owned(), tensor(7, &[3, 2])),
    ]);
    for conv in ["conv1", "conv2"] {
        checkpoint.insert(format!("net/{conv}/moving_mean:0"), norm.mean.clone().into_dyn());
        checkpoint
            .insert(format!("net/{conv}/moving_variance:0"), norm.variance.clone().into_dyn());
    }
    let folded = fold_checkpoint(&checkpoint);
    let names: Vec<&str> = folded.keys().map(String::as_str).collect();
    let expected = ["conv1/bias", "conv1/weights", "conv2/bias", "conv2/kernel", "dense/kernel"];
    assert_eq!(names, expected.map(|name| format!("net/{name}:0")));
    assert_eq!(folded["net/dense/kernel:0"], checkpoint["net/dense/kernel:0"]);

    let x: Array3<f64> = tensor(8, &[2, 7, 7]);
    let plain =
        Trained { gamma: Array1::ones(3), beta: Array1::zeros(3), ..Trained::three_channels() };
    let hidden: Array3<f64> = fixed(plain.infer(convolve(&x, &w1, &Array1::zeros(3)))?);
    let expected = norm.infer(convolve(&hidden, &w2, &b2))?;
    let oihw = |name: &str| -> Array4<f64> {
        fixed(folded[name].view().permuted_axes(vec![3, 2, 0, 1]).into_owned())
    };
    let bias = |name: &str| -> Array1<f64> { fixed(folded[name].clone()) };
    let hidden = convolve(&x, &oihw("net/conv1/weights:0"), &bias("net/conv1/bias:0"));
    let y = convolve(&hidden, &oihw("net/conv2/kernel:0"), &bias("net/conv2/bias:0"));
    assert!(distance(&y.into_dyn(), &expected) < 1e-12);
    Ok(())
}

/// The checkpoint of the network without batch normalization.
fn fold_checkpoint(checkpoint: &BTreeMap<String, ArrayD<f64>>) -> BTreeMap<String, ArrayD<f64>> {
    let mut folded = checkpoint.clone();
    for (layer, variance) in
        checkpoint.iter().filter_map(|(name, v)| Some((name.strip_suffix("moving_variance:0")?, v)))
    {
        let mut take = |name: &str| folded.remove(&format!("{layer}{name}:0"));
        take("moving_variance");
        let mean = take("moving_mean").expect("beside each moving variance is a moving mean");
        let gamma = take("gamma").unwrap_or_else(|| ArrayD::ones(mean.raw_dim()));
        let beta = take("beta").unwrap_or_else(|| ArrayD::zeros(mean.raw_dim()));
        let b = take("bias").unwrap_or_else(|| ArrayD::zeros(mean.raw_dim()));
        let factor = gamma / (variance + EPSILON).mapv(f64::sqrt);
        for name in ["weights", "kernel"] {
            if let Some(w) = folded.get_mut(&format!("{layer}{name}:0")) {
                *w *= &factor;
            }
        }
        folded.insert(format!("{layer}bias:0"), (b - mean) * factor + beta);
    }
    folded
}

/// E7: broadcasting γ along the last axis is right for \[h, w, I, O\] alone; on \[O, I, h, 3\] it
/// scales the kernel's columns.
#[test]
fn the_factor_goes_along_the_output_channels() -> Result<(), Error> {
    let norm = Trained::three_channels();
    let (factor, none) = (norm.factor(), Array1::zeros(3));
    let bias = norm.bias(&none, &factor);
    let (x, w): (Array3<f64>, Array4<f64>) = (tensor(1, &[2, 6, 6]), tensor(2, &[3, 2, 3, 3]));
    let expected = norm.infer(convolve(&x, &w, &none))?;
    let along =
        |axis| distance(&convolve(&x, &scaled(&w, axis, &factor), &bias).into_dyn(), &expected);
    assert!(along(0) < 1e-13);
    assert!(along(3) > 1.0, "{}", along(3));
    assert_eq!(scaled(&w, 3, &factor), &w * &factor);

    // a transposed convolution of width 2 and stride 2, whose w [I, O, width] has the outputs on
    // axis 1
    let (x, w): (Array2<f64>, Array3<f64>) = (tensor(3, &[3, 4]), tensor(4, &[3, 3, 2]));
    let spread = |w: &Array3<f64>, b: &Array1<f64>| {
        let at = |(o, at)| b[o] + (&x.column(at / 2) * &w.slice(s![.., o, at % 2])).sum();
        Array2::from_shape_fn((3, 8), at)
    };
    let expected = norm.infer(spread(&w, &none))?;
    let along = |axis| distance(&spread(&scaled(&w, axis, &factor), &bias).into_dyn(), &expected);
    assert!(along(1) < 1e-13);
    assert!(along(0) > 1.0, "{}", along(0));
    Ok(())
}
