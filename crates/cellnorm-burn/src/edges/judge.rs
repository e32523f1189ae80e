//! A word for what a form makes of an input.

use burn::tensor::DType;

use super::inputs::{Input, range};
use super::run::{Attempt, Output, Run, Slopes};
use super::twin::Expected;
use super::words::{near, refusal, tensor, tolerance};

/// The words of the forward pass, the backward pass and inference.
pub fn words(run: &Run, input: &Input, expected: &Expected) -> [String; 3] {
    let Expected { y, inference, running, rstd, .. } = expected;
    let output = |attempt: &Attempt<Output>, y: &[f64], running| match attempt {
        Ok((own, averages)) => {
            let size =
                y.iter().filter(|y| y.is_finite()).fold(0.0, |size: f64, y| size.max(y.abs()));
            tensor(own, y, input, slack(input, size, *rstd)) + &moves(averages, running, input)
        }
        Err(words) => refusal(words, "panic"),
    };
    let mut forward = output(&run.forward, y, running);
    if run.moved {
        forward += ", averages moved";
    }
    let backward = run.backward.as_ref().map_or("–".into(), |of| slopes(of, input, expected));
    [forward, backward, output(&run.inference, inference, &input.running())]
}

/// The words for the running averages, none where they are right; where a set is not finite, they
/// may stay.
fn moves(own: &[Vec<f64>], expected: &[Vec<f64>; 2], input: &Input) -> String {
    let same = |expected: &[Vec<f64>; 2]| {
        own.iter().zip(expected).all(|(own, right)| {
            let size = right.iter().fold(0.0, |size: f64, right| size.max(right.abs()));
            near(own, right, tolerance(input.dtype) * size)
        })
    };
    match own {
        [] => "",
        own if own.iter().flatten().any(|own| !own.is_finite()) => ", averages not finite",
        _ if same(expected) => "",
        _ if same(&input.running()) => ", averages stay",
        _ => ", wrong averages",
    }
    .into()
}

fn slopes(attempt: &Attempt<Slopes>, input: &Input, expected: &Expected) -> String {
    let all = match attempt {
        Ok(slopes) => slopes,
        Err(words) => return refusal(words, "panic"),
    };
    let Some(all) = all.iter().map(Option::as_deref).collect::<Option<Vec<_>>>() else {
        return "no gradient of some".into();
    };
    if all.iter().copied().flatten().any(|value| !value.is_finite()) {
        return "NaN".into();
    }
    let dy: f64 = input.dy().iter().map(|dy| dy.abs()).sum();
    let most = tolerance(input.dtype) * expected.sums_size
        + least(input.dtype) * dy * (1.0 + expected.rstd);
    let mut parameters = all[1..].iter().zip(&expected.parameters);
    if !parameters.all(|(of, expected)| near(of, expected, most)) {
        return "wrong".into();
    }
    tensor(all[0], &expected.dx, input, slack(input, expected.dx_size, expected.rstd))
}

/// The error that numbers of terms of this size may have, given 1 / √(variance + ε).
fn slack(input: &Input, size: f64, rstd: f64) -> f64 {
    tolerance(input.dtype) * size + least(input.dtype) * (1.0 + rstd)
}

/// A few of the smallest numbers.
fn least(dtype: DType) -> f64 {
    4.0 * range(dtype)[1]
}
