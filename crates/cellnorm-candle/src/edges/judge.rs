//! A word for what a form makes of an input.

use candle_core::DType;

use super::forms::{Attempt, Gradients, Output, Run};
use super::inputs::{Input, range};
use super::twin::Expected;
use super::words::{near, refusal, tensor, tolerance};

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
        Err(message) => return refusal(message, other(message)),
    };
    let mut word = tensor(y, expected, input, slack(input, largest(expected), rstd));
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
        Err(message) => return refusal(message, other(message)),
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
    let most = tolerance(input.dtype) * expected.sums_size
        + step(input.dtype) * dy * (1.0 + expected.rstd);
    let mut parameters = all[1..].iter().zip(&expected.parameters);
    if !parameters.all(|(of, expected)| near(of, expected, most)) {
        return "wrong".into();
    }
    tensor(all[0], &expected.dx, input, slack(input, expected.dx_size, expected.rstd))
}

/// The word for a message that is no refusal of a known kind.
fn other(message: &str) -> &'static str {
    if message == "panic" { "panic" } else { "error" }
}

/// The error that numbers of terms of this size may have, given 1 / √(variance + ε).
fn slack(input: &Input, size: f64, rstd: f64) -> f64 {
    tolerance(input.dtype) * size + step(input.dtype) * (1.0 + rstd)
}

/// The step of the smallest numbers. Candle's sums of bf16 take subnormal numbers for 0 on some
/// processors.
fn step(dtype: DType) -> f64 {
    if dtype == DType::BF16 { f32::MIN_POSITIVE.into() } else { 4.0 * range(dtype)[1] }
}

fn largest(values: &[f64]) -> f64 {
    let finite = values.iter().filter(|value| value.is_finite());
    finite.fold(0.0, |largest, value| largest.max(value.abs()))
}
