//! The right numbers: the formulas in f64, value by value, with each set divided by its largest
//! number, so that no square overflows.

use super::inputs::{EPSILON, Input, Kind};

/// y, dx as x lies in memory, dγ and dβ, y in inference, and the running averages after training.
pub struct Expected {
    pub y: Vec<f64>,
    pub dx: Vec<f64>,
    pub parameters: [Vec<f64>; 2],
    pub inference: Vec<f64>,
    pub running: [Vec<f64>; 2],
    /// The largest term of dx.
    pub dx_size: f64,
    /// The sum of the terms of dγ and dβ.
    pub sums_size: f64,
    /// The largest 1 / √(variance + ε), by which an error of x shows in y, and times Σ |dy| in
    /// dγ.
    pub rstd: f64,
}

pub fn expected(input: &Input) -> Expected {
    let (layer, shape, x, dy) = (input.layer, input.shape, input.broadcast(), input.dy());
    let [gamma, beta] = input.affine();
    let parameter = |i| layer.parameter(shape, i);
    let mut parameters = [vec![0.0; gamma.len()], vec![0.0; beta.len()]];
    let [mut y, mut dx] = [x.clone(), x.clone()];
    let mut running = input.running();
    let (mut dx_size, mut sums_size, mut largest_rstd) = (0.0_f64, 0.0, 0.0_f64);
    let sets = (0..x.len()).map(|i| layer.set(shape, i) + 1).max().unwrap_or(0);
    let mut members = vec![vec![]; sets];
    (0..x.len()).for_each(|i| members[layer.set(shape, i)].push(i));
    for (set, members) in members.into_iter().enumerate() {
        let n = members.len() as f64;
        let mean = |f: &dyn Fn(usize) -> f64| members.iter().map(|i| f(*i)).sum::<f64>() / n;
        let size = members.iter().map(|i| x[*i].abs()).fold(1.0, f64::max);
        let center = if layer == Kind::Rms { 0.0 } else { mean(&|i| x[i] / size) };
        let variance = mean(&|i| (x[i] / size - center).powi(2));
        let rstd = 1.0 / (size * variance.sqrt()).hypot(EPSILON.sqrt());
        // halved, since a difference may be too large for f64
        let normalized = |i: usize| (x[i] / size - center) / 2.0 * size * rstd * 2.0;
        let slope = |i: usize| dy[i] * gamma[parameter(i)];
        let along = mean(&|i| slope(i) * normalized(i));
        let level = if layer == Kind::Rms { 0.0 } else { mean(&slope) };
        for i in members.iter().copied() {
            y[i] = gamma[parameter(i)] * normalized(i);
            dx[i] = rstd * (slope(i) - level - normalized(i) * along);
            parameters[0][parameter(i)] += dy[i] * normalized(i);
            parameters[1][parameter(i)] += dy[i];
            // a NaN is of a set that is not compared
            dx_size = dx_size.max(rstd * slope(i).abs());
            sums_size += dy[i].abs().max((dy[i] * normalized(i)).abs());
            largest_rstd = largest_rstd.max(rstd);
        }
        if layer == Kind::Batch {
            running[0][set] = 0.9 * running[0][set] + 0.1 * size * center;
            let unbiased = variance * size * size * n / (n - 1.0);
            running[1][set] = 0.9 * running[1][set] + 0.1 * unbiased;
        }
    }
    let mut inference = y.clone();
    if layer == Kind::Batch {
        let [mean, variance] = input.running();
        for i in 0..x.len() {
            let c = parameter(i);
            inference[i] = gamma[c] * ((x[i] - mean[c]) / (variance[c] + EPSILON).sqrt());
        }
    }
    if layer != Kind::Rms {
        let offset = |y: &mut [f64]| (0..y.len()).for_each(|i| y[i] += beta[parameter(i)]);
        offset(&mut y);
        offset(&mut inference);
    }
    let dx = input.gather(dx);
    let rstd = largest_rstd;
    Expected { y, dx, parameters, inference, running, dx_size, sums_size, rstd }
}
