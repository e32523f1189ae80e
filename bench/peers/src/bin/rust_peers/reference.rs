//! Every normalization in f64, by its formula, element by element: see `measure/reference.py`.

use cellnorm_peers::case::Norm;

use crate::inputs::{EPSILON, Inputs, Step, Task};

/// y, and dx in training.
pub fn results(task: &Task, inputs: &Inputs) -> Vec<Vec<f64>> {
    let place = places(task);
    let (x, dy) = (inputs.x.slice(), inputs.dy.slice());
    let beta = |channel: usize| inputs.beta.as_ref().map_or(0.0, |beta| beta[channel]);
    if task.step == Step::Inference {
        let y = |(i, x): (usize, &f32)| {
            let channel = place(i).1;
            let r = 1.0 / (inputs.variance[channel] + EPSILON).sqrt();
            (f64::from(*x) - inputs.mean[channel]) * r * inputs.gamma[channel] + beta(channel)
        };
        return vec![x.iter().enumerate().map(y).collect()];
    }
    let sets = (0..x.len()).map(|i| place(i).0).max().map_or(0, |last| last + 1);
    let values = (x.len() / sets) as f64;
    let mean_of = |value: &dyn Fn(usize) -> f64| -> Vec<f64> {
        let mut means = vec![0.0; sets];
        (0..x.len()).for_each(|i| means[place(i).0] += value(i) / values);
        means
    };
    let about_zero = task.norm == Norm::Rms;
    let mean = if about_zero { vec![0.0; sets] } else { mean_of(&|i| f64::from(x[i])) };
    let variance = mean_of(&|i| (f64::from(x[i]) - mean[place(i).0]).powi(2));
    let r: Vec<f64> = variance.iter().map(|v| 1.0 / (v + EPSILON).sqrt()).collect();
    let xhat = |i: usize| (f64::from(x[i]) - mean[place(i).0]) * r[place(i).0];
    let y = (0..x.len()).map(|i| xhat(i) * inputs.gamma[place(i).1] + beta(place(i).1)).collect();
    if task.step == Step::Forward {
        return vec![y];
    }
    let g = |i: usize| f64::from(dy[i]) * inputs.gamma[place(i).1];
    let mean_g = if about_zero { vec![0.0; sets] } else { mean_of(&g) };
    let mean_g_xhat = mean_of(&|i| g(i) * xhat(i));
    let dx = |i: usize| {
        let set = place(i).0;
        r[set] * (g(i) - mean_g[set] - xhat(i) * mean_g_xhat[set])
    };
    vec![y, (0..x.len()).map(dx).collect()]
}

/// The set and the channel of an element, by its index.
fn places(task: &Task) -> impl Fn(usize) -> (usize, usize) {
    let channels = task.channels();
    let positions = if task.is_rows() { 1 } else { task.shape[2..].iter().product() };
    let norm = task.norm;
    move |i| {
        let (channel, sample) = (i / positions % channels, i / (positions * channels));
        let set = match norm {
            Norm::Batch => channel,
            Norm::Instance => i / positions,
            Norm::Group { groups } => sample * groups + channel / (channels / groups),
            Norm::Layer | Norm::Rms => sample,
        };
        (set, channel)
    }
}

/// The largest error, relative to the largest value.
pub fn error(values: &[f32], expected: &[f64]) -> f64 {
    let scale = expected.iter().fold(0.0, |max: f64, v| max.max(v.abs()));
    // a comparison with NaN is false: it must not pass for a small error
    let worst = values.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs());
    worst.fold(0.0, |max: f64, e| if e.is_nan() { f64::INFINITY } else { max.max(e) }) / scale
}
