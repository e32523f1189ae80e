//! A naive twin of the layers: index loops in f64, two-pass statistics, and the gradient as
//! textbooks write it.
//!
//! With x̂ = (x − mean) r, r = 1/√(variance + ε), g = γ dy and means over the set: dx = r (g −
//! mean(g) − x̂ mean(g x̂)), without mean(g) about zero, and r g where the statistics are fixed.

use super::{Parameters, Spec, Which};

/// The results of the twin, flat in logical order, and the sizes that errors are measured against.
pub struct Twin {
    pub y: Vec<f64>,
    pub dx: Vec<f64>,
    pub dgamma: Vec<f64>,
    pub dbeta: Vec<f64>,
    pub mean: Vec<f64>,
    pub variance: Vec<f64>,
    /// max |r g|: the size of what dx is a difference of.
    pub dx_terms: f64,
    /// √Σ (dy x̂)² of each γ: the size its sum would have if the signs were random.
    pub dgamma_terms: Vec<f64>,
    /// √Σ dy² of each β.
    pub dbeta_terms: Vec<f64>,
}

impl Twin {
    pub fn new(spec: &Spec, parameters: &Parameters, x: &[f64], dy: &[f64]) -> Self {
        let places: Vec<(usize, usize)> = (0..x.len()).map(|at| place(spec, at)).collect();
        let (sets, channels) = (1 + places.iter().map(|p| p.0).max().unwrap(), spec.parameters());
        let gamma = |channel: usize| if spec.scale { parameters.gamma[channel] } else { 1.0 };
        let beta = |channel: usize| if spec.center { parameters.beta[channel] } else { 0.0 };

        let mean_of = |value: &dyn Fn(usize) -> f64| {
            let (mut sum, mut count) = (vec![0.0; sets], vec![0.0; sets]);
            for (at, (set, _)) in places.iter().enumerate() {
                sum[*set] += value(at);
                count[*set] += 1.0;
            }
            sum.iter().zip(count).map(|(sum, count)| sum / count).collect::<Vec<f64>>()
        };
        // about the first value of each set, so that the mean of equal values is that value
        let mut first: Vec<Option<f64>> = vec![None; sets];
        for ((set, _), x) in places.iter().zip(x) {
            first[*set].get_or_insert(*x);
        }
        let about: Vec<f64> = first.into_iter().flatten().collect();
        let from_first = mean_of(&|at| x[at] - about[places[at].0]);
        let mut mean: Vec<f64> =
            about.iter().zip(from_first).map(|(about, mean)| about + mean).collect();
        if spec.rms() {
            mean.fill(0.0);
        }
        let mut variance = mean_of(&|at| (x[at] - mean[places[at].0]).powi(2));
        if spec.fixed() {
            (mean, variance) = (parameters.running_mean.clone(), parameters.running_var.clone());
        }
        let r: Vec<f64> =
            variance.iter().map(|variance| 1.0 / (variance + spec.epsilon).sqrt()).collect();
        let xhat: Vec<f64> =
            places.iter().zip(x).map(|((set, _), x)| (x - mean[*set]) * r[*set]).collect();
        let g: Vec<f64> =
            places.iter().zip(dy).map(|((_, channel), dy)| dy * gamma(*channel)).collect();

        let mean_g = mean_of(&|at| g[at]);
        let mean_gx = mean_of(&|at| g[at] * xhat[at]);
        let (mut y, mut dx, mut dx_terms) = (vec![], vec![], 0.0_f64);
        let (mut dgamma, mut dbeta) = (vec![0.0; channels], vec![0.0; channels]);
        let (mut dgamma_terms, mut dbeta_terms) = (vec![0.0; channels], vec![0.0; channels]);
        for (at, (set, channel)) in places.iter().copied().enumerate() {
            y.push(xhat[at] * gamma(channel) + beta(channel));
            let through_mean = if spec.rms() || spec.fixed() { 0.0 } else { mean_g[set] };
            let through_variance = if spec.fixed() { 0.0 } else { xhat[at] * mean_gx[set] };
            dx.push(r[set] * (g[at] - through_mean - through_variance));
            dx_terms = dx_terms.max((r[set] * g[at]).abs());
            dgamma[channel] += dy[at] * xhat[at];
            dbeta[channel] += dy[at];
            dgamma_terms[channel] += (dy[at] * xhat[at]).powi(2);
            dbeta_terms[channel] += dy[at].powi(2);
        }
        let root = |squares: Vec<f64>| squares.into_iter().map(f64::sqrt).collect();
        let (dgamma_terms, dbeta_terms) = (root(dgamma_terms), root(dbeta_terms));
        Self { y, dx, dgamma, dbeta, mean, variance, dx_terms, dgamma_terms, dbeta_terms }
    }
}

/// The set and the parameter of the element at `at` in logical order.
pub fn place(spec: &Spec, at: usize) -> (usize, usize) {
    let (mut rest, mut index) = (at, vec![0; spec.shape.len()]);
    for axis in (0..index.len()).rev() {
        index[axis] = rest % spec.shape[axis];
        rest /= spec.shape[axis];
    }
    if let Some(axes) = spec.element_axes() {
        let number = |inside: bool| {
            let chosen = (0..index.len()).filter(|axis| axes.contains(axis) == inside);
            chosen.fold(0, |number, axis| number * spec.shape[axis] + index[axis])
        };
        return (number(false), number(true));
    }
    let (sample, channel) = (index[0], index[spec.channel_axis()]);
    let set = match spec.which {
        Which::Batch { .. } => channel,
        Which::Instance => sample * spec.channels() + channel,
        Which::Group(groups) => sample * groups + channel / (spec.channels() / groups),
        _ => sample,
    };
    (set, channel)
}
