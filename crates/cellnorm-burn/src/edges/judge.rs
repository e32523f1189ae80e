//! A word for what a form makes of an input.

use burn::tensor::DType;

use super::inputs::{Input, PLACE, range};
use super::run::{Attempt, Output, Run, Slopes};
use super::twin::Expected;

/// The words of the forward pass, the backward pass and inference.
pub fn words(run: &Run, input: &Input, expected: &Expected) -> [String; 3] {
    let Expected { y, inference, running, rstd, .. } = expected;
    let output = |attempt: &Attempt<Output>, y: &[f64], running| match attempt {
        Ok((own, averages)) => {
            let size =
                y.iter().filter(|y| y.is_finite()).fold(0.0, |size: f64, y| size.max(y.abs()));
            tensor(own, y, input, (size, *rstd)) + &moves(averages, running, input)
        }
        Err(words) => refusal(words),
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
        Err(words) => return refusal(words),
    };
    let Some(all) = all.iter().map(Option::as_deref).collect::<Option<Vec<_>>>() else {
        return "no gradient of some".into();
    };
    if all.iter().copied().flatten().any(|value| !value.is_finite()) {
        return "NaN".into();
    }
    let dy: f64 = input.dy().iter().map(|dy| dy.abs()).sum();
    let slack = tolerance(input.dtype) * expected.sums_size
        + least(input.dtype) * dy * (1.0 + expected.rstd);
    let mut parameters = all[1..].iter().zip(&expected.parameters);
    if !parameters.all(|(of, expected)| near(of, expected, slack)) {
        return "wrong".into();
    }
    tensor(all[0], &expected.dx, input, (expected.dx_size, expected.rstd))
}

/// y or dx, whose numbers are made of terms of this size, and 1 / √(variance + ε).
fn tensor(own: &[f64], right: &[f64], input: &Input, (size, rstd): (f64, f64)) -> String {
    let slack = tolerance(input.dtype) * size + least(input.dtype) * (1.0 + rstd);
    let odd = input.values.get(PLACE).is_some_and(|value| !value.is_finite());
    let set = |i| input.layer.set(input.shape, i);
    // where x is not finite, a set has no right numbers
    let of_set = |i: &usize| odd && set(*i) == set(PLACE);
    let not_finite: Vec<_> = (0..own.len()).filter(|i| !own[*i].is_finite()).collect();
    let outside = (0..own.len()).filter(|i| !of_set(i));
    let [own_outside, right_outside] =
        [own, right].map(|of| outside.clone().map(|i| of[i]).collect::<Vec<_>>());
    match not_finite.as_slice() {
        [] if own.is_empty() => "empty",
        [PLACE] => "NaN there",
        [_, ..] if not_finite.iter().all(of_set) => "NaN in its set",
        [_, ..] => "NaN",
        [] if near(&own_outside, &right_outside, slack) => "right",
        [] => "wrong",
    }
    .into()
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

/// A few of the smallest numbers.
fn least(dtype: DType) -> f64 {
    4.0 * range(dtype)[1]
}

fn near(own: &[f64], right: &[f64], slack: f64) -> bool {
    own.iter().zip(right).all(|(own, right)| (own - right).abs() <= slack)
}

fn refusal(words: &str) -> String {
    let kinds = [
        ("a statistic over no values", "refused: no values"),
        ("has one value for each statistic", "refused: one value"),
    ];
    let kind = kinds.iter().find(|(part, _)| words.contains(part));
    kind.map_or("panic", |(_, kind)| kind).into()
}
