//! A word for what a form makes of an input.

use candle_core::DType;

use super::forms::{Attempt, Gradients, Output, Run};
use super::inputs::{Input, PLACE, smallest};
use super::twin::Expected;

/// The words of the forward pass, the backward pass and inference.
pub fn words(run: &Run, input: &Input, expected: &Expected) -> [String; 3] {
    let start = &input.running();
    let backward = run.backward.as_ref();
    let [mut forward, backward, inference] = [
        output(&run.forward, input, &expected.y, expected.rstd, &expected.running),
        backward.map_or("–".into(), |of| gradients(of, input, expected)),
        output(&run.inference, input, &expected.inference, expected.rstd, start),
    ];
    if run.moved {
        forward += ", averages moved";
    }
    [forward, backward, inference]
}

fn output(
    attempt: &Attempt<Output>,
    input: &Input,
    expected: &[f64],
    rstd: f64,
    running: &[Vec<f64>; 2],
) -> String {
    let (y, averages) = match attempt {
        Ok(output) => output,
        Err(message) => return error(message),
    };
    let mut word = tensor(y, expected, input, largest(expected), rstd);
    let averages = averages.iter().zip(running).filter(|(own, _)| !own.is_empty());
    for (own, expected) in averages {
        if own.iter().any(|value| !value.is_finite()) {
            return word + ", averages not finite";
        }
        let largest = largest(expected);
        if !near(own, expected, tolerance(input.dtype) * largest) {
            word = "wrong averages".into();
        }
    }
    word
}

fn gradients(attempt: &Attempt<Gradients>, input: &Input, expected: &Expected) -> String {
    let (dx, parameters) = match attempt {
        Ok(gradients) => gradients,
        Err(message) => return error(message),
    };
    let parameters: Vec<_> = parameters.iter().map(Option::as_ref).collect();
    let all = [&[dx.as_ref()], &*parameters].concat();
    let Some(all) = all.iter().copied().collect::<Option<Vec<_>>>() else {
        let none = all.iter().all(Option::is_none);
        return if none { "no gradient".into() } else { "no gradient of some".into() };
    };
    if all.iter().copied().flatten().any(|value| !value.is_finite()) {
        return "NaN".into();
    }
    let dy: f64 = input.dy().iter().map(|dy| dy.abs()).sum();
    let slack = tolerance(input.dtype) * expected.sums_size
        + step(input.dtype) * dy * (1.0 + expected.rstd);
    let mut parameters = all[1..].iter().zip(&expected.parameters);
    if !parameters.all(|(of, expected)| near(of, expected, slack)) {
        return "wrong".into();
    }
    tensor(all[0], &expected.dx, input, expected.dx_size, expected.rstd)
}

/// y or dx, whose numbers are made of terms of this size.
fn tensor(values: &[f64], expected: &[f64], input: &Input, size: f64, rstd: f64) -> String {
    let slack = tolerance(input.dtype) * size + step(input.dtype) * (1.0 + rstd);
    let odd = input.values.get(PLACE).is_some_and(|value| !value.is_finite());
    let set = |i| input.layer.set(input.shape, i);
    // where x is not finite, a set has no right numbers
    let of_set = |i: &usize| odd && set(*i) == set(PLACE);
    let not_finite: Vec<_> = (0..values.len()).filter(|i| !values[*i].is_finite()).collect();
    let outside = (0..values.len()).filter(|i| !of_set(i));
    let [own, right] =
        [values, expected].map(|of| outside.clone().map(|i| of[i]).collect::<Vec<_>>());
    match not_finite.as_slice() {
        [PLACE] => "NaN there".into(),
        [] if values.is_empty() => "empty".into(),
        some if !some.is_empty() && some.iter().all(of_set) => "NaN in its set".into(),
        some if !some.is_empty() => "NaN".into(),
        _ if near(&own, &right, slack) && values.len() == expected.len() => "right".into(),
        _ => "wrong".into(),
    }
}

/// The error of rounding, relative to the terms.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1e-2,
        DType::BF16 => 8e-2,
        DType::F32 => 1e-4,
        _ => 1e-10,
    }
}

/// The step of the smallest numbers. Candle's sums of bf16 take subnormal numbers for 0 on some
/// processors.
fn step(dtype: DType) -> f64 {
    if dtype == DType::BF16 { f32::MIN_POSITIVE.into() } else { 4.0 * smallest(dtype) }
}

fn largest(values: &[f64]) -> f64 {
    let finite = values.iter().filter(|value| value.is_finite());
    finite.fold(0.0, |largest, value| largest.max(value.abs()))
}

fn near(values: &[f64], expected: &[f64], slack: f64) -> bool {
    values.iter().zip(expected).all(|(value, right)| (value - right).abs() <= slack)
}

fn error(message: &str) -> String {
    let kinds = [
        ("a statistic over no values", "refused: no values"),
        ("has one value for each statistic", "refused: one value"),
        ("holds NaN, infinity or numbers too large to sum", "refused: not finite"),
        ("too large for f32", "refused: average"),
    ];
    let kind = kinds.iter().find(|(words, _)| message.contains(words));
    let other = if message == "panic" { "panic" } else { "error" };
    kind.map_or(other, |(_, kind)| kind).into()
}
