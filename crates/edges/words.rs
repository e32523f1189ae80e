//! A word for a tensor or a refusal, for the tests of all adapters.

use super::DType;
use super::inputs::{Input, PLACE};

/// y or dx beside the right numbers, which it may miss by `slack`.
pub fn tensor(own: &[f64], right: &[f64], input: &Input, slack: f64) -> String {
    let odd = input.values.get(PLACE).is_some_and(|value| !value.is_finite());
    let set = |i| input.layer.set(input.shape, i);
    // where x is not finite, a set has no right numbers
    let of_set = |i: &usize| odd && set(*i) == set(PLACE);
    let not_finite: Vec<_> = (0..own.len()).filter(|i| !own[*i].is_finite()).collect();
    let outside = (0..own.len().min(right.len())).filter(|i| !of_set(i));
    let [own_outside, right_outside] =
        [own, right].map(|of| outside.clone().map(|i| of[i]).collect::<Vec<_>>());
    match not_finite.as_slice() {
        [] if own.is_empty() => "empty",
        [PLACE] => "NaN there",
        [_, ..] if not_finite.iter().all(of_set) => "NaN in its set",
        [_, ..] => "NaN",
        [] if own.len() == right.len() && near(&own_outside, &right_outside, slack) => "right",
        [] => "wrong",
    }
    .into()
}

/// The error of rounding, relative to the terms.
pub fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1e-2,
        DType::BF16 => 8e-2,
        DType::F32 => 1e-4,
        _ => 1e-10,
    }
}

pub fn near(own: &[f64], right: &[f64], slack: f64) -> bool {
    own.len() == right.len()
        && own.iter().zip(right).all(|(own, right)| (own - right).abs() <= slack)
}

/// The kind of a refusal; `other` is the word for all other messages.
pub fn refusal(message: &str, other: &str) -> String {
    let kinds = [
        ("a statistic over no values", "refused: no values"),
        ("has one value for each statistic", "refused: one value"),
        ("holds NaN, infinity or numbers too large to sum", "refused: not finite"),
        ("too large for f32", "refused: average"),
    ];
    let kind = kinds.iter().find(|(words, _)| message.contains(words));
    kind.map_or(other, |(_, kind)| kind).into()
}
